//! PNG.

use image::ColorType;

use super::animation::Animation;
use super::decoded::{Decoded, flatten};
use super::reduction::{self, Reduction};
use crate::media::bytes::{be16, be32};
use crate::media::colour_space::{
    Coded, ToSrgb,
    png::{Description, description},
};
use crate::media::contents::Contents;
use crate::media::error::Error;
use crate::media::exif;
use crate::media::pixels::{Pixels, narrow, on_white};
use crate::media::source::{Input, Source};

/// Most bytes that the decoder may allocate for chunks other than those of the picture.
const CHUNK_BYTES: usize = 8 << 20;
/// Bytes that the decoder holds besides rows: its window, and what was decompressed of the next rows.
const DECODER_BYTES: u64 = 1 << 20;

/// The header of a PNG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Bytes of a pixel, decoded to 8 bits a channel, palettes expanded. A chunk later in the file may add
    /// transparency, which is counted.
    channels: u64,
    /// Bytes of a stored row at most.
    stored_row: u64,
    interlaced: bool,
}

impl Header {
    /// Width and height as decoded for a picture of at least these sides, both at least 1.
    pub(crate) fn decoded(&self, least: (u32, u32)) -> (u32, u32) {
        reduction::reduced((self.width, self.height), self.factor(least))
    }

    /// Most bytes that a decode holds at one time, its output included, without the file.
    pub(crate) fn decoder_bytes(&self, least: (u32, u32)) -> u64 {
        let (width, height) = self.decoded(least);
        let pixels = u64::from(width) * u64::from(height);
        let row = u64::from(self.width).saturating_mul(self.channels);
        if self.interlaced {
            return pixels.saturating_mul(self.channels).saturating_add(row);
        }
        let kept = if self.channels == 2 { 1 } else { 3 };
        // Sums of a field, a row as decoded and as flattened, two rows as stored.
        let rows = u64::from(width) * 4 * kept + row.saturating_mul(4) + self.stored_row.saturating_mul(3);
        pixels.saturating_mul(kept).saturating_add(rows).saturating_add(DECODER_BYTES)
    }

    /// An interlaced picture is complete only at its end, so it is not reduced.
    fn factor(&self, least: (u32, u32)) -> (u32, u32) {
        if self.interlaced { (1, 1) } else { reduction::factor((self.width, self.height), least) }
    }
}

/// Reads the header from the first bytes of the file.
pub(crate) fn header(head: &[u8]) -> Option<Header> {
    let (width, height) = (be32(head, 16)?, be32(head, 20)?);
    let (depth, colour, interlace) = (*head.get(24)?, *head.get(25)?, *head.get(28)?);
    let (stored, channels) = match colour {
        0 => (1, 2),
        4 => (2, 2),
        2 => (3, 4),
        3 => (1, 4),
        6 => (4, 4),
        _ => return None,
    };
    let stored_row = (u64::from(width) * stored * u64::from(depth)).div_ceil(8) + 1;
    let sound = head.get(12..16) == Some(b"IHDR") && width > 0 && height > 0 && depth <= 16;
    sound.then_some(Header { width, height, channels, stored_row, interlaced: interlace != 0 })
}

