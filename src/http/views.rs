//! Batches and uploads in the form that clients read.

use actix_web::HttpRequest;
use mediamill_actors::{
    analysis::Object as DetectedObject,
    batch,
    id::{BatchId, UploadId},
    media::{Facts, Kind},
    query_service, text,
    upload::{self, Failure, Stage, Thumbnail, Upload},
};
use serde::Serialize;
use utoipa::ToSchema;

/// The error message of a cancelled upload, as in messages.
const CANCELLED: &str = "the upload was cancelled";

/// A batch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Batch)]
pub(super) struct BatchView {
    /// Its id.
    batch_id: BatchId,
    status: batch::Status,
    /// Number of its uploads.
    total_uploads: u32,
    /// Uploads that completed, failed or were cancelled.
    processed_uploads: u32,
    /// Uploads that completed.
    successful_uploads: u32,
    /// Uploads that failed.
    failed_uploads: u32,
    /// Uploads that were cancelled.
    cancelled_uploads: u32,
    /// Completed uploads whose description a person should review.
    needs_review_uploads: u32,
    /// Files that were refused, and have no upload.
    refused_files: u32,
    /// `processed_uploads` in percent of `total_uploads`, rounded down.
    #[schema(maximum = 100)]
    progress_percentage: u8,
    /// When it was submitted.
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    /// When its first upload began, in this round.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<String>,
    /// When its last upload ended, in this round.
    #[schema(value_type = Option<String>, format = DateTime)]
    completed_at: Option<String>,
    /// When it was paused, if it is.
    #[schema(value_type = Option<String>, format = DateTime)]
    paused_at: Option<String>,
    /// Why it failed, in one sentence.
    error_message: Option<String>,
    /// Estimated seconds until the last upload ends, if there is an estimate.
    eta_seconds: Option<u64>,
    /// Why it is waiting, in one sentence.
    waiting: Option<String>,
}

/// An upload.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Upload)]
pub(super) struct UploadView {
    /// Its id.
    id: UploadId,
    /// Its batch.
    batch_id: BatchId,
    /// Its owner.
    user_id: String,
    /// Name of the file without folders.
    filename: String,
    /// URL of the file.
    file_path: String,
    /// URL of the thumbnail, once there is one.
    thumbnail_path: Option<String>,
    file_type: FileType,
    /// Length in bytes.
    file_size: u64,
    /// Further files of the same shot: the video of a Live Photo, the raw file beside a JPEG.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    companion: Vec<CompanionView>,
    /// Media type, detected from the content.
    #[schema(example = "image/jpeg")]
    mime_type: &'static str,
    processing_status: ProcessingStatus,
    stage: Stage,
    /// Description of the content.
    description: Option<String>,
    /// Audit score of the description, 0 to 100.
    #[schema(maximum = 100)]
    description_audit_score: Option<u8>,
    /// The description failed the audit, and a person should review it.
    needs_review: bool,
    /// Whether the search can find it.
    has_embedding: bool,
    /// Requests for a description after the first.
    regeneration_count: u32,
    /// When the last of those was answered.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_regenerated_at: Option<String>,
    /// Codec of a video, if known.
    video_codec: Option<String>,
    /// Why it failed, or that it was cancelled.
    error_message: Option<String>,
    /// Failed attempts of this round, at most two.
    failures: Vec<Failure>,
    metadata: Metadata,
    provenance: Provenance,
    /// It was cancelled; then its `processing_status` is `failed`, which older clients know.
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

/// The status of an upload. A cancelled one is `failed`, as in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ProcessingStatus {
    /// It waits for a worker.
    Pending,
    /// A worker prepares and describes it.
    Analyzing,
    /// It has a description, and its embedding is being made.
    Embedding,
    /// Description and embedding are durable.
    Completed,
    /// Two attempts failed, it interrupted the process too often, or it was cancelled.
    Failed,
}

impl From<upload::Status> for ProcessingStatus {
    fn from(status: upload::Status) -> Self {
        match status {
            upload::Status::Pending => Self::Pending,
            upload::Status::Analyzing => Self::Analyzing,
            upload::Status::Embedding => Self::Embedding,
            upload::Status::Completed => Self::Completed,
            upload::Status::Failed | upload::Status::Cancelled => Self::Failed,
        }
    }
}

/// Facts and objects.
#[derive(Debug, Serialize, ToSchema)]
struct Metadata {
    /// Facts from pixels and camera metadata; null until the file was decoded.
    facts: Option<Facts>,
    /// Objects that the provider found.
    objects: Vec<DetectedObject>,
}

/// The origin of description and embedding.
#[derive(Debug, Serialize, ToSchema)]
struct Provenance {
    /// SHA-256 of the content, in hexadecimal digits.
    content_hash: String,
    /// The provider that described it, such as `ollama`.
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

/// A result of a search.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Found {
    /// Cosine similarity of description and words, -1 to 1.
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
                total => format!("all {total} uploads failed; each has its reason"),
            }),
            status,
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

