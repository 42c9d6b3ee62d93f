//! Videos.
//!
//! ```text
//! file -> mp4 (boxes) or matroska (ebml, blocks) -> index -> excerpt -> mux --pipe--> ffmpeg -> frames
//! file -> probe (ffprobe) ----------------------------------------------------------> ffmpeg -> frames
//! ```

mod blocks;
mod ebml;
mod excerpt;
pub(super) mod ffmpeg;
mod frame_colours;
mod frames;
mod index;
mod job;
mod matroska;
pub(super) mod mp4;
mod mux;
mod prepare;
mod probe;
mod sampling;
mod track;

pub(super) use index::Index;
pub use prepare::{prepare_video, prepare_video_by_ffmpeg};
pub(super) use sampling::MAX_FRAMES;
