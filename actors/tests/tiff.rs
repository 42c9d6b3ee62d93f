//! TIFF in rare codings and colours is shown, and a sentence names those that are not decoded. How the
//! fixtures were made: see their README.

#[path = "support/pictures.rs"]
mod pictures;
#[path = "support/raws.rs"]
mod raws;

use mediamill_actors::media::{ErrorKind, Format};
use pictures::*;
use raws::{Directory, Tiff, Value};

macro_rules! fixture {
    ($name:literal) => {
        ($name, &include_bytes!(concat!("fixtures/tiff/", $name, ".tiff"))[..])
    };
}

/// The colours of the four fields.
fn fields(bytes: &[u8]) -> [[u8; 3]; 4] {
    let prepared = good(bytes);
    assert_eq!(prepared.picture.content, (64, 48));
    assert!(!prepared.facts.damaged);
    [(16, 12), (48, 12), (16, 36), (48, 36)].map(|(x, y)| pixel(&prepared, x, y))
}

#[test]
fn colours_are_those_that_were_drawn_however_they_are_stored() {
    let drawn = [[220, 20, 20], [20, 200, 20], [20, 20, 220], [220, 210, 20]];
    for ((name, bytes), most) in [
        (fixture!("palette"), 1),
        (fixture!("palette-deflate"), 1),
        (fixture!("palette-lzw-strips"), 1),
        (fixture!("ycbcr-jpeg"), 12),
        (fixture!("zstd"), 0),
        (fixture!("zstd-predicted"), 0),
        (fixture!("planar-zstd"), 0),
        (fixture!("tiled-zstd"), 0),
        (fixture!("cmyk"), 1),
        (fixture!("lab"), 6),
    ] {
        assert_eq!(inspect(bytes).map(|it| it.format), Ok(Format::Tiff), "{name}");
        let found = fields(bytes);
        let same = found.iter().zip(drawn).all(|(found, drawn)| near(*found, drawn, most));
        assert!(same, "{name}: {found:?}");
    }
}

#[test]
fn grey_is_that_which_was_drawn_however_it_is_stored() {
    let (drawn, bits) = ([80, 126, 43, 191], [0, 255, 0, 255]);
    // The lightest and the darkest of a wider range are white and black.
    let wide = [64, 143, 0, 255];
    for ((name, bytes), drawn) in [
        (fixture!("grey-zstd"), drawn),
        (fixture!("float"), drawn),
        (fixture!("float-predicted"), drawn),
        (fixture!("float-wide"), wide),
        (fixture!("fax3"), bits),
        (fixture!("fax3-reversed"), bits),
        (fixture!("fax4"), bits),
        (fixture!("bits-packbits"), bits),
    ] {
        let found = fields(bytes);
        let same = found.iter().zip(drawn).all(|(found, drawn)| near(*found, [drawn; 3], 1));
        assert!(same, "{name}: {found:?}");
    }
}

/// A file of one strip without compression.
fn plain(size: (u16, u16), bits: u16, colours: u16, samples: u16, data: &[u8], more: &Directory) -> Vec<u8> {
    let mut entries = vec![
        (0x0100, Value::Short(size.0)),
        (0x0101, Value::Short(size.1)),
        (0x0102, Value::Short(bits)),
        (0x0103, Value::Short(1)),
        (0x0106, Value::Short(colours)),
        (0x0111, Value::At(data.to_vec())),
        (0x0115, Value::Short(samples)),
        (0x0117, Value::Long(data.len() as u32)),
    ];
    entries.extend(more.iter().cloned());
    Tiff::write(b"II*\0", &[], &[entries])
}

