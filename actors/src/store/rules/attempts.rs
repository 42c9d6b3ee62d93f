//! Attempts: how the next upload is chosen, and how an attempt begins, proceeds and ends.
//!
//! A repeated command that has already ended its attempt gives the same answer, since its caller
//! may have lost the first one. Every other command of an ended attempt is
//! [`CommandError::Stale`].

use super::{
    super::{
        AfterAttempt, Begun, CommandError, RunId, Token,
        attempt::RunningAttempt,
        unit_of_work::{Command, Held, Of, Part, Touches, UnitOfWork},
    },
    events::emit,
    paths::relocate_or_delete,
    runs::live,
    steps::{acquire, release, step, update},
};
use crate::{
    analysis::{Identity, Object},
    event::EventKind,
    id::{Owner, UploadId},
    media::Facts,
    upload::{AttemptOutcome, Description, Failure, FailureKind, Stage, Status, Step, Thumbnail, Upload},
};

/// Begins attempts of the next uploads. Nothing is begun beside a suspect of this run, and a
/// suspect is begun alone.
pub(in super::super) struct BeginNext {
    /// The run that works on them.
    pub(in super::super) run: RunId,
    /// Number of this command within the run, from 1: a repeated number gives the same attempts.
    pub(in super::super) take: u64,
    /// Most attempts that are begun.
    pub(in super::super) most: usize,
}

impl Command for BeginNext {
    type Answer = Vec<Begun>;

    fn touches(&self) -> Touches {
        Touches { takes: self.most, runs: vec![self.run], ..Touches::default() }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<Self::Answer, CommandError> {
        let Self { run, take, most } = self;
        live(work, run)?;
        let running = work.held_by(Of::Run(run));
        let held = |work: &dyn UnitOfWork, id: &UploadId| work.held(*id).cloned();
        let repeated: Vec<Begun> = running
            .iter()
            .filter_map(|id| held(work, id))
            .filter(|held| held.attempt.take == take)
            .map(Begun::of)
            .collect();
        if !repeated.is_empty() || running.iter().any(|id| work.held(*id).is_some_and(|it| it.attempt.alone))
        {
            return Ok(repeated);
        }
        if let Some(suspect) = work.next_suspect() {
            let free = running.is_empty() && most > 0;
            return if free { Ok(vec![begin(work, suspect, run, take, true)?]) } else { Ok(Vec::new()) };
        }
        let mut begun = Vec::new();
        while begun.len() < most {
            let Some(next) = work.next_waiting() else { break };
            begun.push(begin(work, next, run, take, false)?);
        }
        Ok(begun)
    }
}

/// Records the stage of an attempt.
pub(in super::super) struct RecordStage {
    pub(in super::super) token: Token,
    pub(in super::super) stage: Stage,
}

impl Command for RecordStage {
    type Answer = ();

    fn touches(&self) -> Touches {
        self.token.touches()
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        let now = work.now();
        if check(work, &self.token)?.attempt.stage == self.stage {
            return Ok(());
        }
        if let Some(held) = work.change_held(self.token.upload, Part::Stage) {
            held.attempt.stage = self.stage;
            held.attempt.since = now;
        }
        Ok(())
    }
}

/// Records the thumbnail and the facts that the decode gave.
pub(in super::super) struct RecordMedia {
    pub(in super::super) token: Token,
    pub(in super::super) thumbnail: Thumbnail,
    pub(in super::super) facts: Facts,
}

impl Command for RecordMedia {
    type Answer = ();

    fn touches(&self) -> Touches {
        self.token.touches()
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        let Self { token, thumbnail, facts } = self;
        let Held { upload, attempt } = check(work, &token)?;
        let is_recorded = upload.thumbnail == thumbnail && upload.facts.as_ref() == Some(&facts);
        // An earlier attempt may have recorded the same.
        if is_recorded && attempt.stage != Stage::ExtractingFrames {
            return Ok(());
        }
        update(work, token.upload, Step::Prepare { thumbnail, facts })
    }
}

/// Records that the attempt continues with the description of an earlier one.
pub(in super::super) struct ResumeEmbedding {
    pub(in super::super) token: Token,
}

impl Command for ResumeEmbedding {
    type Answer = ();

    fn touches(&self) -> Touches {
        self.token.touches()
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        if check(work, &self.token)?.upload.status == Status::Embedding {
            return Ok(());
        }
        update(work, self.token.upload, Step::Embed)
    }
}

/// Records a description.
pub(in super::super) struct RecordDescription {
    pub(in super::super) token: Token,
    pub(in super::super) description: Description,
    pub(in super::super) objects: Vec<Object>,
    /// How long it took, in milliseconds.
    pub(in super::super) took_ms: u64,
}

impl Command for RecordDescription {
    type Answer = ();

