//! The changes of the store, each one a command of the committer.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{
    Accepted, AfterAttempt, Begun, NewBatch, Store, Token, WriteError,
    draft::{Active, Draft, InFlight},
    keys::{self, Tree},
    vectors,
};
use crate::{
    analysis::{Identity, Object, ProviderState},
    batch::Batch,
    event::What,
    id::{BatchId, Owner, UploadId},
    media::Facts,
    upload::{Description, Failure, FileRef, Stage, Status, Step, Thumbnail, Upload},
};

/// Pending uploads that one command cancels, so that a huge batch does not hold everything up.
const CANCEL_GROUP: usize = 1000;

/// Entry of the tree `hashes`.
#[derive(Serialize, Deserialize)]
pub(super) struct Hashed {
    pub(super) upload_id: UploadId,
}

/// What a cancel or a delete did.
#[derive(Debug, Default)]
pub struct Ended {
    /// Uploads that were in the hands of workers, which are to be stopped.
    pub in_flight: Vec<UploadId>,
    /// Uploads whose files are to be removed.
    pub removed: Vec<UploadId>,
}

impl Store {
    /// Writes a batch and its uploads.
    ///
    /// # Errors
    /// [`WriteError::Full`] if more uploads would wait than `max_queued`.
    pub async fn submit(&self, new: NewBatch, max_queued: u64) -> Result<Accepted, WriteError> {
        self.inner.write(move |draft| submit(draft, new, max_queued)).await
    }

    /// Chooses up to `most` uploads whose turn it is and begins an attempt of each. Fewer come back if fewer may be begun: none beside a
    /// suspect, and a suspect only alone.
    pub async fn begin_next(&self, most: usize) -> Result<Vec<Begun>, WriteError> {
        self.inner
            .write(move |draft| {
                let mut begun = Vec::new();
                if draft.state.active.values().any(|it| it.entry.alone) {
                    return Ok(begun);
                }
                if let Some(suspect) = draft.state.queue.next_suspect() {
                    if draft.state.active.is_empty() {
                        begun.extend(begin(draft, suspect.upload, true)?);
                    }
                    return Ok(begun);
                }
                while begun.len() < most {
                    let Some(next) = draft.state.queue.pop() else { break };
                    begun.extend(begin(draft, next.upload, false)?);
                }
                Ok(begun)
            })
            .await
    }

    /// Notes the step that an attempt is in. Nobody waits for it: it reaches the disk with the next change that somebody waits for.
    pub fn note_stage(&self, token: Token, stage: Stage) {
        drop(self.inner.write(move |draft| {
            let now = draft.now;
            let in_flight = held(draft, &token)?;
            in_flight.entry.stage = stage;
            in_flight.entry.since = now;
            draft.touch(token.upload);
            Ok(())
        }));
    }

    /// Keeps what the decode gave. Nobody waits for it, as for [`Store::note_stage`].
    pub fn keep_media(&self, token: Token, thumbnail: Thumbnail, facts: Facts) {
        drop(self.inner.write(move |draft| {
            change(draft, &token, Step::Prepare { thumbnail, facts })?;
            Ok(())
        }));
    }

    /// Goes on with a description that an earlier attempt kept. Nobody waits for it.
    pub fn keep_going(&self, token: Token) {
        drop(self.inner.write(move |draft| change(draft, &token, Step::Embed).map(drop)));
    }

    /// Keeps a description.
    ///
    /// # Errors
    /// [`WriteError::Stale`] if the attempt was given up meanwhile.
    pub async fn keep_description(
        &self,
        token: Token,
        description: Description,
        objects: Vec<Object>,
        took_ms: u64,
    ) -> Result<(), WriteError> {
        self.inner
            .write(move |draft| {
                let (audit_score, needs_review) = (description.audit_score, description.needs_review);
                let upload = change(draft, &token, Step::Describe { description, objects })?;
                draft.emit(
                    upload.batch_id,
                    Some(upload.id),
                    What::UploadDescribed { attempt: token.attempt, audit_score, needs_review, took_ms },
                )
            })
            .await
    }

