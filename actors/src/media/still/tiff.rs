//! TIFF.

use std::io::Cursor;

use image::{ImageDecoder, codecs::tiff::TiffDecoder};

use super::decoded::{Decoded, read};
use super::extent::Extent;
use crate::media::error::{Error, ErrorKind};
use crate::media::exif;
use crate::media::limits::Limits;
use crate::media::source::Source;

/// Reads the header. Returns `None` if it makes no sense.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for colours that are not decoded, and an error if the file cannot be read.
pub(crate) fn extent(source: &mut Source<'_>) -> Result<Option<Extent>, Error> {
    let len = source.len();
    let reader = source.rewound().map_err(Error::unreadable)?;
    let decoder = match TiffDecoder::new(reader) {
        Ok(decoder) => decoder,
        Err(image::ImageError::Unsupported(_)) => {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "cannot decode this kind of TIFF, its colours are stored in a rare way: save it as RGB",
            ));
        }
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
    Ok(extent.map(|it| Extent { decoder_bytes: it.decoder_bytes.saturating_add(len), ..it }))
}

/// Decodes the first picture.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, Error> {
    let exif = exif::read(bytes);
    let mut decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(Error::decoder)?;
    let profile = decoder.icc_profile().unwrap_or_else(|_| Some(Vec::new()));
    Ok(Decoded::new(read(decoder, limits)?, exif, None).with_profile(profile.as_deref()))
}
