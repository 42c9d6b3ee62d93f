//! Renders an event, or the present state of a record, to messages.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{BatchProgress, FileProgress, FileStatus, Message, UploadProgress};
use crate::{
    batch::{Batch, Counts, Pace, Tally},
    event::{Event, EventKind},
    id::{BatchId, UploadId},
    progress::{ENDED, Step},
    text::{one_line, plain},
    upload::{FailureKind, Stage, Status, Upload},
};

/// The present state beside a live event. A replay has none of it.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Why the provider is waited for, in one sentence.
    pub waiting: Option<String>,
    /// The present pace of batches.
    pub paces: HashMap<BatchId, Pace>,
}

/// Renders an event. `upload` is the present record, if it still exists; counts and percentages are those of
/// the event.
pub fn render(event: &Event, upload: Option<&Upload>, live: &Live) -> Vec<Message> {
    let mut messages = Vec::with_capacity(4);
    if let (Some(upload_id), Some(batch_id)) = (event.upload_id, event.batch_id) {
        EventRenderer { event, upload, upload_id, batch_id }.render(&mut messages);
    }
    if let (Some(batch_id), Some(tally)) = (event.batch_id, &event.batch) {
        let pace = live.paces.get(&batch_id);
        let payload = batch_progress(batch_id, tally, pace, live.waiting.as_deref(), event.at);
        messages.push(Message::BatchProgress { timestamp: event.at, seq: event.seq, payload });
    }
    messages
}

/// The present state of a batch.
pub fn batch_now(batch: &Batch, seq: u64, waiting: Option<&str>, now: Timestamp) -> Message {
    let payload = batch_progress(batch.id, &Tally::of(batch, None), batch.pace.as_ref(), waiting, now);
    Message::BatchProgress { timestamp: now, seq, payload }
}

/// The present state of an upload. `percent` is used only while a worker has it.
pub fn upload_now(upload: &Upload, percent: u8, seq: u64, timestamp: Timestamp) -> Message {
    let cancelled = upload.status == Status::Cancelled;
    // A score that an earlier attempt left is not reported.
    let described = matches!(upload.status, Status::Embedding | Status::Completed);
    let (progress_percent, error_message) = match upload.status {
        Status::Pending => (0, None),
        Status::Analyzing | Status::Embedding => (percent, None),
        Status::Completed => (ENDED, None),
        Status::Failed => (ENDED, upload.error_message().map(str::to_owned)),
        Status::Cancelled => (ENDED, Some(CANCELLED.to_owned())),
    };
    let payload = UploadProgress {
        upload_id: upload.id,
        batch_id: upload.batch_id,
        status: if cancelled { Status::Failed } else { upload.status },
        stage: upload.stage,
        progress_percent,
        message: if cancelled { "cancelled" } else { upload.stage.message() }.to_owned(),
        error_message,
        description_audit_score: upload.description.as_ref().filter(|_| described).map(|it| it.audit_score),
        cancelled,
    };
    Message::UploadProgress { timestamp, seq, payload }
}

/// The final message of an upload, `upload_completed` or `upload_failed`; `None` if it has not ended.
pub fn end_now(upload: &Upload, seq: u64, timestamp: Timestamp) -> Option<Message> {
    let (upload_id, batch_id) = (upload.id, upload.batch_id);
    let failed = |error_message: &str, cancelled| {
        let error_message = error_message.to_owned();
        Some(Message::UploadFailed { timestamp, seq, upload_id, batch_id, error_message, cancelled })
    };
    match upload.status {
        Status::Pending | Status::Analyzing | Status::Embedding => None,
        Status::Failed => failed(upload.error_message().unwrap_or_default(), false),
        Status::Cancelled => failed(CANCELLED, true),
        Status::Completed => {
            let description = upload.description.as_ref();
            Some(Message::UploadCompleted {
                timestamp,
                seq,
                upload_id,
                batch_id,
                description: description.map(|it| plain(it.text.clone())).unwrap_or_default(),
                audit_score: description.map_or(0, |it| it.audit_score),
                needs_review: description.is_some_and(|it| it.needs_review),
            })
        }
    }
}

