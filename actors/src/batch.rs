//! The batch: its record, and its status, which follows from its uploads. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    id::{BatchId, Owner},
    upload::{Status as UploadStatus, Upload},
};

/// The status of a batch, derived from its uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = BatchStatus))]
pub enum Status {
    /// No upload has begun.
    Pending,
    /// An upload has begun, and some are unfinished.
    Processing,
    /// All uploads ended and not all failed, or all were deleted.
    Completed,
    /// All uploads failed, or no file was accepted.
    Failed,
    /// The batch was cancelled, and no attempt runs any more.
    Cancelled,
}

impl Status {
    /// Whether nothing more happens in this round.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Processing)
    }

    /// The name in records and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The number of a batch's uploads by status. A cache of the upload records, written in the same
/// transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// All uploads.
    pub total: u32,
    /// Uploads with a running attempt.
    pub active: u32,
    /// Completed uploads.
    pub completed: u32,
    /// Failed uploads.
    pub failed: u32,
    /// Cancelled uploads.
    pub cancelled: u32,
    /// Completed uploads whose description a person should review.
    pub needs_review: u32,
}

impl Counts {
    /// Uploads that have ended.
    pub fn processed(&self) -> u32 {
        self.completed + self.failed + self.cancelled
    }

    /// Uploads that have not ended.
    pub fn unfinished(&self) -> u32 {
        self.total - self.processed()
    }

    /// Percentage of uploads that have ended, rounded down; 100 if there are no uploads.
    pub fn percent(&self) -> u8 {
        (u64::from(self.processed()) * 100).checked_div(u64::from(self.total)).unwrap_or(100) as u8
    }

    /// Adds an upload to the counts.
    pub fn add(&mut self, upload: impl Into<Counted>) {
        let upload = upload.into();
        self.total += 1;
        if let Some(cell) = self.cell(upload.status) {
            *cell += 1;
        }
        self.needs_review += u32::from(upload.needs_review);
    }

    /// Removes an upload that was added in the same state.
    pub fn remove(&mut self, upload: impl Into<Counted>) {
        let upload = upload.into();
        self.total -= 1;
        if let Some(cell) = self.cell(upload.status) {
            *cell -= 1;
        }
        self.needs_review -= u32::from(upload.needs_review);
    }

    /// Adds the counts of another batch.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Self { total, active, completed, failed, cancelled, needs_review } = other;
        self.total += total;
        self.active += active;
        self.completed += completed;
        self.failed += failed;
        self.cancelled += cancelled;
        self.needs_review += needs_review;
    }

    fn cell(&mut self, status: UploadStatus) -> Option<&mut u32> {
        match status {
            UploadStatus::Pending => None,
            UploadStatus::Analyzing | UploadStatus::Embedding => Some(&mut self.active),
            UploadStatus::Completed => Some(&mut self.completed),
            UploadStatus::Failed => Some(&mut self.failed),
            UploadStatus::Cancelled => Some(&mut self.cancelled),
        }
    }
}

/// The part of an upload record that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    status: UploadStatus,
    needs_review: bool,
}

impl Counted {
    /// Whether it waits for a worker.
    pub(crate) fn waits(self) -> bool {
        self.status == UploadStatus::Pending
    }
}

impl From<&Upload> for Counted {
    fn from(upload: &Upload) -> Self {
        let completed = upload.status == UploadStatus::Completed;
        let needs_review = completed && upload.description.as_ref().is_some_and(|it| it.needs_review);
        Self { status: upload.status, needs_review }
    }
}

/// The state of a batch right after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Its status.
    pub status: Status,
    /// Its counts.
    #[serde(flatten)]
    pub counts: Counts,
    /// Whether it was paused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The number of the round that this event ended; each round has one such event.
    #[serde(default, rename = "ends_run", skip_serializing_if = "Option::is_none")]
    pub ends_round: Option<u32>,
}

impl Tally {
    /// The tally of `batch`.
    pub fn of(batch: &Batch, ends_round: Option<u32>) -> Self {
        Self { status: batch.status(), counts: batch.counts, paused: batch.paused_at.is_some(), ends_round }
    }
}

