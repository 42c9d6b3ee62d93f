//! PNG.

use std::io::Cursor;

use image::ColorType;

use super::animation::Animation;
use super::decoded::{Decoded, flatten};
use super::extent::Extent;
use crate::media::bytes::{be16, be32};
use crate::media::colour_space::{
    Coded, ToSrgb,
    png::{Description, description},
};
use crate::media::error::Error;
use crate::media::exif;
use crate::media::pixels::{Pixels, narrow, on_white};

/// Most bytes that the decoder may allocate for chunks other than those of the picture.
const CHUNK_BYTES: usize = 8 << 20;

/// Reads the header from the first bytes of the file.
pub(crate) fn extent(head: &[u8]) -> Option<Extent> {
    let (width, height, colour) = (be32(head, 16)?, be32(head, 20)?, head.get(25)?);
    // Decoded to 8 bits a channel, palettes expanded. A chunk later in the file may add transparency.
    let channels = match colour {
        0 | 4 => 2,
        2 | 3 | 6 => 4,
        _ => return None,
    };
    Extent::new(width, height, channels).filter(|_| head.get(12..16) == Some(b"IHDR"))
}

/// Decodes a picture by the crate `png`, which `image` uses too, without its copies: profiles and texts,
/// which can be bombs, are not decompressed, and sixteen bits become eight row by row.
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded, Error> {
    let description = description(bytes);
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: CHUNK_BYTES });
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
    let (width, height) = reader.info().size();
    if deep {
        let hdr = description.hdr();
        let pixels = deep_pixels(reader, hdr.as_ref())?;
        let colour =
            if hdr.is_some() { Ok(ToSrgb::Unchanged) } else { description.conversion(pixels.channels) };
        return Ok(Decoded::new(pixels, exif, Some(animation(bytes))).with_colour(colour));
    }
    let colour = match reader.output_color_type() {
        (png::ColorType::Grayscale, png::BitDepth::Eight) => ColorType::L8,
        (png::ColorType::GrayscaleAlpha, png::BitDepth::Eight) => ColorType::La8,
        (png::ColorType::Rgb, png::BitDepth::Eight) => ColorType::Rgb8,
        (png::ColorType::Rgba, png::BitDepth::Eight) => ColorType::Rgba8,
        _ => return Err(Error::broken("its colours are stored in a rare way")),
    };
    let size = reader.output_buffer_size().ok_or_else(|| Error::broken("it is too large"))?;
    let mut data = vec![0; size];
    reader.next_frame(&mut data).map_err(Error::decoder)?;
    drop(reader);
    let pixels = flatten(width, height, colour, data)?;
    let colour = description.conversion(pixels.channels);
    Ok(Decoded::new(pixels, exif, Some(animation(bytes))).with_colour(colour))
}

/// Decodes sixteen bits row by row to eight, HDR to sRGB, with alpha blended on white.
fn deep_pixels(mut reader: png::Reader<Cursor<&[u8]>>, hdr: Option<&Coded>) -> Result<Pixels, Error> {
    let (width, height) = reader.info().size();
    let (samples, channels) = match reader.output_color_type().0 {
        png::ColorType::Grayscale => (1, 1),
        png::ColorType::GrayscaleAlpha => (2, 1),
        png::ColorType::Rgb => (3, 3),
        png::ColorType::Rgba => (4, 3),
        png::ColorType::Indexed => return Err(Error::broken("its colours are stored in a rare way")),
    };
    let size = u64::from(width) * u64::from(height) * channels as u64;
    let size = usize::try_from(size).map_err(Error::decoder)?;
    let mut data = Vec::with_capacity(size);
    while let Some(row) = reader.next_row().map_err(Error::decoder)? {
        for pixel in row.data().chunks_exact(2 * samples) {
            let word = |at: usize| be16(pixel, 2 * at).unwrap_or(0);
            let colour = if channels == 3 { [word(0), word(1), word(2)] } else { [word(0); 3] };
            let colour = hdr.map_or_else(|| colour.map(narrow), |coded| coded.srgb_of_words(colour));
            let alpha = if samples == channels { 255 } else { narrow(word(samples - 1)) };
            let colour = colour.map(|value| on_white(value, alpha));
            data.extend_from_slice(&colour[..channels]);
        }
    }
    if data.len() != size {
        return Err(Error::broken("it ends early"));
    }
    Ok(Pixels { width, height, channels, data })
}

/// Counts the frames of an animated PNG without decoding them.
fn animation(bytes: &[u8]) -> Animation {
    let mut animation = Animation::default();
    count_frames(bytes, &mut animation);
    animation
}

fn count_frames(bytes: &[u8], animation: &mut Animation) -> Option<()> {
    let mut at = 8;
    let mut animated = false;
    loop {
        let size = usize::try_from(be32(bytes, at)?).ok()?;
        match bytes.get(at + 4..at + 8)? {
            b"acTL" => animated = true,
            // An animation is announced before the first data.
            b"IDAT" if !animated => return None,
            b"fcTL" => {
                let (over, under) = (u64::from(be16(bytes, at + 28)?), u64::from(be16(bytes, at + 30)?));
                animation.add_frame(over * 1000 / if under == 0 { 100 } else { under });
            }
            b"IEND" => return None,
            _ => {}
        }
        at = at.checked_add(12)?.checked_add(size)?;
    }
}
