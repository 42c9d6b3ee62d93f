//! The preparation of an attempt: the file is read, a picture or frames are decoded, the thumbnail
//! is written.

use std::{
    io::{BufReader, ErrorKind},
    sync::Arc,
};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    WorkerContext,
    attempt::{Attempt, Stop},
};
use crate::{
    files::{Claim, Files},
    media::{self, Facts, Kind, Origins, Picture, VisionSpec},
    upload::{Failure, FailureKind, Stage, Thumbnail, Upload},
};

/// The pictures and facts that a provider gets.
pub(super) struct Prepared {
    pub(super) pictures: Vec<Picture>,
    /// Seconds from the start for each frame of a video.
    pub(super) seconds: Vec<f64>,
    pub(super) facts: Facts,
}

/// A share of memory with a place among the jobs, and a processor.
type Held = (Arc<(OwnedSemaphorePermit, OwnedSemaphorePermit)>, Arc<OwnedSemaphorePermit>);

/// The outcome of a preparation, with that of the thumbnail.
type Outcome = Result<(Prepared, Thumbnail), (FailureKind, String)>;

impl Attempt {
    /// Makes the thumbnail of an upload that has its description: a copy of an earlier upload's, or
    /// a new one.
    pub(super) async fn catch_up(&mut self) -> Result<(), Stop> {
        let earlier = self.upload.same_as.or(self.upload.replaces);
        if let (Some(earlier), Some(facts)) = (earlier, self.upload.facts.clone()) {
            let (files, upload) = (self.context.files.clone(), self.upload.clone());
            let claim = files.claim(upload.id);
            let sidecars = facts.sidecars.clone();
            let copy = move || {
                // Facts with other sidecars are read anew.
                if upload.place().is_some_and(|path| media::sidecars(path) != sidecars) {
                    return None;
                }
                let jpeg = files.read_thumbnail(earlier).ok()?;
                Some(write_thumbnail(&files, &upload, Some(Ok(jpeg)), claim))
            };
            if let Ok(Some(thumbnail)) = tokio::task::spawn_blocking(copy).await {
                let write = self.context.commands.record_media(self.token.clone(), thumbnail, facts);
                self.record(write);
                return Ok(());
            }
        }
        self.prepare(self.context.vision.clone()).await.map(drop)
    }

    /// Reads and decodes the file and writes the thumbnail, with its share of memory and a
    /// processor. Both are held while a job of it runs, even after the worker was aborted.
    pub(super) async fn prepare(&mut self, vision: VisionSpec) -> Result<Prepared, Stop> {
        let stage = Stage::ExtractingFrames;
        if let Some(message) = self.failed_decode() {
            return Err(Stop::Failed(stage, FailureKind::Undecodable, message));
        }
        let context = Arc::clone(&self.context);
        let upload = self.upload.clone();
        let claim = context.files.claim(upload.id);
        let only_jpeg = vision.jpeg;
        let mib = upload.decode_bytes.div_ceil(1 << 20).max(1);
        let most = context.limits.decode_memory >> 20;
        // The upload was admitted under another limit. It would wait for ever, and block all
        // others.
        let Some(mib) = u32::try_from(mib).ok().filter(|it| u64::from(*it) <= most) else {
            let message = format!("decoding needs {mib} MiB, limits.decode_memory_mb is {most}");
            return Err(Stop::Failed(stage, FailureKind::Refused, message));
        };
        let closed = |_| Stop::NotReady;
        let memory = Arc::clone(&context.decode_memory).acquire_many_owned(mib).await.map_err(closed)?;
        let job = Arc::clone(&context.jobs).acquire_owned().await.map_err(closed)?;
        let decoder = Arc::clone(&context.decoders).acquire_owned().await.map_err(closed)?;
        let held = (Arc::new((memory, job)), Arc::new(decoder));
        let prepared = match upload.format.kind() {
            Kind::Image => context.prepare_image(upload, vision, held, claim).await,
            Kind::Video => context.prepare_video(upload, vision, held, claim).await,
        };
        let (mut prepared, thumbnail) =
            prepared.map_err(|(kind, message)| Stop::Failed(stage, kind, message))?;
        if only_jpeg {
            // Pictures wait for the provider outside the budget for decodes, so their pixels,
            // which are most of their memory, are dropped.
            prepared.pictures.iter_mut().for_each(|picture| picture.rgb = Vec::new());
        }
        let write = context.commands.record_media(self.token.clone(), thumbnail, prepared.facts.clone());
        self.record(write);
        Ok(prepared)
    }
}

impl Attempt {
    /// Why the attempt before could not decode the picture. A decoder gives the same answer to the same bytes,
    /// so they are not decoded again. A video is: its program may have been short of time or memory.
    fn failed_decode(&self) -> Option<String> {
        let failed =
            |it: &&Failure| it.stage == Stage::ExtractingFrames && it.kind == FailureKind::Undecodable;
        let failure = self.upload.failures.last().filter(failed)?;
        (self.upload.format.kind() == Kind::Image).then(|| failure.message.clone())
    }
}

