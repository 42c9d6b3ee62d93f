//! Dumps the whole store as text, one JSON object a line with readable keys and values, and
//! restores it.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Queries, Sled, event_log,
    keys::{self, Tree},
    opening,
    pages::Read,
    records::cut,
    vectors,
};
use crate::{error::Error, store::Store};

/// Lines that a restore writes in one sled batch.
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
    /// Writes the store as of one moment between two commits, tree by tree with the keys in
    /// order, and returns the writer. Commands wait meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot be read or the output cannot be written.
    pub async fn dump<W: Write + Send + 'static>(&self, mut output: W) -> Result<W, Error> {
        self.read(move |sled| {
            sled.dump(&mut output)?;
            Ok(output)
        })
        .await
    }
}

impl Store {
    /// Fills an empty store with a dump, as a whole or not at all. Answers with the number of
    /// lines. If the process dies meanwhile, the store does not open again.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the store is not empty; [`Error::Invalid`] with the number of the
    /// first line that does not belong to a dump; [`Error::Store`] if the store cannot be
    /// written.
    pub fn restore(&self, dump: impl BufRead) -> Result<u64, Error> {
        let sled = &self.sled;
        let _writing = sled.reading.write();
        let mut is_empty = true;
        for tree in Tree::ALL.into_iter().filter(|tree| *tree != Tree::Meta) {
            is_empty &= sled.tree(tree).is_empty().map_err(Error::Store)?;
        }
        if !is_empty {
            return Err(Error::Conflict("the store is not empty; restore into an empty folder".into()));
        }
        let meta = sled.tree(Tree::Meta);
        let mark = || -> Read<()> {
            meta.insert(keys::RESTORING, b"true")?;
            sled.sync()
        };
        mark().map_err(Error::Store)?;
        let filled = sled.fill(dump);
        if filled.is_err() {
            sled.clear().map_err(Error::Store)?;
        }
        let unmark = || -> Read<()> {
            // The restored records must be on disk before the mark is removed.
            sled.sync()?;
            meta.remove(keys::RESTORING)?;
            sled.sync()
        };
        unmark().map_err(Error::Store)?;
        let newest = opening::newest_change(&sled.trees).map_err(Error::Store)?;
        sled.durable_change.store(newest, std::sync::atomic::Ordering::Release);
        sled.state.lock().newest_change = newest;
        filled
    }
}

impl Sled {
    fn sync(&self) -> Read<()> {
        self.db.flush().map_err(|error| error.to_string())?;
        self.db_file.sync_data().map_err(|error| error.to_string())
    }

    /// Writes the lines of a dump.
    fn fill(&self, dump: impl BufRead) -> Result<u64, Error> {
        let mut lines = 0;
        let mut group: Vec<(Tree, Vec<u8>, Vec<u8>)> = Vec::new();
        let write = |group: &mut Vec<(Tree, Vec<u8>, Vec<u8>)>| -> Result<(), Error> {
            for (tree, key, value) in group.drain(..) {
                self.tree(tree).insert(&key, &value).map_err(Error::Store)?;
            }
            self.db.flush().map(drop).map_err(|error| Error::Store(error.to_string()))
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
            if tree == Tree::Meta && key == keys::FORMAT && !opening::is_known(parsed.value.get()) {
                let format = parsed.value.get();
                return Err(Error::Invalid(format!(
                    "the dump has format {format}, which this version of mediamill does not know; use the \
                     version that wrote it"
                )));
            }
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

    /// Removes everything but the format.
    fn clear(&self) -> Read<()> {
        for tree in Tree::ALL {
            for entry in self.tree(tree).iter() {
                let (key, _) = entry?;
                if tree != Tree::Meta || *key != *keys::FORMAT {
                    self.tree(tree).remove(&key)?;
                }
            }
        }
        Ok(())
    }

    fn dump(&self, output: &mut impl Write) -> Result<(), String> {
        for tree in Tree::ALL {
            for entry in self.tree(tree).iter() {
                let (key, mut value) = entry?;
                match tree {
                    Tree::Uploads => {
                        // The further pieces of a long record are written with its first one.
                        if !keys::is_record(&key) {
                            continue;
                        }
                        value = self.record_at(&key)?.map_or(value, |(record, _)| record);
                    }
                    // Events that share an entry are dumped one by one.
                    Tree::Events if value.first() == Some(&b'[') => {
                        let (owner, first) = key.split_at(key.len().saturating_sub(8));
                        let first = keys::trailing_number(first).unwrap_or_default();
                        if let Ok(events) = event_log::each(&value) {
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
    let key = keys::to_text(tree, key).ok_or_else(|| format!("a key of {} is damaged", tree.name()))?;
    let line = Line { tree: tree.name().into(), key: key.into(), value };
    serde_json::to_writer(&mut *output, &line).map_err(|error| error.to_string())?;
    output.write_all(b"\n").map_err(|error| error.to_string())
}
