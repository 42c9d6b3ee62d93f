//! Google Takeout: the file of JSON that it puts beside each photo.

use serde::Deserialize;

use super::moment::Moment;
use super::origin::{self, Origin};

/// Longest name of a file before `.json`, in characters; longer ones are cut.
const MAX_NAME_CHARS: usize = 46;
/// The part of the name that newer exports have.
const SUPPLEMENT: &str = ".supplemental-metadata";
/// Endings of the names of edited photos, which have no file of their own.
const EDITED: [&str; 6] = ["-edited", "-bearbeitet", "-modifié", "-editado", "-modificato", "-bewerkt"];

/// The names that the file beside a photo may have, the likeliest first.
pub(super) fn names(photo: &str) -> Vec<String> {
    let (stem, ending) = photo.rfind('.').map_or((photo, ""), |dot| photo.split_at(dot));
    // The number of a second photo of the same name moves to the end: `a(1).jpg` has `a.jpg(1).json`.
    let (stem, number) = match numbered(stem) {
        Some((stem, number)) => (stem, number),
        None => (stem, ""),
    };
    let original = EDITED.iter().find_map(|edited| stem.strip_suffix(edited));
    let mut names = Vec::new();
    for stem in std::iter::once(stem).chain(original) {
        let whole = format!("{stem}{ending}");
        let long = format!("{whole}{SUPPLEMENT}");
        names.push(long.clone());
        names.push(whole.clone());
        // Whether characters or bytes are counted, and whether the number is, differs between exports.
        if long.chars().count() > MAX_NAME_CHARS - 4 {
            let least = MAX_NAME_CHARS - 6;
            let cuts = long.char_indices().map(|(at, _)| at).skip(least.min(whole.chars().count()));
            names.extend(cuts.take(SUPPLEMENT.len()).map(|at| long[..at].to_owned()));
        }
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| !name.is_empty() && seen.insert(name.clone()));
    let mut all: Vec<String> = names.iter().map(|name| format!("{name}{number}.json")).collect();
    // Photos that were numbered by their camera keep their whole name.
    if !number.is_empty() {
        all.extend(["", SUPPLEMENT].map(|it| format!("{photo}{it}.json")));
    }
    all
}

/// A stem without its number, and the number: `a(1)` is `a` and `(1)`.
fn numbered(stem: &str) -> Option<(&str, &str)> {
    let at = stem.rfind('(')?;
    let digits = stem.get(at + 1..)?.strip_suffix(')')?;
    let sound = (1..=4).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit()) && at > 0;
    sound.then(|| stem.split_at(at))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Takeout {
    photo_taken_time: Option<Time>,
    geo_data: Option<Place>,
    geo_data_exif: Option<Place>,
}

#[derive(Deserialize)]
struct Time {
    timestamp: Seconds,
}

/// Seconds since 1970, which are written as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Text(String),
    Number(i64),
}

#[derive(Deserialize)]
struct Place {
    latitude: f64,
    longitude: f64,
}

/// Reads the file. Returns `None` if it is another kind of JSON.
pub(super) fn read(json: &[u8]) -> Option<Origin> {
    let takeout: Takeout = serde_json::from_slice(json).ok()?;
    let seconds = takeout.photo_taken_time.and_then(|it| match it.timestamp {
        Seconds::Text(text) => text.parse().ok(),
        Seconds::Number(number) => Some(number),
    });
    let place = |it: Option<Place>| it.and_then(|it| origin::coordinates(it.latitude, it.longitude));
    let taken = seconds.and_then(Moment::from_unix);
    let coordinates = place(takeout.geo_data).or_else(|| place(takeout.geo_data_exif));
    let origin = Origin { taken, coordinates, ..Origin::default() };
    (origin != Origin::default()).then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_every_export_are_known() {
        for (photo, json) in [
            ("IMG_1.jpg", "IMG_1.jpg.json"),
            ("IMG_1.jpg", "IMG_1.jpg.supplemental-metadata.json"),
            ("IMG(1).jpg", "IMG.jpg(1).json"),
            ("IMG(1).jpg", "IMG.jpg.supplemental-metadata(1).json"),
            ("IMG(1).jpg", "IMG(1).jpg.json"),
            ("IMG_1-edited.jpg", "IMG_1.jpg.json"),
            ("IMG_1-edited(2).jpg", "IMG_1.jpg(2).json"),
            // Cut at 46 characters, within the supplement, before it, and within the name.
            ("PXL_20230504_101112345.PORTRAIT.jpg", "PXL_20230504_101112345.PORTRAIT.jpg.supplement.json"),
            (
                "Screenshot_20230504-101112_Some Program.png",
                "Screenshot_20230504-101112_Some Program.png.su.json",
            ),
            (
                "original_1234abcd-1234-abcd-1234-1234abcd5678_.jpg",
                "original_1234abcd-1234-abcd-1234-1234abcd5678_.json",
            ),
            (
                "a photo with a name of more than fifty characters.jpg",
                "a photo with a name of more than fifty charact.json",
            ),
            ("PXL_20230504_101112345.PORTRAIT(1).jpg", "PXL_20230504_101112345.PORTRAIT.jpg.supplem(1).json"),
        ] {
            let names = names(photo);
            assert!(names.iter().any(|it| it == json), "{photo}: {json}: {names:?}");
            assert!(names.len() <= 60, "{photo}: {}", names.len());
        }
        assert!(names("").iter().all(|it| it.ends_with(".json")));
        assert_eq!(names("a.jpg").len(), 2);
    }

    #[test]
    fn time_and_place_are_read_and_other_files_are_not() {
        let json =
            br#"{"title": "IMG_1.jpg", "photoTakenTime": {"timestamp": "1556964672", "formatted": "x"},
            "geoData": {"latitude": 0.0, "longitude": 0.0, "altitude": 0.0},
            "geoDataExif": {"latitude": 50.0833, "longitude": 14.4167, "altitude": 0.0}}"#;
        let origin = read(json).expect("takeout");
        assert_eq!(origin.taken.map(|it| it.to_string()).as_deref(), Some("2019-05-04T10:11:12Z"));
        assert_eq!(origin.coordinates, Some((50.0833, 14.4167)));
        for other in
            [&b"{}"[..], b"[]", b"", b"{\"name\": 1}", b"{\"photoTakenTime\": {\"timestamp\": \"x\"}}"]
        {
            assert_eq!(read(other), None);
        }
    }
}
