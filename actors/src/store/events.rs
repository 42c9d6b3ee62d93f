//! The event log as the committer writes it.

use serde::{Deserialize, Serialize};

use super::{
    WriteError,
    draft::Draft,
    keys::{self, Tree},
};
use crate::{
    batch::Status as BatchStatus,
    event::{Event, Tally, What},
    id::{BatchId, Owner, UploadId},
};

impl Draft<'_> {
    /// Writes an event of a batch, with how the batch stands now; it ends the batch's run if nothing of it is unfinished any more.
    pub(super) fn emit(
        &mut self,
        batch_id: BatchId,
        upload: Option<UploadId>,
        what: What,
    ) -> Result<(), WriteError> {
        let now = self.now;
        let Some(batch) = self.batch(batch_id)? else {
            return Err(WriteError::Unknown(format!("batch {batch_id} is missing")));
        };
        let mut ends_run = None;
        if batch.status().is_terminal() && batch.ended_run < batch.run {
            batch.ended_run = batch.run;
            batch.completed_at = Some(now);
            ends_run = Some(batch.run);
            log::info!(
                "batch {batch_id} ended {}: {} completed, {} failed, {} cancelled",
                match batch.status() {
                    BatchStatus::Cancelled => "as cancelled",
                    BatchStatus::Failed => "as failed",
                    BatchStatus::Pending | BatchStatus::Processing | BatchStatus::Completed => "as completed",
                },
                batch.counts.completed,
                batch.counts.failed,
                batch.counts.cancelled
            );
        }
        let (owner, tally) = (batch.owner.clone(), Tally::of(batch, ends_run));
        self.log(owner, Some((batch_id, tally)), upload, what)
    }

    /// Writes an event under the owner's next number.
    pub(super) fn log(
        &mut self,
        owner: Owner,
        batch: Option<(BatchId, Tally)>,
        upload_id: Option<UploadId>,
        what: What,
    ) -> Result<(), WriteError> {
        let (first, last) = match self.state.seqs.get(&owner) {
            Some(kept) => *kept,
            None => kept_events(&self.trees[Tree::Events as usize], &owner).map_err(WriteError::unknown)?,
        };
        let (seq, change) = (last + 1, self.state.newest_change + 1);
        let event = Event {
            v: 1,
            seq,
            change,
            at: self.now,
            batch_id: batch.map(|(id, _)| id),
            batch: batch.map(|(_, tally)| tally),
            upload_id,
            what,
        };
        self.put_json(Tree::Events, &keys::event(&owner, seq), &event)?;
        match self.runs.last_mut().filter(|run| run.events.owner == owner) {
            Some(run) => run.events.count += 1,
            None => self.runs.push(Run { change, events: RunOf { owner: owner.clone(), seq, count: 1 } }),
        }
        let first = self.make_room(&owner, first, seq)?;
        self.state.newest_change = change;
        self.state.seqs.insert(owner, (first, seq));
        Ok(())
    }

    /// Writes which changes are which events, but for those that are forgotten by now.
    pub(super) fn put_runs(&mut self) -> Result<(), WriteError> {
        for Run { change, events } in std::mem::take(&mut self.runs) {
            let first = self.state.seqs.get(&events.owner).map_or(0, |(first, _)| *first);
            if events.seq + events.count > first {
                self.put_json(Tree::Changes, &keys::number(change), &events)?;
            }
        }
        Ok(())
    }
}

/// Events of an owner that were written together, by the number of the first one's change: an entry of the tree `changes`, of which there
/// would otherwise be one for each event.
pub(super) struct Run {
    /// The number of the first change.
    pub(super) change: u64,
    pub(super) events: RunOf,
}

/// What an entry of the tree `changes` says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunOf {
    pub(super) owner: Owner,
    /// The number of the first event.
    pub(super) seq: u64,
    /// How many there are.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(super) count: u64,
}

fn one() -> u64 {
    1
}

fn is_one(count: &u64) -> bool {
    *count == 1
}

impl Run {
    /// The number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.change.saturating_add(self.events.count.max(1) - 1)
    }
}

/// First and last number of an owner's events that are kept; `(1, 0)` if there are none.
pub(super) fn kept_events(events: &sled::Tree, owner: &Owner) -> sled::Result<(u64, u64)> {
    let mut all = events.scan_prefix(keys::owner(owner));
    let number = |entry: Option<sled::Result<(sled::IVec, sled::IVec)>>| -> sled::Result<Option<u64>> {
        Ok(entry.transpose()?.and_then(|(key, _)| keys::trailing_number(&key)))
    };
    let first = number(all.next())?;
    let last = number(all.next_back())?.or(first);
    Ok(first.zip(last).unwrap_or((1, 0)))
}

/// The run that a change belongs to, if it is written; or the last one before it.
pub(super) fn run_of(changes: &sled::Tree, change: u64) -> sled::Result<Option<Run>> {
    let Some(entry) = changes.range(..=keys::number(change)).next_back() else { return Ok(None) };
    let (key, value) = entry?;
    let events = serde_json::from_slice(&value).ok();
    Ok(keys::trailing_number(&key).zip(events).map(|(change, events)| Run { change, events }))
}
