//! Batches: list, look at, cancel, pause, resume, retry.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Json, ServiceConfig},
};
use mediamill_actors::{
    batch_supervisor::{CancelBatch, PauseBatch, ResumeBatch, RetryFailed},
    id::BatchId,
    query_service::{GetBatch, ListBatches, ListUploads},
};

use super::{
    Inner,
    auth::Caller,
    error::Problem,
    no_content,
    openapi::{Checked, Missing, Refusals, Standing},
    query::{Id, Query},
    readable,
    views::{BatchView, UploadView},
};

/// Most batches of one answer.
const MOST_BATCHES: usize = 100;
/// Most uploads of one answer.
const MOST_UPLOADS: usize = 1000;
/// Most that may be passed over.
const MOST_PASSED: usize = i32::MAX as usize;

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(readable("/uploads/batches", list))
        .service(readable("/uploads/batches/{id}", show))
        .service(readable("/uploads/batches/{id}/uploads", uploads))
        .service(web::resource("/uploads/batches/{id}/cancel").route(web::post().to(cancel)))
        .service(web::resource("/uploads/batches/{id}/pause").route(web::post().to(pause)))
        .service(web::resource("/uploads/batches/{id}/resume").route(web::post().to(resume)))
        .service(web::resource("/uploads/batches/{id}/retry").route(web::post().to(retry)));
}

/// Batches, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/uploads/batches",
    tag = "batches",
    operation_id = "list_batches",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most that come; 20 unless said"),
        ("offset" = Option<u32>, Query, maximum = 2147483647, description = "How many are passed over")
    ),
    responses((status = 200, body = Vec<BatchView>), Refusals, Checked)
)]
pub(super) async fn list(
    caller: Caller,
    inner: Data<Inner>,
    query: Query,
) -> Result<Json<Vec<BatchView>>, Problem> {
    let limit = query.number("limit", 1..=MOST_BATCHES, 20)?;
    let offset = query.number("offset", 0..=MOST_PASSED, 0)?;
    let batches = inner.query_service.send(ListBatches { owner: caller.owner, offset, limit }).await??;
    Ok(Json(batches.into_iter().map(BatchView::from).collect()))
}

/// One batch.
#[utoipa::path(
    get,
    path = "/api/v1/uploads/batches/{id}",
    tag = "batches",
    operation_id = "get_batch",
    params(("id" = String, Path, format = Uuid, description = "The batch")),
    responses((status = 200, body = BatchView), Refusals, Missing)
)]
pub(super) async fn show(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<BatchId>,
) -> Result<Json<BatchView>, Problem> {
    let batch = inner.query_service.send(GetBatch { owner: caller.owner, batch: id.0 }).await??;
    Ok(Json(batch.into()))
}

/// The uploads of a batch, in their order.
#[utoipa::path(
    get,
    path = "/api/v1/uploads/batches/{id}/uploads",
    tag = "batches",
    operation_id = "list_uploads",
    params(
        ("id" = String, Path, format = Uuid, description = "The batch"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "Most that come; 1000 unless said"),
        ("offset" = Option<u32>, Query, maximum = 2147483647, description = "How many are passed over")
    ),
    responses((status = 200, body = Vec<UploadView>), Refusals, Missing, Checked)
)]
pub(super) async fn uploads(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<BatchId>,
    query: Query,
    request: HttpRequest,
) -> Result<Json<Vec<UploadView>>, Problem> {
    let limit = query.number("limit", 1..=MOST_UPLOADS, MOST_UPLOADS)?;
    let offset = query.number("offset", 0..=MOST_PASSED, 0)?;
    let list = ListUploads { owner: caller.owner, batch: id.0, offset, limit };
    let uploads = inner.query_service.send(list).await??;
    Ok(Json(uploads.into_iter().map(|upload| UploadView::of(upload, &request)).collect()))
}

/// Ends what is unfinished of a batch. Of one that has ended nothing changes.
#[utoipa::path(
    post,
    path = "/api/v1/uploads/batches/{id}/cancel",
    tag = "batches",
    operation_id = "cancel_batch",
    params(("id" = String, Path, format = Uuid, description = "The batch")),
    responses((status = 204, description = "Done"), Refusals, Missing, Standing)
)]
pub(super) async fn cancel(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<BatchId>,
) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(CancelBatch { owner: caller.owner, batch: id.0 }).await??;
    Ok(no_content())
}

/// Begins no more uploads of a batch; running attempts finish.
#[utoipa::path(
    post,
    path = "/api/v1/uploads/batches/{id}/pause",
    tag = "batches",
    operation_id = "pause_batch",
    params(("id" = String, Path, format = Uuid, description = "The batch")),
    responses((status = 204, description = "Done"), Refusals, Missing, Standing)
)]
pub(super) async fn pause(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<BatchId>,
) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(PauseBatch { owner: caller.owner, batch: id.0 }).await??;
    Ok(no_content())
}

/// Begins the uploads of a paused batch again.
#[utoipa::path(
    post,
    path = "/api/v1/uploads/batches/{id}/resume",
    tag = "batches",
    operation_id = "resume_batch",
    params(("id" = String, Path, format = Uuid, description = "The batch")),
    responses((status = 204, description = "Done"), Refusals, Missing, Standing)
)]
pub(super) async fn resume(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<BatchId>,
) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(ResumeBatch { owner: caller.owner, batch: id.0 }).await??;
    Ok(no_content())
}

/// Gives the failed uploads of a batch two fresh attempts.
#[utoipa::path(
    post,
    path = "/api/v1/uploads/batches/{id}/retry",
    tag = "batches",
    operation_id = "retry_batch",
    params(("id" = String, Path, format = Uuid, description = "The batch")),
    responses((status = 204, description = "Done"), Refusals, Missing, Standing)
)]
pub(super) async fn retry(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<BatchId>,
) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(RetryFailed { owner: caller.owner, batch: id.0 }).await??;
    Ok(no_content())
}
