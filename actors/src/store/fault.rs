//! Faults of the storage that a test injects at named places.

use std::{fmt, sync::Arc};

/// A place at which the storage can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// Before a group of commands is written: nothing is kept, and the store is broken.
    BeforeCommit,
    /// After a group is durable and before its answers: the whole group is kept, the callers get
    /// [`CommandError::Unknown`](super::CommandError::Unknown), and the store is broken.
    AfterCommit,
    /// In a read, which is answered with an error.
    Read,
}

type Inject = dyn Fn(FaultPoint) -> Option<String> + Send + Sync;

/// Decides at each [`FaultPoint`] whether it fails. The default never does.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Inject>>);

impl Faults {
    /// Calls `inject` at each place, from several threads. If it returns a sentence, the place
    /// fails with it.
    pub fn new(inject: impl Fn(FaultPoint) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(inject)))
    }

    pub(crate) fn check(&self, at: FaultPoint) -> Result<(), String> {
        match self.0.as_ref().and_then(|inject| inject(at)) {
            Some(sentence) => Err(sentence),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faults").field(&self.0.is_some()).finish()
    }
}
