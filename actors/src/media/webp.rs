//! WebP's chunks: the sizes that they claim, the frames of an animation, and where the EXIF data lie.

use std::io;
use std::ops::Range;

use super::animation::Animation;
use super::bytes::{le16, le24, le32};
use super::source::Source;

/// More chunks than the header of any picture has; animations may have more, which are then not counted.
const MAX_CHUNKS: usize = 65_536;

/// What the chunks of a WebP say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) alpha: bool,
    pub(super) lossless: bool,
    /// The largest frame of an animation, in pixels.
    pub(super) frame_pixels: u64,
    pub(super) animation: Option<Animation>,
    pub(super) exif: Option<Range<u64>>,
}

/// Reads the chunks' headers. `None` if they make no sense, above all if a bitstream claims another size than its
/// frame: the decoder allocates by the bitstream before it compares.
pub(super) fn layout(source: &mut Source<'_>) -> io::Result<Option<Layout>> {
    let mut layout = Layout::default();
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
                layout.alpha = flags & 0x10 != 0;
                layout.animation = (flags & 2 != 0).then(Animation::default);
                (layout.width, layout.height) = (w + 1, h + 1);
            }
            fourcc @ (b"VP8 " | b"VP8L") if layout.animation.is_none() => {
                let lossless = fourcc == b"VP8L";
                let Some((width, height, alpha)) = bitstream(lossless, body) else { return Ok(None) };
                layout.lossless = lossless;
                if !extended {
                    (layout.width, layout.height, layout.alpha) = (width, height, alpha);
                    break;
                }
                if (width, height) != (layout.width, layout.height) {
                    return Ok(None);
                }
            }
            b"ANMF" => {
                if let Some(animation) = &mut layout.animation {
                    let (header, got) = source.at::<48>(at + 8)?;
                    let Some((pixels, duration)) = animation_frame(&header[..got], source, at + 24)? else {
                        return Ok(None);
                    };
                    layout.frame_pixels = layout.frame_pixels.max(pixels);
                    animation.add_frame(duration);
                }
            }
            b"EXIF" => layout.exif = layout.exif.or(Some(at + 8..at + 8 + size)),
            _ => {}
        }
        at += 8 + size + size % 2;
    }
    Ok((layout.width > 0 && layout.height > 0).then_some(layout))
}

/// Width, height and alpha as the head of a bitstream gives them.
fn bitstream(lossless: bool, body: &[u8]) -> Option<(u32, u32, bool)> {
    if lossless {
        let bits = le32(body, 1).filter(|_| body.first() == Some(&0x2f))?;
        Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1, bits >> 28 & 1 == 1))
    } else {
        let size = |at| le16(body, at).map(|v| u32::from(v & 0x3fff)).filter(|&v| v > 0);
        Some((size(6)?, size(8)?, false))
    }
}

/// Pixels and milliseconds of the frame whose header this is; `None` if its bitstream claims another size.
fn animation_frame(header: &[u8], source: &mut Source<'_>, mut at: u64) -> io::Result<Option<(u64, u64)>> {
    let (Some(w), Some(h), Some(ms)) = (le24(header, 6), le24(header, 9), le24(header, 12)) else {
        return Ok(None);
    };
    let (w, h) = (w + 1, h + 1);
    // Alpha may stand before the bitstream.
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
    // No bitstream: the decoder refuses it before it allocates.
    Ok(Some((0, u64::from(ms))))
}
