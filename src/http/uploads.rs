//! Uploads: bring files in, look at one, delete it.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Json, Payload, ServiceConfig},
};
use mediamill_actors::{
    batch_supervisor::{DeleteUpload, SubmitBatch},
    id::{BatchId, UploadId},
    intake::Admission,
    query_service::GetUpload,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Inner,
    auth::Caller,
    error::Problem,
    no_content,
    openapi::{Full, Missing, Receives, Refusals},
    query::Id,
    receive::{self, Arrived},
    views::UploadView,
};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(web::resource("/uploads/bulk").route(web::post().to(create)));
}

/// Below the batches, whose paths look like ids.
pub(super) fn single(config: &mut ServiceConfig) {
    config.service(
        web::resource("/uploads/{id}")
            .route(web::get().to(show))
            .route(web::head().to(show))
            .route(web::delete().to(delete)),
    );
}

/// Files that became a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Submitted {
    /// The batch.
    #[schema(value_type = String, format = Uuid)]
    batch_id: BatchId,
    /// Files that came.
    total_files: usize,
    /// Those that were accepted.
    queued: usize,
    /// Those that were refused.
    failed: usize,
    /// The accepted ones, in order.
    #[schema(value_type = Vec<String>)]
    upload_ids: Vec<UploadId>,
    /// The refused ones, in order.
    failed_files: Vec<FailedFile>,
}

/// A file that was refused.
#[derive(Debug, Serialize, ToSchema)]
struct FailedFile {
    /// As it was named.
    filename: String,
    /// Why, in one sentence.
    error: String,
}

/// What comes in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "tells what the body looks like")]
pub(super) struct Files {
    /// Pictures and videos.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    files: Vec<Vec<u8>>,
}

/// Brings files in as one batch. It is answered when bytes and records are durable, also when every file was refused.
#[utoipa::path(
    post,
    path = "/api/v1/uploads/bulk",
    tag = "uploads",
    operation_id = "submit_batch",
    request_body(content = Files, content_type = "multipart/form-data"),
    responses((status = 201, body = Submitted), Refusals, Receives, Full)
)]
pub(super) async fn create(
    caller: Caller,
    inner: Data<Inner>,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, Problem> {
    let arrived = receive::files(&inner, &caller.owner, &request, body).await?;
    let (names, files): (Vec<String>, Vec<_>) =
        arrived.into_iter().map(|Arrived { name, source }| (name, source)).unzip();
    let total_files = files.len();
    let submitted = inner.supervisor.send(SubmitBatch { owner: caller.owner, files, force: false }).await??;
    let batch_id = submitted.batch_id.ok_or_else(|| Problem::internal("the files became no batch"))?;
    let (mut upload_ids, mut failed_files) = (Vec::with_capacity(total_files), Vec::new());
    for (filename, admission) in names.into_iter().zip(submitted.files) {
        match admission {
            Admission::Accepted(id) | Admission::Unfinished(id) => upload_ids.push(id),
            Admission::Done(upload) | Admission::Failed(upload) => upload_ids.push(upload.id),
            Admission::Refused(failure) | Admission::NotMedia(failure) => {
                failed_files.push(FailedFile { filename, error: failure.message });
            }
        }
    }
    let (queued, failed) = (upload_ids.len(), failed_files.len());
    Ok(HttpResponse::Created().json(Submitted {
        batch_id,
        total_files,
        queued,
        failed,
        upload_ids,
        failed_files,
    }))
}

/// One upload.
#[utoipa::path(
    get,
    path = "/api/v1/uploads/{id}",
    tag = "uploads",
    operation_id = "get_upload",
    params(("id" = String, Path, format = Uuid, description = "The upload")),
    responses((status = 200, body = UploadView), Refusals, Missing)
)]
pub(super) async fn show(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<UploadId>,
    request: HttpRequest,
) -> Result<Json<UploadView>, Problem> {
    let upload = inner.query_service.send(GetUpload { owner: caller.owner, upload: id.0 }).await??;
    Ok(Json(UploadView::of(upload, &request)))
}

/// Deletes an upload with all that belongs to it, wherever it stands. A file in place is not touched.
#[utoipa::path(
    delete,
    path = "/api/v1/uploads/{id}",
    tag = "uploads",
    operation_id = "delete_upload",
    params(("id" = String, Path, format = Uuid, description = "The upload")),
    responses((status = 204, description = "Done"), Refusals, Missing)
)]
pub(super) async fn delete(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<UploadId>,
) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(DeleteUpload { owner: caller.owner, upload: id.0 }).await??;
    Ok(no_content())
}
