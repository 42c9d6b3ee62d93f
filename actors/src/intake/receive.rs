//! Receives the bytes of an uploaded file: they are hashed while they are written to disk, never
//! whole in memory, and removed unless the file is submitted.

use std::io;

use super::admission::{failure_kind, rejection};
use crate::{
    disk::Disk,
    error::Error,
    files::{Arrived, Files, Incoming},
    id::UploadId,
    media::{self, VisionSpec},
    store::NewUpload,
    text,
    upload::{Failure, FailureKind, FileKey, FileRef},
};

/// Bytes that are collected before they are written, so that few blocking jobs are needed.
const CHUNK: usize = 1 << 18;
/// Longest file name that is kept, in characters.
const MAX_NAME_CHARS: usize = 255;

/// A file whose bytes are coming in. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Receiving {
    file_name: String,
    buffer: Vec<u8>,
    incoming: Option<Incoming>,
    files: Files,
    disk: Disk,
    limits: media::Limits,
    vision: VisionSpec,
    /// Most bytes of a file of any kind.
    max_bytes: u64,
}

/// Why a file was not received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiveError {
    /// The file itself is refused, with a sentence for the sender. Other files may be received.
    Refused(Failure),
    /// The disk cannot store it: [`Error::DiskFull`] or [`Error::Store`].
    Failed(Error),
}

impl From<Error> for ReceiveError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A file that was received whole, is durable, and may be submitted. Dropped before, it leaves
/// nothing behind.
#[derive(Debug)]
pub struct Received {
    arrived: Arrived,
    file_name: String,
    inspected: media::Inspected,
}

impl Receiving {
    pub(super) async fn begin(
        files: Files,
        disk: Disk,
        limits: media::Limits,
        vision: VisionSpec,
        file_name: &str,
    ) -> Result<Self, Error> {
        let create = {
            let files = files.clone();
            move || files.begin(UploadId::generate())
        };
        let incoming = job(create).await.map_err(|error| disk.failed("a file", &error))?;
        let max_bytes = limits.max_image_bytes.max(limits.max_video_bytes);
        let (file_name, buffer) = (plain_name(file_name), Vec::with_capacity(CHUNK));
        Ok(Self { file_name, buffer, incoming: Some(incoming), files, disk, limits, vision, max_bytes })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`ReceiveError`]: the file is too large, or the disk cannot store it.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ReceiveError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(CHUNK - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
            if self.buffer.len() == CHUNK {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ReceiveError> {
        let (mut incoming, bytes) = (self.incoming()?, std::mem::take(&mut self.buffer));
        let max_bytes = self.max_bytes;
        if incoming.length() + bytes.len() as u64 > max_bytes {
            let key =
                if self.limits.max_video_bytes == max_bytes { "max_video_bytes" } else { "max_file_bytes" };
            let message = format!("{} is larger than limits.{key}, which is {max_bytes}", self.file_name);
            return Err(ReceiveError::Refused(rejection(FailureKind::Refused, message)));
        }
        let disk = self.disk.clone();
        let write = move || {
            // This is checked for every chunk, since many files may come in at once and the store
            // needs room, too.
            if let Err(full) = disk.check(bytes.len() as u64) {
                return Ok(Err(full));
            }
            incoming.write(&bytes)?;
            let mut buffer = bytes;
            buffer.clear();
            Ok(Ok((incoming, buffer)))
        };
        let (incoming, buffer) =
            job(write).await.map_err(|error| self.disk.failed(&self.file_name, &error))??;
        (self.incoming, self.buffer) = (Some(incoming), buffer);
        Ok(())
    }

    /// Ends the file: its format is read from its bytes, and it is durable when this answers.
    ///
    /// # Errors
    /// [`ReceiveError`]: it is neither a picture nor a video, cannot be decoded by this build, is
    /// too large, or the disk failed.
    pub async fn finish(mut self) -> Result<Received, ReceiveError> {
        self.flush().await?;
        let incoming = self.incoming()?;
        let Self { files, disk, limits, vision, file_name, .. } = self;
        let finish = move || {
            let arrived = incoming.finish(&files)?;
            let inspected = media::inspect(&mut arrived.open()?, arrived.length, &limits, &vision);
            Ok((arrived, inspected))
        };
        let refused = |kind, message| ReceiveError::Refused(rejection(kind, message));
        // A panic of a parser concerns this file alone, and must not refuse the others.
        let finished: io::Result<_> = tokio::task::spawn_blocking(finish).await.map_err(|_| {
            let message = format!("the code that inspects {file_name} panicked; the log says where");
            refused(FailureKind::Panicked, message)
        })?;
        let (arrived, inspected) = finished.map_err(|error| disk.failed("a file", &error))?;
        let inspected = inspected.map_err(|error| refused(failure_kind(error.kind), error.message))?;
        Ok(Received { arrived, file_name, inspected })
    }

    /// The file that is being written; an error after a failed write.
    fn incoming(&mut self) -> Result<Incoming, Error> {
        self.incoming.take().ok_or_else(|| Error::Store(format!("{} could not be written", self.file_name)))
    }
}

impl Received {
    /// Reads the format of a file that is complete and durable. Blocks.
    ///
    /// # Errors
    /// [`ReceiveError::Refused`] as for [`Receiving::finish`], and [`ReceiveError::Failed`] if the disk failed.
    pub(super) fn inspect(
        arrived: Arrived,
        file_name: String,
        disk: &Disk,
        limits: &media::Limits,
        vision: &VisionSpec,
    ) -> Result<Self, ReceiveError> {
        let mut reader = arrived.open().map_err(|error| disk.failed("a file", &error))?;
        let inspected = media::inspect(&mut reader, arrived.length, limits, vision);
        let inspected = inspected
            .map_err(|error| ReceiveError::Refused(rejection(failure_kind(error.kind), error.message)))?;
        Ok(Self { arrived, file_name, inspected })
    }

    /// The id that the upload will have.
    pub fn id(&self) -> UploadId {
        self.arrived.id()
    }

    /// SHA-256 of the bytes, in hexadecimal digits.
    pub(super) fn content_hash(&self) -> &str {
        &self.arrived.content_hash
    }

    pub(super) fn upload(&self) -> NewUpload {
        let id = self.id();
        NewUpload {
            id,
            file: FileRef::Managed(FileKey::original(id)),
            file_name: self.file_name.clone(),
            file_size: self.arrived.length,
            content_hash: self.arrived.content_hash.clone(),
            format: self.inspected.format,
            decode_bytes: self.inspected.decode_bytes,
            stamp: None,
            replaces: None,
            described_as: None,
        }
    }

    /// Keeps the file when this is dropped, since its upload may be written from now on.
    pub(super) fn keep(&mut self) {
        self.arrived.keep();
    }

    /// Removes the file, since its upload was not written.
    pub(super) fn remove(self) {
        self.arrived.remove();
    }
}

/// The last part of a client's file name, without control characters.
pub(super) fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = text::plain(last.replace('\n', "")).chars().take(MAX_NAME_CHARS).collect();
    if plain.trim().is_empty() || plain == "." || plain == ".." { "unnamed".into() } else { plain }
}

pub(super) async fn job<T: Send + 'static>(
    job: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(job).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{config::Config, pipeline};

