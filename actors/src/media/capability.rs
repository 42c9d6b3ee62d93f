//! Which formats this build and this machine can decode: the one table by which files are refused and that
//! people see.

use super::error::{Error, ErrorKind};
use super::format::{Format, Kind};
use super::video::ffmpeg::{Missing, Programs};

/// Whether files of one format can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// The format.
    pub format: Format,
    /// `None` if the format can be decoded; otherwise what is missing and what to do, in lower case without a
    /// full stop.
    pub missing: Option<&'static str>,
}

/// Every known format, and whether this build can decode it with the programs that are on `PATH` now.
pub fn capabilities() -> Vec<Capability> {
    let programs = Programs::find().err();
    Format::ALL.into_iter().map(|format| Capability { format, missing: missing(format, programs) }).collect()
}

fn missing(format: Format, program: Option<Missing>) -> Option<&'static str> {
    match format {
        Format::Jpeg
        | Format::Png
        | Format::Webp
        | Format::Gif
        | Format::Tiff
        | Format::Bmp
        | Format::Jxl
        | Format::Raw => None,
        Format::Heic if cfg!(feature = "heic") => None,
        Format::Heic => Some("this program was built without the feature heic: convert the picture to JPEG"),
        Format::Avif => Some("this build has no AVIF decoder: convert the picture to JPEG"),
        Format::Mp4
        | Format::Mov
        | Format::Avi
        | Format::Webm
        | Format::Mpeg
        | Format::Flv
        | Format::Mkv
        | Format::Wmv
        | Format::Ogv
        | Format::Dv
        | Format::Mxf
        | Format::Rm => program.map(Missing::sentence),
    }
}

/// Refuses a format that cannot be decoded according to [`capabilities`].
pub(super) fn check(format: Format) -> Result<(), Error> {
    let (noun, program) = match format.kind() {
        Kind::Image => ("picture", None),
        Kind::Video => ("video", Programs::find().err()),
    };
    let Some(missing) = missing(format, program) else { return Ok(()) };
    Err(Error::new(ErrorKind::Unsupported, format!("cannot decode {} {noun}s, {missing}", format.name())))
}
