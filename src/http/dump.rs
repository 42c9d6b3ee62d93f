//! The whole store as text.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    sync::{Arc, OnceLock},
};

use actix_web::{
    HttpResponse,
    web::{Bytes, Data, ServiceConfig},
};
use futures_util::stream;
use mediamill_actors::{error::Error, intake::Intake, query_service::DumpStore};

use super::{
    Inner,
    auth::Administrator,
    error::Problem,
    openapi::{Full, Refusals},
    readable,
};

const PIECE: usize = 1 << 16;

/// The file that a dump is taken to, as long as the disk has room for it.
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

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(readable("/dump", dump));
}

/// The whole store, taken between two commits: one JSON object a line. For administrators.
#[utoipa::path(
    get,
    path = "/api/v1/dump",
    tag = "operation",
    operation_id = "dump",
    responses(
        (status = 200, description = "One JSON object with `tree`, `key` and `value` a line", content_type = "application/x-ndjson", body = String),
        Refusals, Full, super::openapi::Denied
    )
)]
pub(super) async fn dump(_: Administrator, inner: Data<Inner>) -> Result<HttpResponse, Problem> {
    inner.intake.check_disk().await?;
    // Writers of the store wait for the dump, so it is taken to a file, and the client reads that as slowly as it likes.
    let unwritten = |error: &io::Error| {
        Problem::unavailable("storage_failed", format!("cannot write a dump in store.data_dir: {error}"), 30)
    };
    let file = tempfile::tempfile_in(&inner.data_dir).map_err(|error| unwritten(&error))?;
    let full = Arc::new(OnceLock::new());
    let sink = Sink { file, intake: Arc::clone(&inner.intake), full: Arc::clone(&full) };
    let taken = inner.query_service.send(DumpStore(io::BufWriter::with_capacity(PIECE, sink))).await?;
    // What the store says about its output is that it could not be written.
    let told = |otherwise: Problem| full.get().cloned().map_or(otherwise, Problem::from);
    let sink = taken.map_err(|error| told(error.into()))?;
    let mut file = sink.into_inner().map_err(|error| told(unwritten(error.error())))?.file;
    let length = file.metadata().map(|it| it.len());
    let length = length
        .and_then(|length| file.rewind().map(|()| length))
        .map_err(|error| Problem::internal(format!("cannot read the dump: {error}")))?;
    let pieces = stream::try_unfold(file, |file| async move {
        let read = actix_rt::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE);
            (&file).take(PIECE as u64).read_to_end(&mut piece).map(|_| (file, piece))
        });
        let (file, piece) = read.await.map_err(io::Error::other)??;
        Ok::<_, io::Error>((!piece.is_empty()).then(|| (Bytes::from(piece), file)))
    });
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").no_chunking(length).streaming(pieces))
}
