//! Dumps the whole store as text, one JSON object a line with readable keys and values, and
//! restores it. The first and the last line belong to no tree: the last one has the number of the others, so
//! that a dump that was cut short is refused. Dumps of older versions have neither.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sled::IVec;

use super::{
    Queries, Sled, event_log,
    keys::{self, Tree},
    opening,
    pages::{Read, Salvaged, sentence},
    records::cut,
    vectors,
};
use crate::{error::Error, store::Store};

/// Lines that a restore writes in one sled batch.
const RESTORE_GROUP: usize = 1000;
/// Name in place of a tree in the first and the last line.
const FRAME: &str = "dump";
const BEGIN: &str = "begin";
const END: &str = "end";

/// The value of the last line.
#[derive(Serialize, Deserialize)]
struct End {
    /// Number of lines between the first and the last.
    lines: u64,
}

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
            sled.dump(&mut output, None)?;
            Ok(output)
        })
        .await
    }

    /// As [`Queries::dump`], beyond damaged pages: writes all entries that can be read, and answers with a
    /// sentence for each part that is lost.
    ///
    /// # Errors
    /// [`Error::Store`] if the output cannot be written.
    pub async fn salvage<W: Write + Send + 'static>(&self, mut output: W) -> Result<(W, Vec<String>), Error> {
        self.read(move |sled| {
            let mut lost = Vec::new();
            sled.dump(&mut output, Some(&mut lost))?;
            Ok((output, lost))
        })
        .await
    }
}

impl Store {
    /// Fills an empty store with a dump, as a whole or not at all. Answers with the number of
    /// entries. If the process dies meanwhile, the store does not open again.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the store is not empty; [`Error::Invalid`] with the number of the
    /// first line that does not belong to a dump, or if the dump was cut short; [`Error::Store`] if the
    /// store cannot be written.
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
        self.flush().map_err(sentence)?;
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
            self.flush().map_err(|error| Error::Store(sentence(error)))
        };
        let (mut begins, mut ends) = (false, false);
        for (number, line) in (1..).zip(dump.lines()) {
            let number: u64 = number;
            let wrong = || Error::Invalid(format!("line {number} is not of a dump"));
            let line =
                line.map_err(|error| Error::Invalid(format!("line {number} cannot be read: {error}")))?;
            let parsed: Line<'_> = serde_json::from_str(&line).map_err(|_| wrong())?;
            if ends {
                return Err(wrong());
            }
            if parsed.tree == FRAME {
                match &*parsed.key {
                    BEGIN if lines == 0 && !begins => begins = true,
                    END if begins => {
                        let end: End = serde_json::from_str(parsed.value.get()).map_err(|_| wrong())?;
                        if end.lines != lines {
                            let of = end.lines;
                            return Err(Error::Invalid(format!("the dump has {lines} of its {of} entries")));
                        }
                        ends = true;
                    }
                    _ => return Err(wrong()),
                }
                continue;
            }
            lines += 1;
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
            if tree == Tree::Changes && !event_log::can_be(&value) {
                return Err(Error::Invalid(format!("line {number} has more events than an entry can have")));
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
        if begins && !ends {
            return Err(Error::Invalid(format!(
                "the dump was cut short after {lines} entries: its last line is missing"
            )));
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

    /// Dumps all that can be read. Without `lost`, it ends at the first entry that cannot be read; with it,
    /// sentences about such entries are added there.
    fn dump(&self, output: &mut impl Write, mut lost: Option<&mut Vec<String>>) -> Result<(), String> {
        let begin = serde_json::value::to_raw_value("mediamill").map_err(|error| error.to_string())?;
        write_line(output, FRAME, BEGIN, &begin)?;
        let mut lines = 0;
        for tree in Tree::ALL {
            let mut dump = |key: &[u8], value: IVec| self.dump_entry(output, tree, key, value);
            match &mut lost {
                None => {
                    for entry in self.tree(tree).iter() {
                        let (key, value) = entry?;
                        lines += dump(&key, value)??;
                    }
                }
                Some(lost) => self.tree(tree).salvage(|entry| match entry {
                    Salvaged::Entry(key, value) => match dump(&key, value)? {
                        Ok(more) => {
                            lines += more;
                            Ok(())
                        }
                        Err(error) => {
                            lost.push(format!("an entry of {}: {error}", tree.name()));
                            Ok(())
                        }
                    },
                    Salvaged::Gap { after, before } => {
                        let name = |key: Option<IVec>, end: &str| {
                            key.and_then(|key| keys::to_text(tree, &key)).unwrap_or_else(|| end.to_owned())
                        };
                        let (after, before) = (name(after, "its beginning"), name(before, "its end"));
                        lost.push(format!("entries of {} between {after} and {before}", tree.name()));
                        Ok(())
                    }
                })?,
            }
        }
        let end = serde_json::value::to_raw_value(&End { lines }).map_err(|error| error.to_string())?;
        write_line(output, FRAME, END, &end)?;
        output.flush().map_err(|error| error.to_string())
    }

    /// Writes the lines of an entry, and answers with their number; or with the reason that the entry cannot
    /// be read. Fails if the output cannot be written.
    fn dump_entry(
        &self,
        output: &mut impl Write,
        tree: Tree,
        key: &[u8],
        mut value: IVec,
    ) -> Result<Result<u64, String>, String> {
        match tree {
            Tree::Uploads => {
                // The further pieces of a long record are written with its first one.
                if !keys::is_record(key) {
                    return Ok(Ok(0));
                }
                match self.record_at(key) {
                    Ok(record) => value = record.map_or(value, |(record, _)| record),
                    Err(error) => return Ok(Err(error)),
                }
            }
            // Events that share an entry are dumped one by one.
            Tree::Events if value.first() == Some(&b'[') => {
                let (owner, first) = key.split_at(key.len().saturating_sub(8));
                let first = keys::trailing_number(first).unwrap_or_default();
                if let Ok(events) = event_log::each(&value) {
                    for (seq, event) in (first..).zip(&events) {
                        let Some(key) = keys::to_text(tree, &[owner, &keys::number(seq)].concat()) else {
                            return Ok(Err("its key is damaged".into()));
                        };
                        write_line(output, tree.name(), &key, event)?;
                    }
                    return Ok(Ok(events.len() as u64));
                }
            }
            _ => {}
        }
        let (Some(key), Ok(value)) = (keys::to_text(tree, key), readable(tree, &value)) else {
            return Ok(Err(format!("a key of {} is damaged", tree.name())));
        };
        write_line(output, tree.name(), &key, &value)?;
        Ok(Ok(1))
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

fn write_line(output: &mut impl Write, tree: &str, key: &str, value: &RawValue) -> Result<(), String> {
    let line = Line { tree: tree.into(), key: key.into(), value };
    serde_json::to_writer(&mut *output, &line).map_err(|error| error.to_string())?;
    output.write_all(b"\n").map_err(|error| error.to_string())
}