    fn touches(&self) -> Touches {
        self.token.touches()
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        let Self { token, description, objects, took_ms } = self;
        let held = check(work, &token)?;
        if held.upload.status == Status::Embedding && held.upload.description.as_ref() == Some(&description) {
            return Ok(());
        }
        let batch = held.attempt.batch_id;
        let (audit_score, needs_review) = (description.audit_score, description.needs_review);
        update(work, token.upload, Step::Describe { description, objects })?;
        let attempt = token.attempt;
        let kind = EventKind::UploadDescribed { attempt, audit_score, needs_review, took_ms };
        emit(work, batch, Some(token.upload), kind)
    }
}

/// Records the vector, and ends the upload as completed. The older upload that it replaces is
/// deleted.
pub(in super::super) struct Complete {
    pub(in super::super) token: Token,
    pub(in super::super) vector: Vec<f32>,
    /// The model that embedded it.
    pub(in super::super) by: Identity,
    /// The part of the description that was embedded and why, if not all of it.
    pub(in super::super) changed: Option<String>,
    /// How long it took, in milliseconds.
    pub(in super::super) took_ms: u64,
}

impl Command for Complete {
    type Answer = ();

    fn touches(&self) -> Touches {
        self.token.touches()
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        let Self { token, vector, by, changed, took_ms } = self;
        if check(work, &token).is_err() {
            return ended_as(work, &token, AttemptOutcome::Completed).map(drop);
        }
        let upload = release(work, token.upload, Step::Complete { by, changed })?;
        if upload.thumbnail == Thumbnail::Pending {
            work.set_late(&upload, true)?;
        }
        work.put_result(&upload, &vector)?;
        let (audit_score, needs_review) =
            upload.description.as_ref().map_or((0, false), |it| (it.audit_score, it.needs_review));
        let attempt = token.attempt;
        let kind = EventKind::UploadCompleted { attempt, audit_score, needs_review, took_ms };
        emit(work, upload.batch_id, Some(upload.id), kind)?;
        match upload.replaces {
            Some(older) => relocate_or_delete(work, &upload.owner, older),
            None => Ok(()),
        }
    }
}

/// Records the thumbnail of a completed upload that was left for later. Another upload stays as it is.
pub(in super::super) struct RecordThumbnail {
    pub(in super::super) owner: Owner,
    pub(in super::super) upload: UploadId,
    pub(in super::super) thumbnail: Thumbnail,
}

impl Command for RecordThumbnail {
    type Answer = ();

    fn touches(&self) -> Touches {
        Touches::upload(&self.owner, self.upload)
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        let Self { owner, upload: id, thumbnail } = self;
        let Some(mut upload) = work.upload(id)?.filter(|it| it.owner == owner) else { return Ok(()) };
        if upload.status != Status::Completed || upload.thumbnail != Thumbnail::Pending {
            return Ok(());
        }
        step(work, &mut upload, Step::MakeThumbnail(thumbnail))?;
        work.set_late(&upload, upload.thumbnail == Thumbnail::Pending)
    }
}

/// Ends an attempt as failed. The first failure of a round begins the next attempt in the same change.
pub(in super::super) struct Fail {
    pub(in super::super) token: Token,
    pub(in super::super) failure: Failure,
}

impl Command for Fail {
    type Answer = AfterAttempt;

    fn touches(&self) -> Touches {
        self.token.touches()
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<Self::Answer, CommandError> {
        let Self { token, failure } = self;
        if check(work, &token).is_ok() {
            return fail(work, &token, failure);
        }
        let upload = ended_as(work, &token, AttemptOutcome::Failed)?;
        Ok(after_failure(work, &token, upload))
    }
}

/// Ends an attempt that does not count. If the provider has gone away during this upload before,
/// it counts as failed.
pub(in super::super) struct HandBack {
    pub(in super::super) token: Token,
    /// The failure, if the provider went away during a call for this upload.
    pub(in super::super) provider_went_away: Option<Failure>,
}

impl Command for HandBack {
    type Answer = AfterAttempt;

