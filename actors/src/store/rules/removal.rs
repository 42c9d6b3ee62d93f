//! Deletes uploads with their paths, contents, vectors and files, and batches with their uploads.

use super::{
    super::{
        CommandError,
        unit_of_work::{Command, Touches, UnitOfWork},
    },
    PIECE,
    events::emit,
    paths::release_path,
};
use crate::{
    event::EventKind,
    id::{BatchId, Owner, UploadId},
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

/// Deletes a batch, with at most [`PIECE`] of its uploads. Answers with whether it has more. Repeating it
/// changes nothing.
pub(in super::super) struct DeleteBatch {
    pub(in super::super) owner: Owner,
    pub(in super::super) batch: BatchId,
}

impl Command for DeleteBatch {
    type Answer = bool;

    fn touches(&self) -> Touches {
        Touches::batch(&self.owner, self.batch)
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<bool, CommandError> {
        let Self { owner, batch: id } = self;
        let now = work.now();
        let Some(batch) = work.batch(id)?.filter(|batch| batch.owner == owner) else { return Ok(false) };
        if batch.arriving {
            return Err(CommandError::Conflict("the files of the batch are still being written".into()));
        }
        if !batch.status().is_terminal() && batch.cancelled_at.is_none() {
            // Otherwise its uploads would be begun between two pieces.
            if let Some(batch) = work.change_batch(id)? {
                batch.cancelled_at = Some(now);
            }
        }
        let uploads = work.uploads_from(id, 0, PIECE)?;
        let more = uploads.len() == PIECE;
        for upload in uploads {
            delete(work, &owner, upload.id)?;
        }
        if !more {
            emit(work, id, None, EventKind::BatchDeleted)?;
            work.remove_batch(id)?;
        }
        Ok(more)
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
        self.uploads.into_iter().for_each(|id| work.files_removed(id));
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
    let unfinished = !upload.status.is_terminal();
    emit(work, upload.batch_id, Some(id), EventKind::UploadDeleted { unfinished })?;
    Ok(Some(upload))
}
