//! Which frames of a video are wanted.

use std::ops::Range;

/// Most frames of a video that a provider sees.
pub(crate) const MAX_FRAMES: usize = 10;
/// Up to this many seconds all key frames are considered; of a longer video only some.
pub(super) const SHORT_S: f64 = 60.0;
/// Fewer bytes a second than any video has. Below this, the duration that the file names is wrong.
pub(super) const LEAST_BYTES_PER_S: f64 = 400.0;
/// Most frames that are decoded to get the wanted ones: two minutes at 25 a second.
pub(super) const MAX_DECODED: usize = 3000;
/// Number of frames after a wanted one that are included, in case the decoder leaves out the wanted one.
pub(super) const SPARE: usize = 4;

/// The number of frames that are wanted of a video of a duration.
pub(super) fn wanted(seconds: f64) -> usize {
    (seconds.ceil() as usize).clamp(1, MAX_FRAMES)
}

/// Cuts the shown time into `count` spans, in ticks; one frame is wanted from each. A span has at least one
/// second, and the last ones may be empty.
pub(super) fn spans(shown: &Range<i64>, timescale: u32, count: usize) -> Vec<(i64, i64)> {
    let (start, end) = (i128::from(shown.start), i128::from(shown.end));
    let (second, count) = (i128::from(timescale), count as i128);
    let edge = |n: i128| (start + (second * n).max((end - start) * n / count)).min(end) as i64;
    (0..count).map(|n| (edge(n), edge(n + 1))).collect()
}
