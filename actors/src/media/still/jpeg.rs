//! JPEG.
//!
//! A usual JPEG that is needed at its full size is decoded by `zune-jpeg`. All others are decoded here: at a
//! scale, so that a large picture costs neither the time nor the memory of its pixels, and in layouts of
//! which `zune-jpeg` makes wrong pictures.

mod frame;
mod huffman;
mod idct;
mod output;
mod scale;
mod scan;

use image::ColorType;
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use super::decoded::{Decoded, flatten};
use crate::media::bytes::be16;
use crate::media::contents::Contents;
use crate::media::error::Error;
use crate::media::exif::{self, Exif};
use crate::media::pixels::Pixels;

pub(crate) use frame::{Frame, FrameError, frame};

/// Decodes a picture at the smallest scale at which its sides are at least `least`.
pub(crate) fn decode(
    contents: &mut Contents<'_>,
    frame: &Frame,
    least: (u32, u32),
) -> Result<Decoded, Error> {
    let exif = match &frame.exif {
        Some(range) => exif::read(&contents.part(range)?),
        None => Exif::default(),
    };
    let scale = frame.scale(least);
    if frame.is_streamed(scale) {
        let planes = scan::planes(huffman::Bits::new(contents.rewound()?), frame, scale)?;
        let data = output::pixels(&planes, frame, scale);
        let (width, height) = scale.of((frame.width, frame.height));
        let channels = if frame.components.len() == 1 { 1 } else { 3 };
        let exact = scale.exactly((frame.width, frame.height));
        let pixels = Pixels { width, height, channels, data, exact };
        return Ok(Decoded { damaged: planes.damaged, ..Decoded::new(pixels, exif, None) });
    }
    let bytes = contents.whole()?;
    let pixels = whole(&bytes, frame)?;
    Ok(Decoded { damaged: ends_early(&bytes, frame), ..Decoded::new(pixels, exif, None) })
}

/// Decodes by `zune-jpeg`, which `image` uses too, but with a copy of the file.
fn whole(bytes: &[u8], frame: &Frame) -> Result<Pixels, Error> {
    let (colours, colour) = match frame.components.len() {
        1 => (ColorSpace::Luma, ColorType::L8),
        _ => (ColorSpace::RGB, ColorType::Rgb8),
    };
    // Not strict, so that the part of a truncated file that exists is decoded. The decoder itself stops at
    // 100 scans.
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(frame.width as usize)
        .set_max_height(frame.height as usize)
        .jpeg_set_out_colorspace(colours);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(Error::decoder)?;
    let size = decoder.output_buffer_size().ok_or_else(|| Error::broken("the header has no size"))?;
    let expected = u64::from(frame.width) * u64::from(frame.height) * u64::from(colour.bytes_per_pixel());
    if size as u64 != expected {
        return Err(Error::broken("the picture has another size than its header says"));
    }
    let mut data = vec![0; size];
    decoder.decode_into(&mut data).map_err(Error::decoder)?;
    drop(decoder);
    flatten(frame.width, frame.height, colour, data)
}

/// Returns `true` if the data end early: without an end marker, or with fewer bits than the blocks need at
/// least.
///
/// Bytes after the end marker are ignored: phones append depth maps and videos, and anybody an archive.
/// Broken data of the right length are not noticed.
fn ends_early(bytes: &[u8], frame: &Frame) -> bool {
    let mut at = 2;
    let mut scanned = 0_u64;
    loop {
        // Find the next marker; in entropy-coded data a stuffed zero or a restart marker follows the 0xff.
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
    // A block of a baseline picture has at least two codes of a bit, one of a progressive picture at least
    // the first.
    let blocks = u64::from(frame.width.div_ceil(8)) * u64::from(frame.height.div_ceil(8));
    let least_bits = blocks * if frame.progressive { 1 } else { 2 };
    scanned * 8 < least_bits
}
