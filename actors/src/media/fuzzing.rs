//! The readers of file structures, each alone, for `tests/fuzz.rs`. Nothing else calls this.

use std::fmt::Write as _;
use std::io::Cursor;

use super::embedded;
use super::exif;
use super::format::{Format, SNIFF_BYTES};
#[cfg(feature = "heic")]
use super::heif;
use super::iptc;
use super::raw;
use super::source::Source;
use super::takeout;
use super::video;
use super::xmp;

/// A reader of files that come from anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The index of MP4 and QuickTime, with the excerpt that is made by it.
    Mp4,
    /// Matroska and WebM, with the excerpt.
    Matroska,
    /// The composition and the metadata of HEIC.
    Heif,
    /// A block of EXIF data.
    Exif,
    /// Raw files of cameras.
    Raw,
    /// A document of XMP, which must be the same when it is written again.
    Xmp,
    /// Captions, alone and among resources.
    Iptc,
    /// The metadata in JPEG, PNG, WebP, TIFF and JPEG XL.
    Embedded,
    /// The JSON of Google Takeout, and names of photos.
    Takeout,
}

impl Reader {
    /// Reads bytes. Returns the result as text, so that two results can be compared.
    ///
    /// # Panics
    /// If the reader has a fault.
    pub fn read(self, bytes: &[u8]) -> String {
        let mut cursor = Cursor::new(bytes);
        let source = &mut Source::new(&mut cursor, bytes.len() as u64);
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = match self {
            Self::Mp4 => write!(text, "{:?}", video::read_mp4(source)),
            Self::Matroska => write!(text, "{:?}", video::read_matroska(source)),
            #[cfg(feature = "heic")]
            Self::Heif => write!(text, "{:?} {:?}", heif::composition(source), heif::metadata(source)),
            #[cfg(not(feature = "heic"))]
            Self::Heif => Ok(()),
            Self::Exif => write!(text, "{:?}", exif::read_block(bytes)),
            Self::Raw => write!(text, "{:?}", raw::find(source)),
            Self::Xmp => write!(
                text,
                "{:?}",
                xmp::Document::read(bytes).map(|document| {
                    assert!(document.to_bytes() == bytes, "a document that is written again has other bytes");
                    xmp::origin(&document)
                })
            ),
            Self::Iptc => write!(text, "{:?} {:?}", iptc::read(bytes), iptc::in_resources(bytes)),
            Self::Embedded => {
                let format = Format::sniff(bytes.get(..SNIFF_BYTES).unwrap_or(bytes)).unwrap_or(Format::Tiff);
                write!(text, "{:?}", embedded::origins(source, format))
            }
            Self::Takeout => {
                let names = takeout::names(&String::from_utf8_lossy(bytes));
                assert!(names.len() <= 100, "{} names", names.len());
                write!(text, "{:?}", takeout::read(bytes))
            }
        };
        text
    }
}
