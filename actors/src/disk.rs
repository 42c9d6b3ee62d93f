//! Free space on the disk of the data folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::error::Error;

/// The disk of a folder, of which a part must stay free.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    folder: PathBuf,
    /// Number of bytes that must stay free; 0: no limit.
    min_free_bytes: u64,
}

impl Disk {
    pub(crate) fn new(folder: PathBuf, min_free_bytes: u64) -> Self {
        Self { folder, min_free_bytes }
    }

    /// Checks whether `more` bytes fit. Succeeds if the free space is unknown; the write then fails if they
    /// do not.
    ///
    /// # Errors
    /// [`Error::DiskFull`].
    pub(crate) fn check(&self, more: u64) -> Result<(), Error> {
        if self.min_free_bytes == 0 {
            return Ok(());
        }
        match free_bytes(&self.folder) {
            Ok(free) if free < self.min_free_bytes.saturating_add(more) => Err(self.full(free, more)),
            Ok(_) => Ok(()),
            Err(error) => {
                log::warn!("cannot determine the free space of the disk: {error}");
                Ok(())
            }
        }
    }

    /// The error for a failed write of `what`.
    pub(crate) fn failed(&self, what: &str, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.full(free_bytes(&self.folder).unwrap_or_default(), 0)
            }
            _ => Error::Store(format!("cannot write {what}: {error}")),
        }
    }

    fn full(&self, free: u64, more: u64) -> Error {
        Error::DiskFull { free_mb: free >> 20, needed_mb: self.min_free_bytes.saturating_add(more) >> 20 }
    }
}

/// Free space on the disk of a folder, in bytes, for a user without special rights.
///
/// # Errors
/// The error of the operating system, for example if the folder does not exist.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    fs4::available_space(folder)
}
