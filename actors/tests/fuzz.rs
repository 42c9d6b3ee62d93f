//! Mutated files never make a reader panic, hang or lose a document.
//!
//! Each test mutates its seeds: a few thousand times, or for `FUZZ_SECONDS`. Inputs with a new kind of result are
//! kept and mutated further. A failing input is written to the folder that the message names; as a file in
//! `fixtures/fuzz/`, it stays a seed.

#[path = "support/pictures.rs"]
mod pictures;
#[path = "support/raws.rs"]
mod raws;

use std::{
    collections::{BTreeSet, HashSet},
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;
use mediamill_actors::media::fuzzing::Reader;

/// Mutations of a test without `FUZZ_SECONDS`.
const MUTATIONS: u32 = 1500;
/// Longest input, in bytes.
const MAX_BYTES: usize = 1 << 16;
/// Most inputs that are kept.
const MAX_KEPT: usize = 4096;
/// Longest time for one input. The readers take milliseconds, but the machine may be busy.
const TOO_LONG: Duration = Duration::from_secs(20);

fn seeds(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
    let files: BTreeSet<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|it| it.expect("an entry").path()).collect();
    files.iter().filter(|it| it.is_file()).map(|it| fs::read(it).expect("a file")).collect()
}

/// A result without its numbers and longer texts, so that results of one kind are equal.
fn kind(result: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    result.bytes().filter(|it| !it.is_ascii_digit()).take(600).for_each(|it| it.hash(&mut hasher));
    hasher.finish()
}

/// Replaces, inserts, repeats, removes or cuts a part of the bytes.
fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], words: &[&[u8]], random: &mut Rng) {
    let at = random.usize(..bytes.len().max(1));
    let most = [2, 8, 64, 1024][random.usize(..4)];
    let length = random.usize(1..=most);
    let end = (at + length).min(bytes.len());
    match random.u32(..11) {
        _ if bytes.is_empty() => bytes.extend_from_slice(others[random.usize(..others.len())].as_slice()),
        0 => bytes[at] ^= 1 << random.u32(..8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, random.u8(..)][random.usize(..6)],
        2 | 3 => {
            let size = bytes.len() as u64;
            let numbers = [0, 1, 8, 0x7fff, 0x7fff_ffff, 0xffff_ffff, u64::MAX, size, size - 1, at as u64];
            let number = numbers[random.usize(..numbers.len())].wrapping_add(random.u64(..3)).wrapping_sub(1);
            let width = [1, 2, 4, 8][random.usize(..4)];
            let coded = match random.bool() {
                true => number.to_be_bytes()[8 - width..].to_vec(),
                false => number.to_le_bytes()[..width].to_vec(),
            };
            let end = (at + width).min(bytes.len());
            bytes[at..end].copy_from_slice(&coded[..end - at]);
        }
        4 => drop(bytes.drain(at..end)),
        5 => bytes.truncate(at),
        6 => {
            let part = bytes[at..end].to_vec();
            let to = random.usize(..=bytes.len());
            let most = [1, 4, 200][random.usize(..3)];
            for _ in 0..random.usize(1..=most) {
                bytes.splice(to..to, part.iter().copied());
            }
        }
        7 => {
            let other = &others[random.usize(..others.len())];
            let from = random.usize(..=other.len());
            let part = other[from..(from + length).min(other.len())].to_vec();
            bytes.splice(at..if random.bool() { end } else { at }, part);
        }
        8 => {
            let other = &others[random.usize(..others.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[random.usize(..=other.len())..]);
        }
        _ => {
            let word = words[random.usize(..words.len())];
            let end = if random.bool() { (at + word.len()).min(bytes.len()) } else { at };
            bytes.splice(at..end, word.iter().copied());
        }
    }
    bytes.truncate(MAX_BYTES);
}

/// Reads bytes. Returns the kind of the result.
///
/// # Panics
/// If the reader panics or takes too long; the input is written to a file then.
#[allow(clippy::panic, reason = "a test fails by a panic")]
fn try_one(reader: Reader, bytes: &[u8]) -> u64 {
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| reader.read(bytes)));
    let elapsed = started.elapsed();
    if let Ok(result) = &result
        && elapsed < TOO_LONG
    {
        return kind(result);
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{reader:?}-{:x}", hasher.finish()));
    fs::write(&path, bytes).expect("written");
    panic!("{reader:?} failed on {} after {elapsed:?}", path.display());
}

