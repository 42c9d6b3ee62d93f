//! The messages to subscribers, in the form that clients read. Pure.
//!
//! An event is rendered to these messages, in this order: `upload_progress`, `file_progress`,
//! `upload_completed` or `upload_failed`, `batch_progress`.

mod render;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::render::{Live, batch_now, end_now, percent_now, render, upload_now, waiting};
use crate::{
    batch::Status as BatchStatus,
    id::{BatchId, Owner, UploadId},
    upload::{Stage, Status},
};

/// One message to a subscriber. Its JSON is an object whose `action` is the variant's name in snake case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Message {
    /// The state of an upload.
    UploadProgress {
        /// When this was the state.
        #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
        timestamp: Timestamp,
        /// Sequence number of the event, or of the last event before the message.
        seq: u64,
        /// The state.
        payload: UploadProgress,
    },
    /// An upload completed; no message about it follows.
    UploadCompleted {
        /// When it completed.
        #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
        timestamp: Timestamp,
        /// Sequence number of the event.
        seq: u64,
        /// The upload.
        upload_id: UploadId,
        /// Its batch.
        batch_id: BatchId,
        /// The description; empty if the upload was deleted since.
        description: String,
        /// Audit score of the description, 0 to 100.
        audit_score: u8,
        /// The description failed the audit, and a person should review it.
        needs_review: bool,
    },
    /// An upload failed, was cancelled or was deleted; no message about it follows until it is retried.
    UploadFailed {
        /// When it ended.
        #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
        timestamp: Timestamp,
        /// Sequence number of the event.
        seq: u64,
        /// The upload.
        upload_id: UploadId,
        /// Its batch.
        batch_id: BatchId,
        /// The reason, in one sentence.
        error_message: String,
        /// It was cancelled or deleted.
        cancelled: bool,
    },
    /// The state of a batch.
    BatchProgress {
        /// When this was the state.
        #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
        timestamp: Timestamp,
        /// Sequence number of the event, or of the last event before the message.
        seq: u64,
        /// The state.
        payload: BatchProgress,
    },
    /// The state of a file of a batch.
    FileProgress {
        /// When this was the state.
        #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
        timestamp: Timestamp,
        /// Sequence number of the event, or of the last event before the message.
        seq: u64,
        /// The state.
        payload: FileProgress,
    },
    /// The answer to a resume; the missed messages follow.
    Resumed {
        /// When the stream resumed.
        #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
        timestamp: Timestamp,
        /// The requested sequence number; with `snapshot`, that of the newest event.
        seq: u64,
        /// The requested events are no longer kept. The present state of unfinished and recent batches
        /// follows instead.
        snapshot: bool,
    },
    /// The token of a connection was accepted.
    AuthSuccess {
        /// The owner.
        user_id: Owner,
    },
    /// The token of a connection was refused, or has expired; the connection is closed next.
    AuthError {
        /// The reason, in one sentence.
        message: String,
    },
    /// A heartbeat.
    Ping,
}

/// The state of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct UploadProgress {
    /// The upload.
    pub upload_id: UploadId,
    /// Its batch.
    pub batch_id: BatchId,
    /// Its status; `failed` for a cancelled upload.
    pub status: Status,
    /// Its stage.
    pub stage: Stage,
    /// Progress in percent, 0 to 100; never decreases within an attempt.
    pub progress_percent: u8,
    /// The present work, in a few words.
    pub message: String,
    /// Why the last attempt failed.
    pub error_message: Option<String>,
    /// Audit score of the description, 0 to 100.
    pub description_audit_score: Option<u8>,
    /// It was cancelled.
    pub cancelled: bool,
}

