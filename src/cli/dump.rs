//! `mediamill dump`: the store as text.

use std::{
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mediamill::Config;
use mediamill_actors::{error::Error, text};

use super::{Shared, client::Client, place::Place};

/// The exit code: 1 if a part of the store is lost.
pub(crate) async fn run(config: &Config, shared: &Shared, salvage: bool) -> Result<u8, String> {
    match shared.place(config).await? {
        Place::Server(_) | Place::Holder(..) if salvage => {
            return Err("a store is salvaged when nothing uses it; stop the mediamill that holds it".into());
        }
        Place::Server(client) | Place::Holder(client, _) => return of_client(&client).await.map(|()| 0),
        Place::Folder => {}
    }
    let config = &config.engine;
    super::must_exist(config)?;
    let out = Out::default();
    let gone = Arc::clone(&out.gone);
    let queries = super::open(config)?.queries();
    let done = if salvage {
        queries.salvage(BufWriter::new(out)).await.map(|(_, lost)| lost)
    } else {
        queries.dump(BufWriter::new(out)).await.map(|_| Vec::new())
    };
    match done {
        Err(_) if gone.load(Ordering::Relaxed) => Ok(0),
        Err(Error::Store(text)) => Err(format!(
            "cannot dump the store in {}: {text}; `dump --salvage` prints all that can be read",
            config.store.data_dir.display()
        )),
        Err(error) => Err(error.to_string()),
        Ok(lost) => {
            for sentence in &lost {
                eprintln!("lost: {sentence}");
            }
            Ok(u8::from(!lost.is_empty()))
        }
    }
}

/// The dump of a running program.
async fn of_client(client: &Client) -> Result<(), String> {
    let mut out = Out::default();
    let gone = Arc::clone(&out.gone);
    let unwritten = |error: io::Error| format!("cannot write the dump: {error}");
    let downloaded = client.download("api/v1/dump", |bytes| out.write_all(bytes).map_err(unwritten)).await;
    let downloaded = downloaded.and_then(|()| out.flush().map_err(unwritten));
    if gone.load(Ordering::Relaxed) { Ok(()) } else { downloaded }
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
