//! Taking up what an earlier process left unfinished.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Commands, Inner, WriteError,
    batches::unfinished_batches,
    draft::{self, Active, State, Work},
    events,
    keys::{self, Tree},
    queue::Entry,
    reads,
};
use crate::{
    batch::Batch,
    event::EventKind,
    id::{BatchId, Owner, UploadId},
    upload::{Status, Step, Upload},
};

/// Which unfinished uploads an opened store takes up again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// All.
    #[default]
    All,
    /// Only files in place at or below these paths; the others rest.
    Below(Vec<PathBuf>),
}

impl Scope {
    fn includes(&self, upload: &Upload) -> bool {
        match self {
            Self::All => true,
            Self::Below(paths) => {
                upload.place().is_some_and(|place| paths.iter().any(|path| place.starts_with(path)))
            }
        }
    }
}

/// What an opened store took up again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Uploads that wait for a worker.
    pub waiting: usize,
    /// Uploads that were in flight when the last process died.
    pub interrupted: usize,
    /// Unfinished uploads outside the scope, which rest.
    pub resting: usize,
}

/// What an earlier process left, as far as it is not simply to go on.
#[derive(Default)]
struct Left {
    /// Uploads outside the scope.
    resting: usize,
    /// Batches that were cancelled and have uploads that are not.
    cancelled: Vec<(Owner, BatchId)>,
    /// Batches of which not all uploads were written.
    arriving: Vec<(Owner, BatchId)>,
}

impl Commands {
    /// Takes up what is unfinished: what waits waits again, and what was in flight is ended as interrupted.
    ///
    /// # Errors
    /// [`WriteError::Unknown`] if the store cannot be read or written.
    pub async fn recover(&self, scope: Scope, max_interruptions: u32) -> Result<Recovered, WriteError> {
        let inner = Arc::clone(&self.inner);
        let within = scope.clone();
        let load = move || {
            let mut state = inner.state.lock();
            let loaded = inner.load(&mut state, &within);
            inner.note_load(&state);
            loaded
        };
        let Left { mut resting, cancelled, arriving } = tokio::task::spawn_blocking(load)
            .await
            .map_err(WriteError::unknown)?
            .map_err(WriteError::unknown)?;
        let (interrupted, outside) = self.end_interrupted(max_interruptions, scope).await?;
        resting += outside;
        for (owner, batch) in arriving {
            self.set_complete(owner, batch).await?;
        }
        for (owner, batch) in cancelled {
            self.cancel(owner, batch).await?;
        }
        let waiting = self.inner.waiting.load(Ordering::Acquire);
        Ok(Recovered { waiting, interrupted, resting })
    }

    /// Ends what an earlier process left in flight as interrupted, so that the uploads wait again, or rest outside the scope. Answers with
    /// how many there were, and how many of them rest.
    async fn end_interrupted(&self, limit: u32, scope: Scope) -> Result<(usize, usize), WriteError> {
        self.inner
            .write(move |draft| {
                let mut outside = 0;
                let left: Vec<UploadId> = draft.state.active.keys().copied().collect();
                for id in &left {
                    let Some(in_flight) = draft.state.active.get(id) else { continue };
                    let (attempt, alone) = (in_flight.upload.attempt, in_flight.entry.alone);
                    let upload = draft.leave(*id, Step::Interrupt { alone, limit })?;
                    let last = upload.status == Status::Failed;
                    draft.emit(upload.batch_id, Some(*id), EventKind::UploadInterrupted { attempt, last })?;
                    // As a suspect it would run before all others, and alone: what is outside must not pay for it.
                    if !last
                        && !scope.includes(&upload)
                        && let Some(batch) = draft.batch(upload.batch_id)?
                    {
                        let number = batch.number;
                        draft.state.queue.remove(number, upload.position);
                        outside += 1;
                    }
                }
                for batch in unfinished_batches(draft) {
                    if let Some(batch) = draft.batch(batch)? {
                        batch.pace = None;
                    }
                }
                Ok((left.len(), outside))
            })
            .await
    }
}

impl Inner {
    /// Builds the state anew from the trees.
    fn load(&self, state: &mut State, scope: &Scope) -> Result<Left, String> {
        let text = |error: sled::Error| error.to_string();
        let json = |error: serde_json::Error| error.to_string();
        if let Some(next) = self.trees[Tree::Meta as usize].get(keys::NEXT_BATCH).map_err(text)? {
            state.next_batch = String::from_utf8_lossy(&next).parse().unwrap_or(1);
        }
        let mut left = Left::default();
        for entry in self.trees[Tree::Batches as usize].iter() {
            let batch: Batch = serde_json::from_slice(&entry.map_err(text)?.1).map_err(json)?;
            state.next_batch = state.next_batch.max(batch.number + 1);
            if !batch.status().is_terminal() {
                let name = (batch.owner.clone(), batch.id);
                if batch.arriving {
                    left.arriving.push(name);
                } else if batch.cancelled_at.is_some() {
                    left.cancelled.push(name);
                }
                state.batches.insert(batch.id, batch);
            }
        }
        let record = |key: &[u8]| reads::record_at(&self.trees[Tree::Uploads as usize], key);
        for entry in self.trees[Tree::Active as usize].iter() {
            let entry: Active = serde_json::from_slice(&entry.map_err(text)?.1).map_err(json)?;
            if let Some(record) = record(&keys::upload(entry.batch_id, entry.position))? {
                let (mut upload, pieces) = (reads::decode::<Upload>(&record)?, draft::pieces(&record));
                entry.bring(&mut upload);
                state
                    .active
                    .insert(upload.id, draft::InFlight { upload, entry, pieces, _hold: Arc::default() });
            }
        }
        for entry in self.trees[Tree::Work as usize].iter() {
            let (key, work) = entry.map_err(text)?;
            let work: Work = serde_json::from_slice(&work).map_err(json)?;
            let (Some(number), Some(position)) = (key.first_chunk::<8>(), key.last_chunk::<4>()) else {
                continue;
            };
            let (number, position) = (u64::from_be_bytes(*number), u32::from_be_bytes(*position));
            if *scope != Scope::All {
                let record = record(&keys::upload(work.batch_id, position))?;
                let upload: Option<Upload> = record.map(|record| reads::decode(&record)).transpose()?;
                if !upload.is_some_and(|upload| scope.includes(&upload)) {
                    left.resting += 1;
                    continue;
                }
            }
            let open = state.batches.get(&work.batch_id).is_some_and(Batch::is_open);
            let entry = Entry {
                owner: work.owner,
                batch: work.batch_id,
                batch_number: number,
                position,
                upload: work.upload_id,
            };
            state.queue.push(entry, work.suspect, open);
        }
        let owners: Vec<Owner> = state.batches.values().map(|batch| batch.owner.clone()).collect();
        for owner in owners {
            let kept = events::kept_events(&self.trees[Tree::Events as usize], &owner).map_err(text)?;
            state.seqs.insert(owner, kept);
        }
        Ok(left)
    }
}
