//! Raw files of cameras, written as each maker writes them, around small JPEGs.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

/// A value of an entry.
#[derive(Clone)]
pub enum Value {
    Short(u16),
    Shorts(Vec<u16>),
    Long(u32),
    Text(&'static str),
    /// Bytes of any type.
    Bytes(Vec<u8>),
    /// The offset of bytes, which is one of the file.
    At(Vec<u8>),
    Rationals(Vec<(u32, u32)>),
    /// The offsets of directories.
    Below(Vec<Directory>),
}

pub type Directory = Vec<(u16, Value)>;

/// A TIFF structure with its directories in a chain, at an offset in the file that its own offsets do not
/// count from.
pub struct Tiff {
    little: bool,
    bytes: Vec<u8>,
}

impl Tiff {
    /// Writes a structure with a magic number of its own. `extra` follows the first eight bytes.
    pub fn write(magic: &[u8; 4], extra: &[u8], chain: &[Directory]) -> Vec<u8> {
        let mut tiff = Self { little: magic[0] == b'I', bytes: [&magic[..], &[0; 4], extra].concat() };
        let mut link = 4;
        for directory in chain {
            let at = tiff.bytes.len() as u32;
            tiff.put32(link, at);
            link = tiff.directory(directory);
        }
        tiff.bytes
    }

