//! The change feed: the events after a cursor, with the records that they are about, as of one
//! moment. The monitor and the publisher read it.

use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
    sync::atomic::Ordering,
};

use sled::IVec;
use tokio::sync::watch;

use super::{
    Queries, Sled,
    event_log::{self, Run, RunOf},
    keys::{self, Tree},
    pages::Read,
    records::decode,
};
use crate::{
    batch::{Batch, Pace},
    error::Error,
    event::{Event, EventKind},
    id::{BatchId, Owner, UploadId},
    store::RunningAttempt,
    upload::Upload,
};

/// Most unfinished batches of an owner in one answer; a reader learns of the others by their own
/// events.
const MOST_UNFINISHED: usize = 100;

/// A position in the change feed. It is valid only for the store that gave it.
#[derive(Debug, Clone)]
pub struct Cursor(u64);

/// The owners whose changes are read.
#[derive(Debug, Clone)]
pub enum Interest {
    /// All owners.
    Everyone,
    /// These owners.
    Owners(HashSet<Owner>),
}

impl Interest {
    fn includes(&self, owner: &Owner) -> bool {
        match self {
            Self::Everyone => true,
            Self::Owners(owners) => owners.contains(owner),
        }
    }
}

/// Wakes a reader after each write, and when the store breaks.
#[derive(Debug, Clone)]
pub struct ChangeSignal(watch::Receiver<u64>);

/// The store was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl ChangeSignal {
    /// Waits for a write that this signal has not reported. Several writes may be reported as one.
    /// Cancel safe.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn changed(&mut self) -> Result<(), Closed> {
        self.0.changed().await.map_err(|_| Closed)
    }
}

/// An event with the present record of its upload.
#[derive(Debug)]
pub struct Change {
    /// The owner of the event.
    pub owner: Owner,
    /// The event.
    pub event: Event,
    /// The record of its upload, if it still exists.
    pub upload: Option<Upload>,
}

/// The events after a cursor with the present records, as of one moment.
#[derive(Debug)]
pub struct ChangeBatch {
    /// The events, in order.
    pub changes: Vec<Change>,
    /// The present pace of their batches.
    pub paces: HashMap<BatchId, Pace>,
    /// Unfinished batches of those owners whose provider changed, the oldest hundred.
    pub unfinished: HashMap<Owner, Vec<Batch>>,
    /// Uploads in flight, if they were asked for and there are no more changes.
    pub in_flight: Option<InFlightSnapshot>,
    /// The cursor for the next read.
    pub reached: Cursor,
    /// Whether there are more changes.
    pub more: bool,
}

/// Uploads in flight, with the newest event of each of their owners, as of one moment.
#[derive(Debug)]
pub struct InFlightSnapshot {
    /// The uploads.
    pub uploads: Vec<InFlight>,
    /// Number of the newest event of each owner of `uploads`.
    pub newest: HashMap<Owner, u64>,
}

/// An upload with a running attempt.
#[derive(Debug)]
pub struct InFlight {
    /// The upload.
    pub id: UploadId,
    /// Its running attempt.
    pub entry: RunningAttempt,
    /// Its record, unless the reader said that it knows it.
    pub upload: Option<Upload>,
}

/// A part of an owner's event log.
#[derive(Debug)]
pub struct LogPage {
    /// The events, in order.
    pub changes: Vec<Change>,
    /// Event numbers that this page covers.
    pub numbers: RangeInclusive<u64>,
    /// Number of the oldest event that is kept; 1 if there is none.
    pub oldest: u64,
    /// Number of the newest event.
    pub newest: u64,
    /// The owner's unfinished batches, the oldest hundred, if the page ends with the newest event.
    pub unfinished: Vec<Batch>,
}

/// The newest event of an owner with the record of one upload, as of one moment.
#[derive(Debug)]
pub struct LogPosition {
    /// Number of the newest event.
    pub newest: u64,
    /// The upload asked for, if it is this owner's.
    pub upload: Option<Upload>,
}

/// The batches and uploads of an owner as of one moment.
#[derive(Debug)]
pub struct OwnerSnapshot {
    /// Number of the newest event.
    pub newest: u64,
    /// Unfinished and recent batches, the oldest first.
    pub batches: Vec<Batch>,
    /// Uploads with a running attempt.
    pub in_flight: Vec<Upload>,
    /// The requested uploads that the owner has.
    pub uploads: Vec<Upload>,
}

impl Queries {
    /// The cursor at the newest change: a reader that starts here sees later changes only.
    pub fn newest(&self) -> Cursor {
        self.sled.newest()
    }

