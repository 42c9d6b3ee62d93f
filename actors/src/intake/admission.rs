//! Submitted files, and the verdict on each.

use std::path::PathBuf;

use jiff::Timestamp;

use super::receive::Received;
use crate::{
    id::{BatchId, UploadId},
    media::ErrorKind,
    upload::{Failure, FailureKind, Stage, Status, Upload},
};

/// A submitted file.
#[derive(Debug)]
pub enum Source {
    /// A file that is only read, never changed. A relative path is taken from the current folder.
    InPlace(PathBuf),
    /// A file in place of a longer submission: a file that failed since the submission began is
    /// not tried again, and is [`Admission::Failed`]. A link in its path is not followed.
    InSubmission {
        /// The file.
        path: PathBuf,
        /// When the submission began, by the clock of the store.
        began: Timestamp,
    },
    /// Bytes that [`Intake::receive`](super::Intake::receive) received.
    Received(Received),
    /// Bytes that could not be received; they count as a refused file of the batch.
    Refused(Failure),
}

impl Source {
    /// The path of a file in place.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::InPlace(path) | Self::InSubmission { path, .. } => Some(path.clone()),
            Self::Received(_) | Self::Refused(_) => None,
        }
    }
}

/// The verdict on a submitted file.
#[derive(Debug)]
pub enum Admission {
    /// It is a new upload.
    Accepted(UploadId),
    /// An earlier upload of the same bytes has the same result, from the same provider, models and audit.
    Done(Box<Upload>),
    /// An earlier upload of the same file is unfinished.
    Unfinished(UploadId),
    /// An earlier upload of the same file failed since [`Source::InSubmission`] began, and stays as it is.
    Failed(Box<Upload>),
    /// It is a further file of the shot of another upload, and is not described itself.
    Companion {
        /// The upload.
        upload: UploadId,
        /// The path of the upload's file.
        of: PathBuf,
        /// The status of the upload, if it ended before this submission.
        ended: Option<Status>,
    },
    /// It is refused, and has no record.
    Refused(Failure),
    /// It is neither a picture nor a video, and has no record.
    NotMedia(Failure),
}

/// The answer to a submission.
#[derive(Debug)]
pub struct Submitted {
    /// The batch; `None` if no file was accepted or refused.
    pub batch_id: Option<BatchId>,
    /// The verdict on each file, in order.
    pub files: Vec<Admission>,
}

/// The failure of a file that has no upload.
pub(crate) fn rejection(kind: FailureKind, message: String) -> Failure {
    Failure::new(0, Stage::Queued, kind, message)
}

/// The kind of failure of a file that media refuses.
pub(super) fn failure_kind(kind: ErrorKind) -> FailureKind {
    match kind {
        ErrorKind::Undecodable => FailureKind::Undecodable,
        ErrorKind::Unreadable => FailureKind::FileUnreadable,
        ErrorKind::Empty | ErrorKind::NotMedia | ErrorKind::Unsupported | ErrorKind::TooLarge => {
            FailureKind::Refused
        }
    }
}
