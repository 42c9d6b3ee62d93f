//! Steps of uploads, with the counts of the batch, the queue and the running attempt that follow
//! from them. The caller writes the event.

use super::super::{
    CommandError,
    attempt::RunningAttempt,
    unit_of_work::{Held, Part, UnitOfWork},
};
use crate::{
    batch::{Counted, Pace},
    id::UploadId,
    upload::{IllegalStep, Step, Upload},
};

/// Begins an attempt of a waiting upload.
pub(super) fn acquire(
    work: &mut dyn UnitOfWork,
    upload: &mut Upload,
    attempt: RunningAttempt,
) -> Result<(), CommandError> {
    let before = Counted::from(&*upload);
    upload.apply(Step::Begin, work.now()).map_err(illegal)?;
    reindex(work, before, upload)?;
    work.add_held(Held { upload: upload.clone(), attempt });
    Ok(())
}

/// Takes a step after which the attempt still runs.
pub(super) fn update(work: &mut dyn UnitOfWork, id: UploadId, step: Step) -> Result<(), CommandError> {
    let now = work.now();
    let upload = after(work, id, step)?;
    debug_assert!(upload.status.is_active(), "a step that ends the attempt is taken by `release`");
    let Some(held) = work.change_held(id, Part::Record) else { return Err(CommandError::Stale) };
    held.attempt.stage = upload.stage;
    held.attempt.since = now;
    held.upload = upload;
    Ok(())
}

/// Takes a step that ends the running attempt.
pub(super) fn release(work: &mut dyn UnitOfWork, id: UploadId, step: Step) -> Result<Upload, CommandError> {
    let upload = after(work, id, step)?;
    let Some(held) = work.remove_held(id) else { return Err(CommandError::Stale) };
    reindex(work, Counted::from(&held.upload), &upload)?;
    work.put_upload(&upload)?;
    Ok(upload)
}

/// The record of a running attempt after a step, which may be refused and is not written yet.
fn after(work: &dyn UnitOfWork, id: UploadId, step: Step) -> Result<Upload, CommandError> {
    let mut upload = work.held(id).ok_or(CommandError::Stale)?.upload.clone();
    upload.apply(step, work.now()).map_err(illegal)?;
    Ok(upload)
}

/// Takes a step of an upload that has no running attempt before the step and none after it.
pub(super) fn step(work: &mut dyn UnitOfWork, upload: &mut Upload, step: Step) -> Result<(), CommandError> {
    let before = Counted::from(&*upload);
    upload.apply(step, work.now()).map_err(illegal)?;
    reindex(work, before, upload)?;
    work.put_upload(upload)
}

/// Moves an upload between the counts of its batch, and into the queue or out of it.
fn reindex(work: &mut dyn UnitOfWork, before: Counted, after: &Upload) -> Result<(), CommandError> {
    let now = work.now();
    let Some(batch) = work.change_batch(after.batch_id)? else {
        let (batch, upload) = (after.batch_id, after.id);
        return Err(CommandError::Unknown(format!("batch {batch} of upload {upload} is missing")));
    };
    batch.counts.remove(before);
    batch.counts.add(after);
    if after.status.is_active() {
        batch.started_at.get_or_insert(now);
        batch.pace.get_or_insert(Pace { since: now, processed: batch.counts.processed() });
    }
    match (before.waits(), Counted::from(after).waits()) {
        (false, true) => work.enqueue(after),
        (true, false) => work.dequeue(after),
        (true, true) | (false, false) => Ok(()),
    }
}

fn illegal(IllegalStep { from }: IllegalStep) -> CommandError {
    CommandError::Conflict(format!("the upload is {}", from.as_str()))
}
