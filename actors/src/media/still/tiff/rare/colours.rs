//! Converts the samples of a TIFF to grey, red, green, blue, or ink.

use super::chunks::expanded;
use super::{Coding, Colours, Layout, SampleKind};
use crate::media::error::Error;
use crate::media::pixels::{Pixels, on_white};

/// Decodes all strips or tiles to grey (one channel), red, green, blue (three) or ink (four). Says too whether
/// parts are missing or broken.
pub(super) fn decode(bytes: &[u8], layout: &Layout, channels: usize) -> Result<(Pixels, bool), Error> {
    let (width, height) = (layout.width as usize, layout.height as usize);
    // White, which is no ink.
    let mut out = vec![if channels == 4 { 0 } else { 255 }; width * height * channels];
    // Samples as they are stored, where a pixel needs more than its strip or tile.
    let whole = layout.planar || layout.kind == SampleKind::Float;
    let sample_bytes = layout.bits.div_ceil(8) as usize;
    let pixel_bytes = sample_bytes * layout.samples as usize;
    let mut stored = if whole { vec![0; width * height * pixel_bytes] } else { Vec::new() };
    let (across, down) = layout.chunks();
    let planes = if layout.planar { layout.samples as usize } else { 1 };
    let (mut damaged, mut any) = (false, false);
    for plane in 0..planes {
        for row in 0..down {
            for column in 0..across {
                let number = ((plane as u32 * down + row) * across + column) as usize;
                let top = row * layout.chunk.1;
                let shown = (layout.width - column * layout.chunk.0).min(layout.chunk.0);
                let shown = (shown as usize, (layout.height - top).min(layout.chunk.1) as usize);
                // The last strip has fewer rows, a tile never.
                let rows = if layout.tiled { layout.chunk.1 } else { shown.1 as u32 };
                let start = layout.offsets[number] as usize;
                let end = start.saturating_add(layout.lengths[number] as usize).min(bytes.len());
                let Some(data) = bytes.get(start..end).filter(|it| !it.is_empty()) else {
                    damaged = true;
                    continue;
                };
                let (data, complete) = expanded(data, layout, rows);
                damaged |= !complete;
                any = true;
                let chunk = Chunk { layout, data: &data, rows: rows as usize };
                let place = (column as usize * layout.chunk.0 as usize, top as usize);
                if whole {
                    let to = (&mut stored[..], pixel_bytes, plane * sample_bytes);
                    chunk.copy(to, place, shown, width);
                } else {
                    chunk.paint(&mut out, channels, place, shown, width);
                }
            }
        }
    }
    if !any {
        return Err(Error::broken("it ends early"));
    }
    if whole {
        let range = float_range(&stored, layout);
        for (pixel, to) in stored.chunks_exact(pixel_bytes).zip(out.chunks_exact_mut(channels)) {
            let sample = |i: u32| match layout.kind {
                SampleKind::Float => scaled(float(pixel, i as usize, layout), range),
                SampleKind::Unsigned | SampleKind::Signed => {
                    narrowed(&pixel[i as usize * sample_bytes..], layout)
                }
            };
            colour(layout, sample, to);
        }
    }
    let (width, height) = (layout.width, layout.height);
    Ok((Pixels::new(width, height, channels, out), damaged))
}

/// A decompressed strip or tile.
struct Chunk<'a> {
    layout: &'a Layout,
    data: &'a [u8],
    rows: usize,
}

