//! `mediamill dump`: the store as text.

use std::{
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mediamill_actors::{config::Config, error::Error};

pub(crate) async fn run(config: &Config) -> Result<(), String> {
    super::must_exist(config)?;
    let out = Out::default();
    let gone = Arc::clone(&out.gone);
    match super::open(config)?.queries().dump(BufWriter::new(out)).await.map(drop) {
        Err(_) if gone.load(Ordering::Relaxed) => Ok(()),
        Err(Error::Store(text)) => {
            Err(format!("cannot dump the store in {}: {text}", config.store.data_dir.display()))
        }
        done => done.map_err(|error| error.to_string()),
    }
}

/// Standard output. A reader that has seen enough is not an error.
#[derive(Default)]
struct Out {
    gone: Arc<AtomicBool>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).inspect_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                self.gone.store(true, Ordering::Relaxed);
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}
