//! Pictures become upright, white where transparent, with the right colours, sizes and facts.

#[path = "support/pictures.rs"]
mod pictures;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use mediamill_actors::media::{self, VisionSpec};
use pictures::*;

#[test]
fn every_orientation_is_turned_upright() {
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
    for (name, bytes) in [
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
            assert!(near(found, expected, 12), "{name} at {x}, {y}: {found:?}");
        }
        assert!(!prepared.facts.animated && !prepared.facts.damaged, "{name}");
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
    // Full yellow and magenta ink is red; a little black ink alone is grey.
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
fn a_long_screenshot_is_shown_in_pieces_and_the_record_says_so() {
    // A line of text would be as high as one of these stripes.
    let screen = RgbImage::from_fn(540, 10_000, |_, y| match y / 20 % 2 {
        0 => Rgb([250, 250, 250]),
        _ => Rgb([(y / 40) as u8, 0, 0]),
    });
    let prepared = good(&encoded(screen, ImageFormat::Png));
    assert_eq!((prepared.facts.width, prepared.facts.height), (540, 10_000));
    let (width, height) = prepared.picture.content;
    assert!(width > 400 && height > 400, "{width} x {height}");
    assert_eq!(prepared.facts.notes.len(), 1);
    let note = &prepared.facts.notes[0];
    assert!(note.starts_with("the picture is much higher than wide") && note.ends_with("side by side"));
    // The stripes can be told apart.
    let column: Vec<u8> = (0..height).map(|y| pixel(&prepared, 40, y)[1]).collect();
    let changes = column.windows(2).filter(|it| it[0].abs_diff(it[1]) > 60).count();
    assert!(changes > 80, "{changes}");
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
fn neither_thumbnail_nor_jpeg_is_made_unless_asked_for() {
    let bytes = encoded(quarters(100, 100), ImageFormat::Png);
    let spec = VisionSpec { jpeg: false, ..VISION };
    let prepared = media::prepare(&bytes, &LIMITS, &spec, false).expect("sound");
    assert!(prepared.thumbnail.is_none() && prepared.picture.jpeg.is_none());
}

#[test]
fn a_model_that_wants_few_pixels_does_not_spoil_the_thumbnail() {
    // Stripes that are visible with 256 pixels, but not with 56.
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
fn the_first_frame_of_an_animation_is_used() {
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

// ---- facts ------------------------------------------------------------------------------------------------

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
fn loops_and_false_values_in_exif_are_harmless() {
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
fn facts_stay_small_whatever_the_file_contains() {
    let long = [b'W'; 60_000];
    let entries = [(0x010f, 2, 60_000, 38), (0x0110, 2, 60_000, 38)];
    let facts = good(&with_segment(&jpeg(&quarters(90, 60)), 0xe1, &exif(&entries, &long))).facts;
    assert!(facts.camera.is_some());
    assert!(serde_json::to_vec(&facts).expect("serialises").len() < 1536);
}

#[test]
fn a_blurred_copy_differs_from_the_sharp_original() {
    let sharp = RgbImage::from_fn(600, 400, |x, y| {
        let on = (x / 9 + y / 13) % 3 == 0 || (x * x + y * y) % 97 < 20;
        Rgb(if on { [200, 190, 180] } else { [60, 70, 80] })
    });
    let blurred = image::imageops::blur(&sharp, 3.0);
    let flat = RgbImage::from_pixel(600, 400, Rgb([120, 130, 140]));
    let facts = |picture: &RgbImage| good(&encoded(picture.clone(), ImageFormat::Png)).facts;
    assert!(!facts(&sharp).blurred() && facts(&sharp).sharpness > 60);
    assert!(facts(&blurred).blurred(), "{}", facts(&blurred).sharpness);
    // A clear sky is neither sharp nor blurred.
    assert!(facts(&flat).sharpness == 0 && !facts(&flat).blurred());
}

#[test]
fn light_dark_and_shape_are_recognised() {
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

// ---- anything at all --------------------------------------------------------------------------------------
