//! How many events are kept. To forget them costs as much as to write them, so it is left for when nobody waits for anything. Those of an
//! entry are forgotten together, so some more may stay.

use super::{
    WriteError,
    draft::{Draft, State},
    events::{self, Run, run_of},
    keys::{self, Tree},
};
use crate::{event::Event, id::Owner};

/// The part of the kept events by which there may be more of them while there is work: one tenth.
const SLACK: u64 = 10;
/// About how many events are forgotten in one group, so that a command that comes meanwhile waits for some milliseconds only.
const AT_ONCE: u64 = 500;

impl State {
    /// Whether there is something to forget, and nothing else to do.
    pub(super) fn is_to_forget(&self) -> bool {
        self.active.is_empty() && !self.closed && !self.overfull.is_empty()
    }
}

impl Draft<'_> {
    /// Notes that an owner has so many events more. Beyond the slack, about twice as many go, so that a lowered limit costs no pause.
    pub(super) fn make_room(&mut self, owner: &Owner, new: u64) -> Result<(), WriteError> {
        let keep = self.state.keep_events;
        let surplus = self.surplus(owner);
        if surplus > 0 {
            self.state.overfull.insert(owner.clone());
        }
        let most = surplus.saturating_sub(keep / SLACK).min(2 * new);
        self.forget(owner, surplus, most).map(drop)
    }

    /// Forgets some of the events that are too many.
    pub(super) fn forget_some(&mut self) -> Result<(), WriteError> {
        let Some(owner) = self.state.overfull.iter().next().cloned() else { return Ok(()) };
        let surplus = self.surplus(&owner);
        let forgotten = self.forget(&owner, surplus, AT_ONCE)?;
        // What is left belongs to an entry of which the rest is kept.
        if forgotten < AT_ONCE {
            self.state.overfull.remove(&owner);
        }
        Ok(())
    }

    /// How many events of an owner are kept beyond the limit.
    fn surplus(&self, owner: &Owner) -> u64 {
        let (first, last) = self.state.seqs.get(owner).copied().unwrap_or((1, 0));
        (last + 1).saturating_sub(first).saturating_sub(self.state.keep_events)
    }

    /// Forgets entries with at most `surplus` events in all, from the oldest on until they are `most`. Answers with how many events they had.
    fn forget(&mut self, owner: &Owner, surplus: u64, most: u64) -> Result<u64, WriteError> {
        let Some((first, last)) = self.state.seqs.get(owner).copied().filter(|_| most > 0 && surplus > 0)
        else {
            return Ok(0);
        };
        let (enough, end) = (first + most, first + surplus);
        let trees = self.trees;
        let mut kept = first;
        let mut run: Option<Run> = None;
        for entry in trees[Tree::Events as usize].range(keys::event(owner, first)..keys::event(owner, end)) {
            let (key, value) = entry.map_err(WriteError::unknown)?;
            let number = keys::trailing_number(&key).unwrap_or(kept);
            let next = number + events::count(&value);
            if kept >= enough || next > end {
                break;
            }
            self.remove(Tree::Events, &key);
            kept = next;
            // One that makes no sense goes all the same.
            let Ok(events) = events::each(&value) else { continue };
            let newest = events.last().and_then(|it| serde_json::from_str::<Event>(it.get()).ok());
            let Some(newest) = newest else { continue };
            if run.as_ref().is_none_or(|run| run.last() < newest.change) {
                run = run_of(&trees[Tree::Changes as usize], newest.change).map_err(WriteError::unknown)?;
            }
            // The entry of the run goes with the last of its events.
            if let Some(run) = run.as_ref().filter(|run| run.last() == newest.change) {
                self.remove(Tree::Changes, &keys::number(run.change));
            }
        }
        self.state.seqs.insert(owner.clone(), (kept, last));
        Ok(kept - first)
    }
}
