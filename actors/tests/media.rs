//! What the media module promises, on pictures that these tests make themselves.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use mediamill_actors::media::{
    self, Error, ErrorKind, Format, Inspected, Kind, Limits, Prepared, VisionSpec, capabilities,
};
use proptest::prelude::*;

const LIMITS: Limits = Limits::DEFAULT;
const VISION: VisionSpec = VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: true };

fn inspect(bytes: &[u8]) -> Result<Inspected, Error> {
    media::inspect(&mut Cursor::new(bytes), bytes.len() as u64, &LIMITS, &VISION)
}

fn prepare(bytes: &[u8]) -> Result<Prepared, Error> {
    media::prepare(bytes, &LIMITS, &VISION, true)
}

fn good(bytes: &[u8]) -> Prepared {
    prepare(bytes).expect("a sound picture")
}

/// Red above left, green above right, blue below left, yellow below right.
fn quarters(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 2) {
        (true, true) => Rgb([220, 20, 20]),
        (false, true) => Rgb([20, 200, 20]),
        (true, false) => Rgb([20, 20, 220]),
        (false, false) => Rgb([220, 210, 20]),
    })
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

fn jpeg(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (width, height) = (picture.width() as u16, picture.height() as u16);
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, 92);
    encoder.encode(picture, width, height, jpeg_encoder::ColorType::Rgb).expect("encodes");
    bytes
}

/// Puts a segment behind the first two bytes of a JPEG.
fn with_segment(jpeg: &[u8], marker: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, body, &jpeg[2..]].concat()
}

/// EXIF with the entries of the first directory, little-endian: tag, type, count, value or offset.
fn exif(entries: &[(u16, u16, u32, u32)], rest: &[u8]) -> Vec<u8> {
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

fn pixel(prepared: &Prepared, x: u32, y: u32) -> [u8; 3] {
    let at = (y * prepared.picture.width + x) as usize * 3;
    prepared.picture.rgb[at..at + 3].try_into().expect("three bytes")
}

fn near(a: [u8; 3], b: [u8; 3], most: u8) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= most)
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn png_chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [&name[..], body].concat();
    [&(body.len() as u32).to_be_bytes()[..], &named, &crc(&named).to_be_bytes()].concat()
}

fn png_header(width: u32, height: u32) -> Vec<u8> {
    let ihdr = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [&b"\x89PNG\r\n\x1a\n"[..], &png_chunk(b"IHDR", &ihdr)].concat()
}

fn kind_of(bytes: &[u8]) -> ErrorKind {
    inspect(bytes).expect_err("refused").kind
}

// ---- formats -------------------------------------------------------------------------------------------------------

#[test]
fn a_format_is_told_from_the_first_bytes() {
    for (head, format) in [
        (&b"\xff\xd8\xff\xe0"[..], Some(Format::Jpeg)),
        (b"\x89PNG\r\n\x1a\n", Some(Format::Png)),
        (b"GIF87a", Some(Format::Gif)),
        (b"RIFF\0\0\0\0WEBPVP8 ", Some(Format::Webp)),
        (b"RIFF\0\0\0\0AVI LIST", Some(Format::Avi)),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"II*\0\x08\0\0\0", Some(Format::Tiff)),
        (b"MM\0*\0\0\0\x08", Some(Format::Tiff)),
        (b"BM is how this text starts", None),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Some(Format::Heic)),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", Some(Format::Avif)),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", Some(Format::Heic)),
        (b"\0\0\0\x14ftypavif\0\0\0\0avif", Some(Format::Avif)),
        (b"\0\0\0\x14ftypisom\0\0\x02\0isom", Some(Format::Mp4)),
        (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", Some(Format::Mov)),
        (b"\0\0\0\x18ftypXXXX\0\0\0\0zzzzmp42", Some(Format::Mp4)),
        (b"\0\0\0\x14ftypM4A \0\0\0\0mp42", None),
        (b"\0\0\0\x08moov", Some(Format::Mov)),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm", Some(Format::Webm)),
        (b"\x1a\x45\xdf\xa3\xa3\x42\x82\x88matroska", Some(Format::Mkv)),
        (b"\0\0\x01\xba\x44", Some(Format::Mpeg)),
        (b"FLV\x01\x05", Some(Format::Flv)),
        (&[&[0x47][..], &[0; 187]].concat().repeat(3), Some(Format::Mpeg)),
        (b"Good morning", None),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", None),
        (b"<!doctype html>", None),
        (b"%PDF-1.7", None),
        (b"\xff", None),
        (b"", None),
    ] {
        assert_eq!(Format::sniff(head), format, "{}", head.escape_ascii());
    }
}