    /// Keeps the vector, with what was changed to get it, and ends the upload well. Answers with an older upload of the same file whose files are to be removed.
    ///
    /// # Errors
    /// [`WriteError::Stale`] if the attempt was given up meanwhile.
    pub async fn complete(
        &self,
        token: Token,
        vector: Vec<f32>,
        by: Identity,
        changed: Option<String>,
        took_ms: u64,
    ) -> Result<Option<UploadId>, WriteError> {
        self.inner
            .write(move |draft| {
                let space = vectors::space(&by);
                let upload = change(draft, &token, Step::Complete { by, changed })?;
                for (piece, bytes) in vectors::pieces(&vector) {
                    draft.put(
                        Tree::Embeddings,
                        &keys::embedding(&upload.owner, &space, upload.id, piece),
                        bytes,
                    );
                }
                if let Some(hash) = keys::unhex(&upload.content_hash) {
                    let key = keys::digest(&upload.owner, &hash);
                    draft.put_json(Tree::Hashes, &key, &Hashed { upload_id: upload.id })?;
                }
                let (audit_score, needs_review) =
                    upload.description.as_ref().map_or((0, false), |it| (it.audit_score, it.needs_review));
                draft.emit(
                    upload.batch_id,
                    Some(upload.id),
                    What::UploadCompleted { attempt: token.attempt, audit_score, needs_review, took_ms },
                )?;
                let replaced = match upload.replaces {
                    Some(older) => delete(draft, &upload.owner, older)?,
                    None => None,
                };
                Ok(replaced.map(|it| it.0.id))
            })
            .await
    }

    /// Ends an attempt as failed. The first time, the next attempt is begun in the same change.
    ///
    /// # Errors
    /// [`WriteError::Stale`] if the attempt was given up meanwhile.
    pub async fn fail(&self, token: Token, failure: Failure) -> Result<AfterAttempt, WriteError> {
        self.inner.write(move |draft| fail(draft, &token, failure)).await
    }

    /// Ends an attempt that does not count. If the provider went away under this upload before, it does count as failed.
    ///
    /// # Errors
    /// [`WriteError::Stale`] if the attempt was given up meanwhile.
    pub async fn hand_back(
        &self,
        token: Token,
        provider_went_away: Option<Failure>,
    ) -> Result<AfterAttempt, WriteError> {
        self.inner
            .write(move |draft| {
                let went_away_before = held(draft, &token)?.upload.provider_away > 0;
                match provider_went_away {
                    Some(failure) if went_away_before => fail(draft, &token, failure),
                    went_away => hand_back(draft, &token, went_away.is_some()),
                }
            })
            .await
    }

    /// Ends all running attempts as handed back: the process stops in good order.
    pub async fn hand_back_all(&self) -> Result<usize, WriteError> {
        self.inner
            .write(|draft| {
                let tokens: Vec<Token> =
                    draft.state.active.iter().map(|(id, it)| Token::of(*id, &it.entry)).collect();
                for token in &tokens {
                    hand_back(draft, token, false)?;
                }
                Ok(tokens.len())
            })
            .await
    }

