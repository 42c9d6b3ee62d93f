//! The calls of one sort: how many at once, and whether their model is likely to be loaded.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::{sync::Semaphore, time::Instant};

/// Servers unload a model after five minutes of quiet.
const STAYS_LOADED: Duration = Duration::from_secs(240);

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) permits: Semaphore,
    /// All that there are.
    pub(super) most: u32,
    answered: Mutex<Option<Instant>>,
}

impl Lane {
    pub(super) fn new(most: usize) -> Self {
        Self { permits: Semaphore::new(most), most: most.min(1024) as u32, answered: Mutex::new(None) }
    }

    /// Whether a call was answered so recently that the model is loaded still.
    pub(super) fn is_warm(&self) -> bool {
        self.answered.lock().is_some_and(|at| at.elapsed() < STAYS_LOADED)
    }

    /// A call was answered, well or badly: the model is loaded.
    pub(super) fn warm(&self) {
        *self.answered.lock() = Some(Instant::now());
    }

    /// The server may have been started anew, or is still loading: the next call has the longer limit.
    pub(super) fn cool(&self) {
        *self.answered.lock() = None;
    }
}
