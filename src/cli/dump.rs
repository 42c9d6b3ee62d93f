//! `mediamill dump`: the store as text.

use std::io::{self, BufWriter};

use mediamill_actors::{config::Config, error::Error};

pub(crate) async fn run(config: &Config) -> Result<(), String> {
    super::must_exist(config)?;
    match super::open(config)?.dump(BufWriter::new(io::stdout())).await {
        Ok(_) => Ok(()),
        Err(Error::Store(text)) => {
            Err(format!("cannot dump the store in {}: {text}", config.store.data_dir.display()))
        }
        Err(error) => Err(error.to_string()),
    }
}
