//! The source of the store's time.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// The source of time.
#[derive(Debug, Clone, Copy, Default)]
pub enum Clock {
    /// The clock of the system.
    #[default]
    System,
    /// A fixed date that moves with tokio's clock, which tests can pause.
    Tokio {
        /// When the clock was made.
        start: tokio::time::Instant,
    },
}

impl Clock {
    /// The present, in whole milliseconds.
    pub fn now(&self) -> Timestamp {
        let since_epoch = match self {
            Self::System => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            // 2026-01-01T00:00:00Z
            Self::Tokio { start } => Duration::from_secs(1_767_225_600) + start.elapsed(),
        };
        Timestamp::from_millisecond(since_epoch.as_millis() as i64).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}
