//! Bytes that are being added to a resumable upload.

use std::{
    fs::File,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedMutexGuard, watch};

use super::{super::receive::job, Entry, Resumable, after, write};
use crate::{disk::Disk, error::Error, files::Files};

/// Bytes that are collected before they are written.
const CHUNK: usize = 1 << 18;
/// The file and its record are made durable after each this many bytes. A power cut loses fewer.
const SYNC_EVERY: u64 = 64 << 20;

/// Bytes that are being added to an upload. The upload has those that were confirmed: all of them by
/// [`Appending::finish`], and some by [`Appending::write`]. A call must not be aborted.
#[derive(Debug)]
pub struct Appending {
    entry: Arc<Entry>,
    turn: OwnedMutexGuard<Option<Sha256>>,
    interrupted: watch::Receiver<u32>,
    /// `None` after a failed write.
    writer: Option<Writer>,
    buffer: Vec<u8>,
    files: Files,
    disk: Disk,
    keep: Duration,
}

#[derive(Debug)]
struct Writer {
    file: File,
    hasher: Option<Sha256>,
    /// Bytes in the file.
    written: u64,
}

impl Appending {
    /// Opens the file at the end of the confirmed bytes.
    pub(super) async fn begin(
        entry: Arc<Entry>,
        turn: OwnedMutexGuard<Option<Sha256>>,
        files: Files,
        disk: Disk,
        keep: Duration,
    ) -> io::Result<Self> {
        let (id, offset) = {
            let record = entry.record();
            (record.id, record.offset)
        };
        let opened = files.clone();
        let file = job(move || opened.open_partial(id, offset)).await?;
        let writer = Some(Writer { file, hasher: turn.clone(), written: offset });
        let interrupted = entry.waiting.subscribe();
        Ok(Self { entry, turn, interrupted, writer, buffer: Vec::new(), files, disk, keep })
    }

    /// Bytes that are missing at the beginning of this request.
    pub fn missing(&self) -> u64 {
        let record = self.entry.record();
        record.length - record.offset
    }

    /// Completes when another request wants to continue the upload, so that this one should end.
    pub fn interrupted(&self) -> impl Future<Output = ()> + 'static {
        let mut waiting = self.interrupted.clone();
        async move {
            // The sender lives as long as the entry.
            let _ = waiting.wait_for(|count| *count > 0).await;
        }
    }

    /// Takes the next bytes. With `durable` every 64 MiB are confirmed.
    ///
    /// # Errors
    /// [`Error::DiskFull`], and [`Error::Store`] if the disk failed.
    pub async fn write(&mut self, bytes: &[u8], durable: bool) -> Result<(), Error> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush().await?;
            let written = self.writer.as_ref().map_or(0, |it| it.written);
            let confirmed = self.entry.record().offset;
            if durable && written - confirmed >= SYNC_EVERY {
                self.confirm().await?;
            }
        }
        Ok(())
    }

    /// Makes all bytes durable.
    ///
    /// # Errors
    /// [`Error::DiskFull`], and [`Error::Store`] if the disk failed. The upload has then the bytes that were
    /// confirmed before.
    pub async fn finish(mut self) -> Result<Resumable, Error> {
        self.flush().await?;
        self.confirm().await?;
        let record = self.entry.record().clone();
        Ok(record)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let (mut writer, bytes) = (self.writer()?, std::mem::take(&mut self.buffer));
        let disk = self.disk.clone();
        let write = move || {
            if let Err(full) = disk.check(bytes.len() as u64) {
                return Ok(Err(full));
            }
            writer.file.write_all(&bytes)?;
            if let Some(hasher) = &mut writer.hasher {
                hasher.update(&bytes);
            }
            writer.written += bytes.len() as u64;
            Ok(Ok(writer))
        };
        let writer = job(write).await.map_err(|error| self.disk.failed("a resumable upload", &error))??;
        self.writer = Some(writer);
        Ok(())
    }

    /// Writes that the bytes so far have arrived.
    async fn confirm(&mut self) -> Result<(), Error> {
        let (writer, files) = (self.writer()?, self.files.clone());
        let mut record = self.entry.record().clone();
        record.offset = writer.written;
        record.expires_at = after(Timestamp::now(), self.keep);
        let confirm = move || {
            writer.file.sync_data()?;
            write(&files, &record).map(|()| (writer, record))
        };
        let (writer, record) =
            job(confirm).await.map_err(|error| self.disk.failed("a resumable upload", &error))?;
        *self.entry.record() = record;
        self.turn.clone_from(&writer.hasher);
        self.writer = Some(writer);
        Ok(())
    }

    fn writer(&mut self) -> Result<Writer, Error> {
        self.writer.take().ok_or_else(|| Error::Store("a resumable upload could not be written".into()))
    }
}
