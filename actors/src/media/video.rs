//! Videos.
//!
//! ```text
//! file -> mp4 (boxes) or matroska (ebml, blocks) -> index -> excerpt -> mux --pipe--> ffmpeg -> frames
//! file -> probe (ffprobe) ----------------------------------------------------------> ffmpeg -> frames
//! ```

mod blocks;
mod confined;
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

use std::io;

use super::source::Source;
use excerpt::Excerpt;

pub(super) use index::Index;
pub use prepare::{open_video, prepare_video, prepare_video_by_ffmpeg};
pub(super) use sampling::MAX_FRAMES;

/// Reads an MP4 and makes the excerpt of it. Only for `fuzzing`.
pub(super) fn read_mp4(source: &mut Source<'_>) -> io::Result<String> {
    match mp4::read(source)? {
        mp4::Reading::Index(index) => excerpt_of(&index, source),
        other => Ok(format!("{other:?}")),
    }
}

/// Reads a Matroska file and makes the excerpt of it. Only for `fuzzing`.
pub(super) fn read_matroska(source: &mut Source<'_>) -> io::Result<String> {
    matroska::read(source)?.map_or(Ok("nothing".into()), |index| excerpt_of(&index, source))
}

fn excerpt_of(index: &Index, source: &mut Source<'_>) -> io::Result<String> {
    let excerpt = Excerpt::choose(index, MAX_FRAMES);
    let bytes = excerpt.map(|excerpt| mux::write(&excerpt, index, source)).transpose()?;
    Ok(format!("{:?} {:?} {:?}", index.track, index.samples.len(), bytes.map(|it| it.len())))
}
