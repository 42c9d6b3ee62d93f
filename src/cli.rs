//! The command line, one file per command.

mod batches;
mod check;
mod client;
mod dump;
mod engine;
mod limits;
mod link;
mod list;
mod manual;
#[cfg(feature = "mcp")]
mod mcp;
mod models;
mod place;
mod process;
mod raw_path;
mod restore;
mod search;
mod serve;
mod status;
mod terminal;
mod thumbnails;

use std::path::PathBuf;

use indicatif::MultiProgress;
use mediamill_actors::{
    config::Config,
    id::Owner,
    store::{Options, Store},
};

use tokio::sync::watch;

use mediamill::config::{self, Overrides};

use self::{batches::Change, place::Shared};

/// Describes photos and videos so that they can be searched; keeps all state in one folder.
#[derive(clap::Parser)]
#[command(
    name = "mediamill",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  mediamill process ~/Photos             describe everything below a folder
  mediamill search \"a dog in the snow\"   find pictures by their descriptions
  mediamill serve                        the page, on http://127.0.0.1:8484/
  mediamill status                       what runs and what waits
  mediamill list --failed                the failures, with their reasons

While one mediamill holds the data folder, the others work through it: nothing has to be stopped.",
    after_long_help = "\
Examples:
  mediamill process ~/Photos             describe everything below a folder
  mediamill search \"a dog in the snow\"   find pictures by their descriptions
  mediamill serve                        the page, on http://127.0.0.1:8484/
  mediamill status                       what runs and what waits
  mediamill list --failed                the failures, with their reasons

While one mediamill holds the data folder, the others work through it: nothing
has to be stopped. They find it by a socket in the data folder, or below
$XDG_RUNTIME_DIR if the path of that would be too long.

Configuration: mediamill/config.toml in the user's configuration folder
(~/.config), then variables MEDIAMILL__SECTION__KEY, then options.
`mediamill check` names the file that was read.

Environment:
  MEDIAMILL_TOKEN   key or token for --server
  NO_COLOR          no colours
  RUST_LOG          what is logged, such as mediamill_actors=debug

Exit codes:
  0     nothing failed
  1     a file failed, was refused or was left, or a check found a fault
  2     wrong usage, configuration or provider
  130   interrupted"
)]
pub(crate) struct Arguments {
    /// Read this configuration instead of mediamill/config.toml in the user's configuration folder
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The folder that holds all state [default: ~/.local/share/mediamill]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// What describes pictures: basic tags without a server, or a model server [default: builtin]
    #[arg(long, value_name = "KIND", global = true, value_parser = ["builtin", "ollama", "openai"])]
    provider: Option<String>,
    /// The model that describes pictures, of a model server [default of ollama: qwen2.5vl:7b]
    #[arg(long, value_name = "NAME", global = true)]
    model: Option<String>,
    /// Whose uploads are meant, on this machine
    #[arg(long, value_name = "NAME", global = true, default_value = "local", hide_short_help = true)]
    owner: String,
    /// Ask this server instead, as in https://photos.example.org, with the token in MEDIAMILL_TOKEN
    #[arg(
        long, value_name = "URL", global = true, hide_short_help = true,
        conflicts_with_all = ["data_dir", "provider", "model"]
    )]
    server: Option<String>,
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

#[derive(clap::Subcommand)]
enum Command {
    /// Process files and folders in place: thumbnail, description, audit, embedding
    Process(process::Process),
    /// Search the descriptions by meaning
    Search(search::Search),
    /// List uploads, one line each, by status, kind or batch
    List(list::List),
    /// Show what runs, what waits, and in which folders
    Status(status::Status),
    /// List batches, the newest first
    Batches(batches::Batches),
    /// Try failed uploads again
    Retry(batches::Retry),
    /// Cancel the unfinished uploads of batches
    Cancel(batches::Chosen),
    /// Pause batches: no more of their uploads begin
    Pause(batches::Chosen),
    /// Go on with everything that is unfinished, or with a paused batch
    Resume(batches::Resume),
    /// Serve the page and the API, and process the uploads
    Serve(serve::Serve),
    /// Check configuration, disk, store, provider and decoders, and say how to fix each fault
    Check(check::Check),
    /// Manage the models of the provider's server
    #[command(subcommand)]
    Models(models::Models),
    /// Print the store as text, one JSON object per line; changes nothing
    Dump {
        /// Pass over damaged pages: print all that can be read, and say what is lost (nothing else may use the
        /// store)
        #[arg(long)]
        salvage: bool,
    },
    /// Offer the pictures to a language model as tools that only read (Model Context Protocol on standard
    /// input and output)
    #[cfg(feature = "mcp")]
    Mcp,
    /// Restore a dump into an empty store
    Restore {
        /// The dump; `-` for standard input
        file: PathBuf,
    },
    /// Print completions for a shell
    #[command(after_help = "\
Example:
  mediamill completions bash > ~/.local/share/bash-completion/completions/mediamill")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[command(after_help = "\
Example:
  mediamill manual ~/.local/share/man/man1 && man mediamill")]
    Manual {
        /// The folder, which is made if it does not exist
        folder: PathBuf,
    },
}

