//! The file of a picture while it is decoded.

use std::borrow::Cow;
use std::io::{Read as _, SeekFrom};
use std::ops::Range;

use super::error::Error;
use super::source::{Input, Source};

/// The file of a picture: in memory, or read while it is decoded.
pub(super) struct Contents<'a> {
    bytes: Option<&'a [u8]>,
    reader: &'a mut dyn Input,
    len: u64,
}

impl<'a> Contents<'a> {
    /// Takes a reader, and the bytes if they are in memory anyway.
    pub(super) fn new(reader: &'a mut dyn Input, len: u64, bytes: Option<&'a [u8]>) -> Self {
        Self { bytes, reader, len }
    }

    /// Length of the file in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The reader, at any place.
    pub(super) fn reader(&mut self) -> &mut dyn Input {
        self.reader
    }

    /// The file as the readers of headers see it.
    pub(super) fn source(&mut self) -> Source<'_> {
        Source::new(self.reader, self.len)
    }

    /// The reader at the start of the file.
    pub(super) fn rewound(&mut self) -> Result<&mut dyn Input, Error> {
        self.reader.seek(SeekFrom::Start(0)).map_err(Error::unreadable)?;
        Ok(self.reader)
    }

    /// The whole file. The caller has counted it as memory.
    pub(super) fn whole(&mut self) -> Result<Cow<'a, [u8]>, Error> {
        if let Some(bytes) = self.bytes {
            return Ok(Cow::Borrowed(bytes));
        }
        let len = self.len;
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        self.rewound()?.take(len).read_to_end(&mut bytes).map_err(Error::unreadable)?;
        Ok(Cow::Owned(bytes))
    }

    /// A part of the file, which is small; what lies beyond its end is left out.
    pub(super) fn part(&mut self, range: &Range<u64>) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
        self.source().append(range.start, length, &mut bytes).map_err(Error::unreadable)?;
        Ok(bytes)
    }
}
