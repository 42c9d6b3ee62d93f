//! From the planes of components to the pixels of a picture: their samples are spread as libjpeg spreads
//! them, and the colours are converted.

use super::frame::Frame;
use super::scale::Scale;
use super::scan::{Plane, Planes};

/// The meaning of the components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colours {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

impl Colours {
    /// By the rules of libjpeg.
    pub(super) fn of(frame: &Frame) -> Self {
        let ids: Vec<u8> = frame.components.iter().map(|it| it.id).collect();
        match (ids.len(), frame.adobe) {
            (1, _) => Self::Grey,
            (3, _) if frame.jfif => Self::YCbCr,
            (3, Some(0)) => Self::Rgb,
            (3, None) if ids == *b"RGB" => Self::Rgb,
            (3, _) => Self::YCbCr,
            (_, Some(2)) => Self::Ycck,
            (_, _) => Self::Cmyk,
        }
    }
}

/// The samples of one component at the size of the picture, row by row.
struct Spread<'a> {
    plane: &'a Plane,
    /// Pixels of the picture for each sample, as a fraction.
    across: (usize, usize),
    down: (usize, usize),
    /// Samples that are blended on the way, if they are: by libjpeg's triangle at twice the size.
    smooth: (bool, bool),
    sums: Vec<u16>,
    row: Vec<u8>,
}

impl<'a> Spread<'a> {
    fn new(frame: &Frame, scale: Scale, index: usize, plane: &'a Plane, width: usize) -> Self {
        let component = &frame.components[index];
        let pixels = scale.of_component(frame, component);
        let across = (frame.across() as usize * scale.pixels(), component.across as usize * pixels);
        let down = (frame.down() as usize * scale.pixels(), component.down as usize * pixels);
        let twice = |(over, under): (usize, usize)| over == 2 * under;
        let same = |(over, under): (usize, usize)| over == under;
        // A picture of two columns is not blended either.
        let blends = scale.pixels() > 1 && plane.size.0 > 2 || same(across);
        let smooth = match (twice(across), twice(down)) {
            (true, true) => (blends, blends),
            (true, false) => (blends && same(down), false),
            (false, true) => (false, scale.pixels() > 1 && same(across)),
            (false, false) => (false, false),
        };
        Self { plane, across, down, smooth, sums: vec![0; plane.size.0], row: vec![0; width] }
    }

    /// The samples of a row of the picture.
    fn row(&mut self, y: usize) -> &[u8] {
        let (wide, high) = self.plane.size;
        let line = |y: usize| &self.plane.data[y.min(high - 1) * self.plane.stride..][..wide];
        let at = y * self.down.1 / self.down.0;
        let near = line(at);
        if !self.smooth.0 && !self.smooth.1 && self.across.0 == self.across.1 {
            return &near[..self.row.len().min(wide)];
        }
        let upper = y.is_multiple_of(2);
        let far = if upper { line(at.saturating_sub(1)) } else { line(at + 1) };
        match self.smooth {
            (false, true) => {
                let bias = if upper { 1 } else { 2 };
                for ((to, near), far) in self.row.iter_mut().zip(near).zip(far) {
                    *to = ((3 * u16::from(*near) + u16::from(*far) + bias) >> 2) as u8;
                }
            }
            (true, both) => {
                let (shift, biases) = if both { (4, (8, 7)) } else { (2, (1, 2)) };
                for ((sum, near), far) in self.sums.iter_mut().zip(near).zip(far) {
                    let near = u16::from(*near);
                    *sum = if both { 3 * near + u16::from(*far) } else { near };
                }
                let sums = &self.sums;
                for (x, pair) in self.row.chunks_mut(2).enumerate() {
                    let this = sums[x] * 3;
                    let before = sums[x.saturating_sub(1)];
                    let after = sums[(x + 1).min(wide - 1)];
                    pair[0] = ((this + before + biases.0) >> shift) as u8;
                    if let Some(second) = pair.get_mut(1) {
                        *second = ((this + after + biases.1) >> shift) as u8;
                    }
                }
            }
            (false, false) => {
                let (over, under) = self.across;
                for (x, to) in self.row.iter_mut().enumerate() {
                    *to = near[(x * under / over).min(wide - 1)];
                }
            }
        }
        &self.row
    }
}

/// Makes grey of one component, and red, green, blue of three and four, or with `ink` the four channels of
/// ink. Returns the number of channels and the pixels.
pub(super) fn pixels(planes: &Planes, frame: &Frame, scale: Scale, ink: bool) -> (usize, Vec<u8>) {
    let (width, height) = scale.of((frame.width, frame.height));
    let (width, height) = (width as usize, height as usize);
    let mut spread: Vec<Spread<'_>> = planes
        .planes
        .iter()
        .enumerate()
        .map(|(index, plane)| Spread::new(frame, scale, index, plane, width))
        .collect();
    let colours = Colours::of(frame);
    let channels = match colours {
        Colours::Grey => 1,
        Colours::Cmyk | Colours::Ycck if ink => 4,
        Colours::Rgb | Colours::YCbCr | Colours::Cmyk | Colours::Ycck => 3,
    };
    let mut data = vec![0; width * height * channels];
    for (y, line) in data.chunks_exact_mut(width * channels).enumerate() {
        match &mut spread[..] {
            [grey] => line.copy_from_slice(grey.row(y)),
            [a, b, c, black] if channels == 4 => {
                let samples = a.row(y).iter().zip(b.row(y)).zip(c.row(y)).zip(black.row(y));
                for (to, (((a, b), c), black)) in line.as_chunks_mut::<4>().0.iter_mut().zip(samples) {
                    // Ink is stored inverted; through luma and chroma it comes out upright.
                    let inks = match colours {
                        Colours::Ycck => rgb(*a, *b, *c),
                        _ => [255 - *a, 255 - *b, 255 - *c],
                    };
                    *to = [inks[0], inks[1], inks[2], 255 - *black];
                }
            }
            [a, b, c, rest @ ..] => {
                let samples = a.row(y).iter().zip(b.row(y)).zip(c.row(y));
                let pixels = line.as_chunks_mut::<3>().0.iter_mut().zip(samples);
                match colours {
                    Colours::YCbCr | Colours::Ycck => {
                        pixels.for_each(|(to, ((y, cb), cr))| *to = rgb(*y, *cb, *cr));
                    }
                    Colours::Grey | Colours::Rgb | Colours::Cmyk => {
                        pixels.for_each(|(to, ((r, g), b))| *to = [*r, *g, *b]);
                    }
                }
                if let [black] = rest {
                    let inverted = colours == Colours::Ycck;
                    for (to, black) in line.as_chunks_mut::<3>().0.iter_mut().zip(black.row(y)) {
                        *to = to.map(|it| without_ink(if inverted { 255 - it } else { it }, *black));
                    }
                }
            }
            _ => {}
        }
    }
    (channels, data)
}

/// The light that an ink and black leave; files hold both inverted.
fn without_ink(ink: u8, black: u8) -> u8 {
    let product = u32::from(ink) * u32::from(black) + 128;
    ((product + (product >> 8)) >> 8) as u8
}

/// By JFIF, in numbers of sixteen binary places.
#[inline(always)]
pub(super) fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let y = (i32::from(y) << 16) + (1 << 15);
    let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
    let byte = |value: i32| (value >> 16).clamp(0, 255) as u8;
    [byte(y + 91_881 * cr), byte(y - 22_554 * cb - 46_802 * cr), byte(y + 116_130 * cb)]
}
