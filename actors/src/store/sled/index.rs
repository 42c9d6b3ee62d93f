//! The state in memory: what follows from the trees, built at a start and changed with every commit.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{
    Sled,
    event_log::kept_events,
    keys::{self, Tree},
    pages::Read,
    queue::{Entry, Queue},
    records::{assemble, decode, decode_upload},
    unit_of_work::Waiting,
};
use crate::{
    batch::Batch,
    id::{BatchId, Owner, UploadId},
    store::{
        Clock, CommandError, RunId, RunRecord, Scope,
        attempt::RunningAttempt,
        unit_of_work::{Held, Usage},
    },
};

/// The state that the committer holds in memory.
pub(super) struct State {
    pub(super) queue: Queue,
    /// Uploads with running attempts, each with the number of pieces that its record has.
    pub(super) held: HashMap<UploadId, (Held, usize)>,
    /// Records of unfinished batches.
    pub(super) batches: HashMap<BatchId, Batch>,
    /// Runs that have started, with some that have ended.
    pub(super) runs: HashMap<RunId, RunRecord>,
    /// First and last number of each owner's events that are kept.
    pub(super) seqs: HashMap<Owner, (u64, u64)>,
    pub(super) newest_change: u64,
    pub(super) next_batch: u64,
    /// Batches that are still being written.
    pub(super) arriving: HashSet<BatchId>,
    /// Batches of each owner that have ended without uploads, by number.
    pub(super) empty: HashMap<Owner, BTreeMap<u64, BatchId>>,
    /// What each owner has in the store, if it is counted.
    pub(super) usage: Option<HashMap<Owner, Usage>>,
    /// Events kept of each owner.
    pub(super) keep_events: u64,
    /// Owners with more events than `keep_events`.
    pub(super) overfull: HashSet<Owner>,
    pub(super) clock: Clock,
    /// The scope of the first start; `None` before.
    scope: Option<Scope>,
}

/// The unfinished work that the first start found, beside uploads in the queue.
#[derive(Default)]
pub(in super::super) struct Loaded {
    /// Uploads outside the scope.
    pub(in super::super) resting: usize,
    /// Runs of dead processes: those with attempts or a record.
    pub(in super::super) runs: Vec<RunId>,
    /// Batches that were cancelled and have uploads that are not.
    pub(in super::super) cancelled: Vec<(Owner, BatchId)>,
    /// Batches of which a part was written.
    pub(in super::super) arriving: Vec<(Owner, BatchId)>,
}

impl State {
    pub(super) fn new(newest_change: u64, keep_events: u64, clock: Clock) -> Self {
        Self {
            queue: Queue::default(),
            held: HashMap::new(),
            batches: HashMap::new(),
            runs: HashMap::new(),
            seqs: HashMap::new(),
            newest_change,
            next_batch: 1,
            arriving: HashSet::new(),
            empty: HashMap::new(),
            usage: None,
            keep_events,
            overfull: HashSet::new(),
            clock,
            scope: None,
        }
    }

    /// What an owner has in the store, if it is counted.
    pub(super) fn usage_of(&mut self, owner: &Owner) -> Option<&mut Usage> {
        self.usage.as_mut().map(|usage| usage.entry(owner.clone()).or_default())
    }

    /// Whether a run has started on the open store.
    pub(super) fn is_loaded(&self) -> bool {
        self.scope.is_some()
    }

    /// Whether events can be forgotten while nobody waits for anything.
    pub(super) fn is_idle_with_surplus(&self) -> bool {
        self.held.is_empty() && !self.overfull.is_empty() && self.runs.values().any(|run| run.ended.is_none())
    }
}

impl Sled {
    /// Builds the state from the trees, once. Waiting uploads outside the scope stay out of the queue.
    pub(in super::super) async fn load(self: &Arc<Self>, scope: Scope) -> Result<Loaded, CommandError> {
        let sled = Arc::clone(self);
        let load = move || {
            let mut state = sled.state.lock();
            if state.is_loaded() {
                return Ok(Loaded::default());
            }
            let loaded = sled.load_state(&mut state, &scope)?;
            sled.note_depth(&state);
            state.scope = Some(scope);
            Ok(loaded)
        };
        let loaded = tokio::task::spawn_blocking(load).await.map_err(CommandError::unknown)?;
        loaded.map_err(CommandError::Unknown)
    }