/// The progress of an upload in flight between two events: an `upload_progress` and a `file_progress`.
pub fn percent_now(upload: &Upload, stage: Stage, percent: u8, seq: u64, now: Timestamp) -> [Message; 2] {
    let mut progress = upload_now(upload, percent, seq, now);
    if let Message::UploadProgress { payload, .. } = &mut progress {
        payload.stage = stage;
        payload.message = stage.message().to_owned();
        // No event marks the step from a kept description to its embedding.
        if Step::of(stage) == Some(Step::Embedding) {
            payload.status = Status::Embedding;
        }
    }
    let payload = FileProgress {
        batch_id: upload.batch_id,
        upload_id: upload.id,
        file_name: one_line(&upload.file_name).into_owned(),
        file_size: upload.file_size,
        progress_percentage: percent,
        status: FileStatus::Processing,
        cancelled: false,
    };
    [progress, Message::FileProgress { timestamp: now, seq, payload }]
}

/// Why a batch is waiting, in one sentence: it is paused, or the provider is away. `None` for a batch that
/// has ended.
pub fn waiting(counts: &Counts, paused: bool, provider: impl FnOnce() -> Option<String>) -> Option<String> {
    match (counts.unfinished(), paused) {
        (0, _) => None,
        (_, true) => Some("the batch is paused; resume it to go on".into()),
        (_, false) => provider(),
    }
}

fn batch_progress(
    batch_id: BatchId,
    tally: &Tally,
    pace: Option<&Pace>,
    waiting: Option<&str>,
    at: Timestamp,
) -> BatchProgress {
    let counts = &tally.counts;
    let pace = pace.filter(|_| !tally.paused);
    BatchProgress {
        batch_id,
        status: tally.status,
        total: counts.total,
        processed: counts.processed(),
        successful: counts.completed,
        failed: counts.failed,
        cancelled: counts.cancelled,
        needs_review: counts.needs_review,
        progress_percentage: counts.percent(),
        eta_seconds: pace.and_then(|pace| pace.eta_seconds(counts, at)),
        waiting: self::waiting(counts, tally.paused, || waiting.map(str::to_owned)),
        ends_run: tally.ends_round,
    }
}

const CANCELLED: &str = "the upload was cancelled";
const DELETED: &str = "the upload was deleted";

/// Renders one event of an upload.
struct EventRenderer<'a> {
    event: &'a Event,
    upload: Option<&'a Upload>,
    upload_id: UploadId,
    batch_id: BatchId,
}

