//! The unit of work on sled: the writes of one group of commands, laid over the trees, with records
//! decoded once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sled::IVec;

use super::{
    event_log::NewRun,
    index::State,
    keys::{self, Tree},
    pages::{Pages, Read},
    queue::Entry,
    records::{assemble, cut, decode, decode_upload, piece_key},
    vectors,
};
use crate::{
    batch::{Batch, Tally},
    event::EventKind,
    id::{BatchId, Owner, UploadId},
    store::{
        CommandError, Notice, PathEntry, RunId, RunRecord, RunningAttempt, Token,
        rules::retention,
        unit_of_work::{Held, Of, Part, Touches, UnitOfWork, Usage},
    },
    upload::{PlacePath, Thumbnail, Upload},
};

/// Entry of the tree `work`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub(super) owner: Owner,
    pub(super) batch_id: BatchId,
    pub(super) upload_id: UploadId,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) suspect: bool,
}

/// Entry of the tree `hashes`.
#[derive(Serialize, Deserialize)]
pub(super) struct ContentEntry {
    pub(super) upload_id: UploadId,
}

/// Writes to one tree, by key; `None` removes the entry.
pub(super) type Writes = BTreeMap<IVec, Option<IVec>>;

/// A unit of work that is made durable.
pub(super) struct Finished {
    /// The writes to each tree.
    pub(super) writes: [Writes; Tree::ALL.len()],
    /// Notices of the changes, each with its run; a notice without a run goes to every run.
    pub(super) notices: Vec<(Option<RunId>, Notice)>,
}

/// The writes of a group that are not durable yet.
pub(super) struct Draft<'a> {
    pub(super) trees: &'a [Pages],
    pub(super) state: &'a mut State,
    pub(super) now: Timestamp,
    writes: [Writes; Tree::ALL.len()],
    /// A buffer for values whose length is not known yet.
    json: Vec<u8>,
    /// Batches whose record is to be written.
    dirty_batches: BTreeSet<BatchId>,
    /// Batches that were changed since the queue was last read.
    reopened: Vec<BatchId>,
    /// Batches that were read into the state for this group.
    loaded_batches: Vec<BatchId>,
    /// Number of pieces of each record that was read or written.
    pieces: HashMap<UploadId, usize>,
    /// Running attempts that are to be written.
    dirty_held: HashMap<UploadId, Part>,
    /// Events that are to be written.
    pub(super) events: Vec<NewRun>,
    notices: Vec<(Option<RunId>, Notice)>,
    /// The error of a command that stopped half-way: nothing of the group may be written then.
    poison: Option<String>,
    /// The records that the present command declared.
    declared: Touches,
}

impl<'a> Draft<'a> {
    pub(super) fn new(trees: &'a [Pages], state: &'a mut State) -> Self {
        let now = state.clock.now();
        Self {
            trees,
            state,
            now,
            writes: Default::default(),
            json: Vec::new(),
            dirty_batches: BTreeSet::new(),
            reopened: Vec::new(),
            loaded_batches: Vec::new(),
            pieces: HashMap::new(),
            dirty_held: HashMap::new(),
            events: Vec::new(),
            notices: Vec::new(),
            poison: None,
            declared: Touches::default(),
        }
    }

    /// All writes, with the records of changed batches and running attempts.
    pub(super) fn finish(mut self) -> Result<Finished, String> {
        if let Some(text) = self.poison.take() {
            return Err(text);
        }
        self.encode().map_err(|error| error.to_string())?;
        Ok(Finished { writes: self.writes, notices: self.notices })
    }

    /// Marks the group as one that must not be written.
    pub(super) fn poison(&mut self, text: &str) {
        self.poison.get_or_insert_with(|| text.to_owned());
    }

    /// Notes the records that the next command declared. sled needs no locks and fetches nothing
    /// beforehand, but a backend that does relies on it, so a rule that reads beyond its
    /// declaration fails in builds with debug assertions.
    pub(super) fn declare(&mut self, touches: Touches) {
        self.declared = touches;
    }

    fn check(&self, what: impl std::fmt::Debug, owner: &Owner, is_named: impl FnOnce(&Touches) -> bool) {
        let declared = &self.declared;
        debug_assert!(
            declared.owners.contains(owner)
                || declared.takes > 0
                || !declared.runs.is_empty()
                || declared.unfinished_owners
                || is_named(declared),
            "{what:?} of {owner} is beyond the declaration of its command"
        );
    }

