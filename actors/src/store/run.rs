//! Runs: a process's lease on the attempts that it began.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{analysis::ProviderState, upload::Upload};

/// Names the run of a process in attempts and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub(crate) u64);

impl RunId {
    /// A new, random id.
    pub fn generate() -> Self {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        Self(high ^ low)
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The record of a run that has started and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this record's form: 1.
    pub v: u8,
    /// When it started.
    pub started_at: Timestamp,
    /// The state of the provider, as this run sees it; `None` until the first report.
    pub provider: Option<ProviderState>,
    /// The work that its start took over; `None` until the start is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered: Option<Recovered>,
    /// How it ended. The record of an ended run is kept for some time, so that a repeated command gets the
    /// same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<RunEnd>,
}

/// The end of a run: its own, or its recovery by another run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// When it ended.
    pub at: Timestamp,
    /// Attempts that were running.
    pub attempts: usize,
    /// Uploads of these outside the scope of the recovery.
    #[serde(default)]
    pub resting: usize,
}

/// Which unfinished uploads a run works on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Scope {
    /// All unfinished uploads.
    #[default]
    All,
    /// Files in place at or below these paths. The others wait for a later run.
    Below(Vec<PathBuf>),
}

impl Scope {
    pub(crate) fn includes(&self, upload: &Upload) -> bool {
        match self {
            Self::All => true,
            Self::Below(paths) => {
                upload.place().is_some_and(|place| paths.iter().any(|path| place.starts_with(path)))
            }
        }
    }
}

/// The unfinished work that a run took over from earlier runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// Uploads that wait for a worker.
    pub waiting: usize,
    /// Uploads that were in flight when an earlier process died.
    pub interrupted: usize,
    /// Unfinished uploads outside the scope.
    pub resting: usize,
}
