//! Colours by primaries and transfer curve, and HDR mapped to sRGB.
//!
//! Of HDR, the reference white of 203 cd/m² (ITU-R BT.2408) becomes the white of sRGB. A brighter colour is
//! darkened until it fits and keeps its hue: clipping its channels one by one would make orange lights yellow.
//!
//! The light of HLG depends on the screen by an exponent (ITU-R BT.2100). It is 1.2 for a white of 1000 cd/m²,
//! and falls to about 1 for a screen whose white is that of sRGB. The exponent here is 1.

use std::sync::{Arc, LazyLock};

use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, MatrixCoefficients,
    TransferCharacteristics, XyY,
};

/// Luminance of reference white, in cd/m².
const WHITE: f64 = 203.0;
/// Light at the camera, of 1, that HLG codes as 75 percent, which is its reference white (ITU-R BT.2408).
const HLG_WHITE: f64 = 0.265;

/// Steps of a transfer curve: sixteen for each value of eight bits.
const STEPS: u32 = 255 * 16;
/// Steps of the curve back to sRGB.
const LINEAR_STEPS: f32 = 16_384.0;

/// Numbers of H.273.
const BT_709: u8 = 1;
const UNSPECIFIED: u8 = 2;
const PQ: u8 = 16;
const HLG: u8 = 18;

/// Primaries and transfer curve by their numbers in H.273.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodePoints {
    pub(crate) primaries: u8,
    pub(crate) transfer: u8,
}

impl CodePoints {
    /// Returns `true` for PQ and HLG.
    pub(crate) fn is_hdr(self) -> bool {
        matches!(self.transfer, PQ | HLG)
    }

    /// The conversion of such colours. Returns `None` if they are shown like sRGB.
    ///
    /// Curves that are meant for television are shown by screens as sRGB is, so only the primaries count.
    pub(crate) fn coded(self) -> Option<Coded> {
        let curve: Option<fn(f64) -> f64> = match self.transfer {
            4 => Some(|value| value.powf(2.2)),
            8 => Some(|value| value),
            PQ => Some(|value| pq(value) / WHITE),
            HLG => Some(|value| hlg(value) / HLG_WHITE),
            _ => None,
        };
        let matrix = match self.primaries {
            BT_709 | UNSPECIFIED => None,
            number => matrix_of(number),
        };
        if curve.is_none() && matrix.is_none() {
            return None;
        }
        Some(Coded::new(curve.unwrap_or(srgb_to_linear), matrix.unwrap_or(IDENTITY), self.is_hdr()))
    }
}

/// White point, red, green and blue as x and y of CIE 1931.
pub(crate) type Chromaticities = [(f32, f32); 4];

type Matrix = [[f32; 3]; 3];

const IDENTITY: Matrix = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

/// The conversion of colours with known primaries and transfer curve into sRGB.
#[derive(Debug, Clone)]
pub(crate) struct Coded {
    /// Linear light by coded value.
    linear: Arc<[f32]>,
    /// Linear light into that of sRGB.
    matrix: Matrix,
    /// Light beyond 1.0 is darkened and not clipped.
    hdr: bool,
}

impl Coded {
    fn new(curve: impl Fn(f64) -> f64, matrix: Matrix, hdr: bool) -> Self {
        let linear = (0..=STEPS).map(|step| curve(f64::from(step) / f64::from(STEPS)) as f32).collect();
        Self { linear, matrix, hdr }
    }

    /// Adobe RGB (1998), which cameras mark by EXIF alone.
    pub(crate) fn adobe_rgb() -> Self {
        let matrix = matrix(&ColorProfile::new_adobe_rgb()).unwrap_or(IDENTITY);
        Self::new(|value| value.powf(2.199_218_75), matrix, false)
    }

