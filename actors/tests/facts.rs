//! When, where and by which camera a photo was taken, and its title: from EXIF, XMP, IPTC and files beside.

#[path = "support/pictures.rs"]
mod pictures;

use std::fs;

use image::ImageFormat;
use mediamill_actors::media::{self, Facts};
use pictures::*;

const XMP_NAME: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const EXTENSION_NAME: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
const NAMESPACES: &str = "xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#' \
    xmlns:xmp='http://ns.adobe.com/xap/1.0/' xmlns:tiff='http://ns.adobe.com/tiff/1.0/' \
    xmlns:exif='http://ns.adobe.com/exif/1.0/' xmlns:dc='http://purl.org/dc/elements/1.1/' \
    xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/' xmlns:xmpNote='http://ns.adobe.com/xmp/note/'";

fn xmp(properties: &str) -> Vec<u8> {
    let xml = format!(
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF {NAMESPACES}><rdf:Description {properties}/></rdf:RDF>\
         </x:xmpmeta>"
    );
    xml.into_bytes()
}

fn plain_jpeg() -> Vec<u8> {
    jpeg(&quarters(60, 40))
}

fn with_xmp(jpeg: &[u8], properties: &str) -> Vec<u8> {
    with_segment(jpeg, 0xe1, &[XMP_NAME, &xmp(properties)].concat())
}

fn facts(bytes: &[u8]) -> Facts {
    good(bytes).facts
}

fn taken_at(bytes: &[u8]) -> Option<String> {
    facts(bytes).taken_at
}

/// A JPEG with texts in its first EXIF directory: tag, type, and the text.
fn with_texts(jpeg: &[u8], texts: &[(u16, u16, &[u8])]) -> Vec<u8> {
    let mut rest = Vec::new();
    let start = 8 + 2 + 12 * texts.len() + 4;
    let mut entries = Vec::new();
    for (tag, kind, text) in texts {
        entries.push((*tag, *kind, text.len() as u32, (start + rest.len()) as u32));
        rest.extend_from_slice(text);
    }
    with_segment(jpeg, 0xe1, &exif(&entries, &rest))
}

const CREATED: &str = "xmp:CreateDate='2019-05-04T10:11:12' tiff:Make='Maker' tiff:Model='Model 5' \
    exif:GPSLatitude='50,5.166667N' exif:GPSLongitude='14,25.0E' dc:title='The castle'";

fn assert_created(facts: &Facts, name: &str) {
    assert_eq!(facts.taken_at.as_deref(), Some("2019-05-04T10:11:12"), "{name}");
    assert_eq!(facts.camera.as_deref(), Some("Maker Model 5"), "{name}");
    assert_eq!(facts.coordinates, Some((50.086111, 14.416667)), "{name}");
    assert_eq!(facts.title.as_deref(), Some("The castle"), "{name}");
}

// ---- EXIF ------------------------------------------------------------------------------------------------

#[test]
fn a_camera_is_read_in_every_type_and_coding_of_texts() {
    for (kind, maker, expected) in [
        (2, &b"Maker\0"[..], "Maker Model 5"),
        (7, b"Maker\0", "Maker Model 5"),
        (1, b"Maker\0", "Maker Model 5"),
        (129, "Bühler\0".as_bytes(), "Bühler Model 5"),
        (2, b"B\xfchler\0", "Bühler Model 5"),
    ] {
        let bytes = with_texts(&plain_jpeg(), &[(0x010f, kind, maker), (0x0110, kind, b"Model 5\0")]);
        assert_eq!(facts(&bytes).camera.as_deref(), Some(expected), "{kind}");
    }
}

