//! HEIC pictures, assembled here from one coded picture.

#[path = "support/profiles.rs"]
mod profiles;

use std::io::Cursor;

use mediamill_actors::media::{self, Error, ErrorKind, Inspected, Limits, Picture, Prepared, VisionSpec};
use proptest::prelude::*;

const LIMITS: Limits = Limits::DEFAULT;
const VISION: VisionSpec = VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: false };

/// Quarters of 128 x 96 pixels with EXIF data whose orientation is 6, and 64 x 48 of which the left
/// half is transparent.
const QUARTERS: &[u8] = include_bytes!("fixtures/quarters.heic");
const HALF: &[u8] = include_bytes!("fixtures/half.heic");

const RED: [u8; 3] = [220, 20, 20];
const GREEN: [u8; 3] = [20, 200, 20];
const BLUE: [u8; 3] = [20, 20, 220];
const YELLOW: [u8; 3] = [220, 210, 20];
const WHITE: [u8; 3] = [255; 3];

fn inspect_within(bytes: &[u8], limits: &Limits) -> Result<Inspected, Error> {
    media::inspect(&mut Cursor::new(bytes), bytes.len() as u64, limits, &VISION)
}

fn inspect(bytes: &[u8]) -> Result<Inspected, Error> {
    inspect_within(bytes, &LIMITS)
}

fn good(bytes: &[u8]) -> Prepared {
    inspect(bytes).expect("it may come in");
    media::prepare(bytes, &LIMITS, &VISION, true).expect("a sound picture")
}

fn colour(prepared: &Prepared, x: u32, y: u32) -> [u8; 3] {
    let at = (y * prepared.picture.width + x) as usize * 3;
    let found: [u8; 3] = prepared.picture.rgb[at..at + 3].try_into().expect("three bytes");
    let near = |colour: &&[u8; 3]| found.iter().zip(colour.iter()).all(|(a, b)| a.abs_diff(*b) <= 12);
    [RED, GREEN, BLUE, YELLOW, WHITE].iter().find(near).copied().unwrap_or(found)
}

/// The colours in the middle of the quarters, row by row.
fn quarters(prepared: &Prepared) -> [[u8; 3]; 4] {
    let (w, h) = prepared.picture.content;
    [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| colour(prepared, w * x / 4, h * y / 4))
}

// ---- a file put together ----------------------------------------------------------------------------------

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes(), &kind[..], body].concat()
}

/// The contents of the first box of a kind, at any place in the file.
fn contents(file: &[u8], kind: &[u8; 4]) -> Vec<u8> {
    let at = file.windows(4).position(|window| window == kind).expect("there is one");
    let size = u32::from_be_bytes(file[at - 4..at].try_into().expect("four bytes")) as usize;
    file[at + 4..at - 4 + size].to_vec()
}

struct Item {
    kind: &'static [u8; 4],
    /// Indexes in the list of properties, from 1.
    properties: Vec<u8>,
    /// Offset of its bytes in the data, and their number.
    data: (u32, u32),
}

/// Items are numbered from 1; the first is the picture.
struct File {
    items: Vec<Item>,
    properties: Vec<Vec<u8>>,
    references: Vec<(&'static [u8; 4], u16, Vec<u16>)>,
    data: Vec<u8>,
}

impl File {
    /// One coded picture.
    fn coded() -> Self {
        let data = coded();
        let item = Item { kind: b"hvc1", properties: vec![1], data: (0, data.len() as u32) };
        Self { items: vec![item], properties: vec![hvcc()], references: vec![], data }
    }

