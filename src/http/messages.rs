//! What is said over sockets and streams, for the description of the API. The engine's `wire` makes the messages; a test holds the two together.
#![expect(dead_code, reason = "tells what messages look like")]

use serde::Deserialize;
use utoipa::ToSchema;

/// The first message of a client.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = SocketAuth)]
pub(super) enum First {
    /// Says who it is.
    Auth {
        /// A key or signed token; without configured authentication anything that is not empty.
        token: String,
    },
}

/// Later messages of a client. Others are ignored.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
#[schema(as = SocketRequest)]
pub(super) enum Request {
    /// Asks for `upload_*` of an upload, and is answered with its present state.
    SubscribeUpload {
        #[schema(format = Uuid)]
        upload_id: String,
    },
    /// Asks for no more of it.
    UnsubscribeUpload {
        #[schema(format = Uuid)]
        upload_id: String,
    },
    /// Asks for everything from an event on.
    Resume {
        /// The last event that is known; 0: none.
        after_seq: u64,
    },
    /// Asks for a sign of life, `{"action":"pong"}`.
    Ping,
    /// Gives one.
    Pong,
}

/// What a client is told.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Message {
    /// Where an upload stands.
    UploadProgress {
        #[schema(format = DateTime)]
        timestamp: String,
        /// Number of the event, or of the last one before it.
        seq: u64,
        payload: UploadProgress,
    },
    /// An upload ended well.
    UploadCompleted {
        #[schema(format = DateTime)]
        timestamp: String,
        seq: u64,
        #[schema(format = Uuid)]
        upload_id: String,
        #[schema(format = Uuid)]
        batch_id: String,
        description: String,
        /// 0 to 100.
        audit_score: u8,
        /// A person should look at it.
        needs_review: bool,
    },
    /// An upload ended badly, was cancelled or deleted.
    UploadFailed {
        #[schema(format = DateTime)]
        timestamp: String,
        seq: u64,
        #[schema(format = Uuid)]
        upload_id: String,
        #[schema(format = Uuid)]
        batch_id: String,
        error_message: String,
        /// It was cancelled or deleted.
        cancelled: bool,
    },
    /// Where a batch stands.
    BatchProgress {
        #[schema(format = DateTime)]
        timestamp: String,
        seq: u64,
        payload: BatchProgress,
    },
    /// Where a file of a batch stands.
    FileProgress {
        #[schema(format = DateTime)]
        timestamp: String,
        seq: u64,
        payload: FileProgress,
    },
    /// What follows was missed.
    Resumed {
        #[schema(format = DateTime)]
        timestamp: String,
        /// The number that was asked for; with `snapshot`, that of the newest event.
        seq: u64,
        /// The events are no longer kept: the present state of unfinished and recent batches follows instead.
        snapshot: bool,
    },
    /// The socket is that of an owner.
    AuthSuccess {
        /// The owner.
        user_id: String,
    },
    /// The socket is refused, and about to be closed.
    AuthError {
        /// Why, in one sentence.
        message: String,
    },
    /// Are you there?
    Ping,
}

/// Where an upload stands.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UploadProgress {
    #[schema(format = Uuid)]
    upload_id: String,
    #[schema(format = Uuid)]
    batch_id: String,
    status: ToldUploadStatus,
    stage: Stage,
    /// 0 to 100; never falls within an attempt.
    progress_percent: u8,
    message: String,
    /// Why the last attempt failed.
    error_message: Option<String>,
    /// 0 to 100.
    description_audit_score: Option<u8>,
    cancelled: bool,
}

/// A cancelled upload is told as failed.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ToldUploadStatus {
    Pending,
    Analyzing,
    Embedding,
    Completed,
    Failed,
}

/// The step that an upload is in.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Queued,
    ExtractingFrames,
    VisionAnalysis,
    DescriptionAudit,
    EmbeddingGeneration,
    Indexing,
    Completed,
    Failed,
}

/// Where a batch stands.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchProgress {
    #[schema(format = Uuid)]
    batch_id: String,
    status: ToldBatchStatus,
    total: u32,
    processed: u32,
    successful: u32,
    failed: u32,
    cancelled: u32,
    needs_review: u32,
    /// 0 to 100.
    progress_percentage: u8,
    eta_seconds: Option<u64>,
    /// What is waited for, in one sentence.
    waiting: Option<String>,
    /// The number of the run that ended with this event.
    ends_run: Option<u32>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ToldBatchStatus {
    Pending,
    Processing,
    Completed,
    Failed,
    Cancelled,
}

/// Where a file stands.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileProgress {
    #[schema(format = Uuid)]
    batch_id: String,
    #[schema(format = Uuid)]
    upload_id: String,
    file_name: String,
    file_size: u64,
    /// 0 to 100.
    progress_percentage: u8,
    status: FileStatus,
    /// It was cancelled or deleted.
    cancelled: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum FileStatus {
    Processing,
    Completed,
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use mediamill_actors::{
        batch,
        id::{BatchId, Owner, UploadId},
        upload,
        wire::{self, Message as Told},
    };

    #[test]
    fn the_description_of_messages_is_that_of_what_is_sent() {
        let (upload_id, batch_id) = (UploadId::generate(), BatchId::generate());
        let (timestamp, seq) = (jiff::Timestamp::UNIX_EPOCH, 1);
        let told = [
            Told::UploadProgress {
                timestamp,
                seq,
                payload: wire::UploadProgress {
                    upload_id,
                    batch_id,
                    status: upload::Status::Analyzing,
                    stage: upload::Stage::VisionAnalysis,
                    progress_percent: 10,
                    message: String::new(),
                    error_message: None,
                    description_audit_score: None,
                    cancelled: false,
                },
            },
            Told::UploadCompleted {
                timestamp,
                seq,
                upload_id,
                batch_id,
                description: String::new(),
                audit_score: 100,
                needs_review: false,
            },
            Told::UploadFailed {
                timestamp,
                seq,
                upload_id,
                batch_id,
                error_message: String::new(),
                cancelled: false,
            },
            Told::BatchProgress {
                timestamp,
                seq,
                payload: wire::BatchProgress {
                    batch_id,
                    status: batch::Status::Processing,
                    total: 1,
                    processed: 0,
                    successful: 0,
                    failed: 0,
                    cancelled: 0,
                    needs_review: 0,
                    progress_percentage: 0,
                    eta_seconds: None,
                    waiting: None,
                    ends_run: None,
                },
            },
            Told::FileProgress {
                timestamp,
                seq,
                payload: wire::FileProgress {
                    batch_id,
                    upload_id,
                    file_name: String::new(),
                    file_size: 1,
                    progress_percentage: 0,
                    status: wire::FileStatus::Processing,
                    cancelled: false,
                },
            },
            Told::Resumed { timestamp, seq, snapshot: false },
            Told::AuthSuccess { user_id: Owner::local() },
            Told::AuthError { message: String::new() },
            Told::Ping,
        ];
        for told in told {
            let json = serde_json::to_value(&told).expect("JSON");
            serde_json::from_value::<Message>(json).expect("as it is described");
        }
    }
}
