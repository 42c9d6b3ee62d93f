//! Which upload stands for the bytes at a path.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    Store, WriteError,
    keys::{self, Tree},
};
use crate::{
    id::UploadId,
    upload::{FileRef, PlacePath},
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
pub(super) fn place_key(path: &PlacePath) -> [u8; 32] {
    Sha256::digest(path.as_path().as_os_str().as_encoded_bytes()).into()
}

/// Entry of the tree `places`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PlaceEntry {
    pub(super) upload_id: UploadId,
    pub(super) size: u64,
    pub(super) modified_ns: String,
}

impl Store {
    /// Names another path for an upload whose file was moved, and what the file looks like there.
    pub async fn note_place(&self, upload: UploadId, place: Place, moved: bool) -> Result<(), WriteError> {
        self.inner
            .write(move |draft| {
                let Some(mut record) = draft.upload(upload)? else {
                    return Err(WriteError::NotFound("upload"));
                };
                draft.put_json(
                    Tree::Places,
                    &keys::digest(&record.owner, &place.key()),
                    &place.entry(upload),
                )?;
                if moved && record.status.is_terminal() {
                    if let Some(name) = place.path.as_path().file_name() {
                        record.file_name = name.to_string_lossy().into_owned();
                    }
                    record.file = FileRef::InPlace(place.path);
                    draft.put_upload(&record)?;
                }
                Ok(())
            })
            .await
    }
}
