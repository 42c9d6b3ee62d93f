//! A file that is coming in: a stream that is written and hashed, and is gone again unless it is kept.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write as _},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};

use super::Files;
use crate::id::UploadId;

/// A file that is being written. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Incoming {
    place: Place,
    file: File,
    hasher: Sha256,
    length: u64,
}

/// A file that is written and durable. Dropped before it is kept, it is removed.
#[derive(Debug)]
pub(crate) struct Arrived {
    place: Place,
    /// Length in bytes.
    pub(crate) length: u64,
    /// SHA-256, in hexadecimal digits.
    pub(crate) content_hash: String,
}

#[derive(Debug)]
struct Place {
    id: UploadId,
    path: PathBuf,
    keep: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}, the next start tries again: {error}", self.path.display());
        }
    }
}

impl Files {
    /// Begins to write the original of an upload. Blocks.
    pub(crate) fn begin(&self, id: UploadId) -> io::Result<Incoming> {
        let path = self.incoming(id);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = File::create_new(&path)?;
        Ok(Incoming { place: Place { id, path, keep: false }, file, hasher: Sha256::new(), length: 0 })
    }
}

impl Incoming {
    /// Bytes that were written.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Writes the next bytes. Blocks.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file durable. Blocks.
    pub(crate) fn finish(self, files: &Files) -> io::Result<Arrived> {
        self.file.sync_all()?;
        files.sync_incoming()?;
        let content_hash = base16ct::lower::encode_string(&self.hasher.finalize());
        Ok(Arrived { place: self.place, length: self.length, content_hash })
    }
}

impl Arrived {
    /// The upload that it is the original of.
    pub(crate) fn id(&self) -> UploadId {
        self.place.id
    }

    /// A reader of the bytes.
    pub(crate) fn open(&self) -> io::Result<BufReader<File>> {
        Ok(BufReader::new(File::open(&self.place.path)?))
    }

    /// The upload may be written from now on, so the file is no longer removed when this is dropped.
    pub(crate) fn keep(&mut self) {
        self.place.keep = true;
    }

    /// The upload was not written, so the file is removed.
    pub(crate) fn remove(mut self) {
        self.place.keep = false;
    }
}