/// The state of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BatchProgress {
    /// The batch.
    pub batch_id: BatchId,
    /// Its status.
    pub status: BatchStatus,
    /// Number of its uploads.
    pub total: u32,
    /// Uploads that completed, failed or were cancelled.
    pub processed: u32,
    /// Uploads that completed.
    pub successful: u32,
    /// Uploads that failed.
    pub failed: u32,
    /// Uploads that were cancelled.
    pub cancelled: u32,
    /// Completed uploads whose description a person should review.
    pub needs_review: u32,
    /// `processed` in percent of `total`, rounded down.
    pub progress_percentage: u8,
    /// Estimated seconds until the last upload ends, if there is an estimate.
    pub eta_seconds: Option<u64>,
    /// Why the batch is waiting, in one sentence.
    pub waiting: Option<String>,
    /// The number of the round that ended with this event: once per round, with its last event.
    pub ends_run: Option<u32>,
}

/// The state of a file of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FileProgress {
    /// The batch.
    pub batch_id: BatchId,
    /// The upload.
    pub upload_id: UploadId,
    /// Name of the file without folders; empty if the upload was deleted since.
    pub file_name: String,
    /// Length in bytes; 0 if the upload was deleted since.
    pub file_size: u64,
    /// Progress in percent, 0 to 100; never decreases within an attempt.
    pub progress_percentage: u8,
    /// Its status.
    pub status: FileStatus,
    /// It was cancelled or deleted.
    pub cancelled: bool,
}

/// The status of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum FileStatus {
    /// It is queued or in flight.
    Processing,
    /// It completed.
    Completed,
    /// It failed, was cancelled or was deleted.
    Failed,
}