impl WorkerContext {
    /// The limits on the file of an upload.
    fn limits_of(&self, upload: &Upload) -> media::Limits {
        if upload.place().is_some() { self.limits.in_place() } else { self.limits.clone() }
    }

    async fn prepare_image(
        &self,
        upload: Upload,
        vision: VisionSpec,
        (share, decoder): Held,
        claim: Claim,
    ) -> Outcome {
        let (files, limits) = (self.files.clone(), self.limits_of(&upload));
        let job = move || {
            let wanted = upload.thumbnail == Thumbnail::Pending;
            let prepared = if upload.file_size > media::STREAMED_BYTES {
                let checked = files.check(&upload)?;
                let mut reader = BufReader::new(checked.file()?);
                let made = media::prepare_file(&mut reader, upload.file_size, &limits, &vision, wanted);
                // Other bytes than those that were submitted may have been decoded.
                checked.is_unchanged()?;
                made
            } else {
                media::prepare(&files.read(&upload)?, &limits, &vision, wanted)
            };
            let prepared = prepared.map_err(|error| undecodable(&upload, &error))?;
            // The next picture need not wait until this one's thumbnail is durable.
            drop(decoder);
            let thumbnail = write_thumbnail(&files, &upload, prepared.thumbnail, claim);
            let facts = with_sidecars(&upload, prepared.facts, &prepared.origins);
            let pictures = vec![prepared.picture];
            Ok((Prepared { pictures, seconds: Vec::new(), facts }, thumbnail))
        };
        blocking(share, job).await
    }

    async fn prepare_video(&self, upload: Upload, vision: VisionSpec, held: Held, claim: Claim) -> Outcome {
        let checked = {
            let (files, upload) = (self.files.clone(), upload.clone());
            blocking(held.clone(), move || files.check(&upload)).await
        };
        let wanted = upload.thumbnail == Thumbnail::Pending;
        let checked = checked?;
        let file = checked.file()?;
        let limits = self.limits_of(&upload);
        let clip = media::prepare_video(file, &limits, &vision, wanted, held.clone()).await;
        // Other bytes than those that were submitted may have been decoded.
        blocking(held.clone(), move || checked.is_unchanged()).await?;
        let clip = clip.map_err(|error| undecodable(&upload, &error))?;
        let files = self.files.clone();
        let (facts, origins) = (clip.facts, clip.origins);
        let write = move || {
            let thumbnail = write_thumbnail(&files, &upload, clip.thumbnail, claim);
            Ok((with_sidecars(&upload, facts, &origins), thumbnail))
        };
        let (facts, thumbnail) = blocking(held, write).await?;
        Ok((Prepared { pictures: clip.pictures, seconds: clip.seconds, facts }, thumbnail))
    }
}

/// Runs a job in a blocking thread, which cannot be aborted and keeps its share until it is done.
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
        .unwrap_or_else(|_| Err((FailureKind::Panicked, "the decoder panicked; the log says where".into())))
}

/// The facts of a file in place with those of its sidecars.
fn with_sidecars(upload: &Upload, facts: Facts, origins: &Origins) -> Facts {
    match upload.place() {
        Some(path) => media::facts_beside(facts, origins, path),
        None => facts,
    }
}

fn undecodable(upload: &Upload, error: &media::Error) -> (FailureKind, String) {
    let kind = match error.kind {
        media::ErrorKind::Unreadable => FailureKind::FileUnreadable,
        media::ErrorKind::TooLarge | media::ErrorKind::Unsupported => FailureKind::Refused,
        media::ErrorKind::Empty | media::ErrorKind::NotMedia | media::ErrorKind::Undecodable => {
            FailureKind::Undecodable
        }
    };
    (kind, format!("{}: {}", upload.file_name, error.message))
}

fn write_thumbnail(
    files: &Files,
    upload: &Upload,
    made: Option<Result<Vec<u8>, media::Error>>,
    claim: Claim,
) -> Thumbnail {
    match made {
        None => upload.thumbnail.clone(),
        Some(Ok(jpeg)) => match files.write_thumbnail(upload.id, &jpeg) {
            Ok(()) => {
                // A delete meanwhile removed the files before this one existed.
                if claim.is_removed()
                    && let Err(error) = files.remove(upload.id)
                {
                    log::warn!("upload {}: cannot remove its thumbnail: {error}", upload.id);
                }
                Thumbnail::Made
            }
            // A full disk is temporary, so the thumbnail stays pending.
            Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                log::warn!("upload {}: its thumbnail is left for later: {error}", upload.id);
                Thumbnail::Pending
            }
            Err(error) => Thumbnail::Failed(format!("cannot write the thumbnail: {error}")),
        },
        Some(Err(error)) => Thumbnail::Failed(error.message),
    }
}
