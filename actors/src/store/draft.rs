//! The changes of one group before they are written: an overlay over the trees, with records decoded once.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    WriteError,
    keys::{self, Tree},
    queue::{Entry, Queue},
};
use crate::{
    batch::{Batch, Pace, Status as BatchStatus},
    event::{Event, Tally, What},
    id::{BatchId, Owner, UploadId},
    upload::{IllegalStep, Stage, Step, Upload},
};

/// Longest value that sled keeps in its synced file; longer ones are cut into pieces.
pub(super) const PIECE: usize = 8 * 1024;

/// What the committer knows without reading: all of it follows from the trees and is built anew when the store is opened.
#[derive(Default)]
pub(super) struct State {
    pub(super) queue: Queue,
    /// Uploads in the hands of workers, with their records.
    pub(super) active: HashMap<UploadId, InFlight>,
    /// Records of batches with unfinished uploads.
    pub(super) batches: HashMap<BatchId, Batch>,
    /// First and last number of each owner's events that are kept.
    pub(super) seqs: HashMap<Owner, (u64, u64)>,
    pub(super) newest_change: u64,
    pub(super) next_batch: u64,
    /// Uploads of batches that are being written, as far as they are not written yet.
    pub(super) arriving: u64,
    /// Events kept for each owner.
    pub(super) keep_events: u64,
    /// Owners with more events than that.
    pub(super) overfull: HashSet<Owner>,
    /// Names this opening of the store in tokens.
    pub(super) run: u64,
    /// Where time comes from.
    pub(super) clock: super::Clock,
    /// Everything was handed back, and nothing more is begun.
    pub(super) closed: bool,
}

/// An upload in the hands of a worker.
pub(super) struct InFlight {
    pub(super) upload: Upload,
    pub(super) entry: Active,
}

/// Entry of the tree `active`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Whose upload.
    pub owner: Owner,
    /// Its batch.
    pub batch_id: BatchId,
    /// Place within the batch.
    pub position: u32,
    /// The opening of the store in which the attempt began.
    pub run: u64,
    /// Number of the attempt.
    pub attempt: u32,
    /// Nothing else runs beside it.
    pub alone: bool,
    /// The step that it is in.
    pub stage: Stage,
    /// When that step began.
    pub since: Timestamp,
}

/// Entry of the tree `work`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) owner: Owner,
    pub(super) batch_id: BatchId,
    pub(super) upload_id: UploadId,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) suspect: bool,
}

/// Writes of a draft, by tree and key; `None` removes.
pub(super) type Writes = BTreeMap<(Tree, Vec<u8>), Option<Vec<u8>>>;

impl PartialOrd for Tree {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Tree {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (*self as usize).cmp(&(*other as usize))
    }
}

