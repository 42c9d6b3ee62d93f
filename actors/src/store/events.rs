//! The event log as the committer writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sled::IVec;

use super::{
    WriteError,
    draft::Draft,
    keys::{self, Tree},
};
use crate::{
    batch::Status as BatchStatus,
    event::{Event, EventKind, Tally},
    id::{BatchId, Owner, UploadId},
};

/// Longest value that several events share. sled writes a page of up to 16 values at once, and what is longer than an eighth of a megabyte to a
/// file that it does not sync.
const RUN_BYTES: usize = 4 * 1024;

impl Draft<'_> {
    /// Writes an event of a batch, with how the batch stands now; it ends the batch's run if nothing of it is unfinished any more.
    pub(super) fn emit(
        &mut self,
        batch_id: BatchId,
        upload: Option<UploadId>,
        kind: EventKind,
    ) -> Result<(), WriteError> {
        let now = self.now;
        let Some(batch) = self.batch(batch_id)? else {
            return Err(WriteError::Unknown(format!("batch {batch_id} is missing")));
        };
        let mut ends_round = None;
        if batch.status().is_terminal() && batch.ended_round < batch.round {
            batch.ended_round = batch.round;
            batch.completed_at = Some(now);
            ends_round = Some(batch.round);
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
        let (owner, tally) = (batch.owner.clone(), Tally::of(batch, ends_round));
        self.log(owner, Some((batch_id, tally)), upload, kind)
    }

    /// Writes an event under the owner's next number.
    pub(super) fn log(
        &mut self,
        owner: Owner,
        batch: Option<(BatchId, Tally)>,
        upload_id: Option<UploadId>,
        kind: EventKind,
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
            kind,
        };
        let json = self.json_of(&event)?;
        match self.runs.last_mut().filter(|run| run.takes(&owner, json.len())) {
            Some(run) => run.add(&json),
            None => self.runs.push(NewRun::of(change, &owner, seq, &json)),
        }
        self.give_back(json);
        self.state.newest_change = change;
        self.state.seqs.insert(owner, (first, seq));
        Ok(())
    }

    /// Writes the events of the draft, and makes room for them.
    pub(super) fn put_runs(&mut self) -> Result<(), WriteError> {
        let mut new: BTreeMap<Owner, u64> = BTreeMap::new();
        for NewRun { run: Run { change, events }, json } in std::mem::take(&mut self.runs) {
            let value = if events.count == 1 { &json[1..] } else { &[&json[..], b"]"].concat() };
            self.put(Tree::Events, &keys::event(&events.owner, events.seq), value);
            self.put_json(Tree::Changes, &keys::number(change), &events)?;
            *new.entry(events.owner).or_default() += events.count;
        }
        new.into_iter().try_for_each(|(owner, count)| self.make_room(&owner, count))
    }
}

/// Events of an owner with consecutive numbers that were written together: an entry of the tree `changes` under the number of the first
/// one's change, and one of `events` under the number of the first one, where one event stands by itself, and more as an array.
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

/// A run of a draft.
pub(super) struct NewRun {
    run: Run,
    /// The beginning of an array: all but its last bracket.
    json: Vec<u8>,
}

impl NewRun {
    fn of(change: u64, owner: &Owner, seq: u64, event: &[u8]) -> Self {
        let run = Run { change, events: RunOf { owner: owner.clone(), seq, count: 1 } };
        Self { run, json: [b"[", event].concat() }
    }

    /// Whether an event of this length can be added.
    fn takes(&self, owner: &Owner, length: usize) -> bool {
        self.run.events.owner == *owner && self.json.len() + length + 2 <= RUN_BYTES
    }

    fn add(&mut self, event: &[u8]) {
        self.run.events.count += 1;
        self.json.push(b',');
        self.json.extend_from_slice(event);
    }
}

/// The events of an entry of the tree `events`.
pub(super) fn each(value: &[u8]) -> serde_json::Result<Vec<&RawValue>> {
    match value.first() {
        Some(b'[') => serde_json::from_slice(value),
        _ => Ok(vec![serde_json::from_slice(value)?]),
    }
}

/// How many events an entry of the tree `events` has; one that makes no sense counts as one.
pub(super) fn count(value: &[u8]) -> u64 {
    each(value).map_or(1, |events| events.len().max(1) as u64)
}

/// First and last number of an owner's events that are kept; `(1, 0)` if there are none.
pub(super) fn kept_events(events: &sled::Tree, owner: &Owner) -> sled::Result<(u64, u64)> {
    let mut all = events.scan_prefix(keys::owner(owner));
    let numbers = |entry: Option<sled::Result<(IVec, IVec)>>| -> sled::Result<Option<(u64, u64)>> {
        let Some((key, value)) = entry.transpose()? else { return Ok(None) };
        Ok(keys::trailing_number(&key).map(|first| (first, first + count(&value) - 1)))
    };
    let oldest = numbers(all.next())?;
    let newest = numbers(all.next_back())?.or(oldest);
    Ok(oldest.zip(newest).map_or((1, 0), |(oldest, newest)| (oldest.0, newest.1)))
}

/// The run that a change belongs to, if it is written; or the last one before it.
pub(super) fn run_of(changes: &sled::Tree, change: u64) -> sled::Result<Option<Run>> {
    let Some(entry) = changes.range(..=keys::number(change)).next_back() else { return Ok(None) };
    let (key, value) = entry?;
    let events = serde_json::from_slice(&value).ok();
    Ok(keys::trailing_number(&key).zip(events).map(|(change, events)| Run { change, events }))
}
