//! Free space on the disk of the data folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::error::{DiskLimit, Error};

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
            Ok(free) if free < self.min_free_bytes.saturating_add(more) => {
                Err(self.full(free, more, DiskLimit::Space))
            }
            Ok(free) if !has_inodes(&self.folder) => Err(self.full(free, more, DiskLimit::Files)),
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
            io::ErrorKind::StorageFull => {
                let free = free_bytes(&self.folder).unwrap_or_default();
                // A system without inodes left gives the error of a full disk.
                self.full(free, 0, if has_inodes(&self.folder) { DiskLimit::Space } else { DiskLimit::Files })
            }
            io::ErrorKind::QuotaExceeded => self.full(0, 0, DiskLimit::Quota),
            _ => Error::Store(format!("cannot write {what}: {error}")),
        }
    }

    fn full(&self, free: u64, more: u64, limit: DiskLimit) -> Error {
        let needed_mb = self.min_free_bytes.saturating_add(more) >> 20;
        Error::DiskFull { free_mb: free >> 20, needed_mb, limit }
    }
}

/// Whether the file system of a folder can hold another file. File systems without a fixed number of inodes
/// say that they have none at all.
#[cfg(unix)]
fn has_inodes(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).map_or(true, |disk| disk.f_files == 0 || disk.f_favail > 0)
}

#[cfg(not(unix))]
fn has_inodes(_: &Path) -> bool {
    true
}

/// Free space on the disk of a folder, in bytes, for a user without special rights.
///
/// # Errors
/// The error of the operating system, for example if the folder does not exist.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    fs4::available_space(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_called_by_the_limit_that_is_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::new(folder.path().to_owned(), 1);
        let limit = |kind: io::ErrorKind| match disk.failed("a file", &kind.into()) {
            Error::DiskFull { limit, .. } => Some(limit),
            _ => None,
        };
        assert_eq!(limit(io::ErrorKind::StorageFull), Some(DiskLimit::Space));
        assert_eq!(limit(io::ErrorKind::QuotaExceeded), Some(DiskLimit::Quota));
        assert_eq!(limit(io::ErrorKind::PermissionDenied), None);
        assert_eq!(disk.check(0), Ok(()), "the disk of the test has inodes");
        let sentence = |limit| Error::DiskFull { free_mb: 7, needed_mb: 9, limit }.to_string();
        assert!(sentence(DiskLimit::Space).contains("7 MiB"));
        assert!(sentence(DiskLimit::Files).contains("inodes") && !sentence(DiskLimit::Files).contains("MiB"));
        assert!(sentence(DiskLimit::Quota).contains("quota") && !sentence(DiskLimit::Quota).contains("MiB"));
    }
}
