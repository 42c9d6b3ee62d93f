//! Deletes uploads with their paths, contents, vectors and files.

use super::{
    super::{
        CommandError,
        unit_of_work::{Command, Touches, UnitOfWork},
    },
    events::emit,
    paths::release_path,
};
use crate::{
    event::EventKind,
    id::{Owner, UploadId},
    upload::{FileRef, Upload},
};

/// Deletes an upload of any status. Repeating it changes nothing.
pub(in super::super) struct DeleteUpload {
    pub(in super::super) owner: Owner,
    pub(in super::super) upload: UploadId,
}

impl Command for DeleteUpload {
    type Answer = ();

    fn touches(&self) -> Touches {
        Touches::upload(&self.owner, self.upload)
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        delete(work, &self.owner, self.upload).map(drop)
    }
}

/// Removes the notes about the files of deleted uploads.
pub(in super::super) struct FilesRemoved {
    pub(in super::super) uploads: Vec<UploadId>,
}

impl Command for FilesRemoved {
    type Answer = ();

    fn touches(&self) -> Touches {
        Touches { uploads: self.uploads.clone(), ..Touches::default() }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        self.uploads.into_iter().for_each(|id| work.remove_removal(id));
        Ok(())
    }
}

/// Deletes an upload of an owner, and notes that its files must be removed. A running attempt is
/// revoked.
pub(super) fn delete(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    id: UploadId,
) -> Result<Option<Upload>, CommandError> {
    let Some(upload) = work.upload(id)?.filter(|upload| upload.owner == *owner) else { return Ok(None) };
    let Some(batch) = work.change_batch(upload.batch_id)? else { return Ok(None) };
    batch.counts.remove(&upload);
    if let Some(held) = work.remove_held(id) {
        work.revoke(&held);
    }
    work.dequeue(&upload)?;
    work.remove_vector(&upload);
    if work.content(owner, &upload.content_hash)? == Some(id) {
        work.remove_content(&upload);
    }
    if let FileRef::InPlace { path, .. } = &upload.file {
        release_path(work, owner, path, id)?;
    }
    for path in &upload.also_at {
        release_path(work, owner, path, id)?;
    }
    for companion in &upload.companions {
        release_path(work, owner, &companion.path, id)?;
    }
    work.remove_upload(&upload)?;
    work.add_removal(id)?;
    let unfinished = !upload.status.is_terminal();
    emit(work, upload.batch_id, Some(id), EventKind::UploadDeleted { unfinished })?;
    Ok(Some(upload))
}
