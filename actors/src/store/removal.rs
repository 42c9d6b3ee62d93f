//! Deleting uploads with all that belongs to them.

use super::{
    Commands, WriteError,
    attempts::Hashed,
    draft::Draft,
    keys::{self, Tree},
    places::release,
    vectors,
};
use crate::{
    event::EventKind,
    id::{Owner, UploadId},
    upload::{FileRef, Upload},
};

/// What a cancel or a delete did.
#[derive(Debug, Default)]
pub struct Terminated {
    /// Uploads that were in the hands of workers, which are to be stopped.
    pub in_flight: Vec<UploadId>,
    /// Uploads whose files are to be removed.
    pub removed: Vec<UploadId>,
}

impl Terminated {
    /// Adds what else was ended.
    pub(crate) fn extend(&mut self, other: Self) {
        self.in_flight.extend(other.in_flight);
        self.removed.extend(other.removed);
    }
}

impl Commands {
    /// Deletes an upload, wherever it stands.
    pub async fn delete(&self, owner: Owner, upload: UploadId) -> Result<Terminated, WriteError> {
        self.inner
            .write(move |draft| {
                let Some((upload, was_active)) = delete(draft, &owner, upload)? else {
                    return Err(WriteError::NotFound("upload"));
                };
                let in_flight = if was_active { vec![upload.id] } else { Vec::new() };
                Ok(Terminated { in_flight, removed: vec![upload.id] })
            })
            .await
    }

    /// Forgets that files of these uploads are still to be removed.
    pub async fn files_removed(&self, uploads: Vec<UploadId>) -> Result<(), WriteError> {
        self.inner
            .write(move |draft| {
                for id in uploads {
                    draft.remove(Tree::Removals, id.as_bytes());
                }
                Ok(())
            })
            .await
    }
}

/// Deletes an upload with all that belongs to it, if it is this owner's; its files are noted as to be removed. Says whether a worker had it.
pub(super) fn delete(
    draft: &mut Draft<'_>,
    owner: &Owner,
    id: UploadId,
) -> Result<Option<(Upload, bool)>, WriteError> {
    let Some(upload) = draft.upload(id)?.filter(|upload| upload.owner == *owner) else { return Ok(None) };
    let was_active = draft.state.active.remove(&id).is_some();
    let Some(batch) = draft.batch(upload.batch_id)? else { return Ok(None) };
    batch.counts.remove(&upload);
    let number = batch.number;
    draft.remove(Tree::Active, id.as_bytes());
    draft.remove(Tree::Work, &keys::work(number, upload.position));
    draft.state.queue.remove(number, upload.position);
    let key = keys::upload(upload.batch_id, upload.position);
    draft.remove(Tree::Uploads, &key);
    draft.remove_pieces(&key, 1);
    draft.remove(Tree::UploadIds, id.as_bytes());
    if let Some(by) = &upload.embedded_by {
        for piece in 0..vectors::piece_count(by.dimensions as usize) {
            draft.remove(Tree::Embeddings, &keys::embedding(owner, &vectors::space(by), id, piece));
        }
    }
    if let Some(hash) = keys::unhex(&upload.content_hash) {
        let key = keys::digest(owner, &hash);
        if draft.get_json::<Hashed>(Tree::Hashes, &key)?.is_some_and(|it| it.upload_id == id) {
            draft.remove(Tree::Hashes, &key);
        }
    }
    if let FileRef::InPlace(path) = &upload.file {
        release(draft, owner, path, id)?;
    }
    for path in &upload.also_at {
        release(draft, owner, path, id)?;
    }
    draft.put_json(Tree::Removals, id.as_bytes(), &())?;
    let unfinished = !upload.status.is_terminal();
    draft.emit(upload.batch_id, Some(id), EventKind::UploadDeleted { unfinished })?;
    Ok(Some((upload, was_active)))
}