#[test]
fn every_format_has_its_names_and_a_capability() {
    let listed = capabilities();
    assert_eq!(listed.len(), Format::ALL.len());
    for capability in listed {
        let format = capability.format;
        let prefix = if format.kind() == Kind::Image { "image/" } else { "video/" };
        assert!(format.mime().starts_with(prefix), "{format:?}");
        assert!(!format.name().is_empty() && !format.extension().contains('.'), "{format:?}");
    }
}

// ---- refusals ------------------------------------------------------------------------------------------------------

#[test]
fn what_is_no_media_is_refused_at_the_door() {
    assert_eq!(kind_of(b""), ErrorKind::Empty);
    for bytes in [&b"x"[..], b"<svg/>", b"<html>", &[0; 4096]] {
        assert_eq!(kind_of(bytes), ErrorKind::NotMedia);
    }
}

#[test]
fn what_cannot_be_decoded_is_refused_with_what_is_missing() {
    let error = inspect(b"\0\0\0\x14ftypavif\0\0\0\0avif").expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("AVIF") && !error.message.ends_with('.'), "{error}");
}

#[test]
fn raw_files_of_cameras_are_refused_with_what_helps() {
    let heads: [&[u8]; 4] = [
        b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom",
        b"FUJIFILMCCD-RAW 0201",
        b"IIU\0\x18\0\0\0",
        b"IIRO\x08\0\0\0",
    ];
    for head in heads {
        let error = inspect(head).expect_err("refused");
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains("raw file") && error.message.contains("JPEG"), "{error}");
    }
}

#[test]
fn each_limit_refuses_with_its_own_sentence() {
    let bytes = encoded(quarters(400, 300), ImageFormat::Png);
    let refused = |limits: Limits| {
        let mut reader = Cursor::new(&bytes);
        let error = media::inspect(&mut reader, bytes.len() as u64, &limits, &VISION).expect_err("refused");
        assert_eq!(error.kind, ErrorKind::TooLarge);
        assert_eq!(media::prepare(&bytes, &limits, &VISION, true).expect_err("refused"), error);
        error.message
    };
    assert!(refused(Limits { max_image_bytes: 10, ..LIMITS }).contains("at most 10 bytes"));
    assert!(refused(Limits { max_pixels: 1000, ..LIMITS }).ends_with("limits.max_pixels is 1000"));
    assert!(refused(Limits { max_side_px: 399, ..LIMITS }).contains("a side may have 399"));
    assert_eq!(
        refused(Limits { decode_memory: 2 << 20, ..LIMITS }),
        "needs 5 MiB, limits.decode_memory_mb is 2"
    );
}

#[test]
fn bombs_are_refused_by_their_headers() {
    let gif = b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;";
    assert_eq!(gif.len(), 35);
    let mut bmp = b"BM6\0\0\0\0\0\0\x006\0\0\0\x28\0\0\0\x60\xea\0\0\x60\xea\0\0\x01\0\x18\0".to_vec();
    bmp.resize(154, 0);
    let mut webp = b"RIFF\x20\0\0\0WEBPVP8L\x14\0\0\0\x2f\xdf\xee\xeb\x0b".to_vec();
    webp.resize(40, 0);
    for bomb in [&gif[..], &bmp, &webp, &png_header(65_535, 65_535), &png_header(16_000, 16_000)] {
        assert_eq!(kind_of(bomb), ErrorKind::TooLarge);
        assert_eq!(prepare(bomb).expect_err("refused").kind, ErrorKind::TooLarge);
    }
}