#[test]
fn the_last_change_is_the_last_resort_for_a_date() {
    let changed = with_texts(&plain_jpeg(), &[(0x0132, 7, b"2019:05:04 10:11:12\0")]);
    assert_eq!(taken_at(&changed).as_deref(), Some("2019-05-04T10:11:12"));
    let with_xmp =
        with_xmp(&changed, "xmp:CreateDate='2018-01-02T03:04:05' xmp:ModifyDate='2020-01-02T03:04:05'");
    assert_eq!(taken_at(&with_xmp).as_deref(), Some("2018-01-02T03:04:05"));
    let only_modified = self::with_xmp(&plain_jpeg(), "xmp:ModifyDate='2020-01-02T03:04:05'");
    assert_eq!(taken_at(&only_modified), None);
}

#[test]
fn an_offset_beside_the_time_belongs_to_it() {
    // One directory with time and offset, behind the first one with its single entry.
    let mut rest = 2_u16.to_le_bytes().to_vec();
    for (tag, count, value) in [(0x9003_u16, 20_u32, 56_u32), (0x9011, 7, 76)] {
        rest.extend(tag.to_le_bytes());
        rest.extend(2_u16.to_le_bytes());
        rest.extend(count.to_le_bytes());
        rest.extend(value.to_le_bytes());
    }
    rest.extend([0; 4]);
    rest.extend(b"2019:05:04 10:11:12\0+02:00\0");
    let bytes = with_segment(&plain_jpeg(), 0xe1, &exif(&[(0x8769, 4, 1, 26)], &rest));
    assert_eq!(taken_at(&bytes).as_deref(), Some("2019-05-04T10:11:12+02:00"));
}

// ---- XMP and IPTC ----------------------------------------------------------------------------------------

#[test]
fn xmp_is_found_in_every_format() {
    assert_created(&facts(&with_xmp(&plain_jpeg(), CREATED)), "jpeg");

    let png = encoded(quarters(60, 40), ImageFormat::Png);
    let chunk = |compression: &[u8], text: &[u8]| {
        let body = [b"XML:com.adobe.xmp\0", compression, b"\0\0", text].concat();
        [&png[..33], &png_chunk(b"iTXt", &body), &png[33..]].concat()
    };
    assert_created(&facts(&chunk(&[0, 0], &xmp(CREATED))), "png");
    let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut deflated, &xmp(CREATED)).expect("in memory");
    assert_created(&facts(&chunk(&[1, 0], &deflated.finish().expect("in memory"))), "png, compressed");

    let webp = encoded(quarters(60, 40), ImageFormat::WebP);
    let packet = xmp(CREATED);
    let mut body = b"WEBPVP8X\x0a\0\0\0\x04\0\0\0\x3b\0\0\x27\0\0".to_vec();
    body.extend_from_slice(&webp[12..]);
    body.extend(b"XMP ");
    body.extend((packet.len() as u32).to_le_bytes());
    body.extend_from_slice(&packet);
    body.resize(body.len().next_multiple_of(2), 0);
    let webp = [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat();
    assert_created(&facts(&webp), "webp");

    // A TIFF whose directory is copied to the end with one more entry.
    let mut tiff = encoded(quarters(60, 40), ImageFormat::Tiff);
    let number = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    let directory = number(&tiff, 4) as usize;
    let count = u16::from_le_bytes([tiff[directory], tiff[directory + 1]]);
    let mut entries: Vec<Vec<u8>> =
        tiff[directory + 2..][..usize::from(count) * 12].chunks(12).map(<[u8]>::to_vec).collect();
    let at = tiff.len() as u32;
    tiff.extend_from_slice(&packet);
    let length = (packet.len() as u32).to_le_bytes();
    entries.push([&0x02bc_u16.to_le_bytes()[..], &[1, 0], &length, &at.to_le_bytes()].concat());
    entries.sort_by_key(|it| u16::from_le_bytes([it[0], it[1]]));
    tiff.resize(tiff.len().next_multiple_of(2), 0);
    let moved = (tiff.len() as u32).to_le_bytes();
    tiff[4..8].copy_from_slice(&moved);
    tiff.extend((count + 1).to_le_bytes());
    tiff.extend(entries.concat());
    tiff.extend([0; 4]);
    assert_created(&facts(&tiff), "tiff");
}

