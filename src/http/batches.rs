//! Batches: list, read, cancel, pause, resume, retry.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Json},
};
use mediamill_actors::{
    batch_supervisor::{CancelBatch, DeleteBatch, PauseBatch, ResumeBatch, RetryFailed},
    id::BatchId,
    query_service::{GetBatch, ListBatches, ListUploads},
};

use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    Inner,
    auth::Caller,
    error::Problem,
    no_content,
    operations::{Operations, operation},
    query::{Id, Offset, Query, Whole},
    responses::{Checked, Conflicts, Missing, Refusals},
    views::{BatchView, UploadView},
};

pub(super) fn operations() -> Operations {
    Operations::default()
        .with(operation!(list))
        .with(operation!(show))
        .with(operation!(uploads))
        .with(operation!(delete))
        .with(operation!(cancel))
        .with(operation!(pause))
        .with(operation!(resume))
        .with(operation!(retry))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct BatchPage {
    /// Most batches
    #[serde(default)]
    #[param(inline)]
    limit: Whole<1, { ListBatches::MAX as u64 }, 20>,
    /// Number of batches to skip
    #[serde(default)]
    #[param(inline)]
    offset: Offset,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UploadPage {
    /// Most uploads
    #[serde(default)]
    #[param(inline)]
    limit: Whole<1, { ListUploads::MAX as u64 }, { ListUploads::MAX as u64 }>,
    /// Number of uploads to skip
    #[serde(default)]
    #[param(inline)]
    offset: Offset,
}

/// Batches, newest first.
#[utoipa::path(
    get,
    path = "/uploads/batches",
    tag = "batches",
    operation_id = "list_batches",
    params(BatchPage),
    responses((status = 200, description = "The batches", body = Vec<BatchView>), Refusals, Checked)
)]
async fn list(
    caller: Caller,
    inner: Data<Inner>,
    Query(page): Query<BatchPage>,
) -> Result<Json<Vec<BatchView>>, Problem> {
    let (limit, offset) = (page.limit.get() as usize, page.offset.get() as usize);
    let batches = inner.query_service.send(ListBatches { owner: caller.owner, offset, limit }).await??;
    Ok(Json(batches.into_iter().map(BatchView::from).collect()))
}

/// One batch.
#[utoipa::path(
    get,
    path = "/uploads/batches/{id}",
    tag = "batches",
    operation_id = "get_batch",
    params(Id<BatchId>),
    responses((status = 200, description = "The batch", body = BatchView), Refusals, Missing)
)]
async fn show(caller: Caller, inner: Data<Inner>, id: Id<BatchId>) -> Result<Json<BatchView>, Problem> {
    let batch = inner.query_service.send(GetBatch { owner: caller.owner, batch: id.0 }).await??;
    Ok(Json(batch.into()))
}

/// The uploads of a batch, in their order.
#[utoipa::path(
    get,
    path = "/uploads/batches/{id}/uploads",
    tag = "batches",
    operation_id = "list_uploads",
    params(Id<BatchId>, UploadPage),
    responses((status = 200, description = "The uploads", body = Vec<UploadView>), Refusals, Missing, Checked)
)]
async fn uploads(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<BatchId>,
    Query(page): Query<UploadPage>,
    request: HttpRequest,
) -> Result<Json<Vec<UploadView>>, Problem> {
    let (limit, offset) = (page.limit.get() as usize, page.offset.get() as usize);
    let list = ListUploads { owner: caller.owner, batch: id.0, offset, limit };
    let uploads = inner.query_service.send(list).await??;
    Ok(Json(uploads.into_iter().map(|upload| UploadView::of(upload, &request)).collect()))
}

/// Deletes a batch in any state, with all its uploads.
///
/// Their records and files are removed. Files in place are left alone.
#[utoipa::path(
    delete,
    path = "/uploads/batches/{id}",
    tag = "batches",
    operation_id = "delete_batch",
    params(Id<BatchId>),
    responses((status = 204, description = "Done"), Refusals, Missing, Conflicts)
)]
async fn delete(caller: Caller, inner: Data<Inner>, id: Id<BatchId>) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(DeleteBatch { owner: caller.owner, batch: id.0 }).await??;
    Ok(no_content())
}

/// Cancels the unfinished uploads of a batch.
///
/// A batch that has ended stays as it is.
#[utoipa::path(
    post,
    path = "/uploads/batches/{id}/cancel",
    tag = "batches",
    operation_id = "cancel_batch",
    params(Id<BatchId>),
    responses((status = 204, description = "Done"), Refusals, Missing, Conflicts)
)]
async fn cancel(caller: Caller, inner: Data<Inner>, id: Id<BatchId>) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(CancelBatch { owner: caller.owner, batch: id.0 }).await??;
    Ok(no_content())
}

/// Pauses a batch.
///
/// No more of its uploads begin; running attempts finish.
#[utoipa::path(
    post,
    path = "/uploads/batches/{id}/pause",
    tag = "batches",
    operation_id = "pause_batch",
    params(Id<BatchId>),
    responses((status = 204, description = "Done"), Refusals, Missing, Conflicts)
)]
async fn pause(caller: Caller, inner: Data<Inner>, id: Id<BatchId>) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(PauseBatch { owner: caller.owner, batch: id.0 }).await??;
    Ok(no_content())
}

/// Resumes a paused batch.
#[utoipa::path(
    post,
    path = "/uploads/batches/{id}/resume",
    tag = "batches",
    operation_id = "resume_batch",
    params(Id<BatchId>),
    responses((status = 204, description = "Done"), Refusals, Missing, Conflicts)
)]
async fn resume(caller: Caller, inner: Data<Inner>, id: Id<BatchId>) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(ResumeBatch { owner: caller.owner, batch: id.0 }).await??;
    Ok(no_content())
}

/// Retries the failed uploads of a batch.
///
/// Each gets two new attempts.
#[utoipa::path(
    post,
    path = "/uploads/batches/{id}/retry",
    tag = "batches",
    operation_id = "retry_batch",
    params(Id<BatchId>),
    responses((status = 204, description = "Done"), Refusals, Missing, Conflicts)
)]
async fn retry(caller: Caller, inner: Data<Inner>, id: Id<BatchId>) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(RetryFailed { owner: caller.owner, batch: id.0 }).await??;
    Ok(no_content())
}