    /// The same coded picture many times, as a grid.
    fn grid(columns: u8, rows: u8, (width, height): (u16, u16)) -> Self {
        let coded = coded();
        let length = coded.len() as u32;
        let count = u16::from(columns) * u16::from(rows);
        let mut file = Self {
            items: vec![Item { kind: b"grid", properties: vec![], data: (0, 8) }],
            properties: vec![hvcc()],
            references: vec![(b"dimg", 1, (2..count + 2).collect())],
            data: [&[0, 0, rows - 1, columns - 1][..], &width.to_be_bytes(), &height.to_be_bytes()].concat(),
        };
        for _ in 0..count {
            let data = (file.data.len() as u32, length);
            file.items.push(Item { kind: b"hvc1", properties: vec![1], data });
            file.data.extend(&coded);
        }
        file
    }

    fn with(mut self, kind: &[u8; 4], body: &[u8]) -> Self {
        self.properties.push(boxed(kind, body));
        let number = self.properties.len() as u8;
        self.items[0].properties.push(number);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let be = |number: usize| (number as u16).to_be_bytes();
        let count = be(self.items.len());
        let full = [0; 4];
        let numbered = || self.items.iter().enumerate().map(|(i, item)| (be(i + 1), item));
        let kinds = numbered().flat_map(|(id, item)| {
            boxed(b"infe", &[&[2, 0, 0, 0], &id[..], &[0, 0], item.kind, &[0]].concat())
        });
        let owners = numbered()
            .flat_map(|(id, item)| [&id[..], &[item.properties.len() as u8], &item.properties].concat());
        let references = self.references.iter().flat_map(|(kind, from, to)| {
            let to: Vec<u8> = to.iter().flat_map(|id| id.to_be_bytes()).collect();
            boxed(kind, &[&from.to_be_bytes()[..], &be(to.len() / 2), &to].concat())
        });
        let (kinds, owners, references): (Vec<u8>, Vec<u8>, Vec<u8>) =
            (kinds.collect(), owners.collect(), references.collect());
        let front = |start: u32| {
            let places: Vec<u8> = numbered()
                .flat_map(|(id, item)| {
                    let offset = (start + item.data.0).to_be_bytes();
                    [&id[..], &[0, 0, 0, 1], &offset, &item.data.1.to_be_bytes()].concat()
                })
                .collect();
            let owners = [&full[..], &(self.items.len() as u32).to_be_bytes(), &owners].concat();
            let properties = [boxed(b"ipco", &self.properties.concat()), boxed(b"ipma", &owners)].concat();
            let meta = [
                &full[..],
                &boxed(b"pitm", &[&full[..], &[0, 1]].concat()),
                &boxed(b"iinf", &[&full[..], &count, &kinds].concat()),
                &boxed(b"iloc", &[&full[..], &[0x44, 0], &count, &places].concat()),
                &boxed(b"iref", &[&full[..], &references].concat()),
                &boxed(b"iprp", &properties),
            ];
            [boxed(b"ftyp", b"heic\0\0\0\0mif1heic"), boxed(b"meta", &meta.concat())].concat()
        };
        let start = front(0).len() as u32 + 8;
        [front(start), boxed(b"mdat", &self.data)].concat()
    }
}

fn hvcc() -> Vec<u8> {
    boxed(b"hvcC", &contents(QUARTERS, b"hvcC"))
}

/// The coded bytes of the quarters: `iloc` names them first.
fn coded() -> Vec<u8> {
    let places = contents(QUARTERS, b"iloc");
    let field = |at: usize| u32::from_be_bytes(places[at..at + 4].try_into().expect("four bytes")) as usize;
    let (start, length) = (field(12) + field(18), field(22));
    QUARTERS[start..start + length].to_vec()
}

/// A box `hvcC` that contains only a size.
fn hvcc_of_size(width: u32, height: u32) -> Vec<u8> {
    let mut bits = "0000".to_owned() + "000" + "1" + &"01100000".repeat(12);
    let mut say = |number: u32| {
        let binary = format!("{:b}", number + 1);
        bits.push_str(&"0".repeat(binary.len() - 1));
        bits.push_str(&binary);
    };
    [0, 1, width, height].into_iter().for_each(&mut say);
    bits.push_str("01");
    let bytes = bits
        .as_bytes()
        .chunks(8)
        .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | (bit - b'0')) << (8 - byte.len()));
    let unit: Vec<u8> = [0x42, 1].into_iter().chain(bytes).collect();
    let length = (unit.len() as u16).to_be_bytes();
    boxed(b"hvcC", &[&[1; 22][..], &[1, 33, 0, 1], &length, &unit].concat())
}

