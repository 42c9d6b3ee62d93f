//! The description of a video by its container.

use super::frame_colours::FrameColours;
use crate::media::moment::Moment;
use crate::media::orientation::Orientation;
use crate::media::origin::{self, Origin};
use crate::media::text::decoded;

/// Longest value of a tag that is read, in bytes.
const MAX_TAG_BYTES: usize = 1024;

/// A video as its container describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Track {
    /// The codec by `ffmpeg`'s name for it.
    pub(super) codec: String,
    /// Width and height of the decoded frames.
    pub(crate) coded: (u32, u32),
    /// Width and height that a player shows, not yet turned.
    pub(super) shown: (u32, u32),
    pub(super) orientation: Orientation,
    pub(super) duration_ms: Option<u64>,
    /// When, where and by which camera it was taken.
    pub(super) origin: Origin,
    /// The colours of its frames, as far as the container names them.
    pub(super) colours: FrameColours,
    /// Frames are missing.
    pub(super) damaged: bool,
    /// The container's part of [`Facts::notes`](crate::media::Facts::notes).
    pub(super) notes: Vec<String>,
}

impl Track {
    /// A track of frames of a size; `ratio` is that of a pixel's width to its height. Returns `None` for a
    /// size of zero.
    pub(super) fn new(codec: String, coded: (u32, u32), ratio: (u32, u32)) -> Option<Self> {
        let (width, height) = coded;
        if width == 0 || height == 0 {
            return None;
        }
        // A player stretches the width; absurd ratios are ignored.
        let stretch = if ratio.1 == 0 { 1.0 } else { f64::from(ratio.0) / f64::from(ratio.1) };
        let stretch = if (0.1..=10.0).contains(&stretch) { stretch } else { 1.0 };
        let shown = ((f64::from(width) * stretch).round().max(1.0) as u32, height);
        Some(Self {
            codec,
            coded,
            shown,
            orientation: Orientation::default(),
            duration_ms: None,
            origin: Origin::default(),
            colours: FrameColours::default(),
            damaged: false,
            notes: Vec::new(),
        })
    }

    /// Width and height, upright.
    pub(super) fn upright(&self) -> (u32, u32) {
        let (width, height) = self.shown;
        if self.orientation.swaps_sides() { (height, width) } else { (width, height) }
    }
}

/// The tags about time, place and camera in a container, under any of their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Tags {
    /// When the file was created, in seconds since 1970 of universal time.
    pub(super) created_s: Option<i64>,
    /// Degrees north and east, if they are not a text.
    pub(super) coordinates: Option<(f64, f64)>,
    /// What XMP in the file says.
    xmp: Origin,
    /// The camera's own time.
    camera_date: Option<Moment>,
    date: Option<Moment>,
    /// The time of the container, if it is a text.
    created: Option<Moment>,
    make: Option<String>,
    model: Option<String>,
    location: Option<(f64, f64)>,
    title: Option<String>,
}

impl Tags {
    /// No tags yet, beside what XMP in the file says.
    pub(super) fn beside(xmp: Origin) -> Self {
        Self { xmp, ..Self::default() }
    }

    /// Adds a tag. Unknown ones are ignored.
    pub(super) fn set(&mut self, name: &str, value: &[u8]) {
        let value = decoded(value.get(..MAX_TAG_BYTES).unwrap_or(value));
        let value = value.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        let name = name.to_lowercase();
        let name =
            name.strip_prefix("com.apple.quicktime.").or(name.strip_prefix("com.android.")).unwrap_or(&name);
        match name {
            "creationdate" => self.camera_date = Moment::read(value).or(self.camera_date),
            "date" | "date_recorded" => self.date = self.date.or(Moment::read(value)),
            "creation_time" => self.created = self.created.or(Moment::read(value)),
            "make" | "manufacturer" => self.make = Some(value.to_owned()),
            "model" => self.model = Some(value.to_owned()),
            "location.iso6709" | "location" | "location-eng" => {
                self.location = coordinates(value).or(self.location);
            }
            "title" | "displayname" => self.title = self.title.take().or_else(|| origin::title(value)),
            _ => {}
        }
    }

