//! `mediamill restore`: fills an empty store from a dump.

use std::{
    fmt::Display,
    fs::File,
    io::{self, BufReader, Read, Write as _},
    path::Path,
};

use mediamill_actors::config::Config;

pub(crate) async fn run(config: &Config, file: &Path) -> Result<(), String> {
    let refused = |error: &dyn Display| format!("cannot restore {}: {error}", file.display());
    let dump: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(|error| format!("cannot open {}: {error}", file.display()))?)
    };
    let store = super::open(config)?;
    let data_dir = config.store.data_dir.display();
    let lines = store.restore(BufReader::new(dump)).map_err(|error| refused(&error))?;
    if lines == 0 {
        return Err(refused(&"it is empty"));
    }
    let found = store.queries().verify().await.map_err(|error| refused(&error))?;
    if found.fault_count > 0 {
        return Err(format!(
            "restored {lines} entries into {data_dir}, but they have {} inconsistencies: the dump may have \
             been cut short. \
             `mediamill check` lists them; to restore another dump, delete {data_dir}/store and \
             {data_dir}/HIGHWATER \
             first",
            found.fault_count
        ));
    }
    // The output may have no reader any more.
    let _ = writeln!(io::stdout(), "restored {lines} entries into {data_dir}");
    Ok(())
}