impl EventRenderer<'_> {
    fn render(&self, to: &mut Vec<Message>) {
        let running = |status, stage: Stage, percent, score| {
            [
                self.progress(status, stage, percent, stage.message(), None, score),
                self.file(percent, FileStatus::Processing, false),
            ]
        };
        let waits = |message: &str, error: Option<String>| {
            [
                self.progress(Status::Pending, Stage::Queued, 0, message, error, None),
                self.file(0, FileStatus::Processing, false),
            ]
        };
        match self.event.kind {
            EventKind::BatchSubmitted
            | EventKind::BatchPaused
            | EventKind::BatchResumed
            | EventKind::BatchCancelled
            | EventKind::BatchRetried { .. }
            | EventKind::BatchDeleted
            | EventKind::ProviderChanged
            | EventKind::UploadDeleted { unfinished: false } => {}
            EventKind::UploadBegun { .. } => {
                to.extend(running(Status::Analyzing, Stage::ExtractingFrames, 0, None));
            }
            EventKind::UploadDescribed { audit_score, .. } => {
                let (stage, percent) = (Stage::EmbeddingGeneration, Step::Embedding.range().0);
                to.extend(running(Status::Embedding, stage, percent, Some(audit_score)));
            }
            EventKind::UploadCompleted { audit_score, needs_review, .. } => {
                let message = if needs_review {
                    "completed, but a person should review the description"
                } else {
                    Stage::Completed.message()
                };
                let (status, stage) = (Status::Completed, Stage::Completed);
                to.push(self.progress(status, stage, ENDED, message, None, Some(audit_score)));
                to.push(self.file(ENDED, FileStatus::Completed, false));
                to.push(Message::UploadCompleted {
                    timestamp: self.event.at,
                    seq: self.event.seq,
                    upload_id: self.upload_id,
                    batch_id: self.batch_id,
                    description: self
                        .upload
                        .and_then(|it| it.description.as_ref())
                        .map(|it| plain(it.text.clone()))
                        .unwrap_or_default(),
                    audit_score,
                    needs_review,
                });
            }
            EventKind::UploadFailed { attempt, stage, kind, last } => {
                let error = self.error(attempt, stage, kind);
                if last {
                    self.failed(error, to);
                } else {
                    to.extend(waits("the attempt failed; a second one follows", Some(error)));
                }
            }
            EventKind::UploadHandedBack { .. } => {
                to.extend(waits("the attempt was handed back; another one follows", None))
            }
            EventKind::UploadInterrupted { attempt, last } => {
                if last {
                    self.failed(self.error(attempt, Stage::ExtractingFrames, FailureKind::Interrupted), to);
                } else {
                    to.extend(waits("the process died during the attempt; another one follows", None));
                }
            }
            EventKind::UploadCancelled => self.gone(CANCELLED, to),
            EventKind::UploadDeleted { unfinished: true } => self.gone(DELETED, to),
        }
    }

    fn failed(&self, error: String, to: &mut Vec<Message>) {
        let (status, stage) = (Status::Failed, Stage::Failed);
        to.push(self.progress(status, stage, ENDED, stage.message(), Some(error.clone()), None));
        to.push(self.file(ENDED, FileStatus::Failed, false));
        to.push(self.end(error, false));
    }

    /// A cancelled or deleted upload; clients see it as failed.
    fn gone(&self, why: &str, to: &mut Vec<Message>) {
        to.push(self.file(ENDED, FileStatus::Failed, true));
        to.push(self.end(why.to_owned(), true));
    }

    /// The message of an attempt's failure, which may be of an earlier round by now.
    fn error(&self, attempt: u32, stage: Stage, kind: FailureKind) -> String {
        let mut failures = self.upload.into_iter().flat_map(|upload| {
            upload.failures.iter().chain(upload.history.iter().flat_map(|past| &past.failures))
        });
        let failure = failures.find(|it| it.attempt == attempt);
        failure.map_or_else(
            || format!("attempt {attempt} failed in {} ({})", stage.as_str(), kind.as_str()),
            |it| it.message.clone(),
        )
    }

    fn progress(
        &self,
        status: Status,
        stage: Stage,
        progress_percent: u8,
        message: &str,
        error_message: Option<String>,
        description_audit_score: Option<u8>,
    ) -> Message {
        let payload = UploadProgress {
            upload_id: self.upload_id,
            batch_id: self.batch_id,
            status,
            stage,
            progress_percent,
            message: message.to_owned(),
            error_message,
            description_audit_score,
            cancelled: false,
        };
        Message::UploadProgress { timestamp: self.event.at, seq: self.event.seq, payload }
    }

    fn file(&self, progress_percentage: u8, status: FileStatus, cancelled: bool) -> Message {
        let payload = FileProgress {
            batch_id: self.batch_id,
            upload_id: self.upload_id,
            file_name: self.upload.map(|it| one_line(&it.file_name).into_owned()).unwrap_or_default(),
            file_size: self.upload.map_or(0, |it| it.file_size),
            progress_percentage,
            status,
            cancelled,
        };
        Message::FileProgress { timestamp: self.event.at, seq: self.event.seq, payload }
    }

    fn end(&self, error_message: String, cancelled: bool) -> Message {
        Message::UploadFailed {
            timestamp: self.event.at,
            seq: self.event.seq,
            upload_id: self.upload_id,
            batch_id: self.batch_id,
            error_message,
            cancelled,
        }
    }
}
