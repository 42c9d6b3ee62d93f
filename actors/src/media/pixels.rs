//! Decoded pixels, reduced in place to eight bits and to grey, red, green, blue, or ink.

use image::ColorType;

/// A decoded picture as it is stored, not yet upright.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    /// 1 grey, 3 red, green, blue, 4 ink (cyan, magenta, yellow, black; 255 is full ink).
    pub(super) channels: usize,
    /// `width * height * channels` bytes.
    pub(super) data: Vec<u8>,
    /// The sides of the picture in these pixels. After a reduction by a whole number the last column and row
    /// may be parts of a pixel.
    pub(super) exact: (f64, f64),
}

impl Pixels {
    /// A picture that was not reduced.
    pub(super) fn new(width: u32, height: u32, channels: usize, data: Vec<u8>) -> Self {
        Self { width, height, channels, data, exact: (f64::from(width), f64::from(height)) }
    }

    /// Takes the output of a decoder, in native byte order. Alpha is blended on white at full size, so that a
    /// resize has the result of one with premultiplied alpha, without dark fringes and without the buffers
    /// for it.
    ///
    /// Returns `None` for a length that does not fit the size, and for a layout that is not known here.
    pub(super) fn flatten(width: u32, height: u32, colour: ColorType, mut data: Vec<u8>) -> Option<Self> {
        let pixel = usize::from(colour.bytes_per_pixel());
        let row = usize::try_from(width).ok()?.checked_mul(pixel)?;
        if row == 0 || data.len() != row.checked_mul(usize::try_from(height).ok()?)? {
            return None;
        }
        let channels = if colour.has_color() { 3 } else { 1 };
        match colour {
            ColorType::L8 | ColorType::Rgb8 => {}
            ColorType::La8 => shrink_rows::<2, 1>(&mut data, row, |&[l, a]| [on_white(l, a)]),
            ColorType::Rgba8 => shrink_rows::<4, 3>(&mut data, row, |&[r, g, b, a]| match a {
                255 => [r, g, b],
                _ => [on_white(r, a), on_white(g, a), on_white(b, a)],
            }),
            ColorType::L16 => shrink_rows::<2, 1>(&mut data, row, |p| [narrow(u16::from_ne_bytes(*p))]),
            ColorType::La16 => shrink_rows::<4, 1>(&mut data, row, |p| {
                let [l, a] = words(p);
                [on_white(l, a)]
            }),
            ColorType::Rgb16 => shrink_rows::<6, 3>(&mut data, row, words),
            ColorType::Rgba16 => shrink_rows::<8, 3>(&mut data, row, |p| {
                let [r, g, b, a] = words(p);
                [on_white(r, a), on_white(g, a), on_white(b, a)]
            }),
            ColorType::Rgb32F => shrink_rows::<12, 3>(&mut data, row, floats),
            ColorType::Rgba32F => shrink_rows::<16, 3>(&mut data, row, |p| {
                let [r, g, b, a] = floats(p);
                [on_white(r, a), on_white(g, a), on_white(b, a)]
            }),
            // The enum of `image` is not exhaustive.
            _ => return None,
        }
        Some(Self::new(width, height, channels, data))
    }
}

/// Converts pixels of `N` bytes to pixels of `M` bytes in place, row by row, so that the loops can be
/// unrolled.
fn shrink_rows<const N: usize, const M: usize>(
    data: &mut Vec<u8>,
    row: usize,
    pixel: impl Fn(&[u8; N]) -> [u8; M],
) {
    let mut line = vec![0; row];
    let rows = data.len() / row;
    let out_row = row / N * M;
    for y in 0..rows {
        line.copy_from_slice(&data[y * row..(y + 1) * row]);
        let out = data[y * out_row..(y + 1) * out_row].as_chunks_mut::<M>().0;
        for (to, from) in out.iter_mut().zip(line.as_chunks::<N>().0) {
            *to = pixel(from);
        }
    }
    data.truncate(rows * out_row);
}

/// Blends a value on white.
pub(super) fn on_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// Converts sixteen bits to eight, rounded.
pub(super) fn narrow(word: u16) -> u8 {
    ((u32::from(word) * 255 + 32_767) / 65_535) as u8
}

fn words<const N: usize, const M: usize>(pixel: &[u8; N]) -> [u8; M] {
    let mut out = [0; M];
    for (to, from) in out.iter_mut().zip(pixel.as_chunks::<2>().0) {
        *to = narrow(u16::from_ne_bytes(*from));
    }
    out
}

/// Converts floats from 0 to 1 to eight bits; NaN becomes black.
fn floats<const N: usize, const M: usize>(pixel: &[u8; N]) -> [u8; M] {
    let mut out = [0; M];
    for (to, from) in out.iter_mut().zip(pixel.as_chunks::<4>().0) {
        *to = (f32::from_ne_bytes(*from).clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(colour: ColorType, data: &[u8]) -> Vec<u8> {
        Pixels::flatten(1, 1, colour, data.to_vec()).expect("one pixel").data
    }

    #[test]
    fn each_layout_becomes_grey_or_colour_on_white() {
        assert_eq!(flat(ColorType::L8, &[7]), [7]);
        assert_eq!(flat(ColorType::La8, &[0, 0]), [255]);
        assert_eq!(flat(ColorType::La8, &[10, 255]), [10]);
        assert_eq!(flat(ColorType::Rgba8, &[0, 100, 255, 0]), [255, 255, 255]);
        assert_eq!(flat(ColorType::Rgba8, &[0, 100, 255, 128]), [127, 177, 255]);
        assert_eq!(flat(ColorType::L16, &0x8080_u16.to_ne_bytes()), [0x80]);
        let rgb = [0_u16, 0x7fff, 0xffff].map(u16::to_ne_bytes).concat();
        assert_eq!(flat(ColorType::Rgb16, &rgb), [0, 127, 255]);
        let rgba = [0.0_f32, 0.5, f32::NAN, 1.0].map(f32::to_ne_bytes).concat();
        assert_eq!(flat(ColorType::Rgba32F, &rgba), [0, 128, 0]);
    }

    #[test]
    fn a_length_that_does_not_fit_is_refused() {
        assert_eq!(Pixels::flatten(2, 2, ColorType::Rgb8, vec![0; 11]), None);
        assert_eq!(Pixels::flatten(0, 2, ColorType::Rgb8, vec![]), None);
    }
}
