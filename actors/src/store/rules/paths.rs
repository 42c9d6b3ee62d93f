//! Paths: each path belongs to at most one upload of an owner, and an upload may have several paths.

use super::{
    super::{CommandError, FileStamp, PathEntry, unit_of_work::UnitOfWork},
    removal::delete,
};
use crate::{
    id::{Owner, UploadId},
    upload::{FileRef, PlacePath, Upload},
};

/// Gives an upload another path of its bytes: with `moved` the bytes have left the path of the
/// record, otherwise they are at both paths. A deleted upload gets no path.
pub(super) fn add_path(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    id: UploadId,
    stamp: &FileStamp,
    moved: bool,
) -> Result<(), CommandError> {
    let Some(mut record) = work.upload(id)?.filter(|it| it.owner == *owner) else { return Ok(()) };
    match record.file.clone() {
        FileRef::InPlace { path: old, .. } if moved && old != stamp.path => {
            release_path(work, owner, &old, id)?;
            record.move_to(stamp.path.clone());
            work.put_upload(&record)?;
        }
        FileRef::InPlace { .. } | FileRef::Managed(_) => {
            if record.place() != Some(stamp.path.as_path()) && !record.also_at.contains(&stamp.path) {
                if record.also_at.len() >= Upload::MAX_ALSO_AT {
                    return Ok(());
                }
                record.also_at.push(stamp.path.clone());
                work.put_upload(&record)?;
            }
        }
    }
    claim_path(work, owner, stamp, id)
}

/// Gives a path to an upload; the upload that had it before loses it.
pub(super) fn claim_path(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    stamp: &FileStamp,
    id: UploadId,
) -> Result<(), CommandError> {
    if let Some(before) = work.path(owner, &stamp.path)?
        && before.upload_id != id
        && let Some(mut record) = work.upload(before.upload_id)?
        && (record.also_at.contains(&stamp.path) || record.has_companion(stamp.path.as_path()))
    {
        record.also_at.retain(|it| *it != stamp.path);
        record.companions.retain(|it| it.path != stamp.path);
        work.put_upload(&record)?;
    }
    work.put_path(owner, &stamp.path, Some(&PathEntry::new(id, stamp)))
}

/// Takes a path from an upload, if it has it.
pub(super) fn release_path(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    path: &PlacePath,
    id: UploadId,
) -> Result<(), CommandError> {
    if has_path(work, owner, path, id)? {
        work.put_path(owner, path, None)?;
    }
    Ok(())
}

/// Moves an upload that lost the path of its record to another path that it still has, or deletes
/// an upload that has none left.
pub(super) fn relocate_or_delete(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    id: UploadId,
) -> Result<(), CommandError> {
    let Some(mut record) = work.upload(id)?.filter(|it| it.owner == *owner) else { return Ok(()) };
    match &record.file {
        FileRef::InPlace { path, .. } if !has_path(work, owner, path, id)? => {}
        FileRef::InPlace { .. } | FileRef::Managed(_) => return Ok(()),
    }
    for path in record.also_at.clone() {
        if has_path(work, owner, &path, id)? {
            record.move_to(path);
            return work.put_upload(&record);
        }
    }
    delete(work, owner, id).map(drop)
}

fn has_path(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    path: &PlacePath,
    id: UploadId,
) -> Result<bool, CommandError> {
    Ok(work.path(owner, path)?.is_some_and(|entry| entry.upload_id == id))
}
