//! The few things of EXIF that are wanted, read in place.
//!
//! At most three directories are read and no pointer is followed twice, so loops end; nothing is copied but the short
//! strings that are kept, so a tag that claims gigabytes costs nothing. (The usual EXIF crates copy the whole file and
//! split a string tag at each zero byte, which costs 24 times its size.)

use super::bytes::{be16, be32, le16, le32};

/// More entries than any camera writes into one directory.
const MAX_ENTRIES: usize = 1000;
/// Longest camera name that is kept, in characters.
const MAX_CAMERA_CHARS: usize = 64;

/// What is kept of the EXIF data of a picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Exif {
    /// How the stored picture has to be turned to stand upright.
    pub(super) orientation: Orientation,
    /// `2026-05-04T10:11:12`, local to the camera.
    pub(super) taken_at: Option<String>,
    /// Maker and model.
    pub(super) camera: Option<String>,
    /// Degrees north and east.
    pub(super) coordinates: Option<(f64, f64)>,
    /// The file is a camera's raw file that calls itself TIFF.
    pub(super) raw: bool,
}

/// How a stored picture has to be turned to stand upright, by the numbers of EXIF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Orientation(u8);

impl Orientation {
    /// 1 to 8; anything else means upright.
    pub(super) fn new(number: u16) -> Self {
        match number {
            2..=8 => Self(number as u8),
            _ => Self(1),
        }
    }

    /// 1 to 8, where 1 is upright as stored.
    pub(super) fn number(self) -> u8 {
        self.0.max(1)
    }

    /// Whether width and height change places.
    pub(super) fn swaps_sides(self) -> bool {
        self.0 >= 5
    }
}

/// Reads a TIFF structure as it stands in EXIF; what makes no sense in it is left out.
pub(super) fn read(bytes: &[u8]) -> Exif {
    let bytes = bytes.strip_prefix(b"Exif\0\0").unwrap_or(bytes);
    let Some(tiff) = Tiff::open(bytes) else { return Exif::default() };
    let mut exif = Exif::default();
    let (mut maker, mut model) = (None, None);
    let (mut photo, mut gps) = (None, None);
    for entry in tiff.directory(tiff.u32(4)) {
        match entry.tag {
            0x00fe => exif.raw |= tiff.unsigned(&entry).is_some_and(|kind| kind & 1 == 1),
            0x010f => maker = tiff.text(&entry),
            0x0110 => model = tiff.text(&entry),
            0x0112 => exif.orientation = Orientation::new(tiff.unsigned(&entry).unwrap_or(1) as u16),
            0x8769 => photo = tiff.unsigned(&entry),
            0x8825 => gps = tiff.unsigned(&entry),
            0xc612 => exif.raw = true,
            _ => {}
        }
    }
    exif.camera = camera(maker, model);
    let mut digitized = None;
    for entry in tiff.directory(photo) {
        match entry.tag {
            0x9003 => exif.taken_at = tiff.text(&entry).and_then(taken_at),
            0x9004 => digitized = tiff.text(&entry).and_then(taken_at),
            _ => {}
        }
    }
    exif.taken_at = exif.taken_at.or(digitized);
    exif.coordinates = coordinates(&tiff, gps);
    exif
}

/// One entry of a directory: where its value lies and how much of it there is.
struct Entry {
    tag: u16,
    kind: u16,
    count: usize,
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

    /// The entries of the directory at an offset, as many as there really are.
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

    /// Text up to its first zero byte, of which only the beginning is looked at.
    fn text(&self, entry: &Entry) -> Option<&'a [u8]> {
        if entry.kind != 2 {
            return None;
        }
        let rest = self.bytes.get(entry.value..)?;
        let text = rest.get(..entry.count.min(256)).unwrap_or(rest);
        text.split(|&b| b == 0).next()
    }

    /// The n-th rational of a value; a zero in both places counts as zero, as some cameras write it.
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

