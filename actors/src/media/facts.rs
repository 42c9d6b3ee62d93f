//! What is to be seen in a picture without any model.

use super::render::Rgb;
use super::{Colour, Facts, colour, sharpness};

/// Sharp photos have 67 and more, a blur of one pixel leaves 27 to 53, of two pixels 9 to 18.
const BLURRED: u8 = 22;
const DARK: u8 = 25;
const BRIGHT: u8 = 75;

/// What the pixels alone tell.
pub(super) struct Seen {
    pub(super) colours: Vec<Colour>,
    pub(super) lightness: u8,
    pub(super) sharpness: u8,
}

/// Looks at an upright picture without padding.
pub(super) fn look(picture: &Rgb) -> Seen {
    let (colours, lightness) = colour::main(picture);
    Seen { colours, lightness, sharpness: sharpness::of(picture) }
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
    /// Whether even the sharpest parts are soft, as by a blur of two pixels (sigma) in a picture of one megapixel. Of
    /// a picture without edges, such as a clear sky, nothing is said.
    pub fn blurred(&self) -> bool {
        (1..BLURRED).contains(&self.sharpness)
    }

    /// Whether a person would call it dark: mean lightness under 25.
    pub fn dark(&self) -> bool {
        self.lightness < DARK
    }

    /// Whether a person would call it bright: mean lightness over 75.
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
