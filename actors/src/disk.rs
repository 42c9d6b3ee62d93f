//! The room on the disk of the data folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::error::Error;

/// A disk that takes bytes in as long as enough of it stays free.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    folder: PathBuf,
    /// What must stay free, in bytes; 0: no limit.
    min_free_bytes: u64,
}

impl Disk {
    pub(crate) fn new(folder: PathBuf, min_free_bytes: u64) -> Self {
        Self { folder, min_free_bytes }
    }

    /// Makes sure that so many bytes more may be taken in. A disk that cannot be asked counts as one with room: writing will tell.
    pub(crate) fn check(&self, more: u64) -> Result<(), Error> {
        if self.min_free_bytes == 0 {
            return Ok(());
        }
        match free_bytes(&self.folder) {
            Ok(free) if free < self.min_free_bytes.saturating_add(more) => Err(self.full(free, more)),
            Ok(_) => Ok(()),
            Err(error) => {
                log::warn!("cannot tell how much of the disk is free: {error}");
                Ok(())
            }
        }
    }

    /// What it means that bytes could not be written.
    pub(crate) fn failed(&self, what: &str, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.full(free_bytes(&self.folder).unwrap_or_default(), 0)
            }
            _ => Error::Store(format!("cannot take {what} in: {error}")),
        }
    }

    fn full(&self, free: u64, more: u64) -> Error {
        Error::DiskFull { free_mb: free >> 20, needed_mb: self.min_free_bytes.saturating_add(more) >> 20 }
    }
}

/// Free space on the disk of a folder, in bytes, for users without special rights.
///
/// # Errors
/// Whatever the disk says.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    fs4::available_space(folder)
}