#[test]
fn a_divided_xmp_is_read_whole() {
    let guid = b"0123456789ABCDEF0123456789ABCDEF";
    let main =
        with_xmp(&plain_jpeg(), "xmpNote:HasExtendedXMP='0123456789ABCDEF0123456789ABCDEF' dc:title='Main'");
    let extension = xmp("xmp:CreateDate='2019-05-04T10:11:12' dc:title='Extension'");
    let (first, second) = extension.split_at(100);
    let part = |offset: u32, bytes: &[u8]| {
        let total = (extension.len() as u32).to_be_bytes();
        [EXTENSION_NAME, guid, &total, &offset.to_be_bytes(), bytes].concat()
    };
    // Each segment goes to the front, so that the order of the parts is turned around.
    let bytes = with_segment(&main, 0xe1, &part(0, first));
    assert_eq!(facts(&bytes).taken_at, None, "a part is missing");
    let bytes = with_segment(&bytes, 0xe1, &part(100, second));
    let facts = facts(&bytes);
    assert_eq!(
        (facts.taken_at.as_deref(), facts.title.as_deref()),
        (Some("2019-05-04T10:11:12"), Some("Main"))
    );
}

#[test]
fn captions_of_press_photos_are_read() {
    let set = |number: u8, value: &[u8]| [&[0x1c, 2, number, 0, value.len() as u8], value].concat();
    let sets =
        [set(5, b"The castle"), set(55, b"20190504"), set(60, b"101112+0200"), set(90, b"Praha")].concat();
    let size = (sets.len() as u32).to_be_bytes();
    let body = [b"Photoshop 3.0\x008BIM\x04\x04\0\0", &size[..], &sets].concat();
    let facts = facts(&with_segment(&plain_jpeg(), 0xed, &body));
    assert_eq!(facts.taken_at.as_deref(), Some("2019-05-04T10:11:12+02:00"));
    assert_eq!(facts.title.as_deref(), Some("The castle"));
    assert_eq!(facts.place.and_then(|it| it.city).as_deref(), Some("Praha"));
}

#[test]
fn broken_and_hostile_xmp_is_left_out_and_the_photo_is_read() {
    let bomb = b"<!DOCTYPE a [<!ENTITY b 'bbbb'>]><a>&b;</a>";
    let deep = "<a>".repeat(20_000);
    for packet in [&b""[..], b"<x:xmpmeta", b"\xff\xfe\0", bomb, deep.as_bytes(), &[0; 5000]] {
        let bytes = with_segment(&plain_jpeg(), 0xe1, &[XMP_NAME, packet].concat());
        assert_eq!((facts(&bytes).width, facts(&bytes).taken_at), (60, None));
    }
}

#[test]
fn facts_stay_small_whatever_xmp_contains() {
    let long = "W\u{1f600}".repeat(10_000);
    let properties = format!(
        "dc:title='{long}' tiff:Model='{long}' photoshop:City='{long}' photoshop:State='{long}' \
         photoshop:Country='{long}'"
    );
    let png = encoded(quarters(60, 40), ImageFormat::Png);
    let body = [b"XML:com.adobe.xmp\0\0\0\0\0", &xmp(&properties)[..]].concat();
    let facts = facts(&[&png[..33], &png_chunk(b"iTXt", &body), &png[33..]].concat());
    assert!(facts.title.is_some() && facts.place.is_some());
    assert!(serde_json::to_vec(&facts).expect("serialises").len() < 3072);
}

// ---- files beside the photo ------------------------------------------------------------------------------

/// A folder with files. Returns the facts of a photo in it.
fn beside(photo: &str, bytes: &[u8], files: &[(&str, &[u8])]) -> Facts {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, contents) in files {
        fs::write(folder.path().join(name), contents).expect("written");
    }
    let prepared = good(bytes);
    media::facts_beside(prepared.facts, &prepared.origins, &folder.path().join(photo))
}