#[test]
fn few_bits_of_grey_are_spread_over_all_of_eight() {
    for (bits, data, expected) in [(2, [0b0001_1011], [0, 85, 170, 255]), (4, [0x0f], [0, 255, 0, 0])] {
        let width = if bits == 2 { 4 } else { 2 };
        let prepared = good(&plain((width, 1), bits, 1, 1, &data, &vec![]));
        for x in 0..width {
            assert_eq!(pixel(&prepared, x.into(), 0)[0], expected[usize::from(x)], "{bits} bits at {x}");
        }
        let prepared = good(&plain((width, 1), bits, 0, 1, &data, &vec![]));
        assert_eq!(pixel(&prepared, 0, 0)[0], 255, "white is zero");
    }
}

#[test]
fn colours_that_are_stored_once_for_four_pixels_belong_to_all_four() {
    // Two blocks of two by two pixels: lightnesses, then the two colours. Green and blue.
    let data = [133, 133, 133, 133, 63, 47, 43, 43, 43, 43, 228, 112];
    let prepared = good(&plain((4, 2), 8, 6, 3, &data, &vec![(0x0212, Value::Shorts(vec![2, 2]))]));
    for (x, expected) in [(0, [20, 213, 18]), (1, [20, 213, 18]), (2, [20, 20, 220]), (3, [20, 20, 220])] {
        assert!(near(pixel(&prepared, x, 1), expected, 3), "{x}: {:?}", pixel(&prepared, x, 1));
    }
}

#[test]
fn transparent_grey_is_white() {
    let grey = good(&plain((2, 1), 8, 1, 2, &[90, 255, 90, 0], &vec![(0x0152, Value::Short(2))]));
    assert_eq!([pixel(&grey, 0, 0), pixel(&grey, 1, 0)], [[90; 3], [255; 3]]);
}

#[test]
fn what_is_not_decoded_is_refused_by_name_and_what_makes_no_sense_is_broken() {
    let (name, bytes) = fixture!("fax3-2d");
    let error = inspect(bytes).expect_err(name);
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("fax machine") && error.message.contains("save it"), "{error}");
    let unknown = plain((2, 1), 8, 1, 1, &[1, 2], &vec![]);
    let at = unknown.windows(2).position(|it| it == [3, 1]).expect("the compression") + 8;
    let mut lerc = unknown.clone();
    lerc[at..at + 2].copy_from_slice(&34_887_u16.to_le_bytes());
    let error = inspect(&lerc).expect_err("refused");
    assert!(error.message.contains("compression 34887"), "{error}");
    // A palette without its colours.
    let error = inspect(&plain((2, 1), 8, 3, 1, &[1, 2], &vec![])).expect_err("broken");
    assert_eq!(error.kind, ErrorKind::Undecodable, "{error}");
}

#[test]
fn a_picture_that_ends_early_is_shown_as_far_as_it_goes_and_is_damaged() {
    // Grey with alpha, of which half of the pixels are there.
    let more = vec![(0x0152, Value::Short(2))];
    let prepared = good(&plain((4, 4), 8, 1, 2, &[90, 255].repeat(8), &more));
    assert!(prepared.facts.damaged);
    assert_eq!([pixel(&prepared, 3, 1), pixel(&prepared, 0, 3)], [[90; 3], [255; 3]]);
}

#[test]
fn no_change_of_a_byte_makes_the_reader_panic() {
    let mut random = fastrand::Rng::with_seed(5);
    for (_, bytes) in [
        fixture!("palette-lzw-strips"),
        fixture!("ycbcr-jpeg"),
        fixture!("planar-zstd"),
        fixture!("tiled-zstd"),
        fixture!("lab"),
        fixture!("float-predicted"),
        fixture!("fax3-reversed"),
    ] {
        for _ in 0..150 {
            let mut changed = bytes.to_vec();
            // The directory is at the end or the start.
            for _ in 0..random.usize(1..6) {
                let from_end = random.usize(1..changed.len().min(300));
                let at = if random.bool() { changed.len() - from_end } else { from_end };
                changed[at] = [random.u8(..), 0, 1, 0xff][random.usize(..4)];
            }
            let _ = prepare(&changed);
        }
    }
}
