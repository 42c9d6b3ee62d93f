//! Batches and uploads as clients read them.

use actix_web::HttpRequest;
use mediamill_actors::{
    analysis::Object,
    batch,
    id::{BatchId, UploadId},
    media::{Facts, Kind},
    query_service,
    upload::{self, Failure, Thumbnail, Upload},
};
use serde::Serialize;
use utoipa::ToSchema;

/// As sockets and event streams say it.
const CANCELLED: &str = "the upload was cancelled";

/// A batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Batch)]
pub(super) struct BatchView {
    /// Its name.
    #[schema(value_type = String, format = Uuid)]
    batch_id: BatchId,
    status: BatchStatus,
    /// All its uploads.
    total_uploads: u32,
    /// Those that ended, one way or another.
    processed_uploads: u32,
    /// Those that ended well.
    successful_uploads: u32,
    /// Those that ended badly.
    failed_uploads: u32,
    /// Those that were cancelled.
    cancelled_uploads: u32,
    /// Among the successful: a person should look at the description.
    needs_review_uploads: u32,
    /// Files that were refused and have no upload.
    refused_files: u32,
    /// Percent of the uploads that ended, rounded down.
    #[schema(maximum = 100)]
    progress_percentage: u8,
    /// When it was submitted.
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    /// When its first upload was begun, in this run.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<String>,
    /// When its last upload ended, in this run.
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<String>,
    /// Since when it is paused.
    #[schema(value_type = Option<String>, format = DateTime)]
    paused_at: Option<String>,
    /// Why it failed, in one sentence.
    error_message: Option<String>,
    /// Seconds until the last upload ends, if that can be told.
    eta_seconds: Option<u64>,
    /// What is waited for, in one sentence.
    waiting: Option<String>,
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum BatchStatus {
    Pending,
    Processing,
    Completed,
    Failed,
    Cancelled,
}

/// An upload.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Upload)]
pub(super) struct UploadView {
    /// Its name.
    #[schema(value_type = String, format = Uuid)]
    id: UploadId,
    /// The batch that it belongs to.
    #[schema(value_type = String, format = Uuid)]
    batch_id: BatchId,
    /// Whose it is.
    user_id: String,
    /// The file's name without folders.
    filename: String,
    /// Where the file can be fetched.
    file_path: String,
    /// Where its thumbnail can be fetched, once there is one.
    thumbnail_path: Option<String>,
    file_type: FileType,
    /// Length in bytes.
    file_size: u64,
    /// Media type, told from the bytes.
    #[schema(example = "image/jpeg")]
    mime_type: &'static str,
    processing_status: UploadStatus,
    /// The finer step.
    #[schema(example = "vision_analysis")]
    stage: &'static str,
    /// What is to be seen.
    description: Option<String>,
    /// Audit score of the description, 0 to 100.
    #[schema(maximum = 100)]
    description_audit_score: Option<u8>,
    /// The description failed the audit, and a person should look at it.
    needs_review: bool,
    /// Whether it is found by what it means.
    has_embedding: bool,
    /// How often the description was asked for beyond the first time.
    regeneration_count: u32,
    /// When that was last done.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_regenerated_at: Option<String>,
    /// The codec of a video, where known.
    video_codec: Option<String>,
    /// Why it failed, or that it was cancelled.
    error_message: Option<String>,
    /// Failed attempts of this run, at most two.
    failures: Vec<FailureView>,
    metadata: Metadata,
    provenance: Provenance,
    /// It was cancelled.
    cancelled: bool,
    /// Always false; for older clients.
    hidden: bool,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: String,
}

/// A still picture or a video.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum FileType {
    Image,
    Video,
}

/// Where an upload stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum UploadStatus {
    Pending,
    Analyzing,
    Embedding,
    Completed,
    Failed,
    Cancelled,
}

/// Why an attempt failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Failure)]
pub(super) struct FailureView {
    /// Number of the attempt.
    attempt: u32,
    /// The step that it failed in.
    stage: &'static str,
    /// The sort of failure, for programs.
    #[schema(example = "undecodable")]
    kind: &'static str,
    /// What happened, to what, and what to do about it.
    message: String,
}

