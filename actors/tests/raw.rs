//! Raw files of cameras are shown by their largest JPEG, upright and with their facts, and hostile ones are
//! refused in time.

#[path = "support/pictures.rs"]
mod pictures;
#[path = "support/raws.rs"]
mod raws;

use std::time::Instant;

use image::ImageFormat;
use mediamill_actors::media::{ErrorKind, Format};
use pictures::*;
use raws::{Tiff, Value};

fn large() -> Vec<u8> {
    jpeg(&quarters(320, 240))
}

fn small() -> Vec<u8> {
    jpeg(&image::RgbImage::from_pixel(32, 24, image::Rgb([90, 90, 90])))
}

#[test]
fn each_maker_s_file_is_its_largest_jpeg_upright_with_the_facts_of_the_file() {
    for (maker, bytes) in raws::all(&large(), &small()) {
        assert_eq!(inspect(&bytes).map(|it| it.format), Ok(Format::Raw), "{maker}");
        let prepared = good(&bytes);
        let facts = &prepared.facts;
        assert_eq!((facts.width, facts.height), (240, 320), "{maker}");
        // Turned clockwise, the lower left field comes to the upper left.
        for ((x, y), colour) in
            [((20, 20), [20, 20, 220]), ((220, 20), [220, 20, 20]), ((220, 300), [20, 200, 20])]
        {
            assert!(near(pixel(&prepared, x, y), colour, 12), "{maker}: {:?}", pixel(&prepared, x, y));
        }
        assert_eq!(facts.camera.as_deref(), Some("Maker Model 5"), "{maker}");
        assert_eq!(facts.taken_at.as_deref(), Some("2019-05-04T10:11:12"), "{maker}");
        let (north, east) = facts.coordinates.expect(maker);
        assert!((north - 50.083333).abs() < 1e-5 && (east - 14.416667).abs() < 1e-5, "{maker}");
        assert!(!facts.damaged, "{maker}");
    }
}

#[test]
fn a_raw_file_without_a_jpeg_is_refused_with_a_remedy() {
    let nothing = b"no JPEG".as_slice();
    for (maker, bytes) in raws::all(nothing, nothing) {
        let error = inspect(&bytes).expect_err(maker);
        assert_eq!(error.kind, ErrorKind::Unsupported, "{maker}");
        assert!(error.message.contains("has no JPEG in it"), "{maker}: {error}");
        assert_eq!(prepare(&bytes).expect_err(maker), error);
    }
    for head in [&b"FOVb\0\0\x02\0"[..], b"\0MRM\0\0\0\0"] {
        let error = inspect(&[head, &[0; 200]].concat()).expect_err("refused");
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains("raw files") && error.message.contains("JPEG"), "{error}");
    }
}

#[test]
fn a_tiff_whose_first_picture_is_a_small_copy_is_no_raw_file() {
    let scan = encoded(quarters(80, 60), ImageFormat::Tiff);
    assert_eq!(inspect(&scan).map(|it| it.format), Ok(Format::Tiff));
    let small_copy = Tiff::write(
        b"II*\0",
        &[],
        &[vec![
            (0x00fe, Value::Long(1)),
            (0x0100, Value::Short(2)),
            (0x0101, Value::Short(1)),
            (0x0102, Value::Short(8)),
            (0x0103, Value::Short(1)),
            (0x0106, Value::Short(1)),
            (0x0111, Value::At(vec![7, 9])),
            (0x0115, Value::Short(1)),
            (0x0117, Value::Long(2)),
        ]],
    );
    assert_eq!(inspect(&small_copy).map(|it| it.format), Ok(Format::Tiff));
}

#[test]
fn directories_that_lead_in_circles_or_to_thousands_of_others_end_in_time() {
    let begun = Instant::now();
    // The first directory is its own successor, and each of its 16 entries leads to it.
    let mut circle = b"II*\0\x08\0\0\0\x10\0".to_vec();
    for _ in 0..16 {
        circle.extend(b"\x4a\x01\x04\0\x01\0\0\0\x08\0\0\0");
    }
    circle.extend(b"\x08\0\0\0");
    assert_eq!(inspect(&circle).map(|it| it.format).map_err(|it| it.kind), Err(ErrorKind::Undecodable));
    // A directory with the most entries, each of which leads to thousands of directories.
    let offsets: Vec<u8> = (0..100_000_u32).flat_map(|n| (200_000 + n * 2).to_le_bytes()).collect();
    let wide = vec![(0x014a, Value::Bytes(offsets)); 1000];
    let mut wide = Tiff::write(b"IIRO", &[], &[wide[..4].to_vec()]);
    wide.resize(1 << 20, 0xff);
    assert!(inspect(&wide).is_err());
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn no_change_of_a_byte_makes_a_raw_file_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for (maker, bytes) in raws::all(&large(), &small()) {
        for round in 0..100 {
            let mut changed = bytes.clone();
            for _ in 0..random.usize(1..8) {
                // Mostly in the directories, which are short beside the pictures.
                let at = if random.bool() { random.usize(..changed.len()) } else { random.usize(..200) };
                changed[at] = [random.u8(..), 0, 0xff, 0x7f][random.usize(..4)];
            }
            changed.truncate(random.usize(1..changed.len() * 4));
            let inspected = inspect(&changed);
            if round % 20 == 0 && inspected.is_ok() {
                let _ = prepare(&changed);
            }
            drop((maker, inspected));
        }
    }
}
