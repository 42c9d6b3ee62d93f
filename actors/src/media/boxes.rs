//! The boxes of the MPEG-4 family of files, and the fields in them, which are never read past their end.

use std::io;
use std::ops::Range;

use super::bytes::{be16, be32};
use super::source::Source;

/// A box inside a slice of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Box {
    pub(super) kind: [u8; 4],
    /// Where its contents lie in the slice.
    pub(super) body: Range<usize>,
}

/// The consecutive boxes in a part of a slice, up to the first that makes no sense.
pub(super) fn boxes(bytes: &[u8], within: Range<usize>) -> impl Iterator<Item = Box> {
    let mut at = within.start;
    let end = within.end.min(bytes.len());
    std::iter::from_fn(move || {
        let head = bytes.get(at..end)?;
        let (header, size) = size(head, (end - at) as u64)?;
        let (start, stop) = (at + header, at.checked_add(usize::try_from(size).ok()?)?);
        let kind = head.get(4..8)?.try_into().ok()?;
        if stop > end {
            return None;
        }
        at = stop;
        Some(Box { kind, body: start..stop })
    })
}

/// The consecutive boxes in a part of a file, each with its kind and the range of its contents, up to the
/// first that makes no sense and at most `most`.
pub(super) fn in_file(
    source: &mut Source<'_>,
    within: Range<u64>,
    most: usize,
) -> impl Iterator<Item = io::Result<([u8; 4], Range<u64>)>> {
    let mut at = within.start;
    let next = move || {
        let (head, got) = match source.at::<16>(at) {
            Ok(read) => read,
            Err(error) => return Some(Err(error)),
        };
        let left = within.end.saturating_sub(at);
        let (header, size) = size(&head[..got], left).filter(|(_, size)| *size <= left)?;
        let [_, _, _, _, kind @ .., _, _, _, _, _, _, _, _] = head;
        let body = at + header as u64..at + size;
        at += size;
        Some(Ok((kind, body)))
    };
    std::iter::from_fn(next).take(most)
}

/// The contents of the first box of a kind at the top of a file, among the first `most` boxes.
pub(super) fn find_in_file(
    source: &mut Source<'_>,
    wanted: &[u8; 4],
    most: usize,
) -> io::Result<Option<Range<u64>>> {
    let all = 0..source.len();
    let found = in_file(source, all, most).find(|it| it.as_ref().map_or(true, |(kind, _)| kind == wanted));
    Ok(found.transpose()?.map(|(_, body)| body))
}

/// Writes a box.
pub(super) fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let length = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend(kind);
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// The length of a box's header and of the whole box, from its first 16 bytes. `left` is the number of bytes
/// from the start of the box to the end of its container, for a box that extends to the end. Returns `None`
/// if it makes no sense.
fn size(head: &[u8], left: u64) -> Option<(usize, u64)> {
    let (header, size) = match be32(head, 0)? {
        0 => (8, left),
        1 => (16, (u64::from(be32(head, 8)?) << 32) | u64::from(be32(head, 12)?)),
        size => (8, u64::from(size)),
    };
    (size >= header as u64).then_some((header, size))
}

/// Reads numbers one after the other.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        be16(self.take(2)?, 0)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        be32(self.take(4)?, 0)
    }

    /// A number of 0, 1, 2, 4 or 8 bytes, the only lengths that are defined.
    pub(super) fn uint(&mut self, length: u8) -> Option<u64> {
        match length {
            0 | 1 | 2 | 4 | 8 => Some(
                self.take(length.into())?.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte)),
            ),
            _ => None,
        }
    }

    /// The version and the flags at the start of a full box.
    pub(super) fn version(&mut self) -> Option<(u8, u32)> {
        let word = self.u32()?;
        Some(((word >> 24) as u8, word & 0x00ff_ffff))
    }
}

/// Fields that only the boxes of pictures have.
#[cfg(feature = "heic")]
impl Fields<'_> {
    /// The offset of the next field.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    /// The number of an item: two bytes, or four in newer versions of a box.
    pub(super) fn id(&mut self, long: bool) -> Option<u32> {
        if long { self.u32() } else { self.u16().map(u32::from) }
    }
}
