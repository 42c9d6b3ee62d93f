//! Time, place, camera and title of an MP4 or QuickTime file: from its header, from the atoms of QuickTime and
//! Android, from lists of names and values, and from XMP.

use std::io;

use super::inside;
use crate::media::boxes::{self, Fields, boxes};
use crate::media::embedded::document;
use crate::media::origin::{self, Origin};
use crate::media::source::Source;
use crate::media::video::track::Tags;
use crate::media::xmp;

/// Largest XMP that is read, in bytes.
const MAX_PACKET_BYTES: u64 = 4 << 20;
/// Most boxes at the top of a file among which XMP is looked for.
const MAX_PACKET_BOXES: usize = 100;

/// What the XMP of a file says, which is in a box at its top or in the box `udta` of the index.
pub(super) fn xmp(source: &mut Source<'_>, moov: &[u8]) -> io::Result<Origin> {
    let xmp = packet(source)?.or_else(|| inside(moov, &[b"udta", b"XMP_"]).map(<[u8]>::to_vec));
    Ok(xmp.and_then(|it| document(&it)).map(|it| xmp::origin(&it)).unwrap_or_default())
}

/// The box with XMP at the top of a file.
fn packet(source: &mut Source<'_>) -> io::Result<Option<Vec<u8>>> {
    const XMP: [u8; 16] = *b"\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac";
    let all = 0..source.len();
    let boxes: Vec<_> = boxes::in_file(source, all, MAX_PACKET_BOXES).collect::<Result<_, _>>()?;
    for (_, body) in boxes.into_iter().filter(|(kind, _)| kind == b"uuid") {
        let size = (body.end - body.start).saturating_sub(16);
        if size <= MAX_PACKET_BYTES && source.exactly::<16>(body.start)? == Some(XMP) {
            let mut bytes = Vec::new();
            source.append(body.start + 16, size as usize, &mut bytes)?;
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The tags about time, place and camera.
pub(super) fn tags(moov: &[u8], xmp: Origin) -> Tags {
    let mut tags = Tags::beside(xmp);
    if let Some(mut mvhd) = inside(moov, &[b"mvhd"]).map(Fields::new)
        && let Some((version, _)) = mvhd.version()
    {
        // Seconds since 1904.
        tags.created_s = mvhd
            .uint(if version == 1 { 8 } else { 4 })
            .and_then(|it| i64::try_from(it).ok()?.checked_sub(2_082_844_800));
    }
    if let Some(udta) = inside(moov, &[b"udta"]) {
        for it in boxes(udta, 0..udta.len()).filter(|it| it.kind[0] == 0xa9) {
            // Length and language come first.
            if let Some(text) = udta.get(it.body).and_then(|body| body.get(4..)) {
                match &it.kind[1..] {
                    b"xyz" => tags.set("location", text),
                    b"day" => tags.set("date", text),
                    b"mak" => tags.set("make", text),
                    b"mod" => tags.set("model", text),
                    b"nam" => tags.set("title", text),
                    _ => {}
                }
            }
        }
        tags.coordinates = inside(udta, &[b"loci"]).and_then(location);
    }
    quicktime(moov, &mut tags);
    tags
}

/// Degrees north and east from the box `loci` of phones of the third generation.
fn location(loci: &[u8]) -> Option<(f64, f64)> {
    // Version, language, a name, and a role come first.
    let name = loci.get(6..)?;
    // A name of UTF-16 has a mark, and ends with two zeros.
    let end = match name {
        [0xfe, 0xff, ..] => 2 * name.as_chunks::<2>().0.iter().position(|it| it == &[0, 0])? + 2,
        _ => name.iter().position(|&it| it == 0)? + 1,
    };
    let mut fields = Fields::new(name.get(end + 1..)?);
    let mut fixed = || Some(f64::from(fields.u32()? as i32) / 65_536.0);
    let (longitude, latitude) = (fixed()?, fixed()?);
    origin::coordinates(latitude, longitude)
}

/// Adds the tags of QuickTime's metadata: a list of names, and values that refer to the names by number.
/// Without the list of names the kind of a value is its name, as iTunes writes it.
fn quicktime(moov: &[u8], tags: &mut Tags) -> Option<()> {
    let meta = inside(moov, &[b"meta"]).or_else(|| inside(moov, &[b"udta", b"meta"]))?;
    // With version and flags in front, or without.
    let meta = meta.strip_prefix(&[0; 4]).unwrap_or(meta);
    let keys = inside(meta, &[b"keys"]).unwrap_or_default();
    let names: Vec<&[u8]> = boxes(keys, 8..keys.len()).filter_map(|it| keys.get(it.body)).collect();
    let list = inside(meta, &[b"ilst"])?;
    for it in boxes(list, 0..list.len()) {
        let number = (u32::from_be_bytes(it.kind) as usize).checked_sub(1);
        let value =
            list.get(it.body).and_then(|body| inside(body, &[b"data"])).and_then(|data| data.get(8..));
        let Some(value) = value else { continue };
        match (&it.kind, number.and_then(|at| names.get(at))) {
            (_, Some(name)) => tags.set(&String::from_utf8_lossy(name), value),
            (b"\xa9day", None) => tags.set("date", value),
            (b"\xa9nam", None) => tags.set("title", value),
            (_, None) => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::boxes::boxed;
    use crate::media::video::track::Track;

    const XMP: &[u8] = b"<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description \
        xmlns:exif='http://ns.adobe.com/exif/1.0/' exif:DateTimeOriginal='2019-05-04T10:11:12+02:00'/>\
        </rdf:RDF>";
    const XMP_UUID: &[u8] = b"\xbe\x7a\xcf\xcb\x97\xa9\x42\xe8\x9c\x71\x99\x94\x91\xe3\xaf\xac";

    /// The header of a film that was made at 2019-05-04T08:11:12Z.
    fn mvhd() -> Vec<u8> {
        let created = (1_556_957_472_u32 + 2_082_844_800).to_be_bytes();
        boxed(b"mvhd", &[&[0; 4], &created, &[0; 88]])
    }

    fn origin_of(tags: Tags) -> Origin {
        let mut track = Track::new("h264".into(), (64, 48), (1, 1)).expect("a size");
        tags.apply(&mut track);
        track.origin
    }

    fn taken(moov: &[u8]) -> Option<String> {
        origin_of(tags(moov, Origin::default())).taken.map(|it| it.to_string())
    }

    #[test]
    fn the_time_of_the_header_is_universal_time() {
        assert_eq!(taken(&mvhd()).as_deref(), Some("2019-05-04T08:11:12Z"));
        let long = [&[1, 0, 0, 0][..], &(1_556_957_472_u64 + 2_082_844_800).to_be_bytes(), &[0; 96]].concat();
        assert_eq!(taken(&boxed(b"mvhd", &[&long])).as_deref(), Some("2019-05-04T08:11:12Z"));
        assert_eq!(taken(&boxed(b"mvhd", &[&[0; 100]])), None);
    }

    #[test]
    fn places_of_android_and_of_older_phones_are_read() {
        let text = b"+50.0833+014.4167/";
        let android = boxed(b"\xa9xyz", &[&(text.len() as u16).to_be_bytes(), b"\x15\xc7", text]);
        let fixed = |degrees: f64| ((degrees * 65_536.0) as i32).to_be_bytes();
        let loci =
            boxed(b"loci", &[&[0; 4], b"\x15\xc7", b"Praha\0", &[0], &fixed(14.5), &fixed(50.25), &[0; 4]]);
        let wide = boxed(b"loci", &[&[0; 6], b"\xfe\xff\0P\0\0", &[0], &fixed(14.5), &fixed(-50.25)]);
        for (atom, expected) in [
            (android, Some((50.0833, 14.4167))),
            (loci, Some((50.25, 14.5))),
            (wide, Some((-50.25, 14.5))),
            (boxed(b"loci", &[&[0; 6], b"no end"]), None),
        ] {
            let moov = [mvhd(), boxed(b"udta", &[&atom])].concat();
            let origin = origin_of(tags(&moov, Origin::default()));
            assert_eq!(origin.coordinates, expected);
            assert_eq!(origin.taken.map(|it| it.to_string()).as_deref(), Some("2019-05-04T08:11:12Z"));
        }
    }

    #[test]
    fn names_with_values_are_read_with_and_without_a_list_of_names() {
        let data = |text: &[u8]| boxed(b"data", &[&[0, 0, 0, 1], &[0; 4], text]);
        let name = |name: &[u8]| boxed(b"mdta", &[name]);
        let names = [name(b"com.apple.quicktime.creationdate"), name(b"com.apple.quicktime.title")].concat();
        let keys = boxed(b"keys", &[&[0; 4], &[0, 0, 0, 2], &names]);
        let list = [
            boxed(&[0, 0, 0, 1], &[&data(b"2019-05-04T10:11:12+0200")]),
            boxed(&[0, 0, 0, 2], &[&data(b"Lake")]),
        ];
        let apple = boxed(b"meta", &[&keys, &boxed(b"ilst", &[&list.concat()])]);
        let origin = origin_of(tags(&[mvhd(), apple].concat(), Origin::default()));
        assert_eq!(origin.taken.map(|it| it.to_string()).as_deref(), Some("2019-05-04T10:11:12+02:00"));
        assert_eq!(origin.title.as_deref(), Some("Lake"));
        let list =
            [boxed(b"\xa9nam", &[&data(b"Lake")]), boxed(b"\xa9day", &[&data(b"2019-05-04T10:11:12+02:00")])];
        let meta = boxed(b"meta", &[&[0; 4], &boxed(b"ilst", &[&list.concat()])]);
        let origin = origin_of(tags(&[mvhd(), boxed(b"udta", &[&meta])].concat(), Origin::default()));
        assert_eq!(origin.taken.map(|it| it.to_string()).as_deref(), Some("2019-05-04T10:11:12+02:00"));
        assert_eq!(origin.title.as_deref(), Some("Lake"));
    }

    #[test]
    fn xmp_is_found_at_the_top_and_in_the_index() {
        let found = |bytes: &[u8], moov: &[u8]| {
            let mut reader = io::Cursor::new(bytes);
            let origin = xmp(&mut Source::new(&mut reader, bytes.len() as u64), moov).expect("in memory");
            origin.taken.map(|it| it.to_string())
        };
        let expected = Some("2019-05-04T10:11:12+02:00".to_owned());
        let other = boxed(b"uuid", &[&[7; 16], b"<a/>"]);
        let top = [boxed(b"ftyp", &[b"isom"]), other.clone(), boxed(b"uuid", &[XMP_UUID, XMP])].concat();
        assert_eq!(found(&top, b""), expected);
        assert_eq!(found(&other, &boxed(b"udta", &[&boxed(b"XMP_", &[XMP])])), expected);
        assert_eq!(found(&boxed(b"uuid", &[XMP_UUID, b"<a>"]), b""), None);
        assert_eq!(found(&boxed(b"uuid", &[b"short"]), b""), None);
    }
}
