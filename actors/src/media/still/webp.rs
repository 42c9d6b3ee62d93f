//! WebP.

use std::io::{self, Cursor};
use std::ops::Range;

use super::animation::Animation;
use super::decoded::{Decoded, read};
use super::extent::Extent;
use crate::media::bytes::{le16, le24, le32};
use crate::media::error::Error;
use crate::media::exif;
use crate::media::limits::Limits;
use crate::media::source::Source;

/// Most chunks that are read. Only animations have more, of which the rest is not counted.
const MAX_CHUNKS: usize = 65_536;

/// The contents of the chunks' headers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Chunks {
    width: u32,
    height: u32,
    alpha: bool,
    lossless: bool,
    /// Pixels of the largest frame of an animation.
    frame_pixels: u64,
    animation: Option<Animation>,
    /// The range of the EXIF data in the file.
    exif: Option<Range<u64>>,
    /// The range of the colour profile in the file.
    profile: Option<Range<u64>>,
}

impl Chunks {
    pub(crate) fn extent(&self) -> Extent {
        let pixels = u64::from(self.width) * u64::from(self.height);
        // In half bytes a pixel: the output, the YUV planes, alpha with its own lossless picture, the canvas.
        let halves = match (&self.animation, self.lossless, self.alpha) {
            (Some(_), _, _) => 16,
            (None, true, false) => 16,
            (None, true, true) => 10,
            (None, false, false) => 9,
            (None, false, true) => 22,
        };
        let decoder_bytes = (pixels * halves + self.frame_pixels * 22) / 2;
        Extent { width: self.width, height: self.height, decoder_bytes }
    }
}

/// Decodes a picture, or the first frame of an animation.
pub(crate) fn decode(bytes: &[u8], chunks: &Chunks, limits: &Limits) -> Result<Decoded, Error> {
    // The decoder itself would first allocate whatever size the EXIF chunk claims.
    let contents = |range: &Range<u64>| {
        let start = usize::try_from(range.start).ok()?;
        let end = usize::try_from(range.end).ok()?.min(bytes.len());
        bytes.get(start..end)
    };
    let exif = chunks.exif.as_ref().and_then(contents).map(exif::read_block).unwrap_or_default();
    let profile = chunks.profile.as_ref().and_then(contents);
    let decoder = image::codecs::webp::WebPDecoder::new(Cursor::new(bytes)).map_err(Error::decoder)?;
    Ok(Decoded::new(read(decoder, limits)?, exif, chunks.animation).with_profile(profile))
}

/// Reads the headers of the chunks. Returns `None` if they make no sense, above all if a bitstream claims
/// another size than its frame: the decoder allocates by the bitstream before it compares.
pub(crate) fn chunks(source: &mut Source<'_>) -> io::Result<Option<Chunks>> {
    let mut chunks = Chunks::default();
    let mut extended = false;
    let mut at = 12;
    for _ in 0..MAX_CHUNKS {
        let (head, got) = source.at::<18>(at)?;
        if got < 8 {
            break;
        }
        let size = u64::from(le32(&head, 4).unwrap_or(0));
        let body = &head[8..got];
        match &head[..4] {
            b"VP8X" if at == 12 => {
                let (Some(flags), Some(w), Some(h)) = (body.first(), le24(body, 4), le24(body, 7)) else {
                    return Ok(None);
                };
                extended = true;
                chunks.alpha = flags & 0x10 != 0;
                chunks.animation = (flags & 2 != 0).then(Animation::default);
                (chunks.width, chunks.height) = (w + 1, h + 1);
            }
            fourcc @ (b"VP8 " | b"VP8L") if chunks.animation.is_none() => {
                let lossless = fourcc == b"VP8L";
                let Some((width, height, alpha)) = bitstream(lossless, body) else { return Ok(None) };
                chunks.lossless = lossless;
                if !extended {
                    (chunks.width, chunks.height, chunks.alpha) = (width, height, alpha);
                    break;
                }
                if (width, height) != (chunks.width, chunks.height) {
                    return Ok(None);
                }
            }
            b"ANMF" => {
                if let Some(animation) = &mut chunks.animation {
                    let (header, got) = source.at::<48>(at + 8)?;
                    let Some((pixels, duration)) = animation_frame(&header[..got], source, at + 24)? else {
                        return Ok(None);
                    };
                    chunks.frame_pixels = chunks.frame_pixels.max(pixels);
                    animation.add_frame(duration);
                }
            }
            b"ICCP" => chunks.profile = chunks.profile.or(Some(at + 8..at + 8 + size)),
            b"EXIF" => chunks.exif = chunks.exif.or(Some(at + 8..at + 8 + size)),
            _ => {}
        }
        at += 8 + size + size % 2;
    }
    Ok((chunks.width > 0 && chunks.height > 0).then_some(chunks))
}

/// Width, height and alpha from the head of a bitstream.
fn bitstream(lossless: bool, body: &[u8]) -> Option<(u32, u32, bool)> {
    if lossless {
        let bits = le32(body, 1).filter(|_| body.first() == Some(&0x2f))?;
        Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1, bits >> 28 & 1 == 1))
    } else {
        let size = |at| le16(body, at).map(|v| u32::from(v & 0x3fff)).filter(|&v| v > 0);
        Some((size(6)?, size(8)?, false))
    }
}

/// Pixels and milliseconds of a frame by its header. Returns `None` if its bitstream claims another size.
fn animation_frame(header: &[u8], source: &mut Source<'_>, mut at: u64) -> io::Result<Option<(u64, u64)>> {
    let (Some(w), Some(h), Some(ms)) = (le24(header, 6), le24(header, 9), le24(header, 12)) else {
        return Ok(None);
    };
    let (w, h) = (w + 1, h + 1);
    // Alpha may precede the bitstream.
    for _ in 0..2 {
        let (head, got) = source.at::<18>(at)?;
        let size = u64::from(le32(&head, 4).unwrap_or(0));
        match &head[..4] {
            fourcc @ (b"VP8 " | b"VP8L") => {
                let same = bitstream(fourcc == b"VP8L", &head[8.min(got)..got])
                    .is_some_and(|(width, height, _)| (width, height) == (w, h));
                return Ok(same.then_some((u64::from(w) * u64::from(h), u64::from(ms))));
            }
            b"ALPH" => at += 8 + size + size % 2,
            _ => break,
        }
    }
    // The decoder refuses a frame without a bitstream before it allocates.
    Ok(Some((0, u64::from(ms))))
}
