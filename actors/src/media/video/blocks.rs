//! Walks through the elements of a Matroska file and finds the places and times of its frames.

use std::io;
use std::ops::Range;

use super::ebml::{self, Head, uint};
use crate::media::source::Source;

/// Most elements of a file that are read; an hour has about 300,000.
const MAX_ELEMENTS: u32 = 1 << 20;

/// The identifiers of elements.
pub(super) mod id {
    pub(in crate::media::video) const SEGMENT: u32 = 0x1853_8067;
    pub(in crate::media::video) const SEEK_HEAD: u32 = 0x114d_9b74;
    pub(in crate::media::video) const SEEK_ID: u32 = 0x53ab;
    pub(in crate::media::video) const SEEK_AT: u32 = 0x53ac;
    pub(in crate::media::video) const INFO: u32 = 0x1549_a966;
    pub(in crate::media::video) const TIMESTAMP_SCALE: u32 = 0x2a_d7b1;
    pub(in crate::media::video) const DURATION: u32 = 0x4489;
    pub(in crate::media::video) const DATE: u32 = 0x4461;
    pub(in crate::media::video) const TRACKS: u32 = 0x1654_ae6b;
    pub(in crate::media::video) const TRACK_ENTRY: u32 = 0xae;
    pub(in crate::media::video) const TRACK_NUMBER: u32 = 0xd7;
    pub(in crate::media::video) const TRACK_UID: u32 = 0x73c5;
    pub(in crate::media::video) const TRACK_TYPE: u32 = 0x83;
    pub(in crate::media::video) const CODEC_ID: u32 = 0x86;
    pub(in crate::media::video) const CODEC_DELAY: u32 = 0x56aa;
    pub(in crate::media::video) const VIDEO: u32 = 0xe0;
    pub(in crate::media::video) const PIXEL_WIDTH: u32 = 0xb0;
    pub(in crate::media::video) const PIXEL_HEIGHT: u32 = 0xba;
    pub(in crate::media::video) const DISPLAY_WIDTH: u32 = 0x54b0;
    pub(in crate::media::video) const DISPLAY_HEIGHT: u32 = 0x54ba;
    pub(in crate::media::video) const DISPLAY_UNIT: u32 = 0x54b2;
    pub(in crate::media::video) const PROJECTION: u32 = 0x7670;
    pub(in crate::media::video) const ALPHA_MODE: u32 = 0x53c0;
    pub(in crate::media::video) const COLOUR: u32 = 0x55b0;
    pub(in crate::media::video) const MATRIX: u32 = 0x55b1;
    pub(in crate::media::video) const TRANSFER: u32 = 0x55ba;
    pub(in crate::media::video) const PRIMARIES: u32 = 0x55bb;
    pub(in crate::media::video) const YAW: u32 = 0x7673;
    pub(in crate::media::video) const PITCH: u32 = 0x7674;
    pub(in crate::media::video) const ROLL: u32 = 0x7675;
    pub(in crate::media::video) const CLUSTER: u32 = 0x1f43_b675;
    pub(in crate::media::video) const TIMESTAMP: u32 = 0xe7;
    pub(in crate::media::video) const SIMPLE_BLOCK: u32 = 0xa3;
    pub(in crate::media::video) const BLOCK_GROUP: u32 = 0xa0;
    pub(in crate::media::video) const BLOCK: u32 = 0xa1;
    pub(in crate::media::video) const REFERENCE: u32 = 0xfb;
    pub(in crate::media::video) const CUES: u32 = 0x1c53_bb6b;
    pub(in crate::media::video) const CUE_POINT: u32 = 0xbb;
    pub(in crate::media::video) const CUE_TIME: u32 = 0xb3;
    pub(in crate::media::video) const CUE_PLACES: u32 = 0xb7;
    pub(in crate::media::video) const CUE_TRACK: u32 = 0xf7;
    pub(in crate::media::video) const CUE_CLUSTER: u32 = 0xf1;
    pub(in crate::media::video) const TAGS: u32 = 0x1254_c367;
    pub(in crate::media::video) const TAG: u32 = 0x7373;
    pub(in crate::media::video) const TARGETS: u32 = 0x63c0;
    pub(in crate::media::video) const TARGET_TRACK: u32 = 0x63c5;
    pub(in crate::media::video) const TARGET_EDITION: u32 = 0x63c9;
    pub(in crate::media::video) const TARGET_CHAPTER: u32 = 0x63c4;
    pub(in crate::media::video) const TARGET_ATTACHMENT: u32 = 0x63c6;
    pub(in crate::media::video) const SIMPLE_TAG: u32 = 0x67c8;
    pub(in crate::media::video) const TAG_NAME: u32 = 0x45a3;
    pub(in crate::media::video) const TAG_STRING: u32 = 0x4487;
    pub(in crate::media::video) const EBML: u32 = 0x1a45_dfa3;
}

