//! What this build can decode: the one list that the door refuses by and that people are shown.

use super::{Error, ErrorKind, Format, Kind};

/// Whether files of one format can be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// The format.
    pub format: Format,
    /// `None` if it can be decoded; else what is missing and what helps, in lower case without a full stop.
    pub missing: Option<&'static str>,
}

/// Every known format, and whether this build decodes it.
pub fn capabilities() -> Vec<Capability> {
    Format::ALL.into_iter().map(|format| Capability { format, missing: missing(format) }).collect()
}

fn missing(format: Format) -> Option<&'static str> {
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
            Some("this build cannot read videos: take a still picture from it")
        }
    }
}

/// Refuses a format that [`capabilities`] says cannot be decoded.
pub(super) fn check(format: Format) -> Result<(), Error> {
    let Some(missing) = missing(format) else { return Ok(()) };
    let noun = match format.kind() {
        Kind::Image => "picture",
        Kind::Video => "video",
    };
    Err(Error::new(ErrorKind::Unsupported, format!("cannot decode {} {noun}s, {missing}", format.name())))
}