/// Changes of a group that are not written yet.
pub(super) struct Draft<'a> {
    trees: &'a [sled::Tree],
    pub(super) state: &'a mut State,
    pub(super) now: Timestamp,
    writes: Writes,
    /// Batches whose record is to be written.
    dirty_batches: Vec<BatchId>,
    /// Uploads in flight whose record or entry is to be written.
    dirty_active: Vec<UploadId>,
    /// A command stopped half-way, so that nothing of the group may be written.
    poison: Option<String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(trees: &'a [sled::Tree], state: &'a mut State) -> Self {
        let now = state.clock.now();
        Self {
            trees,
            state,
            now,
            writes: Writes::new(),
            dirty_batches: Vec::new(),
            dirty_active: Vec::new(),
            poison: None,
        }
    }

    /// All writes, records of batches and uploads in flight included.
    pub(super) fn finish(mut self) -> Result<Writes, String> {
        if let Some(text) = self.poison.take() {
            return Err(text);
        }
        self.encode().map_err(|error| error.to_string())?;
        Ok(self.writes)
    }

    /// Says that a command stopped half-way: the store cannot be read, or does not make sense.
    pub(super) fn poison(&mut self, text: &str) {
        self.poison.get_or_insert_with(|| text.to_owned());
    }

    fn encode(&mut self) -> Result<(), serde_json::Error> {
        for id in std::mem::take(&mut self.dirty_active) {
            if let Some(in_flight) = self.state.active.get(&id) {
                let record = serde_json::to_vec(&in_flight.upload)?;
                let entry = serde_json::to_vec(&in_flight.entry)?;
                let key = keys::upload(in_flight.upload.batch_id, in_flight.upload.position);
                self.put_pieces(&key, record);
                self.put(Tree::Active, id.as_bytes(), entry);
            }
        }
        for id in std::mem::take(&mut self.dirty_batches) {
            if let Some(batch) = self.state.batches.get(&id) {
                let record = serde_json::to_vec(batch)?;
                if batch.status().is_terminal() {
                    self.state.batches.remove(&id);
                }
                self.put(Tree::Batches, id.as_bytes(), record);
            }
        }
        Ok(())
    }

    /// Reads a key through the draft.
    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, WriteError> {
        if let Some(value) = self.writes.get(&(tree, key.to_vec())) {
            return Ok(value.clone());
        }
        Ok(self.trees[tree as usize].get(key).map_err(WriteError::unknown)?.map(|value| value.to_vec()))
    }

    pub(super) fn get_json<T: DeserializeOwned>(
        &self,
        tree: Tree,
        key: &[u8],
    ) -> Result<Option<T>, WriteError> {
        self.get(tree, key)?
            .map(|value| serde_json::from_slice(&value).map_err(WriteError::unknown))
            .transpose()
    }

    pub(super) fn put(&mut self, tree: Tree, key: &[u8], value: Vec<u8>) {
        self.writes.insert((tree, key.to_vec()), Some(value));
    }

    pub(super) fn put_json(
        &mut self,
        tree: Tree,
        key: &[u8],
        value: &impl Serialize,
    ) -> Result<(), WriteError> {
        self.put(tree, key, serde_json::to_vec(value).map_err(WriteError::unknown)?);
        Ok(())
    }

    pub(super) fn remove(&mut self, tree: Tree, key: &[u8]) {
        self.writes.insert((tree, key.to_vec()), None);
    }

    /// Keys below `prefix` as the trees hold them, without what this draft added.
    pub(super) fn scan(&self, tree: Tree, prefix: &[u8]) -> sled::Iter {
        self.trees[tree as usize].scan_prefix(prefix)
    }

    /// Keys from one to another as the trees hold them, without what this draft added.
    pub(super) fn range(&self, tree: Tree, from: &[u8], to: &[u8]) -> sled::Iter {
        self.trees[tree as usize].range(from..=to)
    }

    /// The record of an upload and the key that it stands under.
    pub(super) fn upload(&self, id: UploadId) -> Result<Option<Upload>, WriteError> {
        if let Some(in_flight) = self.state.active.get(&id) {
            return Ok(Some(in_flight.upload.clone()));
        }
        let Some(key) = self.get(Tree::UploadIds, id.as_bytes())? else { return Ok(None) };
        self.upload_at(&key)
    }

    pub(super) fn upload_at(&self, key: &[u8]) -> Result<Option<Upload>, WriteError> {
        let Some(mut record) = self.get(Tree::Uploads, key)? else { return Ok(None) };
        let mut piece = 1;
        while record.len() == piece * PIECE {
            let Some(more) = self.get(Tree::Uploads, &piece_key(key, piece))? else { break };
            record.extend_from_slice(&more);
            piece += 1;
        }
        serde_json::from_slice(&record).map(Some).map_err(WriteError::unknown)
    }

    /// Writes the record of an upload that no worker has.
    pub(super) fn put_upload(&mut self, upload: &Upload) -> Result<(), WriteError> {
        let record = serde_json::to_vec(upload).map_err(WriteError::unknown)?;
        self.put_pieces(&keys::upload(upload.batch_id, upload.position), record);
        Ok(())
    }

    fn put_pieces(&mut self, key: &[u8], record: Vec<u8>) {
        let pieces = record.len() / PIECE + 1;
        for (key, part) in cut(key, record) {
            self.put(Tree::Uploads, &key, part);
        }
        self.remove_pieces(key, pieces);
    }

    /// Removes the pieces of a record from the one of this number on.
    pub(super) fn remove_pieces(&mut self, key: &[u8], from: usize) {
        let mut piece = from;
        while piece > 0 && matches!(self.get(Tree::Uploads, &piece_key(key, piece)), Ok(Some(_))) {
            self.remove(Tree::Uploads, &piece_key(key, piece));
            piece += 1;
        }
    }

    /// The record of a batch, kept decoded while the batch is unfinished.
    pub(super) fn batch(&mut self, id: BatchId) -> Result<Option<&mut Batch>, WriteError> {
        if !self.state.batches.contains_key(&id) {
            let Some(batch) = self.get_json::<Batch>(Tree::Batches, id.as_bytes())? else { return Ok(None) };
            self.state.batches.insert(id, batch);
        }
        if !self.dirty_batches.contains(&id) {
            self.dirty_batches.push(id);
        }
        Ok(self.state.batches.get_mut(&id))
    }

    /// Marks an upload in flight as changed.
    pub(super) fn touch(&mut self, id: UploadId) {
        if !self.dirty_active.contains(&id) {
            self.dirty_active.push(id);
        }
    }

    /// Takes a step of an upload that no worker has, or lets it leave the worker's hands, and keeps counts and queue right.
    ///
    /// The record is written, the entries in `active` and `work` follow its status; the caller writes the event.
    pub(super) fn step(&mut self, upload: &mut Upload, step: Step) -> Result<(), WriteError> {
        let before = upload.clone();
        upload.apply(step, self.now).map_err(|IllegalStep { from }| WriteError::refused(from))?;
        self.settle(&before, upload)
    }

    /// Brings counts and indexes from what they were for `before` to what they must be for `after`.
    fn settle(&mut self, before: &Upload, after: &Upload) -> Result<(), WriteError> {
        let now = self.now;
        let Some(batch) = self.batch(after.batch_id)? else {
            return Err(WriteError::Unknown(format!(
                "batch {} of upload {} is missing",
                after.batch_id, after.id
            )));
        };
        batch.counts.remove(before);
        batch.counts.add(after);
        if after.status.is_active() && batch.started_at.is_none() {
            batch.started_at = Some(now);
        }
        if after.status.is_active() && batch.pace.is_none() {
            batch.pace = Some(Pace { since: now, processed: batch.counts.processed() });
        }
        let (number, open) = (batch.number, batch.is_open());
        let waits = |upload: &Upload| !upload.status.is_terminal() && !upload.status.is_active();
        match (waits(before), waits(after)) {
            (false, true) => self.enqueue(after, number, open)?,
            (true, false) => {
                self.remove(Tree::Work, &keys::work(number, after.position));
                self.state.queue.remove(number, after.position);
            }
            (true, true) | (false, false) => {}
        }
        if after.status.is_active() {
            if let Some(in_flight) = self.state.active.get_mut(&after.id) {
                in_flight.upload = after.clone();
            }
            self.touch(after.id);
        } else {
            if self.state.active.remove(&after.id).is_some() {
                self.remove(Tree::Active, after.id.as_bytes());
            }
            self.put_upload(after)?;
        }
        Ok(())
    }

    /// Puts an upload among those that wait.
    pub(super) fn enqueue(&mut self, upload: &Upload, number: u64, open: bool) -> Result<(), WriteError> {
        let work = Work {
            owner: upload.owner.clone(),
            batch_id: upload.batch_id,
            upload_id: upload.id,
            suspect: upload.suspect,
        };
        self.put_json(Tree::Work, &keys::work(number, upload.position), &work)?;
        let entry = Entry {
            owner: upload.owner.clone(),
            batch: upload.batch_id,
            batch_number: number,
            position: upload.position,
            upload: upload.id,
        };
        self.state.queue.push(entry, upload.suspect, open);
        Ok(())
    }

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
        self.put_json(Tree::Changes, &keys::number(change), &Change { owner: owner.clone(), seq })?;
        let first = self.make_room(&owner, first, seq)?;
        self.state.newest_change = change;
        self.state.seqs.insert(owner, (first, seq));
        Ok(())
    }
}

/// Entry of the tree `changes`: whose event it is.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) owner: Owner,
    pub(super) seq: u64,
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

/// A record as the tree `uploads` holds it: by itself, or in pieces if it is long.
pub(super) fn cut(key: &[u8], record: Vec<u8>) -> Vec<(Vec<u8>, Vec<u8>)> {
    if record.len() < PIECE {
        return vec![(key.to_vec(), record)];
    }
    // A last piece that is exactly full is followed by an empty one, so that its length tells the end.
    let part = |piece: usize| record[piece * PIECE..record.len().min((piece + 1) * PIECE)].to_vec();
    let key = |piece| if piece == 0 { key.to_vec() } else { piece_key(key, piece) };
    (0..=record.len() / PIECE).map(|piece| (key(piece), part(piece))).collect()
}

/// The key of a further piece of a long record.
pub(super) fn piece_key(key: &[u8], piece: usize) -> Vec<u8> {
    let mut key = key.to_vec();
    key.push(piece as u8);
    key
}
