//! The dump: the whole store as text.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    sync::{Arc, OnceLock},
};

use actix_web::{
    HttpResponse,
    web::{Bytes, Data},
};
use futures_util::stream;
use mediamill_actors::{error::Error, intake::Intake, query_service::DumpStore};

use super::{
    Inner,
    auth::Administrator,
    error::Problem,
    operations::{Operations, operation},
    responses::{Administrators, Full, Refusals},
};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 16;

/// The file of a dump. Writing fails before the disk is too full for the store.
struct Sink {
    file: File,
    intake: Arc<Intake>,
    full: Arc<OnceLock<Error>>,
}

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(full) = self.intake.check_room_blocking(bytes.len() as u64) {
            let error = io::Error::new(io::ErrorKind::StorageFull, full.to_string());
            let _ = self.full.set(full);
            return Err(error);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(dump))
}

/// Dumps the whole store. For administrators.
///
/// The dump is consistent, with one JSON object per line.
#[utoipa::path(
    get,
    path = "/dump",
    tag = "operation",
    operation_id = "dump",
    security(("token" = []), ("session" = [])),
    responses(
        (
            status = 200,
            description = "One JSON object with `tree`, `key` and `value` per line",
            content_type = "application/x-ndjson",
            body = String
        ),
        Refusals, Full, Administrators
    )
)]
async fn dump(_: Administrator, inner: Data<Inner>) -> Result<HttpResponse, Problem> {
    inner.intake.check_disk().await?;
    // The store does not commit during a dump. It goes to a file first, so that a slow client does not hold
    // up the store.
    let unwritten = |error: &io::Error| {
        Problem::unavailable("storage_failed", format!("cannot write a dump to store.data_dir: {error}"), 30)
    };
    let file = tempfile::tempfile_in(&inner.data_dir).map_err(|error| unwritten(&error))?;
    let full = Arc::new(OnceLock::new());
    let sink = Sink { file, intake: Arc::clone(&inner.intake), full: Arc::clone(&full) };
    let taken = inner.query_service.send(DumpStore(io::BufWriter::with_capacity(CHUNK, sink))).await?;
    // The store reports a failed write; the cause is in `full` if the disk was too full.
    let cause = |otherwise: Problem| full.get().cloned().map_or(otherwise, Problem::from);
    let sink = taken.map_err(|error| cause(error.into()))?;
    let mut file = sink.into_inner().map_err(|error| cause(unwritten(error.error())))?.file;
    let length = file.metadata().map(|it| it.len());
    let length = length
        .and_then(|length| file.rewind().map(|()| length))
        .map_err(|error| Problem::internal(format!("cannot read the dump: {error}")))?;
    let chunks = stream::try_unfold(file, |file| async move {
        let read = actix_rt::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            (&file).take(CHUNK as u64).read_to_end(&mut chunk).map(|_| (file, chunk))
        });
        let (file, chunk) = read.await.map_err(io::Error::other)??;
        Ok::<_, io::Error>((!chunk.is_empty()).then(|| (Bytes::from(chunk), file)))
    });
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").no_chunking(length).streaming(chunks))
}
