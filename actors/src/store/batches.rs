//! What happens to batches, each change a command of the committer.

use super::{
    Accepted, Commands, NewBatch, NewUpload, WriteError,
    draft::Draft,
    keys::{self, Tree},
    places::{Replaces, occupy, release},
    removal::{Terminated, delete},
};
use crate::{
    batch::Batch,
    event::EventKind,
    id::{BatchId, Owner, UploadId},
    upload::{Stage, Status, Step, Thumbnail, Upload},
};

/// Uploads that one command writes, cancels or retries: a huge batch must not hold everything up, and sled keeps what a transaction replaces,
/// some 20 KiB for each upload, until its end.
const GROUP: usize = 1000;

impl Commands {
    /// Writes a batch and its uploads, those of a large one in groups. A process that dies between two leaves a batch of those that were
    /// written, which nobody was told of.
    ///
    /// # Errors
    /// [`WriteError::Full`] if more uploads would wait than `max_queued`.
    pub async fn submit(&self, new: NewBatch, max_queued: u64) -> Result<Accepted, WriteError> {
        let NewBatch { owner, refused, uploads } = new;
        let total = uploads.len() as u64;
        let mut uploads = uploads.into_iter();
        let mut group = || uploads.by_ref().take(GROUP).collect::<Vec<_>>();
        let first = group();
        let mut written = first.len();
        let whole = written as u64 == total;
        let of = owner.clone();
        let mut accepted = self
            .inner
            .write(move |draft| {
                let id = create(draft, &of, refused, total, max_queued)?;
                let mut accepted =
                    Accepted { batch_id: id, uploads: Vec::new(), ended: Terminated::default() };
                add(draft, &mut accepted, first)?;
                if whole {
                    complete(draft, id)?;
                }
                Ok(accepted)
            })
            .await?;
        if whole {
            return Ok(accepted);
        }
        while (written as u64) < total {
            let more = group();
            written += more.len();
            let add = move |draft: &mut Draft<'_>| add(draft, &mut accepted, more).map(|()| accepted);
            accepted = self.inner.write(add).await?;
        }
        let ended = self.set_complete(owner, accepted.batch_id).await?;
        accepted.ended.extend(ended);
        Ok(accepted)
    }

    /// Lets the uploads of a batch be begun, which are all written now, or as many of them as there will be. Whoever cancelled it meanwhile
    /// meant all.
    pub(super) async fn set_complete(&self, owner: Owner, batch: BatchId) -> Result<Terminated, WriteError> {
        let cancelled = self.inner.write(move |draft| complete(draft, batch)).await?;
        if cancelled { self.cancel(owner, batch).await } else { Ok(Terminated::default()) }
    }

    /// Cancels the unfinished uploads of a batch; of one that has none, nothing changes.
    pub async fn cancel(&self, owner: Owner, batch: BatchId) -> Result<Terminated, WriteError> {
        let mut ended = Terminated::default();
        loop {
            let owner = owner.clone();
            let (more, in_flight) = self.inner.write(move |draft| cancel(draft, &owner, batch)).await?;
            ended.in_flight.extend(in_flight);
            if !more {
                return Ok(ended);
            }
        }
    }

    /// Pauses a batch (`true`) or lets it go on; where it stands so already, nothing changes.
    pub async fn set_paused(&self, owner: Owner, batch: BatchId, paused: bool) -> Result<(), WriteError> {
        self.inner
            .write(move |draft| {
                let now = draft.now;
                let record = owned_batch(draft, &owner, batch)?;
                if record.paused_at.is_some() == paused {
                    return Ok(());
                }
                if record.status().is_terminal() {
                    return Err(WriteError::Refused(format!(
                        "the batch has ended as {}",
                        record.status().as_str()
                    )));
                }
                record.paused_at = paused.then_some(now);
                record.pace = None;
                let (number, open) = (record.number, record.is_open());
                draft.state.queue.set_open(number, open);
                draft.emit(batch, None, if paused { EventKind::BatchPaused } else { EventKind::BatchResumed })
            })
            .await
    }

    /// Begins the next run for the failed uploads of a batch. Answers with how many there are; 0 changes nothing.
    pub async fn retry_failed(&self, owner: Owner, batch: BatchId) -> Result<u32, WriteError> {
        let (mut retried, mut from) = (0, 0);
        loop {
            let owner = owner.clone();
            let goes_on = retried > 0;
            let change = move |draft: &mut Draft<'_>| retry(draft, &owner, batch, from, goes_on);
            let (more, next) = self.inner.write(change).await?;
            retried += more;
            match next {
                Some(next) => from = next,
                None => return Ok(retried),
            }
        }
    }
}

