//! JPEG XL becomes sRGB on white, upright, with its facts. How the fixtures were made: see their README.

#[path = "support/pictures.rs"]
mod pictures;

use mediamill_actors::media::{ErrorKind, Format, Limits};
use pictures::*;

const LOSSLESS: &[u8] = include_bytes!("fixtures/jxl/lossless.jxl");
const LOSSY: &[u8] = include_bytes!("fixtures/jxl/lossy.jxl");
const ALPHA: &[u8] = include_bytes!("fixtures/jxl/alpha.jxl");
const GREY: &[u8] = include_bytes!("fixtures/jxl/grey.jxl");
const TURNED: &[u8] = include_bytes!("fixtures/jxl/turned.jxl");

fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, &body].concat()
}

#[test]
fn colours_and_grey_are_those_that_were_drawn() {
    for (name, bytes, most) in [("lossless", LOSSLESS, 0), ("lossy", LOSSY, 25)] {
        assert_eq!(inspect(bytes).map(|it| it.format), Ok(Format::Jxl), "{name}");
        let prepared = good(bytes);
        assert_eq!(prepared.picture.content, (48, 32), "{name}");
        for (x, y) in [(12, 8), (36, 8), (12, 24), (36, 24)] {
            let expected = quarters(48, 32).get_pixel(x, y).0;
            assert!(near(pixel(&prepared, x, y), expected, most), "{name}: {:?}", pixel(&prepared, x, y));
        }
        assert!(!prepared.facts.animated && !prepared.facts.damaged);
    }
    let [r, g, b] = pixel(&good(GREY), 12, 8);
    assert!(r == g && g == b && r.abs_diff(80) < 10, "{r}");
}

#[test]
fn transparency_is_white() {
    let prepared = good(ALPHA);
    assert_eq!(pixel(&prepared, 36, 8), [255; 3]);
    assert!(near(pixel(&prepared, 12, 24), [137, 137, 237], 2), "{:?}", pixel(&prepared, 12, 24));
    assert_eq!(pixel(&prepared, 12, 8), [220, 20, 20]);
}

#[test]
fn a_turned_picture_is_turned_once_and_compressed_metadata_are_read() {
    let prepared = good(TURNED);
    let facts = &prepared.facts;
    assert_eq!((facts.width, facts.height), (32, 48));
    assert!(near(pixel(&prepared, 8, 12), [20, 20, 220], 25), "{:?}", pixel(&prepared, 8, 12));
    assert!(near(pixel(&prepared, 24, 12), [220, 20, 20], 25), "{:?}", pixel(&prepared, 24, 12));
    assert_eq!(facts.camera.as_deref(), Some("Maker Model 5"));
    assert_eq!(facts.taken_at.as_deref(), Some("2019-05-04T10:11:12"));
}

#[test]
fn a_container_may_hold_the_picture_in_parts_and_plain_exif() {
    let exif = exif(&[(0x010f, 2, 4, u32::from_le_bytes(*b"Hal\0"))], &[]);
    let (first, second) = LOSSLESS.split_at(20);
    let file = [
        b"\0\0\0\x0cJXL \r\n\x87\n".to_vec(),
        boxed(b"ftyp", &[b"jxl \0\0\0\0jxl "]),
        boxed(b"Exif", &[&[0; 4], &exif[6..]]),
        boxed(b"jxlp", &[&[0; 4], first]),
        boxed(b"jxlp", &[&[0x80, 0, 0, 1], second]),
    ]
    .concat();
    let prepared = good(&file);
    assert_eq!(pixel(&prepared, 36, 24), [220, 210, 20]);
    assert_eq!(prepared.facts.camera.as_deref(), Some("Hal"));
}

#[test]
fn limits_hold_and_a_file_cut_short_is_an_error() {
    let small = Limits { max_pixels: 1000, ..LIMITS };
    let error = mediamill_actors::media::prepare(LOSSLESS, &small, &VISION, true).expect_err("refused");
    assert_eq!(error.kind, ErrorKind::TooLarge);
    for bytes in [LOSSLESS, LOSSY, ALPHA, TURNED] {
        for length in [14, bytes.len() / 2] {
            let error = prepare(&bytes[..length]).expect_err("cut short");
            assert_eq!(error.kind, ErrorKind::Undecodable, "{error}");
        }
    }
}

#[test]
fn no_change_of_a_byte_makes_the_decoder_panic_or_allocate_without_end() {
    let mut random = fastrand::Rng::with_seed(11);
    for bytes in [LOSSLESS, LOSSY, ALPHA, TURNED] {
        for _ in 0..25 {
            let mut changed = bytes.to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..changed.len());
                changed[at] = random.u8(..);
            }
            let small = Limits { max_pixels: 1 << 20, decode_memory: 64 << 20, ..LIMITS };
            if let Err(error) = mediamill_actors::media::prepare(&changed, &small, &VISION, false) {
                assert!(!error.message.is_empty());
            }
        }
    }
}