/// `2026:05:04 10:11:12` as ISO 8601; `None` for dates that are none, such as a clock that was never set.
pub(super) fn taken_at(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text.get(..19)?).ok()?;
    let mut parts = text.split([':', ' ', '-', 'T', '.']).map(|part| part.parse::<i16>().ok());
    let mut next = || parts.next().flatten();
    let (year, month, day) = (next()?, i8::try_from(next()?).ok()?, i8::try_from(next()?).ok()?);
    let (hour, minute, second) =
        (i8::try_from(next()?).ok()?, i8::try_from(next()?).ok()?, i8::try_from(next()?).ok()?);
    let moment = jiff::civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    let unset = moment == jiff::civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    (year >= 1826 && !unset).then(|| moment.strftime("%Y-%m-%dT%H:%M:%S").to_string())
}

/// Maker and model as one name that says the maker once.
pub(super) fn camera(maker: Option<&[u8]>, model: Option<&[u8]>) -> Option<String> {
    let maker = words(maker.unwrap_or_default());
    let model = words(model.unwrap_or_default());
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let legal = ["corporation", "corp.", "corp", "co.", "co.,ltd.", "ltd.", "ltd", "inc.", "inc", "company"];
    let maker: Vec<&String> = maker.iter().filter(|word| !legal.iter().any(|l| same(l, word))).collect();
    let repeated = model.first().is_some_and(|first| maker.iter().any(|word| same(word, first)));
    let name: Vec<&str> = if repeated {
        model.iter().map(String::as_str).collect()
    } else {
        maker.into_iter().chain(&model).map(String::as_str).collect()
    };
    let name: String = name.join(" ").chars().take(MAX_CAMERA_CHARS).collect();
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// The words of a text without control, formatting and replacement characters.
fn words(text: &[u8]) -> Vec<String> {
    let text: String = String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_alphanumeric() || c.is_ascii_graphic() { c } else { ' ' })
        .collect();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Degrees north and east; `None` if a part is missing or makes no sense.
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
    place(latitude? * north?, longitude? * east?)
}

/// A place on earth, in degrees north and east; `None` for what is none, or where a receiver had no fix.
pub(super) fn place(latitude: f64, longitude: f64) -> Option<(f64, f64)> {
    // Six digits are a tenth of a metre, and short to write.
    let round = |degrees: f64| (degrees * 1e6).round() / 1e6;
    let (latitude, longitude) = (round(latitude), round(longitude));
    let sound = latitude.abs() <= 90.0 && longitude.abs() <= 180.0 && (latitude, longitude) != (0.0, 0.0);
    sound.then_some((latitude, longitude))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_names_its_maker_once() {
        let name = |maker: &str, model: &str| camera(Some(maker.as_bytes()), Some(model.as_bytes()));
        assert_eq!(name("Canon", "Canon EOS 5D").as_deref(), Some("Canon EOS 5D"));
        assert_eq!(name("NIKON CORPORATION", "NIKON D70").as_deref(), Some("NIKON D70"));
        assert_eq!(name("Apple", "iPhone 12").as_deref(), Some("Apple iPhone 12"));
        assert_eq!(name("  SONY \n", "DSC-\u{7}RX100\0").as_deref(), Some("SONY DSC- RX100"));
        assert_eq!(name("x", &"y".repeat(9000)).map(|n| n.len()), Some(MAX_CAMERA_CHARS));
        assert_eq!(name("", " \u{202e} "), None);
    }

    #[test]
    fn a_date_that_is_none_is_left_out() {
        assert_eq!(taken_at(b"2026:05:04 10:11:12").as_deref(), Some("2026-05-04T10:11:12"));
        for nonsense in [
            "0000:00:00 00:00:00",
            "1970:01:01 00:00:00",
            "2026:13:04 10:11:12",
            "2026:02:30 10:11:12",
            "    :  :     :  :  ",
            "2026:05:04",
            "aaaa:bb:cc dd:ee:ff",
        ] {
            assert_eq!(taken_at(nonsense.as_bytes()), None, "{nonsense}");
        }
    }
}
