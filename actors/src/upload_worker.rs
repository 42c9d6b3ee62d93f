//! One upload, at most two failed attempts.
//!
//! Takes no messages. It tells the supervisor [`UploadFinished`] when it stops, whatever stopped it: a worker that panicked tells it while
//! it is dropped.

mod preparation;

use std::sync::Arc;

use actix::prelude::*;
use tokio::{sync::Semaphore, time::Instant};

use preparation::Prepared;
pub(crate) use preparation::THUMBNAILS_AT_ONCE;

use crate::{
    analysis::{DescribeRequest, Described, audit},
    files::Files,
    id::UploadId,
    intake::receive::Received,
    media::{self, VisionSpec},
    provider_gate::{CallError, ProviderGate},
    store::{AfterAttempt, Begun, Commands, Queries, Token, WriteError},
    upload::{Description, Failure, FailureKind, Stage, Thumbnail, Upload},
};

/// A worker stopped.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct UploadFinished {
    /// The upload.
    pub upload: UploadId,
    /// The last attempt that the worker had.
    pub token: Token,
    /// It died under the attempt, which is still to be ended.
    pub died: bool,
}

/// What all workers of a pipeline share.
pub struct WorkerContext {
    /// Changes state.
    pub commands: Commands,
    /// Reads state.
    pub queries: Queries,
    /// The way to the provider.
    pub gate: Arc<ProviderGate>,
    /// Where bytes lie.
    pub files: Files,
    /// What may be decoded.
    pub limits: media::Limits,
    /// What the provider wants to see.
    pub vision: VisionSpec,
    /// Memory for decodes, in MiB.
    pub decode_memory: Arc<Semaphore>,
    /// Pictures decoded at once: one for each processor.
    pub decoders: Arc<Semaphore>,
    /// Jobs that decode a picture or wait for the disk to have its thumbnail: those that decode, and some more.
    pub jobs: Arc<Semaphore>,
}

/// Works on one upload; see the module.
pub struct UploadWorker {
    tools: Arc<WorkerContext>,
    begun: Option<Begun>,
    /// The attempt that runs.
    token: Token,
    /// The attempt ended, or somebody else ended it.
    ended: bool,
    finished: Recipient<UploadFinished>,
}

impl UploadWorker {
    /// A worker for an attempt that was begun.
    pub fn new(tools: Arc<WorkerContext>, begun: Begun, finished: Recipient<UploadFinished>) -> Self {
        Self { tools, token: begun.token.clone(), begun: Some(begun), ended: false, finished }
    }
}

impl Actor for UploadWorker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(begun) = self.begun.take() {
            self.attempt(begun, ctx);
        }
    }
}

impl Drop for UploadWorker {
    fn drop(&mut self) {
        self.finished.do_send(UploadFinished {
            upload: self.token.upload,
            token: self.token.clone(),
            died: !self.ended,
        });
    }
}

/// Stops the worker; what it was doing is dropped.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Abort;

impl Handler<Abort> for UploadWorker {
    type Result = ();

    fn handle(&mut self, Abort: Abort, ctx: &mut Self::Context) {
        self.ended = true;
        ctx.stop();
    }
}

impl UploadWorker {
    fn attempt(&mut self, begun: Begun, ctx: &mut Context<Self>) {
        self.token = begun.token.clone();
        let tools = Arc::clone(&self.tools);
        ctx.spawn(async move { tools.attempt(begun).await }.into_actor(self).map(|again, worker, ctx| {
            match again {
                Some(begun) => worker.attempt(*begun, ctx),
                None => {
                    worker.ended = true;
                    ctx.stop();
                }
            }
        }));
    }
}