/// What is known of a file beside its description.
#[derive(Debug, Serialize, ToSchema)]
struct Metadata {
    /// Plain facts: width, height, colours, lightness, when and with which camera it was taken; null until it was decoded.
    #[schema(value_type = Option<Object>)]
    facts: Option<Facts>,
    /// What was found in it: label, count, confidence.
    #[schema(value_type = Vec<Object>)]
    objects: Vec<Object>,
}

/// What gave the description.
#[derive(Debug, Serialize, ToSchema)]
struct Provenance {
    /// SHA-256 of the bytes, in hexadecimal digits.
    content_hash: String,
    /// What described it: `builtin`, `ollama` or `openai`.
    provider: Option<String>,
    /// The model that described it.
    vision_model: Option<String>,
    /// Version of the prompt.
    prompt_version: Option<u32>,
    /// Version of the audit.
    audit_version: Option<u32>,
    /// When it was described.
    #[schema(value_type = Option<String>, format = DateTime)]
    described_at: Option<String>,
    /// The model that embedded the description.
    embedding_model: Option<String>,
    /// Length of the vector.
    embedding_dimensions: Option<u32>,
}

/// An upload that was found by words.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Found {
    /// How near description and words are, -1 to 1.
    pub(super) score: f32,
    pub(super) upload: UploadView,
}

impl From<query_service::BatchView> for BatchView {
    fn from(view: query_service::BatchView) -> Self {
        let query_service::BatchView { batch, status, percent, eta_seconds, waiting } = view;
        let (counts, refused) = (batch.counts, batch.refused);
        Self {
            batch_id: batch.id,
            error_message: (status == batch::Status::Failed).then(|| match counts.total {
                0 => format!("no file was accepted: {refused} of {refused} were refused"),
                total => format!("all {total} uploads failed; each says why"),
            }),
            status: status.into(),
            total_uploads: counts.total,
            processed_uploads: counts.processed(),
            successful_uploads: counts.completed,
            failed_uploads: counts.failed,
            cancelled_uploads: counts.cancelled,
            needs_review_uploads: counts.needs_review,
            refused_files: refused,
            progress_percentage: percent,
            created_at: batch.created_at.to_string(),
            started_at: batch.started_at.map(|at| at.to_string()),
            completed_at: batch.completed_at.map(|at| at.to_string()),
            paused_at: batch.paused_at.map(|at| at.to_string()),
            eta_seconds,
            waiting,
        }
    }
}

impl UploadView {
    /// An upload as the request's client reads it, with URLs that lead to where the request came in.
    pub(super) fn of(upload: Upload, request: &HttpRequest) -> Self {
        let url = |what: &str| format!("{}/v1/uploads/{}/{what}", mount(request), upload.id);
        let (described, embedded) = (upload.description, upload.embedded_by);
        let by = described.as_ref().map(|it| &it.by);
        // Of an upload that goes on or ended well, what an attempt left is among the failures only.
        let error_message = match upload.status {
            upload::Status::Failed => upload.failures.last().map(|it| it.message.clone()),
            upload::Status::Cancelled => Some(CANCELLED.to_owned()),
            upload::Status::Pending
            | upload::Status::Analyzing
            | upload::Status::Embedding
            | upload::Status::Completed => None,
        };
        Self {
            id: upload.id,
            batch_id: upload.batch_id,
            user_id: upload.owner.to_string(),
            file_path: url("original"),
            thumbnail_path: (upload.thumbnail == Thumbnail::Made).then(|| url("thumbnail")),
            filename: upload.file_name,
            file_type: match upload.format.kind() {
                Kind::Image => FileType::Image,
                Kind::Video => FileType::Video,
            },
            file_size: upload.file_size,
            mime_type: upload.format.mime(),
            processing_status: upload.status.into(),
            stage: upload.stage.as_str(),
            description_audit_score: described.as_ref().map(|it| it.audit_score),
            needs_review: described.as_ref().is_some_and(|it| it.needs_review),
            has_embedding: embedded.is_some(),
            regeneration_count: described.as_ref().map_or(0, |it| it.asked.saturating_sub(1)),
            last_regenerated_at: described.as_ref().filter(|it| it.asked > 1).map(|it| it.at.to_string()),
            video_codec: upload.facts.as_ref().and_then(|it| it.video_codec.clone()),
            error_message,
            failures: upload.failures.into_iter().map(FailureView::from).collect(),
            metadata: Metadata { facts: upload.facts, objects: upload.objects },
            provenance: Provenance {
                content_hash: upload.content_hash,
                provider: by.map(|it| it.provider.clone()),
                vision_model: by.map(|it| it.vision_model.clone()),
                prompt_version: by.map(|it| it.prompt_version),
                audit_version: described.as_ref().map(|it| it.audit_version),
                described_at: described.as_ref().map(|it| it.at.to_string()),
                embedding_model: embedded.as_ref().map(|it| it.embedding_model.clone()),
                embedding_dimensions: embedded.as_ref().map(|it| it.dimensions),
            },
            description: described.map(|it| it.text),
            cancelled: upload.status == upload::Status::Cancelled,
            hidden: false,
            created_at: upload.created_at.to_string(),
            updated_at: upload.updated_at.to_string(),
        }
    }
}

