//! `mediamill restore`: an empty store filled from a dump.

use std::{fs::File, io::BufReader, path::Path};

pub(crate) fn run(data_dir: &Path, file: &Path) -> Result<(), String> {
    let dump = File::open(file).map_err(|error| format!("cannot open {}: {error}", file.display()))?;
    let lines = super::open(data_dir)?
        .restore(BufReader::new(dump))
        .map_err(|error| format!("cannot restore {}: {error}", file.display()))?;
    println!("restored {lines} entries into {}", data_dir.display());
    Ok(())
}
