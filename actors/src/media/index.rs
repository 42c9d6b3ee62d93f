//! Where the frames of a video lie in its file.

use std::ops::Range;

use super::track::Track;

/// What the index of a video says, or what was found by looking through it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Index {
    pub(super) track: Track,
    pub(super) container: Container,
    /// Ticks a second.
    pub(super) timescale: u32,
    /// The part that is shown, in ticks.
    pub(super) shown: Range<i64>,
    /// The frames that lie in the file, in the order in which they are decoded.
    pub(super) samples: Vec<Sample>,
}

/// What a decoder has to know of the frames, as the container has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Container {
    /// MP4 or QuickTime, with the whole box `stsd`.
    Mp4(Vec<u8>),
    /// Matroska or WebM, with the contents of the track's entry, and its number.
    Matroska { entry: Vec<u8>, number: u8 },
}

/// A coded frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) offset: u64,
    pub(super) size: u32,
    /// It can be decoded without any other.
    pub(super) key: bool,
    /// When it is shown, in ticks.
    pub(super) at: i64,
}
