//! Bytes on their way in: written to disk while they are hashed, never whole in memory, gone unless they are submitted.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write as _},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};

use crate::{
    disk::Disk,
    error::Error,
    files::Files,
    id::UploadId,
    intake::{failure_kind, not_accepted},
    media::{self, VisionSpec},
    store::NewUpload,
    upload::{Failure, FailureKind, FileRef},
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
    sink: Option<Sink>,
    files: Files,
    disk: Disk,
    limits: media::Limits,
    vision: VisionSpec,
    /// Longest file of any sort, in bytes.
    most: u64,
}

/// Why a file was not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiveError {
    /// For what it is; the sentence may be shown. Others may be taken.
    Refused(Failure),
    /// For what the disk is: [`Error::DiskFull`] or [`Error::Store`].
    Failed(Error),
}

impl From<Error> for ReceiveError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What a blocking job writes to.
#[derive(Debug)]
struct Sink {
    incoming: Incoming,
    file: File,
    hasher: Sha256,
    length: u64,
}

/// The file on disk, which goes when this is dropped.
#[derive(Debug)]
struct Incoming {
    id: UploadId,
    path: PathBuf,
    keep: bool,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}, the next start tries again: {error}", self.path.display());
        }
    }
}

/// A file that was taken in whole, is on disk, and may be submitted. Dropped before, it leaves nothing behind.
#[derive(Debug)]
pub struct Received {
    incoming: Incoming,
    file_name: String,
    file_size: u64,
    content_hash: String,
    inspected: media::Inspected,
}

impl Receiving {
    pub(crate) async fn begin(
        files: Files,
        disk: Disk,
        limits: media::Limits,
        vision: VisionSpec,
        file_name: &str,
        most: u64,
    ) -> Result<Self, Error> {
        let id = UploadId::generate();
        let path = files.incoming(id);
        let create = move || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = File::create_new(&path)?;
            let incoming = Incoming { id, path, keep: false };
            Ok(Sink { incoming, file, hasher: Sha256::new(), length: 0 })
        };
        let sink = job(create).await.map_err(|error| disk.failed("a file", &error))?;
        let file_name = plain_name(file_name);
        Ok(Self {
            file_name,
            buffer: Vec::with_capacity(CHUNK),
            sink: Some(sink),
            files,
            disk,
            limits,
            vision,
            most,
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`ReceiveError`]: the file is too large, or the disk does not take it.
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
        let (mut sink, bytes) = (self.sink()?, std::mem::take(&mut self.buffer));
        if sink.length + bytes.len() as u64 > self.most {
            let message =
                format!("{} is larger than the {} bytes that are allowed", self.file_name, self.most);
            return Err(ReceiveError::Refused(not_accepted(FailureKind::Refused, message)));
        }
        let disk = self.disk.clone();
        let write = move || {
            // Each time, since many may come in at once, and the store must go on.
            if let Err(full) = disk.check(bytes.len() as u64) {
                return Ok(Err(full));
            }
            sink.file.write_all(&bytes)?;
            sink.hasher.update(&bytes);
            sink.length += bytes.len() as u64;
            let mut buffer = bytes;
            buffer.clear();
            Ok(Ok((sink, buffer)))
        };
        let (sink, buffer) =
            job(write).await.map_err(|error| self.disk.failed(&self.file_name, &error))??;
        (self.sink, self.buffer) = (Some(sink), buffer);
        Ok(())
    }

    /// Ends the file: what it is is told from its bytes, and it is on disk when this answers.
    ///
    /// # Errors
    /// [`ReceiveError`]: it is no picture or video, not one that can be decoded here, too large, or the disk failed.
    pub async fn finish(mut self) -> Result<Received, ReceiveError> {
        self.flush().await?;
        let sink = self.sink()?;
        let (limits, vision, disk) = (self.limits.clone(), self.vision.clone(), self.disk.clone());
        let name = self.file_name.clone();
        let finish = move || {
            sink.file.sync_all()?;
            self.files.sync_incoming()?;
            let mut reader = BufReader::new(File::open(&sink.incoming.path)?);
            Ok((media::inspect(&mut reader, sink.length, &limits, &vision), sink, self.file_name))
        };
        let refused = |kind, message| ReceiveError::Refused(not_accepted(kind, message));
        // A parser that panics is about this file, and no reason to refuse the others.
        let finished: io::Result<_> = tokio::task::spawn_blocking(finish).await.map_err(|_| {
            let message = format!("the code that looks at {name} panicked; the log tells where");
            refused(FailureKind::Panicked, message)
        })?;
        let (inspected, sink, file_name) = finished.map_err(|error| disk.failed("a file", &error))?;
        let inspected = inspected.map_err(|error| refused(failure_kind(error.kind), error.message))?;
        let content_hash = base16ct::lower::encode_string(&sink.hasher.finalize());
        Ok(Received { incoming: sink.incoming, file_name, file_size: sink.length, content_hash, inspected })
    }