    fn touches(&self) -> Touches {
        self.token.touches()
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<Self::Answer, CommandError> {
        let Self { token, provider_went_away } = self;
        let Ok(held) = check(work, &token) else {
            return match ended_as(work, &token, AttemptOutcome::HandedBack) {
                Err(_) if provider_went_away.is_some() => {
                    let upload = ended_as(work, &token, AttemptOutcome::Failed)?;
                    Ok(after_failure(work, &token, upload))
                }
                ended => ended.map(|_| AfterAttempt::Waits),
            };
        };
        match provider_went_away {
            Some(failure) if held.upload.provider_away > 0 => fail(work, &token, failure),
            went_away => hand_back(work, &token, went_away.is_some()).map(|()| AfterAttempt::Waits),
        }
    }
}

/// Ends an attempt that does not count, so that its upload waits again.
pub(super) fn hand_back(
    work: &mut dyn UnitOfWork,
    token: &Token,
    provider_went_away: bool,
) -> Result<(), CommandError> {
    let upload = release(work, token.upload, Step::HandBack { provider_went_away })?;
    let kind = EventKind::UploadHandedBack { attempt: token.attempt };
    emit(work, upload.batch_id, Some(upload.id), kind)
}

fn begin(
    work: &mut dyn UnitOfWork,
    id: UploadId,
    run: RunId,
    take: u64,
    alone: bool,
) -> Result<Begun, CommandError> {
    let Some(mut upload) = work.upload(id)? else {
        return Err(CommandError::Unknown(format!("upload {id} waits but has no record")));
    };
    let now = work.now();
    let attempt = RunningAttempt {
        owner: upload.owner.clone(),
        batch_id: upload.batch_id,
        position: upload.position,
        run,
        take,
        attempt: upload.attempt + 1,
        alone,
        began_at: now,
        stage: Stage::ExtractingFrames,
        since: now,
    };
    acquire(work, &mut upload, attempt.clone())?;
    emit(work, upload.batch_id, Some(id), EventKind::UploadBegun { attempt: upload.attempt })?;
    Ok(Begun::of(Held { upload, attempt }))
}

fn fail(
    work: &mut dyn UnitOfWork,
    token: &Token,
    mut failure: Failure,
) -> Result<AfterAttempt, CommandError> {
    let RunningAttempt { run, take, alone, stage, .. } = check(work, token)?.attempt.clone();
    // The supervisor reports a panicked worker without knowing its stage.
    if failure.kind == FailureKind::Panicked {
        failure.stage = stage;
    }
    let (attempt, stage, kind) = (token.attempt, failure.stage, failure.kind);
    let upload = release(work, token.upload, Step::Fail(failure))?;
    let last = upload.status == Status::Failed;
    let event = EventKind::UploadFailed { attempt, stage, kind, last };
    emit(work, upload.batch_id, Some(upload.id), event)?;
    if last {
        return Ok(AfterAttempt::Ended);
    }
    begin(work, upload.id, run, take, alone).map(|begun| AfterAttempt::Retried(Box::new(begun)))
}

/// The running attempt of a token.
fn check<'w>(work: &'w dyn UnitOfWork, token: &Token) -> Result<&'w Held, CommandError> {
    work.held(token.upload)
        .filter(|held| held.attempt.run == token.run && held.attempt.attempt == token.attempt)
        .ok_or(CommandError::Stale)
}

/// The record of an upload, if the attempt of the token has ended in this way.
fn ended_as(
    work: &mut dyn UnitOfWork,
    token: &Token,
    outcome: AttemptOutcome,
) -> Result<Upload, CommandError> {
    let upload =
        work.upload(token.upload)?.filter(|it| it.owner == token.owner).ok_or(CommandError::Stale)?;
    let ended = upload.attempts.iter().any(|it| it.number == token.attempt && it.outcome == Some(outcome));
    if ended { Ok(upload) } else { Err(CommandError::Stale) }
}

/// The answer to a failure that is recorded already, which is the first answer: a failure that was not the
/// last of its round began the next attempt, which may have ended meanwhile.
fn after_failure(work: &dyn UnitOfWork, token: &Token, upload: Upload) -> AfterAttempt {
    let is_last = |round: &[Failure]| {
        let at = round.iter().position(|it| it.attempt == token.attempt)?;
        Some(at + 1 >= Upload::MAX_FAILURES)
    };
    let mut past = upload.history.iter().map(|round| &round.failures[..]);
    if is_last(&upload.failures).or_else(|| past.find_map(is_last)).unwrap_or(true) {
        return AfterAttempt::Ended;
    }
    let next = Token { attempt: token.attempt.saturating_add(1), ..token.clone() };
    let begun = match check(work, &next) {
        Ok(held) => Begun::of(held.clone()),
        // Its later commands are refused as those of any ended attempt.
        Err(_) => Begun { upload, token: next, alone: false },
    };
    AfterAttempt::Retried(Box::new(begun))
}