    /// Cancels the unfinished uploads of a batch; of one that has none, nothing changes.
    pub async fn cancel(&self, owner: Owner, batch: BatchId) -> Result<Ended, WriteError> {
        let mut ended = Ended::default();
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
                draft.emit(batch, None, if paused { What::BatchPaused } else { What::BatchResumed })
            })
            .await
    }

    /// Begins the next run for the failed uploads of a batch. Answers with how many there are; 0 changes nothing.
    pub async fn retry_failed(&self, owner: Owner, batch: BatchId) -> Result<u32, WriteError> {
        self.inner
            .write(move |draft| {
                let record = owned_batch(draft, &owner, batch)?;
                if record.counts.failed == 0 {
                    return Ok(0);
                }
                let ended = record.status().is_terminal();
                if ended {
                    record.run += 1;
                    record.started_at = None;
                    record.completed_at = None;
                    record.cancelled_at = None;
                    record.paused_at = None;
                }
                record.pace = None;
                let run = record.run;
                let mut retried = 0;
                for key in upload_keys(draft, batch)? {
                    let Some(mut upload) = draft.upload_at(&key)? else { continue };
                    if upload.status == Status::Failed {
                        let run = run.max(upload.run + 1);
                        draft.step(&mut upload, Step::Retry { run })?;
                        retried += 1;
                    }
                }
                draft.emit(batch, None, What::BatchRetried { run })?;
                Ok(retried)
            })
            .await
    }

    /// Deletes an upload, wherever it stands.
    pub async fn delete(&self, owner: Owner, upload: UploadId) -> Result<Ended, WriteError> {
        self.inner
            .write(move |draft| {
                let Some((upload, was_active)) = delete(draft, &owner, upload)? else {
                    return Err(WriteError::NotFound("upload"));
                };
                let in_flight = if was_active { vec![upload.id] } else { Vec::new() };
                Ok(Ended { in_flight, removed: vec![upload.id] })
            })
            .await
    }

    /// Forgets that files of these uploads are still to be removed.
    pub async fn files_removed(&self, uploads: Vec<UploadId>) -> Result<(), WriteError> {
        self.inner
            .write(move |draft| {
                for id in uploads {
                    draft.remove(Tree::Removals, id.as_bytes());
                }
                Ok(())
            })
            .await
    }

    /// Writes how the provider stands, and tells every owner with unfinished uploads.
    pub async fn set_provider_state(&self, state: ProviderState) -> Result<(), WriteError> {
        self.inner
            .write(move |draft| {
                let before: Option<ProviderState> = draft.get_json(Tree::Meta, keys::PROVIDER)?;
                if before.as_ref() == Some(&state) {
                    return Ok(());
                }
                draft.put_json(Tree::Meta, keys::PROVIDER, &state)?;
                let was_waiting = before.is_some_and(|it| it.waiting().is_some());
                if !was_waiting && state.waiting().is_none() {
                    return Ok(());
                }
                let mut owners: Vec<Owner> = draft.state.queue.owners().cloned().collect();
                owners.extend(draft.state.active.values().map(|it| it.upload.owner.clone()));
                owners.sort();
                owners.dedup();
                for batch in unfinished_batches(draft) {
                    if let Some(batch) = draft.batch(batch)? {
                        batch.pace = None;
                    }
                }
                for owner in owners {
                    draft.log(owner, None, None, What::ProviderChanged)?;
                }
                Ok(())
            })
            .await
    }
}

pub(super) fn unfinished_batches(draft: &Draft<'_>) -> Vec<BatchId> {
    draft.state.batches.iter().filter(|(_, it)| it.counts.unfinished() > 0).map(|(id, _)| *id).collect()
}

