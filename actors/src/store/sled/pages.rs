//! A tree whose damaged pages give errors: sled panics on most of them.

use std::{
    ops::RangeBounds,
    panic::{AssertUnwindSafe, catch_unwind},
};

use sled::IVec;

/// The answer of a read, or a sentence about the storage.
pub(super) type Read<T> = Result<T, String>;

/// A tree. Only its own code runs under the guard, so any other panic of a reader is a fault of the program.
pub(super) struct Pages(sled::Tree);

impl Pages {
    pub(super) fn new(tree: sled::Tree) -> Self {
        Self(tree)
    }

    /// The tree itself, for transactions.
    pub(super) fn tree(&self) -> &sled::Tree {
        &self.0
    }

    pub(super) fn get(&self, key: &[u8]) -> Read<Option<IVec>> {
        guarded(|| self.0.get(key))
    }

    pub(super) fn last(&self) -> Read<Option<(IVec, IVec)>> {
        guarded(|| self.0.last())
    }

    pub(super) fn is_empty(&self) -> Read<bool> {
        guarded(|| Ok(self.0.is_empty()))
    }

    pub(super) fn insert(&self, key: &[u8], value: &[u8]) -> Read<()> {
        guarded(|| self.0.insert(key, value).map(drop))
    }

    pub(super) fn remove(&self, key: &[u8]) -> Read<()> {
        guarded(|| self.0.remove(key).map(drop))
    }

    pub(super) fn iter(&self) -> Entries {
        Entries(self.0.iter())
    }

    pub(super) fn scan(&self, prefix: &[u8]) -> Entries {
        Entries(self.0.scan_prefix(prefix))
    }

    pub(super) fn range<K: AsRef<[u8]>>(&self, keys: impl RangeBounds<K>) -> Entries {
        Entries(self.0.range(keys))
    }
}

/// Entries in the order of their keys.
pub(super) struct Entries(sled::Iter);

impl Iterator for Entries {
    type Item = Read<(IVec, IVec)>;

    fn next(&mut self) -> Option<Self::Item> {
        guarded(|| self.0.next().transpose()).transpose()
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        guarded(|| self.0.next_back().transpose()).transpose()
    }
}

fn guarded<T>(read: impl FnOnce() -> sled::Result<T>) -> Read<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err("a page of the store is damaged; restore a dump with `mediamill restore`".into()),
    }
}
