//! The main colours of a picture by their everyday names.
//!
//! Colours are compared in OKLCh, where equal distances look about equal: lightness from 0 to 1, chroma (0 is
//! grey, 0.3 is about the most that a screen shows), and hue in degrees (red 29, orange 55, yellow 110, green
//! 142, teal 195, blue 264, purple 305, pink 0).

use std::sync::{
    LazyLock,
    atomic::{AtomicU8, Ordering},
};

use serde::{Deserialize, Serialize};

use super::render::Rgb;

/// Approximate number of pixels that are sampled, whatever the size.
const SAMPLES: usize = 10_000;
/// Colours with a smaller share, in percent, are left out.
const LEAST_PERCENT: u32 = 5;
/// Largest number of colours.
const MOST_COLOURS: usize = 5;

/// A colour by its everyday name and its share of the picture.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Colour {
    /// Everyday English name: `dark blue`, `orange`, `grey`.
    pub name: String,
    /// Share of the picture in percent, 1 to 100.
    pub percent: u8,
}

/// sRGB to linear light.
static LINEAR: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let value = i as f32 / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    })
});

/// Returns the main colours, largest first, and the mean lightness (CIE L*, 0 to 100).
pub(super) fn main(picture: &Rgb) -> (Vec<Colour>, u8) {
    let pixels = picture.data.as_chunks::<3>().0;
    let (width, height) = (picture.width as usize, picture.height as usize);
    let step = (((width * height) as f64 / SAMPLES as f64).sqrt().floor() as usize).max(1);
    let mut counts: [u32; NAMES.len()] = [0; NAMES.len()];
    let (mut total, mut lightness) = (0_u32, 0.0_f64);
    for y in (0..height).step_by(step) {
        for x in (0..width).step_by(step) {
            let pixel = pixels[y * width + x];
            counts[name_of(pixel)] += 1;
            let [r, g, b] = pixel.map(|c| LINEAR[usize::from(c)]);
            let luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
            lightness += f64::from(CIE_LIGHTNESS[(luminance * LUMINANCES as f32) as usize]);
            total += 1;
        }
    }
    if total == 0 {
        return (Vec::new(), 0);
    }
    let mut colours: Vec<Colour> = (NAMES.iter().zip(counts))
        .map(|(name, count)| (name, (count * 100 + total / 2) / total))
        .filter(|&(_, percent)| percent >= LEAST_PERCENT)
        .map(|(name, percent)| Colour { name: (*name).to_owned(), percent: percent as u8 })
        .collect();
    colours.sort_by_key(|colour| std::cmp::Reverse(colour.percent));
    colours.truncate(MOST_COLOURS);
    (colours, (lightness / f64::from(total)).round() as u8)
}

/// Number of steps of luminance in [`CIE_LIGHTNESS`].
const LUMINANCES: usize = 4096;
/// CIE L* by luminance.
static CIE_LIGHTNESS: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let lightness = |step| {
        let luminance = step as f32 / LUMINANCES as f32;
        if luminance > 0.008_856 { 116.0 * luminance.cbrt() - 16.0 } else { 903.3 * luminance }
    };
    (0..=LUMINANCES).map(lightness).collect()
});

/// The index in [`NAMES`] for a pixel. It is computed once for each colour of six bits a channel and then
/// cached, since computing it takes 50 times as long as the rest.
fn name_of(pixel: [u8; 3]) -> usize {
    /// The index of the name plus one, or 0 if it is not computed yet.
    static KNOWN: [AtomicU8; 1 << 18] = [const { AtomicU8::new(0) }; 1 << 18];
    let [r, g, b] = pixel.map(|c| c >> 2);
    let known = &KNOWN[usize::from(r) << 12 | usize::from(g) << 6 | usize::from(b)];
    match known.load(Ordering::Relaxed).checked_sub(1) {
        Some(name) => usize::from(name),
        None => {
            // The upper bits are repeated below, so that the range reaches from black to white.
            let [r, g, b] = [r, g, b].map(|c| LINEAR[usize::from(c << 2 | c >> 4)]);
            let found = name(Lch::of(r, g, b));
            known.store(found as u8 + 1, Ordering::Relaxed);
            found
        }
    }
}

struct Lch {
    lightness: f32,
    chroma: f32,
    hue: f32,
}

impl Lch {
    /// Converts linear red, green and blue.
    fn of(r: f32, g: f32, b: f32) -> Self {
        let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
        let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
        let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
        let lightness = 0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s;
        let a = 1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s;
        let b = 0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s;
        Self { lightness, chroma: a.hypot(b), hue: b.atan2(a).to_degrees().rem_euclid(360.0) }
    }
}

const NAMES: [&str; 22] = [
    "black",
    "dark grey",
    "grey",
    "light grey",
    "white",
    "dark red",
    "red",
    "orange",
    "brown",
    "beige",
    "yellow",
    "dark green",
    "green",
    "light green",
    "teal",
    "dark blue",
    "blue",
    "light blue",
    "purple",
    "pink",
    "dark brown",
    "olive",
];