    /// Sets time, place and camera of a track. A time with its offset counts before universal time, and that
    /// before a time of which nobody knows what it counts from.
    pub(super) fn apply(self, track: &mut Track) {
        let with_offset = |moment: Option<Moment>| moment.filter(|it| it.has_offset());
        let known = with_offset(self.camera_date).or(with_offset(self.date)).or(self.xmp.taken);
        let created = self.created_s.and_then(Moment::from_unix).or(self.created);
        let own = Origin {
            taken: known.or(created).or(self.camera_date).or(self.date),
            camera: origin::camera(self.make.as_deref(), self.model.as_deref()),
            coordinates: self.location.or(self.coordinates),
            title: self.title,
            place: None,
        };
        track.origin = own.or(self.xmp);
    }
}

/// Degrees north and east from ISO 6709: `+59.3200+018.0700+012.3/`.
fn coordinates(text: &str) -> Option<(f64, f64)> {
    let signs: Vec<usize> = text.match_indices(['+', '-']).map(|(at, _)| at).collect();
    let (north, east) = (*signs.first()?, *signs.get(1)?);
    let end = signs.get(2).copied().or(text.find('/')).unwrap_or(text.len());
    let (latitude, longitude): (f64, f64) =
        (text.get(north..east)?.parse().ok()?, text.get(east..end)?.parse().ok()?);
    origin::coordinates(latitude, longitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_phones_write_them() {
        for (text, expected) in [
            ("+59.3200+018.0700/", Some((59.32, 18.07))),
            ("-33.8568+151.2153+012.300/", Some((-33.8568, 151.2153))),
            ("+40.7-74.0", Some((40.7, -74.0))),
            ("+00.0000+000.0000/", None),
            ("+95.0+018.0/", None),
            ("nowhere", None),
            ("", None),
        ] {
            assert_eq!(coordinates(text), expected, "{text}");
        }
    }

    fn taken_at(tags: &Tags) -> Option<String> {
        let mut track = Track::new("h264".into(), (64, 48), (1, 1)).expect("a size");
        tags.clone().apply(&mut track);
        track.origin.taken.map(|it| it.to_string())
    }

    #[test]
    fn the_camera_s_time_goes_before_the_container_s() {
        let mut tags = Tags { created_s: Some(1_777_889_472), ..Tags::default() };
        assert_eq!(taken_at(&tags).as_deref(), Some("2026-05-04T10:11:12Z"));
        tags.set("com.apple.quicktime.creationdate", b"2026-05-04T12:11:12+0200");
        tags.set("creation_time", b"2026-05-04T10:11:12.000000Z");
        tags.set("com.apple.quicktime.make", b"Apple");
        tags.set("com.apple.quicktime.model", b"iPhone 12");
        assert_eq!(taken_at(&tags).as_deref(), Some("2026-05-04T12:11:12+02:00"));
        let mut track = Track::new("h264".into(), (64, 48), (1, 1)).expect("a size");
        tags.apply(&mut track);
        assert_eq!(track.origin.camera.as_deref(), Some("Apple iPhone 12"));
        for never in [None, Some(0), Some(-2_082_844_800)] {
            assert_eq!(taken_at(&Tags { created_s: never, ..Tags::default() }), None);
        }
    }

    #[test]
    fn a_time_without_offset_counts_only_without_universal_time() {
        let mut tags = Tags::default();
        tags.set("date", b"2026-05-04 12:11:12");
        assert_eq!(taken_at(&tags).as_deref(), Some("2026-05-04T12:11:12"));
        tags.set("creation_time", b"2026-05-04T10:11:12.000000Z");
        assert_eq!(taken_at(&tags).as_deref(), Some("2026-05-04T10:11:12Z"));
        tags.xmp.taken = Moment::read("2026-05-04T12:11:12+02:00");
        assert_eq!(taken_at(&tags).as_deref(), Some("2026-05-04T12:11:12+02:00"));
    }

    #[test]
    fn pixels_that_are_not_square_stretch_the_width() {
        let shown = |ratio| Track::new(String::new(), (720, 576), ratio).map(|track| track.shown);
        assert_eq!(shown((64, 45)), Some((1024, 576)));
        assert_eq!(shown((1, 0)), Some((720, 576)));
        assert_eq!(shown((u32::MAX, 1)), Some((720, 576)));
        assert_eq!(Track::new(String::new(), (0, 576), (1, 1)), None);
    }
}
