//! Reads the few EXIF tags that are used, in place.
//!
//! At most four directories are read and no pointer is followed twice, so loops end. Only the short strings
//! that are kept are copied, so a tag that claims gigabytes costs nothing.

use super::bytes::{be16, be32, le16, le32};
use super::moment::Moment;
use super::orientation::Orientation;
use super::origin::{self, Origin, Origins, camera};
use super::text::decoded;

/// Most entries of a directory; cameras write fewer.
const MAX_ENTRIES: usize = 1000;
/// Largest EXIF block that is read, in bytes.
const MAX_BLOCK_BYTES: usize = 4 << 20;
/// Longest text that is read, in bytes.
const MAX_TEXT_BYTES: usize = 512;

/// The EXIF data of a picture that are used.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Exif {
    pub(super) orientation: Orientation,
    /// When it was taken, or otherwise digitized.
    pub(super) taken: Option<Moment>,
    /// When the file was last changed.
    pub(super) changed: Option<Moment>,
    /// Maker and model.
    pub(super) camera: Option<String>,
    /// Degrees north and east.
    pub(super) coordinates: Option<(f64, f64)>,
    /// The title that Windows writes.
    pub(super) title: Option<String>,
    /// The colours are those of Adobe RGB.
    pub(super) adobe_rgb: bool,
}

impl Exif {
    /// What it says of the origin of the picture.
    pub(super) fn origins(self) -> Origins {
        let Self { taken, changed, camera, coordinates, title, .. } = self;
        Origins { embedded: Origin { taken, camera, coordinates, title, place: None }, changed }
    }
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
    let (mut taken, mut digitized) = (Date::default(), Date::default());
    let mut changed = Date::default();
    for entry in tiff.directory(tiff.u32(4)) {
        match entry.tag {
            0x010f => maker = tiff.text(&entry),
            0x0110 => model = tiff.text(&entry),
            0x0112 => exif.orientation = Orientation::new(tiff.unsigned(&entry).unwrap_or(1) as u16),
            0x0132 => changed.time = tiff.text(&entry),
            0x8769 => photo = tiff.unsigned(&entry),
            0x8825 => gps = tiff.unsigned(&entry),
            // Raw files have it here.
            0x9003 => taken.time = tiff.text(&entry),
            0x9c9b => exif.title = tiff.wide_text(&entry).and_then(|it| origin::title(&it)),
            _ => {}
        }
    }
    exif.camera = camera(maker.as_deref(), model.as_deref());
    let (mut space, mut interoperability) = (None, None);
    for entry in tiff.directory(photo) {
        let text = || tiff.text(&entry);
        match entry.tag {
            0x9003 => taken.time = text(),
            0x9004 => digitized.time = text(),
            0x9010 => changed.offset = text(),
            0x9011 => taken.offset = text(),
            0x9012 => digitized.offset = text(),
            0xa001 => space = tiff.unsigned(&entry),
            0xa005 => interoperability = tiff.unsigned(&entry),
            _ => {}
        }
    }
    exif.taken = taken.moment().or(digitized.moment());
    exif.changed = changed.moment();
    // Some makers write 2; the standard has "uncalibrated", and the rule R03 in a directory of its own.
    let mut rules = tiff.directory(interoperability).filter(|entry| entry.tag == 1);
    exif.adobe_rgb =
        space == Some(2) || space != Some(1) && rules.any(|rule| tiff.text(&rule).as_deref() == Some("R03"));
    exif.coordinates = coordinates(&tiff, gps);
    exif
}

/// A date and its offset from universal time, which are two tags.
#[derive(Default)]
struct Date {
    time: Option<String>,
    offset: Option<String>,
}

impl Date {
    fn moment(&self) -> Option<Moment> {
        Some(Moment::read(self.time.as_deref()?)?.with_offset(self.offset.as_deref()))
    }
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
                1 | 2 | 6 | 7 | 129 => 1,
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

    /// The bytes of a value, or the first [`MAX_TEXT_BYTES`] of them.
    fn bytes(&self, entry: &Entry) -> Option<&'a [u8]> {
        let rest = self.bytes.get(entry.value..)?;
        Some(rest.get(..entry.count.min(MAX_TEXT_BYTES)).unwrap_or(rest))
    }

    /// A text up to its first zero byte. Makers also write texts as bytes (1), as values of an undefined type
    /// (7) and, since EXIF 3.0, as UTF-8 (129).
    fn text(&self, entry: &Entry) -> Option<String> {
        let bytes = self.bytes(entry).filter(|_| matches!(entry.kind, 1 | 2 | 7 | 129))?;
        Some(decoded(bytes.split(|&byte| byte == 0).next()?))
    }

    /// A text of UTF-16, which Windows writes as bytes, in the order of Intel.
    fn wide_text(&self, entry: &Entry) -> Option<String> {
        let bytes = self.bytes(entry).filter(|_| matches!(entry.kind, 1 | 7))?;
        let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
        let units: Vec<u16> = units.take_while(|&unit| unit != 0).collect();
        Some(String::from_utf16_lossy(&units))
    }

    /// The n-th number of a value of any type. Some cameras write zero as 0/0.
    fn number(&self, entry: &Entry, n: usize) -> Option<f64> {
        if n >= entry.count {
            return None;
        }
        let word = |n: usize| self.u32(entry.value.checked_add(n.checked_mul(4)?)?);
        let half = |n: usize| self.u16(entry.value.checked_add(n.checked_mul(2)?)?);
        let pair = |n: usize| Some((word(n.checked_mul(2)?)?, word(n.checked_mul(2)?.checked_add(1)?)?));
        let ratio = |over: f64, under: f64| match (over == 0.0, under == 0.0) {
            (true, true) => Some(0.0),
            (false, true) => None,
            (_, false) => Some(over / under),
        };
        match entry.kind {
            3 => half(n).map(f64::from),
            8 => half(n).map(|it| f64::from(it as i16)),
            4 => word(n).map(f64::from),
            9 => word(n).map(|it| f64::from(it as i32)),
            5 => pair(n).and_then(|(over, under)| ratio(over.into(), under.into())),
            10 => pair(n).and_then(|(over, under)| ratio((over as i32).into(), (under as i32).into())),
            11 => word(n).map(|it| f64::from(f32::from_bits(it))),
            12 => pair(n).map(|(first, second)| {
                let (high, low) = if self.little { (second, first) } else { (first, second) };
                f64::from_bits(u64::from(high) << 32 | u64::from(low))
            }),
            _ => None,
        }
        .filter(|it| it.is_finite())
    }
}

