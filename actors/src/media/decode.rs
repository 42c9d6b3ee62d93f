//! Decodes a still picture.

use super::error::Error;
use super::header::{Detail, Header, Still};
#[cfg(feature = "heic")]
use super::heif;
use super::limits::Limits;
use super::raw;
use super::still::{Decoded, bmp, gif, jpeg, jxl, png, tiff, webp};

/// Decodes a file by the header that was inspected at the door.
pub(super) fn decode(bytes: &[u8], header: &Header, limits: &Limits) -> Result<Decoded, Error> {
    let still = match &header.detail {
        Detail::Picture(still) => still,
        Detail::Mp4(_) | Detail::Matroska | Detail::OtherVideo => {
            return Err(Error::broken("it is a video"));
        }
    };
    let decoded = match still {
        Still::Jpeg(frame) => jpeg::decode(bytes, frame)?,
        Still::Png => png::decode(bytes)?,
        Still::Webp(chunks) => webp::decode(bytes, chunks, limits)?,
        Still::Gif => gif::decode(bytes, limits)?,
        Still::Bmp => bmp::decode(bytes, limits)?,
        Still::Tiff(tiff) => tiff::decode(bytes, tiff, limits)?,
        Still::Jxl(jxl) => jxl::decode(bytes, jxl, limits)?,
        Still::Raw(raw) => raw::decode(bytes, raw)?,
        #[cfg(feature = "heic")]
        Still::Heic(composition) => heif::decode(bytes, composition)?,
    };
    let (width, height) = (decoded.pixels.width, decoded.pixels.height);
    if (width, height) != (header.width, header.height) {
        return Err(Error::broken("the picture has another size than its header says"));
    }
    Ok(decoded)
}