#[test]
fn a_webp_whose_bitstream_is_larger_than_its_canvas_is_refused() {
    // The decoder would allocate by the bitstream's 16383 x 16383 before it compares.
    let mut webp = b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\x0f\0\0\x0f\0\0".to_vec();
    webp.extend(b"VP8 \x14\0\0\0\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f");
    webp.resize(72, 0);
    assert_eq!(kind_of(&webp), ErrorKind::Undecodable);
}

#[test]
fn packed_metadata_of_a_png_does_no_harm() {
    let sound = encoded(quarters(16, 16), ImageFormat::Png);
    let after_header = 8 + 25;
    for name in [b"iCCP", b"zTXt"] {
        // Broken where it is packed. A decoder that gave up on it would lose the picture.
        let chunk = png_chunk(name, &[&b"x\0\0"[..], &[0x55; 300_000]].concat());
        let bomb = [&sound[..after_header], &chunk, &sound[after_header..]].concat();
        assert_eq!(good(&bomb).facts.width, 16);
    }
}

#[test]
fn a_jpeg_of_two_thousand_scans_is_given_up() {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 50);
    encoder.set_progressive(true);
    encoder.encode(&quarters(64, 64), 64, 64, jpeg_encoder::ColorType::Rgb).expect("encodes");
    let scan = bytes.windows(2).rposition(|w| w == [0xff, 0xda]).expect("a scan");
    let end = bytes.len() - 2;
    let last = bytes[scan..end].to_vec();
    let bomb = [&bytes[..end], &last.repeat(2000), &[0xff, 0xd9]].concat();
    assert_eq!(prepare(&bomb).expect_err("given up").kind, ErrorKind::Undecodable);
}

#[test]
fn a_file_cut_short_is_an_error_except_a_jpeg() {
    let picture = quarters(300, 200);
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Tiff] {
        let bytes = encoded(picture.clone(), format);
        let error = prepare(&bytes[..bytes.len() / 2]).expect_err("cut short");
        assert_eq!(error.kind, ErrorKind::Undecodable, "{format:?}: {error}");
        assert!(!error.message.ends_with('.') && !error.message.contains('"'), "{error}");
    }
}

// ---- pictures ------------------------------------------------------------------------------------------------------

#[test]
fn a_truncated_jpeg_is_used_and_marked_damaged() {
    let noise =
        RgbImage::from_fn(400, 400, |x, y| Rgb([((x * 7) ^ (y * 13)) as u8, (x * y) as u8, (x + y) as u8]));
    let bytes = jpeg(&noise);
    assert!(!good(&bytes).facts.damaged);
    assert!(good(&bytes[..bytes.len() / 2]).facts.damaged);
    assert!(good(&bytes[..bytes.len() - 2]).facts.damaged, "no end marker");
    // An end marker, but less data than the blocks need.
    let start = bytes.windows(2).position(|w| w == [0xff, 0xda]).expect("a scan") + 40;
    assert!(good(&[&bytes[..start], &[0xff, 0xd9]].concat()).facts.damaged);
}

#[test]
fn a_polyglot_is_a_picture_and_not_damaged() {
    let bytes = jpeg(&quarters(100, 80));
    for tail in [&b"PK\x03\x04 an archive"[..], b"<html><script>alert(1)</script>", &[0xff; 999]] {
        assert!(!good(&[&bytes, tail].concat()).facts.damaged);
    }
    assert!(!good(&with_segment(&bytes, 0xfe, b"<script>alert(1)</script>")).facts.damaged);
}