impl Arguments {
    /// The log level, unless RUST_LOG sets one. Commands that show their results on a terminal log little.
    pub(crate) fn log_level(&self) -> &'static str {
        match (&self.command, self.verbosity()) {
            (_, Verbosity::Quiet) => "error",
            (_, Verbosity::Verbose) => "info",
            (Command::Serve(_), Verbosity::Normal) => "info,actix_server=warn",
            (Command::Process(_) | Command::Resume(_), Verbosity::Normal) => "error,mediamill::cli=warn",
            // Most clients show what arrives on standard error as a fault.
            #[cfg(feature = "mcp")]
            (Command::Mcp, Verbosity::Normal) => "error",
            (_, Verbosity::Normal) => "warn",
        }
    }

    fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        }
    }

    fn shared(&self) -> Result<Shared, String> {
        if self.server.is_some() && self.owner != Owner::local().as_str() {
            return Err(
                "--owner has no effect with --server, where the token says who asks; leave it out".into()
            );
        }
        let mut options = String::new();
        for (option, path) in [("--config", &self.config), ("--data-dir", &self.data_dir)] {
            if let Some(path) = path {
                options.push_str(&format!(" {option} {}", terminal::quoted(&terminal::shown(path))));
            }
        }
        if let Some(server) = &self.server {
            options.push_str(&format!(" --server {}", terminal::quoted(server)));
        }
        Ok(Shared {
            verbosity: self.verbosity(),
            options,
            owner: Owner::new(&self.owner).map_err(|error| format!("--owner: {error}"))?,
            server: self.server.clone(),
            provider: self.provider.clone(),
            model: self.model.clone(),
        })
    }

    /// Refuses `--server` for a command that needs the folder itself.
    fn must_be_here(&self, command: &str) -> Result<(), String> {
        match self.server {
            Some(_) => Err(format!("`{command}` works on this machine only; leave --server out")),
            None => Ok(()),
        }
    }

    /// Runs the command and returns its exit code.
    ///
    /// # Errors
    /// A sentence, if the command could not start.
    pub(crate) async fn run(self, bars: &MultiProgress) -> Result<u8, String> {
        limits::check()?;
        match &self.command {
            Command::Completions { shell } => return manual::completions(*shell).map(|()| 0),
            Command::Manual { folder } => return manual::pages(folder).map(|()| 0),
            Command::Serve(_) => self.must_be_here("serve")?,
            Command::Check(_) => self.must_be_here("check")?,
            Command::Models(_) => self.must_be_here("models")?,
            Command::Restore { .. } => self.must_be_here("restore")?,
            _ => {}
        }
        let shared = self.shared()?;
        let Self { config, data_dir, provider, model, command, .. } = self;
        let listen = match &command {
            Command::Serve(serve) => serve.listen.clone(),
            _ => None,
        };
        let overrides = Overrides { config, data_dir, provider, model, listen };
        let config = config::load(&overrides);
        if let Command::Check(check) = command {
            return Ok(check.run(config, config::location(overrides.config.as_deref()), &shared).await);
        }
        let config = config?;
        match command {
            Command::Serve(serve) => serve.run(config, &shared).await,
            Command::Process(process) => process.run(config, &shared, bars).await,
            Command::Resume(resume) => resume.run(config, &shared, bars).await,
            Command::Search(search) => search.run(&config, &shared).await.map(|()| 0),
            Command::List(list) => list.run(&config, &shared).await,
            Command::Status(status) => status.run(&config, &shared).await,
            Command::Batches(batches) => batches.run(&config, &shared).await,
            Command::Retry(retry) => batches::change(Change::Retry, retry.batches, &config, &shared).await,
            Command::Cancel(chosen) => {
                batches::change(Change::Cancel, chosen.batches, &config, &shared).await
            }
            Command::Pause(chosen) => batches::change(Change::Pause, chosen.batches, &config, &shared).await,
            Command::Models(models) => models.run(&config.engine, bars).await,
            Command::Dump { salvage } => dump::run(&config, &shared, salvage).await,
            #[cfg(feature = "mcp")]
            Command::Mcp => mcp::run(config, shared).await.map(|()| 0),
            Command::Restore { file } => restore::run(&config.engine, &file).await.map(|()| 0),
            // These need no configuration, or take a wrong one.
            Command::Check(_) | Command::Completions { .. } | Command::Manual { .. } => Ok(0),
        }
    }
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

    /// One that never comes, for work that does not end with its command.
    fn never() -> Self {
        Self(watch::channel(false).1)
    }

    async fn wait(&mut self) {
        if self.0.wait_for(|interrupted| *interrupted).await.is_err() {
            std::future::pending().await
        }
    }
}