/// A frame, or more than one if it is laced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) track: u64,
    /// The time in the file's own unit.
    pub(super) at: i64,
    /// It can be decoded without any other frame.
    pub(super) key: bool,
    pub(super) laced: bool,
    pub(super) data: Range<u64>,
}

/// A piece of a file on the way through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// The start of the contents of a segment.
    Segment(u64),
    /// The start of a cluster.
    Cluster(u64),
    Block(Block),
    /// Any other element, with the range of its contents.
    Element(u32, Range<u64>),
}

/// Reads a file element by element. Segments and clusters are entered; their length may be unknown, as in
/// live recordings.
pub(super) struct Walk<'a, 's> {
    source: &'a mut Source<'s>,
    at: u64,
    /// The time of the current cluster.
    time: i64,
    /// Number of elements that may still be read.
    left: u32,
}

impl<'a, 's> Walk<'a, 's> {
    pub(super) fn new(source: &'a mut Source<'s>) -> Self {
        Self { source, at: 0, time: 0, left: MAX_ELEMENTS }
    }

    /// Continues at another offset.
    pub(super) fn go(&mut self, at: u64) {
        self.at = at;
    }

    /// Returns `true` at the end of the file.
    pub(super) fn at_end(&self) -> bool {
        self.at >= self.source.len()
    }

    /// The contents of an element, or nothing if it has more than `most` bytes.
    pub(super) fn contents(&mut self, place: Range<u64>, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if place.end - place.start <= most {
            self.source.append(place.start, (place.end - place.start) as usize, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// The next block of a track.
    pub(super) fn block(&mut self, track: u64) -> io::Result<Option<Block>> {
        while let Some(piece) = self.next()? {
            if let Piece::Block(block) = piece
                && block.track == track
            {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    /// The next piece; `None` at the end, and before an element that makes no sense.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece>> {
        while let Some((head, bytes)) = self.head()? {
            let begin = self.at;
            let start = begin + head.length;
            match (head.id, head.size) {
                (id::SEGMENT, _) => {
                    self.at = start;
                    return Ok(Some(Piece::Segment(start)));
                }
                (id::CLUSTER, _) => {
                    self.at = start;
                    return Ok(Some(Piece::Cluster(begin)));
                }
                (_, None) => break,
                // A concatenated second file counts its times from zero again.
                (id::EBML, _) if begin > 0 => break,
                (kind, Some(size)) => {
                    let Some(end) = start.checked_add(size) else { break };
                    self.at = end;
                    if end > self.source.len() {
                        break;
                    }
                    match kind {
                        id::TIMESTAMP => self.time = uint(&bytes[..bytes.len().min(size as usize)]) as i64,
                        id::SIMPLE_BLOCK => {
                            let Some(block) = self.parsed(&bytes, start..end) else { break };
                            return Ok(Some(Piece::Block(block)));
                        }
                        id::BLOCK_GROUP => {
                            if let Some(block) = self.group(start..end)? {
                                return Ok(Some(Piece::Block(block)));
                            }
                        }
                        kind => return Ok(Some(Piece::Element(kind, start..end))),
                    }
                }
            }
        }
        Ok(None)
    }

    /// The head of the current element, and the first bytes of its contents.
    fn head(&mut self) -> io::Result<Option<(Head, Vec<u8>)>> {
        self.left = self.left.saturating_sub(1);
        let (bytes, got) = self.source.at::<32>(self.at)?;
        let head = ebml::head(&bytes[..got]).filter(|_| self.left > 0);
        Ok(head.map(|head| (head, bytes[..got].get(head.length as usize..).unwrap_or_default().to_vec())))
    }

    fn parsed(&self, bytes: &[u8], place: Range<u64>) -> Option<Block> {
        let (track, length) = ebml::number(bytes)?;
        let &[high, low, flags] = bytes.get(length..)?.first_chunk()?;
        let start = place.start + length as u64 + 3;
        let at = self.time.checked_add(i16::from_be_bytes([high, low]).into())?;
        let (key, laced) = (flags & 0x80 != 0, flags & 0x06 != 0);
        (start <= place.end).then_some(Block { track: track?, at, key, laced, data: start..place.end })
    }

    /// A block with references to the frames that it needs; without any it is a key frame.
    fn group(&mut self, place: Range<u64>) -> io::Result<Option<Block>> {
        let (mut block, mut key) = (None, true);
        self.at = place.start;
        while self.at < place.end
            && let Some((head, bytes)) = self.head()?
        {
            let start = self.at + head.length;
            let Some(end) = head.size.and_then(|size| start.checked_add(size)) else { break };
            match head.id {
                id::BLOCK if end <= place.end => block = self.parsed(&bytes, start..end),
                id::REFERENCE => key = false,
                _ => {}
            }
            self.at = end;
        }
        self.at = place.end;
        Ok(block.map(|block| Block { key, ..block }))
    }
}
