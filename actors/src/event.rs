//! What happened, numbered: the entries of the event log. They hold ids, codes and numbers, never
//! names or text.

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
    /// Its batch; `None` for [`EventKind::ProviderChanged`].
    pub batch_id: Option<BatchId>,
    /// How the batch stood right after it.
    pub batch: Option<Tally>,
    /// The upload that it happened to.
    pub upload_id: Option<UploadId>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The sorts of event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum EventKind {
    /// A batch was submitted.
    BatchSubmitted,
    /// No more of its uploads are begun.
    BatchPaused,
    /// Its uploads are begun again.
    BatchResumed,
    /// It was cancelled; an event for each of its unfinished uploads follows.
    BatchCancelled,
    /// Its failed uploads begin a new round.
    BatchRetried {
        /// Number of the round.
        #[serde(alias = "run")]
        round: u32,
    },
    /// A worker began an attempt.
    UploadBegun {
        /// Number of the attempt.
        attempt: u32,
    },
    /// The description is kept.
    UploadDescribed {
        /// Number of the attempt.
        attempt: u32,
        /// Audit score, 0 to 100.
        audit_score: u8,
        /// It failed the audit.
        needs_review: bool,
        /// How long it took from the beginning of the attempt's description, in milliseconds.
        took_ms: u64,
    },
    /// The upload ended well.
    UploadCompleted {
        /// Number of the attempt.
        attempt: u32,
        /// Audit score, 0 to 100.
        audit_score: u8,
        /// It failed the audit.
        needs_review: bool,
        /// How long the embedding took, in milliseconds.
        took_ms: u64,
    },
    /// An attempt failed.
    UploadFailed {
        /// Number of the attempt.
        attempt: u32,
        /// The step that it failed in.
        stage: Stage,
        /// The sort of failure.
        kind: FailureKind,
        /// The upload failed with it; otherwise it is tried once more.
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
        /// The upload failed with it.
        last: bool,
    },
    /// The upload was cancelled.
    UploadCancelled,
    /// The upload was deleted.
    UploadDeleted {
        /// It had not ended before.
        unfinished: bool,
    },
    /// The provider went away, came back, or is misconfigured. It happened to every owner with
    /// unfinished uploads.
    ProviderChanged,
}
