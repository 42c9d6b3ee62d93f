//! What is known of a picture or a video without a model.

use serde::{Deserialize, Serialize};

use super::colour::{self, Colour};
use super::render::Rgb;
use super::sharpness;
use super::sidecar::Sidecar;

/// Sharp photos have 67 and more; a blur of one pixel leaves 27 to 53, a blur of two pixels 9 to 18.
const BLURRED: u8 = 22;
const DARK: u8 = 25;
const BRIGHT: u8 = 75;

/// What is known of a picture or a video without a model.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// Main colours by name with their share of the picture in percent, largest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub colours: Vec<Colour>,
    /// Mean lightness, 0 (black) to 100 (white).
    #[serde(default)]
    pub lightness: u8,
    /// Sharpness of the sharpest parts, 0 (flat or blurred) to 100.
    #[serde(default)]
    pub sharpness: u8,
    /// When it was taken, in the camera's local time, as `2026-05-04T10:11:12`, with its offset from
    /// universal time if that is known (`2026-05-04T10:11:12+02:00`). `Z` at the end means that only
    /// universal time is known, as in most videos. A date alone, `2026-05-04`, means that the time is not
    /// known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<String>,
    /// Maker and model of the camera.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub camera: Option<String>,
    /// Degrees north and east.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<f64>>, min_items = 2, max_items = 2))]
    pub coordinates: Option<(f64, f64)>,
    /// The title that a person or a program gave it, on one line of at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The names of the place, as a person or a program wrote them into the file or beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Duration of a video or animation in milliseconds, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The codec of a video by `ffmpeg`'s name for it: `h264`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_codec: Option<String>,
    /// It is an animation, and only its first frame was used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub animated: bool,
    /// The file ends early or has broken parts; the parts that could be decoded were used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
    /// The files beside it that say more about it. Only for files in place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sidecars: Vec<Sidecar>,
    /// Notes about how the file was read, for people: each a sentence in lower case without a full stop, such
    /// as `the colour profile is broken and was ignored`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The names of a place, each of at most 64 characters.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// The part of a city, or a sight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The city.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// The state or province.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// The facts that come from the pixels alone.
pub(super) struct PixelFacts {
    pub(super) colours: Vec<Colour>,
    pub(super) lightness: u8,
    pub(super) sharpness: u8,
}

impl PixelFacts {
    /// Measures an upright picture without padding.
    pub(super) fn of(picture: &Rgb) -> Self {
        let (colours, lightness) = colour::main(picture);
        Self { colours, lightness, sharpness: sharpness::of(picture) }
    }
}

/// The outline of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// At least 2.5 times as wide as high.
    Panorama,
    /// Wider than high.
    Landscape,
    /// Sides that differ by at most 3 percent.
    Square,
    /// Higher than wide.
    Portrait,
    /// At least 2.5 times as high as wide.
    Tall,
}

impl Facts {
    /// Returns `true` if even the sharpest parts are soft, as after a blur of two pixels (sigma) in a picture
    /// of one megapixel. Returns `false` for a picture without edges, such as a clear sky.
    pub fn blurred(&self) -> bool {
        (1..BLURRED).contains(&self.sharpness)
    }

    /// Returns `true` if a person would call it dark: mean lightness under 25.
    pub fn dark(&self) -> bool {
        self.lightness < DARK
    }

    /// Returns `true` if a person would call it bright: mean lightness over 75.
    pub fn bright(&self) -> bool {
        self.lightness > BRIGHT
    }

    /// The outline of the upright picture.
    pub fn shape(&self) -> Shape {
        let aspect = f64::from(self.width.max(1)) / f64::from(self.height.max(1));
        match aspect {
            2.5.. => Shape::Panorama,
            1.03.. => Shape::Landscape,
            0.97.. => Shape::Square,
            0.4.. => Shape::Portrait,
            _ => Shape::Tall,
        }
    }
}
