//! The one decode of a file, under limits.

use std::io::Cursor;

use image::{ColorType, ImageDecoder};
use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use super::animation::{self, Animation};
use super::exif::{self, Exif};
use super::header::{Detail, Header};
use super::pixels::Pixels;
use super::{Error, ErrorKind, Format, Limits};
use super::{heic, jpeg, webp};

/// Largest EXIF block that is read.
const MAX_EXIF_BYTES: usize = 4 << 20;
/// What the PNG decoder may take for chunks other than the picture's.
const PNG_CHUNK_BYTES: usize = 8 << 20;

/// All that the file gives.
pub(super) struct Decoded {
    pub(super) pixels: Pixels,
    pub(super) exif: Exif,
    pub(super) animation: Option<Animation>,
    pub(super) damaged: bool,
}

/// Decodes a file that has passed the door; its header is the one that was looked at there.
pub(super) fn decode(bytes: &[u8], header: &Header, limits: &Limits) -> Result<Decoded, Error> {
    let decoded = match &header.detail {
        Detail::Jpeg(frame) => jpeg_picture(bytes, frame)?,
        Detail::Webp(layout) => webp_picture(bytes, layout, limits)?,
        Detail::Heic(layout) => {
            let exif = heic::exif(bytes, layout, MAX_EXIF_BYTES);
            still(heic::decode(bytes, layout)?, exif, None)
        }
        Detail::Mp4(_) => return Err(broken("it is a video")),
        Detail::Other => match header.format {
            Format::Png => png_picture(bytes)?,
            Format::Gif => {
                let frames = animation::gif(bytes);
                let decoder = image::codecs::gif::GifDecoder::new(Cursor::new(bytes)).map_err(undecodable)?;
                still(read(decoder, limits)?, Exif::default(), Some(frames))
            }
            Format::Bmp => {
                let decoder = image::codecs::bmp::BmpDecoder::new(Cursor::new(bytes)).map_err(undecodable)?;
                still(read(decoder, limits)?, Exif::default(), None)
            }
            Format::Tiff => tiff_picture(bytes, limits)?,
            Format::Jpeg
            | Format::Webp
            | Format::Heic
            | Format::Avif
            | Format::Mp4
            | Format::Mov
            | Format::Avi
            | Format::Webm
            | Format::Mpeg
            | Format::Flv
            | Format::Mkv => return Err(broken("there is no decoder for it")),
        },
    };
    let (width, height) = (decoded.pixels.width, decoded.pixels.height);
    if (width, height) != (header.width, header.height) {
        return Err(broken("the picture has another size than its header says"));
    }
    Ok(decoded)
}

fn still(pixels: Pixels, exif: Exif, animation: Option<Animation>) -> Decoded {
    Decoded { pixels, exif, animation, damaged: false }
}

/// Straight to `zune-jpeg`, which `image` uses too, but with a copy of the file.
fn jpeg_picture(bytes: &[u8], frame: &jpeg::Frame) -> Result<Decoded, Error> {
    let (colours, colour) = match frame.components {
        1 => (ColorSpace::Luma, ColorType::L8),
        _ => (ColorSpace::RGB, ColorType::Rgb8),
    };
    // Not strict: what is there of a file that is cut short is worth keeping. The decoder itself stops at 100 scans.
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(frame.width as usize)
        .set_max_height(frame.height as usize)
        .jpeg_set_out_colorspace(colours);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(undecodable)?;
    let exif = decoder.exif().map(|block| exif::read(block)).unwrap_or_default();
    let size = decoder.output_buffer_size().ok_or_else(|| broken("the header has no size"))?;
    let expected = u64::from(frame.width) * u64::from(frame.height) * u64::from(colour.bytes_per_pixel());
    if size as u64 != expected {
        return Err(broken("the picture has another size than its header says"));
    }
    let mut data = vec![0; size];
    decoder.decode_into(&mut data).map_err(undecodable)?;
    drop(decoder);
    let pixels = flatten(frame.width, frame.height, colour, data)?;
    Ok(Decoded { pixels, exif, animation: None, damaged: jpeg::ends_early(bytes, frame) })
}

