//! What this build and this machine can decode: the one list that the door refuses by and that people are shown.

use super::ffmpeg::Programs;
use super::{Error, ErrorKind, Format, Kind};

/// Whether files of one format can be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// The format.
    pub format: Format,
    /// `None` if it can be decoded; else what is missing and what helps, in lower case without a full stop.
    pub missing: Option<&'static str>,
}

/// Every known format, and whether this build decodes it, with the programs that are on `PATH` now.
pub fn capabilities() -> Vec<Capability> {
    let programs = Programs::find().err();
    Format::ALL.into_iter().map(|format| Capability { format, missing: missing(format, programs) }).collect()
}

/// What to say of a program that is not there.
pub(super) fn missing_program(name: &str) -> &'static str {
    match name {
        "ffprobe" => "ffprobe is not on PATH: install the package ffmpeg",
        _ => "ffmpeg is not on PATH: install the package ffmpeg",
    }
}

fn missing(format: Format, program: Option<&'static str>) -> Option<&'static str> {
    match format {
        Format::Jpeg
        | Format::Png
        | Format::Webp
        | Format::Gif
        | Format::Tiff
        | Format::Bmp
        | Format::Heic => None,
        Format::Avif => Some("this build has no AVIF decoder: convert the picture to JPEG"),
        Format::Mp4 | Format::Mov | Format::Avi | Format::Webm | Format::Mpeg | Format::Flv | Format::Mkv => {
            program.map(missing_program)
        }
    }
}

/// Refuses a format that [`capabilities`] says cannot be decoded.
pub(super) fn check(format: Format) -> Result<(), Error> {
    let program = if format.kind() == Kind::Video { Programs::find().err() } else { None };
    let Some(missing) = missing(format, program) else { return Ok(()) };
    let noun = match format.kind() {
        Kind::Image => "picture",
        Kind::Video => "video",
    };
    Err(Error::new(ErrorKind::Unsupported, format!("cannot decode {} {noun}s, {missing}", format.name())))
}
