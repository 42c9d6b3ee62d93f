//! The stamp of a file in place, and the refusal of one that has none.

use std::{
    fs, io,
    path::{self, Path},
    time::UNIX_EPOCH,
};

use super::admission::{Admission, rejection};
use crate::{
    files,
    store::FileStamp,
    upload::{FailureKind, PlacePath},
};

/// The stamp of a path. Only files are taken, since opening a pipe or a device could block for
/// ever.
pub(super) fn stamp_of(path: &Path) -> Result<FileStamp, Admission> {
    let path = path::absolute(path).map_err(|error| unreadable(path, &error))?;
    let metadata = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
    if !metadata.is_file() {
        let message = format!("{} is not a file", path.display());
        return Err(refused(FailureKind::Refused, message));
    }
    let modified_ns = match metadata.modified().map(|time| time.duration_since(UNIX_EPOCH)) {
        Ok(Ok(since)) => since.as_nanos() as i128,
        Ok(Err(before)) => -(before.duration().as_nanos() as i128),
        Err(_) => 0,
    };
    Ok(FileStamp { path: PlacePath::new(path), size: metadata.len(), modified_ns })
}

pub(super) fn refused(kind: FailureKind, message: String) -> Admission {
    Admission::Refused(rejection(kind, message))
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Admission {
    let (kind, message) = files::unreadable(path, error);
    refused(kind, message)
}