fn submit(draft: &mut Draft<'_>, new: NewBatch, max_queued: u64) -> Result<Accepted, WriteError> {
    let waiting = draft.state.queue.len() as u64 + draft.state.active.len() as u64;
    if waiting + new.uploads.len() as u64 > max_queued {
        return Err(WriteError::Full { limit: max_queued });
    }
    let (now, number) = (draft.now, draft.state.next_batch);
    draft.state.next_batch += 1;
    draft.put(Tree::Meta, keys::NEXT_BATCH, draft.state.next_batch.to_string().into_bytes());
    let id = BatchId::generate();
    let batch = Batch::new(id, number, new.owner.clone(), new.refused, now);
    draft.put(Tree::OwnerBatches, &keys::owner_batch(&new.owner, number), format!("\"{id}\"").into_bytes());
    draft.state.batches.insert(id, batch);

    let mut accepted = Accepted { batch_id: id, uploads: Vec::new(), ended: Ended::default() };
    for (position, new_upload) in new.uploads.into_iter().enumerate() {
        let position = position as u32;
        let mut replaces = None;
        if let Some(older) = new_upload.replaces
            && let Some(record) = draft.upload(older)?
            && record.owner == new.owner
        {
            if record.status == Status::Completed {
                replaces = Some(older);
            } else if let Some((record, was_active)) = delete(draft, &new.owner, older)? {
                // What never completed goes at once; what it was to replace is now this one's to replace.
                replaces = record.replaces;
                accepted.ended.removed.push(older);
                accepted.ended.in_flight.extend(was_active.then_some(older));
            }
        }
        let upload = Upload {
            v: 1,
            id: new_upload.id,
            batch_id: id,
            owner: new.owner.clone(),
            position,
            file: new_upload.file,
            file_name: new_upload.file_name,
            file_size: new_upload.file_size,
            content_hash: new_upload.content_hash,
            format: new_upload.format,
            decode_bytes: new_upload.decode_bytes,
            created_at: now,
            updated_at: now,
            status: Status::Pending,
            stage: Stage::Queued,
            run: 1,
            attempt: 0,
            attempts: Vec::new(),
            failures: Vec::new(),
            interruptions: 0,
            provider_away: 0,
            suspect: false,
            thumbnail: Thumbnail::Pending,
            facts: None,
            objects: Vec::new(),
            description: None,
            embedded_by: None,
            embedding_changed: None,
            replaces,
            history: Vec::new(),
        };
        let key = keys::upload(id, position);
        draft.put_upload(&upload)?;
        draft.put(Tree::UploadIds, upload.id.as_bytes(), key.to_vec());
        draft.enqueue(&upload, number, true)?;
        if let Some(place) = new_upload.place {
            draft.put_json(Tree::Places, &keys::digest(&new.owner, &place.key()), &place.entry(upload.id))?;
        }
        if let Some(batch) = draft.batch(id)? {
            batch.counts.add(&upload);
        }
        accepted.uploads.push(upload.id);
    }
    draft.emit(id, None, What::BatchSubmitted)?;
    Ok(accepted)
}

fn begin(draft: &mut Draft<'_>, id: UploadId, alone: bool) -> Result<Option<Begun>, WriteError> {
    let Some(mut upload) = draft.upload(id)? else {
        return Err(WriteError::Unknown(format!("upload {id} waits but has no record")));
    };
    // The attempt is entered before the step, which writes it with the record.
    let entry = Active {
        owner: upload.owner.clone(),
        batch_id: upload.batch_id,
        position: upload.position,
        run: draft.state.run,
        attempt: upload.attempt + 1,
        alone,
        stage: Stage::ExtractingFrames,
        since: draft.now,
    };
    let token = Token::of(id, &entry);
    draft.state.active.insert(id, InFlight { upload: upload.clone(), entry });
    draft.step(&mut upload, Step::Begin)?;
    draft.emit(upload.batch_id, Some(id), What::UploadBegun { attempt: upload.attempt })?;
    Ok(Some(Begun { upload, token, alone }))
}

/// The upload that `token` holds.
fn held<'d>(draft: &'d mut Draft<'_>, token: &Token) -> Result<&'d mut InFlight, WriteError> {
    draft
        .state
        .active
        .get_mut(&token.upload)
        .filter(|it| it.entry.run == token.run && it.entry.attempt == token.attempt)
        .ok_or(WriteError::Stale)
}

/// Takes a step of the upload that `token` holds.
fn change(draft: &mut Draft<'_>, token: &Token, step: Step) -> Result<Upload, WriteError> {
    let now = draft.now;
    let mut upload = held(draft, token)?.upload.clone();
    draft.step(&mut upload, step)?;
    if let Ok(in_flight) = held(draft, token) {
        in_flight.entry.stage = upload.stage;
        in_flight.entry.since = now;
    }
    Ok(upload)
}

fn fail(draft: &mut Draft<'_>, token: &Token, failure: Failure) -> Result<AfterAttempt, WriteError> {
    let alone = held(draft, token)?.entry.alone;
    let (attempt, stage, kind) = (token.attempt, failure.stage, failure.kind);
    let upload = change(draft, token, Step::Fail(failure))?;
    let last = upload.status == Status::Failed;
    draft.emit(upload.batch_id, Some(upload.id), What::UploadFailed { attempt, stage, kind, last })?;
    if last {
        return Ok(AfterAttempt::Ended);
    }
    Ok(begin(draft, upload.id, alone)?
        .map_or(AfterAttempt::Ended, |begun| AfterAttempt::Again(Box::new(begun))))
}