/// Why an attempt did not complete.
enum Stop {
    Failed(Stage, FailureKind, String),
    NotReady,
    WentAway(Stage, String),
    /// The attempt was given up, or the store is broken: there is nothing more to write.
    Silent,
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

impl From<WriteError> for Stop {
    fn from(_: WriteError) -> Self {
        Self::Silent
    }
}

impl WorkerContext {
    /// One attempt from its begin to its end. Answers with the next attempt, if one was begun.
    async fn attempt(&self, begun: Begun) -> Option<Box<Begun>> {
        let token = begun.token.clone();
        let Err(stop) = self.work(begun).await else { return None };
        let after = match stop {
            Stop::Failed(stage, kind, message) => {
                log::warn!(
                    "upload {}: attempt {} failed in {}: {message}",
                    token.upload,
                    token.attempt,
                    stage.as_str()
                );
                self.commands.fail(token.clone(), Failure::new(token.attempt, stage, kind, message)).await
            }
            Stop::NotReady => self.commands.hand_back(token, None).await,
            Stop::WentAway(stage, message) => {
                let failure = Failure::new(token.attempt, stage, FailureKind::ProviderAway, message);
                self.commands.hand_back(token, Some(failure)).await
            }
            Stop::Silent => return None,
        };
        match after {
            Ok(AfterAttempt::Again(begun)) => Some(begun),
            Ok(AfterAttempt::Rests | AfterAttempt::Ended) | Err(_) => None,
        }
    }

    async fn work(&self, begun: Begun) -> Result<(), Stop> {
        let token = begun.token.clone();
        let failures = failures(&begun.upload);
        let identity = self.gate.identity();
        let text = match &begun.upload.description {
            Some(kept) if kept.by.describes_like(&identity) => {
                let text = kept.text.clone();
                if begun.upload.thumbnail == Thumbnail::Pending {
                    self.catch_up(begun).await?;
                }
                self.commands.resume_embedding(token.clone());
                text
            }
            _ => self.describe(begun).await?,
        };
        let started = Instant::now();
        let (vector, changed) = self
            .embed(text, &failures)
            .await
            .map_err(|error| Stop::call(Stage::EmbeddingGeneration, error))?;
        self.commands.record_stage(token.clone(), Stage::Indexing);
        let took = millis(started);
        let replaced = self.commands.complete(token, vector, self.gate.identity(), changed, took).await?;
        if let Some(older) = replaced {
            self.remove_files(older).await;
        }
        Ok(())
    }

    /// Embeds a text; one that the provider stumbled over before is shortened, as it would stumble again.
    async fn embed(
        &self,
        text: String,
        failures: &[Failure],
    ) -> Result<(Vec<f32>, Option<String>), CallError> {
        let stumbles = |it: &&Failure| {
            it.stage == Stage::EmbeddingGeneration
                && matches!(it.kind, FailureKind::BadAnswer | FailureKind::ServerFault)
        };
        match failures.iter().rfind(stumbles) {
            None => Ok((self.gate.embed(text).await?, None)),
            Some(last) => {
                let tries = failures.iter().filter(stumbles).count() as u32;
                let (vector, changed) = self.gate.embed_shorter(&text, tries).await?;
                Ok((vector, Some(format!("{changed} (because {})", last.told()))))
            }
        }
    }

