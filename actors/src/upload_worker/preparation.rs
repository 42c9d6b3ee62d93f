//! What comes before the provider: bytes are read, a picture or frames are decoded, the thumbnail is written.

use std::{io::ErrorKind, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;

use super::{Stop, WorkerContext};
use crate::{
    files::Files,
    media::{self, Facts, Kind, Picture, VisionSpec},
    store::Begun,
    upload::{FailureKind, Stage, Thumbnail, Upload},
};

/// Thumbnails that wait for the disk at once, beside the pictures that are decoded. More threads cost more, in processor time and
/// memory, than the disk gains by them.
pub(crate) const THUMBNAILS_AT_ONCE: usize = 8;

/// What a provider is to see.
pub(super) struct Prepared {
    pub(super) pictures: Vec<Picture>,
    /// Seconds from the start for each frame of a video.
    pub(super) seconds: Vec<f64>,
    pub(super) facts: Facts,
}

/// A share of memory with a place among the jobs, and a processor.
type Held = (Arc<(OwnedSemaphorePermit, OwnedSemaphorePermit)>, Arc<OwnedSemaphorePermit>);

/// What came of looking at a file, and of its thumbnail.
type Looked = Result<(Prepared, Thumbnail), (FailureKind, String)>;

impl WorkerContext {
    /// Sees to the thumbnail of an upload whose description is kept: it is that of the upload whose description it took over, or made.
    pub(super) async fn catch_up(&self, begun: Begun) -> Result<(), Stop> {
        if let (Some(older), Some(facts)) = (begun.upload.replaces, begun.upload.facts.clone()) {
            let (files, upload) = (self.files.clone(), begun.upload.clone());
            let is_gone = self.queries.is_gone(&begun);
            let copy = move || {
                let jpeg = std::fs::read(files.thumbnail(older)).ok()?;
                Some(write_thumbnail(&files, &upload, Some(Ok(jpeg)), is_gone))
            };
            if let Ok(Some(thumbnail)) = tokio::task::spawn_blocking(copy).await {
                self.commands.record_media(begun.token, thumbnail, facts);
                return Ok(());
            }
        }
        self.prepare(begun, self.vision.clone()).await.map(drop)
    }

    /// Reads, decodes and writes the thumbnail, with its share of memory and a processor, which are held for as long as
    /// anything of it goes on, also after the worker was aborted.
    pub(super) async fn prepare(&self, begun: Begun, vision: VisionSpec) -> Result<Prepared, Stop> {
        let stage = Stage::ExtractingFrames;
        let is_gone = self.queries.is_gone(&begun);
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
        self.commands.record_media(token, thumbnail, prepared.facts.clone());
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
}

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