impl Chunk<'_> {
    /// Copies samples, which have whole bytes or are spread to a byte each, to their places in all pixels.
    fn copy(
        &self,
        (stored, pixel_bytes, first): (&mut [u8], usize, usize),
        (left, top): (usize, usize),
        (width, height): (usize, usize),
        stride: usize,
    ) {
        let layout = self.layout;
        let (row_bytes, samples) = (layout.row_bytes(), layout.chunk_samples() as usize);
        let sample_bytes = layout.bits.div_ceil(8) as usize;
        for y in 0..height.min(self.rows) {
            let row = &self.data[y * row_bytes..(y + 1) * row_bytes];
            for x in 0..width {
                let to = ((top + y) * stride + left + x) * pixel_bytes + first;
                if layout.bits < 8 {
                    (0..samples).for_each(|i| stored[to + i] = packed(row, x * samples + i, layout.bits));
                } else {
                    let from = x * samples * sample_bytes;
                    let bytes = &row[from..from + samples * sample_bytes];
                    stored[to..to + bytes.len()].copy_from_slice(bytes);
                }
            }
        }
    }

    /// Converts pixels of whole numbers.
    fn paint(
        &self,
        out: &mut [u8],
        channels: usize,
        (left, top): (usize, usize),
        (width, height): (usize, usize),
        stride: usize,
    ) {
        let layout = self.layout;
        let samples = layout.samples as usize;
        let (h, v) = (layout.subsampling.0 as usize, layout.subsampling.1 as usize);
        let row_bytes = layout.row_bytes();
        let sample_bytes = layout.bits.div_ceil(8) as usize;
        let block = h * v + 2;
        let blocks = (layout.chunk.0 as usize).div_ceil(h) * block;
        for y in 0..height.min(self.rows) {
            for x in 0..width {
                let to = ((top + y) * stride + left + x) * channels;
                let to = &mut out[to..to + channels];
                if (h, v) != (1, 1) {
                    let block = &self.data[y / v * blocks + x / h * block..][..block];
                    let light = block[y % v * h + x % h];
                    colour(layout, |i| [light, block[h * v], block[h * v + 1]][i as usize], to);
                    continue;
                }
                let row = &self.data[y * row_bytes..(y + 1) * row_bytes];
                let sample = |i: u32| {
                    let at = x * samples + i as usize;
                    match layout.bits {
                        1..8 => packed(row, at, layout.bits),
                        _ => narrowed(&row[at * sample_bytes..], layout),
                    }
                };
                colour(layout, sample, to);
            }
        }
    }
}

/// A sample of fewer than eight bits.
fn packed(row: &[u8], at: usize, bits: u32) -> u8 {
    let first = at * bits as usize;
    row[first / 8] >> (8 - bits as usize - first % 8) & ((1 << bits) - 1) as u8
}

/// A sample of whole bytes as eight bits.
fn narrowed(bytes: &[u8], layout: &Layout) -> u8 {
    let little = layout.order.is_little();
    let high = match layout.bits {
        16 => {
            let sample = if little { [bytes[1], bytes[0]] } else { [bytes[0], bytes[1]] };
            let lab = matches!(layout.colours, Colours::CieLab | Colours::IccLab);
            match u32::from(u16::from_be_bytes(sample)) {
                sample if lab || layout.kind == SampleKind::Signed => (sample >> 8) as u8,
                sample => ((sample * 255 + 32_767) / 65_535) as u8,
            }
        }
        32 => bytes[if little { 3 } else { 0 }],
        _ => bytes[0],
    };
    // The lowest signed number is black.
    if layout.kind == SampleKind::Signed && layout.colours != Colours::CieLab { high ^ 0x80 } else { high }
}

fn float(pixel: &[u8], i: usize, layout: &Layout) -> f32 {
    let bytes = pixel.get(i * 4..).and_then(|it| it.first_chunk::<4>()).copied().unwrap_or_default();
    if layout.order.is_little() { f32::from_le_bytes(bytes) } else { f32::from_be_bytes(bytes) }
}

/// The range of all finite samples, or 0 to 1 if they are in it.
fn float_range(stored: &[u8], layout: &Layout) -> (f32, f32) {
    if layout.kind != SampleKind::Float {
        return (0.0, 1.0);
    }
    let samples = stored.chunks_exact(4).map(|it| float(it, 0, layout)).filter(|it| it.is_finite());
    let (low, high) = samples.fold((f32::MAX, f32::MIN), |(low, high), it| (low.min(it), high.max(it)));
    if low >= 0.0 && high <= 1.0 || low >= high { (0.0, 1.0) } else { (low, high) }
}

/// A floating point number as eight bits; what is no number becomes black.
fn scaled(value: f32, (low, high): (f32, f32)) -> u8 {
    let share = (f64::from(value) - f64::from(low)) / (f64::from(high) - f64::from(low));
    (share.clamp(0.0, 1.0) * 255.0 + 0.5) as u8
}

