//! The places of the frames of a video in its file.

use std::ops::Range;

use super::track::Track;

/// The index of a video, as its file has it or as it was collected from the blocks of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Index {
    pub(crate) track: Track,
    pub(super) container: Container,
    /// Ticks a second.
    pub(super) timescale: u32,
    /// The part that is shown, in ticks.
    pub(super) shown: Range<i64>,
    /// The frames that are in the file, in decoding order.
    pub(super) samples: Vec<Sample>,
}

/// The description of the frames for a decoder, as the container has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Container {
    /// MP4 or QuickTime, with the whole box `stsd`.
    Mp4(Vec<u8>),
    /// Matroska or WebM, with the contents and the number of the track's entry.
    Matroska { entry: Vec<u8>, number: u8 },
}

/// A coded frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) offset: u64,
    pub(super) size: u32,
    /// It can be decoded without any other frame.
    pub(super) key: bool,
    /// When it is shown, in ticks.
    pub(super) at: i64,
}