/// A further file of the shot of an upload.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CompanionView {
    filename: String,
    mime_type: &'static str,
    /// Length in bytes.
    file_size: u64,
}

impl CompanionView {
    fn of(companion: &upload::Companion) -> Self {
        Self {
            filename: companion.file_name(),
            mime_type: companion.format.mime(),
            file_size: companion.file_size,
        }
    }
}

impl UploadView {
    /// An upload with URLs below the API that the request was sent to.
    pub(super) fn of(upload: Upload, request: &HttpRequest) -> Self {
        let url = |what: &str| format!("{}/v1/uploads/{}/{what}", mount(request), upload.id);
        let (described, embedded) = (upload.description, upload.embedded_by);
        let by = described.as_ref().map(|it| &it.by);
        // Only an upload that failed or was cancelled has an error; failed attempts of others are in
        // `failures`.
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
            filename: text::one_line(&upload.file_name).into_owned(),
            file_type: match upload.format.kind() {
                Kind::Image => FileType::Image,
                Kind::Video => FileType::Video,
            },
            file_size: upload.file_size,
            companion: upload.companions.iter().map(CompanionView::of).collect(),
            mime_type: upload.format.mime(),
            processing_status: upload.status.into(),
            stage: upload.stage,
            description_audit_score: described.as_ref().map(|it| it.audit_score),
            needs_review: described.as_ref().is_some_and(|it| it.needs_review),
            has_embedding: embedded.is_some(),
            regeneration_count: described.as_ref().map_or(0, |it| it.asked.saturating_sub(1)),
            last_regenerated_at: described.as_ref().filter(|it| it.asked > 1).map(|it| it.at.to_string()),
            video_codec: upload.facts.as_ref().and_then(|it| it.video_codec.clone()),
            error_message,
            failures: upload.failures,
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
            description: described.map(|it| text::plain(it.text)),
            cancelled: upload.status == upload::Status::Cancelled,
            hidden: false,
            created_at: upload.created_at.to_string(),
            updated_at: upload.updated_at.to_string(),
        }
    }
}

/// Path of the API that a request was sent to: the part before `/v1/`.
pub(super) fn mount(request: &HttpRequest) -> &str {
    request.path().rsplit_once("/v1/").map_or("", |(mount, _)| mount)
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
            "v": 1, "id": id, "batch_id": BatchId::generate(), "owner": "ann", "position": 0,
            "file": "stored",
            "file_name": "a.mp4", "file_size": 9, "content_hash": "0", "format": "mp4", "decode_bytes": 0,
            "created_at": "2026-05-04T10:11:12Z", "updated_at": "2026-05-04T10:11:12Z", "status": status,
            "stage": "queued",
            "run": 1, "attempt": 2, "attempts": [], "interruptions": 0, "provider_away": 0, "suspect": false,
            "failures": [
                {"attempt": 1, "stage": "vision_analysis", "kind": "undecodable", "message": "it broke"},
            ],
            "thumbnail": "made",
            "facts": {"width": 4, "height": 3, "lightness": 50, "video_codec": "h264", "notes": ["it is odd"]},
            "objects": [],
            "description": null, "embedded_by": null,
        }));
        let request = TestRequest::with_uri("/media/v1/uploads/x").to_http_request();
        let view = UploadView::of(upload.expect("a record"), &request);
        serde_json::to_value(view).expect("JSON")
    }

    #[test]
    fn an_upload_has_an_error_only_if_it_failed_or_was_cancelled() {
        for status in ["pending", "analyzing", "embedding", "completed"] {
            let view = video(status);
            assert_eq!(view["error_message"], Value::Null, "{status}");
            assert_eq!(view["failures"][0]["message"], "it broke", "{status}");
        }
        assert_eq!(video("failed")["error_message"], "it broke");
        assert_eq!(video("cancelled")["error_message"], "the upload was cancelled");
    }

    #[test]
    fn a_cancelled_upload_is_failed_with_a_mark() {
        for (status, mark) in [("failed", false), ("cancelled", true)] {
            let view = video(status);
            assert_eq!((&view["processing_status"], &view["cancelled"]), (&json!("failed"), &json!(mark)));
        }
    }

    #[test]
    fn notes_about_a_file_reach_the_client() {
        assert_eq!(video("completed")["metadata"]["facts"]["notes"], json!(["it is odd"]));
    }

    #[test]
    fn a_video_has_its_codec_and_urls_below_the_api_of_the_request() {
        let view = video("completed");
        assert_eq!(view["video_codec"], "h264");
        let id = view["id"].as_str().expect("an id");
        assert_eq!(view["thumbnail_path"], format!("/media/v1/uploads/{id}/thumbnail"));
    }
}