pub(super) fn unfinished_batches(draft: &Draft<'_>) -> Vec<BatchId> {
    draft.state.batches.iter().filter(|(_, it)| it.counts.unfinished() > 0).map(|(id, _)| *id).collect()
}

/// Makes a batch that uploads can be added to.
fn create(
    draft: &mut Draft<'_>,
    owner: &Owner,
    refused: u32,
    uploads: u64,
    max_queued: u64,
) -> Result<BatchId, WriteError> {
    let state = &mut *draft.state;
    let waiting = state.queue.len() as u64 + state.active.len() as u64 + state.arriving;
    if waiting + uploads > max_queued {
        return Err(WriteError::Full { limit: max_queued });
    }
    state.arriving += uploads;
    let number = state.next_batch;
    state.next_batch += 1;
    draft.put(Tree::Meta, keys::NEXT_BATCH, draft.state.next_batch.to_string().as_bytes());
    let id = BatchId::generate();
    draft.put(Tree::OwnerBatches, &keys::owner_batch(owner, number), format!("\"{id}\"").as_bytes());
    draft.state.batches.insert(id, Batch::new(id, number, owner.clone(), refused, draft.now));
    Ok(id)
}

/// Adds the next uploads of a batch.
fn add(draft: &mut Draft<'_>, accepted: &mut Accepted, uploads: Vec<NewUpload>) -> Result<(), WriteError> {
    let (now, id) = (draft.now, accepted.batch_id);
    draft.state.arriving = draft.state.arriving.saturating_sub(uploads.len() as u64);
    let batch = draft.batch(id)?.ok_or(WriteError::NotFound("batch"))?;
    let (owner, number) = (batch.owner.clone(), batch.number);
    let from = batch.accepted;
    batch.accepted += uploads.len() as u32;
    for (position, new_upload) in (from..).zip(uploads) {
        let mut replaces = None;
        if let Some(Replaces { upload: older, at }) = new_upload.replaces
            && let Some(record) = draft.upload(older)?
            && record.owner == owner
            && record.place() == Some(at.as_path())
        {
            if record.status == Status::Completed {
                replaces = Some(older);
                release(draft, &owner, &at, older)?;
            } else if let Some((record, was_active)) = delete(draft, &owner, older)? {
                // What never completed goes at once; what it was to replace is now this one's to replace.
                replaces = record.replaces;
                accepted.ended.removed.push(older);
                accepted.ended.in_flight.extend(was_active.then_some(older));
            }
        }
        let kept = match new_upload.described_as {
            Some(older) => draft.upload(older)?.filter(|it| it.owner == owner),
            None => None,
        };
        let (facts, objects, description) =
            kept.map(|it| (it.facts, it.objects, it.description)).unwrap_or_default();
        let upload = Upload {
            v: 1,
            id: new_upload.id,
            batch_id: id,
            owner: owner.clone(),
            position,
            file: new_upload.file,
            also_at: Vec::new(),
            file_name: new_upload.file_name,
            file_size: new_upload.file_size,
            content_hash: new_upload.content_hash,
            format: new_upload.format,
            decode_bytes: new_upload.decode_bytes,
            created_at: now,
            updated_at: now,
            status: Status::Pending,
            stage: Stage::Queued,
            round: 1,
            attempt: 0,
            attempts: Vec::new(),
            failures: Vec::new(),
            interruptions: 0,
            provider_away: 0,
            suspect: false,
            thumbnail: Thumbnail::Pending,
            facts,
            objects,
            description,
            embedded_by: None,
            embedding_changed: None,
            replaces,
            history: Vec::new(),
        };
        let key = keys::upload(id, position);
        draft.put_record(&upload, 0)?;
        draft.put(Tree::UploadIds, upload.id.as_bytes(), &key);
        draft.enqueue(&upload, number, false)?;
        if let Some(place) = new_upload.place {
            occupy(draft, &owner, &place, upload.id)?;
        }
        if let Some(batch) = draft.batch(id)? {
            batch.counts.add(&upload);
        }
        accepted.uploads.push(upload.id);
    }
    Ok(())
}

