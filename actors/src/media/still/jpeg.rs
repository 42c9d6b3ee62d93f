//! JPEG.

use std::io;

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use super::decoded::Decoded;
use super::extent::Extent;
use crate::media::bytes::be16;
use crate::media::colour_space::{self, Coded, ToSrgb};
use crate::media::error::Error;
use crate::media::exif;
use crate::media::pixels::Pixels;
use crate::media::source::Source;

/// Most segments before the frame header. Cameras write fewer, and each costs a read.
const MAX_SEGMENTS: usize = 4096;

/// The frame header of a JPEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    width: u32,
    height: u32,
    /// 1 grey, 3 colour, 4 CMYK.
    components: u8,
    progressive: bool,
    /// Number of blocks of 8 x 8 coefficients in all components.
    blocks: u64,
    /// Bytes of metadata before the frame header, which the decoder copies.
    metadata: u64,
}

/// Why there is no frame header that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The frame header is missing or makes no sense.
    NoFrame,
    /// A known coding without a decoder, as the object of a sentence.
    NoDecoder(&'static str),
}

impl Frame {
    pub(crate) fn extent(&self) -> Extent {
        let pixels = u64::from(self.width) * u64::from(self.height);
        let decoded = pixels * u64::from(self.components);
        // A progressive picture is held as coefficients of two bytes until its last scan.
        let coefficients = if self.progressive { self.blocks * 128 } else { 0 };
        let decoder_bytes = decoded + coefficients + self.metadata;
        Extent { width: self.width, height: self.height, decoder_bytes }
    }
}

/// Decodes a picture by `zune-jpeg`, which `image` uses too, but with a copy of the file.
pub(crate) fn decode(bytes: &[u8], frame: &Frame) -> Result<Decoded, Error> {
    let profile = colour_space::jpeg::profile(bytes);
    let described = profile.map(|it| ToSrgb::by_profile(&it?, frame.components.into()));
    // Without a profile the decoder knows best how ink looks.
    let ink = frame.components == 4 && matches!(described, Some(Ok(_)));
    let (colours, channels) = match frame.components {
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
    let exif = decoder.exif().map(|block| exif::read(block)).unwrap_or_default();
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
    let pixels = Pixels { width: frame.width, height: frame.height, channels, data };
    let adobe = exif.adobe_rgb && frame.components == 3;
    let colour = described.unwrap_or_else(|| Ok(ToSrgb::by_code(adobe.then(Coded::adobe_rgb), channels)));
    let decoded = Decoded::new(pixels, exif, None).with_colour(colour);
    Ok(Decoded { damaged: ends_early(bytes, frame), ..decoded })
}

/// Converts the four channels of a JPEG, which stores ink inverted and perhaps as luma and chroma, to ink.
fn full_ink(data: &mut [u8], coded_with_luma: bool) {
    for [c, m, y, k] in data.as_chunks_mut::<4>().0 {
        if coded_with_luma {
            let (luma, blue, red) = (f32::from(*c), f32::from(*m) - 128.0, f32::from(*y) - 128.0);
            // Ink is the light of the inverted colour.
            *c = (luma + 1.402 * red + 0.5) as u8;
            *m = (luma - 0.344_14 * blue - 0.714_14 * red + 0.5) as u8;
            *y = (luma + 1.772 * blue + 0.5) as u8;
        } else {
            (*c, *m, *y) = (255 - *c, 255 - *m, 255 - *y);
        }
        *k = 255 - *k;
    }
}

/// Reads the segments up to the frame header.
pub(crate) fn frame(source: &mut Source<'_>) -> io::Result<Result<Frame, FrameError>> {
    let (mut at, mut metadata) = (2, 0);
    for _ in 0..MAX_SEGMENTS {
        let Some([ff, marker, high, low]) = source.exactly::<4>(at)? else { break };
        let length = u64::from(u16::from_be_bytes([high, low]));
        match (ff, marker) {
            // Fill bytes may precede a marker, and old encoders leave a stray byte between segments.
            (0xff, 0xff) | (0..0xff, _) => {
                at += 1;
                continue;
            }
            (0xff, 0xd8 | 0x01 | 0xd0..=0xd7) => {
                at += 2;
                continue;
            }
            (0xff, 0xc0..=0xc2) => {
                // The header of a grey picture is shorter, but more bytes follow in any picture.
                let Some(header) = source.exactly::<18>(at + 4)? else { break };
                if header[0] == 12 {
                    return Ok(Err(FrameError::NoDecoder("a JPEG of 12 bits a channel")));
                }
                return Ok(frame_header(&header, marker == 0xc2, metadata).ok_or(FrameError::NoFrame));
            }
            (0xff, 0xc3) => return Ok(Err(FrameError::NoDecoder("a lossless JPEG"))),
            (0xff, 0xc5..=0xc7 | 0xcd..=0xcf) => {
                return Ok(Err(FrameError::NoDecoder("a hierarchical JPEG")));
            }
            (0xff, 0xc9..=0xcb) => return Ok(Err(FrameError::NoDecoder("an arithmetic-coded JPEG"))),
            (0xff, 0xf7) => return Ok(Err(FrameError::NoDecoder("a JPEG-LS picture"))),
            // The picture's data or the end come before any frame.
            (0xff, 0xd9 | 0xda) => break,
            _ if length < 2 => break,
            (0xff, 0xe0..=0xef) => metadata += length,
            _ => {}
        }
        at += 2 + length;
    }
    Ok(Err(FrameError::NoFrame))
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
