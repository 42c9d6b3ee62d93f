//! The sizes of the pictures that are made of a picture.

use super::pieces::Pieces;

/// The picture that a provider wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisionSpec {
    /// Most pixels.
    pub max_pixels: u64,
    /// Longest side, in pixels.
    pub max_side_px: u32,
    /// Both sides are a multiple of this, and at least twice this. Small pictures are padded with white, not
    /// enlarged.
    pub patch_px: u32,
    /// Whether the provider wants a JPEG (quality 88) in addition to the pixels.
    pub jpeg: bool,
}

/// Longest side of a thumbnail, in pixels.
const THUMBNAIL_PX: u32 = 256;
/// How far width and height may be stretched against each other to avoid padding. Neither people nor models
/// notice three percent; models stretch more than that themselves.
const MAX_STRETCH: f64 = 1.03;

/// The sizes of a picture with and without the white padding around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Width and height of the picture, in the upper left corner.
    pub(super) content: (u32, u32),
    /// Width and height of the whole, both multiples of a patch.
    pub(super) padded: (u32, u32),
}

impl Layout {
    /// Pixels of the whole, padding included.
    pub(super) fn pixels(&self) -> u64 {
        u64::from(self.padded.0) * u64::from(self.padded.1)
    }
}

/// Lays out an upright picture for a model.
///
/// A picture that fits with its padding keeps its pixels. A larger one becomes as large as the limits allow:
/// stretched a little to end at the edge of a patch if that is not noticed, otherwise with its own
/// proportions and padding. Each side has at least two patches, even if the limits are smaller.
pub(super) fn vision(width: u32, height: u32, spec: &VisionSpec) -> Layout {
    let patch = spec.patch_px.max(1);
    let most_side = (spec.max_side_px / patch).max(2);
    let most_patches = (spec.max_pixels / u64::from(patch).pow(2)).max(4);
    let fits = |columns: u32, rows: u32| {
        columns <= most_side && rows <= most_side && u64::from(columns) * u64::from(rows) <= most_patches
    };
    let padded = |content: (u32, u32)| {
        let (columns, rows) = (content.0.div_ceil(patch).max(2), content.1.div_ceil(patch).max(2));
        (columns, rows)
    };
    let whole = |(columns, rows): (u32, u32)| (columns * patch, rows * patch);

    let (columns, rows) = padded((width, height));
    if fits(columns, rows) {
        return Layout { content: (width, height), padded: whole((columns, rows)) };
    }
    let aspect = f64::from(width) / f64::from(height);
    let mut stretched = (0, (0, 0));
    let mut kept = (0, (0, 0));
    for columns in 2..=most_side {
        let most_rows = u32::try_from(most_patches / u64::from(columns)).unwrap_or(most_side).min(most_side);
        let ideal = f64::from(columns) / aspect;
        for rows in [ideal.floor() as u32, ideal.ceil() as u32] {
            let (w, h) = whole((columns, rows.clamp(2, most_rows.max(2))));
            let stretch = f64::from(w) / f64::from(h) / aspect;
            let sound = (MAX_STRETCH.recip()..=MAX_STRETCH).contains(&stretch);
            let area = u64::from(w) * u64::from(h);
            if sound && fits(columns, h / patch) && w <= width && h <= height && area > stretched.0 {
                stretched = (area, (w, h));
            }
        }
        // The picture with its own proportions in a box of these columns and the most rows.
        let content = shrink((width, height), whole((columns, most_rows.max(2))));
        let area = u64::from(content.0) * u64::from(content.1);
        let (columns, rows) = padded(content);
        if fits(columns, rows) && area > kept.0 {
            kept = (area, content);
        }
    }
    if stretched.0 * 10 >= kept.0 * 9 && stretched.0 > 0 {
        return Layout { content: stretched.1, padded: stretched.1 };
    }
    Layout { content: kept.1, padded: whole(padded(kept.1)) }
}

/// Pads a picture to whole patches, at least two a side. Returns `None` if that exceeds the limits.
pub(super) fn padded((width, height): (u32, u32), spec: &VisionSpec) -> Option<(u32, u32)> {
    let patch = spec.patch_px.max(1);
    let whole = |side: u32| side.div_ceil(patch).max(2) * patch;
    let (width, height) = (whole(width), whole(height));
    let fits =
        width.max(height) <= spec.max_side_px && u64::from(width) * u64::from(height) <= spec.max_pixels;
    fits.then_some((width, height))
}

