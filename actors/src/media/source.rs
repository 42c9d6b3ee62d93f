//! Reads bytes of a file at offsets.

use std::io::{self, BufRead, Read as _, Seek, SeekFrom};
use std::ops::Range;

/// A file or bytes in memory; as a trait object, so that the readers of headers are compiled once.
pub(super) trait Input: BufRead + Seek {}

impl<T: BufRead + Seek> Input for T {}

/// A file of a known length.
pub(super) struct Source<'a> {
    reader: &'a mut dyn Input,
    /// The place of the first byte in the reader.
    start: u64,
    len: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(reader: &'a mut dyn Input, len: u64) -> Self {
        Self { reader, start: 0, len }
    }

    /// Length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// A part of the file as a file of its own. A part beyond the end is empty.
    pub(super) fn window(&mut self, part: Range<u64>) -> Source<'_> {
        let end = part.end.min(self.len);
        let len = end.saturating_sub(part.start);
        Source { reader: &mut *self.reader, start: self.start.saturating_add(part.start), len }
    }

    /// Reads up to `N` bytes from an offset and returns their number; the rest of the array is zero.
    pub(super) fn at<const N: usize>(&mut self, offset: u64) -> io::Result<([u8; N], usize)> {
        let mut bytes = [0; N];
        let mut got = 0;
        if offset >= self.len {
            return Ok((bytes, 0));
        }
        self.reader.seek(SeekFrom::Start(self.start.saturating_add(offset)))?;
        let most = usize::try_from(self.len - offset).unwrap_or(N).min(N);
        while got < most {
            match self.reader.read(&mut bytes[got..most]) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((bytes, got))
    }

    /// Reads exactly `N` bytes from an offset; `None` if the file ends before.
    pub(super) fn exactly<const N: usize>(&mut self, offset: u64) -> io::Result<Option<[u8; N]>> {
        let (bytes, got) = self.at(offset)?;
        Ok((got == N).then_some(bytes))
    }

    /// Appends up to `length` bytes from an offset. The caller bounds their number.
    pub(super) fn append(&mut self, offset: u64, length: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        let left = self.len.saturating_sub(offset);
        if left == 0 {
            return Ok(());
        }
        self.reader.seek(SeekFrom::Start(self.start.saturating_add(offset)))?;
        (&mut *self.reader).take(left.min(length as u64)).read_to_end(bytes).map(drop)
    }

    /// The reader at the start of the file, for a decoder that reads its header itself.
    pub(super) fn rewound(&mut self) -> io::Result<&mut dyn Input> {
        self.reader.seek(SeekFrom::Start(self.start))?;
        Ok(self.reader)
    }
}
