//! The boxes of the MPEG-4 family of files, and the fields in them, never read past their end.

use std::ops::Range;

use super::bytes::{be16, be32};

/// A box inside a slice of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Box {
    pub(super) kind: [u8; 4],
    /// Where its contents lie in the slice.
    pub(super) body: Range<usize>,
}

/// The boxes that lie one behind the other in a part of a slice, up to the first that makes no sense.
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

/// Length of a box's header and of the whole box, from its first 16 bytes; `left` is what is left of the place it
/// lies in, for a box that goes on to the end. `None` if it makes no sense.
pub(super) fn size(head: &[u8], left: u64) -> Option<(usize, u64)> {
    let (header, size) = match be32(head, 0)? {
        0 => (8, left),
        1 => (16, (u64::from(be32(head, 8)?) << 32) | u64::from(be32(head, 12)?)),
        size => (8, u64::from(size)),
    };
    (size >= header as u64).then_some((header, size))
}

/// Numbers read one after the other.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next field begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        be16(self.take(2)?, 0)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        be32(self.take(4)?, 0)
    }

    /// A number of 0, 1, 2, 4 or 8 bytes; none of other lengths are defined.
    pub(super) fn uint(&mut self, length: u8) -> Option<u64> {
        match length {
            0 | 1 | 2 | 4 | 8 => Some(
                self.take(length.into())?.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte)),
            ),
            _ => None,
        }
    }

    /// The version and the flags with which a full box begins.
    pub(super) fn version(&mut self) -> Option<(u8, u32)> {
        let word = self.u32()?;
        Some(((word >> 24) as u8, word & 0x00ff_ffff))
    }

    /// A number of an item: two bytes, or four in newer versions of a box.
    pub(super) fn id(&mut self, long: bool) -> Option<u32> {
        if long { self.u32() } else { self.u16().map(u32::from) }
    }
}
