//! A picture that is far longer than wide, cut into pieces that lie side by side, so that a model can read it.

use super::layout::{self, VisionSpec};
use super::render::Rgb;

/// Pictures with a shorter side than this are lines, and have nothing to read.
const LEAST_SIDE: u32 = 64;
/// The overview of a picture is enough if it has this share of the pixels that the model takes.
const ENOUGH: u64 = 4;
const MOST_PIECES: u32 = 16;
/// The white gap between two pieces, in pixels.
const GAP: u32 = 12;

/// How an upright picture is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pieces {
    /// Width and height of the picture before it is cut.
    pub(super) whole: (u32, u32),
    /// Width and height of the pieces with the gaps between them.
    pub(super) content: (u32, u32),
    /// The same with the padding that the model wants.
    pub(super) padded: (u32, u32),
    count: u32,
    /// Length of a piece in pixels. Neighbours overlap, so that no line of text is cut in both.
    length: u32,
}

impl Pieces {
    /// The pieces of an upright picture, or `None` if the model sees enough of it as a whole.
    pub(super) fn of(width: u32, height: u32, spec: &VisionSpec) -> Option<Self> {
        let (short, long) = (width.min(height), width.max(height));
        let overview = layout::vision(width, height, spec).content;
        let area = u64::from(overview.0) * u64::from(overview.1);
        let reduced = overview.0.min(overview.1) < short;
        if short < LEAST_SIDE || !reduced || area.saturating_mul(ENOUGH) > spec.max_pixels {
            return None;
        }
        let best = (2..=MOST_PIECES).filter_map(|count| Self::cut((width, height), count, spec));
        // Of equally large ones the fewest pieces.
        let best = best.reduce(|a, b| if b.whole.0 * 50 > a.whole.0 * 51 { b } else { a })?;
        let larger = u64::from(best.whole.0) * 2 >= u64::from(overview.0) * 3;
        (larger && long > 2 * short).then_some(best)
    }

    /// The largest pieces of this number.
    fn cut((width, height): (u32, u32), count: u32, spec: &VisionSpec) -> Option<Self> {
        let pixels = f64::from(width) * f64::from(height);
        let mut scale = (spec.max_pixels as f64 / pixels).sqrt().min(1.0);
        while scale * f64::from(width.min(height)) >= 8.0 {
            let side = |full: u32| ((f64::from(full) * scale) as u32).max(1);
            let whole = (side(width), side(height));
            let (short, long) = (whole.0.min(whole.1), whole.0.max(whole.1));
            let length = (long.div_ceil(count) + short / 16).min(long);
            let across = count * short + (count - 1) * GAP;
            let content = if height > width { (across, length) } else { (length, across) };
            if let Some(padded) = layout::padded(content, spec) {
                return Some(Self { whole, content, padded, count, length });
            }
            scale *= 0.98;
        }
        None
    }

    /// Puts the pieces of a picture of the size `whole` side by side, or one below the other if it is wide.
    pub(super) fn arranged(&self, picture: &Rgb) -> Rgb {
        let (width, height) = self.content;
        let mut data = vec![255; width as usize * height as usize * 3];
        let (from_row, to_row) = (picture.width as usize * 3, width as usize * 3);
        let tall = picture.height > picture.width;
        let long = picture.width.max(picture.height);
        for piece in 0..self.count {
            let start = u64::from(long - self.length) * u64::from(piece) / u64::from(self.count - 1);
            let (start, length) = (start as usize, self.length as usize);
            let place = piece as usize * (picture.width.min(picture.height) + GAP) as usize;
            let rows = if tall { length } else { picture.height as usize };
            let bytes = if tall { from_row } else { length * 3 };
            for row in 0..rows {
                let (from, to) = match tall {
                    true => ((start + row) * from_row, row * to_row + place * 3),
                    false => (row * from_row + start * 3, (place + row) * to_row),
                };
                data[to..to + bytes].copy_from_slice(&picture.data[from..from + bytes]);
            }
        }
        Rgb { width, height, data }
    }

    /// The sentence for the record.
    pub(super) fn note(&self) -> String {
        let (longer, way) = match self.whole.1 > self.whole.0 {
            true => ("higher than wide", "side by side"),
            false => ("wider than high", "one below the other"),
        };
        format!("the picture is much {longer}, so the model saw it in {} pieces {way}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: VisionSpec =
        VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: true };

    #[test]
    fn a_long_screenshot_is_larger_in_pieces() {
        let pieces = Pieces::of(1080, 20_000, &SPEC).expect("pieces");
        let overview = layout::vision(1080, 20_000, &SPEC).content;
        assert!(pieces.whole.0 > 2 * overview.0, "{pieces:?} {overview:?}");
        let (width, height) = pieces.padded;
        assert!(width % 28 == 0 && height % 28 == 0 && width.max(height) <= 1568);
        assert!(u64::from(width) * u64::from(height) <= SPEC.max_pixels);
        assert!(pieces.note().contains("pieces side by side"));
    }

    #[test]
    fn pictures_that_a_model_can_read_are_not_cut() {
        for (width, height) in [(4000, 3000), (1920, 1080), (8000, 2000), (300, 60), (16_000, 1), (3, 1200)] {
            assert_eq!(Pieces::of(width, height, &SPEC), None, "{width} x {height}");
        }
    }

    #[test]
    fn the_pieces_cover_the_picture_in_its_order() {
        for wide in [false, true] {
            let size = if wide { (20_000, 1000) } else { (1000, 20_000) };
            let pieces = Pieces::of(size.0, size.1, &SPEC).expect("pieces");
            let (width, height) = pieces.whole;
            let shade = |x: u32, y: u32| (u64::from(x.max(y)) * 250 / u64::from(width.max(height))) as u8;
            let data = (0..height).flat_map(|y| (0..width).flat_map(move |x| [shade(x, y); 3])).collect();
            let arranged = pieces.arranged(&Rgb { width, height, data });
            let at = |x: u32, y: u32| arranged.data[(y * arranged.width + x) as usize * 3];
            let (right, bottom) = (arranged.width - 1, arranged.height - 1);
            assert!(at(0, 0) <= 2 && at(right, bottom) >= 248, "{pieces:?}");
            let second = width.min(height) + GAP;
            let (end, next) =
                if wide { (at(right, 0), at(0, second)) } else { (at(0, bottom), at(second, 0)) };
            assert!(next <= end && end - next < 20, "{end} {next}");
        }
    }
}
