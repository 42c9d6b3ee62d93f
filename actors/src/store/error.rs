//! The errors of opening a store and of its commands.

use std::path::{Path, PathBuf};

/// Why a store does not open. Each is a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// Another process has the store open.
    Locked {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// A folder or file cannot be made, read or written.
    Folder {
        /// A sentence that says what to do.
        message: String,
    },
    /// The pages of the store cannot be read.
    Damaged {
        /// A sentence that says what to do.
        message: String,
    },
    /// The store holds fewer changes than were once on disk.
    Shorter {
        /// The data folder.
        data_dir: PathBuf,
        /// The newest change that it holds.
        found: u64,
        /// The newest change that once was on disk.
        known: u64,
    },
    /// The process ended while it was restoring a dump into the store.
    HalfRestored {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// Another version of mediamill wrote the store.
    Format {
        /// The data folder.
        data_dir: PathBuf,
        /// The format of the store.
        found: String,
    },
}

impl OpenError {
    pub(crate) fn folder(path: &Path, verb: &str, error: &std::io::Error) -> Self {
        let path = path.display();
        Self::Folder {
            message: format!(
                "cannot {verb} {path}: {error}; choose another folder with store.data_dir or repair this one"
            ),
        }
    }

    pub(crate) fn damaged(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Damaged {
            message: format!(
                "the store in {} is damaged ({error}); move that folder away and restore a dump with \
                 `mediamill restore`, or start without it",
                path.display()
            ),
        }
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked { data_dir } => write!(
                f,
                "another mediamill is using {}; wait until it ends, or choose another folder with \
                 store.data_dir",
                data_dir.display()
            ),
            Self::Folder { message } | Self::Damaged { message } => f.write_str(message),
            Self::Shorter { data_dir, found, known } => write!(
                f,
                "the store in {0} holds {found} changes, but {known} were on disk once, so changes are lost; \
                 move {0} away and restore a dump with `mediamill restore`, or delete {0}/HIGHWATER to \
                 continue with the remaining changes",
                data_dir.display()
            ),
            Self::HalfRestored { data_dir } => write!(
                f,
                "the store in {0} holds only a part of a dump, since a restore was cut short; delete \
                 {0}/store and restore the dump again",
                data_dir.display()
            ),
            Self::Format { data_dir, found } => write!(
                f,
                "the store in {} has format {found}, which this version of mediamill does not know; use the \
                 version that wrote it, or restore a dump into an empty folder",
                data_dir.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// Why a command was refused or has no answer. All but [`CommandError::Unknown`] are refusals:
/// nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// The owner has no such batch or upload.
    NotFound(&'static str),
    /// The status of the batch or upload does not allow it.
    Conflict(String),
    /// The attempt or the run has ended, and its result is dropped; or the run has not started.
    Stale,
    /// More uploads would be unfinished than the limit allows.
    Full {
        /// The limit.
        limit: u64,
    },
    /// The owner would have more than a quota allows.
    OverQuota {
        /// The noun of the quota: `batches` or `bytes`.
        quota: &'static str,
        /// The quota.
        most: u64,
    },
    /// The store is broken, and the command may or may not be written. After the next start, the
    /// same command gives the same answer.
    Unknown(String),
}

impl CommandError {
    pub(crate) fn unknown(error: impl std::fmt::Display) -> Self {
        Self::Unknown(error.to_string())
    }

    /// Whether nothing was written.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NotFound(_)
            | Self::Conflict(_)
            | Self::Stale
            | Self::Full { .. }
            | Self::OverQuota { .. } => true,
            Self::Unknown(_) => false,
        }
    }
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound(what) => write!(f, "there is no such {what}"),
            Self::Conflict(text) | Self::Unknown(text) => f.write_str(text),
            Self::Stale => f.write_str("the attempt has ended"),
            Self::Full { limit } => write!(f, "more than {limit} uploads would be unfinished"),
            Self::OverQuota { quota, most } => write!(f, "the owner may have {most} {quota}"),
        }
    }
}

impl std::error::Error for CommandError {}

impl From<CommandError> for crate::error::Error {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NotFound(what) => Self::NotFound(what),
            CommandError::Conflict(text) => Self::Conflict(text),
            CommandError::Stale => Self::Conflict("the attempt has ended".into()),
            CommandError::Full { limit } => Self::QueueFull { limit },
            CommandError::OverQuota { quota, most } => Self::OverQuota { quota, most },
            CommandError::Unknown(text) => Self::Store(text),
        }
    }
}