const TAKEOUT: &[u8] = br#"{"photoTakenTime": {"timestamp": "1556964672"},
    "geoData": {"latitude": 50.0833, "longitude": 14.4167, "altitude": 0.0}}"#;

#[test]
fn a_sidecar_counts_before_the_photo_and_takeout_after_it() {
    let photo = with_xmp(&plain_jpeg(), "xmp:CreateDate='2018-01-02T03:04:05' dc:title='Inside'");
    let sidecar = xmp("exif:DateTimeOriginal='2019:05:04 10:11:12' dc:title='Beside'");
    let facts = beside("DSC_1.jpg", &photo, &[("DSC_1.xmp", &sidecar), ("DSC_1.jpg.json", TAKEOUT)]);
    assert_eq!(
        (facts.taken_at.as_deref(), facts.title.as_deref()),
        (Some("2019-05-04T10:11:12"), Some("Beside"))
    );
    assert_eq!(facts.coordinates, Some((50.0833, 14.4167)));
    let names: Vec<&str> = facts.sidecars.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["DSC_1.xmp", "DSC_1.jpg.json"]);

    let facts = beside("DSC_1.jpg", &photo, &[("DSC_1.jpg.json", TAKEOUT)]);
    assert_eq!(facts.taken_at.as_deref(), Some("2018-01-02T03:04:05"));
    let changed = with_texts(&plain_jpeg(), &[(0x0132, 2, b"2022:05:04 10:11:12\0")]);
    let facts = beside("DSC_1.jpg", &changed, &[("DSC_1.jpg.json", TAKEOUT)]);
    assert_eq!(facts.taken_at.as_deref(), Some("2019-05-04T10:11:12Z"));
}

#[test]
fn sidecars_are_found_by_either_name_and_the_longer_name_counts_first() {
    let title = |it: &str| xmp(&format!("dc:title='{it}'"));
    let (whole, stem) = (title("whole"), title("stem"));
    let jpeg = plain_jpeg();
    for (files, expected) in [
        (&[("DSC_1.xmp", &stem[..])][..], Some("stem")),
        (&[("DSC_1.XMP", &stem)], Some("stem")),
        (&[("DSC_1.jpg.xmp", &whole)], Some("whole")),
        (&[("DSC_1.jpg.xmp", &whole), ("DSC_1.xmp", &stem)], Some("whole")),
        (&[("DSC_1.jpg.xmp", b"<no xml"), ("DSC_1.xmp", &stem)], Some("stem")),
        (&[("DSC_2.xmp", &stem)], None),
    ] {
        assert_eq!(beside("DSC_1.jpg", &jpeg, files).title.as_deref(), expected);
    }
    // A photo without an ending, and one that is itself called a sidecar.
    assert_eq!(beside("DSC_1", &jpeg, &[("DSC_1.xmp", &stem)]).title.as_deref(), Some("stem"));
    assert_eq!(beside("DSC_1.xmp", &jpeg, &[("DSC_1.xmp", &stem)]).title, None);
}

#[test]
fn a_numbered_photo_of_takeout_has_its_own_file() {
    let other = br#"{"photoTakenTime": {"timestamp": "1"}, "geoData": {"latitude": 1.0, "longitude": 2.0}}"#;
    let files: [(&str, &[u8]); 2] =
        [("IMG.jpg.supplemental-metadata.json", other), ("IMG.jpg.supplemental-metadata(1).json", TAKEOUT)];
    assert_eq!(beside("IMG(1).jpg", &plain_jpeg(), &files).coordinates, Some((50.0833, 14.4167)));
    assert_eq!(beside("IMG.jpg", &plain_jpeg(), &files).coordinates, Some((1.0, 2.0)));
}