#[test]
fn every_orientation_stands_upright() {
    let upright = quarters(120, 80);
    let stored = |n| match n {
        2 => image::imageops::flip_horizontal(&upright),
        3 => image::imageops::rotate180(&upright),
        4 => image::imageops::flip_vertical(&upright),
        5 => image::imageops::flip_horizontal(&image::imageops::rotate90(&upright)),
        6 => image::imageops::rotate270(&upright),
        7 => image::imageops::flip_horizontal(&image::imageops::rotate270(&upright)),
        8 => image::imageops::rotate90(&upright),
        _ => upright.clone(),
    };
    for n in 1..=8_u32 {
        let bytes = with_segment(&jpeg(&stored(n)), 0xe1, &exif(&[(0x0112, 3, 1, n)], &[]));
        let prepared = good(&bytes);
        assert_eq!((prepared.facts.width, prepared.facts.height), (120, 80), "orientation {n}");
        assert_eq!(prepared.picture.content, (120, 80), "orientation {n}");
        for (x, y) in [(20, 15), (100, 15), (20, 65), (100, 65)] {
            let expected = upright.get_pixel(x, y).0;
            assert!(near(pixel(&prepared, x, y), expected, 12), "orientation {n} at {x}, {y}");
        }
        let thumbnail = prepared.thumbnail.expect("asked for").expect("made");
        let thumbnail = image::load_from_memory(&thumbnail).expect("a JPEG").to_rgb8();
        assert_eq!(thumbnail.dimensions(), (120, 80));
        assert!(near(thumbnail.get_pixel(20, 15).0, [220, 20, 20], 25), "orientation {n}");
    }
}

#[test]
fn transparency_is_white_without_dark_fringes() {
    // Transparent black beside opaque orange: naive resizing would mix black into the edge.
    let picture = RgbaImage::from_fn(3000, 3000, |x, _| match x {
        0..1500 => Rgba([0, 0, 0, 0]),
        _ => Rgba([255, 160, 60, 255]),
    });
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Tiff] {
        let prepared = good(&encoded(picture.clone(), format));
        for x in 0..prepared.picture.content.0 {
            let [r, g, b] = pixel(&prepared, x, 500);
            assert!(r >= 250 && g >= 155 && b >= 50, "{format:?}: {r} {g} {b} at {x}");
        }
        assert_eq!(pixel(&prepared, 5, 5), [255; 3]);
    }
}

#[test]
fn every_way_to_store_colours_gives_the_same_picture() {
    let picture = quarters(200, 120);
    let rgb16 = DynamicImage::ImageRgb8(picture.clone()).to_rgb16();
    let mut gif = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
        let frame = DynamicImage::ImageRgb8(picture.clone()).to_rgba8();
        encoder.encode_frame(image::Frame::new(frame)).expect("encodes");
    }
    for (what, bytes) in [
        ("png", encoded(picture.clone(), ImageFormat::Png)),
        ("png of 16 bits", encoded(rgb16.clone(), ImageFormat::Png)),
        ("tiff", encoded(picture.clone(), ImageFormat::Tiff)),
        ("tiff of 16 bits", encoded(rgb16, ImageFormat::Tiff)),
        ("bmp", encoded(picture.clone(), ImageFormat::Bmp)),
        ("webp", encoded(picture.clone(), ImageFormat::WebP)),
        ("gif with a palette", gif),
        ("jpeg", jpeg(&picture)),
    ] {
        let prepared = good(&bytes);
        for (x, y) in [(20, 15), (180, 15), (20, 100), (180, 100)] {
            let (found, expected) = (pixel(&prepared, x, y), picture.get_pixel(x, y).0);
            assert!(near(found, expected, 12), "{what} at {x}, {y}: {found:?}");
        }
        assert!(!prepared.facts.animated && !prepared.facts.damaged, "{what}");
    }
}

#[test]
fn cmyk_and_grey_jpegs_have_their_colours() {
    let encode = |colour, pixel: &[u8]| {
        let mut bytes = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut bytes, 95);
        encoder.encode(&pixel.repeat(64 * 64), 64, 64, colour).expect("encodes");
        bytes
    };
    // Full yellow and magenta ink is red; nothing but a little black ink is grey.
    let red = good(&encode(jpeg_encoder::ColorType::Cmyk, &[0, 255, 255, 0]));
    assert!(near(pixel(&red, 30, 30), [255, 0, 0], 20), "{:?}", pixel(&red, 30, 30));
    let grey = good(&encode(jpeg_encoder::ColorType::Luma, &[90]));
    assert!(near(pixel(&grey, 30, 30), [90; 3], 3));
}

