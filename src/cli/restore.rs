//! `mediamill restore`: an empty store filled from a dump.

use std::{
    fs::File,
    io::{self, BufReader, Write as _},
    path::Path,
};

use mediamill_actors::config::Config;

pub(crate) fn run(config: &Config, file: &Path) -> Result<(), String> {
    let dump = File::open(file).map_err(|error| format!("cannot open {}: {error}", file.display()))?;
    let lines = super::open(config)?
        .restore(BufReader::new(dump))
        .map_err(|error| format!("cannot restore {}: {error}", file.display()))?;
    // Whoever is gone does not miss it.
    let _ = writeln!(io::stdout(), "restored {lines} entries into {}", config.store.data_dir.display());
    Ok(())
}
