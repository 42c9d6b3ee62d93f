//! Accepted and refused bytes: formats, limits, bombs, damage and random changes.

#[path = "support/pictures.rs"]
mod pictures;

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use mediamill_actors::media::{self, ErrorKind, Format, Kind, Limits, capabilities};
use pictures::*;
use proptest::prelude::*;

#[test]
fn the_format_is_recognised_by_the_first_bytes() {
    let mut formats = std::collections::HashSet::new();
    for (head, format) in [
        (&b"\xff\xd8\xff\xe0"[..], Some(Format::Jpeg)),
        (b"\x89PNG\r\n\x1a\n", Some(Format::Png)),
        (b"GIF87a", Some(Format::Gif)),
        (b"RIFF\0\0\0\0WEBPVP8 ", Some(Format::Webp)),
        (b"RIFF\0\0\0\0AVI LIST", Some(Format::Avi)),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"II*\0\x08\0\0\0", Some(Format::Tiff)),
        (b"MM\0*\0\0\0\x08", Some(Format::Tiff)),
        (b"BM6\0\0\0\0\0\0\x006\0\0\0\x28\0\0\0\x40\0\0\0\x30\0\0\0\x01\0\x18\0", Some(Format::Bmp)),
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
        // A stream that begins in mid-packet, also with a time before each packet; few packets are chance.
        (&[&[7; 100][..], &[&[0x47][..], &[0; 187]].concat().repeat(5)].concat(), Some(Format::Mpeg)),
        (&[&[7; 100][..], &[&[0x47][..], &[0; 191]].concat().repeat(5)].concat(), Some(Format::Mpeg)),
        (&[&[7; 100][..], &[&[0x47][..], &[0; 187]].concat().repeat(4)].concat(), None),
        (b"\xff\x0a\x7a\x44", Some(Format::Jxl)),
        (b"\0\0\0\x0cJXL \r\n\x87\n", Some(Format::Jxl)),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", Some(Format::Raw)),
        (b"FUJIFILMCCD-RAW 0201", Some(Format::Raw)),
        (b"IIU\0\x18\0\0\0", Some(Format::Raw)),
        (b"IIRO\x08\0\0\0", Some(Format::Raw)),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c", Some(Format::Wmv)),
        (b"OggS\0\x02", Some(Format::Ogv)),
        (&[&[0x1f, 7, 0, 0x3f][..], &[0xff; 76], &[0x3f, 7, 0]].concat(), Some(Format::Dv)),
        (b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02\x04\0", Some(Format::Mxf)),
        (b".RMF\0\0\0\x12", Some(Format::Rm)),
        (b"Good morning", None),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", None),
        (b"<!doctype html>", None),
        (b"%PDF-1.7", None),
        (b"\xff", None),
        (b"", None),
    ] {
        assert_eq!(Format::sniff(head), format, "{}", head.escape_ascii());
        formats.extend(format);
    }
    let untested: Vec<_> = Format::ALL.into_iter().filter(|it| !formats.contains(it)).collect();
    assert_eq!(untested, []);
}

#[test]
fn every_format_has_its_names_and_a_capability() {
    let listed = capabilities();
    assert_eq!(listed.len(), Format::ALL.len());
    for capability in listed {
        let format = capability.format;
        let prefix = match format {
            // Their registered types cover sound too.
            Format::Mxf | Format::Rm => "application/",
            _ if format.kind() == Kind::Image => "image/",
            _ => "video/",
        };
        assert!(format.mime().starts_with(prefix), "{format:?}");
        assert!(!format.name().is_empty() && !format.extension().is_empty(), "{format:?}");
        for extension in format.extensions() {
            assert_eq!(Format::by_extension(&extension.to_uppercase()), Some(format), "{extension}");
        }
    }
    assert_eq!([Format::by_extension("txt"), Format::by_extension("")], [None; 2]);
}

// ---- refusals ---------------------------------------------------------------------------------------------