    /// Builds the state anew when the store breaks, since it has changes that are not durable.
    pub(super) fn reload(&self) {
        let mut state = self.state.lock();
        let Some(scope) = state.scope.take() else { return };
        *state = State::new(state.newest_change, state.keep_events, state.clock);
        if let Err(error) = self.load_state(&mut state, &scope) {
            log::error!("the broken store cannot be read: {error}");
        }
        self.note_depth(&state);
        state.scope = Some(scope);
    }

    fn load_state(&self, state: &mut State, scope: &Scope) -> Read<Loaded> {
        let mut loaded = Loaded::default();
        if self.count_usage {
            state.usage = Some(HashMap::new());
            for entry in self.tree(Tree::Uploads).iter() {
                let (key, _) = entry?;
                if keys::is_record(&key)
                    && let Some(upload) = self.upload_under(&key)?
                    && let Some(usage) = state.usage_of(&upload.owner)
                {
                    usage.bytes = usage.bytes.saturating_add(Usage::of(&upload).bytes);
                }
            }
        }
        if let Some(next) = self.tree(Tree::Meta).get(keys::NEXT_BATCH)? {
            state.next_batch = String::from_utf8_lossy(&next).parse().unwrap_or(1);
        }
        for entry in self.tree(Tree::Runs).iter() {
            let (key, value) = entry?;
            if let Some(run) = keys::run_of(&key) {
                state.runs.insert(run, decode(&value)?);
            }
        }
        for entry in self.tree(Tree::Batches).iter() {
            let batch: Batch = decode(&entry?.1)?;
            state.next_batch = state.next_batch.max(batch.number.saturating_add(1));
            if batch.status().is_terminal() && batch.counts.total == 0 {
                state.empty.entry(batch.owner.clone()).or_default().insert(batch.number, batch.id);
            }
            if let Some(usage) = state.usage_of(&batch.owner) {
                usage.batches += 1;
            }
            if !batch.status().is_terminal() {
                let name = (batch.owner.clone(), batch.id);
                if batch.arriving {
                    state.arriving.insert(batch.id);
                    loaded.arriving.push(name);
                } else if batch.cancelled_at.is_some() {
                    loaded.cancelled.push(name);
                }
                state.batches.insert(batch.id, batch);
            }
        }
        let live = state.runs.iter().filter(|(_, record)| record.ended.is_none());
        let mut runs: HashSet<RunId> = live.map(|(run, _)| *run).collect();
        for entry in self.tree(Tree::Active).iter() {
            let attempt: RunningAttempt = decode(&entry?.1)?;
            runs.insert(attempt.run);
            let key = keys::upload(attempt.batch_id, attempt.position);
            if let Some((record, pieces)) = self.record_at(&key)? {
                let mut upload = decode_upload(&record)?;
                attempt.bring(&mut upload);
                state.held.insert(upload.id, (Held { upload, attempt }, pieces));
            }
        }
        loaded.runs = runs.into_iter().collect();
        loaded.resting = self.load_queue(state, scope)?;
        let owners: Vec<Owner> = state.batches.values().map(|batch| batch.owner.clone()).collect();
        for owner in owners {
            let kept = kept_events(self.tree(Tree::Events), &owner)?;
            state.seqs.insert(owner, kept);
        }
        Ok(loaded)
    }

    /// Fills the queue. Answers with the number of uploads outside the scope.
    fn load_queue(&self, state: &mut State, scope: &Scope) -> Read<usize> {
        let mut resting = 0;
        for entry in self.tree(Tree::Work).iter() {
            let (key, value) = entry?;
            let waiting: Waiting = decode(&value)?;
            let Some((number, position)) = keys::work_of(&key) else { continue };
            if *scope != Scope::All {
                let record = self.record_at(&keys::upload(waiting.batch_id, position))?;
                let upload = record.map(|(record, _)| decode_upload(&record)).transpose()?;
                if !upload.is_some_and(|upload| scope.includes(&upload)) {
                    resting += 1;
                    continue;
                }
            }
            let open = state.batches.get(&waiting.batch_id).is_some_and(Batch::is_open);
            let entry = Entry {
                owner: waiting.owner,
                batch: waiting.batch_id,
                batch_number: number,
                position,
                upload: waiting.upload_id,
            };
            state.queue.push(entry, waiting.suspect, open);
        }
        Ok(resting)
    }

    pub(super) fn record_at(&self, key: &[u8]) -> Read<Option<(sled::IVec, usize)>> {
        assemble(key, |key| self.tree(Tree::Uploads).get(key))
    }
}
