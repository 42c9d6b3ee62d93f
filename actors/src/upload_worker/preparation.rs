//! The preparation of an attempt: the file is read, a picture or frames are decoded, the thumbnail
//! is written.

use std::{io::BufReader, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    WorkerContext,
    attempt::{Attempt, Stop},
};
use crate::{
    files::{Claim, Files, ReadError},
    media::{self, Facts, Kind, Origins, Picture, VisionSpec},
    upload::{Failure, FailureKind, Stage, Thumbnail, Upload},
};

/// Thumbnails that were left for later and are looked up together.
const LATE_AT_ONCE: usize = 64;

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
type Outcome = Result<(Prepared, Thumbnail), Unprepared>;

/// Why a file could not be prepared.
#[derive(Debug)]
pub(super) enum Unprepared {
    /// The preparation failed.
    Failed(FailureKind, String),
    /// It can be tried again: the engine stops, or the process has too many files open.
    NotNow,
}

impl From<(FailureKind, String)> for Unprepared {
    fn from((kind, message): (FailureKind, String)) -> Self {
        Self::Failed(kind, message)
    }
}

impl From<ReadError> for Unprepared {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Failed(kind, message) => Self::Failed(kind, message),
            ReadError::OutOfHandles => Self::NotNow,
        }
    }
}

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

    /// Reads and decodes the file, writes the thumbnail, and records both.
    pub(super) async fn prepare(&mut self, vision: VisionSpec) -> Result<Prepared, Stop> {
        if let Some(message) = self.failed_decode() {
            return Err(Stop::Failed(Stage::ExtractingFrames, FailureKind::Undecodable, message));
        }
        let only_jpeg = vision.jpeg;
        let prepared = self.context.prepare(self.upload.clone(), vision).await;
        let (mut prepared, thumbnail) = prepared.map_err(|error| match error {
            Unprepared::Failed(kind, message) => Stop::Failed(Stage::ExtractingFrames, kind, message),
            Unprepared::NotNow => Stop::NotReady,
        })?;
        if only_jpeg {
            // Pictures wait for the provider outside the budget for decodes, so their pixels,
            // which are most of their memory, are dropped.
            prepared.pictures.iter_mut().for_each(|picture| picture.rgb = Vec::new());
        }
        let write = self.context.commands.record_media(self.token.clone(), thumbnail, prepared.facts.clone());
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
    /// Reads and decodes a file and writes its thumbnail, with its share of memory and a
    /// processor. Both are held while a job of it runs, even after the worker was aborted.
    async fn prepare(&self, upload: Upload, vision: VisionSpec) -> Outcome {
        let claim = self.files.claim(upload.id);
        let mib = upload.decode_bytes.div_ceil(1 << 20).max(1);
        let most = self.limits.decode_memory >> 20;
        // The upload was admitted under another limit. It would wait for ever, and block all
        // others.
        let Some(mib) = u32::try_from(mib).ok().filter(|it| u64::from(*it) <= most) else {
            let message = format!("decoding needs {mib} MiB, limits.decode_memory_mb is {most}");
            return Err(Unprepared::Failed(FailureKind::Refused, message));
        };
        let closed = |_| Unprepared::NotNow;
        let memory = Arc::clone(&self.decode_memory).acquire_many_owned(mib).await.map_err(closed)?;
        let job = Arc::clone(&self.jobs).acquire_owned().await.map_err(closed)?;
        let decoder = Arc::clone(&self.decoders).acquire_owned().await.map_err(closed)?;
        let held = (Arc::new((memory, job)), Arc::new(decoder));
        match upload.format.kind() {
            Kind::Image => self.prepare_image(upload, vision, held, claim).await,
            Kind::Video => self.prepare_video(upload, vision, held, claim).await,
        }
    }

    /// Makes the thumbnails of completed uploads that were left for later, until one cannot be written again.
    pub(crate) async fn make_late_thumbnails(&self) {
        let mut last = None;
        loop {
            let uploads = match self.queries.late_thumbnails(last, LATE_AT_ONCE).await {
                Ok(uploads) if uploads.is_empty() => return,
                Ok(uploads) => uploads,
                Err(error) => return log::warn!("the thumbnails that are left cannot be listed: {error}"),
            };
            for upload in uploads {
                let (owner, id) = (upload.owner.clone(), upload.id);
                last = Some(id);
                let thumbnail = match self.prepare(upload, self.vision.clone()).await {
                    // The disk still takes no thumbnails.
                    Ok((_, Thumbnail::Pending)) | Err(Unprepared::NotNow) => return,
                    Ok((_, thumbnail)) => thumbnail,
                    // The disk of the file may be away.
                    Err(Unprepared::Failed(FailureKind::FileMissing | FailureKind::FileUnreadable, _)) => {
                        continue;
                    }
                    Err(Unprepared::Failed(_, message)) => Thumbnail::Failed(message),
                };
                if self.commands.record_thumbnail(owner, id, thumbnail).await.is_err() {
                    return;
                }
                log::info!("upload {id}: its thumbnail, which was left for later, is done");
            }
        }
    }

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
                checked.check_unchanged()?;
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
            blocking(held.clone(), move || files.check(&upload).map_err(Unprepared::from)).await
        };
        let wanted = upload.thumbnail == Thumbnail::Pending;
        let checked = checked?;
        let file = checked.file()?;
        let limits = self.limits_of(&upload);
        let clip = media::prepare_video(file, &limits, &vision, wanted, held.clone()).await;
        // Other bytes than those that were submitted may have been decoded.
        blocking(held.clone(), move || Ok(checked.check_unchanged()?)).await?;
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
    job: impl FnOnce() -> Result<T, Unprepared> + Send + 'static,
) -> Result<T, Unprepared> {
    let job = move || {
        let _held = held;
        job()
    };
    tokio::task::spawn_blocking(job).await.unwrap_or_else(|_| {
        let message = "the decoder panicked; the log says where".into();
        Err(Unprepared::Failed(FailureKind::Panicked, message))
    })
}

/// The facts of a file in place with those of its sidecars.
fn with_sidecars(upload: &Upload, facts: Facts, origins: &Origins) -> Facts {
    match upload.place() {
        Some(path) => media::facts_beside(facts, origins, path),
        None => facts,
    }
}

fn undecodable(upload: &Upload, error: &media::Error) -> Unprepared {
    let kind = match error.kind {
        media::ErrorKind::Unreadable => FailureKind::FileUnreadable,
        media::ErrorKind::TooLarge | media::ErrorKind::Unsupported => FailureKind::Refused,
        media::ErrorKind::Empty | media::ErrorKind::NotMedia | media::ErrorKind::Undecodable => {
            FailureKind::Undecodable
        }
    };
    Unprepared::Failed(kind, format!("{}: {}", upload.file_name, error.message))
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
            // A full disk or one that fails can be repaired, so the thumbnail stays pending.
            Err(error) => {
                log::warn!("upload {}: its thumbnail is left for later: {error}", upload.id);
                Thumbnail::Pending
            }
        },
        Some(Err(error)) => Thumbnail::Failed(error.message),
    }
}