/// Decodes a picture by the crate `png`, which `image` uses too, without its copies: profiles and texts,
/// which can be bombs, are not decompressed by it, sixteen bits become eight row by row, and a picture that
/// is much larger than `least` is reduced on the way.
///
/// If the file ends early or breaks, the rest is grey.
pub(crate) fn decode(
    contents: &mut Contents<'_>,
    header: &Header,
    least: (u32, u32),
) -> Result<Decoded, Error> {
    let animation = animation(&mut contents.source());
    let description = description(&colour_chunks(&mut contents.source()).unwrap_or_default());
    let reader: &mut dyn Input = contents.rewound()?;
    let mut decoder = png::Decoder::new_with_limits(reader, png::Limits { bytes: CHUNK_BYTES });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let info = decoder.read_header_info().map_err(Error::decoder)?;
    // The decoder cuts sixteen bits off at eight, which is too coarse for wide colours and HDR. Interlaced rows
    // would need twice the memory.
    let described = description != Description::Srgb;
    let deep = described && info.bit_depth == png::BitDepth::Sixteen && !info.interlaced;
    let transformations = match deep {
        true => png::Transformations::EXPAND,
        false => png::Transformations::normalize_to_color8(),
    };
    decoder.set_transformations(transformations);
    let mut reader = decoder.read_info().map_err(Error::decoder)?;
    let exif = reader.info().exif_metadata.as_deref().map(exif::read_block).unwrap_or_default();
    if reader.info().size() != (header.width, header.height) || reader.info().interlaced != header.interlaced
    {
        return Err(Error::broken("the picture has another size than its header says"));
    }
    let rare = || Error::broken("its colours are stored in a rare way");
    let (samples, depth) = reader.output_color_type();
    let depth_of_output = if deep { png::BitDepth::Sixteen } else { png::BitDepth::Eight };
    let colour = match samples {
        png::ColorType::Grayscale => ColorType::L8,
        png::ColorType::GrayscaleAlpha => ColorType::La8,
        png::ColorType::Rgb => ColorType::Rgb8,
        png::ColorType::Rgba => ColorType::Rgba8,
        png::ColorType::Indexed => return Err(rare()),
    };
    if depth != depth_of_output {
        return Err(rare());
    }
    let hdr = if deep { description.hdr() } else { None };
    let (pixels, damaged) = if header.interlaced {
        passes(&mut reader, header, colour)?
    } else {
        let depth = if deep { Depth::Sixteen(hdr.as_ref()) } else { Depth::Eight };
        rows(&mut reader, header, (colour, depth), header.factor(least))?
    };
    let conversion =
        if hdr.is_some() { Ok(ToSrgb::Unchanged) } else { description.conversion(pixels.channels) };
    let decoded = Decoded::new(pixels, exif, Some(animation)).with_colour(conversion);
    Ok(Decoded { damaged, ..decoded })
}

/// The bits of a sample in the decoder's rows.
enum Depth<'a> {
    Eight,
    /// With the conversion of HDR.
    Sixteen(Option<&'a Coded>),
}

type Reader<'a> = png::Reader<&'a mut dyn Input>;