// ---- pictures ---------------------------------------------------------------------------------------------

#[test]
fn a_picture_is_turned_as_its_container_says_and_not_as_its_exif_says() {
    let prepared = good(QUARTERS);
    assert_eq!((prepared.facts.width, prepared.facts.height), (128, 96));
    assert_eq!(quarters(&prepared), [RED, GREEN, BLUE, YELLOW]);
    let rotate = |n| (b"irot", [n]);
    let mirror = |n| (b"imir", [n]);
    for (turns, size, expected) in [
        (&[rotate(1)][..], (96, 128), [GREEN, YELLOW, RED, BLUE]),
        (&[rotate(2)], (128, 96), [YELLOW, BLUE, GREEN, RED]),
        (&[rotate(3)], (96, 128), [BLUE, RED, YELLOW, GREEN]),
        (&[mirror(0)], (128, 96), [BLUE, YELLOW, RED, GREEN]),
        (&[mirror(1)], (128, 96), [GREEN, RED, YELLOW, BLUE]),
        (&[rotate(1), mirror(0)], (96, 128), [RED, BLUE, GREEN, YELLOW]),
        (&[mirror(0), rotate(1)], (96, 128), [YELLOW, GREEN, BLUE, RED]),
        (&[rotate(3), mirror(1)], (96, 128), [RED, BLUE, GREEN, YELLOW]),
        (&[rotate(1), rotate(3)], (128, 96), [RED, GREEN, BLUE, YELLOW]),
    ] {
        let file = turns.iter().fold(File::coded(), |file, (kind, body)| file.with(kind, body));
        let prepared = good(&file.bytes());
        assert_eq!((prepared.facts.width, prepared.facts.height), size, "{turns:?}");
        assert_eq!(quarters(&prepared), expected, "{turns:?}");
        let thumbnail = image::load_from_memory(&prepared.thumbnail.expect("asked for").expect("made"));
        let thumbnail = thumbnail.expect("a JPEG");
        assert_eq!((thumbnail.width(), thumbnail.height()), size, "{turns:?}");
    }
}

#[test]
fn a_grid_is_laid_out_row_by_row_and_ends_where_the_picture_ends() {
    let prepared = good(&File::grid(3, 2, (300, 150)).bytes());
    assert_eq!((prepared.facts.width, prepared.facts.height), (300, 150));
    for (x, y, expected) in [
        (30, 20, RED),
        (90, 20, GREEN),
        (30, 70, BLUE),
        (90, 70, YELLOW),
        (160, 20, RED),
        (220, 70, YELLOW),
        (280, 20, RED),
        (30, 120, RED),
        (90, 120, GREEN),
        (280, 120, RED),
    ] {
        assert_eq!(colour(&prepared, x, y), expected, "{x}, {y}");
    }
}

#[test]
fn a_crop_takes_the_part_that_it_names_before_the_turn() {
    let word = |number: i32| number.to_be_bytes();
    // 40 x 20 pixels whose middle is 30 to the right of and 20 below the middle: in the yellow.
    let clap = [40, 1, 20, 1, 30, 1, 20, 1].map(word).concat();
    let prepared = good(&File::coded().with(b"clap", &clap).with(b"irot", &[1]).bytes());
    assert_eq!((prepared.facts.width, prepared.facts.height), (20, 40));
    assert_eq!(quarters(&prepared), [YELLOW; 4]);
    // One column fewer, as encoders write it for an odd width.
    let clap = [127, 1, 96, 1, -1, 2, 0, 1].map(word).concat();
    assert_eq!(good(&File::coded().with(b"clap", &clap).bytes()).facts.width, 127);
    for clap in [[129, 1, 96, 1, 0, 1, 0, 1], [40, 1, 20, 1, 50, 1, 0, 1], [40, 0, 20, 1, 0, 1, 0, 1], [0; 8]]
    {
        let file = File::coded().with(b"clap", &clap.map(word).concat()).bytes();
        assert_eq!(inspect(&file).expect_err("refused").kind, ErrorKind::Undecodable, "{clap:?}");
    }
}

