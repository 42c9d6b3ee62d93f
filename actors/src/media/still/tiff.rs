//! TIFF: by the crate `image`, and the codings and colours that it refuses by `rare`.

pub(crate) mod rare;

use std::io::Cursor;

use image::{ImageDecoder, codecs::tiff::TiffDecoder};

use super::decoded::{Decoded, read};
use super::extent::Extent;
use crate::media::colour_space::ToSrgb;
use crate::media::error::Error;
use crate::media::exif;
use crate::media::limits::Limits;
use crate::media::pixels::Pixels;
use crate::media::source::Source;

/// Who decodes a TIFF.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tiff {
    /// The crate `image`.
    Common(Extent),
    Rare(Box<rare::Layout>),
}

impl Tiff {
    pub(crate) fn extent(&self) -> Extent {
        match self {
            Self::Common(extent) => *extent,
            Self::Rare(layout) => layout.extent(),
        }
    }
}

/// Reads the header. Returns `None` if it makes no sense.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::media::ErrorKind::Unsupported) for codings and colours that are not
/// decoded, and an error if the file cannot be read.
pub(crate) fn header(source: &mut Source<'_>) -> Result<Option<Tiff>, Error> {
    let rare = |source: &mut Source<'_>| {
        let layout = rare::layout(source).map_err(Error::unreadable)??;
        Ok(layout.map(|it| Tiff::Rare(Box::new(it))))
    };
    let len = source.len();
    if rare::is_rare(source).map_err(Error::unreadable)? {
        return rare(source);
    }
    let reader = source.rewound().map_err(Error::unreadable)?;
    let decoder = match TiffDecoder::new(reader) {
        Ok(decoder) => decoder,
        Err(image::ImageError::Unsupported(_)) => return rare(source),
        Err(
            image::ImageError::Decoding(_)
            | image::ImageError::Encoding(_)
            | image::ImageError::Parameter(_)
            | image::ImageError::Limits(_)
            | image::ImageError::IoError(_),
        ) => return Ok(None),
    };
    let (width, height) = decoder.dimensions();
    // The decoder fills a buffer of its own, with four channels for CMYK, and copies it; compressed strips
    // are read whole.
    let channels = u64::from(decoder.color_type().bytes_per_pixel());
    let inner = channels.max(u64::from(decoder.original_color_type().bits_per_pixel().div_ceil(8)));
    let extent = Extent::new(width, height, channels + inner);
    let held = |it: Extent| Extent { decoder_bytes: it.decoder_bytes.saturating_add(len), ..it };
    Ok(extent.map(|it| Tiff::Common(held(it))))
}

/// Decodes the strips and tiles that there are. The crate `image` gives nothing of a file that is cut short.
fn salvaged(bytes: &[u8], extent: &Extent) -> Option<Pixels> {
    let mut reader = Cursor::new(bytes);
    let layout = rare::layout(&mut Source::new(&mut reader, bytes.len() as u64)).ok()?.ok()??;
    let needed = layout.extent();
    let same = (needed.width, needed.height) == (extent.width, extent.height);
    if !same || needed.decoder_bytes > extent.decoder_bytes {
        return None;
    }
    rare::decode(bytes, &layout, false).ok().map(|(pixels, _)| pixels)
}

/// Decodes the first picture. If the file ends early or breaks, the strips and tiles that there are are used.
pub(crate) fn decode(bytes: &[u8], tiff: &Tiff, limits: &Limits) -> Result<Decoded, Error> {
    let exif = exif::read(bytes);
    match tiff {
        Tiff::Common(extent) => {
            let mut decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(Error::decoder)?;
            let profile = decoder.icc_profile().unwrap_or_else(|_| Some(Vec::new()));
            let (pixels, damaged) = match read(decoder, limits) {
                Ok(pixels) => (pixels, false),
                Err(error) => (salvaged(bytes, extent).ok_or(error)?, true),
            };
            Ok(Decoded { damaged, ..Decoded::new(pixels, exif, None).with_profile(profile.as_deref()) })
        }
        Tiff::Rare(layout) => {
            let channels = layout.channels();
            let colour =
                layout.profile().map_or(Ok(ToSrgb::Unchanged), |it| ToSrgb::by_profile(it, channels));
            // Without a sound profile ink becomes what it is called.
            let keep_ink = matches!(colour, Ok(ToSrgb::Icc(_)));
            let (pixels, damaged) = rare::decode(bytes, layout, keep_ink)?;
            Ok(Decoded { damaged, ..Decoded::new(pixels, exif, None).with_colour(colour) })
        }
    }
}
