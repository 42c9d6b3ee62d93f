//! When, where and by which camera something was taken, and its title: the values as makers and people write
//! them, made uniform.

use super::facts::{Facts, Place};
use super::moment::Moment;
use super::text::line;

/// Longest camera name that is kept, in characters.
const MAX_CAMERA_CHARS: usize = 64;
/// Longest title that is kept, in characters.
const MAX_TITLE_CHARS: usize = 200;
/// Longest name of a place that is kept, in characters.
const MAX_PLACE_CHARS: usize = 64;

/// What one source says of the origin of a picture or video.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Origin {
    pub(super) taken: Option<Moment>,
    /// Maker and model.
    pub(super) camera: Option<String>,
    /// Degrees north and east.
    pub(super) coordinates: Option<(f64, f64)>,
    pub(super) title: Option<String>,
    pub(super) place: Option<Place>,
}

impl Origin {
    /// Completes it by another source, fact by fact. The names of a place come from one source.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            taken: self.taken.or(other.taken),
            camera: self.camera.or(other.camera),
            coordinates: self.coordinates.or(other.coordinates),
            title: self.title.or(other.title),
            place: self.place.or(other.place),
        }
    }

    /// Writes it into facts, over whatever they say.
    pub(super) fn into_facts(self, facts: &mut Facts) {
        let Self { taken, camera, coordinates, title, place } = self;
        facts.taken_at = taken.map(|it| it.to_string());
        (facts.camera, facts.coordinates, facts.title, facts.place) = (camera, coordinates, title, place);
    }
}

/// Everything that a file says of its origin, in the order in which it counts.
///
/// The table in README.md ("Where facts come from") has the same order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origins {
    /// The file's own EXIF, XMP, IPTC or tags of a video.
    pub(super) embedded: Origin,
    /// When the file was last changed according to its EXIF data, which is the last resort for a date.
    pub(super) changed: Option<Moment>,
}

impl Origins {
    /// The facts of the origin, together with what sidecars say: `first` counts before the file, `last` after
    /// it.
    pub(super) fn with(&self, first: Origin, last: Origin) -> Origin {
        let changed = Origin { taken: self.changed, ..Origin::default() };
        first.or(self.embedded.clone()).or(last).or(changed)
    }
}

/// Joins maker and model to one name, with the maker named once.
pub(super) fn camera(maker: Option<&str>, model: Option<&str>) -> Option<String> {
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
fn words(text: &str) -> Vec<String> {
    let text: String =
        text.chars().map(|c| if c.is_alphanumeric() || c.is_ascii_graphic() { c } else { ' ' }).collect();
    text.split_whitespace().map(str::to_owned).collect()
}

/// A title on one line. Returns `None` for an empty one.
pub(super) fn title(text: &str) -> Option<String> {
    line(text, MAX_TITLE_CHARS)
}

/// The names of a place: location, city, region and country. Returns `None` if all are missing.
pub(super) fn place([location, city, region, country]: [Option<String>; 4]) -> Option<Place> {
    let name = |text: Option<String>| line(&text?, MAX_PLACE_CHARS);
    let place =
        Place { location: name(location), city: name(city), region: name(region), country: name(country) };
    (place != Place::default()).then_some(place)
}

/// A place on earth, in degrees north and east, rounded to a tenth of a metre. Returns `None` if a value is
/// out of range, and for 0, 0, which receivers without a fix write.
pub(super) fn coordinates(latitude: f64, longitude: f64) -> Option<(f64, f64)> {
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
        let name = |maker: &str, model: &str| camera(Some(maker), Some(model));
        assert_eq!(name("Canon", "Canon EOS 5D").as_deref(), Some("Canon EOS 5D"));
        assert_eq!(name("NIKON CORPORATION", "NIKON D70").as_deref(), Some("NIKON D70"));
        assert_eq!(name("Apple", "iPhone 12").as_deref(), Some("Apple iPhone 12"));
        assert_eq!(name("  SONY \n", "DSC-\u{7}RX100\0").as_deref(), Some("SONY DSC- RX100"));
        assert_eq!(name("x", &"y".repeat(9000)).map(|n| n.len()), Some(MAX_CAMERA_CHARS));
        assert_eq!(name("", " \u{202e} "), None);
    }

    #[test]
    fn a_source_is_completed_by_the_next_and_never_overruled() {
        let date = |text: &str| Moment::read(text);
        let sidecar = Origin { taken: date("2019:05:04"), title: title("Lake"), ..Origin::default() };
        let takeout = Origin {
            taken: date("2021:05:04"),
            camera: camera(None, Some("X")),
            coordinates: Some((1.0, 2.0)),
            ..Origin::default()
        };
        let embedded =
            Origin { taken: date("2020:05:04"), coordinates: Some((3.0, 4.0)), ..Origin::default() };
        let file = Origins { embedded, changed: date("2022:05:04") };
        let taken = |origin: Origin| origin.taken.map(|it| it.to_string()).unwrap_or_default();
        let all = file.with(sidecar, takeout.clone());
        assert_eq!((all.title.as_deref(), all.coordinates), (Some("Lake"), Some((3.0, 4.0))));
        assert_eq!((all.camera.as_deref(), taken(all.clone())), (Some("X"), "2019-05-04".into()));
        let file = Origins { embedded: Origin::default(), ..file };
        assert_eq!(taken(file.with(Origin::default(), takeout)), "2021-05-04", "before the last change");
        assert_eq!(taken(file.with(Origin::default(), Origin::default())), "2022-05-04");
    }
}