fn hand_back(
    draft: &mut Draft<'_>,
    token: &Token,
    provider_went_away: bool,
) -> Result<AfterAttempt, WriteError> {
    let upload = change(draft, token, Step::HandBack { provider_went_away })?;
    draft.emit(upload.batch_id, Some(upload.id), What::UploadHandedBack { attempt: token.attempt })?;
    Ok(AfterAttempt::Rests)
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
    if batch.counts.unfinished() == 0 {
        return Ok((false, Vec::new()));
    }
    let number = batch.number;
    let first = batch.cancelled_at.is_none();
    batch.cancelled_at.get_or_insert(now);
    draft.state.queue.set_open(number, false);
    if first {
        draft.emit(id, None, What::BatchCancelled)?;
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
            if keys.len() == CANCEL_GROUP {
                break;
            }
        }
    }
    for running in &in_flight {
        let Some(it) = draft.state.active.get(running) else { continue };
        let mut upload = it.upload.clone();
        draft.step(&mut upload, Step::Cancel)?;
        draft.emit(id, Some(*running), What::UploadCancelled)?;
    }
    for key in keys {
        let Some(mut upload) = draft.upload_at(&key)? else { continue };
        draft.step(&mut upload, Step::Cancel)?;
        draft.emit(id, Some(upload.id), What::UploadCancelled)?;
    }
    let more = owned_batch(draft, owner, id)?.counts.unfinished() > 0;
    Ok((more, in_flight))
}

/// Keys of the records of a batch's uploads, without further pieces.
fn upload_keys(draft: &Draft<'_>, batch: BatchId) -> Result<Vec<Vec<u8>>, WriteError> {
    let mut keys = HashSet::new();
    let mut sorted = Vec::new();
    for entry in draft.scan(Tree::Uploads, batch.as_bytes()) {
        let (key, _) = entry.map_err(WriteError::unknown)?;
        if keys::is_record(&key) && keys.insert(key.to_vec()) {
            sorted.push(key.to_vec());
        }
    }
    Ok(sorted)
}

/// Deletes an upload with all that belongs to it, if it is this owner's; its files are noted as to be removed. Says whether a worker had it.
fn delete(draft: &mut Draft<'_>, owner: &Owner, id: UploadId) -> Result<Option<(Upload, bool)>, WriteError> {
    let Some(upload) = draft.upload(id)?.filter(|upload| upload.owner == *owner) else { return Ok(None) };
    let was_active = draft.state.active.remove(&id).is_some();
    let Some(batch) = draft.batch(upload.batch_id)? else { return Ok(None) };
    batch.counts.remove(&upload);
    let number = batch.number;
    draft.remove(Tree::Active, id.as_bytes());
    draft.remove(Tree::Work, &keys::work(number, upload.position));
    draft.state.queue.remove(number, upload.position);
    let key = keys::upload(upload.batch_id, upload.position);
    draft.remove(Tree::Uploads, &key);
    draft.remove_pieces(&key, 1);
    draft.remove(Tree::UploadIds, id.as_bytes());
    if let Some(by) = &upload.embedded_by {
        for piece in 0..vectors::piece_count(by.dimensions as usize) {
            draft.remove(Tree::Embeddings, &keys::embedding(owner, &vectors::space(by), id, piece));
        }
    }
    if let Some(hash) = keys::unhex(&upload.content_hash) {
        let key = keys::digest(owner, &hash);
        if draft.get_json::<Hashed>(Tree::Hashes, &key)?.is_some_and(|it| it.upload_id == id) {
            draft.remove(Tree::Hashes, &key);
        }
    }
    if let FileRef::InPlace(path) = &upload.file {
        let key = keys::digest(owner, &super::places::place_key(path));
        if draft
            .get_json::<super::places::PlaceEntry>(Tree::Places, &key)?
            .is_some_and(|it| it.upload_id == id)
        {
            draft.remove(Tree::Places, &key);
        }
    }
    draft.put_json(Tree::Removals, id.as_bytes(), &())?;
    let unfinished = !upload.status.is_terminal();
    draft.emit(upload.batch_id, Some(id), What::UploadDeleted { unfinished })?;
    Ok(Some((upload, was_active)))
}
