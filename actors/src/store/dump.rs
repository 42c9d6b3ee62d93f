//! The whole store as text: one JSON object a line, keys and values readable, and back again.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Inner, Queries, Store,
    draft::cut,
    events,
    keys::{self, Tree},
    reads::record_at,
    vectors,
};
use crate::error::Error;

/// Most lines that one transactionless batch of a restore holds.
const RESTORE_GROUP: usize = 1000;

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    tree: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

impl Queries {
    /// Writes the store as it stands between two commits, trees by name and keys in their order, and gives the writer back. Writers of the
    /// store wait meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot be read or the output cannot be written.
    pub async fn dump<W: Write + Send + 'static>(&self, mut output: W) -> Result<W, Error> {
        self.read(move |inner| {
            inner.dump(&mut output)?;
            Ok(output)
        })
        .await
    }
}

impl Store {
    /// Fills an empty store with a dump, wholly or not at all. A store in which this was cut short does not open again.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the store is not empty; [`Error::Invalid`] with the number of the first line that is not of a dump;
    /// [`Error::Store`] if the store cannot be written.
    pub fn restore(&self, dump: impl BufRead) -> Result<u64, Error> {
        let inner = &self.inner;
        let _writing = inner.reading.write();
        if Tree::ALL.iter().any(|tree| *tree != Tree::Meta && !inner.tree(*tree).is_empty()) {
            return Err(Error::Conflict("the store is not empty; restore into an empty folder".into()));
        }
        let meta = inner.tree(Tree::Meta);
        let mark = || -> sled::Result<()> {
            meta.insert(keys::RESTORING, "true")?;
            inner.sync()
        };
        mark().map_err(store_error)?;
        let filled = inner.fill(dump);
        if filled.is_err() {
            inner.clear().map_err(store_error)?;
        }
        let unmark = || -> sled::Result<()> {
            // What the mark speaks of is on disk before it goes.
            inner.sync()?;
            meta.remove(keys::RESTORING)?;
            inner.sync()
        };
        unmark().map_err(store_error)?;
        let newest = super::opening::newest_change(&inner.trees).map_err(store_error)?;
        inner.durable_change.store(newest, std::sync::atomic::Ordering::Release);
        inner.state.lock().newest_change = newest;
        filled
    }
}

fn store_error(error: sled::Error) -> Error {
    Error::Store(error.to_string())
}

impl Inner {
    fn sync(&self) -> sled::Result<()> {
        self.db.flush()?;
        Ok(self.db_file.sync_data()?)
    }

    /// Writes the lines of a dump.
    fn fill(&self, dump: impl BufRead) -> Result<u64, Error> {
        let mut lines = 0;
        let mut group: Vec<(Tree, Vec<u8>, Vec<u8>)> = Vec::new();
        let write = |group: &mut Vec<(Tree, Vec<u8>, Vec<u8>)>| -> Result<(), Error> {
            for (tree, key, value) in group.drain(..) {
                self.tree(tree).insert(key, value).map_err(store_error)?;
            }
            self.db.flush().map(drop).map_err(store_error)
        };
        for line in dump.lines() {
            lines += 1;
            let wrong = || Error::Invalid(format!("line {lines} is not of a dump"));
            let line =
                line.map_err(|error| Error::Invalid(format!("line {lines} cannot be read: {error}")))?;
            let parsed: Line<'_> = serde_json::from_str(&line).map_err(|_| wrong())?;
            let tree = Tree::named(&parsed.tree).ok_or_else(wrong)?;
            let key = keys::from_text(tree, &parsed.key).ok_or_else(wrong)?;
            let value = match tree {
                Tree::Embeddings => {
                    let numbers: Vec<f32> = serde_json::from_str(parsed.value.get()).map_err(|_| wrong())?;
                    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
                }
                Tree::UploadIds => {
                    let text: String = serde_json::from_str(parsed.value.get()).map_err(|_| wrong())?;
                    keys::from_text(Tree::Uploads, &text).ok_or_else(wrong)?
                }
                _ => parsed.value.get().as_bytes().to_vec(),
            };
            match tree {
                Tree::Uploads => {
                    group.extend(cut(&key, &value).map(|(key, part)| (tree, key, part.to_vec())))
                }
                _ => group.push((tree, key, value)),
            }
            if group.len() >= RESTORE_GROUP {
                write(&mut group)?;
            }
        }
        write(&mut group)?;
        Ok(lines)
    }

    /// Takes everything out again but the format.
    fn clear(&self) -> sled::Result<()> {
        for tree in Tree::ALL {
            for key in self.tree(tree).iter().keys() {
                let key = key?;
                if tree != Tree::Meta || *key != *keys::FORMAT {
                    self.tree(tree).remove(key)?;
                }
            }
        }
        Ok(())
    }

    fn dump(&self, output: &mut impl Write) -> Result<(), String> {
        for tree in Tree::ALL {
            for entry in self.tree(tree).iter() {
                let (key, mut value) = entry.map_err(|error| error.to_string())?;
                match tree {
                    Tree::Uploads => {
                        // The further pieces of a long record stand with its first one.
                        if !keys::is_record(&key) {
                            continue;
                        }
                        value = record_at(self.tree(tree), &key)?.unwrap_or(value);
                    }
                    // Those that were written together are told one by one.
                    Tree::Events if value.first() == Some(&b'[') => {
                        let (owner, first) = key.split_at(key.len().saturating_sub(8));
                        let first = keys::trailing_number(first).unwrap_or_default();
                        if let Ok(events) = events::each(&value) {
                            for (seq, event) in (first..).zip(events) {
                                line(output, tree, &[owner, &keys::number(seq)].concat(), event)?;
                            }
                            continue;
                        }
                    }
                    _ => {}
                }
                line(output, tree, &key, &readable(tree, &value)?)?;
            }
        }
        output.flush().map_err(|error| error.to_string())
    }
}

/// A value as JSON.
fn readable(tree: Tree, value: &[u8]) -> Result<Box<RawValue>, String> {
    match tree {
        Tree::Embeddings => serde_json::value::to_raw_value(&vectors::numbers(value).collect::<Vec<_>>()),
        Tree::UploadIds => {
            serde_json::value::to_raw_value(&keys::to_text(Tree::Uploads, value).unwrap_or_default())
        }
        _ => match serde_json::from_slice::<Box<RawValue>>(value) {
            Ok(json) => Ok(json),
            Err(_) => serde_json::value::to_raw_value(&base16ct::lower::encode_string(value)),
        },
    }
    .map_err(|error| error.to_string())
}

fn line(output: &mut impl Write, tree: Tree, key: &[u8], value: &RawValue) -> Result<(), String> {
    let key = keys::to_text(tree, key).ok_or_else(|| format!("a key of {} makes no sense", tree.name()))?;
    let line = Line { tree: tree.name().into(), key: key.into(), value };
    serde_json::to_writer(&mut *output, &line).map_err(|error| error.to_string())?;
    output.write_all(b"\n").map_err(|error| error.to_string())
}
