//! Reads the few EXIF tags that are used, in place.
//!
//! At most four directories are read and no pointer is followed twice, so loops end. Only the short strings
//! that are kept are copied, so a tag that claims gigabytes costs nothing.

use super::bytes::{be16, be32, le16, le32};
use super::orientation::Orientation;
use super::origin::{self, camera, taken_at};

/// Most entries of a directory; cameras write fewer.
const MAX_ENTRIES: usize = 1000;
/// Largest EXIF block that is read, in bytes.
const MAX_BLOCK_BYTES: usize = 4 << 20;
/// Longest text that is read, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// The EXIF data of a picture that are used.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Exif {
    pub(super) orientation: Orientation,
    /// The camera's local time, as `2026-05-04T10:11:12`.
    pub(super) taken_at: Option<String>,
    /// Maker and model.
    pub(super) camera: Option<String>,
    /// Degrees north and east.
    pub(super) coordinates: Option<(f64, f64)>,
    /// The colours are those of Adobe RGB.
    pub(super) adobe_rgb: bool,
}

/// Reads an EXIF block, unless it is too large.
pub(super) fn read_block(block: &[u8]) -> Exif {
    if block.len() > MAX_BLOCK_BYTES { Exif::default() } else { read(block) }
}

/// Reads the TIFF structure of EXIF. Entries that make no sense are left out.
pub(super) fn read(bytes: &[u8]) -> Exif {
    let bytes = bytes.strip_prefix(b"Exif\0\0").unwrap_or(bytes);
    let Some(tiff) = Tiff::open(bytes) else { return Exif::default() };
    let mut exif = Exif::default();
    let (mut maker, mut model) = (None, None);
    let (mut photo, mut gps) = (None, None);
    for entry in tiff.directory(tiff.u32(4)) {
        match entry.tag {
            0x010f => maker = tiff.text(&entry),
            0x0110 => model = tiff.text(&entry),
            0x0112 => exif.orientation = Orientation::new(tiff.unsigned(&entry).unwrap_or(1) as u16),
            0x8769 => photo = tiff.unsigned(&entry),
            0x8825 => gps = tiff.unsigned(&entry),
            _ => {}
        }
    }
    exif.camera = camera(maker, model);
    let mut digitized = None;
    let (mut space, mut interoperability) = (None, None);
    for entry in tiff.directory(photo) {
        match entry.tag {
            0x9003 => exif.taken_at = tiff.text(&entry).and_then(taken_at),
            0x9004 => digitized = tiff.text(&entry).and_then(taken_at),
            0xa001 => space = tiff.unsigned(&entry),
            0xa005 => interoperability = tiff.unsigned(&entry),
            _ => {}
        }
    }
    exif.taken_at = exif.taken_at.or(digitized);
    // Some makers write 2; the standard has "uncalibrated", and the rule R03 in a directory of its own.
    let mut rules = tiff.directory(interoperability).filter(|entry| entry.tag == 1);
    exif.adobe_rgb =
        space == Some(2) || space != Some(1) && rules.any(|rule| tiff.text(&rule) == Some(b"R03"));
    exif.coordinates = coordinates(&tiff, gps);
    exif
}

/// One entry of a directory.
struct Entry {
    tag: u16,
    kind: u16,
    /// Number of values.
    count: usize,
    /// Offset of the first value.
    value: usize,
}

struct Tiff<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl<'a> Tiff<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let little = match bytes.get(..4)? {
            [b'I', b'I', 42, 0] => true,
            [b'M', b'M', 0, 42] => false,
            _ => return None,
        };
        Some(Self { bytes, little })
    }

    fn u16(&self, at: usize) -> Option<u16> {
        if self.little { le16(self.bytes, at) } else { be16(self.bytes, at) }
    }

    fn u32(&self, at: usize) -> Option<u32> {
        if self.little { le32(self.bytes, at) } else { be32(self.bytes, at) }
    }

    /// The entries of the directory at an offset, up to the end of the bytes.
    fn directory(&self, offset: Option<u32>) -> impl Iterator<Item = Entry> {
        let start = offset.filter(|&o| o >= 8).and_then(|o| usize::try_from(o).ok());
        let count = start.and_then(|at| self.u16(at)).map_or(0, usize::from).min(MAX_ENTRIES);
        (0..count).map_while(move |i| {
            let at = start?.checked_add(2 + 12 * i)?;
            let (tag, kind, count) = (self.u16(at)?, self.u16(at + 2)?, self.u32(at + 4)?);
            let count = usize::try_from(count).ok()?;
            let unit = match kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 => 8,
                _ => 0,
            };
            let fits = count.checked_mul(unit).is_some_and(|size| size <= 4);
            let value = if fits { at + 8 } else { usize::try_from(self.u32(at + 8)?).ok()? };
            Some(Entry { tag, kind, count, value })
        })
    }

    fn unsigned(&self, entry: &Entry) -> Option<u32> {
        match entry.kind {
            1 => self.bytes.get(entry.value).copied().map(u32::from),
            3 => self.u16(entry.value).map(u32::from),
            4 | 13 => self.u32(entry.value),
            _ => None,
        }
    }

    /// A text up to its first zero byte, or its first [`MAX_TEXT_BYTES`] bytes.
    fn text(&self, entry: &Entry) -> Option<&'a [u8]> {
        if entry.kind != 2 {
            return None;
        }
        let rest = self.bytes.get(entry.value..)?;
        let text = rest.get(..entry.count.min(MAX_TEXT_BYTES)).unwrap_or(rest);
        text.split(|&b| b == 0).next()
    }

    /// The n-th rational of a value. Some cameras write zero as 0/0.
    fn rational(&self, entry: &Entry, n: usize) -> Option<f64> {
        if entry.kind != 5 || n >= entry.count {
            return None;
        }
        let at = entry.value.checked_add(8 * n)?;
        let (over, under) = (self.u32(at)?, self.u32(at.checked_add(4)?)?);
        match (over, under) {
            (0, 0) => Some(0.0),
            (_, 0) => None,
            _ => Some(f64::from(over) / f64::from(under)),
        }
    }
}

/// Degrees north and east. Returns `None` if a part is missing or makes no sense.
fn coordinates(tiff: &Tiff<'_>, directory: Option<u32>) -> Option<(f64, f64)> {
    let (mut north, mut east, mut latitude, mut longitude) = (None, None, None, None);
    let degrees = |entry: &Entry| {
        let [degrees, minutes, seconds] = [0, 1, 2].map(|n| tiff.rational(entry, n));
        Some(degrees? + minutes.unwrap_or(0.0) / 60.0 + seconds.unwrap_or(0.0) / 3600.0)
    };
    let sign = |entry: &Entry| match tiff.text(entry)?.first()? {
        b'N' | b'n' | b'E' | b'e' => Some(1.0),
        b'S' | b's' | b'W' | b'w' => Some(-1.0),
        _ => None,
    };
    for entry in tiff.directory(directory) {
        match entry.tag {
            1 => north = sign(&entry),
            2 => latitude = degrees(&entry),
            3 => east = sign(&entry),
            4 => longitude = degrees(&entry),
            _ => {}
        }
    }
    origin::coordinates(latitude? * north?, longitude? * east?)
}