/// The base of the estimate of the time left: when the present pace began, and from which count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// When the work began, or continued after a stop.
    pub since: Timestamp,
    /// Number of uploads that had ended then.
    pub processed: u32,
}

impl Pace {
    /// Seconds until the last upload ends; `None` until three uploads have ended at the present
    /// pace.
    pub fn eta_seconds(&self, counts: &Counts, now: Timestamp) -> Option<u64> {
        let done = counts.processed().checked_sub(self.processed).filter(|done| *done >= 3)?;
        let left = counts.unfinished();
        let elapsed = now.duration_since(self.since).as_millis().max(0) as u64;
        (left > 0).then(|| (elapsed * u64::from(left)).div_ceil(u64::from(done) * 1000))
    }
}

/// The record of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Version of this record's form: 1.
    pub v: u8,
    /// Id of the batch.
    pub id: BatchId,
    /// Order of submission. Batches of an owner begin in the order of this number, since ids have
    /// no order.
    pub number: u64,
    /// Its owner.
    pub owner: Owner,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When its first upload began, in this round.
    pub started_at: Option<Timestamp>,
    /// When its last upload ended, in this round.
    pub completed_at: Option<Timestamp>,
    /// When it was paused; `None` if it is not paused.
    pub paused_at: Option<Timestamp>,
    /// When it was cancelled, in this round.
    pub cancelled_at: Option<Timestamp>,
    /// Number of the round, from 1.
    #[serde(alias = "run")]
    pub round: u32,
    /// Number of the last round that has ended.
    #[serde(alias = "ended_run")]
    pub ended_round: u32,
    /// Files that were refused at admission and have no record.
    pub refused: u32,
    /// Files that became uploads, including those deleted since.
    #[serde(default)]
    pub accepted: u32,
    /// Whether more of its uploads are still being written. None begins before all are written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub arriving: bool,
    /// Files that were to become uploads, while they are being written and if their writing was cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u32>,
    /// Number of uploads by status.
    pub counts: Counts,
    /// The base of the estimate of the time left.
    pub pace: Option<Pace>,
}

impl Batch {
    /// A batch whose uploads are not written yet.
    pub fn new(id: BatchId, number: u64, owner: Owner, refused: u32, now: Timestamp) -> Self {
        Self {
            v: 1,
            id,
            number,
            owner,
            created_at: now,
            started_at: None,
            completed_at: None,
            paused_at: None,
            cancelled_at: None,
            round: 1,
            ended_round: 0,
            refused,
            accepted: 0,
            arriving: true,
            expected: None,
            counts: Counts::default(),
            pace: None,
        }
    }

    /// The status.
    pub fn status(&self) -> Status {
        let counts = &self.counts;
        if counts.unfinished() > 0 || self.arriving {
            let begun = self.started_at.is_some() || counts.processed() > 0;
            return if begun { Status::Processing } else { Status::Pending };
        }
        // Older records have no number of accepted files.
        let accepted = self.accepted > 0 || counts.total > 0 || self.started_at.is_some();
        let none_accepted = self.refused > 0 && !accepted;
        if self.cancelled_at.is_some() {
            Status::Cancelled
        } else if none_accepted || (counts.total > 0 && counts.failed == counts.total) {
            Status::Failed
        } else {
            Status::Completed
        }
    }

    /// Uploads that are not written yet.
    pub(crate) fn missing(&self) -> u64 {
        let missing = self.expected.filter(|_| self.arriving).map(|it| it.saturating_sub(self.accepted));
        u64::from(missing.unwrap_or_default())
    }

    /// Whether its uploads may be begun.
    pub fn is_open(&self) -> bool {
        self.paused_at.is_none() && self.cancelled_at.is_none() && !self.arriving
    }

    /// Seconds until the last upload ends; `None` until three uploads have ended at the present
    /// pace.
    pub fn eta_seconds(&self, now: Timestamp) -> Option<u64> {
        self.pace.filter(|_| self.paused_at.is_none())?.eta_seconds(&self.counts, now)
    }
}
