//! The events of a run: what it found, and how each file ended. They are what a run and its report share,
//! whether both are in one process or the report is at the other end of a socket.

use std::path::PathBuf;

use mediamill_actors::{id::UploadId, upload::Stage};
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use crate::cli::raw_path;

/// An event of a run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(in crate::cli) enum Event {
    /// The search for files is over.
    Found { files: usize },
    /// A file has its outcome.
    Ended { upload: Option<UploadId>, outcome: Box<Outcome> },
    /// A folder or a link that could not be followed.
    Unreadable {
        outcome: Box<Outcome>,
        /// There may be files below it.
        hides: bool,
    },
    /// A further file of the shot of an upload has the outcome of that upload.
    Companion { outcome: Box<Outcome> },
    /// Entries of folders that are no files.
    PassedOver { entries: usize },
    /// A file of a folder is neither a picture nor a video.
    NotMedia,
    /// An upload in flight has reached a stage.
    Moves {
        upload: UploadId,
        #[serde(with = "raw_path")]
        path: PathBuf,
        stage: Stage,
    },
    /// An upload is waiting again.
    Rests { upload: UploadId },
    /// Why all files wait, in one sentence; `None` if they do not wait any more.
    Waiting { sentence: Option<String> },
    /// A sentence for the person.
    Say { sentence: String },
    /// The run is over.
    Over {
        end: End,
        /// Unfinished uploads of other folders.
        resting: usize,
    },
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum End {
    /// All files have their outcomes.
    Done,
    /// Some files are left for the next run; the sentence says why.
    Left(String),
    /// Ctrl-C, or nobody reads the results any more.
    Interrupted,
    /// The engine stopped by itself, or was stopped.
    Stopped(String),
    /// No file was begun; the sentence says what to do.
    Refused(String),
}

impl Event {
    pub(super) fn ended(upload: Option<UploadId>, outcome: Outcome) -> Self {
        Self::Ended { upload, outcome: Box::new(outcome) }
    }
}
