//! GIF.

use std::io::Cursor;

use super::animation::Animation;
use super::decoded::{Decoded, read};
use super::extent::Extent;
use crate::media::bytes::le16;
use crate::media::error::Error;
use crate::media::exif::Exif;
use crate::media::limits::Limits;

/// Reads the header from the first bytes of the file.
pub(crate) fn extent(head: &[u8]) -> Option<Extent> {
    let (width, height) = (le16(head, 6)?, le16(head, 8)?);
    // The screen, and one frame at any place on it, both with alpha.
    Extent::new(width.into(), height.into(), 8)
}

/// Decodes the first frame.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Decoded, Error> {
    let decoder = image::codecs::gif::GifDecoder::new(Cursor::new(bytes)).map_err(Error::decoder)?;
    Ok(Decoded::new(read(decoder, limits)?, Exif::default(), Some(animation(bytes))))
}

/// Counts the frames up to the end of the file or the first block that makes no sense, without decoding them.
fn animation(bytes: &[u8]) -> Animation {
    let mut animation = Animation::default();
    count_frames(bytes, &mut animation);
    animation
}

fn count_frames(bytes: &[u8], animation: &mut Animation) -> Option<()> {
    let table = |flags: u8| if flags & 0x80 != 0 { 3 << ((flags & 7) + 1) } else { 0 };
    let mut at = 13 + table(*bytes.get(10)?);
    let mut delay = 0;
    loop {
        match *bytes.get(at)? {
            0x21 => {
                if *bytes.get(at + 1)? == 0xf9 {
                    delay = u64::from(le16(bytes, at + 4)?);
                }
                at = after_sub_blocks(bytes, at + 2)?;
            }
            0x2c => {
                let flags = *bytes.get(at + 9)?;
                // Viewers show a frame without a sensible delay for a tenth of a second.
                animation.add_frame(if delay < 2 { 100 } else { delay * 10 });
                delay = 0;
                at = after_sub_blocks(bytes, at + 11 + table(flags))?;
            }
            _ => return None,
        }
    }
}

fn after_sub_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            size => at += 1 + usize::from(size),
        }
    }
}
