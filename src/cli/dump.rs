//! `mediamill dump`: the store as text.

use std::{
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mediamill_actors::{config::Config, error::Error};

#[derive(clap::Args)]
pub(crate) struct Dump {
    /// Go on past damaged pages, and say what is lost
    #[arg(long)]
    salvage: bool,
}

impl Dump {
    /// Returns the exit code: 1 if something was lost.
    pub(crate) async fn run(self, config: &Config) -> Result<u8, String> {
        super::must_exist(config)?;
        let out = Out::default();
        let gone = Arc::clone(&out.gone);
        let (queries, out) = (super::open(config)?.queries(), BufWriter::new(out));
        let dumped = match self.salvage {
            true => queries.salvage(out).await.map(|(_, lost)| lost),
            false => queries.dump(out).await.map(|_| Vec::new()),
        };
        match dumped {
            Ok(lost) => {
                for sentence in &lost {
                    eprintln!("mediamill: lost: {sentence}");
                }
                Ok(u8::from(!lost.is_empty()))
            }
            Err(_) if gone.load(Ordering::Relaxed) => Ok(0),
            Err(Error::Store(text)) => Err(format!(
                "cannot dump the store in {}: {text}; `mediamill dump --salvage` prints what can be read",
                config.store.data_dir.display()
            )),
            Err(error) => Err(error.to_string()),
        }
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
