//! JPEGs in layouts that are rarely made, at a scale, and damaged.

#[path = "support/pictures.rs"]
mod pictures;

use image::{Rgb, RgbImage};
use mediamill_actors::media::{self, ErrorKind, VisionSpec};
use pictures::*;

fn fixture(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/jpeg").join(name);
    std::fs::read(path).expect("a fixture")
}

/// The quarters at these places of a picture, beginning at the top left.
fn assert_quarters(prepared: &media::Prepared, (width, height): (u32, u32), name: &str) {
    let expected = [[220, 20, 20], [20, 200, 20], [20, 20, 220], [220, 210, 20]];
    let at = |x: u32, y: u32| (x * width / 4, y * height / 4);
    for ((x, y), expected) in [at(1, 1), at(3, 1), at(1, 3), at(3, 3)].into_iter().zip(expected) {
        let found = pixel(prepared, x, y);
        assert!(near(found, expected, 12), "{name} at {x}, {y}: {found:?}");
    }
}

#[test]
fn every_layout_has_its_colours() {
    for name in [
        "scan-for-each-component.jpg",
        "progressive-scan-for-each-component.jpg",
        "sampling-3x1.jpg",
        "sampling-inverted.jpg",
        "sampling-unlike.jpg",
        "sampling-4x2-restarts.jpg",
        "sampling-1x4-progressive.jpg",
        "rgb.jpg",
    ] {
        let prepared = good(&fixture(name));
        assert_quarters(&prepared, (67, 49), name);
        assert!(!prepared.facts.damaged, "{name}");
    }
}

#[test]
fn an_arithmetic_jpeg_is_refused_with_advice() {
    let error = inspect(&fixture("arithmetic.jpg")).expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("arithmetic") && error.message.ends_with("save it as a common JPEG"));
}

#[test]
fn a_cut_file_of_any_layout_keeps_what_it_has() {
    for name in ["sampling-3x1.jpg", "sampling-inverted.jpg", "sampling-1x4-progressive.jpg"] {
        let bytes = fixture(name);
        let cut = good(&bytes[..bytes.len() - 40]);
        assert!(cut.facts.damaged, "{name}");
        assert!(near(pixel(&cut, 10, 10), [220, 20, 20], 40), "{name}: {:?}", pixel(&cut, 10, 10));
    }
}

#[test]
fn after_a_broken_part_the_picture_goes_on_at_the_next_restart_marker() {
    let sound = fixture("sampling-4x2-restarts.jpg");
    let marker = |number: u8| sound.windows(2).position(|it| it == [0xff, 0xd0 + number]).expect("a marker");
    // The third part is the right edge of the upper rows.
    let mut broken = sound.clone();
    broken[marker(1) + 2..marker(2)].fill(0x7f);
    assert_quarters(&good(&broken), (67, 49), "broken");
    // A lost part leaves a gap, and the parts after it stay where they are.
    let lost = good(&[&sound[..marker(0)], &sound[marker(1)..]].concat());
    assert!(lost.facts.damaged);
    assert!(near(pixel(&lost, 60, 45), [220, 210, 20], 12), "{:?}", pixel(&lost, 60, 45));
}

#[test]
fn a_large_picture_is_decoded_at_a_scale_in_less_memory() {
    let picture = quarters(2400, 1800);
    let mut bytes = Vec::new();
    let encoder = jpeg_encoder::Encoder::new(&mut bytes, 92);
    encoder.encode(&picture, 2400, 1800, jpeg_encoder::ColorType::Rgb).expect("encodes");
    for (max_pixels, most_mib) in [(1_003_520, 32), (200_000, 12), (20_000, 7)] {
        let vision = VisionSpec { max_pixels, ..VISION };
        let mut reader = std::io::Cursor::new(&bytes);
        let inspected = media::inspect(&mut reader, bytes.len() as u64, &LIMITS, &vision).expect("accepted");
        assert!(inspected.decode_bytes < most_mib << 20, "{} bytes", inspected.decode_bytes);
        let prepared = media::prepare(&bytes, &LIMITS, &vision, true).expect("decoded");
        assert_eq!((prepared.facts.width, prepared.facts.height), (2400, 1800));
        assert_quarters(&prepared, prepared.picture.content, "scaled");
    }
}

#[test]
fn a_scaled_decode_shows_the_same_as_a_whole_one() {
    // A size that is no multiple of a block, so that the last column is a part of a pixel.
    let wave = |x: u32, step: f64| (127.0 + 100.0 * (f64::from(x) / step).sin()) as u8;
    let (width, height) = (1203, 909);
    let picture =
        RgbImage::from_fn(width, height, |x, y| Rgb([wave(x, 25.0), wave(y, 31.0), wave(x + y, 40.0)]));
    let bytes = jpeg(&picture);
    let vision = VisionSpec { max_pixels: 40_000, patch_px: 1, jpeg: false, ..VISION };
    let prepared = media::prepare(&bytes, &LIMITS, &vision, false).expect("decoded");
    let (wide, high) = prepared.picture.content;
    assert!(wide < width / 4);
    let mut worst = 0;
    for y in 0..high {
        for x in 0..wide {
            let at = |i: u32, small: u32, large: u32| {
                ((f64::from(i) + 0.5) * f64::from(large) / f64::from(small)) as u32
            };
            let expected = picture.get_pixel(at(x, wide, width), at(y, high, height)).0;
            let found = pixel(&prepared, x, y);
            worst = worst.max((0..3).map(|i| found[i].abs_diff(expected[i])).max().unwrap_or(0));
        }
    }
    assert!(worst < 16, "{worst}");
}

#[test]
fn mutated_files_are_decoded_or_refused() {
    let names = ["sampling-3x1.jpg", "scan-for-each-component.jpg", "sampling-1x4-progressive.jpg"];
    let files = names.map(fixture);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..300 {
        let mut bytes = files[round % files.len()].clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(2..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(bytes.len() / 2..=bytes.len()));
        if let Ok(inspected) = inspect(&bytes)
            && u64::from(inspected.width) * u64::from(inspected.height) < 1 << 16
            && let Err(error) = prepare(&bytes)
        {
            assert!(!error.message.is_empty());
        }
    }
}
