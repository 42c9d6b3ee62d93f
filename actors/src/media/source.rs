//! A file as the headers' readers see it: bytes at offsets, and an end.

use std::io::{self, BufRead, Read as _, Seek, SeekFrom};

/// What headers are read from, of any kind, so that the code that reads them is compiled once.
pub(super) trait Input: BufRead + Seek {}

impl<T: BufRead + Seek> Input for T {}

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

    /// Up to `N` bytes from an offset; the rest of the array stays zero. The number tells how many there were.
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

    /// Exactly `N` bytes from an offset, or `None` where the file ends before.
    pub(super) fn exactly<const N: usize>(&mut self, offset: u64) -> io::Result<Option<[u8; N]>> {
        let (bytes, got) = self.at(offset)?;
        Ok((got == N).then_some(bytes))
    }

    /// Appends `length` bytes from an offset, or as many as there are; the caller bounds their number.
    pub(super) fn append(&mut self, offset: u64, length: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.reader.seek(SeekFrom::Start(offset))?;
        (&mut *self.reader).take(length as u64).read_to_end(bytes).map(drop)
    }

    /// The reader itself, at the start of the file, for a decoder that reads its header on its own.
    pub(super) fn rewound(&mut self) -> io::Result<&mut dyn Input> {
        self.reader.seek(SeekFrom::Start(0))?;
        Ok(self.reader)
    }
}