#[test]
fn bytes_that_are_not_media_are_refused_at_admission() {
    assert_eq!(kind_of(b""), ErrorKind::Empty);
    for bytes in [&b"x"[..], b"<svg/>", b"<html>", &[0; 4096]] {
        assert_eq!(kind_of(bytes), ErrorKind::NotMedia);
    }
}

#[test]
fn music_in_the_containers_of_videos_is_no_video() {
    let asf = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c";
    for head in [&asf[..], b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1e\x01vorbis"] {
        // Without `ffmpeg` it is refused for another reason.
        let error = inspect(&[head, &[0; 4000]].concat()).expect_err("refused");
        assert!(matches!(error.kind, ErrorKind::NotMedia | ErrorKind::Unsupported), "{error}");
    }
}

#[test]
fn a_format_without_a_decoder_is_refused_by_name() {
    let error = inspect(b"\0\0\0\x14ftypavif\0\0\0\0avif").expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("AVIF") && !error.message.ends_with('.'), "{error}");
}

#[cfg(not(feature = "heic"))]
#[test]
fn without_its_feature_heic_is_refused_by_name() {
    let error = inspect(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Unsupported);
    let expected = "cannot decode HEIC pictures, this program was built without the feature heic: \
        convert the picture to JPEG";
    assert_eq!(error.message, expected);
    assert_eq!(prepare(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").expect_err("refused"), error);
    assert!(capabilities().iter().any(|it| it.format == Format::Heic && it.missing.is_some()));
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
    assert!(
        refused(Limits { max_image_bytes: 10, ..LIMITS }).ends_with("limits.max_file_bytes is 10 (10 bytes)")
    );
    assert!(refused(Limits { max_pixels: 1000, ..LIMITS }).ends_with("limits.max_pixels is 1000"));
    assert!(refused(Limits { max_side_px: 399, ..LIMITS }).ends_with("limits.max_side_px is 399"));
    assert_eq!(
        refused(Limits { decode_memory: 2 << 20, ..LIMITS }),
        "decoding needs 6 MiB, limits.decode_memory_mb is 2"
    );
    // Of a file in place only the memory counts.
    let place = Limits { max_image_bytes: 10, max_pixels: 1000, max_side_px: 399, ..LIMITS }.in_place();
    assert!(media::prepare(&bytes, &place, &VISION, true).is_ok());
    let little = Limits { decode_memory: 2 << 20, ..place };
    let error = media::prepare(&bytes, &little, &VISION, true).expect_err("refused");
    assert_eq!(error.message, "decoding needs 6 MiB, limits.decode_memory_mb is 2");
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
fn broken_compressed_metadata_of_a_png_is_ignored() {
    let sound = encoded(quarters(16, 16), ImageFormat::Png);
    let after_header = 8 + 25;
    for name in [b"iCCP", b"zTXt"] {
        // The compressed part is broken. A decoder that failed on it would lose the picture.
        let chunk = png_chunk(name, &[&b"x\0\0"[..], &[0x55; 300_000]].concat());
        let bomb = [&sound[..after_header], &chunk, &sound[after_header..]].concat();
        assert_eq!(good(&bomb).facts.width, 16);
    }
}

#[test]
fn a_jpeg_of_two_thousand_scans_is_refused() {
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, 50);
    encoder.set_progressive(true);
    encoder.encode(&quarters(64, 64), 64, 64, jpeg_encoder::ColorType::Rgb).expect("encodes");
    let scan = bytes.windows(2).rposition(|w| w == [0xff, 0xda]).expect("a scan");
    let end = bytes.len() - 2;
    let last = bytes[scan..end].to_vec();
    let bomb = [&bytes[..end], &last.repeat(2000), &[0xff, 0xd9]].concat();
    assert_eq!(prepare(&bomb).expect_err("refused").kind, ErrorKind::Undecodable);
}

#[test]
fn a_file_without_its_picture_is_an_error() {
    let picture = quarters(300, 200);
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Tiff] {
        let bytes = encoded(picture.clone(), format);
        let error = prepare(&bytes[..40]).expect_err("cut short");
        assert_eq!(error.kind, ErrorKind::Undecodable, "{format:?}: {error}");
        assert!(!error.message.ends_with('.') && !error.message.contains('"'), "{error}");
    }
}

// ---- pictures ---------------------------------------------------------------------------------------------

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
fn a_cut_picture_of_any_format_is_used_and_marked_damaged() {
    let noise = RgbImage::from_fn(300, 200, |x, y| match y < 100 {
        true => Rgb([200, 30, (x * y % 61) as u8]),
        false => Rgb([30, 30, 150 + (x * 7 % 89) as u8]),
    });
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
        let bytes = encoded(noise.clone(), format);
        assert!(!good(&bytes).facts.damaged, "{format:?}");
        let cut = good(&bytes[..bytes.len() * 3 / 4]);
        assert!(cut.facts.damaged, "{format:?}");
        let found = pixel(&cut, 20, 10);
        assert!(near([found[0], found[1], 0], [200, 30, 0], 30), "{format:?}: {found:?}");
    }
}

