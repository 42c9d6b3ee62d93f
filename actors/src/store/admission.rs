//! The value that the store gets to admit a batch.

use serde::{Deserialize, Serialize};

use crate::{
    id::{BatchId, Owner, UploadId},
    media::Format,
    upload::{Companion, FileRef, PlacePath},
};

/// A batch to be admitted, with everything that follows from the classification of its files.
#[derive(Debug)]
pub struct NewBatch {
    /// The batch, named by the caller; `None` if there are no new files and only paths are
    /// written.
    pub id: Option<BatchId>,
    /// Its owner.
    pub owner: Owner,
    /// Files that were refused.
    pub refused: u32,
    /// Files that became uploads, in order.
    pub uploads: Vec<NewUpload>,
    /// Known uploads whose bytes were found at further paths.
    pub relocations: Vec<Relocation>,
    /// Uploads whose paths have other bytes now: each moves to another of its paths, or is
    /// deleted.
    pub displaced: Vec<UploadId>,
}

/// A file that becomes an upload.
#[derive(Debug)]
pub struct NewUpload {
    /// The upload, named by the caller.
    pub id: UploadId,
    /// Where the bytes are.
    pub file: FileRef,
    /// Name of the file without folders.
    pub file_name: String,
    /// Length in bytes.
    pub file_size: u64,
    /// SHA-256, in hexadecimal digits.
    pub content_hash: String,
    /// Format of the bytes.
    pub format: Format,
    /// Most memory that the decode needs, in bytes.
    pub decode_bytes: u64,
    /// The stamp of the file, if it is in place.
    pub stamp: Option<FileStamp>,
    /// An older upload of the same file.
    pub replaces: Option<Replaces>,
    /// A completed upload of the same bytes whose description is still valid: only the later
    /// stages run again.
    pub described_as: Option<UploadId>,
}

/// The identity of a file in place that is known without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    /// Where it is.
    pub path: PlacePath,
    /// Length in bytes.
    pub size: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub modified_ns: i128,
}

/// The upload that a path belongs to, with the stamp that the file had when the entry was
/// written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathEntry {
    pub(crate) upload_id: UploadId,
    pub(crate) size: u64,
    pub(crate) modified_ns: String,
}

impl PathEntry {
    pub(crate) fn new(upload_id: UploadId, stamp: &FileStamp) -> Self {
        Self { upload_id, size: stamp.size, modified_ns: stamp.modified_ns.to_string() }
    }

    /// Whether the file has the stamp of this entry.
    pub(crate) fn fits(&self, stamp: &FileStamp) -> bool {
        self.size == stamp.size && self.modified_ns == stamp.modified_ns.to_string()
    }
}

/// A further path of the bytes of a known upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relocation {
    /// The upload.
    pub upload: UploadId,
    /// The file at that path.
    pub stamp: FileStamp,
    /// Whether the bytes are no longer at the path of the record.
    pub moved: bool,
}

/// A change of the companions of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Companionship {
    /// A file becomes a companion. Its path belongs to the upload from then on.
    Attach {
        /// The upload.
        upload: UploadId,
        /// The file.
        companion: Companion,
        /// The stamp of the file.
        stamp: FileStamp,
        /// The upload that the file was until now; it moves to another of its paths, or is deleted.
        displaces: Option<UploadId>,
    },
    /// A file is no companion any more.
    Detach {
        /// The upload.
        upload: UploadId,
        /// The path of the file.
        path: PlacePath,
    },
}

/// An older upload of the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaces {
    /// The older upload.
    pub upload: UploadId,
    /// Its path at the classification; an upload that has moved since is not replaced.
    pub at: PlacePath,
}

/// How many uploads may be unfinished, and what each owner may have. Uploads of paused batches count against
/// their owner alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Uploads of all owners.
    pub total: u64,
    /// Uploads that each owner may have even if the queue is full, so that no owner blocks another.
    pub of_each_owner: u64,
    /// Most batches that each owner may have in the store, ended ones included; `None`: no limit. It holds in
    /// stores that count usage.
    pub batches: Option<u64>,
    /// Most bytes of managed originals that each owner may have; `None`: no limit. As with `batches`.
    pub bytes: Option<u64>,
}

impl From<u64> for AdmissionLimits {
    /// A limit without a share for each owner and without quotas.
    fn from(total: u64) -> Self {
        Self { total, of_each_owner: 0, batches: None, bytes: None }
    }
}