    /// A file that is being received, while `min_free_bytes` of its disk must stay free.
    async fn begun(folder: &Path, min_free_bytes: u64) -> Receiving {
        let (files, disk) = (Files::new(folder), Disk::new(folder.to_owned(), min_free_bytes));
        let vision = VisionSpec { max_pixels: 1 << 20, max_side_px: 1024, patch_px: 28, jpeg: false };
        let limits = pipeline::limits(&Config::default());
        Receiving::begin(files, disk, limits, vision, "cat.jpg").await.expect("begun")
    }

    #[tokio::test]
    async fn a_disk_that_fills_meanwhile_takes_no_more_and_keeps_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let incoming = || fs::read_dir(folder.path().join("incoming")).expect("a folder").count();
        let mut fits = begun(folder.path(), 1).await;
        fits.write(&vec![0; 2 * CHUNK]).await.expect("room");
        let mut receiving = begun(folder.path(), u64::MAX).await;
        assert_eq!(incoming(), 2);
        let refused = receiving.write(&vec![0; 2 * CHUNK]).await.expect_err("no room");
        assert!(matches!(refused, ReceiveError::Failed(Error::DiskFull { .. })), "{refused:?}");
        assert_eq!(incoming(), 1);
        let refused = begun(folder.path(), u64::MAX).await.finish().await.expect_err("no room");
        assert!(matches!(refused, ReceiveError::Failed(Error::DiskFull { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn bytes_of_an_upload_that_may_be_written_stay_whatever_happens() {
        let folder = tempfile::tempdir().expect("a folder");
        let receive = async || {
            let mut receiving = begun(folder.path(), 0).await;
            receiving.write(include_bytes!("../../tests/fixtures/cat.jpg")).await.expect("room");
            receiving.finish().await.expect("a picture")
        };
        let (mut written, mut refused, dropped) = (receive().await, receive().await, receive().await);
        let paths =
            [&written, &refused, &dropped].map(|it| folder.path().join("incoming").join(it.id().to_string()));
        written.keep();
        refused.keep();
        drop((written, dropped));
        refused.remove();
        assert_eq!(paths.map(|path| path.exists()), [true, false, false]);
    }
}