    /// Colours by the exponent of their curve (2.2 for most screens), and by their chromaticities if these are
    /// known. Returns `None` if they are those of sRGB or make no sense.
    pub(crate) fn by_gamma(gamma: Option<f32>, chromaticities: Option<Chromaticities>) -> Option<Self> {
        // Programs write 1/2.2, rounded in one way or another, when they mean sRGB.
        let gamma = gamma.filter(|it| (0.2..=5.0).contains(it)).filter(|it| (it - 2.2).abs() > 0.02);
        let matrix = chromaticities.filter(|it| !near_srgb(it)).and_then(matrix_by_chromaticities);
        if gamma.is_none() && matrix.is_none() {
            return None;
        }
        let curve = |value: f64| gamma.map_or_else(|| srgb_to_linear(value), |it| value.powf(it.into()));
        Some(Self::new(curve, matrix.unwrap_or(IDENTITY), false))
    }

    /// Converts one colour of eight bits.
    pub(crate) fn srgb(&self, colour: [u8; 3]) -> [u8; 3] {
        self.converted(colour.map(|value| usize::from(value) * 16))
    }

    /// Converts one colour of sixteen bits.
    pub(crate) fn srgb_of_words(&self, colour: [u16; 3]) -> [u8; 3] {
        self.converted(colour.map(|value| ((u32::from(value) * STEPS + 32_767) / 65_535) as usize))
    }

    /// Converts pixels of red, green, blue in place.
    pub(crate) fn convert(&self, data: &mut [u8]) {
        for pixel in data.as_chunks_mut::<3>().0 {
            *pixel = self.srgb(*pixel);
        }
    }

    fn converted(&self, steps: [usize; 3]) -> [u8; 3] {
        let light = steps.map(|step| self.linear[step]);
        let mut light =
            self.matrix.map(|row| (row[0] * light[0] + row[1] * light[1] + row[2] * light[2]).max(0.0));
        let most = light[0].max(light[1]).max(light[2]);
        if self.hdr && most > 1.0 {
            light = light.map(|value| value / most);
        }
        light.map(|value| SRGB[(value.min(1.0) * LINEAR_STEPS + 0.5) as usize])
    }
}

/// sRGB of eight bits by linear light.
static SRGB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let steps = (0..=LINEAR_STEPS as u32).map(|step| f64::from(step) / f64::from(LINEAR_STEPS));
    steps.map(|linear| (linear_to_srgb(linear) * 255.0 + 0.5) as u8).collect()
});

