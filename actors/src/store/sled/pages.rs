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

/// A step of a pass over a tree with damaged pages.
pub(super) enum Salvaged {
    /// An entry.
    Entry(IVec, IVec),
    /// Entries that cannot be read, after one key and before another; `None` for the end of the tree.
    Gap {
        /// The last key before them.
        after: Option<IVec>,
        /// The first key after them.
        before: Option<IVec>,
    },
}

impl Pages {
    /// Visits all entries that can be read, in order, and the gaps between them.
    pub(super) fn salvage(&self, visit: impl FnMut(Salvaged) -> Read<()>) -> Read<()> {
        let range = |from: Vec<u8>, to: Option<Vec<u8>>| match to {
            Some(to) => self.range(from..to),
            None => self.range(from..),
        };
        salvage(range, visit)
    }
}

/// As [`Pages::salvage`], over the entries that `range` gives from one key to before another.
fn salvage<I: DoubleEndedIterator<Item = Read<(IVec, IVec)>>>(
    range: impl Fn(Vec<u8>, Option<Vec<u8>>) -> I,
    mut visit: impl FnMut(Salvaged) -> Read<()>,
) -> Read<()> {
    let mut last: Option<IVec> = None;
    let mut entries = range(Vec::new(), None);
    loop {
        match entries.next() {
            None => return Ok(()),
            Some(Ok((key, value))) => {
                last = Some(key.clone());
                visit(Salvaged::Entry(key, value))?;
            }
            Some(Err(_)) => {
                let from = last.as_deref().map(after_key).unwrap_or_default();
                let next = readable_after(&range, last.as_deref().unwrap_or(&[0; 32]));
                // Entries right before the next readable key were stepped over to find it.
                let mut skipped = Vec::new();
                for entry in range(from, next.as_ref().map(|next| next.to_vec())).rev() {
                    let Ok(entry) = entry else { break };
                    skipped.push(entry);
                }
                let before = skipped.last().map(|(key, _)| key.clone()).or_else(|| next.clone());
                visit(Salvaged::Gap { after: last.clone(), before })?;
                for (key, value) in skipped.into_iter().rev() {
                    last = Some(key.clone());
                    visit(Salvaged::Entry(key, value))?;
                }
                let Some(next) = next else { return Ok(()) };
                entries = range(next.to_vec(), None);
            }
        }
    }
}

/// The key of an entry after this key that can be read, near to it if possible.
fn readable_after<I: Iterator<Item = Read<(IVec, IVec)>>>(
    range: impl Fn(Vec<u8>, Option<Vec<u8>>) -> I,
    key: &[u8],
) -> Option<IVec> {
    // Each byte from the last to the first is raised by growing steps.
    for at in (0..key.len().max(1)).rev() {
        for step in (0..8).map(|bit| 1u8 << bit) {
            let mut from = key[..key.len().min(at)].to_vec();
            let Some(byte) = key.get(at).copied().unwrap_or_default().checked_add(step) else { break };
            from.push(byte);
            if let Some(Ok((found, _))) = range(from, None).next() {
                return Some(found);
            }
        }
    }
    None
}

/// The next key after this one.
fn after_key(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
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
        Ok(read) => read.map_err(sentence),
        Err(_) => Err("a page of the store is damaged; restore a dump with `mediamill restore`".into()),
    }
}

/// The system's own sentence: the text of sled's error has the names of Rust's types around it.
pub(super) fn sentence(error: sled::Error) -> String {
    match error {
        sled::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The keys that are salvaged of 0 to 999 where some cannot be read, with `-` for each gap.
    fn salvaged(is_damaged: impl Fn(u32) -> bool + Copy) -> Vec<String> {
        let entries: BTreeMap<Vec<u8>, u32> = (0..1000u32).map(|n| (n.to_be_bytes().to_vec(), n)).collect();
        let range = |from: Vec<u8>, to: Option<Vec<u8>>| {
            let of = |entry: (&Vec<u8>, &u32)| match is_damaged(*entry.1) {
                true => Err("a page is damaged".to_owned()),
                false => Ok((IVec::from(&entry.0[..]), IVec::from(&[]))),
            };
            let all: Vec<_> = match to {
                Some(to) => entries.range(from..to).map(of).collect(),
                None => entries.range(from..).map(of).collect(),
            };
            all.into_iter()
        };
        let mut found = Vec::new();
        salvage(range, |entry| {
            found.push(match entry {
                Salvaged::Entry(key, _) => {
                    u32::from_be_bytes(key[..].try_into().expect("four bytes")).to_string()
                }
                Salvaged::Gap { .. } => "-".to_owned(),
            });
            Ok(())
        })
        .expect("visited");
        found
    }

    #[test]
    fn all_that_can_be_read_is_salvaged_once_and_in_order() {
        let damages: [fn(u32) -> bool; 7] = [
            |_| false,
            |n| n == 500,
            |n| (250..300).contains(&n) || (700..703).contains(&n),
            |n| n < 10,
            |n| n >= 990,
            |n| n == 0 || n == 999,
            |_| true,
        ];
        for (case, is_damaged) in damages.into_iter().enumerate() {
            let mut expected = Vec::new();
            for n in 0..1000 {
                match is_damaged(n) {
                    false => expected.push(n.to_string()),
                    true if expected.last().is_none_or(|last| last != "-") => expected.push("-".to_owned()),
                    true => {}
                }
            }
            assert_eq!(salvaged(is_damaged), expected, "case {case}");
        }
    }
}
