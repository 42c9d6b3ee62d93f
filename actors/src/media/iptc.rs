//! IPTC-IIM: the captions of press photos, alone or among the resources of Photoshop.

use super::bytes::{be16, be32};
use super::moment::Moment;
use super::origin::{self, Origin};
use super::text::decoded;

/// Most resources or data sets that are read.
const MAX_ITEMS: usize = 5000;
/// The number of the resource with the captions.
const CAPTIONS: u16 = 0x0404;

/// Reads what the resources of Photoshop say of the origin, as they are in the segment APP13 of a JPEG
/// without its name, and in a tag of TIFF.
pub(super) fn in_resources(bytes: &[u8]) -> Option<Origin> {
    let mut at = 0_usize;
    for _ in 0..MAX_ITEMS {
        if bytes.get(at..at.checked_add(4)?)? != b"8BIM" {
            return None;
        }
        let number = be16(bytes, at + 4)?;
        // A name with its length in front, and a size, each padded to an even length.
        let name = usize::from(*bytes.get(at + 6)?) + 1;
        let body = at + 6 + name.next_multiple_of(2) + 4;
        let size = usize::try_from(be32(bytes, body - 4)?).ok()?;
        let end = body.checked_add(size)?;
        if number == CAPTIONS {
            return Some(read(bytes.get(body..end.min(bytes.len()))?));
        }
        at = end.checked_next_multiple_of(2)?;
    }
    None
}

/// Reads data sets, up to the first that makes no sense.
pub(super) fn read(bytes: &[u8]) -> Origin {
    let mut sets = Sets::default();
    let mut at = 0;
    for _ in 0..MAX_ITEMS {
        let Some((set, value, next)) = data_set(bytes, at) else { break };
        sets.take(set, value);
        at = next;
    }
    sets.origin()
}

/// The number of a data set, its value, and where the next one begins.
fn data_set(bytes: &[u8], at: usize) -> Option<((u8, u8), &[u8], usize)> {
    let &[0x1c, record, set] = bytes.get(at..)?.first_chunk()? else { return None };
    let length = be16(bytes, at + 3)?;
    let (start, size) = match length {
        0..0x8000 => (at + 5, usize::from(length)),
        // The length of a longer length.
        0x8004 => (at + 9, usize::try_from(be32(bytes, at + 5)?).ok()?),
        _ => return None,
    };
    let end = start.checked_add(size)?;
    Some(((record, set), bytes.get(start..end)?, end))
}

/// The data sets that are used.
#[derive(Default)]
struct Sets<'a> {
    title: Option<&'a [u8]>,
    headline: Option<&'a [u8]>,
    created: [Option<&'a [u8]>; 2],
    digitized: [Option<&'a [u8]>; 2],
    place: [Option<&'a [u8]>; 4],
}

impl<'a> Sets<'a> {
    fn take(&mut self, set: (u8, u8), value: &'a [u8]) {
        let field = match set {
            (2, 5) => &mut self.title,
            (2, 105) => &mut self.headline,
            (2, 55) => &mut self.created[0],
            (2, 60) => &mut self.created[1],
            (2, 62) => &mut self.digitized[0],
            (2, 63) => &mut self.digitized[1],
            (2, 92) => &mut self.place[0],
            (2, 90) => &mut self.place[1],
            (2, 95) => &mut self.place[2],
            (2, 101) => &mut self.place[3],
            _ => return,
        };
        field.get_or_insert(value);
    }

    /// The coding is named in record 1, but wrongly as often as not, so it is found out.
    fn origin(self) -> Origin {
        let date = |[date, time]: [Option<&[u8]>; 2]| {
            let (date, time) = (decoded(date?), time.map(decoded).unwrap_or_default());
            let with_time = format!("{}T{}", date.trim(), time.trim());
            Moment::read(&with_time).or_else(|| Moment::read(date.trim()))
        };
        Origin {
            taken: date(self.created).or_else(|| date(self.digitized)),
            title: [self.title, self.headline].into_iter().find_map(|it| origin::title(&decoded(it?))),
            place: origin::place(self.place.map(|it| it.map(decoded))),
            ..Origin::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(number: u8, value: &[u8]) -> Vec<u8> {
        [&[0x1c, 2, number][..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    fn resource(number: u16, name: &[u8], body: &[u8]) -> Vec<u8> {
        let mut bytes = [&b"8BIM"[..], &number.to_be_bytes(), &[name.len() as u8], name].concat();
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes.extend((body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes
    }

    #[test]
    fn captions_are_found_among_resources_in_any_coding() {
        let sets = [
            set(5, b"Z\xfcrich"),
            set(55, b"20190504"),
            set(60, b"101112+0200"),
            set(90, "Zürich".as_bytes()),
            set(101, b"Switzerland"),
            set(5, b"second"),
        ]
        .concat();
        let bytes = [resource(0x03ed, b"odd", &[1, 2, 3]), resource(0x0404, b"", &sets)].concat();
        let origin = in_resources(&bytes).expect("captions");
        assert_eq!(origin.title.as_deref(), Some("Zürich"));
        assert_eq!(origin.taken.map(|it| it.to_string()).as_deref(), Some("2019-05-04T10:11:12+02:00"));
        let place = origin.place.expect("names");
        assert_eq!((place.city.as_deref(), place.country.as_deref()), (Some("Zürich"), Some("Switzerland")));
    }

    #[test]
    fn a_date_may_have_no_time_or_a_blank_one() {
        let date = |sets: &[Vec<u8>]| read(&sets.concat()).taken.map(|it| it.to_string());
        assert_eq!(date(&[set(55, b"20190504")]).as_deref(), Some("2019-05-04"));
        assert_eq!(date(&[set(55, b"20190504"), set(60, b"      ")]).as_deref(), Some("2019-05-04"));
        assert_eq!(date(&[set(55, b"20190504"), set(60, b"996112")]).as_deref(), Some("2019-05-04"));
        assert_eq!(date(&[set(62, b"20190504"), set(63, b"101112")]).as_deref(), Some("2019-05-04T10:11:12"));
        assert_eq!(date(&[set(55, b"00000000")]), None);
    }

    #[test]
    fn lengths_beyond_the_end_are_harmless() {
        for bytes in [
            &b"8BIM\x04\x04\0\0\xff\xff\xff\xff"[..],
            b"8BIM\x04\x04\xff",
            b"8BIM\x03\xed\0\0\xff\xff\xff\xff8BIM",
            b"8BIM",
            b"",
        ] {
            assert!(in_resources(bytes).is_none_or(|it| it == Origin::default()));
        }
        assert_eq!(read(b"\x1c\x02\x05\x80\x04\xff\xff\xff\xffx"), Origin::default());
        assert_eq!(read(b"\x1c\x02\x05\x80\x02\0\x01x"), Origin::default());
    }
}