    /// Whether anything was written after `cursor`.
    pub fn has_changes_after(&self, cursor: &Cursor) -> bool {
        self.sled.newest().0 > cursor.0
    }

    /// Signals writes from now on.
    pub fn watch(&self) -> ChangeSignal {
        ChangeSignal(self.sled.newest.subscribe())
    }

    /// Events after `cursor` of the owners in `interest`, at most `most`. With `known`, also
    /// uploads in flight, without the records of those that are known.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn changes_after(
        &self,
        cursor: &Cursor,
        interest: Interest,
        most: usize,
        known: Option<HashSet<UploadId>>,
    ) -> Result<ChangeBatch, Error> {
        let cursor = cursor.clone();
        self.read(move |sled| {
            let mut batch = sled.changes_after(cursor, &interest, most)?;
            if let Some(known) = known
                && !batch.more
            {
                let uploads = sled.in_flight(|it| interest.includes(it), |id| known.contains(&id))?;
                let mut newest = HashMap::new();
                for owner in uploads.iter().map(|it| &it.entry.owner) {
                    if !newest.contains_key(owner) {
                        newest.insert(owner.clone(), sled.kept(owner)?.1);
                    }
                }
                batch.in_flight = Some(InFlightSnapshot { uploads, newest });
            }
            Ok(batch)
        })
        .await
    }

    /// At most `most` events of an owner, from number `from` on; forgotten ones are left out.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn events_from(&self, owner: Owner, from: u64, most: usize) -> Result<LogPage, Error> {
        self.read(move |sled| {
            let (oldest, newest) = sled.kept(&owner)?;
            let first = from.max(oldest);
            let numbers = first..=newest.min(first.saturating_add(most.max(1) as u64 - 1));
            let events = sled.events(&owner, numbers.clone())?.into_iter();
            let changes = events.map(|event| sled.change(&owner, event)).collect::<Read<_>>()?;
            let unfinished = if *numbers.end() == newest { sled.unfinished(&owner) } else { Vec::new() };
            Ok(LogPage { changes, numbers, oldest, newest, unfinished })
        })
        .await
    }

    /// The newest event of an owner and the record of one of its uploads.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn log_position(&self, owner: Owner, upload: Option<UploadId>) -> Result<LogPosition, Error> {
        self.read(move |sled| {
            let (_, newest) = sled.kept(&owner)?;
            let upload = upload.map(|id| sled.upload(id)).transpose()?.flatten();
            let upload = upload.filter(|upload| upload.owner == owner);
            Ok(LogPosition { newest, upload })
        })
        .await
    }

    /// An owner's unfinished batches and its `recent` newest ones, its uploads in flight, and
    /// those of `uploads` that it has.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn owner_snapshot(
        &self,
        owner: Owner,
        recent: usize,
        uploads: Vec<UploadId>,
    ) -> Result<OwnerSnapshot, Error> {
        self.read(move |sled| {
            let (_, newest) = sled.kept(&owner)?;
            let mut batches = sled.unfinished(&owner);
            for batch in sled.batches(&owner, 0, recent)? {
                if !batches.iter().any(|it| it.id == batch.id) {
                    batches.push(batch);
                }
            }
            batches.sort_unstable_by_key(|batch| batch.number);
            let in_flight = sled.in_flight(|it| *it == owner, |_| false)?;
            let in_flight = in_flight.into_iter().filter_map(|it| it.upload).collect();
            let mut found = Vec::new();
            for id in uploads {
                found.extend(sled.upload(id)?.filter(|upload| upload.owner == owner));
            }
            Ok(OwnerSnapshot { newest, batches, in_flight, uploads: found })
        })
        .await
    }
}

impl Sled {
    fn newest(&self) -> Cursor {
        Cursor(self.durable_change.load(Ordering::Acquire))
    }

    /// First and last number of an owner's events that are kept; `(1, 0)` if there are none.
    pub(super) fn kept(&self, owner: &Owner) -> Read<(u64, u64)> {
        event_log::kept_events(self.tree(Tree::Events), owner)
    }