    /// What is written to, unless writing failed before.
    fn sink(&mut self) -> Result<Sink, Error> {
        self.sink.take().ok_or_else(|| Error::Store(format!("{} could not be written", self.file_name)))
    }
}

impl Received {
    /// The name that the upload will have.
    pub fn id(&self) -> UploadId {
        self.incoming.id
    }

    pub(crate) fn upload(&self) -> NewUpload {
        NewUpload {
            id: self.incoming.id,
            file: FileRef::Stored,
            file_name: self.file_name.clone(),
            file_size: self.file_size,
            content_hash: self.content_hash.clone(),
            format: self.inspected.format,
            decode_bytes: self.inspected.decode_bytes,
            place: None,
            replaces: None,
            described_as: None,
        }
    }

    /// The upload may be written from now on: its file is no longer removed when this is dropped.
    pub(crate) fn keep(&mut self) {
        self.incoming.keep = true;
    }

    /// The upload was not written: its file goes.
    pub(crate) fn remove(mut self) {
        self.incoming.keep = false;
    }
}

/// The last part of a name as clients send it, without control characters.
fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let plain: String = last.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
    if plain.trim().is_empty() || plain == "." || plain == ".." { "unnamed".into() } else { plain }
}

async fn job<T: Send + 'static>(job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(job).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{config::Config, pipeline};

    /// A file that comes in to a disk of which so much must stay free from now on.
    async fn begun(folder: &Path, min_free_bytes: u64) -> Receiving {
        let (files, disk) = (Files::new(folder), Disk::new(folder.to_owned(), min_free_bytes));
        let vision = VisionSpec { max_pixels: 1 << 20, max_side_px: 1024, patch_px: 28, jpeg: false };
        let limits = pipeline::limits(&Config::default());
        Receiving::begin(files, disk, limits, vision, "cat.jpg", 1 << 30).await.expect("begun")
    }

    #[tokio::test]
    async fn a_disk_that_fills_meanwhile_takes_no_more_and_keeps_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let incoming = || fs::read_dir(folder.path().join("incoming")).expect("a folder").count();
        let mut fits = begun(folder.path(), 1).await;
        fits.write(&vec![0; 2 * CHUNK]).await.expect("room");
        let mut receiving = begun(folder.path(), u64::MAX).await;
        assert_eq!(incoming(), 2);
        let told = receiving.write(&vec![0; 2 * CHUNK]).await.expect_err("no room");
        assert!(matches!(told, ReceiveError::Failed(Error::DiskFull { .. })), "{told:?}");
        assert_eq!(incoming(), 1);
        let told = begun(folder.path(), u64::MAX).await.finish().await.expect_err("no room");
        assert!(matches!(told, ReceiveError::Failed(Error::DiskFull { .. })), "{told:?}");
    }

    #[tokio::test]
    async fn bytes_whose_upload_may_be_written_stay_whatever_happens() {
        let folder = tempfile::tempdir().expect("a folder");
        let receive = async || {
            let mut receiving = begun(folder.path(), 0).await;
            receiving.write(include_bytes!("../../tests/fixtures/cat.jpg")).await.expect("room");
            receiving.finish().await.expect("a picture")
        };
        let (mut written, mut refused, dropped) = (receive().await, receive().await, receive().await);
        let paths = [&written, &refused, &dropped].map(|it| it.incoming.path.clone());
        written.keep();
        refused.keep();
        drop((written, dropped));
        refused.remove();
        assert_eq!(paths.map(|path| path.exists()), [true, false, false]);
    }
}
