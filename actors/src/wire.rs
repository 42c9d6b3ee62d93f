//! What subscribers are told, in the form in which clients read it. Pure.
//!
//! One event gives, in this order: `upload_progress`, `file_progress`, `upload_completed` or `upload_failed`, `batch_progress`.

mod render;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::render::{Live, batch_now, end_now, percent_now, told, upload_now, waiting};
use crate::{
    batch::Status as BatchStatus,
    id::{BatchId, Owner, UploadId},
    upload::{Stage, Status},
};

/// One message to a subscriber. Its JSON is an object whose `action` is the variant's name in snake case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Message {
    /// Where an upload stands.
    UploadProgress {
        /// When it stood so.
        timestamp: Timestamp,
        /// Number of the event, or of the last one before it.
        seq: u64,
        /// Where it stands.
        payload: UploadProgress,
    },
    /// An upload ended well; nothing about it follows.
    UploadCompleted {
        /// When it ended.
        timestamp: Timestamp,
        /// Number of the event.
        seq: u64,
        /// The upload.
        upload_id: UploadId,
        /// Its batch.
        batch_id: BatchId,
        /// What is to be seen; empty if the upload was deleted since.
        description: String,
        /// Audit score of the description, 0 to 100.
        audit_score: u8,
        /// It failed the audit, and a person should look at it.
        needs_review: bool,
    },
    /// An upload ended badly, was cancelled or deleted; nothing about it follows until it is retried.
    UploadFailed {
        /// When it ended.
        timestamp: Timestamp,
        /// Number of the event.
        seq: u64,
        /// The upload.
        upload_id: UploadId,
        /// Its batch.
        batch_id: BatchId,
        /// Why, in one sentence.
        error_message: String,
        /// It was cancelled or deleted.
        cancelled: bool,
    },
    /// Where a batch stands.
    BatchProgress {
        /// When it stood so.
        timestamp: Timestamp,
        /// Number of the event, or of the last one before it.
        seq: u64,
        /// Where it stands.
        payload: BatchProgress,
    },
    /// Where a file of a batch stands.
    FileProgress {
        /// When it stood so.
        timestamp: Timestamp,
        /// Number of the event, or of the last one before it.
        seq: u64,
        /// Where it stands.
        payload: FileProgress,
    },
    /// What follows was missed.
    Resumed {
        /// When it was resumed.
        timestamp: Timestamp,
        /// The number that was asked for; with `snapshot`, that of the newest event.
        seq: u64,
        /// The events are no longer kept: the present state of unfinished and recent batches follows instead.
        snapshot: bool,
    },
    /// A connection is that of an owner.
    AuthSuccess {
        /// The owner.
        user_id: Owner,
    },
    /// A connection is refused.
    AuthError {
        /// Why, in one sentence.
        message: String,
    },
    /// Are you there?
    Ping,
}

/// Where an upload stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadProgress {
    /// The upload.
    pub upload_id: UploadId,
    /// Its batch.
    pub batch_id: BatchId,
    /// Its status; a cancelled upload is told as failed.
    pub status: Status,
    /// The step that it is in.
    pub stage: Stage,
    /// 0 to 100; never falls within an attempt.
    pub progress_percent: u8,
    /// What is done at the moment, in a few words.
    pub message: String,
    /// Why the last attempt failed.
    pub error_message: Option<String>,
    /// Audit score of the description, 0 to 100.
    pub description_audit_score: Option<u8>,
    /// It was cancelled.
    pub cancelled: bool,
}

/// Where a batch stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchProgress {
    /// The batch.
    pub batch_id: BatchId,
    /// Its status.
    pub status: BatchStatus,
    /// All its uploads.
    pub total: u32,
    /// Those that ended, one way or another.
    pub processed: u32,
    /// Those that ended well.
    pub successful: u32,
    /// Those that ended badly.
    pub failed: u32,
    /// Those that were cancelled.
    pub cancelled: u32,
    /// Among the successful: a person should look at the description.
    pub needs_review: u32,
    /// Percent of the uploads that ended, rounded down.
    pub progress_percentage: u8,
    /// Seconds until the last upload ends, if that can be told.
    pub eta_seconds: Option<u64>,
    /// What is waited for, in one sentence.
    pub waiting: Option<String>,
    /// The number of the run that ended with this event: told once a run, with its last event.
    pub ends_run: Option<u32>,
}

/// Where a file of a batch stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProgress {
    /// The batch.
    pub batch_id: BatchId,
    /// The upload.
    pub upload_id: UploadId,
    /// The file's name without folders; empty if the upload was deleted since.
    pub file_name: String,
    /// Length in bytes; 0 if the upload was deleted since.
    pub file_size: u64,
    /// 0 to 100; never falls within an attempt.
    pub progress_percentage: u8,
    /// Where it stands.
    pub status: FileStatus,
    /// It was cancelled or deleted.
    pub cancelled: bool,
}

/// Where a file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// It waits or is worked on.
    Processing,
    /// It ended well.
    Completed,
    /// It ended badly, was cancelled or deleted.
    Failed,
}

impl Message {
    /// Number of the event that it tells of, or of the last one before it; `None` for what is no news.
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

    /// The upload that it is about.
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

    /// The batch that it is about, or that its upload belongs to.
    pub fn batch_id(&self) -> Option<BatchId> {
        match self {
            Self::UploadProgress { payload, .. } => Some(payload.batch_id),
            Self::FileProgress { payload, .. } => Some(payload.batch_id),
            Self::BatchProgress { payload, .. } => Some(payload.batch_id),
            Self::UploadCompleted { batch_id, .. } | Self::UploadFailed { batch_id, .. } => Some(*batch_id),
            Self::Resumed { .. } | Self::AuthSuccess { .. } | Self::AuthError { .. } | Self::Ping => None,
        }
    }

    /// The upload that one must have chosen to be told this; `None` for what all of an owner's subscribers are told.
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

    /// Whether nothing about its upload follows, until that is retried.
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
            message: "describing".into(),
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
                    "upload_id": upload_id, "batch_id": batch_id, "status": "analyzing", "stage": "vision_analysis",
                    "progress_percent": 33, "message": "describing", "error_message": null,
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
                    "failed": 1, "cancelled": 0, "needs_review": 1, "progress_percentage": 66, "eta_seconds": null,
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