/// Converts one pixel.
fn colour(layout: &Layout, sample: impl Fn(u32) -> u8, to: &mut [u8]) {
    // Grey of few bits is spread over all of eight.
    let grey = || match layout.bits {
        1..8 => (u32::from(sample(0)) * 255 / ((1 << layout.bits) - 1)) as u8,
        _ => sample(0),
    };
    let three = || [sample(0), sample(1), sample(2)];
    if to.len() == 4 {
        let opacity = layout.alpha.filter(|(_, premultiplied)| !premultiplied).map_or(255, |it| sample(it.0));
        for (to, i) in to.iter_mut().zip(0..) {
            *to = (u32::from(sample(i)) * u32::from(opacity) / 255) as u8;
        }
        return;
    }
    let rgb = match layout.colours {
        Colours::BlackIsZero => [grey(); 3],
        Colours::WhiteIsZero => [255 - grey(); 3],
        Colours::Rgb if layout.bits < 8 => {
            three().map(|it| (u32::from(it) * 255 / ((1 << layout.bits) - 1)) as u8)
        }
        Colours::Rgb => three(),
        Colours::Palette => {
            let (index, count) = (usize::from(sample(0)), layout.palette.len() / 3);
            [0, 1, 2].map(|channel| palette_value(layout, channel * count + index))
        }
        Colours::Cmyk => {
            let key = 255 - u32::from(sample(3));
            three().map(|ink| ((255 - u32::from(ink)) * key / 255) as u8)
        }
        // The decoder of JPEG has converted them.
        Colours::YCbCr if layout.coding == Coding::Jpeg => three(),
        Colours::YCbCr => from_ycbcr(three()),
        Colours::CieLab => from_lab(three().map(f32::from), |it| f32::from(it as u8 as i8)),
        Colours::IccLab => from_lab(three().map(f32::from), |it| it - 128.0),
    };
    let rgb =
        match layout.alpha {
            None => rgb,
            Some((at, premultiplied)) => {
                let alpha = sample(at);
                rgb.map(|value| {
                    if premultiplied { value.saturating_add(255 - alpha) } else { on_white(value, alpha) }
                })
            }
        };
    to.copy_from_slice(&rgb[..to.len()]);
}

/// Some programs write palettes of eight bits.
fn palette_value(layout: &Layout, at: usize) -> u8 {
    let narrow = layout.palette.iter().all(|&it| it < 256);
    let value = layout.palette.get(at).copied().unwrap_or(0);
    if narrow { value as u8 } else { (value >> 8) as u8 }
}

/// Full range with the weights of BT.601, as TIFF has them unless a file says otherwise.
fn from_ycbcr([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    let (y, cb, cr) = (f32::from(y), f32::from(cb) - 128.0, f32::from(cr) - 128.0);
    [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb].map(|it| (it + 0.5) as u8)
}

/// Lab under D50 to sRGB. `signed` gives `a` and `b`.
fn from_lab([l, a, b]: [f32; 3], signed: impl Fn(f32) -> f32) -> [u8; 3] {
    let fy = (l / 2.55 + 16.0) / 116.0;
    let (fx, fz) = (fy + signed(a) / 500.0, fy - signed(b) / 200.0);
    let linear = |f: f32| if f > 6.0 / 29.0 { f * f * f } else { (f - 4.0 / 29.0) * 108.0 / 841.0 };
    let (x, y, z) = (0.964_22 * linear(fx), linear(fy), 0.825_21 * linear(fz));
    // The matrix of sRGB with its white adapted to D50.
    let rgb = [
        3.133_856 * x - 1.616_866_7 * y - 0.490_614_6 * z,
        -0.978_768_4 * x + 1.916_141_5 * y + 0.033_454 * z,
        0.071_945_3 * x - 0.228_991_4 * y + 1.405_242_7 * z,
    ];
    rgb.map(|it| {
        let it = it.clamp(0.0, 1.0);
        let coded = if it <= 0.003_130_8 { it * 12.92 } else { 1.055 * it.powf(1.0 / 2.4) - 0.055 };
        (coded * 255.0 + 0.5) as u8
    })
}