fn fuzz(reader: Reader, seeds: Vec<Vec<u8>>, words: &[&[u8]]) {
    let number = |name: &str| env::var(name).ok().map(|it| it.parse::<u64>().expect("a number"));
    let seconds = number("FUZZ_SECONDS").map(Duration::from_secs);
    // The same run each time, unless it is meant to find something new.
    let seed = number("FUZZ_SEED").unwrap_or_else(|| if seconds.is_some() { fastrand::u64(..) } else { 7 });
    let mut random = Rng::with_seed(seed);
    let mut kinds: HashSet<u64> = seeds.iter().map(|it| try_one(reader, it)).collect();
    let mut kept = seeds;
    let (started, mut mutations) = (Instant::now(), 0_u32);
    while seconds.map_or(mutations < MUTATIONS, |it| started.elapsed() < it) {
        let mut bytes = kept[random.usize(..kept.len())].clone();
        let most = [1, 3, 8][random.usize(..3)];
        for _ in 0..random.usize(1..=most) {
            mutate(&mut bytes, &kept, words, &mut random);
        }
        mutations += 1;
        if kinds.insert(try_one(reader, &bytes)) && kept.len() < MAX_KEPT {
            kept.push(bytes);
        }
    }
    println!("{reader:?}: {mutations} mutations (seed {seed}), {} kinds of results", kinds.len());
}

#[test]
fn mp4() {
    let words: &[&[u8]] = &[
        b"ftyp",
        b"moov",
        b"mvhd",
        b"trak",
        b"tkhd",
        b"edts",
        b"elst",
        b"mdia",
        b"mdhd",
        b"hdlr",
        b"vide",
        b"minf",
        b"stbl",
        b"stsd",
        b"avc1",
        b"avcC",
        b"hvc1",
        b"encv",
        b"stts",
        b"ctts",
        b"stss",
        b"stsc",
        b"stsz",
        b"stco",
        b"co64",
        b"udta",
        b"meta",
        b"keys",
        b"ilst",
        b"data",
        b"\xa9xyz",
        b"loci",
        b"uuid",
        b"XMP_",
        b"mvex",
        b"\0\0\0\x01",
        b"\0\0\0\0",
    ];
    fuzz(Reader::Mp4, seeds("fuzz/mp4"), words);
}

#[test]
fn matroska() {
    let words: &[&[u8]] = &[
        b"\x1a\x45\xdf\xa3",
        b"\x18\x53\x80\x67",
        b"\x11\x4d\x9b\x74",
        b"\x15\x49\xa9\x66",
        b"\x16\x54\xae\x6b",
        b"\x1f\x43\xb6\x75",
        b"\x1c\x53\xbb\x6b",
        b"\x12\x54\xc3\x67",
        b"\xa3",
        b"\xa0",
        b"\xa1",
        b"\xfb",
        b"\xe7",
        b"\xae",
        b"\xbb",
        b"\xb3",
        b"\xb7",
        b"\xf1",
        b"\x44\x89",
        b"\x2a\xd7\xb1",
        b"\x01\xff\xff\xff\xff\xff\xff\xff",
        b"\xff",
        b"V_VP9",
        b"V_MPEG4/ISO/AVC",
    ];
    fuzz(Reader::Matroska, seeds("fuzz/matroska"), words);
}

#[test]
#[cfg(feature = "heic")]
fn heif() {
    let words: &[&[u8]] = &[
        b"ftyp",
        b"meta",
        b"pitm",
        b"iinf",
        b"infe",
        b"iloc",
        b"iref",
        b"iprp",
        b"ipco",
        b"ipma",
        b"idat",
        b"grid",
        b"iden",
        b"iovl",
        b"hvc1",
        b"hvcC",
        b"ispe",
        b"irot",
        b"imir",
        b"clap",
        b"colr",
        b"nclx",
        b"prof",
        b"auxC",
        b"auxl",
        b"cdsc",
        b"dimg",
        b"Exif",
        b"mime",
        b"application/rdf+xml\0",
    ];
    fuzz(Reader::Heif, [seeds(""), seeds("heic"), seeds("fuzz/heif")].concat(), words);
}

