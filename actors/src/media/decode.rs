//! Decodes a still picture.

use super::error::Error;
use super::header::{Detail, Header};
#[cfg(feature = "heic")]
use super::heif;
use super::limits::Limits;
use super::still::{Decoded, bmp, gif, jpeg, png, tiff, webp};

/// Decodes a file by the header that was inspected at the door.
pub(super) fn decode(bytes: &[u8], header: &Header, limits: &Limits) -> Result<Decoded, Error> {
    let decoded = match &header.detail {
        Detail::Jpeg(frame) => jpeg::decode(bytes, frame)?,
        Detail::Png => png::decode(bytes)?,
        Detail::Webp(chunks) => webp::decode(bytes, chunks, limits)?,
        Detail::Gif => gif::decode(bytes, limits)?,
        Detail::Bmp => bmp::decode(bytes, limits)?,
        Detail::Tiff => tiff::decode(bytes, limits)?,
        #[cfg(feature = "heic")]
        Detail::Heic(composition) => {
            let exif = heif::exif(bytes, composition);
            Decoded::new(heif::decode(bytes, composition)?, exif, None)
        }
        Detail::Video(_) => return Err(Error::broken("it is a video")),
    };
    let (width, height) = (decoded.pixels.width, decoded.pixels.height);
    if (width, height) != (header.width, header.height) {
        return Err(Error::broken("the picture has another size than its header says"));
    }
    Ok(decoded)
}