/// No more uploads of a batch will be written, so that they may be begun. Says whether it was cancelled meanwhile.
fn complete(draft: &mut Draft<'_>, id: BatchId) -> Result<bool, WriteError> {
    let batch = draft.batch(id)?.ok_or(WriteError::NotFound("batch"))?;
    batch.arriving = false;
    let (number, open, cancelled) = (batch.number, batch.is_open(), batch.cancelled_at.is_some());
    draft.state.queue.set_open(number, open);
    draft.emit(id, None, EventKind::BatchSubmitted)?;
    Ok(cancelled)
}

/// The batch, if it is this owner's.
fn owned_batch<'d>(
    draft: &'d mut Draft<'_>,
    owner: &Owner,
    id: BatchId,
) -> Result<&'d mut Batch, WriteError> {
    draft.batch(id)?.filter(|batch| batch.owner == *owner).ok_or(WriteError::NotFound("batch"))
}

/// Cancels what is in flight of a batch and a bounded number of what waits; says whether there is more.
fn cancel(draft: &mut Draft<'_>, owner: &Owner, id: BatchId) -> Result<(bool, Vec<UploadId>), WriteError> {
    let now = draft.now;
    let batch = owned_batch(draft, owner, id)?;
    if batch.status().is_terminal() {
        return Ok((false, Vec::new()));
    }
    let number = batch.number;
    let first = batch.cancelled_at.is_none();
    batch.cancelled_at.get_or_insert(now);
    draft.state.queue.set_open(number, false);
    if first {
        draft.emit(id, None, EventKind::BatchCancelled)?;
    }
    let in_flight: Vec<UploadId> =
        draft.state.active.iter().filter(|(_, it)| it.upload.batch_id == id).map(|(id, _)| *id).collect();
    let mut keys: Vec<Vec<u8>> = Vec::new();
    for entry in draft.scan(Tree::Work, &keys::number(number)) {
        let (key, _) = entry.map_err(WriteError::unknown)?;
        // What this draft took out of the queue is in flight or ended.
        if draft.get(Tree::Work, &key)?.is_some()
            && let Some(position) = key.last_chunk::<4>()
        {
            keys.push(keys::upload(id, u32::from_be_bytes(*position)).to_vec());
            if keys.len() == GROUP {
                break;
            }
        }
    }
    for running in &in_flight {
        draft.leave(*running, Step::Cancel)?;
        draft.emit(id, Some(*running), EventKind::UploadCancelled)?;
    }
    for key in keys {
        let Some(mut upload) = draft.upload_at(&key)? else { continue };
        draft.step(&mut upload, Step::Cancel)?;
        draft.emit(id, Some(upload.id), EventKind::UploadCancelled)?;
    }
    let more = owned_batch(draft, owner, id)?.counts.unfinished() > 0;
    Ok((more, in_flight))
}

/// Retries what failed among a bounded number of a batch's uploads from a position on; `goes_on` if some were retried before. Answers with
/// how many there were, and where there may be more.
fn retry(
    draft: &mut Draft<'_>,
    owner: &Owner,
    id: BatchId,
    from: u32,
    goes_on: bool,
) -> Result<(u32, Option<u32>), WriteError> {
    let record = owned_batch(draft, owner, id)?;
    // Whoever cancels meanwhile means the rest, too.
    if record.counts.failed == 0 || (goes_on && record.cancelled_at.is_some()) {
        return Ok((0, None));
    }
    let (mut failed, mut next) = (Vec::new(), None);
    let mut looked_at = 0;
    for entry in draft.range(Tree::Uploads, &keys::upload(id, from), &keys::upload(id, u32::MAX)) {
        let (key, _) = entry.map_err(WriteError::unknown)?;
        if !keys::is_record(&key) {
            continue;
        }
        if looked_at == GROUP {
            next = key.last_chunk::<4>().map(|position| u32::from_be_bytes(*position));
            break;
        }
        looked_at += 1;
        failed.extend(draft.upload_at(&key)?.filter(|it| it.status == Status::Failed));
    }
    if failed.is_empty() {
        return Ok((0, next));
    }
    let record = owned_batch(draft, owner, id)?;
    // Later groups find the run begun, unless it has ended meanwhile.
    let begins = record.status().is_terminal();
    if begins {
        record.round += 1;
        record.started_at = None;
        record.completed_at = None;
        record.cancelled_at = None;
        record.paused_at = None;
    }
    record.pace = None;
    let round = record.round;
    let retried = failed.len() as u32;
    for mut upload in failed {
        let round = round.max(upload.round + 1);
        draft.step(&mut upload, Step::Retry { round })?;
    }
    if begins || !goes_on {
        draft.emit(id, None, EventKind::BatchRetried { round })?;
    }
    Ok((retried, next))
}
