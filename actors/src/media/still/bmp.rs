//! Windows bitmaps.

use std::io::Cursor;

use super::decoded::{Decoded, read};
use super::extent::Extent;
use crate::media::bytes::{le16, le32};
use crate::media::error::Error;
use crate::media::exif::Exif;
use crate::media::limits::Limits;

/// Reads the header from the first bytes of the file.
pub(crate) fn extent(head: &[u8]) -> Option<Extent> {
    let (width, height) = match le32(head, 14) {
        Some(12) => (u32::from(le16(head, 18)?), u32::from(le16(head, 20)?)),
        // The height is signed; if it is negative, the first row is the top one.
        _ => (le32(head, 18)?, (le32(head, 22)? as i32).unsigned_abs()),
    };
    Extent::new(width, height, 4)
}

/// Decodes a picture.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, Error> {
    let decoder = image::codecs::bmp::BmpDecoder::new(Cursor::new(bytes)).map_err(Error::decoder)?;
    Ok(Decoded::new(read(decoder, limits)?, Exif::default(), None))
}
