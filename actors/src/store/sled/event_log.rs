//! The event log: events that were written together are one entry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sled::IVec;

use super::{
    keys::{self, Tree},
    pages::{Pages, Read},
    unit_of_work::Draft,
};
use crate::{
    batch::Tally,
    event::{Event, EventKind},
    id::{BatchId, Owner, UploadId},
    store::CommandError,
};

/// Longest value of an entry with several events, in bytes. sled writes a page of up to 16 values
/// at once, and a page of more than an eighth of a megabyte to a file that it does not sync.
const RUN_BYTES: usize = 4 * 1024;

impl Draft<'_> {
    /// Appends an event under the owner's next number.
    pub(super) fn log(
        &mut self,
        owner: &Owner,
        batch: Option<(BatchId, Tally)>,
        upload_id: Option<UploadId>,
        kind: EventKind,
    ) -> Result<(), CommandError> {
        let (first, last) = self.kept(owner)?;
        let (seq, change) = (last + 1, self.state.newest_change + 1);
        let event = Event {
            v: 1,
            seq,
            at: self.now,
            batch_id: batch.map(|(id, _)| id),
            batch: batch.map(|(_, tally)| tally),
            upload_id,
            kind,
        };
        let json = self.json_of(&event)?;
        let stored = with_change(change, &json);
        match self.events.last_mut().filter(|run| run.takes(owner, stored.len())) {
            Some(run) => run.add(&stored),
            None => self.events.push(NewRun::of(change, owner, seq, &stored)),
        }
        self.give_back(json);
        self.state.newest_change = change;
        self.state.seqs.insert(owner.clone(), (first, seq));
        Ok(())
    }

    /// Writes the events of the draft. Answers with their number for each owner.
    pub(super) fn put_events(&mut self) -> Result<BTreeMap<Owner, u64>, CommandError> {
        let mut new: BTreeMap<Owner, u64> = BTreeMap::new();
        for NewRun { run: Run { change, events }, json } in std::mem::take(&mut self.events) {
            let value = if events.count == 1 { &json[1..] } else { &[&json[..], b"]"].concat() };
            self.put(Tree::Events, &keys::event(&events.owner, events.seq), value);
            self.put_json(Tree::Changes, &keys::number(change), &events)?;
            *new.entry(events.owner).or_default() += events.count;
        }
        Ok(new)
    }

    /// First and last number of an owner's events that are kept; `(1, 0)` if there are none.
    pub(super) fn kept(&mut self, owner: &Owner) -> Result<(u64, u64), CommandError> {
        match self.state.seqs.get(owner) {
            Some(kept) => Ok(*kept),
            None => kept_events(&self.trees[Tree::Events as usize], owner).map_err(CommandError::Unknown),
        }
    }

    /// Forgets entries of an owner from the oldest on, until about `most` events are gone, and
    /// none from the number `end` on. Answers with the number of events that they had.
    pub(super) fn forget(&mut self, owner: &Owner, most: u64, end: u64) -> Result<u64, CommandError> {
        let (first, last) = self.kept(owner)?;
        let trees = self.trees;
        let mut kept = first;
        let mut run: Option<Run> = None;
        for entry in trees[Tree::Events as usize].range(keys::event(owner, first)..keys::event(owner, end)) {
            let (key, value) = entry.map_err(CommandError::Unknown)?;
            let number = keys::trailing_number(&key).unwrap_or(kept);
            let next = number + count(&value);
            if kept >= first + most || next > end {
                break;
            }
            self.remove(Tree::Events, &key);
            kept = next;
            // An entry that cannot be read is forgotten, too.
            let Ok(events) = each(&value) else { continue };
            let Some(newest) = events.last().and_then(|it| change_of(it)) else { continue };
            if run.as_ref().is_none_or(|run| run.last() < newest) {
                run = run_of(&trees[Tree::Changes as usize], newest).map_err(CommandError::Unknown)?;
            }
            // The entry of a run in `changes` goes with the last of its events.
            if let Some(run) = run.as_ref().filter(|run| run.last() == newest) {
                self.remove(Tree::Changes, &keys::number(run.change));
            }
        }
        self.state.seqs.insert(owner.clone(), (kept, last));
        Ok(kept - first)
    }
}

/// An event as it is stored: with the number of its change, which is visible in this module alone.
fn with_change(change: u64, event: &[u8]) -> Vec<u8> {
    let rest = event.strip_prefix(b"{").unwrap_or(event);
    [format!("{{\"change\":{change},").as_bytes(), rest].concat()
}

/// The number of the change of a stored event.
pub(super) fn change_of(event: &RawValue) -> Option<u64> {
    #[derive(Deserialize)]
    struct OfChange {
        change: u64,
    }
    serde_json::from_str::<OfChange>(event.get()).ok().map(|it| it.change)
}

/// Events of an owner with consecutive numbers that were written together. The run is one entry of
/// the tree `changes`, under the change of its first event, and one entry of `events`, under the
/// number of its first event: the event, or an array of several.
pub(super) struct Run {
    /// The number of the first change.
    pub(super) change: u64,
    pub(super) events: RunOf,
}

/// An entry of the tree `changes`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RunOf {
    pub(super) owner: Owner,
    /// The number of the first event.
    pub(super) seq: u64,
    /// Number of events.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(super) count: u64,
}

/// Most events of an entry: it has at most [`RUN_BYTES`], and no event is as short as a byte.
const MOST_EVENTS: u64 = RUN_BYTES as u64;

impl RunOf {
    /// Whether an entry can have so many events.
    pub(super) fn can_be(&self) -> bool {
        self.count <= MOST_EVENTS && self.seq.checked_add(self.count).is_some()
    }
}

/// Whether a value of the tree `changes` can be read only as an entry that can be.
pub(super) fn can_be(value: &[u8]) -> bool {
    serde_json::from_slice::<RunOf>(value).map_or(true, |events| events.can_be())
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

/// How many events an entry of the tree `events` has; an entry that cannot be read counts as one.
pub(super) fn count(value: &[u8]) -> u64 {
    each(value).map_or(1, |events| events.len().max(1) as u64)
}

/// First and last number of an owner's events that are kept; `(1, 0)` if there are none.
pub(super) fn kept_events(events: &Pages, owner: &Owner) -> Read<(u64, u64)> {
    let mut all = events.scan(&keys::owner(owner));
    let numbers = |entry: Option<Read<(IVec, IVec)>>| -> Read<Option<(u64, u64)>> {
        let Some((key, value)) = entry.transpose()? else { return Ok(None) };
        Ok(keys::trailing_number(&key).map(|first| (first, first.saturating_add(count(&value) - 1))))
    };
    let oldest = numbers(all.next())?;
    let newest = numbers(all.next_back())?.or(oldest);
    Ok(oldest.zip(newest).map_or((1, 0), |(oldest, newest)| (oldest.0, newest.1)))
}

/// The run that a change belongs to, or the last run before it.
pub(super) fn run_of(changes: &Pages, change: u64) -> Read<Option<Run>> {
    let Some(entry) = changes.range(..=keys::number(change)).next_back() else { return Ok(None) };
    let (key, value) = entry?;
    let events = serde_json::from_slice(&value).ok();
    Ok(keys::trailing_number(&key).zip(events).map(|(change, events)| Run { change, events }))
}