    fn changes_after(&self, cursor: Cursor, interest: &Interest, most: usize) -> Read<ChangeBatch> {
        let newest = self.newest();
        let mut news = ChangeBatch {
            changes: Vec::new(),
            paces: HashMap::new(),
            unfinished: HashMap::new(),
            in_flight: None,
            reached: cursor,
            more: false,
        };
        let next = news.reached.0 + 1;
        if newest.0 < next {
            return Ok(news);
        }
        let changes = self.tree(Tree::Changes);
        // The next change may be in the middle of a run of events.
        let run = event_log::run_of(changes, next)?;
        let from = run.map_or(next, |run| run.change);
        'runs: for entry in changes.range(keys::number(from)..=keys::number(newest.0)) {
            let (key, value) = entry?;
            let Some(events) =
                self.sound(serde_json::from_slice::<RunOf>(&value)).filter(|it| interest.includes(&it.owner))
            else {
                continue;
            };
            let change = keys::trailing_number(&key).unwrap_or(newest.0);
            let run = Run { change, events };
            let seq_of = |change: u64| run.events.seq + (change - run.change);
            let last = run.last().min(newest.0);
            if last < next {
                continue;
            }
            for event in self.events(&run.events.owner, seq_of(change.max(next))..=seq_of(last))? {
                if news.changes.len() == most {
                    news.more = true;
                    break 'runs;
                }
                news.reached = Cursor(run.change + (event.seq - run.events.seq));
                news.changes.push(self.change(&run.events.owner, event)?);
            }
        }
        if !news.more {
            news.reached = newest;
        }
        let state = self.state.lock();
        for change in &news.changes {
            if let Some(batch) = change.event.batch_id.and_then(|id| state.batches.get(&id)) {
                news.paces.extend(batch.pace.map(|pace| (batch.id, pace)));
            }
        }
        drop(state);
        for change in &news.changes {
            if change.event.kind == EventKind::ProviderChanged && !news.unfinished.contains_key(&change.owner)
            {
                news.unfinished.insert(change.owner.clone(), self.unfinished(&change.owner));
            }
        }
        Ok(news)
    }

    /// Events of an owner by their numbers; forgotten ones are left out.
    fn events(&self, owner: &Owner, seqs: RangeInclusive<u64>) -> Read<Vec<Event>> {
        let mut found = Vec::new();
        if seqs.is_empty() {
            return Ok(found);
        }
        let tree = self.tree(Tree::Events);
        let first = keys::event(owner, *seqs.start());
        // The first event may be in the middle of an entry.
        let entry = tree.range(keys::owner(owner)..=first.clone()).next_back().transpose()?;
        let from = entry.map_or_else(|| IVec::from(first), |(key, _)| key);
        for entry in tree.range(from..=IVec::from(keys::event(owner, *seqs.end()))) {
            let (_, value) = entry?;
            let Some(events) = self.sound(event_log::each(&value)) else { continue };
            let events =
                events.into_iter().filter_map(|it| self.sound(serde_json::from_str::<Event>(it.get())));
            found.extend(events.filter(|event| seqs.contains(&event.seq)));
        }
        Ok(found)
    }

    fn change(&self, owner: &Owner, event: Event) -> Read<Change> {
        let upload = match event.upload_id {
            Some(id) => self.upload(id)?,
            None => None,
        };
        Ok(Change { owner: owner.clone(), event, upload })
    }

    /// A decoded entry of the log. A damaged entry is skipped, since a retry would not repair it,
    /// and is logged once.
    fn sound<T>(&self, entry: serde_json::Result<T>) -> Option<T> {
        entry
            .inspect_err(|error| {
                if !self.damage_logged.swap(true, Ordering::Relaxed) {
                    log::error!(
                        "an entry of the event log is skipped: {error}; `mediamill check` lists all damage"
                    );
                }
            })
            .ok()
    }

    fn in_flight(
        &self,
        wanted: impl Fn(&Owner) -> bool,
        known: impl Fn(UploadId) -> bool,
    ) -> Read<Vec<InFlight>> {
        let mut in_flight = Vec::new();
        for entry in self.tree(Tree::Active).iter() {
            let (key, value) = entry?;
            let id = UploadId::from_bytes(*key.first_chunk::<16>().ok_or("an upload in flight has no id")?);
            let entry: RunningAttempt = decode(&value)?;
            if wanted(&entry.owner) {
                let upload = if known(id) { None } else { self.upload(id)? };
                in_flight.push(InFlight { id, entry, upload });
            }
        }
        Ok(in_flight)
    }

    /// An owner's unfinished batches, the oldest hundred. The state holds them decoded, and the
    /// committer changes them only while nobody reads.
    fn unfinished(&self, owner: &Owner) -> Vec<Batch> {
        let state = self.state.lock();
        let mut batches: Vec<&Batch> =
            state.batches.values().filter(|it| it.owner == *owner && it.counts.unfinished() > 0).collect();
        batches.sort_unstable_by_key(|batch| batch.number);
        batches.into_iter().take(MOST_UNFINISHED).cloned().collect()
    }
}
