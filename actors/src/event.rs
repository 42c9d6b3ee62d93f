//! The event log's entries. They contain ids, codes and numbers, never names or text.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    batch::Tally,
    id::{BatchId, UploadId},
    upload::{FailureKind, Stage},
};

/// One change of state, written in the same transaction as the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Version of this entry's form: 1.
    pub v: u8,
    /// Number among the owner's events, from 1, without gaps.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// Its batch. [`EventKind::ProviderChanged`] has the owner's first unfinished batch, and none in
    /// events of older versions.
    pub batch_id: Option<BatchId>,
    /// The state of the batch right after the event.
    pub batch: Option<Tally>,
    /// The upload that it is about.
    pub upload_id: Option<UploadId>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum EventKind {
    /// A batch was submitted.
    BatchSubmitted,
    /// The batch was paused: no more of its uploads begin.
    BatchPaused,
    /// The batch was resumed: its uploads begin again.
    BatchResumed,
    /// The batch was cancelled. An event for each of its unfinished uploads follows.
    BatchCancelled,
    /// The failed uploads of the batch were queued for a new round.
    BatchRetried {
        /// Number of the round.
        #[serde(alias = "run")]
        round: u32,
    },
    /// The batch was deleted, after its uploads. Nothing follows about it.
    BatchDeleted,
    /// A worker began an attempt.
    UploadBegun {
        /// Number of the attempt.
        attempt: u32,
    },
    /// A description was recorded.
    UploadDescribed {
        /// Number of the attempt.
        attempt: u32,
        /// Audit score, 0 to 100.
        audit_score: u8,
        /// Whether the description failed the audit.
        needs_review: bool,
        /// How long it took from the beginning of the attempt's description, in milliseconds.
        took_ms: u64,
    },
    /// The upload completed.
    UploadCompleted {
        /// Number of the attempt.
        attempt: u32,
        /// Audit score, 0 to 100.
        audit_score: u8,
        /// Whether the description failed the audit.
        needs_review: bool,
        /// How long the embedding took, in milliseconds.
        took_ms: u64,
    },
    /// An attempt failed.
    UploadFailed {
        /// Number of the attempt.
        attempt: u32,
        /// The stage in which it failed.
        stage: Stage,
        /// The kind of failure.
        kind: FailureKind,
        /// Whether the upload failed with it; otherwise another attempt follows.
        last: bool,
    },
    /// An attempt ended without counting: the provider was away, or the process stopped in good order.
    UploadHandedBack {
        /// Number of the attempt.
        attempt: u32,
    },
    /// The process died under an attempt.
    UploadInterrupted {
        /// Number of the attempt.
        attempt: u32,
        /// Whether the upload failed with it.
        last: bool,
    },
    /// The upload was cancelled.
    UploadCancelled,
    /// The upload was deleted.
    UploadDeleted {
        /// Whether it was unfinished.
        unfinished: bool,
    },
    /// The provider went away, came back, or is misconfigured. Every owner with unfinished
    /// uploads gets this event.
    ProviderChanged,
}