    /// Forgets some events of an owner with a surplus.
    pub(super) fn forget_some(&mut self) -> Result<(), CommandError> {
        let Some(owner) = self.state.overfull.iter().next().cloned() else { return Ok(()) };
        let keep = self.state.keep_events;
        if !retention::forget_some(self, &owner, keep)? {
            self.state.overfull.remove(&owner);
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<(), CommandError> {
        self.reopen();
        for (id, part) in std::mem::take(&mut self.dirty_held) {
            if let Some((held, mut pieces)) = self.state.held.remove(&id) {
                if part == Part::Record {
                    pieces = self.put_record(&held.upload, pieces)?;
                }
                self.put_json(Tree::Active, id.as_bytes(), &held.attempt)?;
                self.state.held.insert(id, (held, pieces));
            }
        }
        let changed = std::mem::take(&mut self.dirty_batches);
        for id in &changed {
            if let Some(batch) = self.state.batches.remove(id) {
                self.put_json(Tree::Batches, id.as_bytes(), &batch)?;
                self.state.batches.insert(*id, batch);
            }
        }
        let mut owners = BTreeSet::new();
        for batch in changed.iter().filter_map(|id| self.state.batches.get(id)) {
            let empty = self.state.empty.entry(batch.owner.clone()).or_default();
            match batch.status().is_terminal() && batch.counts.total == 0 {
                true => drop(empty.insert(batch.number, batch.id)),
                false => drop(empty.remove(&batch.number)),
            }
            owners.insert(batch.owner.clone());
        }
        for owner in owners {
            retention::forget_empty_batches(self, &owner)?;
        }
        for id in changed.into_iter().chain(std::mem::take(&mut self.loaded_batches)) {
            if self.state.batches.get(&id).is_some_and(|it| it.status().is_terminal()) {
                self.state.batches.remove(&id);
            }
        }
        for (owner, new) in self.put_events()? {
            let keep = self.state.keep_events;
            if retention::make_room(self, &owner, keep, new)? {
                self.state.overfull.insert(owner);
            }
        }
        Ok(())
    }

    /// Reads a key through the draft.
    fn get(&self, tree: Tree, key: &[u8]) -> Read<Option<IVec>> {
        match self.writes[tree as usize].get(key) {
            Some(value) => Ok(value.clone()),
            None => self.trees[tree as usize].get(key),
        }
    }

    fn get_json<T: DeserializeOwned>(&self, tree: Tree, key: &[u8]) -> Result<Option<T>, CommandError> {
        let value = self.get(tree, key).map_err(CommandError::Unknown)?;
        value.map(|value| decode(&value)).transpose().map_err(CommandError::Unknown)
    }

    pub(super) fn put(&mut self, tree: Tree, key: &[u8], value: &[u8]) {
        self.writes[tree as usize].insert(key.into(), Some(value.into()));
    }

    pub(super) fn put_json(
        &mut self,
        tree: Tree,
        key: &[u8],
        value: &impl Serialize,
    ) -> Result<(), CommandError> {
        let json = self.json_of(value)?;
        self.put(tree, key, &json);
        self.give_back(json);
        Ok(())
    }

    /// Takes the buffer, with a value written into it. The caller gives it back.
    pub(super) fn json_of(&mut self, value: &impl Serialize) -> Result<Vec<u8>, CommandError> {
        let mut json = std::mem::take(&mut self.json);
        serde_json::to_writer(&mut json, value).map_err(CommandError::unknown)?;
        Ok(json)
    }

    pub(super) fn give_back(&mut self, mut json: Vec<u8>) {
        json.clear();
        self.json = json;
    }

    pub(super) fn remove(&mut self, tree: Tree, key: &[u8]) {
        self.writes[tree as usize].insert(key.into(), None);
    }

    /// The stored record under a key, and the pieces that it has.
    fn record_at(&self, key: &[u8]) -> Result<Option<(Upload, usize)>, CommandError> {
        let record = assemble(key, |key| self.get(Tree::Uploads, key)).map_err(CommandError::Unknown)?;
        let decoded = record.map(|(record, pieces)| Ok((decode_upload(&record)?, pieces)));
        decoded.transpose().map_err(CommandError::Unknown)
    }

    /// The stored record of an upload, and the pieces that it has.
    fn stored(&self, id: UploadId) -> Result<Option<(Upload, usize)>, CommandError> {
        match self.get(Tree::UploadIds, id.as_bytes()).map_err(CommandError::Unknown)? {
            Some(key) => self.record_at(&key),
            None => Ok(None),
        }
    }

    /// Writes a record that had `before` pieces. Answers with the number of pieces that it has
    /// now.
    fn put_record(&mut self, upload: &Upload, before: usize) -> Result<usize, CommandError> {
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

    /// Removes the pieces of a record from the piece of this number on.
    fn remove_pieces(&mut self, key: &[u8], from: usize) {
        let mut piece = from.max(1);
        while matches!(self.get(Tree::Uploads, &piece_key(key, piece)), Ok(Some(_))) {
            self.remove(Tree::Uploads, &piece_key(key, piece));
            piece += 1;
        }
    }

    /// Reads the record of a batch into the state. Answers with whether the batch exists.
    fn load_batch(&mut self, id: BatchId) -> Result<bool, CommandError> {
        if self.state.batches.contains_key(&id) {
            return Ok(true);
        }
        let Some(batch) = self.get_json::<Batch>(Tree::Batches, id.as_bytes())? else { return Ok(false) };
        self.state.batches.insert(id, batch);
        self.loaded_batches.push(id);
        Ok(true)
    }

    /// Opens and closes batches in the queue, after they were changed.
    fn reopen(&mut self) {
        for id in std::mem::take(&mut self.reopened) {
            let Some(batch) = self.state.batches.get(&id) else { continue };
            self.state.queue.set_open(batch.number, batch.is_open());
            if !batch.arriving {
                self.state.arriving.remove(&id);
            }
        }
    }

    fn number_of(&mut self, batch: BatchId) -> Result<u64, CommandError> {
        let missing = || CommandError::Unknown(format!("batch {batch} is missing"));
        Ok(UnitOfWork::batch(self, batch)?.ok_or_else(missing)?.number)
    }
}

impl UnitOfWork for Draft<'_> {
    fn now(&self) -> Timestamp {
        self.now
    }

    fn add_batch(&mut self, id: BatchId, owner: &Owner, refused: u32) -> Result<(), CommandError> {
        let number = self.state.next_batch;
        self.state.next_batch += 1;
        let next = self.state.next_batch.to_string();
        self.put(Tree::Meta, keys::NEXT_BATCH, next.as_bytes());
        self.put_json(Tree::OwnerBatches, &keys::owner_batch(owner, number), &id)?;
        self.state.batches.insert(id, Batch::new(id, number, owner.clone(), refused, self.now));
        self.state.arriving.insert(id);
        self.dirty_batches.insert(id);
        if let Some(usage) = self.state.usage_of(owner) {
            usage.batches += 1;
        }
        Ok(())
    }

    fn remove_batch(&mut self, id: BatchId) -> Result<(), CommandError> {
        if !self.load_batch(id)? {
            return Ok(());
        }
        let Some(batch) = self.state.batches.remove(&id) else { return Ok(()) };
        self.dirty_batches.remove(&id);
        self.state.arriving.remove(&id);
        if let Some(empty) = self.state.empty.get_mut(&batch.owner) {
            empty.remove(&batch.number);
        }
        if let Some(usage) = self.state.usage_of(&batch.owner) {
            usage.batches = usage.batches.saturating_sub(1);
        }
        self.remove(Tree::Batches, id.as_bytes());
        self.remove(Tree::OwnerBatches, &keys::owner_batch(&batch.owner, batch.number));
        Ok(())
    }

    fn empty_batches(&self, owner: &Owner) -> Vec<BatchId> {
        self.state.empty.get(owner).into_iter().flat_map(BTreeMap::values).copied().collect()
    }

    fn usage(&self, owner: &Owner) -> Option<Usage> {
        Some(self.state.usage.as_ref()?.get(owner).copied().unwrap_or_default())
    }

    fn batch(&mut self, id: BatchId) -> Result<Option<&Batch>, CommandError> {
        self.load_batch(id)?;
        let batch = self.state.batches.get(&id);
        if let Some(batch) = batch {
            self.check(id, &batch.owner, |it| it.batches.contains(&id));
        }
        Ok(batch)
    }

    fn change_batch(&mut self, id: BatchId) -> Result<Option<&mut Batch>, CommandError> {
        if !self.load_batch(id)? {
            return Ok(None);
        }
        if let Some(batch) = self.state.batches.get(&id) {
            self.check(id, &batch.owner, |it| it.batches.contains(&id));
        }
        self.dirty_batches.insert(id);
        self.reopened.push(id);
        Ok(self.state.batches.get_mut(&id))
    }

    fn unfinished_batches(&self) -> Vec<BatchId> {
        let is_unfinished = |it: &Batch| it.counts.unfinished() > 0 || it.missing() > 0;
        let unfinished = self.state.batches.iter().filter(|(_, it)| is_unfinished(it));
        unfinished.map(|(id, _)| *id).collect()
    }

    fn upload(&mut self, id: UploadId) -> Result<Option<Upload>, CommandError> {
        if let Some((held, _)) = self.state.held.get(&id) {
            self.check(id, &held.upload.owner, |it| it.uploads.contains(&id));
            return Ok(Some(held.upload.clone()));
        }
        let Some((upload, pieces)) = self.stored(id)? else { return Ok(None) };
        self.check(id, &upload.owner, |it| it.uploads.contains(&id));
        self.pieces.insert(id, pieces);
        Ok(Some(upload))
    }

    fn uploads_from(
        &mut self,
        batch: BatchId,
        position: u32,
        most: usize,
    ) -> Result<Vec<Upload>, CommandError> {
        let (from, to) = (keys::upload(batch, position), keys::upload(batch, u32::MAX));
        let mut uploads = Vec::new();
        for entry in self.trees[Tree::Uploads as usize].range(from.to_vec()..=to.to_vec()) {
            if uploads.len() == most {
                break;
            }
            let (key, _) = entry.map_err(CommandError::Unknown)?;
            if !keys::is_record(&key) {
                continue;
            }
            if let Some((upload, _)) = self.record_at(&key)? {
                let held = self.state.held.get(&upload.id).map(|(held, _)| held.upload.clone());
                uploads.push(held.unwrap_or(upload));
            }
        }
        Ok(uploads)
    }

    fn add_upload(&mut self, upload: &Upload) -> Result<(), CommandError> {
        let pieces = self.put_record(upload, 0)?;
        self.pieces.insert(upload.id, pieces);
        if let Some(usage) = self.state.usage_of(&upload.owner) {
            usage.bytes = usage.bytes.saturating_add(Usage::of(upload).bytes);
        }
        let key = keys::upload(upload.batch_id, upload.position);
        self.put(Tree::UploadIds, upload.id.as_bytes(), &key);
        Ok(())
    }

    fn put_upload(&mut self, upload: &Upload) -> Result<(), CommandError> {
        if let Some((held, _)) = self.state.held.get_mut(&upload.id) {
            held.upload.clone_from(upload);
            self.dirty_held.insert(upload.id, Part::Record);
            return Ok(());
        }
        let before = self.pieces.get(&upload.id).copied();
        let pieces = self.put_record(upload, before.unwrap_or_default())?;
        if before.is_none() {
            self.remove_pieces(&keys::upload(upload.batch_id, upload.position), pieces);
        }
        self.pieces.insert(upload.id, pieces);
        Ok(())
    }

    fn remove_upload(&mut self, upload: &Upload) -> Result<(), CommandError> {
        let key = keys::upload(upload.batch_id, upload.position);
        if let Some(usage) = self.state.usage_of(&upload.owner) {
            usage.bytes = usage.bytes.saturating_sub(Usage::of(upload).bytes);
        }
        self.remove(Tree::Uploads, &key);
        self.remove_pieces(&key, 1);
        self.remove(Tree::UploadIds, upload.id.as_bytes());
        self.dequeue(upload)?;
        if let Some(by) = &upload.embedded_by {
            let space = vectors::space(by);
            for piece in 0..vectors::piece_count(by.dimensions as usize) {
                self.remove(Tree::Embeddings, &keys::embedding(&upload.owner, &space, upload.id, piece));
            }
        }
        if let Some(hash) = keys::unhex(&upload.content_hash) {
            let key = keys::digest(&upload.owner, &hash);
            let entry: Option<ContentEntry> = self.get_json(Tree::Hashes, &key)?;
            if entry.is_some_and(|it| it.upload_id == upload.id) {
                self.remove(Tree::Hashes, &key);
            }
        }
        self.notices.push((None, Notice::FilesToRemove(upload.id)));
        self.put_json(Tree::Removals, upload.id.as_bytes(), &())?;
        if upload.thumbnail == Thumbnail::Pending {
            self.remove(Tree::LateThumbnails, upload.id.as_bytes());
        }
        self.pieces.remove(&upload.id);
        Ok(())
    }

    fn enqueue(&mut self, upload: &Upload) -> Result<(), CommandError> {
        let number = self.number_of(upload.batch_id)?;
        let open = self.state.batches.get(&upload.batch_id).is_some_and(Batch::is_open);
        let waiting = Waiting {
            owner: upload.owner.clone(),
            batch_id: upload.batch_id,
            upload_id: upload.id,
            suspect: upload.suspect,
        };
        self.put_json(Tree::Work, &keys::work(number, upload.position), &waiting)?;
        let entry = Entry {
            owner: waiting.owner,
            batch: upload.batch_id,
            batch_number: number,
            position: upload.position,
            upload: upload.id,
        };
        self.state.queue.push(entry, upload.suspect, open);
        Ok(())
    }

    fn dequeue(&mut self, upload: &Upload) -> Result<(), CommandError> {
        let number = self.number_of(upload.batch_id)?;
        self.remove(Tree::Work, &keys::work(number, upload.position));
        self.state.queue.remove(number, upload.position);
        Ok(())
    }

    fn set_aside(&mut self, upload: &Upload) {
        if let Some(batch) = self.state.batches.get(&upload.batch_id) {
            self.state.queue.remove(batch.number, upload.position);
        }
    }

    fn next_waiting(&mut self) -> Option<UploadId> {
        self.reopen();
        self.state.queue.pop().map(|entry| entry.upload)
    }

    fn next_suspect(&mut self) -> Option<UploadId> {
        self.reopen();
        self.state.queue.next_suspect().map(|entry| entry.upload)
    }

    fn waiting_of(&mut self, batch: BatchId, most: usize) -> Result<Vec<UploadId>, CommandError> {
        let number = self.number_of(batch)?;
        let mut uploads = Vec::new();
        // The writes of this draft are read through `get`, since the trees do not have them yet.
        let keys: BTreeSet<IVec> = self.writes[Tree::Work as usize]
            .range(IVec::from(&keys::number(number))..)
            .map(|(key, _)| key.clone())
            .take_while(|key| key.starts_with(&keys::number(number)))
            .collect();
        let stored = self.trees[Tree::Work as usize].scan(&keys::number(number));
        let stored = stored.map(|entry| entry.map(|(key, _)| key));
        for key in stored.chain(keys.into_iter().map(Ok)) {
            if uploads.len() >= most {
                break;
            }
            let key = key.map_err(CommandError::Unknown)?;
            if let Some(waiting) = self.get_json::<Waiting>(Tree::Work, &key)?
                && !uploads.contains(&waiting.upload_id)
            {
                uploads.push(waiting.upload_id);
            }
        }
        Ok(uploads)
    }

    fn queue_length(&self) -> u64 {
        let arriving = self.state.arriving.iter().filter_map(|id| self.state.batches.get(id));
        let missing: u64 = arriving.map(Batch::missing).sum();
        (self.state.queue.len() + self.state.held.len()) as u64 + missing
    }

    fn held(&self, id: UploadId) -> Option<&Held> {
        self.state.held.get(&id).map(|(held, _)| held)
    }

    fn change_held(&mut self, id: UploadId, part: Part) -> Option<&mut Held> {
        let (held, _) = self.state.held.get_mut(&id)?;
        match part {
            Part::Stage => drop(self.dirty_held.entry(id).or_insert(part)),
            Part::Record => drop(self.dirty_held.insert(id, part)),
        }
        Some(held)
    }

    fn held_by(&self, of: Of) -> Vec<UploadId> {
        let includes = |it: &RunningAttempt| match of {
            Of::Run(run) => it.run == run,
            Of::Batch(batch) => it.batch_id == batch,
        };
        let held = self.state.held.iter().filter(|(_, (held, _))| includes(&held.attempt));
        // Within a millisecond by batch and position.
        let mut held: Vec<_> = held
            .map(|(id, (Held { attempt: it, .. }, _))| {
                ((it.began_at, it.take, it.batch_id, it.position), *id)
            })
            .collect();
        held.sort_unstable();
        held.into_iter().map(|(_, id)| id).collect()
    }

    fn add_held(&mut self, held: Held) {
        let id = held.upload.id;
        // The rule that begins an attempt has read the record.
        let pieces = self.pieces.get(&id).copied().unwrap_or_default();
        self.state.held.insert(id, (held, pieces));
        self.dirty_held.entry(id).or_insert(Part::Stage);
    }

    fn remove_held(&mut self, id: UploadId) -> Option<Held> {
        let (held, pieces) = self.state.held.remove(&id)?;
        self.dirty_held.remove(&id);
        self.pieces.insert(id, pieces);
        self.remove(Tree::Active, id.as_bytes());
        Some(held)
    }

    fn revoke(&mut self, held: &Held) {
        self.notices.push((Some(held.attempt.run), Notice::Revoked(Token::of(held))));
    }

    fn path(&mut self, owner: &Owner, path: &PlacePath) -> Result<Option<PathEntry>, CommandError> {
        self.check(path, owner, |it| it.paths.contains(path));
        self.get_json(Tree::Places, &keys::digest(owner, &keys::path_digest(path)))
    }

    fn put_path(
        &mut self,
        owner: &Owner,
        path: &PlacePath,
        entry: Option<&PathEntry>,
    ) -> Result<(), CommandError> {
        let key = keys::digest(owner, &keys::path_digest(path));
        match entry {
            Some(entry) => self.put_json(Tree::Places, &key, entry),
            None => {
                self.remove(Tree::Places, &key);
                Ok(())
            }
        }
    }

    fn put_result(&mut self, upload: &Upload, vector: &[f32]) -> Result<(), CommandError> {
        if let Some(by) = &upload.embedded_by {
            let space = vectors::space(by);
            for (piece, bytes) in vectors::pieces(vector) {
                let key = keys::embedding(&upload.owner, &space, upload.id, piece);
                self.put(Tree::Embeddings, &key, &bytes);
            }
        }
        let Some(hash) = keys::unhex(&upload.content_hash) else { return Ok(()) };
        let entry = ContentEntry { upload_id: upload.id };
        self.put_json(Tree::Hashes, &keys::digest(&upload.owner, &hash), &entry)
    }

    fn files_removed(&mut self, id: UploadId) {
        self.remove(Tree::Removals, id.as_bytes());
    }

    fn set_late(&mut self, upload: &Upload, is_late: bool) -> Result<(), CommandError> {
        match is_late {
            true => self.put_json(Tree::LateThumbnails, upload.id.as_bytes(), &()),
            false => {
                self.remove(Tree::LateThumbnails, upload.id.as_bytes());
                Ok(())
            }
        }
    }

    fn run(&self, id: RunId) -> Option<&RunRecord> {
        self.state.runs.get(&id)
    }

    fn runs(&self) -> Vec<RunId> {
        self.state.runs.keys().copied().collect()
    }

    fn put_run(&mut self, id: RunId, run: Option<RunRecord>) -> Result<(), CommandError> {
        match run {
            Some(run) => {
                self.put_json(Tree::Runs, &keys::run(id), &run)?;
                self.state.runs.insert(id, run);
            }
            None => {
                self.remove(Tree::Runs, &keys::run(id));
                self.state.runs.remove(&id);
            }
        }
        Ok(())
    }

    fn append_event(
        &mut self,
        owner: &Owner,
        batch: Option<(BatchId, Tally)>,
        upload: Option<UploadId>,
        kind: EventKind,
    ) -> Result<(), CommandError> {
        self.log(owner, batch, upload, kind)
    }

    fn kept_events(&mut self, owner: &Owner) -> Result<(u64, u64), CommandError> {
        self.kept(owner)
    }

    fn forget_events(&mut self, owner: &Owner, most: u64, end: u64) -> Result<u64, CommandError> {
        self.forget(owner, most, end)
    }
}