pub(super) fn linear_to_srgb(linear: f64) -> f64 {
    if linear <= 0.003_130_8 { linear * 12.92 } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

pub(super) fn srgb_to_linear(value: f64) -> f64 {
    if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// The curve of SMPTE ST 2084, in cd/m².
fn pq(value: f64) -> f64 {
    const M1: f64 = 2610.0 / 16_384.0;
    const M2: f64 = 2523.0 / 4096.0 * 128.0;
    const C1: f64 = 3424.0 / 4096.0;
    const C2: f64 = 2413.0 / 4096.0 * 32.0;
    const C3: f64 = 2392.0 / 4096.0 * 32.0;
    let root = value.powf(1.0 / M2);
    10_000.0 * ((root - C1).max(0.0) / (C2 - C3 * root)).powf(1.0 / M1)
}

/// The curve of HLG (ITU-R BT.2100), as light at the camera from 0 to 1.
fn hlg(value: f64) -> f64 {
    const A: f64 = 0.178_832_77;
    const B: f64 = 1.0 - 4.0 * A;
    const C: f64 = 0.559_910_73;
    if value <= 0.5 { value * value / 3.0 } else { (((value - C) / A).exp() + B) / 12.0 }
}

/// The matrix from linear light of a profile to that of sRGB. Returns `None` for one that makes no sense.
fn matrix(profile: &ColorProfile) -> Option<Matrix> {
    let matrix = profile.transform_matrix(&ColorProfile::new_srgb()).v;
    let matrix = matrix.map(|row| row.map(|value| value as f32));
    // White stays white, and no primary is absurdly far away.
    let sound = matrix
        .iter()
        .all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 0.02 && row.iter().all(|value| value.abs() < 8.0));
    let [[a, b, c], [d, e, f], [g, h, i]] = matrix;
    let volume = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
    (sound && volume > 0.02).then_some(matrix)
}

/// The matrix for primaries by their number in H.273.
fn matrix_of(number: u8) -> Option<Matrix> {
    let color_primaries = CicpColorPrimaries::try_from(number).ok()?;
    ColorPrimaries::try_from(color_primaries).ok()?;
    let mut profile = ColorProfile::new_srgb();
    profile.update_rgb_colorimetry_from_cicp(CicpProfile {
        color_primaries,
        transfer_characteristics: TransferCharacteristics::Srgb,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    });
    matrix(&profile)
}

fn matrix_by_chromaticities([white, red, green, blue]: Chromaticities) -> Option<Matrix> {
    let point = |(x, y): (f32, f32)| Chromaticity { x, y };
    if [white, red, green, blue].iter().any(|(x, y)| !(-0.2..=1.0).contains(x) || !(0.0..=1.0).contains(y)) {
        return None;
    }
    let mut profile = ColorProfile::new_srgb();
    let white = XyY { x: white.0.into(), y: white.1.into(), yb: 1.0 };
    profile.update_rgb_colorimetry(
        white,
        ColorPrimaries { red: point(red), green: point(green), blue: point(blue) },
    );
    matrix(&profile)
}

/// Returns `true` if chromaticities are those of sRGB, as far as they are written down.
fn near_srgb(chromaticities: &Chromaticities) -> bool {
    const SRGB: Chromaticities = [(0.3127, 0.329), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06)];
    let near = |a: f32, b: f32| (a - b).abs() < 0.002;
    chromaticities.iter().zip(SRGB).all(|(found, it)| near(found.0, it.0) && near(found.1, it.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_white_becomes_white_and_black_stays_black() {
        for (transfer, white) in [(PQ, 0.580_7), (HLG, 0.75)] {
            let coded = CodePoints { primaries: 9, transfer }.coded().expect("HDR");
            let word = (white * 65_535.0_f64).round() as u16;
            for (value, expected) in [(word, 255_u8), (65_535, 255), (0, 0)] {
                let found = coded.srgb_of_words([value; 3]);
                assert!(found.iter().all(|it| it.abs_diff(expected) <= 1), "{transfer}: {found:?}");
            }
            let darker = coded.srgb_of_words([(f64::from(word) * 0.95) as u16; 3]);
            assert!(darker[0] < 250, "{transfer}: {darker:?}");
        }
    }

    #[test]
    fn a_light_brighter_than_white_keeps_its_hue() {
        // Orange at five times the luminance of white: clipped one by one its channels would be yellow.
        let coded = CodePoints { primaries: 1, transfer: PQ }.coded().expect("HDR");
        let code = |luminance: f64| {
            let found = (0..=65_535_u16).find(|&it| pq(f64::from(it) / 65_535.0) >= luminance);
            found.expect("in range")
        };
        let [r, g, b] = coded.srgb_of_words([code(1000.0), code(300.0), code(20.0)]);
        assert!(r == 255 && (140..160).contains(&g) && b < 50, "{r} {g} {b}");
    }

    #[test]
    fn primaries_and_curves_of_srgb_change_nothing() {
        for (primaries, transfer) in [(1, 13), (2, 2), (1, 1), (1, 6), (2, 14), (0, 0), (255, 255)] {
            assert!(CodePoints { primaries, transfer }.coded().is_none(), "{primaries} {transfer}");
        }
        let srgb = [(0.3127, 0.329), (0.64, 0.33), (0.3, 0.6), (0.15, 0.06)];
        assert!(Coded::by_gamma(Some(1.0 / 0.45455), Some(srgb)).is_none());
        // Absurd values are ignored.
        let absurd = [(0.0, 0.0); 4];
        assert!(Coded::by_gamma(Some(0.0), Some(absurd)).is_none());
        assert!(Coded::by_gamma(Some(f32::NAN), Some([(f32::NAN, 1.0); 4])).is_none());
    }
}
