//! The scales at which a JPEG can be decoded.

use super::frame::{Component, Frame};

/// A scale: the number of pixels that a block of 8 x 8 coefficients becomes on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale(usize);

impl Scale {
    /// Each coefficient is used.
    pub(crate) const FULL: Self = Self(8);

    /// The smallest scale at which a picture has half as much again as these sides. Then the loss against a
    /// decode at the full size is within 0.1 dB, after the final resize and its coding.
    pub(super) fn for_sides(full: (u32, u32), least: (u32, u32)) -> Self {
        let enough = |scale: &Self| {
            let (width, height) = scale.of(full);
            let ample = |side: u32, least: u32| u64::from(side) * 2 >= u64::from(least) * 3;
            ample(width, least.0) && ample(height, least.1)
        };
        [Self(1), Self(2), Self(4)].into_iter().find(enough).unwrap_or(Self::FULL)
    }

    /// Pixels of a block on each side: 1, 2, 4 or 8.
    pub(super) fn pixels(self) -> usize {
        self.0
    }

    /// Width and height of a decoded picture; the last pixel may be a part of one.
    pub(crate) fn of(self, (width, height): (u32, u32)) -> (u32, u32) {
        let side = |full: u32| (u64::from(full) * self.0 as u64).div_ceil(8) as u32;
        (side(width), side(height))
    }

    /// The sides of a picture of this size in decoded pixels, which need not be whole.
    pub(crate) fn exactly(self, (width, height): (u32, u32)) -> (f64, f64) {
        let side = |full: u32| f64::from(full) * self.0 as f64 / 8.0;
        (side(width), side(height))
    }

    /// Pixels of a block of a component on each side. A component with half as many samples in both
    /// directions is decoded at twice the scale, so that it need not be enlarged.
    pub(super) fn of_component(self, frame: &Frame, component: &Component) -> usize {
        let (mut pixels, mut ratio) = (self.0, 2);
        let halves = |whole: u32, part: u32, ratio: u32| whole.is_multiple_of(part * ratio);
        while pixels < 8
            && halves(frame.across(), component.across, ratio)
            && halves(frame.down(), component.down, ratio)
        {
            (pixels, ratio) = (pixels * 2, ratio * 2);
        }
        pixels
    }
}
