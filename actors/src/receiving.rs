//! Bytes on their way in: written to disk while they are hashed, never whole in memory, gone unless they are submitted.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write as _},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};

use crate::{
    error::Error,
    files::{self, Files},
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
    limits: media::Limits,
    vision: VisionSpec,
    /// Longest file of any sort, in bytes.
    most: u64,
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
        let sink =
            job(create).await.map_err(|error| Error::Store(format!("cannot take a file in: {error}")))?;
        let file_name = plain_name(file_name);
        Ok(Self {
            file_name,
            buffer: Vec::with_capacity(CHUNK),
            sink: Some(sink),
            files,
            limits,
            vision,
            most,
        })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// A failure whose sentence may be shown: the file is too large, or the disk does not take it.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
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

    async fn flush(&mut self) -> Result<(), Failure> {
        let (Some(mut sink), bytes) = (self.sink.take(), std::mem::take(&mut self.buffer)) else {
            return Err(not_accepted(
                FailureKind::Storage,
                format!("{} could not be written", self.file_name),
            ));
        };
        if sink.length + bytes.len() as u64 > self.most {
            let message =
                format!("{} is larger than the {} bytes that are allowed", self.file_name, self.most);
            return Err(not_accepted(FailureKind::Refused, message));
        }
        let write = move || {
            sink.file.write_all(&bytes)?;
            sink.hasher.update(&bytes);
            sink.length += bytes.len() as u64;
            let mut buffer = bytes;
            buffer.clear();
            Ok((sink, buffer))
        };
        let (sink, buffer) = job(write).await.map_err(|error| self.unwritten(&error))?;
        (self.sink, self.buffer) = (Some(sink), buffer);
        Ok(())
    }

    /// Ends the file: what it is is told from its bytes, and it is on disk when this answers.
    ///
    /// # Errors
    /// A failure whose sentence may be shown: it is no picture or video, not one that can be decoded here, too large, or the disk failed.
    pub async fn finish(mut self) -> Result<Received, Failure> {
        self.flush().await?;
        let Some(sink) = self.sink.take() else {
            return Err(not_accepted(
                FailureKind::Storage,
                format!("{} could not be written", self.file_name),
            ));
        };
        let (limits, vision) = (self.limits.clone(), self.vision.clone());
        let name = self.file_name.clone();
        let finish = move || {
            sink.file.sync_all()?;
            self.files.sync_incoming()?;
            let mut reader = BufReader::new(File::open(&sink.incoming.path)?);
            Ok((media::inspect(&mut reader, sink.length, &limits, &vision), sink, self.file_name))
        };
        let failed =
            |error: io::Error| not_accepted(FailureKind::Storage, format!("cannot take a file in: {error}"));
        let finished: io::Result<_> = tokio::task::spawn_blocking(finish).await.map_err(|_| {
            not_accepted(
                FailureKind::Panicked,
                format!("the code that looks at {name} panicked; the log tells where"),
            )
        })?;
        let (inspected, sink, file_name) = finished.map_err(failed)?;
        let inspected = inspected.map_err(|error| not_accepted(failure_kind(error.kind), error.message))?;
        let content_hash = files::hexadecimal(&sink.hasher.finalize());
        Ok(Received { incoming: sink.incoming, file_name, file_size: sink.length, content_hash, inspected })
    }

    fn unwritten(&self, error: &io::Error) -> Failure {
        not_accepted(FailureKind::Storage, format!("cannot take {} in: {error}", self.file_name))
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

    /// The upload is written: its file is no longer removed.
    pub(crate) fn keep(mut self) {
        self.incoming.keep = true;
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