/// The index in [`NAMES`] for a colour.
fn name(colour: Lch) -> usize {
    let Lch { lightness: l, chroma: c, hue: h } = colour;
    let name = match () {
        () if l < 0.19 || (l < 0.27 && c < 0.035) => "black",
        // Close to black or white, more colours count as grey.
        () if c < 0.025 || (l > 0.93 && c < 0.035) || (l < 0.4 && c < 0.035) => match l {
            0.93.. => "white",
            0.78.. => "light grey",
            0.48.. => "grey",
            _ => "dark grey",
        },
        () => match h {
            36.0..45.0 if c > 0.14 && l > 0.60 => "orange",
            // Red, which has other names when it is dark, pale or light.
            15.0..45.0 => match () {
                () if c < 0.08 && l > 0.75 => "beige",
                () if l > 0.70 => "pink",
                () if c < 0.10 && l < 0.36 => "dark brown",
                () if c < 0.10 => "brown",
                () if l < 0.45 => "dark red",
                () => "red",
            },
            45.0..80.0 => match () {
                () if c < 0.09 && l > 0.74 => "beige",
                () if l < 0.38 => "dark brown",
                () if c > 0.12 && l > 0.59 => "orange",
                () => "brown",
            },
            80.0..118.0 => match () {
                () if c > 0.11 && l > 0.72 => "yellow",
                () if l > 0.72 => "beige",
                () if l < 0.36 && h < 100.0 => "dark brown",
                () if c < 0.09 && h < 90.0 => "brown",
                () if l < 0.40 => "dark green",
                () if h > 112.0 && l < 0.6 => "green",
                () => "olive",
            },
            118.0..172.0 => match () {
                () if l < 0.45 => "dark green",
                () if l > 0.82 && c < 0.2 => "light green",
                () => "green",
            },
            172.0..215.0 => match () {
                () if l > 0.85 && c < 0.08 => "light blue",
                () if c < 0.05 && l > 0.6 => "light blue",
                () => "teal",
            },
            215.0..288.0 => match () {
                () if l < 0.38 => "dark blue",
                () if l > 0.70 => "light blue",
                () => "blue",
            },
            288.0..330.0 => match () {
                () if l > 0.80 && h > 312.0 => "pink",
                () => "purple",
            },
            _ => match () {
                () if l < 0.36 => "dark red",
                () if h < 340.0 && l < 0.55 => "purple",
                () if (5.0..15.0).contains(&h) && l < 0.6 && c > 0.15 => "red",
                () => "pink",
            },
        },
    };
    NAMES.iter().position(|n| *n == name).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(hex: u32) -> &'static str {
        let [_, r, g, b] = hex.to_be_bytes();
        // Once computed, once cached.
        assert_eq!(name_of([r, g, b]), name_of([r, g, b]));
        NAMES[name_of([r, g, b])]
    }

    #[test]
    fn colours_have_the_names_that_people_give_them() {
        for (hex, expected) in [
            (0x000000, "black"),
            (0x101010, "black"),
            (0x404040, "dark grey"),
            (0x808080, "grey"),
            (0xc8c8c8, "light grey"),
            (0xffffff, "white"),
            (0xfaf8f5, "white"),
            (0xff0000, "red"),
            (0xc81e1e, "red"),
            (0x7b0000, "dark red"),
            (0xff8000, "orange"),
            (0xffa500, "orange"),
            (0x8b4513, "brown"),
            (0x6b4a2b, "brown"),
            (0x3b2314, "dark brown"),
            (0xf5deb3, "beige"),
            (0xe8d8c0, "beige"),
            (0xffff00, "yellow"),
            (0xffd700, "yellow"),
            (0x808000, "olive"),
            (0x00ff00, "green"),
            (0x3a9d3a, "green"),
            (0x0b3d0b, "dark green"),
            (0x90ee90, "light green"),
            (0x008080, "teal"),
            (0x0000ff, "blue"),
            (0x2060c0, "blue"),
            (0x000080, "dark blue"),
            (0x14213d, "dark blue"),
            (0x87ceeb, "light blue"),
            (0xadd8e6, "light blue"),
            (0x800080, "purple"),
            (0x8a2be2, "purple"),
            (0xffc0cb, "pink"),
            (0xff69b4, "pink"),
        ] {
            assert_eq!(named(hex), expected, "{hex:06x}");
        }
    }

    #[test]
    fn shares_add_up_and_lightness_runs_from_black_to_white() {
        let data = [[0; 3].repeat(50), [255; 3].repeat(50)].concat();
        let (colours, lightness) = main(&Rgb { width: 10, height: 10, data });
        let named: Vec<(&str, u8)> = colours.iter().map(|c| (c.name.as_str(), c.percent)).collect();
        assert_eq!(named, [("black", 50), ("white", 50)]);
        assert_eq!(lightness, 50);
    }
}
