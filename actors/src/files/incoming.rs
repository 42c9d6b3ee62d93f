//! A file that is being received: a stream that is written and hashed, and removed unless it is
//! kept.

use std::{
    fs::{self, File},
    io::{self, BufReader, Write as _},
    path::PathBuf,
};

use sha2::{Digest as _, Sha256};

use super::Files;
use crate::{id::UploadId, private};

/// A file that is being written. It is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Incoming {
    place: Place,
    file: File,
    hasher: Sha256,
    length: u64,
}

/// A file that is written and durable. If this is dropped before it is kept, it is removed, or goes back to
/// its resumable upload.
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
    /// Where the file goes if it is not kept; `None`: it is removed.
    back: Option<PathBuf>,
    keep: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let left = match &self.back {
            Some(back) => fs::rename(&self.path, back),
            None => fs::remove_file(&self.path),
        };
        if let Err(error) = left
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
            private::make_folder(folder)?;
        }
        let file = private::create_new(&path)?;
        Ok(Incoming {
            place: Place { id, path, back: None, keep: false },
            file,
            hasher: Sha256::new(),
            length: 0,
        })
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
    /// A file at `path` that returns to `back` if it is not kept.
    pub(super) fn returning(
        id: UploadId,
        path: PathBuf,
        back: PathBuf,
        length: u64,
        content_hash: String,
    ) -> Self {
        Self { place: Place { id, path, back: Some(back), keep: false }, length, content_hash }
    }

    /// The upload of this original.
    pub(crate) fn id(&self) -> UploadId {
        self.place.id
    }

    /// A reader of the bytes.
    pub(crate) fn open(&self) -> io::Result<BufReader<File>> {
        Ok(BufReader::new(File::open(&self.place.path)?))
    }

    /// Keeps the file when this is dropped, since its upload may be written from now on.
    pub(crate) fn keep(&mut self) {
        self.place.keep = true;
    }

    /// Removes the file, or puts it back, since its upload was not written.
    pub(crate) fn remove(mut self) {
        self.place.keep = false;
    }
}
