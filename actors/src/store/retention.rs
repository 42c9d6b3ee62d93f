//! How many events are kept. To forget one costs as much as to write one, so it is left for when nobody waits for anything.

use super::{
    WriteError,
    draft::{Draft, State},
    events::{Run, run_of},
    keys::{self, Tree},
};
use crate::{event::Event, id::Owner};

/// The part of the kept events by which there may be more of them while there is work: one tenth.
const SLACK: u64 = 10;
/// Events that are forgotten in one group, so that a command that comes meanwhile waits for some milliseconds only.
const AT_ONCE: u64 = 500;

impl State {
    /// Whether there is something to forget, and nothing else to do.
    pub(super) fn is_to_forget(&self) -> bool {
        self.active.is_empty() && !self.closed && !self.overfull.is_empty()
    }
}

impl Draft<'_> {
    /// Notes that an owner has an event more. Answers with the number of the first one that stays: beyond the slack, two go for each new
    /// one, so that a lowered limit costs no pause.
    pub(super) fn make_room(&mut self, owner: &Owner, first: u64, last: u64) -> Result<u64, WriteError> {
        let keep = self.state.keep_events;
        let surplus = (last + 1 - first).saturating_sub(keep);
        if surplus > 0 {
            self.state.overfull.insert(owner.clone());
        }
        self.forget(owner, first, surplus.saturating_sub(keep / SLACK).min(2))
    }

    /// Forgets some of the events that are too many.
    pub(super) fn forget_some(&mut self) -> Result<(), WriteError> {
        let Some(owner) = self.state.overfull.iter().next().cloned() else { return Ok(()) };
        let Some((first, last)) = self.state.seqs.get(&owner).copied() else {
            self.state.overfull.remove(&owner);
            return Ok(());
        };
        let surplus = (last + 1 - first).saturating_sub(self.state.keep_events);
        if surplus <= AT_ONCE {
            self.state.overfull.remove(&owner);
        }
        let first = self.forget(&owner, first, surplus.min(AT_ONCE))?;
        self.state.seqs.insert(owner, (first, last));
        Ok(())
    }

    fn forget(&mut self, owner: &Owner, first: u64, count: u64) -> Result<u64, WriteError> {
        let mut run: Option<Run> = None;
        for seq in first..first + count {
            let key = keys::event(owner, seq);
            let Some(value) = self.get(Tree::Events, &key)? else { continue };
            self.remove(Tree::Events, &key);
            // One that makes no sense goes all the same.
            let Ok(old) = serde_json::from_slice::<Event>(&value) else { continue };
            if run.as_ref().is_none_or(|run| run.last() < old.change) {
                run = run_of(&self.trees[Tree::Changes as usize], old.change).map_err(WriteError::unknown)?;
            }
            // The entry goes with the last of its events.
            if let Some(run) = run.as_ref().filter(|run| run.last() == old.change) {
                self.remove(Tree::Changes, &keys::number(run.change));
            }
        }
        Ok(first + count)
    }
}
