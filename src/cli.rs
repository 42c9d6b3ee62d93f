//! The command line, one file per command.

mod check;
mod dump;
mod limits;
#[cfg(feature = "mcp")]
mod mcp;
mod models;
mod process;
mod restore;
mod search;
mod serve;
mod terminal;
mod thumbnails;

use std::path::PathBuf;

use indicatif::MultiProgress;
use mediamill_actors::{
    config::Config,
    store::{Options, Store},
};

use tokio::sync::watch;

use mediamill::config::{self, Overrides};

/// Processes folders and batches of pictures and videos; keeps all state in one folder.
#[derive(clap::Parser)]
#[command(name = "mediamill", version)]
pub(crate) struct Arguments {
    /// Read this configuration instead of the one in the user's configuration folder
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The folder that holds all state
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// The provider: builtin, ollama or openai
    #[arg(long, value_name = "KIND", global = true)]
    provider: Option<String>,
    /// The model that describes pictures
    #[arg(long, value_name = "NAME", global = true)]
    model: Option<String>,
    /// Show more: descriptions while files are processed, and the log
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
    /// Show only failures
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

/// How much a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verbosity {
    Quiet,
    Normal,
    Verbose,
}

/// What all commands share besides the configuration.
#[derive(Debug, Clone)]
struct Shared {
    verbosity: Verbosity,
    /// The options with which another command finds the same data folder, with a space before each.
    options: String,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Processes files and folders in place: thumbnail, description, audit, embedding
    Process(process::Process),
    /// Searches the descriptions by meaning
    Search(search::Search),
    /// Checks configuration, disk, store, provider and decoders, and says how to fix each fault; resumes no
    /// work
    Check {
        /// Close the data folder, and all that is in it, to other users of this machine
        #[arg(long)]
        fix: bool,
    },
    /// Manages the models of the provider's server
    #[command(subcommand)]
    Models(models::Models),
    /// Serves the page and the API, and processes the uploads
    Serve(serve::Serve),
    /// Prints the store as text, one JSON object per line; changes nothing
    Dump(dump::Dump),
    /// Offers the pictures to a language model as tools that only read (Model Context Protocol on standard
    /// input and output)
    #[cfg(feature = "mcp")]
    Mcp,
    /// Restores a dump into an empty store
    Restore {
        /// The dump
        file: PathBuf,
    },
}

impl Arguments {
    /// The log level, unless RUST_LOG sets one. `process` reports each failure itself.
    pub(crate) fn log_level(&self) -> &'static str {
        match (&self.command, self.verbosity()) {
            (_, Verbosity::Quiet) => "error",
            (_, Verbosity::Verbose) => "info",
            (Command::Process(_), Verbosity::Normal) => "error",
            (Command::Serve(_), Verbosity::Normal) => "info",
            (
                Command::Search(_)
                | Command::Check { .. }
                | Command::Models(_)
                | Command::Dump(_)
                | Command::Restore { .. },
                Verbosity::Normal,
            ) => "warn",
            // Most clients show what arrives on standard error as a fault.
            #[cfg(feature = "mcp")]
            (Command::Mcp, Verbosity::Normal) => "error",
        }
    }

    fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        }
    }

    fn shared(&self) -> Shared {
        let named = [("--config", &self.config), ("--data-dir", &self.data_dir)];
        let options = named.into_iter().filter_map(|(option, path)| Some((option, path.as_deref()?)));
        let options =
            options.map(|(option, path)| format!(" {option} {}", terminal::quoted(&terminal::shown(path))));
        Shared { verbosity: self.verbosity(), options: options.collect() }
    }

    /// Runs the command and returns its exit code.
    ///
    /// # Errors
    /// A sentence, if the command could not start.
    pub(crate) async fn run(self, bars: &MultiProgress) -> Result<u8, String> {
        limits::check()?;
        let shared = self.shared();
        let Self { config, data_dir, provider, model, command, verbose: _, quiet: _ } = self;
        let listen = match &command {
            Command::Serve(serve) => serve.listen.clone(),
            Command::Process(_)
            | Command::Search(_)
            | Command::Check { .. }
            | Command::Models(_)
            | Command::Dump(_)
            | Command::Restore { .. } => None,
            #[cfg(feature = "mcp")]
            Command::Mcp => None,
        };
        let whole = config::load(&Overrides { config, data_dir, provider, model, listen })?;
        let config = whole.engine.clone();
        match command {
            Command::Serve(serve) => serve.run(whole).await,
            Command::Process(process) => process.run(config, &shared, bars).await,
            Command::Search(search) => search.run(&config).await.map(|()| 0),
            Command::Check { fix } => Ok(check::run(&config, fix).await),
            Command::Models(models) => models.run(&config, bars).await,
            Command::Dump(dump) => dump.run(&config).await,
            #[cfg(feature = "mcp")]
            Command::Mcp => mcp::run(&config).await.map(|()| 0),
            Command::Restore { file } => restore::run(&config, &file).await.map(|()| 0),
        }
    }
}

/// Refuses a data folder without a store, since [`open`] would create one.
fn must_exist(config: &Config) -> Result<(), String> {
    let data_dir = &config.store.data_dir;
    if data_dir.join("store").exists() {
        return Ok(());
    }
    must_not_be_lost(config)?;
    Err(format!(
        "there is no store in {}; process some pictures first, or name the folder that holds one with \
         --data-dir",
        data_dir.display()
    ))
}

/// Refuses a data folder whose store is gone although it held changes.
fn must_not_be_lost(config: &Config) -> Result<(), String> {
    let data_dir = &config.store.data_dir;
    let mark = std::fs::read_to_string(data_dir.join("HIGHWATER")).unwrap_or_default();
    match mark.trim().parse::<u64>() {
        Ok(changes) if changes > 0 && !data_dir.join("store").exists() => Err(format!(
            "the folder {0}/store is gone, which held {changes} changes; put it back, or delete {0}/HIGHWATER and \
             restore a dump with `mediamill restore`",
            data_dir.display()
        )),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Opens the store without resuming any work.
fn open(config: &Config) -> Result<Store, String> {
    Store::open(
        &config.store.data_dir,
        Options { cache_mb: config.store.cache_mb, keep_events: config.events.keep, ..Options::default() },
    )
    .map_err(|error| error.to_string())
}

/// Becomes true at the first Ctrl-C or SIGTERM; the second ends the process at once. SIGHUP is left alone, so
/// that `nohup` works.
#[derive(Clone)]
struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens in a thread of its own, so that the second signal works even if the main thread is blocked.
    fn listen() -> Self {
        let (interrupt, interrupted) = watch::channel(false);
        let listen = move || {
            let runtime = match actix_rt::Runtime::new() {
                Ok(runtime) => runtime,
                Err(error) => return log::warn!("cannot listen for Ctrl-C: {error}"),
            };
            runtime.block_on(async {
                mediamill::told_to_stop().await;
                interrupt.send_replace(true);
                mediamill::told_to_stop().await;
                std::process::exit(130);
            });
        };
        if let Err(error) = std::thread::Builder::new().name("mediamill-signals".into()).spawn(listen) {
            log::warn!("cannot listen for Ctrl-C: {error}");
        }
        Self(interrupted)
    }

    async fn wait(&mut self) {
        if self.0.wait_for(|interrupted| *interrupted).await.is_err() {
            std::future::pending().await
        }
    }
}
