//! The whole store as text.

use std::io::{self, Read as _, Seek as _};

use actix_web::{
    HttpResponse,
    web::{Bytes, Data, ServiceConfig},
};
use futures_util::stream;
use mediamill_actors::progress_monitor::DumpStore;

use super::{Inner, auth::Administrator, error::Problem, openapi::Refusals, readable};

const PIECE: usize = 1 << 16;

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
        Refusals, super::openapi::Denied
    )
)]
pub(super) async fn dump(_: Administrator, inner: Data<Inner>) -> Result<HttpResponse, Problem> {
    // Writers of the store wait for the dump, so it is taken to a file, and the client reads that as slowly as it likes.
    let file = tempfile::tempfile_in(&inner.data_dir)
        .map_err(|error| Problem::internal(format!("cannot write a dump in store.data_dir: {error}")))?;
    let file = inner.monitor.send(DumpStore(io::BufWriter::new(file))).await??;
    let mut file = file
        .into_inner()
        .map_err(|error| Problem::internal(format!("cannot write a dump in store.data_dir: {error}")))?;
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