#[test]
fn pixels_beyond_the_edge_do_not_shade_the_last_pixels() {
    // The parts of the last column and row are shown up to where the next quarter would begin.
    let prepared = good(&File::grid(3, 2, (320, 144)).bytes());
    for (x, y) in [(319, 20), (319, 120), (20, 143), (300, 143), (319, 143)] {
        assert_eq!(colour(&prepared, x, y), RED, "{x}, {y}");
    }
    let clap = [64, 1, 48, 1, -32, 1, -24, 1].map(i32::to_be_bytes).concat();
    let prepared = good(&File::coded().with(b"clap", &clap).bytes());
    for (x, y) in [(0, 0), (63, 0), (0, 47), (63, 47)] {
        assert_eq!(colour(&prepared, x, y), RED, "{x}, {y}");
    }
}

#[test]
fn transparency_is_white() {
    assert_eq!(quarters(&good(HALF)), [WHITE, GREEN, WHITE, YELLOW]);
}

#[test]
fn a_profile_and_code_points_are_followed() {
    // The profile turns the channels around.
    let profile = profiles::rgb(4, &profiles::GBR, profiles::Curve::Srgb);
    let turned = [[20, 220, 20], [20, 20, 200], [220, 20, 20], [20, 220, 210]];
    // Red and green of Display P3 lie outside of sRGB; blue and yellow are inside.
    let wide = [[242, 0, 0], [0, 203, 0], [16, 20, 228], [224, 209, 0]];
    let points = |primaries, transfer| [&b"nclx"[..], &[0, primaries, 0, transfer, 0, 6, 0x80]].concat();
    for (name, file, expected) in [
        ("prof", File::coded().with(b"colr", &[b"prof", &profile[..]].concat()), turned),
        ("rICC", File::coded().with(b"colr", &[b"rICC", &profile[..]].concat()), turned),
        ("P3", File::coded().with(b"colr", &points(12, 13)), wide),
        ("BT.709", File::coded().with(b"colr", &points(1, 1)), [RED, GREEN, BLUE, YELLOW]),
    ] {
        let prepared = good(&file.bytes());
        let (w, h) = prepared.picture.content;
        for ((x, y), expected) in [(1, 1), (3, 1), (1, 3), (3, 3)].into_iter().zip(expected) {
            let at = (h * y / 4 * prepared.picture.width + w * x / 4) as usize * 3;
            let found = &prepared.picture.rgb[at..at + 3];
            let near = found.iter().zip(expected).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 14);
            assert!(near, "{name}: {found:?} instead of {expected:?}");
        }
        assert!(prepared.facts.notes.is_empty(), "{name}: {:?}", prepared.facts.notes);
    }
    let broken = File::coded().with(b"colr", b"profnonsense");
    let prepared = good(&broken.bytes());
    assert_eq!(quarters(&prepared), [RED, GREEN, BLUE, YELLOW]);
    assert_eq!(prepared.facts.notes, ["the colour profile is broken and was ignored"]);
}

