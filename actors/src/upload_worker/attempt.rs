//! One attempt, from beginning to end: preparation, description, audit, embedding.

use std::sync::Arc;

use actix::Recipient;
use futures_util::future::{BoxFuture, FutureExt as _, join, join_all};
use tokio::time::Instant;

use super::{WorkerContext, WorkerOutcome, WorkerStopped, preparation::Prepared};
use crate::{
    analysis::{DescribeRequest, Described, audit},
    media::VisionSpec,
    provider_gate::CallError,
    store::{AfterAttempt, Begun, CommandError, Token},
    upload::{Description, Failure, FailureKind, Stage, Status, Thumbnail, Upload},
};

/// An attempt that runs.
pub(super) struct Attempt {
    pub(super) context: Arc<WorkerContext>,
    pub(super) token: Token,
    /// The record at the beginning of the attempt.
    pub(super) upload: Upload,
    /// Failures of all rounds, so that no round repeats the requests of another.
    failures: Vec<Failure>,
    /// Writes of progress that are not durable yet. The end of the attempt waits for them.
    writes: Vec<BoxFuture<'static, Result<(), CommandError>>>,
    /// Learns of the end as soon as it is queued in the store.
    stopped: Recipient<WorkerStopped>,
}

/// Why an attempt did not complete.
pub(super) enum Stop {
    /// It failed in this stage.
    Failed(Stage, FailureKind, String),
    /// The provider was away before it was called.
    NotReady,
    /// The provider went away during a call in this stage.
    WentAway(Stage, String),
    /// The attempt was revoked, or the store is broken: no more is written.
    Revoked,
}

impl Stop {
    fn call(stage: Stage, error: CallError) -> Self {
        match error {
            CallError::NotReady => Self::NotReady,
            CallError::WentAway { message } => Self::WentAway(stage, message),
            CallError::Failed { kind, message } => Self::Failed(stage, kind, message),
        }
    }
}

/// A vector, and the change that was needed to get it.
type Embedded = (Vec<f32>, Option<String>);

impl Attempt {
    pub(super) fn new(
        context: Arc<WorkerContext>,
        Begun { upload, token, .. }: Begun,
        stopped: Recipient<WorkerStopped>,
    ) -> Self {
        let past = upload.history.iter().flat_map(|round| &round.failures);
        let failures = past.chain(&upload.failures).cloned().collect();
        Self { context, token, upload, failures, writes: Vec::new(), stopped }
    }

    /// Runs the attempt to its end. Answers with the next attempt, if one was begun.
    pub(super) async fn run(mut self) -> Option<Box<Begun>> {
        let stop = match self.work().await {
            Ok(()) => return None,
            Err(stop) => stop,
        };
        let (commands, token) = (self.context.commands.clone(), self.token.clone());
        let ended = match stop {
            Stop::Failed(stage, kind, message) => {
                let Token { upload, attempt, .. } = &token;
                log::warn!("upload {upload}: attempt {attempt} failed in {}: {message}", stage.as_str());
                let failure = Failure::new(token.attempt, stage, kind, message);
                self.end(commands.fail(token, failure)).await
            }
            Stop::NotReady => self.end(commands.hand_back(token, None)).await,
            Stop::WentAway(stage, message) => {
                let failure = Failure::new(token.attempt, stage, FailureKind::ProviderAway, message);
                self.end(commands.hand_back(token, Some(failure))).await
            }
            Stop::Revoked => return None,
        };
        match ended {
            Ok(AfterAttempt::Retried(begun)) => Some(begun),
            Ok(AfterAttempt::Waits | AfterAttempt::Ended) | Err(_) => None,
        }
    }

