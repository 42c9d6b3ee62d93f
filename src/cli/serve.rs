//! `mediamill serve`: the server.

use std::{net::TcpListener, time::Duration};

use mediamill::{Config, engine::media, engine::pipeline::Stopped};

use super::Interrupt;

/// Files that may be open at once: connections, and pictures that are sent.
const OPEN_FILES: u64 = 1 << 16;

/// What `serve` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Where to listen; beyond loopback only with authentication
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
}

impl Serve {
    /// Answers with the exit code.
    pub(crate) async fn run(self, config: Config) -> Result<u8, String> {
        let mut interrupt = Interrupt::listen();
        if let Err(error) = rlimit::increase_nofile_limit(OPEN_FILES) {
            log::warn!("cannot raise the number of files that may be open: {error}");
        }
        let listen = config.server.listen;
        let listener = TcpListener::bind(listen).map_err(|error| {
            format!(
                "cannot listen at {listen}: {error}; choose another address with --listen or server.listen"
            )
        })?;
        let (limit, auth) = (config.server.drain_timeout, config.auth.is_configured());
        let data_dir = config.engine.store.data_dir.clone();
        let server = mediamill::run(config, listener).await?;
        eprintln!("mediamill: listens at http://{}/, state in {}", server.address(), data_dir.display());
        if !auth {
            eprintln!("mediamill: whoever uses this machine may use it; set auth.keys to ask who they are");
        }
        if let Some(notice) = &server.pipeline().provider_profile().notice {
            eprintln!("mediamill: {notice}");
        }
        for capability in media::capabilities() {
            if let Some(missing) = capability.missing {
                eprintln!("mediamill: {} is refused: {missing}", capability.format.name());
            }
        }
        let mut provider = server.pipeline().provider();
        let tell = async {
            loop {
                let waiting = provider.borrow_and_update().waiting();
                if let Some(waiting) = waiting {
                    log::warn!("{waiting}");
                }
                if provider.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let stopped = server.stopped();
        tokio::select! {
            why = stopped => {
                server.stop(Duration::ZERO).await;
                return Err(why.to_string());
            }
            () = tell => {}
            () = interrupt.wait() => {}
        }
        log::info!("stops; running attempts have {} s", limit.as_secs());
        match server.stop(limit).await {
            Stopped::Drained => Ok(0),
            why => Err(why.to_string()),
        }
    }
}
