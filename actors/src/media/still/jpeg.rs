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

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use super::decoded::Decoded;
use crate::media::bytes::be16;
use crate::media::colour_space::{self, Coded, ToSrgb};
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
    let profile = profile(contents, frame)?;
    let described = profile.map(|it| ToSrgb::by_profile(&it?, frame.components.len()));
    // Without a profile ink becomes light right away.
    let ink = frame.components.len() == 4 && matches!(described, Some(Ok(_)));
    let scale = frame.scale(least);
    let (pixels, damaged) = if frame.is_streamed(scale) {
        let planes = scan::planes(huffman::Bits::new(contents.rewound()?), frame, scale)?;
        let (channels, data) = output::pixels(&planes, frame, scale, ink);
        let (width, height) = scale.of((frame.width, frame.height));
        let exact = scale.exactly((frame.width, frame.height));
        (Pixels { width, height, channels, data, exact }, planes.damaged)
    } else {
        let bytes = contents.whole()?;
        (whole(&bytes, frame, ink)?, ends_early(&bytes, frame))
    };
    let adobe = exif.adobe_rgb && frame.components.len() == 3;
    let coded = adobe.then(Coded::adobe_rgb);
    let colour = described.unwrap_or_else(|| Ok(ToSrgb::by_code(coded, pixels.channels)));
    let decoded = Decoded::new(pixels, exif, None).with_colour(colour);
    Ok(Decoded { damaged, ..decoded })
}

/// The parts of the ICC profile, joined.
fn profile(contents: &mut Contents<'_>, frame: &Frame) -> Result<Option<Result<Vec<u8>, String>>, Error> {
    let parts = frame.profile.iter().map(|range| contents.part(range));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    Ok(colour_space::jpeg::profile(parts.iter().map(Vec::as_slice)))
}

/// Decodes by `zune-jpeg`, which `image` uses too, but with a copy of the file.
fn whole(bytes: &[u8], frame: &Frame, ink: bool) -> Result<Pixels, Error> {
    let (colours, channels) = match frame.components.len() {
        1 => (ColorSpace::Luma, 1),
        4 if ink => (ColorSpace::CMYK, 4),
        _ => (ColorSpace::RGB, 3),
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
    let coded_with_luma = decoder.input_colorspace() == Some(ColorSpace::YCCK);
    if ink && coded_with_luma {
        // The decoder copies the channels and does not know this conversion.
        decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::YCCK));
    }
    let size = decoder.output_buffer_size().ok_or_else(|| Error::broken("the header has no size"))?;
    let expected = u64::from(frame.width) * u64::from(frame.height) * channels as u64;
    if size as u64 != expected {
        return Err(Error::broken("the picture has another size than its header says"));
    }
    let mut data = vec![0; size];
    decoder.decode_into(&mut data).map_err(Error::decoder)?;
    drop(decoder);
    if ink {
        full_ink(&mut data, coded_with_luma);
    }
    Ok(Pixels::new(frame.width, frame.height, channels, data))
}

/// Converts the four channels of a JPEG, which stores ink inverted and perhaps as luma and chroma, to ink.
fn full_ink(data: &mut [u8], coded_with_luma: bool) {
    for [c, m, y, k] in data.as_chunks_mut::<4>().0 {
        if coded_with_luma {
            // Ink is the light of the inverted colour.
            [*c, *m, *y] = output::rgb(*c, *m, *y);
        } else {
            (*c, *m, *y) = (255 - *c, 255 - *m, 255 - *y);
        }
        *k = 255 - *k;
    }
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
