//! `mediamill dump`: the store as text.

use std::{
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mediamill_actors::{config::Config, error::Error, text};

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
    /// The beginning of a line whose end is to come.
    pending: Vec<u8>,
}

impl Out {
    /// Prints the first bytes that came, without characters that a terminal obeys: a dump holds names of files
    /// and texts of models.
    fn print(&mut self, length: usize) -> io::Result<()> {
        let bytes: Vec<u8> = self.pending.drain(..length).collect();
        let printed = match String::from_utf8(bytes) {
            Ok(lines) => io::stdout().write_all(text::json_line(lines).as_bytes()),
            Err(error) => io::stdout().write_all(error.as_bytes()),
        };
        printed.inspect_err(|error| {
            if error.kind() == io::ErrorKind::BrokenPipe {
                self.gone.store(true, Ordering::Relaxed);
            }
        })
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        // A character may be cut, a line is not.
        if let Some(end) = self.pending.iter().rposition(|byte| *byte == b'\n') {
            self.print(end + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.print(self.pending.len())?;
        io::stdout().flush()
    }
}
