//! `mediamill restore`: an empty store filled from a dump.

use std::{fs::File, io::BufReader, path::Path};

use mediamill_actors::config::Config;

pub(crate) fn run(config: &Config, file: &Path) -> Result<(), String> {
    let dump = File::open(file).map_err(|error| format!("cannot open {}: {error}", file.display()))?;
    let lines = super::open(config)?
        .restore(BufReader::new(dump))
        .map_err(|error| format!("cannot restore {}: {error}", file.display()))?;
    println!("restored {lines} entries into {}", config.store.data_dir.display());
    Ok(())
}
