//! JPEG's markers: what the frame header says, what the decode of it holds, and whether the file is all there.

use std::io;

use super::bytes::be16;
use super::source::Source;

/// More segments than any camera writes before the frame header; each costs a read.
const MAX_SEGMENTS: usize = 4096;

/// What stands in the frame header of a JPEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 grey, 3 colour, 4 CMYK.
    pub(super) components: u8,
    pub(super) progressive: bool,
    /// Blocks of 8 x 8 coefficients in all components.
    pub(super) blocks: u64,
    /// Bytes of metadata before the frame header, which the decoder copies.
    pub(super) metadata: u64,
}

/// What is to be found in place of a frame header that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// There is no frame header, or it makes no sense.
    NoFrame,
    /// A coding that is known but that no decoder here takes.
    Coding(&'static str),
}

/// Walks from segment to segment to the frame header.
pub(super) fn frame(source: &mut Source<'_>) -> io::Result<Result<Frame, Trouble>> {
    let (mut at, mut metadata) = (2, 0);
    for _ in 0..MAX_SEGMENTS {
        let Some([ff, marker, high, low]) = source.exactly::<4>(at)? else { break };
        let length = u64::from(u16::from_be_bytes([high, low]));
        match (ff, marker) {
            // Fill bytes may stand before a marker, and old encoders leave a stray byte between segments.
            (0xff, 0xff) | (0..0xff, _) => {
                at += 1;
                continue;
            }
            (0xff, 0xd8 | 0x01 | 0xd0..=0xd7) => {
                at += 2;
                continue;
            }
            (0xff, 0xc0..=0xc2) => {
                // A grey picture's header is shorter, but no picture ends that soon behind it.
                let Some(header) = source.exactly::<18>(at + 4)? else { break };
                if header[0] == 12 {
                    return Ok(Err(Trouble::Coding("a JPEG of 12 bits a channel")));
                }
                return Ok(frame_header(&header, marker == 0xc2, metadata).ok_or(Trouble::NoFrame));
            }
            (0xff, 0xc3) => return Ok(Err(Trouble::Coding("a lossless JPEG"))),
            (0xff, 0xc5..=0xc7 | 0xcd..=0xcf) => return Ok(Err(Trouble::Coding("a hierarchical JPEG"))),
            (0xff, 0xc9..=0xcb) => return Ok(Err(Trouble::Coding("an arithmetic-coded JPEG"))),
            (0xff, 0xf7) => return Ok(Err(Trouble::Coding("a JPEG-LS picture"))),
            // The picture's data or the end come before any frame.
            (0xff, 0xd9 | 0xda) => break,
            _ if length < 2 => break,
            (0xff, 0xe0..=0xef) => metadata += length,
            _ => {}
        }
        at += 2 + length;
    }
    Ok(Err(Trouble::NoFrame))
}

fn frame_header(header: &[u8; 18], progressive: bool, metadata: u64) -> Option<Frame> {
    let (precision, components) = (header[0], header[5]);
    let height = u32::from(be16(header, 1)?);
    let width = u32::from(be16(header, 3)?);
    if precision != 8 || !matches!(components, 1 | 3 | 4) || width == 0 || height == 0 {
        return None;
    }
    let sampling = |i: u8| {
        let factors = header[7 + 3 * usize::from(i)];
        (u64::from(factors >> 4), u64::from(factors & 15))
    };
    let all: Vec<(u64, u64)> = (0..components).map(sampling).collect();
    if all.iter().any(|(h, v)| !(1..=4).contains(h) || !(1..=4).contains(v)) {
        return None;
    }
    let h_max = all.iter().map(|(h, _)| *h).max()?;
    let v_max = all.iter().map(|(_, v)| *v).max()?;
    let mcus = u64::from(width).div_ceil(8 * h_max) * u64::from(height).div_ceil(8 * v_max);
    let blocks = mcus * all.iter().map(|(h, v)| h * v).sum::<u64>();
    Some(Frame { width, height, components, progressive, blocks, metadata })
}

/// Whether the picture's data end early: no end marker behind them, or fewer bits than the blocks need at the least.
///
/// What follows the end marker is of no concern: phones append depth maps and videos there, and pranksters archives.
/// Broken data in the middle that keep their length are not noticed.
pub(super) fn ends_early(bytes: &[u8], frame: &Frame) -> bool {
    let mut at = 2;
    let mut scanned = 0_u64;
    loop {
        // To the next marker; in entropy-coded data a stuffed zero or a restart marker follows the 0xff.
        let Some(rest) = bytes.get(at..) else { return true };
        let Some(skip) = rest.iter().position(|&b| b == 0xff) else { return true };
        at += skip;
        scanned += skip as u64;
        match bytes.get(at + 1) {
            None => return true,
            Some(0xff) => at += 1,
            Some(0x00 | 0x01 | 0xd0..=0xd8) => {
                at += 2;
                scanned += 2;
            }
            Some(0xd9) => break,
            Some(_) => {
                let Some(length) = be16(bytes, at + 2) else { return true };
                at += 2 + usize::from(length);
            }
        }
    }
    // Of a block of a baseline picture there are at least two codes of a bit, of a progressive one at least the first.
    let blocks = u64::from(frame.width.div_ceil(8)) * u64::from(frame.height.div_ceil(8));
    let least_bits = blocks * if frame.progressive { 1 } else { 2 };
    scanned * 8 < least_bits
}
