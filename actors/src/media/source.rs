//! Reads bytes of a file at offsets.

use std::io::{self, BufRead, Read as _, Seek, SeekFrom};

/// A file or bytes in memory; as a trait object, so that the readers of headers are compiled once.
pub(super) trait Input: BufRead + Seek {}

impl<T: BufRead + Seek> Input for T {}

/// A file of a known length.
pub(super) struct Source<'a> {
    reader: &'a mut dyn Input,
    len: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(reader: &'a mut dyn Input, len: u64) -> Self {
        Self { reader, len }
    }

    /// Length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads up to `N` bytes from an offset and returns their number; the rest of the array is zero.
    pub(super) fn at<const N: usize>(&mut self, offset: u64) -> io::Result<([u8; N], usize)> {
        let mut bytes = [0; N];
        let mut got = 0;
        if offset >= self.len {
            return Ok((bytes, 0));
        }
        self.reader.seek(SeekFrom::Start(offset))?;
        while got < N {
            match self.reader.read(&mut bytes[got..]) {
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
        self.reader.seek(SeekFrom::Start(offset))?;
        (&mut *self.reader).take(length as u64).read_to_end(bytes).map(drop)
    }

    /// The reader at the start of the file, for a decoder that reads its header itself.
    pub(super) fn rewound(&mut self) -> io::Result<&mut dyn Input> {
        self.reader.seek(SeekFrom::Start(0))?;
        Ok(self.reader)
    }
}