    async fn describe(&self, begun: Begun) -> Result<String, Stop> {
        let (token, upload) = (begun.token.clone(), &begun.upload);
        let failures = failures(upload);
        let (vision, mut changes) = smaller(&self.vision, upload, &failures);
        let names = std::iter::once(upload.file_name.clone())
            .chain(upload.place().into_iter().flat_map(|path| {
                path.ancestors()
                    .skip(1)
                    .take(2)
                    .filter_map(|it| Some(it.file_name()?.to_string_lossy().into_owned()))
            }))
            .collect();
        // A run whose failures are forgotten had two.
        let forgotten = upload.history.first().map_or(0, |past| past.round.saturating_sub(1));
        let asked = (failures.len() as u32).saturating_add(forgotten.saturating_mul(2));
        let alone = upload.provider_away > 0;
        let Prepared { pictures, seconds, facts } = self.prepare(begun, vision).await?;
        let started = Instant::now();
        let request = Arc::new(DescribeRequest {
            pictures: pictures.into(),
            facts,
            names,
            variation: asked,
            frame_seconds: seconds,
        });
        let ask = async |request: Arc<DescribeRequest>| {
            self.gate.describe(request, alone).await.map_err(|error| Stop::call(Stage::VisionAnalysis, error))
        };
        let language = audit::Language::of(&self.gate.identity().language);
        let judge = |described: &Described| audit::audit(&described.text, language);
        let mut best = ask(Arc::clone(&request)).await?;
        let mut why = failures.last().map(Failure::told);
        let mut verdict = judge(&best);
        let mut calls = 1;
        if !verdict.passed() {
            self.commands.record_stage(token.clone(), Stage::DescriptionAudit);
            // The second text is a chance, not a duty: the first one is kept if there is none.
            let again = DescribeRequest { variation: asked + 1, ..DescribeRequest::clone(&request) };
            match ask(Arc::new(again)).await {
                Ok(second) if judge(&second).score > verdict.score => {
                    why = Some(format!("the answer before failed the audit: {}", verdict.reasons()));
                    verdict = judge(&second);
                    best = second;
                }
                // A provider that is away by now would be asked the same again by the next attempt.
                Ok(_) | Err(Stop::Failed(..) | Stop::NotReady | Stop::WentAway(..)) => {}
                Err(stop @ Stop::Silent) => return Err(stop),
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
            by: self.gate.identity(),
            asked: asked + calls,
            changed: Some(changes.join("; ")).filter(|it| !it.is_empty()),
            at: self.queries.clock().now(),
        };
        self.commands.record_description(token, description, best.objects, millis(started));
        Ok(best.text)
    }

    /// Moves the bytes of uploads that were just written to where they stay.
    pub(crate) async fn settle(&self, received: Vec<Received>) {
        if received.is_empty() {
            return;
        }
        let files = self.files.clone();
        let settle = move || {
            for bytes in received {
                let id = bytes.id();
                if let Err(error) = files.settle(id) {
                    log::warn!("upload {id}: cannot move its bytes, the next start tries again: {error}");
                }
            }
        };
        if tokio::task::spawn_blocking(settle).await.is_err() {
            log::warn!("moving the bytes of uploads panicked");
        }
    }

    /// Removes the files of an upload that is gone, and then the note that they are to be removed.
    pub async fn remove_files(&self, id: UploadId) {
        let files = self.files.clone();
        match tokio::task::spawn_blocking(move || files.remove(id)).await {
            Ok(Ok(())) => {
                // If this is not written, the next start removes them once more.
                let _ = self.commands.files_removed(vec![id]).await;
            }
            Ok(Err(error)) => {
                log::warn!("upload {id}: cannot remove its files, the next start tries again: {error}")
            }
            Err(_) => log::warn!("upload {id}: removing its files panicked"),
        }
    }
}

/// All failures of an upload, also of earlier runs, so that no run repeats the requests of another.
fn failures(upload: &Upload) -> Vec<Failure> {
    let past = upload.history.iter().flat_map(|past| &past.failures);
    past.chain(&upload.failures).cloned().collect()
}

/// The picture that the provider is to see of an upload: half the pixels for each failure in which the server broke on it, down to an eighth.
/// Tells so.
fn smaller(vision: &VisionSpec, upload: &Upload, failures: &[Failure]) -> (VisionSpec, Vec<String>) {
    let broke = |it: &&Failure| it.stage == Stage::VisionAnalysis && it.kind == FailureKind::ServerFault;
    let Some(last) = failures.iter().rfind(broke) else { return (vision.clone(), Vec::new()) };
    let times = failures.iter().filter(broke).count().min(3);
    let pixels = upload.facts.as_ref().map_or(u64::MAX, |it| u64::from(it.width) * u64::from(it.height));
    let least = u64::from(2 * vision.patch_px).pow(2);
    let max_pixels = (vision.max_pixels.min(pixels) >> times).max(least);
    let told = format!("a picture of at most {max_pixels} pixels (because {})", last.told());
    (VisionSpec { max_pixels, ..vision.clone() }, vec![told])
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}