#[test]
fn the_strips_that_a_cut_tiff_has_are_used() {
    // Two strips of red and of blue.
    let (width, rows) = (64_u32, 32_u32);
    let strip = width * rows * 3;
    let entries: [(u16, u16, u32, u32); 9] = [
        (256, 4, 1, width),
        (257, 4, 1, 2 * rows),
        (258, 3, 3, 8 + 2 + 9 * 12 + 4),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 2, 128),
        (277, 3, 1, 3),
        (278, 4, 1, rows),
        (279, 4, 2, 136),
    ];
    let mut tiff = b"II*\0\x08\0\0\0\x09\0".to_vec();
    for (tag, kind, count, value) in entries {
        tiff.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        tiff.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    tiff.extend([0; 4]);
    tiff.extend([8_u16, 8, 8].map(u16::to_le_bytes).concat());
    for value in [144, 144 + strip, strip, strip] {
        tiff.extend(value.to_le_bytes());
    }
    tiff.extend([200, 20, 20].repeat(strip as usize / 3));
    tiff.extend([20, 20, 200].repeat(strip as usize / 3));
    assert!(!good(&tiff).facts.damaged);
    let cut = good(&tiff[..tiff.len() - 1000]);
    assert!(cut.facts.damaged);
    assert!(near(pixel(&cut, 30, 20), [200, 20, 20], 3), "{:?}", pixel(&cut, 30, 20));
}

#[test]
fn a_picture_without_the_end_of_its_file_is_whole() {
    let picture = quarters(300, 200);
    let png = encoded(picture.clone(), ImageFormat::Png);
    let gif = encoded(picture, ImageFormat::Gif);
    for bytes in [&png[..png.len() - 12], &gif[..gif.len() - 1]] {
        let prepared = good(bytes);
        assert!(!prepared.facts.damaged);
        assert!(near(pixel(&prepared, 290, 190), [220, 210, 20], 12));
    }
}

#[test]
fn a_small_interlaced_gif_is_decoded() {
    // Seven by seven pixels of one colour.
    let gif = b"GIF87a\x07\0\x07\0\xf0\0\0\x28\x28\x28\0\0\0,\0\0\0\0\x07\0\x07\0\x40\
        \x02\x06\x84\x8f\xa9\xcb\x8d\x05\0;";
    let prepared = good(gif);
    assert!(!prepared.facts.damaged);
    assert_eq!(prepared.picture.content, (7, 7));
    for (x, y) in [(0, 0), (6, 0), (0, 6), (6, 6), (3, 3)] {
        assert_eq!(pixel(&prepared, x, y), [40; 3], "{x}, {y}");
    }
}

#[test]
fn a_polyglot_is_a_picture_and_not_damaged() {
    let bytes = jpeg(&quarters(100, 80));
    for tail in [&b"PK\x03\x04 an archive"[..], b"<html><script>alert(1)</script>", &[0xff; 999]] {
        assert!(!good(&[&bytes, tail].concat()).facts.damaged);
    }
    assert!(!good(&with_segment(&bytes, 0xfe, b"<script>alert(1)</script>")).facts.damaged);
}

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
            b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X",
            b"II*\0\x08\0\0\0",
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