/// Straight to `png`, which `image` uses too: profiles and texts, which can be bombs, are never unpacked, and sixteen
/// bits become eight row by row.
fn png_picture(bytes: &[u8]) -> Result<Decoded, Error> {
    let mut decoder =
        png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: PNG_CHUNK_BYTES });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(undecodable)?;
    let exif = reader.info().exif_metadata.as_deref().map(read_exif).unwrap_or_default();
    let (width, height) = reader.info().size();
    let colour = match reader.output_color_type() {
        (png::ColorType::Grayscale, png::BitDepth::Eight) => ColorType::L8,
        (png::ColorType::GrayscaleAlpha, png::BitDepth::Eight) => ColorType::La8,
        (png::ColorType::Rgb, png::BitDepth::Eight) => ColorType::Rgb8,
        (png::ColorType::Rgba, png::BitDepth::Eight) => ColorType::Rgba8,
        _ => return Err(broken("its colours are stored in a rare way")),
    };
    let size = reader.output_buffer_size().ok_or_else(|| broken("it is too large"))?;
    let mut data = vec![0; size];
    reader.next_frame(&mut data).map_err(undecodable)?;
    drop(reader);
    Ok(still(flatten(width, height, colour, data)?, exif, Some(animation::png(bytes))))
}

fn webp_picture(bytes: &[u8], layout: &webp::Layout, limits: &Limits) -> Result<Decoded, Error> {
    // From our own walk: the decoder's would first allocate whatever size the chunk claims.
    let block = layout.exif.as_ref().and_then(|range| {
        let start = usize::try_from(range.start).ok()?;
        let end = usize::try_from(range.end).ok()?.min(bytes.len());
        bytes.get(start..end)
    });
    let exif = block.map(read_exif).unwrap_or_default();
    let decoder = image::codecs::webp::WebPDecoder::new(Cursor::new(bytes)).map_err(undecodable)?;
    Ok(still(read(decoder, limits)?, exif, layout.animation))
}

fn tiff_picture(bytes: &[u8], limits: &Limits) -> Result<Decoded, Error> {
    let exif = exif::read(bytes);
    let decoder = image::codecs::tiff::TiffDecoder::new(Cursor::new(bytes)).map_err(undecodable)?;
    Ok(still(read(decoder, limits)?, exif, None))
}

fn read_exif(block: &[u8]) -> Exif {
    if block.len() > MAX_EXIF_BYTES { Exif::default() } else { exif::read(block) }
}

/// Decodes by `image`. A decoder that was not told its limits takes whatever the file claims, and an allocation that
/// fails ends the process: so the size is checked and reserved before a byte of it is allocated.
fn read(mut decoder: impl ImageDecoder, limits: &Limits) -> Result<Pixels, Error> {
    let (width, height) = decoder.dimensions();
    let mut image_limits = image::Limits::default();
    image_limits.max_image_width = Some(limits.max_side_px);
    image_limits.max_image_height = Some(limits.max_side_px);
    image_limits.max_alloc = Some(limits.decode_memory);
    image_limits.check_dimensions(width, height).map_err(undecodable)?;
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(broken("the picture has another size than its header says"));
    }
    let total = decoder.total_bytes();
    image_limits.reserve(total).map_err(undecodable)?;
    decoder.set_limits(image_limits).map_err(undecodable)?;
    let colour = decoder.color_type();
    let total = usize::try_from(total).map_err(undecodable)?;
    let mut data = vec![0; total];
    decoder.read_image(&mut data).map_err(undecodable)?;
    flatten(width, height, colour, data)
}

fn flatten(width: u32, height: u32, colour: ColorType, data: Vec<u8>) -> Result<Pixels, Error> {
    Pixels::flatten(width, height, colour, data).ok_or_else(|| broken("its colours are stored in a rare way"))
}

pub(super) fn broken(reason: &str) -> Error {
    Error::new(ErrorKind::Undecodable, format!("cannot decode the picture: {reason}"))
}

/// A decoder's own words, brought into the form of ours.
pub(super) fn undecodable(error: impl std::fmt::Display) -> Error {
    let mut text = String::new();
    for word in error.to_string().split_whitespace() {
        if text.len() + word.len() > 200 {
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.extend(word.chars().filter(|c| !c.is_control() && *c != '"').flat_map(char::to_lowercase));
    }
    broken(text.trim_end_matches(['.', '!', ' ']))
}
