//! Pictures for tests, and helpers to prepare them.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use mediamill_actors::media::{self, Error, ErrorKind, Inspected, Limits, Prepared, VisionSpec};

pub const LIMITS: Limits = Limits::DEFAULT;
pub const VISION: VisionSpec =
    VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: true };

pub fn inspect(bytes: &[u8]) -> Result<Inspected, Error> {
    media::inspect(&mut Cursor::new(bytes), bytes.len() as u64, &LIMITS, &VISION)
}

pub fn prepare(bytes: &[u8]) -> Result<Prepared, Error> {
    media::prepare(bytes, &LIMITS, &VISION, true)
}

pub fn good(bytes: &[u8]) -> Prepared {
    prepare(bytes).expect("a sound picture")
}

/// Red at the top left, green at the top right, blue at the bottom left, yellow at the bottom
/// right.
pub fn quarters(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 2) {
        (true, true) => Rgb([220, 20, 20]),
        (false, true) => Rgb([20, 200, 20]),
        (true, false) => Rgb([20, 20, 220]),
        (false, false) => Rgb([220, 210, 20]),
    })
}

pub fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

pub fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (width, height) = (picture.width() as u16, picture.height() as u16);
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, 92);
    encoder.encode(picture, width, height, jpeg_encoder::ColorType::Rgb).expect("encodes");
    bytes
}

/// Puts a segment behind the first two bytes of a JPEG.
pub fn with_segment(jpeg: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, body, &jpeg[2..]].concat()
}

/// EXIF with the entries of the first directory, little-endian: tag, type, count, value or offset.
pub fn exif(entries: &[(u16, u16, u32, u32)], rest: &[u8]) -> Vec<u8> {
    let mut tiff = b"Exif\0\0II*\0\x08\0\0\0".to_vec();
    tiff.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(kind.to_le_bytes());
        tiff.extend(count.to_le_bytes());
        tiff.extend(value.to_le_bytes());
    }
    tiff.extend([0; 4]);
    tiff.extend(rest);
    tiff
}

pub fn pixel(prepared: &Prepared, x: u32, y: u32) -> [u8; 3] {
    let at = (y * prepared.picture.width + x) as usize * 3;
    prepared.picture.rgb[at..at + 3].try_into().expect("three bytes")
}

pub fn near(a: [u8; 3], b: [u8; 3], most: u8) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= most)
}

pub fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

pub fn png_chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [&name[..], body].concat();
    [&(body.len() as u32).to_be_bytes()[..], &named, &crc(&named).to_be_bytes()].concat()
}

pub fn png_header(width: u32, height: u32) -> Vec<u8> {
    let ihdr = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [&b"\x89PNG\r\n\x1a\n"[..], &png_chunk(b"IHDR", &ihdr)].concat()
}

pub fn kind_of(bytes: &[u8]) -> ErrorKind {
    inspect(bytes).expect_err("refused").kind
}

// ---- formats ----------------------------------------------------------------------------------------------
