//! Batches: cancel, pause, resume and retry.

use super::{
    super::{
        CommandError,
        unit_of_work::{Command, Of, Touches, UnitOfWork},
    },
    PIECE,
    events::emit,
    steps::{release, step},
};
use crate::{
    batch::Batch,
    event::EventKind,
    id::{BatchId, Owner},
    upload::{Status, Step},
};

/// Cancels the running attempts of a batch, and at most [`PIECE`] of its waiting uploads. Answers
/// with whether more are unfinished.
pub(in super::super) struct CancelBatch {
    pub(in super::super) owner: Owner,
    pub(in super::super) batch: BatchId,
}

impl Command for CancelBatch {
    type Answer = bool;

    fn touches(&self) -> Touches {
        Touches::batch(&self.owner, self.batch)
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<bool, CommandError> {
        let Self { owner, batch: id } = self;
        let now = work.now();
        if owned(work, &owner, id)?.status().is_terminal() {
            return Ok(false);
        }
        let batch = work.change_batch(id)?.ok_or(CommandError::NotFound("batch"))?;
        let first = batch.cancelled_at.is_none();
        batch.cancelled_at.get_or_insert(now);
        if first {
            emit(work, id, None, EventKind::BatchCancelled)?;
        }
        let waiting = work.waiting_of(id, PIECE)?;
        for running in work.held_by(Of::Batch(id)) {
            if let Some(held) = work.held(running).cloned() {
                release(work, running, Step::Cancel)?;
                work.revoke(&held);
                emit(work, id, Some(running), EventKind::UploadCancelled)?;
            }
        }
        for upload in waiting {
            let Some(mut upload) = work.upload(upload)? else { continue };
            step(work, &mut upload, Step::Cancel)?;
            emit(work, id, Some(upload.id), EventKind::UploadCancelled)?;
        }
        Ok(owned(work, &owner, id)?.counts.unfinished() > 0)
    }
}

/// Pauses a batch (`true`) or resumes it (`false`). Repeating it changes nothing.
pub(in super::super) struct SetPaused {
    pub(in super::super) owner: Owner,
    pub(in super::super) batch: BatchId,
    pub(in super::super) paused: bool,
}

impl Command for SetPaused {
    type Answer = ();

    fn touches(&self) -> Touches {
        Touches::batch(&self.owner, self.batch)
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        let Self { owner, batch: id, paused } = self;
        let now = work.now();
        let batch = owned(work, &owner, id)?;
        if batch.paused_at.is_some() == paused {
            return Ok(());
        }
        if batch.status().is_terminal() {
            let status = batch.status().as_str();
            return Err(CommandError::Conflict(format!("the batch has ended as {status}")));
        }
        if let Some(batch) = work.change_batch(id)? {
            batch.paused_at = paused.then_some(now);
            batch.pace = None;
        }
        emit(work, id, None, if paused { EventKind::BatchPaused } else { EventKind::BatchResumed })
    }
}

/// Retries the failed ones among at most [`PIECE`] uploads of a batch.
pub(in super::super) struct RetryFailed {
    pub(in super::super) owner: Owner,
    pub(in super::super) batch: BatchId,
    /// The first position of this piece.
    pub(in super::super) from: u32,
    /// Whether an earlier piece of the same retry has retried uploads.
    pub(in super::super) goes_on: bool,
}

/// The result of a piece of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Retried {
    /// Whether any uploads were retried.
    pub(in super::super) some: bool,
    /// The first position of the next piece; `None` after the last.
    pub(in super::super) next: Option<u32>,
}

impl Command for RetryFailed {
    type Answer = Retried;

    fn touches(&self) -> Touches {
        Touches::batch(&self.owner, self.batch)
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<Retried, CommandError> {
        let Self { owner, batch: id, from, goes_on } = self;
        let batch = owned(work, &owner, id)?;
        // A cancel between two pieces ends the retry.
        if batch.counts.failed == 0 || (goes_on && batch.cancelled_at.is_some()) {
            return Ok(Retried { some: false, next: None });
        }
        let uploads = work.uploads_from(id, from, PIECE)?;
        let next = uploads.last().filter(|_| uploads.len() == PIECE).map(|it| it.position + 1);
        let failed: Vec<_> = uploads.into_iter().filter(|it| it.status == Status::Failed).collect();
        if failed.is_empty() {
            return Ok(Retried { some: false, next });
        }
        let batch = work.change_batch(id)?.ok_or(CommandError::NotFound("batch"))?;
        // For a later piece the round has begun already, unless it has ended meanwhile.
        let begins = batch.status().is_terminal();
        if begins {
            batch.round += 1;
            batch.started_at = None;
            batch.completed_at = None;
            batch.cancelled_at = None;
            batch.paused_at = None;
        }
        batch.pace = None;
        let round = batch.round;
        for mut upload in failed {
            let round = round.max(upload.round + 1);
            step(work, &mut upload, Step::Retry { round })?;
        }
        if begins || !goes_on {
            emit(work, id, None, EventKind::BatchRetried { round })?;
        }
        Ok(Retried { some: true, next })
    }
}

/// The batch, if it is this owner's.
fn owned<'w>(work: &'w mut dyn UnitOfWork, owner: &Owner, id: BatchId) -> Result<&'w Batch, CommandError> {
    work.batch(id)?.filter(|batch| batch.owner == *owner).ok_or(CommandError::NotFound("batch"))
}
