//! The queue: the tree `work` in memory, in the order in which uploads are begun. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::id::{BatchId, Owner, UploadId};

/// Uploads that wait for a worker, in the order in which they are begun.
///
/// Owners take turns, upload by upload; batches of an owner go first in, first out; uploads of a
/// batch go in the order of submission. A closed batch (paused or cancelled) loses its turn.
/// Suspects, which were in flight when the process died, go before all others and alone.
#[derive(Debug, Default)]
pub(super) struct Queue {
    owners: HashMap<Owner, BTreeMap<u64, Waiting>>,
    /// Owners with a waiting upload in an open batch, the next one first.
    turns: VecDeque<Owner>,
    /// Suspects of open and closed batches, by batch number and position.
    suspects: BTreeSet<(u64, u32)>,
    /// The owner of each batch.
    batches: HashMap<u64, Owner>,
    length: usize,
}

#[derive(Debug)]
struct Waiting {
    batch: BatchId,
    open: bool,
    positions: BTreeMap<u32, UploadId>,
}

/// A waiting upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) owner: Owner,
    pub(super) batch: BatchId,
    pub(super) batch_number: u64,
    pub(super) position: u32,
    pub(super) upload: UploadId,
}

impl Queue {
    /// The number of waiting uploads, also those of closed batches.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds an upload. `open` counts only for the first upload of a batch; later,
    /// [`Queue::set_open`] changes it.
    pub(super) fn push(&mut self, entry: Entry, suspect: bool, open: bool) {
        if suspect {
            self.suspects.insert((entry.batch_number, entry.position));
        }
        self.batches.entry(entry.batch_number).or_insert_with(|| entry.owner.clone());
        let waiting = self
            .owners
            .entry(entry.owner.clone())
            .or_default()
            .entry(entry.batch_number)
            .or_insert_with(|| Waiting { batch: entry.batch, open, positions: BTreeMap::new() });
        let can_begin = waiting.open;
        if waiting.positions.insert(entry.position, entry.upload).is_none() {
            self.length += 1;
        }
        if can_begin && !self.turns.contains(&entry.owner) {
            self.turns.push_back(entry.owner);
        }
    }

    /// Removes an upload, if it waits.
    pub(super) fn remove(&mut self, batch_number: u64, position: u32) {
        let Some(owner) = self.batches.get(&batch_number).cloned() else { return };
        let Some(batches) = self.owners.get_mut(&owner) else { return };
        let Some(waiting) = batches.get_mut(&batch_number) else { return };
        if waiting.positions.remove(&position).is_some() {
            self.length -= 1;
            self.suspects.remove(&(batch_number, position));
        }
        if waiting.positions.is_empty() {
            batches.remove(&batch_number);
            self.batches.remove(&batch_number);
        }
        if batches.is_empty() {
            self.owners.remove(&owner);
        }
    }

    /// Opens or closes a batch: uploads of a closed batch are not begun.
    pub(super) fn set_open(&mut self, batch_number: u64, open: bool) {
        let Some(owner) = self.batches.get(&batch_number) else { return };
        let Some(waiting) = self.owners.get_mut(owner).and_then(|it| it.get_mut(&batch_number)) else {
            return;
        };
        waiting.open = open;
        if open && !self.turns.contains(owner) {
            self.turns.push_back(owner.clone());
        }
    }

    /// The waiting uploads of one owner, batch by batch.
    pub(super) fn uploads_of(&self, owner: &Owner) -> impl Iterator<Item = (BatchId, UploadId)> {
        let batches = self.owners.get(owner).into_iter().flat_map(BTreeMap::values);
        batches.flat_map(|it| it.positions.values().map(|upload| (it.batch, *upload)))
    }

    /// The oldest waiting suspect of an open batch. While there is one, nothing else may be
    /// begun.
    pub(super) fn next_suspect(&self) -> Option<Entry> {
        self.suspects.iter().find_map(|(number, position)| {
            let owner = self.batches.get(number)?;
            let waiting = self.owners.get(owner)?.get(number).filter(|it| it.open)?;
            Some(Entry {
                owner: owner.clone(),
                batch: waiting.batch,
                batch_number: *number,
                position: *position,
                upload: *waiting.positions.get(position)?,
            })
        })
    }

    /// Removes and returns the next upload, and passes the turn to the next owner.
    pub(super) fn pop(&mut self) -> Option<Entry> {
        while let Some(owner) = self.turns.pop_front() {
            let next = self.owners.get(&owner).and_then(|batches| {
                batches.iter().filter(|(_, it)| it.open).find_map(|(number, it)| {
                    let (position, upload) = it.positions.first_key_value()?;
                    Some((*number, it.batch, *position, *upload))
                })
            });
            let Some((batch_number, batch, position, upload)) = next else { continue };
            self.remove(batch_number, position);
            if self.owners.get(&owner).is_some_and(|batches| batches.values().any(|it| it.open)) {
                self.turns.push_back(owner.clone());
            }
            return Some(Entry { owner, batch, batch_number, position, upload });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(owner: &str, batch_number: u64, position: u32) -> Entry {
        Entry {
            owner: Owner::new(owner).expect("valid"),
            batch: BatchId::generate(),
            batch_number,
            position,
            upload: UploadId::generate(),
        }
    }

    fn order(queue: &mut Queue) -> Vec<(String, u64, u32)> {
        std::iter::from_fn(|| queue.pop())
            .map(|it| (it.owner.to_string(), it.batch_number, it.position))
            .collect()
    }

    #[test]
    fn owners_take_turns_and_batches_go_first_in_first_out() {
        let mut queue = Queue::default();
        for it in [entry("a", 1, 0), entry("a", 1, 1), entry("a", 3, 0), entry("b", 2, 0)] {
            queue.push(it, false, true);
        }
        let expected = [("a", 1, 0), ("b", 2, 0), ("a", 1, 1), ("a", 3, 0)];
        assert_eq!(order(&mut queue), expected.map(|(a, b, c)| (a.to_owned(), b, c)));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_closed_batch_loses_its_turn_and_gets_it_back() {
        let mut queue = Queue::default();
        queue.push(entry("a", 1, 0), false, true);
        queue.push(entry("a", 2, 0), false, true);
        queue.set_open(1, false);
        assert_eq!(order(&mut queue), [("a".to_owned(), 2, 0)]);
        queue.set_open(1, true);
        assert_eq!(order(&mut queue), [("a".to_owned(), 1, 0)]);
    }

    #[test]
    fn a_suspect_of_a_closed_batch_holds_nobody_up() {
        let mut queue = Queue::default();
        queue.push(entry("a", 1, 0), true, true);
        assert!(queue.next_suspect().is_some());
        queue.set_open(1, false);
        assert_eq!(queue.next_suspect(), None);
    }

    #[test]
    fn what_comes_back_goes_first_in_its_batch() {
        let mut queue = Queue::default();
        for position in 0..3 {
            queue.push(entry("a", 1, position), false, true);
        }
        let first = queue.pop().expect("one");
        queue.push(first.clone(), false, true);
        assert_eq!(queue.pop(), Some(first));
    }
}
