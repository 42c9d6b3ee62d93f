//! How the engine learns that one of its actors is gone.

use tokio::sync::mpsc;

/// Held by a long-lived actor; dropped with it, also by a panic, it tells whoever watches.
#[derive(Debug)]
pub struct Lifeline {
    actor: &'static str,
    orderly: bool,
    ends: mpsc::UnboundedSender<End>,
}

/// A long-lived actor is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its name.
    pub actor: &'static str,
    /// It ended because it was told to.
    pub orderly: bool,
}

impl Lifeline {
    /// A lifeline of the actor of this name.
    pub fn new(actor: &'static str, ends: mpsc::UnboundedSender<End>) -> Self {
        Self { actor, orderly: false, ends }
    }

    /// The actor is about to end because it was told to.
    pub fn release(&mut self) {
        self.orderly = true;
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        // Nobody watches an engine that has stopped.
        let _ = self.ends.send(End { actor: self.actor, orderly: self.orderly });
    }
}