/// The sides that a decoded picture of this stored size needs at least for vision input and thumbnail,
/// whichever way it will be turned. No side is longer than that of the picture.
pub(super) fn least(width: u32, height: u32, spec: &VisionSpec) -> (u32, u32) {
    let (lying, upright) = (vision(width, height, spec).content, vision(height, width, spec).content);
    let small = thumbnail(width, height);
    let pieces = |width, height| Pieces::of(width, height, spec).map_or((0, 0), |it| it.whole);
    let (pieces, turned) = (pieces(width, height), pieces(height, width));
    let most = |sides: [u32; 4]| sides.into_iter().max().unwrap_or(1);
    (
        most([lying.0, upright.1, small.0, pieces.0.max(turned.1)]),
        most([lying.1, upright.0, small.1, pieces.1.max(turned.0)]),
    )
}

/// Width and height of the thumbnail of an upright picture; never larger than the picture.
pub(super) fn thumbnail(width: u32, height: u32) -> (u32, u32) {
    shrink((width, height), (THUMBNAIL_PX, THUMBNAIL_PX))
}

/// The largest size with the same proportions that fits a box, at least one pixel each way, never enlarged.
fn shrink((width, height): (u32, u32), (box_width, box_height): (u32, u32)) -> (u32, u32) {
    let (w, h) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let (bw, bh) = (u64::from(box_width.max(1)), u64::from(box_height.max(1)));
    if w <= bw && h <= bh {
        return (width.max(1), height.max(1));
    }
    // Rounding to the nearest stays in the box, whose sides are whole numbers.
    let scale = |side: u64, over: u64, under: u64| {
        u32::try_from((side * over + under / 2) / under).unwrap_or(u32::MAX).max(1)
    };
    if w * bh >= h * bw { (box_width, scale(h, bw, w)) } else { (scale(w, bh, h), box_height) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: VisionSpec =
        VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: true };

    #[test]
    fn vision_sizes_as_a_table() {
        for ((width, height), content, padded) in [
            ((1, 1), (1, 1), (56, 56)),
            ((20, 20), (20, 20), (56, 56)),
            ((56, 56), (56, 56), (56, 56)),
            ((57, 100), (57, 100), (84, 112)),
            ((3, 1200), (3, 1200), (56, 1204)),
            ((16000, 1), (1568, 1), (1568, 56)),
            ((1, 16000), (1, 1568), (56, 1568)),
            ((451, 300), (451, 300), (476, 308)),
            ((1000, 1000), (980, 980), (980, 980)),
            ((4000, 3000), (1148, 868), (1148, 868)),
            ((3000, 4000), (868, 1148), (868, 1148)),
            ((8000, 6000), (1148, 868), (1148, 868)),
            ((1920, 1080), (1316, 756), (1316, 756)),
            ((3000, 300), (1568, 157), (1568, 168)),
        ] {
            let layout = vision(width, height, &SPEC);
            assert_eq!((layout.content, layout.padded), (content, padded), "{width} x {height}");
        }
    }

    #[test]
    fn every_vision_size_keeps_the_limits() {
        let specs = [
            SPEC,
            VisionSpec { max_pixels: 500_000, max_side_px: 800, patch_px: 14, jpeg: false },
            VisionSpec { max_pixels: 1, max_side_px: 1, patch_px: 28, jpeg: false },
            VisionSpec { max_pixels: u64::MAX, max_side_px: 2000, patch_px: 0, jpeg: false },
        ];
        let sides = [1, 2, 27, 28, 29, 55, 56, 300, 419, 1001, 1567, 1569, 2800, 9999, 16384];
        for spec in specs {
            let patch = spec.patch_px.max(1);
            for width in sides {
                for height in sides {
                    let Layout { content, padded } = vision(width, height, &spec);
                    let case = format!("{width} x {height}: {content:?} in {padded:?} by {spec:?}");
                    assert!(content.0 >= 1 && content.1 >= 1, "{case}");
                    assert!(content.0 <= width && content.1 <= height, "enlarged: {case}");
                    assert!(content.0 <= padded.0 && content.1 <= padded.1, "{case}");
                    assert!(padded.0 % patch == 0 && padded.1 % patch == 0, "{case}");
                    assert!(padded.0 >= 2 * patch && padded.1 >= 2 * patch, "{case}");
                    assert!(padded.0.max(padded.1) <= spec.max_side_px.max(2 * patch), "{case}");
                    let pixels = u64::from(padded.0) * u64::from(padded.1);
                    assert!(pixels <= spec.max_pixels.max(4 * u64::from(patch).pow(2)), "{case}");
                }
            }
        }
    }

    #[test]
    fn a_thumbnail_is_never_enlarged() {
        for (size, thumbnail) in [
            ((4000, 3000), (256, 192)),
            ((3000, 4000), (192, 256)),
            ((100, 50), (100, 50)),
            ((256, 256), (256, 256)),
            ((3, 1200), (1, 256)),
            ((16000, 1), (256, 1)),
        ] {
            assert_eq!(super::thumbnail(size.0, size.1), thumbnail);
        }
    }
}