#[test]
fn hdr_is_shown_with_its_colours() {
    let prepared = good(include_bytes!("fixtures/heic/pq.heic"));
    let names: Vec<&str> = prepared.facts.colours.iter().map(|it| it.name.as_str()).collect();
    for colour in ["red", "green", "blue", "yellow"] {
        assert!(names.contains(&colour), "{names:?}");
    }
    let (w, h) = prepared.picture.content;
    let fields = [[220, 30, 30], [30, 160, 40], [30, 60, 200], [240, 210, 40]];
    for ((x, y), expected) in [(0.4, 0.44), (0.6, 0.44), (0.4, 0.56), (0.6, 0.56)].into_iter().zip(fields) {
        let (x, y) = ((f64::from(w) * x) as u32, (f64::from(h) * y) as u32);
        let at = (y * prepared.picture.width + x) as usize * 3;
        let found = &prepared.picture.rgb[at..at + 3];
        let near = found.iter().zip(expected).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 20);
        assert!(near, "{found:?} instead of {expected:?}");
    }
}

#[test]
fn every_coding_keeps_the_colours() {
    let colours = [RED, GREEN, BLUE, YELLOW];
    let greys = [[80; 3], [126; 3], [43; 3], [191; 3]];
    let pale = [[237, 137, 137], GREEN, [137, 137, 237], YELLOW];
    for (name, bytes, expected) in [
        ("the range of television", &include_bytes!("fixtures/heic/limited_709.heic")[..], colours),
        ("the same, 4:2:2, BT.2020", include_bytes!("fixtures/heic/limited_2020.heic"), colours),
        ("green, blue, red", include_bytes!("fixtures/heic/gbr.heic"), colours),
        ("10 bits", include_bytes!("fixtures/heic/bits10.heic"), colours),
        ("12 bits, 4:4:4", include_bytes!("fixtures/heic/bits12.heic"), colours),
        ("brightness alone", include_bytes!("fixtures/heic/grey.heic"), greys),
        ("multiplied by alpha", include_bytes!("fixtures/heic/premultiplied.heic"), pale),
    ] {
        let Picture { content, rgb, width, .. } = good(bytes).picture;
        // Odd sides: the last column and row have half of the pixels that share a sample of colour.
        assert_eq!(content, (67, 49), "{name}");
        for (n, expected) in expected.into_iter().enumerate() {
            let (x, y) = ([0, 16, 50, 66], [0, 12, 37, 48]);
            let (right, lower) = (n % 2 * 2, n / 2 * 2);
            for (x, y) in [(x[right], y[lower]), (x[right + 1], y[lower + 1])] {
                let at = (y * width + x) as usize * 3;
                let near = expected.iter().zip(&rgb[at..at + 3]).all(|(a, b)| a.abs_diff(*b) <= 4);
                assert!(near, "{name}, at {x}, {y}: {:?} and not {expected:?}", &rgb[at..at + 3]);
            }
        }
    }
}

#[test]
fn a_derived_picture_shows_its_source() {
    let mut file = File::coded().with(b"irot", &[2]);
    let coded = file.items.remove(0);
    file.items = vec![Item { kind: b"iden", properties: vec![2], data: (0, 0) }, coded];
    file.references = vec![(b"dimg", 1, vec![2])];
    // Half a turn each of the other and of itself.
    assert_eq!(quarters(&good(&file.bytes())), [RED, GREEN, BLUE, YELLOW]);
    file.references = vec![(b"dimg", 1, vec![1])];
    assert_eq!(inspect(&file.bytes()).expect_err("a loop").kind, ErrorKind::Undecodable);
}

#[test]
fn facts_come_from_the_exif_data() {
    let facts = good(QUARTERS).facts;
    assert_eq!(facts.camera.as_deref(), Some("Canon EOS R6"));
    assert_eq!(facts.taken_at.as_deref(), Some("2026-05-04T10:11:12"));
    assert_eq!(facts.coordinates, Some((-33.5, 18.25)));
}

// ---- refusals ---------------------------------------------------------------------------------------------

#[test]
fn other_codings_are_refused_by_name() {
    for (kind, word) in [(b"av01", "AVIF"), (b"iovl", "laid over others"), (b"jpeg", "not coded as HEVC")] {
        let mut file = File::coded();
        file.items[0].kind = kind;
        let error = inspect(&file.bytes()).expect_err("refused");
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains(word) && error.message.contains("JPEG"), "{error}");
    }
}

