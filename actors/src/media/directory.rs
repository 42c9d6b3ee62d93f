//! Reads the directories of TIFF structures at their offsets, without holding the file, and writes small
//! structures for the reader of EXIF.

use std::io::{self, Cursor};

use crate::media::bytes::{be16, be32, le16, le32};
use crate::media::source::Source;

/// Most entries of a directory; cameras write fewer than a hundred.
const MAX_ENTRIES: u16 = 1000;
/// Most bytes of a value that is copied.
const MAX_COPIED_BYTES: u64 = 4096;

/// An entry of a directory.
#[derive(Debug, Clone, Copy)]
pub(in crate::media) struct Entry {
    pub(in crate::media) tag: u16,
    pub(in crate::media) kind: u16,
    pub(in crate::media) count: u32,
    /// The offset of the first value.
    pub(in crate::media) at: u64,
}

/// The byte order of a TIFF structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::media) struct Order {
    little: bool,
}

impl Order {
    /// Takes the first two bytes of a structure.
    pub(in crate::media) fn of(head: &[u8]) -> Option<Self> {
        match head.get(..2)? {
            b"II" => Some(Self { little: true }),
            b"MM" => Some(Self { little: false }),
            _ => None,
        }
    }

    pub(in crate::media) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        if self.little { le16(bytes, at) } else { be16(bytes, at) }
    }

    pub(in crate::media) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        if self.little { le32(bytes, at) } else { be32(bytes, at) }
    }

    /// Returns `true` if the lowest byte comes first.
    pub(in crate::media) fn is_little(self) -> bool {
        self.little
    }

    fn bytes16(self, number: u16) -> [u8; 2] {
        if self.little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    fn bytes32(self, number: u32) -> [u8; 4] {
        if self.little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    /// Reads the entries of the directory at an offset, and the offset of the next directory, 0 if there is
    /// none. A directory that is cut short ends with its last whole entry.
    pub(in crate::media) fn directory(
        self,
        source: &mut Source<'_>,
        offset: u64,
    ) -> io::Result<(Vec<Entry>, u64)> {
        let Some(count) = source.exactly::<2>(offset)? else { return Ok((Vec::new(), 0)) };
        let count = self.u16(&count, 0).unwrap_or(0).min(MAX_ENTRIES);
        let mut bytes = Vec::new();
        source.append(offset + 2, usize::from(count) * 12 + 4, &mut bytes)?;
        let entry = |i: usize| {
            let at = i * 12;
            let (tag, kind, count) =
                (self.u16(&bytes, at)?, self.u16(&bytes, at + 2)?, self.u32(&bytes, at + 4)?);
            let value = self.u32(&bytes, at + 8)?;
            let inside = u64::from(count) * size(kind) <= 4;
            let at = if inside { offset + 2 + at as u64 + 8 } else { value.into() };
            Some(Entry { tag, kind, count, at })
        };
        let entries = (0..count.into()).map_while(entry).collect();
        let next = self.u32(&bytes, usize::from(count) * 12).unwrap_or(0);
        Ok((entries, next.into()))
    }

    /// The first whole numbers of an entry, at most `most`. Pointers that makers declare as bytes are read
    /// too.
    pub(in crate::media) fn numbers(
        self,
        source: &mut Source<'_>,
        entry: &Entry,
        most: usize,
    ) -> io::Result<Vec<u32>> {
        let (unit, count) = match entry.kind {
            3 => (2, entry.count as usize),
            4 | 13 => (4, entry.count as usize),
            7 if entry.count == 4 => (4, 1),
            _ => return Ok(Vec::new()),
        };
        let mut bytes = Vec::new();
        source.append(entry.at, count.min(most) * unit, &mut bytes)?;
        let number = |at: &[u8]| {
            if unit == 2 { self.u16(at, 0).map(u32::from) } else { self.u32(at, 0) }
        };
        Ok(bytes.chunks_exact(unit).filter_map(number).collect())
    }

    /// The first whole number of an entry.
    pub(in crate::media) fn number(self, source: &mut Source<'_>, entry: &Entry) -> io::Result<Option<u32>> {
        Ok(self.numbers(source, entry, 1)?.first().copied())
    }
}

/// Bytes of a value of a type; 0 for an unknown type.
fn size(kind: u16) -> u64 {
    match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 => 8,
        _ => 0,
    }
}

