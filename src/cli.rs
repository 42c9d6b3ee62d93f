//! The command line: one file for each command.

mod check;
mod dump;
mod models;
mod process;
mod restore;
mod search;
mod serve;

use std::path::PathBuf;

use indicatif::MultiProgress;
use mediamill_actors::{
    config::Config,
    store::{Options, Store},
};

use tokio::sync::watch;

use mediamill::config::{self, Overrides};

/// Works through folders and batches of photos, with all state in one folder.
#[derive(clap::Parser)]
#[command(name = "mediamill", version)]
pub(crate) struct Arguments {
    #[command(flatten)]
    overrides: Overrides,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Works through files and folders in place: thumbnail, description, audit, embedding.
    Process(process::Process),
    /// Finds what was described by words.
    Search(search::Search),
    /// Says what configuration, disk, store, provider and decoders are like, and how to fix what is not right. Resumes nothing.
    Check,
    /// Looks after the models of the provider's server.
    #[command(subcommand)]
    Models(models::Models),
    /// Serves the page and the API, and works through what is handed in.
    Serve(serve::Serve),
    /// Prints the store as text: one JSON object a line. Changes nothing.
    Dump,
    /// Fills an empty store with a dump.
    Restore {
        /// The dump.
        file: PathBuf,
    },
}

impl Arguments {
    /// What is logged unless RUST_LOG says otherwise. What `process` tells of each file needs no second telling.
    pub(crate) fn log_level(&self) -> &'static str {
        match self.command {
            Command::Process(_) => "error",
            Command::Serve(_) => "info",
            _ => "warn",
        }
    }

    /// Does what was asked for and answers with the exit code; what went wrong before any work is told in a sentence.
    pub(crate) async fn run(mut self, bars: &MultiProgress) -> Result<u8, String> {
        if let Command::Serve(serve) = &mut self.command {
            self.overrides.listen = serve.listen.take();
        }
        let whole = config::load(&self.overrides)?;
        let config = whole.engine.clone();
        match self.command {
            Command::Serve(serve) => serve.run(whole).await,
            Command::Process(process) => process.run(config, bars).await,
            Command::Search(search) => search.run(&config).await.map(|()| 0),
            Command::Check => Ok(check::run(&config).await),
            Command::Models(models) => models.run(&config, bars).await,
            Command::Dump => dump::run(&config).await.map(|()| 0),
            Command::Restore { file } => restore::run(&config, &file).await.map(|()| 0),
        }
    }
}

/// Refuses a data folder without a store, which opening would make.
fn must_exist(config: &Config) -> Result<(), String> {
    let data_dir = &config.store.data_dir;
    if data_dir.join("store").exists() {
        return Ok(());
    }
    Err(format!(
        "there is no store in {}; process some pictures first, or name the folder that holds one with --data-dir",
        data_dir.display()
    ))
}

/// Opens the store without taking anything up.
fn open(config: &Config) -> Result<Store, String> {
    Store::open(
        &config.store.data_dir,
        Options { cache_mb: config.store.cache_mb, keep_events: config.events.keep, ..Options::default() },
    )
    .map_err(|error| error.to_string())
}

/// Whether Ctrl-C was pressed, or the process was asked to terminate. The second time ends the process at once. A terminal that is closed
/// is not listened to, since that would take its effect from `nohup`.
#[derive(Clone)]
struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens in a thread of its own, so that the second time works whatever else stands still.
    fn listen() -> Self {
        let (interrupt, interrupted) = watch::channel(false);
        let listen = move || {
            let runtime = match actix_rt::Runtime::new() {
                Ok(runtime) => runtime,
                Err(error) => return log::warn!("cannot listen to Ctrl-C: {error}"),
            };
            runtime.block_on(async {
                mediamill::told_to_stop().await;
                interrupt.send_replace(true);
                mediamill::told_to_stop().await;
                std::process::exit(130);
            });
        };
        if let Err(error) = std::thread::Builder::new().name("mediamill-signals".into()).spawn(listen) {
            log::warn!("cannot listen to Ctrl-C: {error}");
        }
        Self(interrupted)
    }

    async fn wait(&mut self) {
        if self.0.wait_for(|interrupted| *interrupted).await.is_err() {
            std::future::pending().await
        }
    }
}
