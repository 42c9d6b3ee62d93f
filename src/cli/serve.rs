//! `mediamill serve`: the server.

use std::{net::TcpListener, time::Duration};

use mediamill::{Config, engine::media, engine::pipeline::Stopped};

use super::{Interrupt, Shared, link::Role, terminal::from_home};

/// The arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// Address and port to listen at; beyond loopback only with authentication
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
}

impl Serve {
    /// Runs the server until a signal, and returns the exit code.
    pub(crate) async fn run(self, config: Config, shared: &Shared) -> Result<u8, String> {
        let mut interrupt = Interrupt::listen();
        let listen = config.server.listen;
        let listener = TcpListener::bind(listen).map_err(|error| {
            format!(
                "cannot listen at {listen}: {error}; choose another address with --listen or server.listen"
            )
        })?;
        let (limit, auth) = (config.server.drain_timeout, config.auth.is_configured());
        let data_dir = config.engine.store.data_dir.clone();
        let mut local = config.clone();
        let server = mediamill::run(config, listener).await?;
        // The port may be one that the system chose.
        local.server.listen = server.address();
        let link = shared.link(server.pipeline(), &local, Role::Serve);
        eprintln!("mediamill: listens at http://{}/, state in {}", server.address(), from_home(&data_dir));
        if !auth {
            eprintln!(
                "mediamill: every user of this machine has access; set auth.keys to require authentication"
            );
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
        let log_waiting = async {
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
                if let Some(link) = link {
                    link.close().await;
                }
                server.stop(Duration::ZERO).await;
                return Err(why.to_string());
            }
            () = log_waiting => {}
            () = interrupt.wait() => {}
        }
        log::info!("stopping; running attempts have {} s", limit.as_secs());
        // Commands of this machine see the end of the engine; then the socket goes, which holds it too.
        let ended = server.stopped();
        let unlink = async {
            ended.await;
            if let Some(link) = link {
                link.close().await;
            }
        };
        match futures_util::future::join(server.stop(limit), unlink).await.0 {
            Stopped::Drained => Ok(0),
            why => Err(why.to_string()),
        }
    }
}
