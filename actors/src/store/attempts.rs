//! What happens to attempts and to the provider, each change a command of the committer.

use serde::{Deserialize, Serialize};

use super::{
    AfterAttempt, Begun, Commands, Token, WriteError,
    batches::unfinished_batches,
    draft::{Active, Draft, InFlight},
    keys::{self, Tree},
    places::give_way,
    vectors,
};
use crate::{
    analysis::{Identity, Object, ProviderState},
    event::EventKind,
    id::{Owner, UploadId},
    media::Facts,
    upload::{Description, Failure, FailureKind, Stage, Status, Step, Thumbnail},
};

/// Entry of the tree `hashes`.
#[derive(Serialize, Deserialize)]
pub(super) struct Hashed {
    pub(super) upload_id: UploadId,
}

impl Commands {
    /// Chooses up to `most` uploads whose turn it is and begins an attempt of each. Fewer come back if fewer may be begun: none beside a
    /// suspect, and a suspect only alone.
    pub async fn begin_next(&self, most: usize) -> Result<Vec<Begun>, WriteError> {
        self.inner
            .write(move |draft| {
                let mut begun = Vec::new();
                if draft.state.closed {
                    return Ok(begun);
                }
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
    pub fn record_stage(&self, token: Token, stage: Stage) {
        drop(self.inner.write(move |draft| {
            let now = draft.now;
            let in_flight = held(draft, &token)?;
            in_flight.entry.stage = stage;
            in_flight.entry.since = now;
            draft.touch_entry(token.upload);
            Ok(())
        }));
    }

    /// Keeps what the decode gave. Nobody waits for it, as for [`Commands::record_stage`].
    pub fn record_media(&self, token: Token, thumbnail: Thumbnail, facts: Facts) {
        drop(self.inner.write(move |draft| {
            held(draft, &token)?;
            draft.advance(token.upload, Step::Prepare { thumbnail, facts })
        }));
    }

    /// Goes on with a description that an earlier attempt kept. Nobody waits for it.
    pub fn resume_embedding(&self, token: Token) {
        drop(self.inner.write(move |draft| {
            held(draft, &token)?;
            draft.advance(token.upload, Step::Embed)
        }));
    }

    /// Keeps a description. Nobody waits for it: it is written at once, while the text is embedded, and before whatever ends the attempt,
    /// since changes are made in the order in which they are asked for.
    pub fn record_description(
        &self,
        token: Token,
        description: Description,
        objects: Vec<Object>,
        took_ms: u64,
    ) {
        drop(self.inner.write(move |draft| {
            let (audit_score, needs_review) = (description.audit_score, description.needs_review);
            let batch_id = held(draft, &token)?.entry.batch_id;
            draft.advance(token.upload, Step::Describe { description, objects })?;
            draft.emit(
                batch_id,
                Some(token.upload),
                EventKind::UploadDescribed { attempt: token.attempt, audit_score, needs_review, took_ms },
            )
        }));
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
                held(draft, &token)?;
                let upload = draft.leave(token.upload, Step::Complete { by, changed })?;
                for (piece, bytes) in vectors::pieces(&vector) {
                    draft.put(
                        Tree::Embeddings,
                        &keys::embedding(&upload.owner, &space, upload.id, piece),
                        &bytes,
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
                    EventKind::UploadCompleted { attempt: token.attempt, audit_score, needs_review, took_ms },
                )?;
                let replaced = match upload.replaces {
                    Some(older) => give_way(draft, &upload.owner, older)?,
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

    /// Ends all running attempts as handed back and begins no more: the process stops in good order.
    pub async fn hand_back_all(&self) -> Result<usize, WriteError> {
        self.inner
            .write(|draft| {
                draft.state.closed = true;
                let tokens: Vec<Token> =
                    draft.state.active.iter().map(|(id, it)| Token::of(*id, &it.entry)).collect();
                for token in &tokens {
                    hand_back(draft, token, false)?;
                }
                Ok(tokens.len())
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
                    draft.log(owner, None, None, EventKind::ProviderChanged)?;
                }
                Ok(())
            })
            .await
    }
}

fn begin(draft: &mut Draft<'_>, id: UploadId, alone: bool) -> Result<Option<Begun>, WriteError> {
    let Some((mut upload, pieces)) = draft.resting(id)? else {
        return Err(WriteError::Unknown(format!("upload {id} waits but has no record")));
    };
    let entry = Active {
        owner: upload.owner.clone(),
        batch_id: upload.batch_id,
        position: upload.position,
        run: draft.state.run,
        attempt: upload.attempt + 1,
        alone,
        began_at: draft.now,
        stage: Stage::ExtractingFrames,
        since: draft.now,
    };
    let token = Token::of(id, &entry);
    let held = draft.enter(&mut upload, entry, pieces)?;
    draft.emit(upload.batch_id, Some(id), EventKind::UploadBegun { attempt: upload.attempt })?;
    Ok(Some(Begun { upload, token, alone, held }))
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

fn fail(draft: &mut Draft<'_>, token: &Token, mut failure: Failure) -> Result<AfterAttempt, WriteError> {
    let entry = &held(draft, token)?.entry;
    let alone = entry.alone;
    // Whoever finds a worker dead cannot know what it was doing.
    if failure.kind == FailureKind::Panicked {
        failure.stage = entry.stage;
    }
    let (attempt, stage, kind) = (token.attempt, failure.stage, failure.kind);
    let upload = draft.leave(token.upload, Step::Fail(failure))?;
    let last = upload.status == Status::Failed;
    draft.emit(upload.batch_id, Some(upload.id), EventKind::UploadFailed { attempt, stage, kind, last })?;
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
    held(draft, token)?;
    let upload = draft.leave(token.upload, Step::HandBack { provider_went_away })?;
    draft.emit(upload.batch_id, Some(upload.id), EventKind::UploadHandedBack { attempt: token.attempt })?;
    Ok(AfterAttempt::Rests)
}