/// Degrees north and east. Returns `None` if a part is missing or makes no sense.
fn coordinates(tiff: &Tiff<'_>, directory: Option<u32>) -> Option<(f64, f64)> {
    let (mut north, mut east, mut latitude, mut longitude) = (None, None, None, None);
    // A number without its own sign needs the letter; with a letter the sign does not count.
    let degrees = |entry: &Entry| {
        let (value, is_signed) = match tiff.text(entry) {
            Some(text) => (text.trim().parse::<f64>().ok().filter(|it| it.is_finite())?, true),
            None => {
                let [degrees, minutes, seconds] = [0, 1, 2].map(|n| tiff.number(entry, n));
                let rest = minutes.unwrap_or(0.0).abs() / 60.0 + seconds.unwrap_or(0.0).abs() / 3600.0;
                let degrees = degrees?;
                ((degrees.abs() + rest).copysign(degrees), matches!(entry.kind, 8..=12))
            }
        };
        Some((value, is_signed))
    };
    let sign = |entry: &Entry| match tiff.text(entry)?.trim().bytes().next()? {
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
    let signed = |(value, is_signed): (f64, bool), sign: Option<f64>| match sign {
        Some(sign) => Some(value.abs() * sign),
        None => is_signed.then_some(value),
    };
    origin::coordinates(signed(latitude?, north)?, signed(longitude?, east)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block with one directory of GPS data.
    fn gps(values: &[(u16, u16, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = b"MM\0*\0\0\0\x08\0\x01\x88\x25\0\x04\0\0\0\x01\0\0\0\x1a\0\0\0\0".to_vec();
        let mut data = Vec::new();
        let start = 26 + 2 + 12 * values.len() + 4;
        bytes.extend((values.len() as u16).to_be_bytes());
        for (tag, kind, count, value) in values {
            bytes.extend([tag.to_be_bytes(), kind.to_be_bytes()].concat());
            bytes.extend(count.to_be_bytes());
            if value.len() <= 4 {
                bytes.extend([*value, &[0; 4][value.len()..]].concat());
            } else {
                bytes.extend(((start + data.len()) as u32).to_be_bytes());
                data.extend_from_slice(value);
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(data);
        bytes
    }

    fn words(values: &[i32]) -> Vec<u8> {
        values.iter().flat_map(|it| it.to_be_bytes()).collect()
    }

    #[test]
    fn coordinates_are_read_in_every_type_that_makers_use() {
        let (north, east) = (words(&[50, 1, 5, 1, 10, 1]), words(&[14, 1, 25, 1, 0, 1]));
        let west = words(&[-14, 1, 25, 1, 0, 0]);
        let doubles = |value: f64| value.to_be_bytes().to_vec();
        for (block, expected) in [
            (
                gps(&[(1, 2, 2, b"N\0"), (2, 10, 3, &north), (3, 2, 2, b"E\0"), (4, 10, 3, &east)]),
                Some((50.086111, 14.416667)),
            ),
            (
                gps(&[(1, 7, 2, b"S\0"), (2, 5, 3, &north), (3, 1, 1, b"w"), (4, 10, 3, &west)]),
                Some((-50.086111, -14.416667)),
            ),
            // Signs without letters, and letters that are missing.
            (gps(&[(2, 12, 1, &doubles(-50.5)), (4, 12, 1, &doubles(14.25))]), Some((-50.5, 14.25))),
            (gps(&[(2, 2, 6, b"-50.5\0"), (4, 2, 6, b"14.25\0")]), Some((-50.5, 14.25))),
            (gps(&[(2, 5, 3, &north), (4, 5, 3, &east)]), None),
            (
                gps(&[
                    (1, 2, 2, b"N\0"),
                    (2, 12, 1, &doubles(f64::NAN)),
                    (3, 2, 2, b"E\0"),
                    (4, 10, 3, &east),
                ]),
                None,
            ),
            (
                gps(&[
                    (1, 2, 2, b"N\0"),
                    (2, 10, 3, &words(&[91, 1, 0, 1, 0, 1])),
                    (3, 2, 2, b"E\0"),
                    (4, 10, 3, &east),
                ]),
                None,
            ),
        ] {
            assert_eq!(read(&block).coordinates, expected);
        }
    }
}
