//! What a message to the engine can be refused with.

use std::fmt;

/// Why a message was not done. The text is one sentence in lower case without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// There is no such batch or upload, or it is another owner's.
    NotFound(&'static str),
    /// The batch or upload does not stand so that this can be done.
    Conflict(String),
    /// The message itself makes no sense.
    Invalid(String),
    /// So many uploads wait that no more are taken.
    QueueFull {
        /// The limit that is reached.
        limit: u64,
    },
    /// So little space is left on the disk that no more uploads are taken.
    DiskFull {
        /// Free space in MiB.
        free_mb: u64,
        /// The watermark in MiB.
        needed_mb: u64,
    },
    /// The engine is stopping.
    Stopping,
    /// The provider is away, so that a search cannot be embedded.
    ProviderUnavailable(String),
    /// The store failed; the engine stops taking work.
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
                "only {free_mb} MiB are free where store.data_dir lies, and {needed_mb} MiB (limits.min_free_disk_mb) \
                 must stay free; make room and try again"
            ),
            Self::Stopping => f.write_str("the engine is stopping and takes no more work"),
            Self::Store(text) => write!(f, "the store failed: {text}"),
        }
    }
}

impl std::error::Error for Error {}
