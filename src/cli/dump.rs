//! `mediamill dump`: the store as text.

use std::{
    io::{self, BufWriter},
    path::Path,
};

use mediamill_actors::error::Error;

pub(crate) async fn run(data_dir: &Path) -> Result<(), String> {
    if !data_dir.join("store").exists() {
        return Err(format!(
            "there is no store in {}; name the folder that holds one with --data-dir",
            data_dir.display()
        ));
    }
    let store = super::open(data_dir)?;
    match store.dump(BufWriter::new(io::stdout())).await {
        Ok(_) => Ok(()),
        Err(Error::Store(text)) => Err(format!("cannot dump the store in {}: {text}", data_dir.display())),
        Err(error) => Err(error.to_string()),
    }
}