/// A copy of the start of a file, with the magic number of TIFF in place of that of a maker.
pub(in crate::media) fn usual(bytes: &[u8], most: usize) -> Vec<u8> {
    let mut copy = bytes.get(..most).unwrap_or(bytes).to_vec();
    if let (Some(order), Some(magic)) = (Order::of(bytes), copy.get_mut(2..4)) {
        magic.copy_from_slice(&order.bytes16(42));
    }
    copy
}

/// Joins the first directories of three TIFF structures: the main one, the photo's and the place's. Returns
/// nothing if the main one is missing.
pub(in crate::media) fn joined(blocks: [Option<&[u8]>; 3]) -> Vec<u8> {
    let [Some(main), photo, place] = blocks else { return Vec::new() };
    let Some(order) = Order::of(main) else { return Vec::new() };
    let mut tiff = [&main[..2], &order.bytes16(42), &order.bytes32(8)].concat();
    let below = [(0x8769, photo), (0x8825, place)]
        .into_iter()
        .filter_map(|(tag, block)| Some((tag, copied(order, block?)?)));
    let below: Vec<(u16, Vec<Copied>)> = below.collect();
    let mut entries: Vec<_> = copied(order, main).unwrap_or_default();
    entries.retain(|(tag, ..)| !matches!(tag, 0x8769 | 0x8825));
    let first = entries.len();
    entries.extend(below.iter().map(|(tag, _)| (*tag, 4, 1, vec![0; 4])));
    write(order, &mut tiff, &entries);
    for (i, (_, entries)) in below.iter().enumerate() {
        let at = 8 + 2 + (first + i) * 12 + 8;
        let offset = order.bytes32(tiff.len() as u32);
        tiff[at..at + 4].copy_from_slice(&offset);
        write(order, &mut tiff, entries);
    }
    tiff
}

/// Tag, type, count and value of an entry.
type Copied = (u16, u16, u32, Vec<u8>);

/// The entries of the first directory of a structure with their values, without those that are long.
fn copied(order: Order, block: &[u8]) -> Option<Vec<Copied>> {
    if Order::of(block) != Some(order) {
        return None;
    }
    let mut cursor = Cursor::new(block);
    let source = &mut Source::new(&mut cursor, block.len() as u64);
    let (entries, _) = order.directory(source, order.u32(block, 4)?.into()).ok()?;
    let value = |entry: Entry| {
        let length = size(entry.kind) * u64::from(entry.count);
        let mut value = Vec::new();
        if length == 0 || length > MAX_COPIED_BYTES {
            return None;
        }
        source.append(entry.at, length as usize, &mut value).ok()?;
        Some((entry.tag, entry.kind, entry.count, value)).filter(|it| it.3.len() as u64 == length)
    };
    Some(entries.into_iter().filter_map(value).collect())
}

/// Writes a directory and the values after it.
fn write(order: Order, tiff: &mut Vec<u8>, entries: &[Copied]) {
    let mut values = tiff.len() + 2 + entries.len() * 12 + 4;
    tiff.extend(order.bytes16(entries.len() as u16));
    for (tag, kind, count, value) in entries {
        tiff.extend(order.bytes16(*tag));
        tiff.extend(order.bytes16(*kind));
        tiff.extend(order.bytes32(*count));
        if value.len() <= 4 {
            tiff.extend(value);
            tiff.resize(tiff.len() + 4 - value.len(), 0);
        } else {
            tiff.extend(order.bytes32(values as u32));
            values += value.len();
        }
    }
    tiff.extend([0; 4]);
    for (.., value) in entries.iter().filter(|it| it.3.len() > 4) {
        tiff.extend(value);
    }
}
