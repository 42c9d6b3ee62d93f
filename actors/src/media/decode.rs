//! Decodes a still picture.

use super::contents::Contents;
use super::error::Error;
use super::header::{Detail, Header, Still};
#[cfg(feature = "heic")]
use super::heif;
use super::limits::Limits;
use super::raw;
use super::still::{Decoded, bmp, gif, jpeg, jxl, png, tiff, webp};

/// Decodes a file by the header that was inspected at the door. A picture that is much larger than `least` may
/// be reduced while it is decoded, to sides that are no shorter than these.
pub(super) fn decode(
    contents: &mut Contents<'_>,
    header: &Header,
    limits: &Limits,
    least: (u32, u32),
) -> Result<Decoded, Error> {
    let still = match &header.detail {
        Detail::Picture(still) => still,
        Detail::Mp4(_) | Detail::Matroska | Detail::OtherVideo => {
            return Err(Error::broken("it is a video"));
        }
    };
    let decoded = match still {
        Still::Jpeg(frame) => return jpeg::decode(contents, frame, least),
        Still::Png(header) => return png::decode(contents, header, least),
        Still::Raw(raw) => return raw::decode(&contents.whole()?, raw, least),
        Still::Webp(chunks) => webp::decode(&contents.whole()?, chunks, limits)?,
        Still::Gif => gif::decode(&contents.whole()?)?,
        Still::Bmp => bmp::decode(&contents.whole()?, limits)?,
        Still::Tiff(tiff) => tiff::decode(&contents.whole()?, tiff, limits)?,
        Still::Jxl(jxl) => jxl::decode(&contents.whole()?, jxl, limits)?,
        #[cfg(feature = "heic")]
        Still::Heic(composition) => heif::decode(&contents.whole()?, composition)?,
    };
    let (width, height) = (decoded.pixels.width, decoded.pixels.height);
    if (width, height) != (header.width, header.height) {
        return Err(Error::broken("the picture has another size than its header says"));
    }
    Ok(decoded)
}