    fn u16(&self, number: u16) -> [u8; 2] {
        if self.little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    fn u32(&self, number: u32) -> [u8; 4] {
        if self.little { number.to_le_bytes() } else { number.to_be_bytes() }
    }

    fn put32(&mut self, at: usize, number: u32) {
        let number = self.u32(number);
        self.bytes[at..at + 4].copy_from_slice(&number);
    }

    /// Writes a directory with its values behind it. Returns the place of the link to the next one.
    fn directory(&mut self, entries: &Directory) -> usize {
        let start = self.bytes.len();
        self.bytes.extend(self.u16(entries.len() as u16));
        self.bytes.resize(start + 2 + entries.len() * 12 + 4, 0);
        for (i, (tag, value)) in entries.iter().enumerate() {
            let (kind, count, bytes) = match value {
                Value::Short(number) => (3, 1, self.u16(*number).to_vec()),
                Value::Shorts(numbers) => {
                    let bytes = numbers.iter().flat_map(|it| self.u16(*it)).collect();
                    (3, numbers.len() as u32, bytes)
                }
                Value::Long(number) => (4, 1, self.u32(*number).to_vec()),
                Value::Text(text) => (2, text.len() as u32 + 1, [text.as_bytes(), b"\0"].concat()),
                Value::Bytes(bytes) => (7, bytes.len() as u32, bytes.clone()),
                Value::At(bytes) => {
                    let at = self.bytes.len() as u32;
                    self.bytes.extend(bytes);
                    (4, 1, self.u32(at).to_vec())
                }
                Value::Rationals(numbers) => {
                    let bytes = numbers.iter().flat_map(|(a, b)| [self.u32(*a), self.u32(*b)].concat());
                    (5, numbers.len() as u32, bytes.collect())
                }
                Value::Below(directories) => {
                    let mut offsets = Vec::new();
                    for directory in directories {
                        offsets.extend(self.u32(self.bytes.len() as u32));
                        self.directory(directory);
                    }
                    (4, directories.len() as u32, offsets)
                }
            };
            let at = start + 2 + i * 12;
            let head = [&self.u16(*tag)[..], &self.u16(kind), &self.u32(count)].concat();
            self.bytes[at..at + 8].copy_from_slice(&head);
            if bytes.len() <= 4 {
                self.bytes[at + 8..at + 8 + bytes.len()].copy_from_slice(&bytes);
            } else {
                let place = self.bytes.len() as u32;
                self.put32(at + 8, place);
                self.bytes.extend(bytes);
            }
        }
        start + 2 + entries.len() * 12
    }
}

/// The entries of a picture that is a JPEG in one strip.
fn strip(compression: u16, jpeg: &[u8]) -> Directory {
    vec![
        (0x0103, Value::Short(compression)),
        (0x0111, Value::At(jpeg.to_vec())),
        (0x0117, Value::Long(jpeg.len() as u32)),
    ]
}

/// The entries of a JPEG that is no picture of the TIFF structure.
fn interchange(jpeg: &[u8]) -> Directory {
    vec![(0x0201, Value::At(jpeg.to_vec())), (0x0202, Value::Long(jpeg.len() as u32))]
}

/// A mosaic of a sensor by a maker's own coding.
fn sensor(compression: u16) -> Directory {
    vec![
        (0x00fe, Value::Long(0)),
        (0x0103, Value::Short(compression)),
        (0x0106, Value::Short(32_803)),
        (0x0111, Value::At(vec![0x55; 400])),
        (0x0117, Value::Long(400)),
    ]
}

/// Camera, orientation 6, time and place.
fn facts(note: Option<Vec<u8>>) -> Directory {
    let mut photo = vec![(0x9003, Value::Text("2019:05:04 10:11:12"))];
    photo.extend(note.map(|note| (0x927c, Value::Bytes(note))));
    vec![
        (0x010f, Value::Text("Maker")),
        (0x0110, Value::Text("Model 5")),
        (0x0112, Value::Short(6)),
        (0x8769, Value::Below(vec![photo])),
        (0x8825, Value::Below(vec![place()])),
    ]
}

fn place() -> Directory {
    vec![
        (1, Value::Text("N")),
        (2, Value::Rationals(vec![(50, 1), (5, 1), (0, 1)])),
        (3, Value::Text("E")),
        (4, Value::Rationals(vec![(14, 1), (25, 1), (0, 1)])),
    ]
}

/// The header of a lossless JPEG, as which Canon and Adobe code the data of a sensor, larger than any
/// preview.
fn lossless() -> Vec<u8> {
    let mut jpeg = b"\xff\xd8\xff\xc3\0\x0b\x08\x20\0\x20\0\x01\x01\x11\0".to_vec();
    jpeg.resize(64, 0);
    jpeg
}

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

/// A file of each kind with a large and a small JPEG in it, and orientation 6.
pub fn all(large: &[u8], small: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("CR2", cr2(large, small)),
        ("CR3", cr3(large, small)),
        ("NEF", nef(large, small)),
        ("old NEF", old_nef(large)),
        ("ARW", arw(large, small)),
        ("DNG", dng(large)),
        ("ORF", orf(large)),
        ("RW2", rw2(large)),
        ("RAF", raf(large)),
        ("PEF", pef(large, small)),
        ("SRW", srw(large, small)),
    ]
}

pub fn cr2(large: &[u8], small: &[u8]) -> Vec<u8> {
    let first = [strip(6, large), facts(None)].concat();
    let last = strip(6, &lossless());
    Tiff::write(b"II*\0", b"CR\x02\0\0\0\0\0", &[first, interchange(small), vec![], last])
}

pub fn nef(large: &[u8], small: &[u8]) -> Vec<u8> {
    let below = vec![interchange(large), sensor(34_713), interchange(small)];
    let first = [vec![(0x00fe, Value::Long(1)), (0x0103, Value::Short(1))], facts(None)].concat();
    Tiff::write(b"MM\0*", &[], &[[first, vec![(0x014a, Value::Below(below))]].concat()])
}

/// Before 2003 the preview was in the maker's note alone.
pub fn old_nef(large: &[u8]) -> Vec<u8> {
    let inner = Tiff::write(b"MM\0*", &[], &[vec![(0x0011, Value::Below(vec![interchange(large)]))]]);
    let note = [&b"Nikon\0\x02\x10\0\0"[..], &inner].concat();
    Tiff::write(b"MM\0*", &[], &[[sensor(34_713), facts(Some(note))].concat()])
}

pub fn arw(large: &[u8], small: &[u8]) -> Vec<u8> {
    let first =
        [interchange(large), facts(None), vec![(0x014a, Value::Below(vec![sensor(32_767)]))]].concat();
    Tiff::write(b"II*\0", &[], &[first, interchange(small)])
}

pub fn dng(large: &[u8]) -> Vec<u8> {
    let raw = [strip(7, &lossless()), vec![(0x0106, Value::Short(32_803))]].concat();
    let below = vec![raw, strip(7, large)];
    let version = vec![(0xc612, Value::Bytes(vec![1, 4, 0, 0])), (0x014a, Value::Below(below))];
    Tiff::write(b"II*\0", &[], &[[facts(None), version].concat()])
}

pub fn orf(large: &[u8]) -> Vec<u8> {
    // Offsets in the note count from its start, 12 bytes before its first directory.
    let settings = vec![(0x0101, Value::At(large.to_vec())), (0x0102, Value::Long(large.len() as u32))];
    let mut note = Tiff::write(b"II*\0", &[0; 4], &[vec![(0x2020, Value::Below(vec![settings]))]]);
    note[..12].copy_from_slice(b"OLYMPUS\0II\x03\0");
    Tiff::write(b"IIRO", &[], &[facts(Some(note))])
}

pub fn rw2(large: &[u8]) -> Vec<u8> {
    Tiff::write(b"IIU\0", &[], &[[vec![(0x002e, Value::Bytes(large.to_vec()))], facts(None)].concat()])
}

/// The JPEG of Fujifilm's files has the facts.
pub fn raf(large: &[u8]) -> Vec<u8> {
    let exif = Tiff::write(b"II*\0", &[], &[facts(None)]);
    let segment = [&b"\xff\xe1"[..], &(exif.len() as u16 + 8).to_be_bytes(), b"Exif\0\0", &exif].concat();
    let jpeg = [&large[..2], &segment, &large[2..]].concat();
    let mut head = b"FUJIFILMCCD-RAW 0201FF000000".to_vec();
    head.resize(84, 0);
    [&head[..], &148_u32.to_be_bytes(), &(jpeg.len() as u32).to_be_bytes(), &[0; 56], &jpeg].concat()
}

pub fn pef(large: &[u8], small: &[u8]) -> Vec<u8> {
    let first = [sensor(65_535), facts(None)].concat();
    Tiff::write(b"MM\0*", &[], &[first, interchange(small), interchange(large)])
}

pub fn srw(large: &[u8], small: &[u8]) -> Vec<u8> {
    let below = vec![interchange(large), sensor(32_770)];
    let first = [facts(None), vec![(0x014a, Value::Below(below))]].concat();
    Tiff::write(b"II*\0", &[], &[first, interchange(small)])
}

pub fn cr3(large: &[u8], small: &[u8]) -> Vec<u8> {
    let main = Tiff::write(b"II*\0", &[], &[facts(None)[..3].to_vec()]);
    let photo = Tiff::write(b"II*\0", &[], &[vec![(0x9003, Value::Text("2019:05:04 10:11:12"))]]);
    let place = Tiff::write(b"II*\0", &[], &[place()]);
    let thumbnail = [&[0; 16][..], small].concat();
    let metadata = [
        &b"\x85\xc0\xb6\x87\x82\x0f\x11\xe0\x81\x11\xf4\xce\x46\x2b\x6a\x48"[..],
        &boxed(b"CNCV", b"CanonCR3"),
        &boxed(b"CMT1", &main),
        &boxed(b"CMT2", &photo),
        &boxed(b"CMT4", &place),
        &boxed(b"THMB", &thumbnail),
    ]
    .concat();
    let preview = [
        &b"\xea\xf4\x2b\x5e\x1c\x98\x4b\x88\xb9\xfb\xb7\xdc\x40\x6e\x4d\x16\0\0\0\0\0\0\0\x01"[..],
        &boxed(b"PRVW", &[&[0; 16][..], small].concat()),
    ]
    .concat();
    let front = |at: u64| {
        let sizes = [&[0; 4][..], &(large.len() as u32).to_be_bytes(), &[0, 0, 0, 1]].concat();
        let places = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &at.to_be_bytes()].concat();
        // Both boxes are longer in real files.
        let table = [boxed(b"stsz", &[&sizes[..], &[0; 4]].concat()), boxed(b"co64", &places)].concat();
        let track = boxed(b"mdia", &boxed(b"minf", &boxed(b"stbl", &table)));
        let movie = [boxed(b"uuid", &metadata), boxed(b"trak", &track)].concat();
        [
            boxed(b"ftyp", b"crx \0\0\0\x01crx isom"),
            boxed(b"moov", &movie),
            boxed(b"uuid", &preview),
            (large.len() as u32 + 8).to_be_bytes().to_vec(),
            b"mdat".to_vec(),
        ]
        .concat()
    };
    [&front(front(0).len() as u64)[..], large].concat()
}
