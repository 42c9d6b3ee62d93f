//! Which upload stands for the bytes at a path.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Commands, WriteError,
    draft::Draft,
    keys::{self, Tree},
    removal::{Terminated, delete},
};
use crate::{
    id::{Owner, UploadId},
    upload::{FileRef, PlacePath, Upload},
};

/// What a file in place looks like without being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where it is.
    pub path: PlacePath,
    /// Length in bytes.
    pub size: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub modified_ns: i128,
}

impl Place {
    pub(super) fn key(&self) -> [u8; 32] {
        place_key(&self.path)
    }

    pub(super) fn entry(&self, upload_id: UploadId) -> PlaceEntry {
        PlaceEntry { upload_id, size: self.size, modified_ns: self.modified_ns.to_string() }
    }
}

/// A path as a key: its SHA-256.
fn place_key(path: &PlacePath) -> [u8; 32] {
    Sha256::digest(path.as_path().as_os_str().as_encoded_bytes()).into()
}

/// Entry of the tree `places`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PlaceEntry {
    pub(super) upload_id: UploadId,
    pub(super) size: u64,
    pub(super) modified_ns: String,
}

/// An older upload that a new one stands in for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaces {
    /// The older upload.
    pub upload: UploadId,
    /// Where it was when that was found out; one that has moved since is not replaced.
    pub at: PlacePath,
}

impl Commands {
    /// Lets an upload stand for the bytes at another path: with `moved` they are no longer where they were, otherwise they are at both.
    ///
    /// # Errors
    /// [`WriteError::NotFound`] if there is no such upload.
    pub async fn note_place(&self, upload: UploadId, place: Place, moved: bool) -> Result<(), WriteError> {
        self.inner
            .write(move |draft| {
                let Some(mut record) = draft.upload(upload)? else {
                    return Err(WriteError::NotFound("upload"));
                };
                if moved && let FileRef::InPlace(old) = record.file.clone() {
                    release(draft, &record.owner, &old, upload)?;
                    record.move_to(place.path.clone());
                    rewrite(draft, &record)?;
                } else if record.place() != Some(place.path.as_path())
                    && !record.also_at.contains(&place.path)
                {
                    if record.also_at.len() >= Upload::MAX_ALSO_AT {
                        return Ok(());
                    }
                    record.also_at.push(place.path.clone());
                    rewrite(draft, &record)?;
                }
                occupy(draft, &record.owner, &place, upload)
            })
            .await
    }

    /// Lets uploads whose path another one stands for go on at another of their paths; one that has none goes.
    pub async fn displace(&self, owner: Owner, uploads: Vec<UploadId>) -> Result<Terminated, WriteError> {
        self.inner
            .write(move |draft| {
                let mut ended = Terminated::default();
                for upload in uploads {
                    if let Some((gone, was_active)) = give_way(draft, &owner, upload)? {
                        ended.in_flight.extend(was_active.then_some(gone.id));
                        ended.removed.push(gone.id);
                    }
                }
                Ok(ended)
            })
            .await
    }
}

/// Lets an upload stand for a path, which is no longer one of those of the upload that stood for it before.
pub(super) fn occupy(
    draft: &mut Draft<'_>,
    owner: &Owner,
    place: &Place,
    id: UploadId,
) -> Result<(), WriteError> {
    let key = keys::digest(owner, &place.key());
    if let Some(before) = draft.get_json::<PlaceEntry>(Tree::Places, &key)?
        && before.upload_id != id
        && let Some(mut record) = draft.upload(before.upload_id)?
        && record.also_at.contains(&place.path)
    {
        record.also_at.retain(|it| *it != place.path);
        rewrite(draft, &record)?;
    }
    draft.put_json(Tree::Places, &key, &place.entry(id))
}

/// Lets a path stand for nothing, if it stood for this upload.
pub(super) fn release(
    draft: &mut Draft<'_>,
    owner: &Owner,
    path: &PlacePath,
    id: UploadId,
) -> Result<(), WriteError> {
    if stands_for(draft, owner, path, id)? {
        draft.remove(Tree::Places, &keys::digest(owner, &place_key(path)));
    }
    Ok(())
}

/// Lets an upload go on at one of its paths that it still stands for. If there is none it is deleted, and given back with whether a worker had it.
pub(super) fn give_way(
    draft: &mut Draft<'_>,
    owner: &Owner,
    id: UploadId,
) -> Result<Option<(Upload, bool)>, WriteError> {
    let Some(mut record) = draft.upload(id)?.filter(|it| it.owner == *owner) else { return Ok(None) };
    match &record.file {
        FileRef::InPlace(path) if !stands_for(draft, owner, path, id)? => {}
        FileRef::InPlace(_) | FileRef::Stored => return Ok(None),
    }
    for path in record.also_at.clone() {
        if stands_for(draft, owner, &path, id)? {
            record.move_to(path);
            rewrite(draft, &record)?;
            return Ok(None);
        }
    }
    delete(draft, owner, id)
}

fn stands_for(draft: &Draft<'_>, owner: &Owner, path: &PlacePath, id: UploadId) -> Result<bool, WriteError> {
    let entry: Option<PlaceEntry> = draft.get_json(Tree::Places, &keys::digest(owner, &place_key(path)))?;
    Ok(entry.is_some_and(|it| it.upload_id == id))
}

fn rewrite(draft: &mut Draft<'_>, record: &Upload) -> Result<(), WriteError> {
    let Some(in_flight) = draft.state.active.get_mut(&record.id) else { return draft.put_upload(record) };
    in_flight.upload = record.clone();
    draft.touch(record.id);
    Ok(())
}
