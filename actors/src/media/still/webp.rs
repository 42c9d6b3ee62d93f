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
use crate::media::pixels::Pixels;
use crate::media::source::Source;

/// Most of a file that may be missing, as a multiple of what there is.
const MAX_MISSING: u64 = 15;
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
    /// Bytes of the picture, or of the first frame, that the file does not have.
    missing: u64,
    /// Length of the file in bytes.
    len: u64,
    /// Where the chunk with the picture begins, if it is no animation.
    bitstream: Option<u64>,
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
        let mut decoder_bytes = (pixels * halves + self.frame_pixels * 22) / 2;
        if self.missing > 0 {
            // The result of another decode, and copies of the file with what is missing and more.
            let file = self.len.saturating_add(self.missing).saturating_add(1 << 16);
            decoder_bytes = decoder_bytes.saturating_add(pixels * 3).saturating_add(file.saturating_mul(6));
        }
        Extent { width: self.width, height: self.height, decoder_bytes }
    }
}

/// Decodes a picture, or the first frame of an animation.
///
/// If the file ends early, the rest is grey.
pub(crate) fn decode(bytes: &[u8], chunks: &Chunks, limits: &Limits) -> Result<Decoded, Error> {
    // The decoder itself would first allocate whatever size the EXIF chunk claims.
    let contents = |range: &Range<u64>| {
        let start = usize::try_from(range.start).ok()?;
        let end = usize::try_from(range.end).ok()?.min(bytes.len());
        bytes.get(start..end)
    };
    let exif = chunks.exif.as_ref().and_then(contents).map(exif::read_block).unwrap_or_default();
    let profile = chunks.profile.as_ref().and_then(contents);
    let damaged = chunks.missing > 0;
    let pixels = if damaged { salvaged(bytes, chunks, limits)? } else { pixels(bytes, limits)? };
    let decoded = Decoded::new(pixels, exif, chunks.animation).with_profile(profile);
    Ok(Decoded { damaged, ..decoded })
}

fn pixels(bytes: &[u8], limits: &Limits) -> Result<Pixels, Error> {
    let decoder = image::codecs::webp::WebPDecoder::new(Cursor::new(bytes)).map_err(Error::decoder)?;
    read(decoder, limits)
}

/// Decodes the part of a picture that there is. The decoder gives nothing of a file that is cut short, so it
/// gets two that are completed in different ways: the rows in which they agree are those of the picture.
fn salvaged(bytes: &[u8], chunks: &Chunks, limits: &Limits) -> Result<Pixels, Error> {
    // Not every completion can be decoded.
    let mut decoded = FILLINGS.iter().filter_map(|&it| pixels(&completed(bytes, chunks, it), limits).ok());
    let none = || Error::broken("the file ends before its picture");
    let mut first = decoded.next().ok_or_else(none)?;
    let Some(second) = decoded.next() else { return Ok(first) };
    let row = first.width as usize * first.channels;
    let rows = first.data.chunks_exact(row).zip(second.data.chunks_exact(row));
    let alike = rows.take_while(|(a, b)| a == b).count();
    if alike == 0 {
        return Err(none());
    }
    first.data[alike * row..].fill(128);
    Ok(first)
}

/// Bytes in place of those that are missing: a good part of them is decoded as colours.
const FILLINGS: [u8; 12] = [0x00, 0xaa, 0xff, 0x55, 0x33, 0xcc, 0x0f, 0xf0, 0x92, 0x6d, 0x24, 0xdb];

/// A copy of a file with other bytes in place of those that are missing, and more: they may code fewer pixels.
fn completed(bytes: &[u8], chunks: &Chunks, filling: u8) -> Vec<u8> {
    let mut completed = bytes.to_vec();
    // Metadata come behind the picture, and the decoder insists on those that are announced.
    if completed.get(12..16) == Some(b"VP8X")
        && let Some(flags) = completed.get_mut(20)
    {
        *flags &= !0x0c;
    }
    let mut more = chunks.missing + 1;
    if let Some(at) = chunks.bitstream {
        more += chunks.len + chunks.missing + (64 << 10);
        let size = (chunks.len + more).saturating_sub(at + 8) & !1;
        let field = usize::try_from(at + 4).ok().and_then(|at| completed.get_mut(at..at + 4));
        if let (Some(field), Ok(size)) = (field, u32::try_from(size)) {
            field.copy_from_slice(&size.to_le_bytes());
        }
    }
    completed.resize(completed.len() + usize::try_from(more).unwrap_or(0), filling);
    completed
}

/// Reads the headers of the chunks. Returns `None` if they make no sense, above all if a bitstream claims
/// another size than its frame: the decoder allocates by the bitstream before it compares.
pub(crate) fn chunks(source: &mut Source<'_>) -> io::Result<Option<Chunks>> {
    let mut chunks = Chunks { len: source.len(), ..Chunks::default() };
    let mut extended = false;
    let mut at = 12;
    let len = source.len();
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
                chunks.missing = (at + 8 + size).saturating_sub(len);
                chunks.bitstream = Some(at);
                if chunks.missing > MAX_MISSING * len {
                    return Ok(None);
                }
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
                    if !animation.has_frames() {
                        chunks.missing = (at + 8 + size).saturating_sub(len);
                        if chunks.missing > MAX_MISSING * len {
                            return Ok(None);
                        }
                    }
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
