//! Limits the calls of one model: how many are in flight, and how long each may take.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};

/// How long a model is taken to stay loaded after a call. Servers unload it after five idle minutes.
const STAYS_LOADED: Duration = Duration::from_secs(240);

#[derive(Debug)]
pub(super) struct CallLimiter {
    /// One permit for each call that may be in flight.
    pub(super) permits: Semaphore,
    /// Number of permits, 1 to 1024.
    pub(super) max_calls: u32,
    /// When the model last gave an answer; `None`: it may have to be loaded.
    answered_at: Mutex<Option<Instant>>,
}

impl CallLimiter {
    /// Allows `max_calls` calls in flight, 1 to 1024.
    pub(super) fn new(max_calls: usize) -> Self {
        Self {
            permits: Semaphore::new(max_calls),
            max_calls: max_calls.min(1024) as u32,
            answered_at: Mutex::new(None),
        }
    }

    /// Whether the model answered so recently that it is still loaded.
    pub(super) fn is_loaded(&self) -> bool {
        self.answered_at.lock().is_some_and(|at| at.elapsed() < STAYS_LOADED)
    }

    /// Records an answer, valid or not: the model is loaded.
    pub(super) fn set_loaded(&self) {
        *self.answered_at.lock() = Some(Instant::now());
    }

    /// Records that the model may have to be loaded, so that the next call has the longer limit.
    pub(super) fn set_not_loaded(&self) {
        *self.answered_at.lock() = None;
    }
}
