//! Events, each with the tally of its batch.

use super::super::{CommandError, unit_of_work::UnitOfWork};
use crate::{
    batch::{Batch, Status as BatchStatus, Tally},
    event::EventKind,
    id::{BatchId, UploadId},
};

/// Appends an event of a batch, with the tally right after the change. The event after which the
/// batch has no unfinished uploads ends its round.
pub(super) fn emit(
    work: &mut dyn UnitOfWork,
    batch_id: BatchId,
    upload: Option<UploadId>,
    kind: EventKind,
) -> Result<(), CommandError> {
    let now = work.now();
    let missing = || CommandError::Unknown(format!("batch {batch_id} is missing"));
    let batch = work.batch(batch_id)?.ok_or_else(missing)?;
    let ends = batch.status().is_terminal() && batch.ended_round < batch.round;
    let batch = if ends {
        let batch = work.change_batch(batch_id)?.ok_or_else(missing)?;
        batch.ended_round = batch.round;
        batch.completed_at = Some(now);
        log_end(batch);
        &*batch
    } else {
        batch
    };
    let (owner, tally) = (batch.owner.clone(), Tally::of(batch, ends.then_some(batch.round)));
    work.append_event(&owner, Some((batch_id, tally)), upload, kind)
}

fn log_end(batch: &Batch) {
    log::info!(
        "batch {} ended as {}: {} completed, {} failed, {} cancelled",
        batch.id,
        match batch.status() {
            BatchStatus::Cancelled => "cancelled",
            BatchStatus::Failed => "failed",
            BatchStatus::Pending | BatchStatus::Processing | BatchStatus::Completed => "completed",
        },
        batch.counts.completed,
        batch.counts.failed,
        batch.counts.cancelled
    );
}
