//! `mediamill dump`: the store as text.

use std::{
    io::{self, BufWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use mediamill::Config;
use mediamill_actors::error::Error;

use super::{Shared, client::Client, place::Place};

pub(crate) async fn run(config: &Config, shared: &Shared) -> Result<(), String> {
    match shared.place(config).await? {
        Place::Server(client) | Place::Holder(client, _) => return of_client(&client).await,
        Place::Folder => {}
    }
    let config = &config.engine;
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

/// The dump of a running program.
async fn of_client(client: &Client) -> Result<(), String> {
    let (mut out, mut is_closed) = (io::stdout().lock(), false);
    let downloaded = client
        .download("api/v1/dump", |bytes| match out.write_all(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                is_closed = true;
                Err(String::new())
            }
            written => written.map_err(|error| format!("cannot write the dump: {error}")),
        })
        .await;
    if is_closed { Ok(()) } else { downloaded }
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
