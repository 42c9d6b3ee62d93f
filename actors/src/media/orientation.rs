//! How a stored picture has to be turned to be upright.

/// How a stored picture has to be turned to be upright, by the numbers of EXIF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Orientation(u8);

impl Orientation {
    /// Takes a number from 1 to 8; any other number means upright.
    pub(super) fn new(number: u16) -> Self {
        match number {
            2..=8 => Self(number as u8),
            _ => Self(1),
        }
    }

    /// The number from 1 to 8; 1 is upright as stored.
    pub(super) fn number(self) -> u8 {
        self.0.max(1)
    }

    /// Returns `true` if width and height change places.
    pub(super) fn swaps_sides(self) -> bool {
        self.0 >= 5
    }
}