/// Decodes and reduces a picture row by row. Returns `true` if rows are missing.
fn rows(
    reader: &mut Reader<'_>,
    header: &Header,
    (colour, depth): (ColorType, Depth<'_>),
    factor: (u32, u32),
) -> Result<(Pixels, bool), Error> {
    let size = (header.width, header.height);
    let channels = if colour.has_color() { 3 } else { 1 };
    let flat = matches!(colour, ColorType::L8 | ColorType::Rgb8);
    let mut reduction = Reduction::new(size, channels, factor);
    let mut line = Vec::new();
    let mut damaged = false;
    for y in 0..header.height {
        let row = match reader.next_row() {
            Ok(Some(row)) => row,
            Ok(None) => return Err(Error::broken("it has fewer rows than its header says")),
            Err(error) if y == 0 => return Err(Error::decoder(error)),
            Err(_) => {
                damaged = true;
                break;
            }
        };
        if let Depth::Sixteen(hdr) = depth {
            line.clear();
            deep_row(row.data(), colour, hdr, &mut line);
            reduction.push(&line);
        } else if flat {
            reduction.push(row.data());
        } else {
            line.clear();
            line.extend_from_slice(row.data());
            let flattened = flatten(header.width, 1, colour, std::mem::take(&mut line))?;
            line = flattened.data;
            reduction.push(&line);
        }
    }
    let (width, height) = reduction::reduced(size, factor);
    let exact = |full: u32, factor: u32| f64::from(full) / f64::from(factor);
    let exact = (exact(size.0, factor.0), exact(size.1, factor.1));
    Ok((Pixels { width, height, channels, data: reduction.finish(), exact }, damaged))
}

/// Converts a row of sixteen bits to eight, HDR to sRGB, with alpha blended on white.
fn deep_row(row: &[u8], colour: ColorType, hdr: Option<&Coded>, line: &mut Vec<u8>) {
    let (samples, channels) = match colour {
        ColorType::L8 => (1, 1),
        ColorType::La8 => (2, 1),
        ColorType::Rgb8 => (3, 3),
        _ => (4, 3),
    };
    for pixel in row.chunks_exact(2 * samples) {
        let word = |at: usize| be16(pixel, 2 * at).unwrap_or(0);
        let colour = if channels == 3 { [word(0), word(1), word(2)] } else { [word(0); 3] };
        let colour = hdr.map_or_else(|| colour.map(narrow), |coded| coded.srgb_of_words(colour));
        let alpha = if samples == channels { 255 } else { narrow(word(samples - 1)) };
        let colour = colour.map(|value| on_white(value, alpha));
        line.extend_from_slice(&colour[..channels]);
    }
}

/// The signature and the chunks before the picture's data that describe its colours.
fn colour_chunks(source: &mut Source<'_>) -> Option<Vec<u8>> {
    let mut chunks = source.exactly::<8>(0).ok()??.to_vec();
    let mut at = 8;
    loop {
        let head = source.exactly::<8>(at).ok()??;
        let (size, kind) = (u64::from(be32(&head, 0)?), &head[4..]);
        match kind {
            b"IDAT" | b"IEND" => return Some(chunks),
            b"cICP" | b"iCCP" | b"sRGB" | b"gAMA" | b"cHRM"
                if chunks.len() as u64 + size <= 2 * CHUNK_BYTES as u64 =>
            {
                source.append(at, size as usize + 12, &mut chunks).ok()?;
            }
            _ => {}
        }
        at += 12 + size;
    }
}

/// Decodes an interlaced picture. If it ends early, the pixels of its first passes are spread. Returns `true`
/// if pixels are missing.
fn passes(reader: &mut Reader<'_>, header: &Header, colour: ColorType) -> Result<(Pixels, bool), Error> {
    let size = reader.output_buffer_size().ok_or_else(|| Error::broken("it is too large"))?;
    let stride = reader.output_line_size(header.width).ok_or_else(|| Error::broken("it is too large"))?;
    let bits = colour.bits_per_pixel() as u8;
    let mut data = vec![128; size];
    let mut damaged = false;
    let mut any = false;
    loop {
        match reader.next_interlaced_row() {
            Ok(Some(row)) => {
                if let png::InterlaceInfo::Adam7(info) = row.interlace() {
                    png::splat_interlaced_row(&mut data, stride, row.data(), info, bits);
                    any = true;
                }
            }
            Ok(None) => break,
            Err(error) if !any => return Err(Error::decoder(error)),
            Err(_) => {
                damaged = true;
                break;
            }
        }
    }
    Ok((flatten(header.width, header.height, colour, data)?, damaged))
}

/// Counts the frames of an animated PNG without decoding them.
fn animation(source: &mut Source<'_>) -> Animation {
    let mut animation = Animation::default();
    count_frames(source, &mut animation);
    animation
}

fn count_frames(source: &mut Source<'_>, animation: &mut Animation) -> Option<()> {
    let mut at = 8;
    let mut animated = false;
    loop {
        let (head, got) = source.at::<32>(at).ok()?;
        let head = &head[..got];
        let size = u64::from(be32(head, 0)?);
        match head.get(4..8)? {
            b"acTL" => animated = true,
            // An animation is announced before the first data.
            b"IDAT" if !animated => return None,
            b"fcTL" => {
                let (over, under) = (u64::from(be16(head, 28)?), u64::from(be16(head, 30)?));
                animation.add_frame(over * 1000 / if under == 0 { 100 } else { under });
            }
            b"IEND" => return None,
            _ => {}
        }
        at += 12 + size;
    }
}