#[test]
fn exif() {
    let words: &[&[u8]] = &[
        b"Exif\0\0",
        b"II*\0",
        b"MM\0*",
        b"\x87\x69",
        b"\x69\x87",
        b"\x88\x25",
        b"\x25\x88",
        b"\x90\x03",
        b"\x03\x90",
        b"\x01\x32",
        b"\x9c\x9b",
        b"\xa0\x05",
        b"2019:05:04 24:00:00\0",
        b"+02:00\0",
        b"\0\x0a",
        b"\0\x0c",
        b"\0\x81",
    ];
    fuzz(Reader::Exif, seeds("fuzz/exif"), words);
}

#[test]
fn raw() {
    let (large, small) =
        (pictures::jpeg(&pictures::quarters(32, 24)), pictures::jpeg(&pictures::quarters(8, 8)));
    let seeds = raws::all(&large, &small).into_iter().map(|(_, bytes)| bytes).collect();
    let words: &[&[u8]] = &[
        b"II*\0",
        b"MM\0*",
        b"IIU\0",
        b"IIRO",
        b"FUJIFILMCCD-RAW",
        b"ftypcrx ",
        b"CMT1",
        b"CMT2",
        b"PRVW",
        b"THMB",
        b"trak",
        b"uuid",
        b"\xff\xd8\xff",
        b"\x4a\x01",
        b"\x01\x4a",
        b"\x02\x01",
        b"\x02\x02",
        b"\x87\x69",
        b"\x2e\0",
    ];
    fuzz(Reader::Raw, seeds, words);
}

#[test]
fn xmp() {
    let words: &[&[u8]] = &[
        b"<rdf:Description ",
        b"</rdf:Description>",
        b"<rdf:li>",
        b"</rdf:li>",
        b"<rdf:Alt>",
        b"</rdf:Alt>",
        b"/>",
        b"<![CDATA[",
        b"]]>",
        b"<!--",
        b"-->",
        b"<?",
        b"?>",
        b"&amp;",
        b"&#x10ffff;",
        b"&#0;",
        b"&",
        b"<",
        b">",
        b"\"",
        b"'",
        b"=",
        b"xmlns:a='",
        b"xmlns='",
        b" rdf:parseType='Resource'",
        b"<!DOCTYPE a>",
        b"\xef\xbb\xbf",
        b"\r\n",
        b"\0",
        b"exif:GPSLatitude=\"50,5,5N\"",
        b"\xff\xfe",
    ];
    fuzz(Reader::Xmp, seeds("fuzz/xmp"), words);
}

#[test]
fn iptc() {
    let words: &[&[u8]] = &[
        b"\x1c\x02\x05",
        b"\x1c\x02\x37",
        b"\x1c\x02\x3c",
        b"\x1c\x02\x5a",
        b"\x80\x04",
        b"8BIM",
        b"\x04\x04",
        b"20190504",
        b"101112+0200",
    ];
    fuzz(Reader::Iptc, seeds("fuzz/iptc"), words);
}

#[test]
fn embedded() {
    let words: &[&[u8]] = &[
        b"\xff\xe1",
        b"\xff\xed",
        b"\xff\xda",
        b"Exif\0\0",
        b"http://ns.adobe.com/xap/1.0/\0",
        b"http://ns.adobe.com/xmp/extension/\0",
        b"Photoshop 3.0\0",
        b"8BIM\x04\x04\0\0",
        b"eXIf",
        b"iTXt",
        b"IEND",
        b"XML:com.adobe.xmp\0\x01\0\0\0",
        b"EXIF",
        b"XMP ",
        b"VP8X",
        b"\xbc\x02",
        b"\xbb\x83",
        b"\x49\x86",
        b"II*\0",
    ];
    fuzz(Reader::Embedded, seeds("fuzz/embedded"), words);
}

#[test]
fn takeout() {
    let seeds = vec![
        br#"{"title":"a","photoTakenTime":{"timestamp":"1556964672"},"geoData":{"latitude":1.0,"longitude":2.0}}"#.to_vec(),
        "PXL_20230504_101112345.PORTRAIT-bearbeitet(12).jpg".into(),
        "a photo with a name of more than fifty characters \u{e4}\u{1f600}\u{e4}(1).jpg".into(),
    ];
    fuzz(
        Reader::Takeout,
        seeds,
        &[b"(1)", b".", b"-edited", "\u{1f600}".as_bytes(), b"\"timestamp\":1", b"1e999"],
    );
}
