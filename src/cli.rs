//! The command line: one file for each command.

mod dump;
mod restore;

use std::path::{Path, PathBuf};

use mediamill_actors::{
    config::Config,
    store::{Clock, Store},
};

/// Works through folders and batches of photos, with all state in one folder.
#[derive(clap::Parser)]
#[command(name = "mediamill", version)]
pub(crate) struct Arguments {
    /// The folder that holds all state.
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Prints the store as text: one JSON object a line. Changes nothing.
    Dump,
    /// Fills an empty store with a dump.
    Restore {
        /// The dump.
        file: PathBuf,
    },
}

impl Arguments {
    /// Does what was asked for; what went wrong is told in a sentence.
    pub(crate) async fn run(self) -> Result<(), String> {
        let data_dir = self.data_dir.ok_or("no data folder is named; say --data-dir DIR")?;
        match self.command {
            Command::Dump => dump::run(&data_dir).await,
            Command::Restore { file } => restore::run(&data_dir, &file),
        }
    }
}

fn open(data_dir: &Path) -> Result<Store, String> {
    let config = Config::default();
    Store::open(data_dir, config.store.cache_mb, config.events.keep, Clock::System)
        .map_err(|error| error.to_string())
}