#[test]
fn extreme_shapes_work() {
    for (width, height) in [(1, 1), (20, 20), (3, 1200), (16_000, 1), (1, 16_000), (2, 2), (255, 257)] {
        let prepared = good(&encoded(quarters(width, height), ImageFormat::Png));
        let picture = &prepared.picture;
        assert_eq!((prepared.facts.width, prepared.facts.height), (width, height));
        assert!(picture.width.is_multiple_of(28) && picture.height.is_multiple_of(28));
        assert!(picture.width >= 56 && picture.height >= 56 && picture.width.max(picture.height) <= 1568);
        assert_eq!(picture.rgb.len() as u64, u64::from(picture.width) * u64::from(picture.height) * 3);
        let thumbnail = prepared.thumbnail.expect("asked for").expect("made");
        let thumbnail = image::load_from_memory(&thumbnail).expect("a JPEG");
        assert!(thumbnail.width() <= width.min(256) && thumbnail.height() <= height.min(256));
    }
}

#[test]
fn padding_is_white_and_the_jpeg_is_the_same_picture() {
    let prepared = good(&encoded(quarters(30, 90), ImageFormat::Png));
    let picture = &prepared.picture;
    assert_eq!((picture.width, picture.height, picture.content), (56, 112, (30, 90)));
    assert_eq!((pixel(&prepared, 31, 0), pixel(&prepared, 0, 91)), ([255; 3], [255; 3]));
    let jpeg = image::load_from_memory(picture.jpeg.as_ref().expect("asked for")).expect("a JPEG");
    assert_eq!((jpeg.width(), jpeg.height()), (56, 112));
}

#[test]
fn neither_thumbnail_nor_jpeg_is_made_unasked() {
    let bytes = encoded(quarters(100, 100), ImageFormat::Png);
    let spec = VisionSpec { jpeg: false, ..VISION };
    let prepared = media::prepare(&bytes, &LIMITS, &spec, false).expect("sound");
    assert!(prepared.thumbnail.is_none() && prepared.picture.jpeg.is_none());
}

#[test]
fn a_model_that_wants_few_pixels_does_not_spoil_the_thumbnail() {
    // Stripes that 256 pixels still show and 56 do not.
    let stripes = RgbImage::from_fn(800, 600, |x, _| Rgb(if x / 8 % 2 == 0 { [0; 3] } else { [255; 3] }));
    let spec = VisionSpec { max_pixels: 3136, max_side_px: 56, ..VISION };
    let bytes = encoded(stripes, ImageFormat::Png);
    let prepared = media::prepare(&bytes, &LIMITS, &spec, true).expect("sound");
    assert_eq!((prepared.picture.width, prepared.picture.height), (56, 56));
    let thumbnail = prepared.thumbnail.expect("asked for").expect("made");
    let thumbnail = image::load_from_memory(&thumbnail).expect("a JPEG").to_luma8();
    assert_eq!(thumbnail.width(), 256);
    let row: Vec<u8> = (0..256).map(|x| thumbnail.get_pixel(x, 90).0[0]).collect();
    let flips = row.windows(2).filter(|w| (w[0] < 128) != (w[1] < 128)).count();
    assert!(flips > 80, "only {flips} edges of 99 are left");
}

#[test]
fn of_an_animation_the_first_frame_is_seen() {
    let mut gif = Vec::new();
    {
        let mut encoder = image::codecs::gif::GifEncoder::new(&mut gif);
        for colour in [[200, 0, 0, 255], [0, 0, 200, 255]] {
            let frame = RgbaImage::from_pixel(60, 60, Rgba(colour));
            let delay = image::Delay::from_numer_denom_ms(300, 1);
            encoder.encode_frame(image::Frame::from_parts(frame, 0, 0, delay)).expect("encodes");
        }
    }
    let prepared = good(&gif);
    assert!(prepared.facts.animated);
    assert_eq!(prepared.facts.duration_ms, Some(600));
    assert!(near(pixel(&prepared, 30, 30), [200, 0, 0], 8));
}

