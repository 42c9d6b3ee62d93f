//! The changes of one group before they are written: an overlay over the trees, with records decoded once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use sled::IVec;

use super::{
    WriteError,
    events::NewRun,
    keys::{self, Tree},
    queue::Queue,
};
use crate::{
    batch::Batch,
    id::{BatchId, Owner, UploadId},
    upload::{Stage, Step, Upload},
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
    /// Pieces that its record has.
    pub(super) pieces: usize,
    /// Is there for as long as the worker's hold.
    pub(super) _hold: Arc<()>,
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
    /// When the attempt began.
    #[serde(default)]
    pub began_at: Timestamp,
    /// The step that it is in.
    pub stage: Stage,
    /// When that step began.
    pub since: Timestamp,
}

impl Active {
    /// Brings a record to where the attempt is: its beginning is written here alone, and so are changes of the step.
    pub(super) fn bring(&self, upload: &mut Upload) {
        if upload.attempt < self.attempt {
            // A record that does not wait was written since, and knows.
            let _ = upload.apply(Step::Begin, self.began_at);
        }
        upload.stage = self.stage;
    }
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

/// Writes of a draft to one tree, by key; `None` removes.
pub(super) type Writes = BTreeMap<IVec, Option<IVec>>;

/// Changes of a group that are not written yet.
pub(super) struct Draft<'a> {
    pub(super) trees: &'a [sled::Tree],
    pub(super) state: &'a mut State,
    pub(super) now: Timestamp,
    /// For each tree.
    writes: [Writes; Tree::ALL.len()],
    /// Where values are written before their length is known.
    json: Vec<u8>,
    /// Batches whose record is to be written.
    dirty_batches: Vec<BatchId>,
    /// Uploads in flight whose entry is to be written, and whether the record is, too.
    dirty_active: HashMap<UploadId, bool>,
    /// Events that are to be written.
    pub(super) runs: Vec<NewRun>,
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
            writes: Default::default(),
            json: Vec::new(),
            dirty_batches: Vec::new(),
            dirty_active: HashMap::new(),
            runs: Vec::new(),
            poison: None,
        }
    }

    /// All writes, for each tree, records of batches and uploads in flight included.
    pub(super) fn finish(mut self) -> Result<[Writes; Tree::ALL.len()], String> {
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

    fn encode(&mut self) -> Result<(), WriteError> {
        for (id, record) in std::mem::take(&mut self.dirty_active) {
            if let Some(mut in_flight) = self.state.active.remove(&id) {
                if record {
                    in_flight.pieces = self.put_record(&in_flight.upload, in_flight.pieces)?;
                }
                self.put_json(Tree::Active, id.as_bytes(), &in_flight.entry)?;
                self.state.active.insert(id, in_flight);
            }
        }
        for id in std::mem::take(&mut self.dirty_batches) {
            if let Some(batch) = self.state.batches.remove(&id) {
                self.put_json(Tree::Batches, id.as_bytes(), &batch)?;
                if !batch.status().is_terminal() {
                    self.state.batches.insert(id, batch);
                }
            }
        }
        self.put_runs()
    }

    /// Reads a key through the draft.
    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<IVec>, WriteError> {
        if let Some(value) = self.writes[tree as usize].get(key) {
            return Ok(value.clone());
        }
        self.trees[tree as usize].get(key).map_err(WriteError::unknown)
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

    pub(super) fn put(&mut self, tree: Tree, key: &[u8], value: &[u8]) {
        self.writes[tree as usize].insert(key.into(), Some(value.into()));
    }

    pub(super) fn put_json(
        &mut self,
        tree: Tree,
        key: &[u8],
        value: &impl Serialize,
    ) -> Result<(), WriteError> {
        let json = self.json_of(value)?;
        self.put(tree, key, &json);
        self.give_back(json);
        Ok(())
    }

    /// Writes a value into the buffer for that, which is to be given back.
    pub(super) fn json_of(&mut self, value: &impl Serialize) -> Result<Vec<u8>, WriteError> {
        let mut json = std::mem::take(&mut self.json);
        serde_json::to_writer(&mut json, value).map_err(WriteError::unknown)?;
        Ok(json)
    }

    pub(super) fn give_back(&mut self, mut json: Vec<u8>) {
        json.clear();
        self.json = json;
    }

    pub(super) fn remove(&mut self, tree: Tree, key: &[u8]) {
        self.writes[tree as usize].insert(key.into(), None);
    }

    /// Keys below `prefix` as the trees hold them, without what this draft added.
    pub(super) fn scan(&self, tree: Tree, prefix: &[u8]) -> sled::Iter {
        self.trees[tree as usize].scan_prefix(prefix)
    }

    /// Keys from one to another as the trees hold them, without what this draft added.
    pub(super) fn range(&self, tree: Tree, from: &[u8], to: &[u8]) -> sled::Iter {
        self.trees[tree as usize].range(from..=to)
    }

    /// The record of an upload.
    pub(super) fn upload(&self, id: UploadId) -> Result<Option<Upload>, WriteError> {
        if let Some(in_flight) = self.state.active.get(&id) {
            return Ok(Some(in_flight.upload.clone()));
        }
        Ok(self.resting(id)?.map(|(upload, _)| upload))
    }

    /// The record of an upload that no worker has, and the pieces that it has.
    pub(super) fn resting(&self, id: UploadId) -> Result<Option<(Upload, usize)>, WriteError> {
        let Some(key) = self.get(Tree::UploadIds, id.as_bytes())? else { return Ok(None) };
        self.record_at(&key)
    }

    pub(super) fn upload_at(&self, key: &[u8]) -> Result<Option<Upload>, WriteError> {
        Ok(self.record_at(key)?.map(|(upload, _)| upload))
    }

    fn record_at(&self, key: &[u8]) -> Result<Option<(Upload, usize)>, WriteError> {
        let Some(first) = self.get(Tree::Uploads, key)? else { return Ok(None) };
        if first.len() < PIECE {
            let upload = serde_json::from_slice(&first).map_err(WriteError::unknown)?;
            return Ok(Some((upload, 1)));
        }
        let mut record = first.to_vec();
        let mut piece = 1;
        while record.len() == piece * PIECE {
            let Some(more) = self.get(Tree::Uploads, &piece_key(key, piece))? else { break };
            record.extend_from_slice(&more);
            piece += 1;
        }
        let upload = serde_json::from_slice(&record).map_err(WriteError::unknown)?;
        Ok(Some((upload, piece)))
    }

    /// Writes the record of an upload that no worker has.
    pub(super) fn put_upload(&mut self, upload: &Upload) -> Result<(), WriteError> {
        let pieces = self.put_record(upload, 0)?;
        self.remove_pieces(&keys::upload(upload.batch_id, upload.position), pieces);
        Ok(())
    }

    /// Writes a record that is known to have had so many pieces. Answers with how many it has now.
    pub(super) fn put_record(&mut self, upload: &Upload, before: usize) -> Result<usize, WriteError> {
        let key = keys::upload(upload.batch_id, upload.position);
        let json = self.json_of(upload)?;
        let mut pieces = 0;
        for (key, part) in cut(&key, &json) {
            self.put(Tree::Uploads, &key, part);
            pieces += 1;
        }
        self.give_back(json);
        for piece in pieces..before {
            self.remove(Tree::Uploads, &piece_key(&key, piece));
        }
        Ok(pieces)
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

    /// Marks the entry of an upload in flight as changed.
    pub(super) fn touch_entry(&mut self, id: UploadId) {
        self.dirty_active.entry(id).or_default();
    }

    /// Marks the record of an upload in flight as changed.
    pub(super) fn touch(&mut self, id: UploadId) {
        self.dirty_active.insert(id, true);
    }
}

/// A record as the tree `uploads` holds it: by itself, or in pieces if it is long.
pub(super) fn cut<'a>(key: &'a [u8], record: &'a [u8]) -> impl Iterator<Item = (Vec<u8>, &'a [u8])> {
    // A last piece that is exactly full is followed by an empty one, so that its length tells the end.
    (0..pieces(record)).map(move |piece| {
        let key = if piece == 0 { key.to_vec() } else { piece_key(key, piece) };
        (key, &record[piece * PIECE..record.len().min((piece + 1) * PIECE)])
    })
}

/// In how many pieces a record is kept.
pub(super) fn pieces(record: &[u8]) -> usize {
    record.len() / PIECE + 1
}

/// The key of a further piece of a long record.
pub(super) fn piece_key(key: &[u8], piece: usize) -> Vec<u8> {
    let mut key = key.to_vec();
    key.push(piece as u8);
    key
}
