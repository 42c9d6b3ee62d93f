//! One upload, at most two failed attempts.
//!
//! Takes no messages. It tells the supervisor [`UploadFinished`] when it stops, whatever stopped it: a worker that panicked tells it while
//! it is dropped.

use std::{io::ErrorKind, sync::Arc};

use actix::prelude::*;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    analysis::{DescribeRequest, Described, audit},
    files::Files,
    id::UploadId,
    media::{self, Facts, Kind, Picture, VisionSpec},
    provider_gate::{CallError, ProviderGate},
    receiving::Received,
    store::{AfterAttempt, Begun, Store, Token, WriteError},
    upload::{Description, Failure, FailureKind, Stage, Thumbnail, Upload},
};

/// Thumbnails that wait for the disk at once, beside the pictures that are decoded. More threads cost more, in processor time and
/// memory, than the disk gains by them.
pub(crate) const THUMBNAILS_AT_ONCE: usize = 8;

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
pub struct Tools {
    /// Where state is kept.
    pub store: Store,
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
    tools: Arc<Tools>,
    begun: Option<Begun>,
    /// The attempt that runs.
    token: Token,
    /// The attempt ended, or somebody else ended it.
    ended: bool,
    finished: Recipient<UploadFinished>,
}

impl UploadWorker {
    /// A worker for an attempt that was begun.
    pub fn new(tools: Arc<Tools>, begun: Begun, finished: Recipient<UploadFinished>) -> Self {
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

impl Tools {
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
                self.store.fail(token.clone(), Failure::new(token.attempt, stage, kind, message)).await
            }
            Stop::NotReady => self.store.hand_back(token, None).await,
            Stop::WentAway(stage, message) => {
                let failure = Failure::new(token.attempt, stage, FailureKind::ProviderAway, message);
                self.store.hand_back(token, Some(failure)).await
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
                self.store.keep_going(token.clone());
                text
            }
            _ => self.describe(begun).await?,
        };
        let started = Instant::now();
        let (vector, changed) = self
            .embed(text, &failures)
            .await
            .map_err(|error| Stop::call(Stage::EmbeddingGeneration, error))?;
        self.store.note_stage(token.clone(), Stage::Indexing);
        let took = millis(started);
        let replaced = self.store.complete(token, vector, self.gate.identity(), changed, took).await?;
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
        let forgotten = upload.history.first().map_or(0, |run| run.run.saturating_sub(1));
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
            self.store.note_stage(token.clone(), Stage::DescriptionAudit);
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
            at: self.store.clock().now(),
        };
        self.store.keep_description(token, description, best.objects, millis(started));
        Ok(best.text)
    }

    /// Sees to the thumbnail of an upload whose description is kept: it is that of the upload whose description it took over, or made.
    async fn catch_up(&self, begun: Begun) -> Result<(), Stop> {
        if let (Some(older), Some(facts)) = (begun.upload.replaces, begun.upload.facts.clone()) {
            let (files, upload) = (self.files.clone(), begun.upload.clone());
            let is_gone = self.store.is_gone(&begun);
            let copy = move || {
                let jpeg = std::fs::read(files.thumbnail(older)).ok()?;
                Some(write_thumbnail(&files, &upload, Some(Ok(jpeg)), is_gone))
            };
            if let Ok(Some(thumbnail)) = tokio::task::spawn_blocking(copy).await {
                self.store.keep_media(begun.token, thumbnail, facts);
                return Ok(());
            }
        }
        self.prepare(begun, self.vision.clone()).await.map(drop)
    }

    /// Reads, decodes and writes the thumbnail, with its share of memory and a processor, which are held for as long as
    /// anything of it goes on, also after the worker was aborted.
    async fn prepare(&self, begun: Begun, vision: VisionSpec) -> Result<Prepared, Stop> {
        let stage = Stage::ExtractingFrames;
        let is_gone = self.store.is_gone(&begun);
        let (token, upload) = (begun.token, begun.upload);
        let only_jpeg = vision.jpeg;
        let (mib, most) = (upload.decode_bytes.div_ceil(1 << 20).max(1), self.limits.decode_memory >> 20);
        // It was taken in under another limit, and would wait for ever, before all others.
        let Some(mib) = u32::try_from(mib).ok().filter(|it| u64::from(*it) <= most) else {
            let message = format!("needs {mib} MiB, limits.decode_memory_mb is {most}");
            return Err(Stop::Failed(stage, FailureKind::Refused, message));
        };
        let closed = |_| Stop::NotReady;
        let memory = Arc::clone(&self.decode_memory).acquire_many_owned(mib).await.map_err(closed)?;
        let job = Arc::clone(&self.jobs).acquire_owned().await.map_err(closed)?;
        let decoder = Arc::clone(&self.decoders).acquire_owned().await.map_err(closed)?;
        let held = (Arc::new((memory, job)), Arc::new(decoder));
        let prepared = match upload.format.kind() {
            Kind::Image => self.look_at_image(upload, vision, held, is_gone).await,
            Kind::Video => self.look_at_video(upload, vision, held, is_gone).await,
        };
        let (mut prepared, thumbnail) =
            prepared.map_err(|(kind, message)| Stop::Failed(stage, kind, message))?;
        if only_jpeg {
            // Pictures wait for the provider outside of the budget for decodes, and their pixels are the most of them.
            prepared.pictures.iter_mut().for_each(|picture| picture.rgb = Vec::new());
        }
        self.store.keep_media(token, thumbnail, prepared.facts.clone());
        Ok(prepared)
    }

    async fn look_at_image(
        &self,
        upload: Upload,
        vision: VisionSpec,
        (share, decoder): Held,
        is_gone: impl FnOnce() -> bool + Send + 'static,
    ) -> Looked {
        let (files, limits) = (self.files.clone(), self.limits.clone());
        let job = move || {
            let bytes = files.read(&upload)?;
            let prepared = media::prepare(&bytes, &limits, &vision, upload.thumbnail == Thumbnail::Pending)
                .map_err(|error| undecodable(&upload, &error))?;
            // The next picture need not wait until the disk has this one's thumbnail.
            drop(decoder);
            let thumbnail = write_thumbnail(&files, &upload, prepared.thumbnail, is_gone);
            let (pictures, facts) = (vec![prepared.picture], prepared.facts);
            Ok((Prepared { pictures, seconds: Vec::new(), facts }, thumbnail))
        };
        blocking(share, job).await
    }

    async fn look_at_video(
        &self,
        upload: Upload,
        vision: VisionSpec,
        held: Held,
        is_gone: impl FnOnce() -> bool + Send + 'static,
    ) -> Looked {
        let checked = {
            let (files, upload) = (self.files.clone(), upload.clone());
            blocking(held.clone(), move || files.check(&upload)).await
        };
        let wanted = upload.thumbnail == Thumbnail::Pending;
        let clip = media::prepare_video(&checked?, &self.limits, &vision, wanted, held.clone()).await;
        let clip = clip.map_err(|error| undecodable(&upload, &error))?;
        let files = self.files.clone();
        let write = move || Ok(write_thumbnail(&files, &upload, clip.thumbnail, is_gone));
        let thumbnail = blocking(held, write).await?;
        Ok((Prepared { pictures: clip.pictures, seconds: clip.seconds, facts: clip.facts }, thumbnail))
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
                let _ = self.store.files_removed(vec![id]).await;
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
    let past = upload.history.iter().flat_map(|run| &run.failures);
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

/// What a provider is to see.
struct Prepared {
    pictures: Vec<Picture>,
    /// Seconds from the start for each frame of a video.
    seconds: Vec<f64>,
    facts: Facts,
}

/// A share of memory with a place among the jobs, and a processor.
type Held = (Arc<(OwnedSemaphorePermit, OwnedSemaphorePermit)>, Arc<OwnedSemaphorePermit>);

/// What came of looking at a file, and of its thumbnail.
type Looked = Result<(Prepared, Thumbnail), (FailureKind, String)>;

/// Runs a job in a thread of its own, which cannot be ended and keeps its share until it is done.
async fn blocking<T: Send + 'static>(
    held: impl Send + 'static,
    job: impl FnOnce() -> Result<T, (FailureKind, String)> + Send + 'static,
) -> Result<T, (FailureKind, String)> {
    let job = move || {
        let _held = held;
        job()
    };
    tokio::task::spawn_blocking(job)
        .await
        .unwrap_or_else(|_| Err((FailureKind::Panicked, "the decoder panicked; the log tells where".into())))
}

fn undecodable(upload: &Upload, error: &media::Error) -> (FailureKind, String) {
    (FailureKind::Undecodable, format!("{}: {}", upload.file_name, error.message))
}

fn write_thumbnail(
    files: &Files,
    upload: &Upload,
    made: Option<Result<Vec<u8>, media::Error>>,
    is_gone: impl FnOnce() -> bool,
) -> Thumbnail {
    match made {
        None => upload.thumbnail.clone(),
        Some(Ok(jpeg)) => match files.write_thumbnail(upload.id, &jpeg) {
            Ok(()) => {
                // A job cannot be aborted, and whoever deleted the upload meanwhile has removed its files before this one was there.
                if is_gone()
                    && let Err(error) = files.remove(upload.id)
                {
                    log::warn!("upload {}: cannot remove its thumbnail: {error}", upload.id);
                }
                Thumbnail::Made
            }
            // That says nothing of the picture, and will pass.
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                log::warn!("upload {}: its thumbnail is left for later: {error}", upload.id);
                Thumbnail::Pending
            }
            Err(error) => Thumbnail::Failed(format!("cannot write the thumbnail: {error}")),
        },
        Some(Err(error)) => Thumbnail::Failed(error.message),
    }
}

fn millis(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}