    async fn work(&mut self) -> Result<(), Stop> {
        let identity = self.context.gate.identity();
        let kept = self.upload.description.as_ref().filter(|it| it.by.describes_like(&identity));
        let text = match kept.map(|it| it.text.clone()) {
            Some(text) => {
                if self.upload.thumbnail == Thumbnail::Pending {
                    self.catch_up().await?;
                }
                let resume = self.context.commands.resume_embedding(self.token.clone());
                self.record(resume);
                text
            }
            None => self.describe().await?,
        };
        let started = Instant::now();
        let (vector, changed) = match self.copied_vector().await {
            Some(vector) => (vector, None),
            None => {
                let embedded = self.embed(text).await;
                embedded.map_err(|error| Stop::call(Stage::EmbeddingGeneration, error))?
            }
        };
        let commands = self.context.commands.clone();
        self.record(commands.record_stage(self.token.clone(), Stage::Indexing));
        let complete = commands.complete(
            self.token.clone(),
            vector,
            self.context.gate.identity(),
            changed,
            millis(started),
        );
        // Commands take effect in the order of their calls, so the next attempt may begin in the same
        // commit.
        self.stopped.do_send(WorkerStopped { token: self.token.clone(), outcome: WorkerOutcome::Ended });
        // A revoked attempt has ended already, and a broken store ends the engine.
        self.end(complete).await.map_err(|_| Stop::Revoked)
    }

    /// Starts a write of progress, without waiting until it is durable.
    pub(super) fn record(&mut self, write: impl Future<Output = Result<(), CommandError>> + Send + 'static) {
        self.writes.push(write.boxed());
    }

    /// Waits for the end of the attempt, and for the records that were sent before it. Commands
    /// take effect in the order of their calls, so the end of an attempt that was not revoked comes
    /// after all of them.
    async fn end<T>(
        &mut self,
        end: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        let (writes, ended) = join(join_all(std::mem::take(&mut self.writes)), end).await;
        for error in writes.into_iter().filter_map(Result::err) {
            match error {
                CommandError::Stale => {}
                error => {
                    log::error!("upload {}: a record of its attempt failed: {error}", self.token.upload);
                }
            }
        }
        ended
    }

    /// The vector of an earlier upload of the same bytes and the same description, if the same model made it.
    async fn copied_vector(&self) -> Option<Vec<f32>> {
        let (owner, identity) = (self.upload.owner.clone(), self.context.gate.identity());
        let earlier = self.context.queries.upload(owner.clone(), self.upload.same_as?).await.ok()?;
        let same = earlier.status == Status::Completed
            && earlier.description == self.upload.description
            && earlier.embedding_changed.is_none();
        if !same {
            return None;
        }
        self.context.queries.vector(owner, earlier.id, identity).await.ok().flatten()
    }

    /// Embeds a text. A text that the provider has failed on before is shortened.
    async fn embed(&self, text: String) -> Result<Embedded, CallError> {
        let gate = &self.context.gate;
        let failed_on_text = |it: &&Failure| {
            it.stage == Stage::EmbeddingGeneration
                && matches!(it.kind, FailureKind::BadAnswer | FailureKind::ServerFault)
        };
        match self.failures.iter().rfind(failed_on_text) {
            None => Ok((gate.embed(&self.upload.owner, text).await?, None)),
            Some(last) => {
                let times = self.failures.iter().filter(failed_on_text).count() as u32;
                let (vector, changed) = gate.embed_shorter(&self.upload.owner, &text, times).await?;
                Ok((vector, Some(format!("{changed} (because {})", last.as_reason()))))
            }
        }
    }