#[test]
fn a_truncated_file_is_refused_at_admission() {
    // The grid needs each of its parts; the other files end with bytes that the picture does not need.
    let grid = File::grid(2, 2, (256, 192)).bytes();
    let front = grid.len() - contents(&grid, b"mdat").len();
    for length in 30..grid.len() {
        let error = inspect(&grid[..length]).expect_err("refused");
        assert_eq!(error.kind, ErrorKind::Undecodable);
        assert_eq!(
            error.message == "the HEIC file ends before its picture does",
            length >= front - 8,
            "{error}"
        );
    }
    let half = good(&HALF[..HALF.len() - 10]);
    assert_eq!(quarters(&half)[1], GREEN);
}

#[test]
fn excessive_sizes_are_refused_before_decoding() {
    let of_size = |width, height| {
        let mut file = File::coded();
        file.properties = vec![hvcc_of_size(width, height)];
        inspect(&file.bytes()).expect_err("refused")
    };
    assert_eq!(of_size(20_000, 20_000).kind, ErrorKind::TooLarge);
    assert_eq!(of_size(16_000, 16_000).kind, ErrorKind::TooLarge);
    let error = of_size(9000, 9000);
    assert_eq!(error.message, "decoding needs 1234 MiB, limits.decode_memory_mb is 512");
    assert_eq!(of_size(0, 10).kind, ErrorKind::Undecodable);
    // Many small parts make a large picture. Parts must neither extend beyond it nor leave a part
    // of it empty.
    for (file, kind) in [
        (File::grid(255, 1, (32_600, 96)), ErrorKind::TooLarge),
        (File::grid(2, 2, (100, 192)), ErrorKind::Undecodable),
        (File::grid(2, 2, (257, 192)), ErrorKind::Undecodable),
    ] {
        assert_eq!(inspect(&file.bytes()).expect_err("refused").kind, kind);
    }
}

#[test]
fn bytes_that_are_listed_repeatedly_are_refused() {
    let mut file = File::grid(200, 200, (25_600, 19_200));
    let first = file.items[1].data;
    file.items.iter_mut().skip(1).for_each(|item| item.data = first);
    file.data.truncate(8 + first.1 as usize);
    let roomy = Limits { max_side_px: 65_535, max_pixels: 1 << 30, decode_memory: 8 << 30, ..LIMITS };
    let error = inspect_within(&file.bytes(), &roomy).expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Undecodable);
}

#[test]
fn a_picture_with_a_false_size_is_refused() {
    // A decoded part has 128 x 96 pixels; two such parts do not make the size in the container.
    let mut file = File::grid(1, 2, (128, 192));
    file.properties = vec![hvcc_of_size(128, 96)];
    let error = media::prepare(&file.bytes(), &LIMITS, &VISION, true).expect_err("not decodable");
    assert_eq!(error.kind, ErrorKind::Undecodable);
    assert!(!error.message.ends_with('.') && !error.message.contains('"'), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_never_panic_and_keep_the_limits(
        which in 0..3_usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let tight = Limits { max_pixels: 250_000, max_side_px: 2000, decode_memory: 32 << 20, ..LIMITS };
        let mut files = [QUARTERS.to_vec(), HALF.to_vec(), File::grid(2, 2, (250, 190)).bytes()];
        let mut bytes = std::mem::take(&mut files[which]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            let length = cut.index(bytes.len());
            bytes.truncate(length);
        }
        let inspected = inspect_within(&bytes, &tight);
        match media::prepare(&bytes, &tight, &VISION, true) {
            Ok(_) => prop_assert!(inspected.is_ok_and(|it| it.decode_bytes <= tight.decode_memory)),
            Err(error) => prop_assert!(!error.message.is_empty() && !error.message.ends_with('.')),
        }
    }
}
