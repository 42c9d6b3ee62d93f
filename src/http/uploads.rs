//! Uploads: create, read, delete.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Json, Payload},
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
    operations::{Operations, operation},
    query::Id,
    receive::{self, Arrived},
    responses::{Conflicts, Full, Missing, Receives, Refusals},
    views::UploadView,
};

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(create)).with(operation!(show)).with(operation!(delete))
}

/// A batch that was submitted.
#[derive(Debug, Serialize, ToSchema)]
struct Submitted {
    /// The batch.
    batch_id: BatchId,
    /// Number of files in the request.
    total_files: usize,
    /// Number of accepted files.
    queued: usize,
    /// Number of refused files.
    failed: usize,
    /// The uploads of the accepted files, in order.
    upload_ids: Vec<UploadId>,
    /// The refused files, in order.
    failed_files: Vec<FailedFile>,
}

/// A file that was refused.
#[derive(Debug, Serialize, ToSchema)]
struct FailedFile {
    /// Its name in the request.
    filename: String,
    /// The reason, in one sentence.
    error: String,
}

/// The body of a submission.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body")]
struct Files {
    /// Pictures and videos.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1, required = false)]
    files: Vec<Vec<u8>>,
    /// Complete resumable uploads that become part of the batch.
    #[schema(required = false)]
    resumable: Vec<UploadId>,
}

/// Submits files as one batch.
///
/// It has the files, and the resumable uploads that it names, at least one in all. The answer comes when files
/// and records are durable, even if every file was refused.
#[utoipa::path(
    post,
    path = "/uploads/bulk",
    tag = "uploads",
    operation_id = "submit_batch",
    request_body(content = Files, content_type = "multipart/form-data"),
    responses((status = 201, description = "The batch, and the refused files", body = Submitted), Refusals, Missing, Conflicts, Receives, Full)
)]
async fn create(
    caller: Caller,
    inner: Data<Inner>,
    request: HttpRequest,
    body: Payload,
) -> Result<HttpResponse, Problem> {
    let (arrived, held) = receive::files(&inner, &caller.owner, &request, body).await?;
    let (names, files): (Vec<String>, Vec<_>) =
        arrived.into_iter().map(|Arrived { name, source }| (name, source)).unzip();
    let total_files = files.len();
    let submitted = inner.supervisor.send(SubmitBatch { owner: caller.owner, files, force: false }).await??;
    let batch_id =
        submitted.batch_id.ok_or_else(|| Problem::internal("the engine made no batch of the files"))?;
    let (mut upload_ids, mut failed_files) = (Vec::with_capacity(total_files), Vec::new());
    for (filename, admission) in names.into_iter().zip(submitted.files) {
        match admission {
            Admission::Accepted(id) | Admission::Unfinished(id) => upload_ids.push(id),
            Admission::Done(upload) | Admission::Failed(upload) => upload_ids.push(upload.id),
            // Only files in place have companions.
            Admission::Companion { upload, .. } => upload_ids.push(upload),
            Admission::Refused(failure) | Admission::NotMedia(failure) => {
                failed_files.push(FailedFile { filename, error: failure.message });
            }
        }
    }
    if !held.is_empty() {
        for id in &upload_ids {
            inner.intake.resumables().submitted(*id, batch_id).await;
        }
    }
    drop(held);
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
    path = "/uploads/{id}",
    tag = "uploads",
    operation_id = "get_upload",
    params(Id<UploadId>),
    responses((status = 200, description = "The upload", body = UploadView), Refusals, Missing)
)]
async fn show(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<UploadId>,
    request: HttpRequest,
) -> Result<Json<UploadView>, Problem> {
    let upload = inner.query_service.send(GetUpload { owner: caller.owner, upload: id.0 }).await??;
    Ok(Json(UploadView::of(upload, &request)))
}

/// Deletes an upload in any state.
///
/// Its record and files are removed. A file in place is left alone.
#[utoipa::path(
    delete,
    path = "/uploads/{id}",
    tag = "uploads",
    operation_id = "delete_upload",
    params(Id<UploadId>),
    responses((status = 204, description = "Done"), Refusals, Missing)
)]
async fn delete(caller: Caller, inner: Data<Inner>, id: Id<UploadId>) -> Result<HttpResponse, Problem> {
    inner.supervisor.send(DeleteUpload { owner: caller.owner, upload: id.0 }).await??;
    Ok(no_content())
}