    async fn describe(&mut self) -> Result<String, Stop> {
        let (vision, mut changes) = self.smaller_vision();
        let alone = self.upload.provider_away > 0;
        let asked = self.times_asked();
        let Prepared { pictures, seconds, facts } = self.prepare(vision).await?;
        let started = Instant::now();
        let request = Arc::new(DescribeRequest {
            pictures: pictures.into(),
            facts,
            names: names(&self.upload),
            variation: asked,
            frame_seconds: seconds,
        });
        let identity = self.context.gate.identity();
        let language = audit::Language::of(&identity.language);
        let judge = |described: &Described| audit::audit(&described.text, language);
        let mut best = self.ask(Arc::clone(&request), alone).await?;
        let mut why = self.failures.last().map(Failure::as_reason);
        let mut verdict = judge(&best);
        let mut calls = 1;
        if !verdict.passed() {
            let stage = self.context.commands.record_stage(self.token.clone(), Stage::DescriptionAudit);
            self.record(stage);
            // The second text is optional: without it, the first text is kept.
            let again = DescribeRequest { variation: asked + 1, ..DescribeRequest::clone(&request) };
            match self.ask(Arc::new(again), alone).await {
                Ok(second) if judge(&second).score > verdict.score => {
                    why = Some(format!("the answer before failed the audit: {}", verdict.reasons()));
                    verdict = judge(&second);
                    best = second;
                }
                // If the provider is away now, the next attempt would only repeat the request, so
                // the first text is kept.
                Ok(_) | Err(Stop::Failed(..) | Stop::NotReady | Stop::WentAway(..)) => {}
                Err(stop @ Stop::Revoked) => return Err(stop),
            }
            calls = 2;
        }
        changes.extend(best.changed.take().map(|changed| match why {
            Some(why) => format!("{changed} (because {why})"),
            None => changed,
        }));
        let description = Description {
            text: best.text.clone(),
            audit_score: verdict.score,
            needs_review: !verdict.passed(),
            audit_version: audit::VERSION,
            by: identity,
            asked: asked + calls,
            changed: Some(changes.join("; ")).filter(|it| !it.is_empty()),
            at: self.context.queries.clock().now(),
        };
        let commands = &self.context.commands;
        let token = self.token.clone();
        let write = commands.record_description(token, description, best.objects, millis(started));
        self.record(write);
        Ok(best.text)
    }

    async fn ask(&self, request: Arc<DescribeRequest>, alone: bool) -> Result<Described, Stop> {
        let described = self.context.gate.describe(request, alone).await;
        described.map_err(|error| Stop::call(Stage::VisionAnalysis, error))
    }

    /// How often the provider was asked before. A past round without recorded failures counts as
    /// two.
    fn times_asked(&self) -> u32 {
        let forgotten = self.upload.history.first().map_or(0, |past| past.round.saturating_sub(1));
        (self.failures.len() as u32).saturating_add(forgotten.saturating_mul(2))
    }

    /// The picture size for the provider: half the pixels for each earlier request on which the
    /// server broke, down to an eighth; with a sentence about it.
    fn smaller_vision(&self) -> (VisionSpec, Vec<String>) {
        let vision = &self.context.vision;
        let broke = |it: &&Failure| it.stage == Stage::VisionAnalysis && it.kind == FailureKind::ServerFault;
        let Some(last) = self.failures.iter().rfind(broke) else { return (vision.clone(), Vec::new()) };
        let times = self.failures.iter().filter(broke).count().min(3);
        let facts = self.upload.facts.as_ref();
        let pixels = facts.map_or(u64::MAX, |it| u64::from(it.width) * u64::from(it.height));
        let least = u64::from(2 * vision.patch_px).pow(2);
        let max_pixels = (vision.max_pixels.min(pixels) >> times).max(least);
        let sentence = format!("a picture of at most {max_pixels} pixels (because {})", last.as_reason());
        (VisionSpec { max_pixels, ..vision.clone() }, vec![sentence])
    }
}

/// The names of a file and of its two innermost folders.
fn names(upload: &Upload) -> Vec<String> {
    let folders = upload.place().into_iter().flat_map(|path| {
        let folders = path.ancestors().skip(1).take(2);
        folders.filter_map(|it| Some(it.file_name()?.to_string_lossy().into_owned()))
    });
    std::iter::once(upload.file_name.clone()).chain(folders).collect()
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}
