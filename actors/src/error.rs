//! Why a message to the engine was refused.

use std::fmt;

/// Why the engine did not do what a message asked for. The text is one sentence in lower case without a full
/// stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The batch or upload does not exist, or belongs to another owner.
    NotFound(&'static str),
    /// The state of the batch or upload does not allow this.
    Conflict(String),
    /// The message or the configuration is invalid.
    Invalid(String),
    /// The queue has no room for more uploads.
    QueueFull {
        /// Most waiting uploads, `limits.max_queued_uploads`.
        limit: u64,
    },
    /// The disk has no room for more uploads.
    DiskFull {
        /// Free space in MiB.
        free_mb: u64,
        /// Free space in MiB that is needed.
        needed_mb: u64,
    },
    /// The engine is stopping.
    Stopping,
    /// The provider cannot embed the query of a search.
    ProviderUnavailable(String),
    /// The store failed, and the engine accepts no more work.
    Store(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(what) => write!(f, "there is no such {what}"),
            Self::Conflict(text) | Self::Invalid(text) | Self::ProviderUnavailable(text) => f.write_str(text),
            Self::QueueFull { limit } => {
                write!(f, "{limit} uploads are waiting, which is limits.max_queued_uploads; try again later")
            }
            Self::DiskFull { free_mb, needed_mb } => write!(
                f,
                "only {free_mb} MiB are free on the disk of store.data_dir, and {needed_mb} MiB \
                 (limits.min_free_disk_mb) must stay free; make room and try again"
            ),
            Self::Stopping => f.write_str("the engine is stopping and accepts no more work"),
            Self::Store(text) => write!(f, "the store failed: {text}"),
        }
    }
}

impl std::error::Error for Error {}
