//! The description of a video by its container.

use super::frame_colours::FrameColours;
use crate::media::orientation::Orientation;
use crate::media::origin;

/// Longest value of a tag that is read, in bytes.
const MAX_TAG_BYTES: usize = 256;

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
    /// The camera's local time if it is known, otherwise universal time.
    pub(super) taken_at: Option<String>,
    pub(super) camera: Option<String>,
    /// Degrees north and east.
    pub(super) coordinates: Option<(f64, f64)>,
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
            taken_at: None,
            camera: None,
            coordinates: None,
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
    /// When the file was created, in seconds since 1970.
    pub(super) created_s: Option<i64>,
    date: Option<String>,
    make: Option<String>,
    model: Option<String>,
    location: Option<String>,
}

impl Tags {
    /// Adds a tag. Unknown ones are ignored.
    pub(super) fn set(&mut self, name: &str, value: &[u8]) {
        let value = value.get(..MAX_TAG_BYTES).unwrap_or(value);
        let value = String::from_utf8_lossy(value).trim_matches(['\0', ' ']).to_owned();
        let name = name.to_lowercase();
        let name =
            name.strip_prefix("com.apple.quicktime.").or(name.strip_prefix("com.android.")).unwrap_or(&name);
        match name {
            // The camera's own time; `creation_time` is that of the container.
            "creationdate" => self.date = Some(value),
            "date" | "creation_time" if self.date.is_none() => self.date = Some(value),
            "make" | "manufacturer" => self.make = Some(value),
            "model" => self.model = Some(value),
            "location.iso6709" | "location" | "location-eng" => self.location = Some(value),
            _ => {}
        }
    }

    /// Sets time, place and camera of a track.
    pub(super) fn apply(&self, track: &mut Track) {
        let created = || {
            // A time before 1970 comes from a clock that was never set.
            let moment = jiff::Timestamp::from_second(self.created_s.filter(|&it| it > 0)?).ok()?;
            Some(moment.strftime("%Y-%m-%dT%H:%M:%S").to_string())
        };
        track.taken_at =
            self.date.as_deref().and_then(|date| origin::taken_at(date.as_bytes())).or_else(created);
        let bytes = |text: &Option<String>| text.as_ref().map(|text| text.as_bytes().to_vec());
        track.camera = origin::camera(bytes(&self.make).as_deref(), bytes(&self.model).as_deref());
        track.coordinates = self.location.as_deref().and_then(coordinates);
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

    #[test]
    fn the_camera_s_time_goes_before_the_container_s() {
        let mut track = Track::new("h264".into(), (64, 48), (1, 1)).expect("a size");
        let mut tags = Tags { created_s: Some(1_777_889_472), ..Tags::default() };
        tags.apply(&mut track);
        assert_eq!(track.taken_at.as_deref(), Some("2026-05-04T10:11:12"));
        tags.set("com.apple.quicktime.creationdate", b"2026-05-04T12:11:12+0200");
        tags.set("creation_time", b"2026-05-04T10:11:12.000000Z");
        tags.set("com.apple.quicktime.make", b"Apple");
        tags.set("com.apple.quicktime.model", b"iPhone 12");
        tags.apply(&mut track);
        assert_eq!(track.taken_at.as_deref(), Some("2026-05-04T12:11:12"));
        assert_eq!(track.camera.as_deref(), Some("Apple iPhone 12"));
        for never in [None, Some(0), Some(-2_082_844_800)] {
            let mut track = Track::new("h264".into(), (64, 48), (1, 1)).expect("a size");
            Tags { created_s: never, ..Tags::default() }.apply(&mut track);
            assert_eq!(track.taken_at, None);
        }
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