impl Message {
    /// Sequence number of its event, or of the last event before it; `None` for messages of the connection
    /// itself.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::UploadProgress { seq, .. }
            | Self::UploadCompleted { seq, .. }
            | Self::UploadFailed { seq, .. }
            | Self::BatchProgress { seq, .. }
            | Self::FileProgress { seq, .. }
            | Self::Resumed { seq, .. } => Some(*seq),
            Self::AuthSuccess { .. } | Self::AuthError { .. } | Self::Ping => None,
        }
    }

    /// The upload that it is about, if any.
    pub fn upload_id(&self) -> Option<UploadId> {
        match self {
            Self::UploadProgress { payload, .. } => Some(payload.upload_id),
            Self::FileProgress { payload, .. } => Some(payload.upload_id),
            Self::UploadCompleted { upload_id, .. } | Self::UploadFailed { upload_id, .. } => {
                Some(*upload_id)
            }
            Self::BatchProgress { .. }
            | Self::Resumed { .. }
            | Self::AuthSuccess { .. }
            | Self::AuthError { .. }
            | Self::Ping => None,
        }
    }

    /// The batch that it is about or that its upload belongs to, if any.
    pub fn batch_id(&self) -> Option<BatchId> {
        match self {
            Self::UploadProgress { payload, .. } => Some(payload.batch_id),
            Self::FileProgress { payload, .. } => Some(payload.batch_id),
            Self::BatchProgress { payload, .. } => Some(payload.batch_id),
            Self::UploadCompleted { batch_id, .. } | Self::UploadFailed { batch_id, .. } => Some(*batch_id),
            Self::Resumed { .. } | Self::AuthSuccess { .. } | Self::AuthError { .. } | Self::Ping => None,
        }
    }

    /// The upload that a subscriber must watch to get this message; `None` if all subscribers of the owner
    /// get it.
    pub fn chosen_by(&self) -> Option<UploadId> {
        match self {
            Self::UploadProgress { .. } | Self::UploadCompleted { .. } | Self::UploadFailed { .. } => {
                self.upload_id()
            }
            Self::BatchProgress { .. }
            | Self::FileProgress { .. }
            | Self::Resumed { .. }
            | Self::AuthSuccess { .. }
            | Self::AuthError { .. }
            | Self::Ping => None,
        }
    }

    /// Returns `true` if no message about its upload follows until that is retried.
    pub fn ends_upload(&self) -> bool {
        matches!(self, Self::UploadCompleted { .. } | Self::UploadFailed { .. })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const AT: &str = "2026-01-01T00:00:00.25Z";

    fn json_of(message: &Message) -> Value {
        let text = serde_json::to_string(message).expect("JSON");
        assert_eq!(serde_json::from_str::<Message>(&text).as_ref().ok(), Some(message), "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn clients_read_these_names_and_types() {
        let (upload_id, batch_id) = (UploadId::generate(), BatchId::generate());
        let (timestamp, seq) = (AT.parse().expect("a time"), 7);
        let progress = UploadProgress {
            upload_id,
            batch_id,
            status: Status::Analyzing,
            stage: Stage::VisionAnalysis,
            progress_percent: 33,
            message: "describing the picture".into(),
            error_message: None,
            description_audit_score: None,
            cancelled: false,
        };
        let batch = BatchProgress {
            batch_id,
            status: BatchStatus::Processing,
            total: 3,
            processed: 2,
            successful: 1,
            failed: 1,
            cancelled: 0,
            needs_review: 1,
            progress_percentage: 66,
            eta_seconds: None,
            waiting: None,
            ends_run: None,
        };
        let file = FileProgress {
            batch_id,
            upload_id,
            file_name: "a.png".into(),
            file_size: 70,
            progress_percentage: 33,
            status: FileStatus::Processing,
            cancelled: false,
        };
        for (message, expected) in [
            (
                Message::UploadProgress { timestamp, seq, payload: progress },
                json!({"action": "upload_progress", "timestamp": AT, "seq": 7, "payload": {
                    "upload_id": upload_id, "batch_id": batch_id, "status": "analyzing",
                    "stage": "vision_analysis",
                    "progress_percent": 33, "message": "describing the picture", "error_message": null,
                    "description_audit_score": null, "cancelled": false,
                }}),
            ),
            (
                Message::UploadCompleted {
                    timestamp,
                    seq,
                    upload_id,
                    batch_id,
                    description: "A cat.".into(),
                    audit_score: 65,
                    needs_review: false,
                },
                json!({"action": "upload_completed", "timestamp": AT, "seq": 7, "upload_id": upload_id,
                    "batch_id": batch_id, "description": "A cat.", "audit_score": 65, "needs_review": false}),
            ),
            (
                Message::UploadFailed {
                    timestamp,
                    seq,
                    upload_id,
                    batch_id,
                    error_message: "it was cancelled".into(),
                    cancelled: true,
                },
                json!({"action": "upload_failed", "timestamp": AT, "seq": 7, "upload_id": upload_id,
                    "batch_id": batch_id, "error_message": "it was cancelled", "cancelled": true}),
            ),
            (
                Message::BatchProgress { timestamp, seq, payload: batch },
                json!({"action": "batch_progress", "timestamp": AT, "seq": 7, "payload": {
                    "batch_id": batch_id, "status": "processing", "total": 3, "processed": 2, "successful": 1,
                    "failed": 1, "cancelled": 0, "needs_review": 1, "progress_percentage": 66,
                    "eta_seconds": null,
                    "waiting": null, "ends_run": null,
                }}),
            ),
            (
                Message::FileProgress { timestamp, seq, payload: file },
                json!({"action": "file_progress", "timestamp": AT, "seq": 7, "payload": {
                    "batch_id": batch_id, "upload_id": upload_id, "file_name": "a.png", "file_size": 70,
                    "progress_percentage": 33, "status": "processing", "cancelled": false,
                }}),
            ),
            (
                Message::Resumed { timestamp, seq, snapshot: true },
                json!({"action": "resumed", "timestamp": AT, "seq": 7, "snapshot": true}),
            ),
            (
                Message::AuthSuccess { user_id: Owner::local() },
                json!({"action": "auth_success", "user_id": "local"}),
            ),
            (
                Message::AuthError { message: "the token is refused".into() },
                json!({"action": "auth_error", "message": "the token is refused"}),
            ),
            (Message::Ping, json!({"action": "ping"})),
        ] {
            assert_eq!(json_of(&message), expected);
        }
    }
}
