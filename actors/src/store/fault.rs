//! Faults that a test injects at named places, to see what its host does when the storage fails.

use std::{fmt, sync::Arc};

/// A place at which the storage can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultPoint {
    /// Before a group of commands is written: nothing of it is kept, and the store is broken.
    BeforeCommit,
    /// After a group is durable and before its answers: all of it is kept, the answers are unknown,
    /// and the store is broken.
    AfterCommit,
    /// In a read, which is answered with an error.
    Read,
}

type Inject = dyn Fn(FaultPoint) -> Option<String> + Send + Sync;

/// Decides at each [`FaultPoint`] whether it fails. The default never does.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Inject>>);

impl Faults {
    /// Asks `inject` at each place: an answer is the sentence that it fails with. It is asked by
    /// several threads.
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