/// Where the API of the server lies that a request came to: what stands before `/v1/` in its path.
fn mount(request: &HttpRequest) -> &str {
    request.path().rsplit_once("/v1/").map_or("", |(mount, _)| mount)
}

impl From<Failure> for FailureView {
    fn from(failure: Failure) -> Self {
        let Failure { attempt, stage, kind, message } = failure;
        Self { attempt, stage: stage.as_str(), kind: kind.as_str(), message }
    }
}

impl From<batch::Status> for BatchStatus {
    fn from(status: batch::Status) -> Self {
        match status {
            batch::Status::Pending => Self::Pending,
            batch::Status::Processing => Self::Processing,
            batch::Status::Completed => Self::Completed,
            batch::Status::Failed => Self::Failed,
            batch::Status::Cancelled => Self::Cancelled,
        }
    }
}

impl From<upload::Status> for UploadStatus {
    fn from(status: upload::Status) -> Self {
        match status {
            upload::Status::Pending => Self::Pending,
            upload::Status::Analyzing => Self::Analyzing,
            upload::Status::Embedding => Self::Embedding,
            upload::Status::Completed => Self::Completed,
            upload::Status::Failed => Self::Failed,
            upload::Status::Cancelled => Self::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use serde_json::{Value, json};

    use super::*;

    /// A video whose first attempt failed, as a client reads it.
    fn video(status: &str) -> Value {
        let id = UploadId::generate();
        let upload = serde_json::from_value(json!({
            "v": 1, "id": id, "batch_id": BatchId::generate(), "owner": "ann", "position": 0, "file": "stored",
            "file_name": "a.mp4", "file_size": 9, "content_hash": "0", "format": "mp4", "decode_bytes": 0,
            "created_at": "2026-05-04T10:11:12Z", "updated_at": "2026-05-04T10:11:12Z", "status": status, "stage": "queued",
            "run": 1, "attempt": 2, "attempts": [], "interruptions": 0, "provider_away": 0, "suspect": false,
            "failures": [{"attempt": 1, "stage": "vision_analysis", "kind": "undecodable", "message": "it broke"}],
            "thumbnail": "made", "facts": {"width": 4, "height": 3, "lightness": 50, "video_codec": "h264"}, "objects": [],
            "description": null, "embedded_by": null,
        }));
        let request = TestRequest::with_uri("/media/v1/uploads/x").to_http_request();
        let view = UploadView::of(upload.expect("a record"), &request);
        serde_json::to_value(view).expect("JSON")
    }

    #[test]
    fn an_upload_has_an_error_only_if_it_ended_badly() {
        for status in ["pending", "analyzing", "embedding", "completed"] {
            let view = video(status);
            assert_eq!(view["error_message"], Value::Null, "{status}");
            assert_eq!(view["failures"][0]["message"], "it broke", "{status}");
        }
        assert_eq!(video("failed")["error_message"], "it broke");
        assert_eq!(video("cancelled")["error_message"], "the upload was cancelled");
    }

    #[test]
    fn a_video_has_its_codec_and_urls_lead_to_where_the_request_came_in() {
        let view = video("completed");
        assert_eq!(view["video_codec"], "h264");
        let id = view["id"].as_str().expect("an id");
        assert_eq!(view["thumbnail_path"], format!("/media/v1/uploads/{id}/thumbnail"));
    }
}
