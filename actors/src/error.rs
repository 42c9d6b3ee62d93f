//! The refusals of the engine.

#[cfg(feature = "actix-web")]
mod response;

use std::fmt;

use actix::MailboxError;

/// Why a message was refused. The text is one sentence in lower case without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The named batch or upload does not exist, or belongs to another owner.
    NotFound(&'static str),
    /// The state of the batch or upload does not allow it.
    Conflict(String),
    /// The message is invalid.
    Invalid(String),
    /// The queue is full.
    QueueFull {
        /// Most waiting uploads, `limits.max_queued_uploads`.
        limit: u64,
    },
    /// The owner would have more than a quota allows.
    OverQuota {
        /// The noun of the quota: `batches` or `bytes`.
        quota: &'static str,
        /// The quota.
        most: u64,
    },
    /// The disk has no room for more uploads.
    DiskFull {
        /// Free space in MiB.
        free_mb: u64,
        /// Free space in MiB that is needed.
        needed_mb: u64,
        /// The limit that is reached.
        limit: DiskLimit,
    },
    /// The engine is stopping.
    Stopping,
    /// The provider cannot embed the query of a search.
    ProviderUnavailable(String),
    /// The store failed, and the engine accepts no more work.
    Store(String),
}

/// The limit of a full disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskLimit {
    /// Its free space.
    Space,
    /// The number of its files.
    Files,
    /// The space or the files that this user may have.
    Quota,
}

impl Error {
    /// The sort of refusal, for programs: `not_found`, `conflict`, `invalid`, `queue_full`, `over_quota`,
    /// `disk_full`, `stopping`, `provider_unavailable` or `store_failed`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Invalid(_) => "invalid",
            Self::QueueFull { .. } => "queue_full",
            Self::OverQuota { .. } => "over_quota",
            Self::DiskFull { .. } => "disk_full",
            Self::Stopping => "stopping",
            Self::ProviderUnavailable(_) => "provider_unavailable",
            Self::Store(_) => "store_failed",
        }
    }

    /// Seconds after which a retry may succeed; `None` if waiting alone does not help.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::NotFound(_) | Self::Conflict(_) | Self::Invalid(_) => None,
            Self::OverQuota { .. } => None,
            Self::Stopping | Self::ProviderUnavailable(_) => Some(10),
            Self::QueueFull { .. } | Self::Store(_) => Some(30),
            // A person has to make room, but then the same request succeeds.
            Self::DiskFull { .. } => Some(60),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(what) => write!(f, "there is no such {what}"),
            Self::Conflict(text) | Self::Invalid(text) | Self::ProviderUnavailable(text) => f.write_str(text),
            Self::QueueFull { limit } => {
                write!(f, "{limit} uploads are waiting, which is limits.max_queued_uploads; try again later")
            }
            Self::OverQuota { quota, most } => write!(
                f,
                "an owner may have {most} {quota}, which is limits.owner_{quota}; delete some and try again"
            ),
            Self::DiskFull { limit: DiskLimit::Files, .. } => f.write_str(
                "the disk of store.data_dir cannot hold more files (its inodes are used up); delete some and try \
                 again",
            ),
            Self::DiskFull { limit: DiskLimit::Quota, .. } => f.write_str(
                "the quota on the disk of store.data_dir is used up; make room or raise it, and try again",
            ),
            Self::DiskFull { free_mb, needed_mb, limit: DiskLimit::Space } => write!(
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

/// An actor that is gone: the engine has stopped, or is stopping.
impl From<MailboxError> for Error {
    fn from(_: MailboxError) -> Self {
        Self::Stopping
    }
}
