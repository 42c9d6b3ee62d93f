//! Tells the engine when one of its actors ends, also by a panic.

use tokio::sync::mpsc;

/// A long-lived actor holds its lifeline until it ends. Dropping the lifeline sends an [`End`].
#[derive(Debug)]
pub struct Lifeline {
    actor: &'static str,
    orderly: bool,
    ends: mpsc::UnboundedSender<End>,
}

/// An actor has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Name of the actor.
    pub actor: &'static str,
    /// Whether the actor was asked to stop.
    pub orderly: bool,
}

impl Lifeline {
    /// The lifeline of the actor with this name.
    pub fn new(actor: &'static str, ends: mpsc::UnboundedSender<End>) -> Self {
        Self { actor, orderly: false, ends }
    }

    /// Marks the coming end as orderly.
    pub fn release(&mut self) {
        self.orderly = true;
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        // After the engine has stopped nobody receives this.
        let _ = self.ends.send(End { actor: self.actor, orderly: self.orderly });
    }
}