// ---- facts ---------------------------------------------------------------------------------------------------------

#[test]
fn facts_of_a_photo_come_from_its_exif() {
    // Offsets count from the TIFF header: 8 + 2 + 4 entries of 12 + 4 = 62.
    let mut rest = b"Canon\0".to_vec(); // 62
    rest.extend(b"Canon EOS R6\0\0"); // 68, 14 bytes
    let photo = 62 + rest.len() as u32; // 82
    rest.extend(1_u16.to_le_bytes());
    rest.extend([0x03, 0x90, 2, 0, 20, 0, 0, 0]);
    rest.extend((photo + 18).to_le_bytes());
    rest.extend([0; 4]);
    rest.extend(b"2026:05:04 10:11:12\0");
    let gps = 62 + rest.len() as u32;
    rest.extend(4_u16.to_le_bytes());
    let values = gps + 2 + 48 + 4;
    for (tag, kind, count, value) in [
        (1_u16, 2_u16, 2_u32, u32::from(b'S')),
        (2, 5, 3, values),
        (3, 2, 2, u32::from(b'E')),
        (4, 5, 3, values + 24),
    ] {
        rest.extend(tag.to_le_bytes());
        rest.extend(kind.to_le_bytes());
        rest.extend(count.to_le_bytes());
        rest.extend(value.to_le_bytes());
    }
    rest.extend([0; 4]);
    for (over, under) in [(33_u32, 1_u32), (30, 1), (0, 1), (18, 1), (15, 1), (0, 0)] {
        rest.extend(over.to_le_bytes());
        rest.extend(under.to_le_bytes());
    }
    let entries = [(0x010f, 2, 6, 62), (0x0110, 2, 13, 68), (0x8769, 4, 1, photo), (0x8825, 4, 1, gps)];
    let facts = good(&with_segment(&jpeg(&quarters(90, 60)), 0xe1, &exif(&entries, &rest))).facts;
    assert_eq!(facts.camera.as_deref(), Some("Canon EOS R6"));
    assert_eq!(facts.taken_at.as_deref(), Some("2026-05-04T10:11:12"));
    assert_eq!(facts.coordinates, Some((-33.5, 18.25)));
}

#[test]
fn loops_and_lies_in_exif_are_harmless() {
    let sound = jpeg(&quarters(60, 60));
    for entries in [
        &[(0x8769_u16, 4_u16, 1_u32, 8_u32)][..], // a directory that holds itself
        &[(0x8825, 4, 1, 8), (0x8769, 4, 1, 8)],  // twice
        &[(0x010f, 2, u32::MAX, 8), (0x0110, 2, 1 << 30, 70_000)],
        &[(0x0112, 3, 1, 77), (0x8769, 4, 1, u32::MAX)],
        &[(0x8825, 5, u32::MAX, u32::MAX - 3)],
    ] {
        let prepared = good(&with_segment(&sound, 0xe1, &exif(entries, &[0xff; 64])));
        assert_eq!((prepared.facts.width, prepared.facts.coordinates), (60, None));
    }
}

#[test]
fn facts_stay_small_whatever_the_file_says() {
    let long = [b'W'; 60_000];
    let entries = [(0x010f, 2, 60_000, 38), (0x0110, 2, 60_000, 38)];
    let facts = good(&with_segment(&jpeg(&quarters(90, 60)), 0xe1, &exif(&entries, &long))).facts;
    assert!(facts.camera.is_some());
    assert!(serde_json::to_vec(&facts).expect("serialises").len() < 1536);
}

#[test]
fn a_blurred_copy_is_told_from_the_sharp_original() {
    let sharp = RgbImage::from_fn(600, 400, |x, y| {
        let on = (x / 9 + y / 13) % 3 == 0 || (x * x + y * y) % 97 < 20;
        Rgb(if on { [200, 190, 180] } else { [60, 70, 80] })
    });
    let blurred = image::imageops::blur(&sharp, 3.0);
    let flat = RgbImage::from_pixel(600, 400, Rgb([120, 130, 140]));
    let facts = |picture: &RgbImage| good(&encoded(picture.clone(), ImageFormat::Png)).facts;
    assert!(!facts(&sharp).blurred() && facts(&sharp).sharpness > 60);
    assert!(facts(&blurred).blurred(), "{}", facts(&blurred).sharpness);
    // Of a clear sky nothing is said.
    assert!(facts(&flat).sharpness == 0 && !facts(&flat).blurred());
}

#[test]
fn light_dark_and_shape_are_told() {
    let facts = |width, height, value| {
        let picture = RgbImage::from_pixel(width, height, Rgb([value; 3]));
        good(&encoded(picture, ImageFormat::Png)).facts
    };
    assert!(facts(90, 60, 20).dark() && !facts(90, 60, 20).bright());
    assert!(facts(90, 60, 240).bright());
    for (size, shape) in [
        ((300, 100), media::Shape::Panorama),
        ((90, 60), media::Shape::Landscape),
        ((60, 60), media::Shape::Square),
        ((60, 90), media::Shape::Portrait),
        ((40, 120), media::Shape::Tall),
    ] {
        assert_eq!(facts(size.0, size.1, 128).shape(), shape);
    }
}

// ---- anything at all -----------------------------------------------------------------------------------------------

/// Small enough that even a picture at the limit is quick.
const TIGHT: Limits = Limits { max_pixels: 250_000, max_side_px: 2000, decode_memory: 32 << 20, ..LIMITS };

fn holds(bytes: &[u8]) {
    let inspected = media::inspect(&mut Cursor::new(bytes), bytes.len() as u64, &TIGHT, &VISION);
    if let Ok(inspected) = &inspected {
        assert!(inspected.decode_bytes <= TIGHT.decode_memory);
        assert!(u64::from(inspected.width) * u64::from(inspected.height) <= TIGHT.max_pixels);
    }
    match media::prepare(bytes, &TIGHT, &VISION, true) {
        Ok(prepared) => {
            assert!(inspected.is_ok());
            let pixels = u64::from(prepared.picture.width) * u64::from(prepared.picture.height);
            assert!(pixels <= VISION.max_pixels);
            assert!(serde_json::to_vec(&prepared.facts).expect("serialises").len() < 1536);
        }
        Err(error) => assert!(!error.message.is_empty() && !error.message.ends_with('.')),
    }
}

fn samples() -> Vec<Vec<u8>> {
    let picture = quarters(48, 40);
    let alpha = DynamicImage::ImageRgb8(picture.clone()).to_rgba8();
    let mut progressive = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut progressive, 80);
    encoder.set_progressive(true);
    encoder.encode(&picture, 48, 40, jpeg_encoder::ColorType::Rgb).expect("encodes");
    vec![
        with_segment(&jpeg(&picture), 0xe1, &exif(&[(0x0112, 3, 1, 6), (0x8769, 4, 1, 8)], &[7; 40])),
        progressive,
        encoded(picture.clone(), ImageFormat::Png),
        encoded(alpha.clone(), ImageFormat::WebP),
        encoded(alpha, ImageFormat::Gif),
        encoded(picture.clone(), ImageFormat::Bmp),
        encoded(picture, ImageFormat::Tiff),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_behind_any_magic_never_panic(
        which in 0..8_usize,
        tail in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let magic: [&[u8]; 8] = [
            b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X", b"II*\0\x08\0\0\0",
            b"MM\0*\0\0\0\x08", b"BM6\0\0\0\0\0\0\x006\0\0\0\x28\0\0\0",
        ];
        holds(&[magic[which], &tail].concat());
    }

    #[test]
    fn mutated_files_never_panic(
        which in 0..7_usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = samples().swap_remove(which);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            let length = cut.index(bytes.len());
            bytes.truncate(length);
        }
        holds(&bytes);
    }
}
