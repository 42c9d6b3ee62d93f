//! The inverse transform of a block, to 8, 4, 2 or 1 pixels on each side.
//!
//! Fewer pixels are made of the coefficients of low frequency alone, by a transform of that size, so that
//! they are what a good reduction of the block would give. In floats, whose loops become vector code.

/// The coefficients of a block, dequantised, in rows from the lowest frequency.
pub(super) type Block = [f32; 64];

/// Writes the pixels of a block into a plane with rows of `stride` bytes. `size` is 1, 2, 4 or 8.
#[inline]
pub(super) fn transform(block: &Block, size: usize, out: &mut [u8], stride: usize) {
    match size {
        1 => {
            if let Some(pixel) = out.first_mut() {
                *pixel = level(block[0]);
            }
        }
        2 => two(block, out, stride),
        4 => four(block, out, stride),
        _ => eight(block, out, stride),
    }
}

/// Writes a block whose pixels are all equal.
#[inline]
pub(super) fn flat(lowest: f32, size: usize, out: &mut [u8], stride: usize) {
    let level = level(lowest);
    for row in out.chunks_mut(stride).take(size) {
        row[..size].fill(level);
    }
}

/// An eighth, with the middle at 128.
#[inline(always)]
fn level(value: f32) -> u8 {
    // The conversion saturates and makes 0 of what is no number.
    (value * 0.125 + 128.5) as u8
}

fn two(block: &Block, out: &mut [u8], stride: usize) {
    let [a, b, c, d] = [block[0], block[1], block[8], block[9]];
    let (left, right) = (a + b, a - b);
    let (down_left, down_right) = (c + d, c - d);
    for (row, pixels) in out
        .chunks_mut(stride)
        .zip([[left + down_left, right + down_right], [left - down_left, right - down_right]])
    {
        row[..2].copy_from_slice(&pixels.map(level));
    }
}

/// The transform of four rows of numbers at once: the columns of a block.
#[inline(always)]
fn four_columns(x: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    // The square root of two times the cosine of an eighth and of three eighths of pi.
    const WIDE: f32 = 1.306_563;
    const NARROW: f32 = 0.541_196_1;
    let mut y = [[0.0; 4]; 4];
    for i in 0..4 {
        let (sum, difference) = (x[0][i] + x[2][i], x[0][i] - x[2][i]);
        let outer = x[1][i] * WIDE + x[3][i] * NARROW;
        let inner = x[1][i] * NARROW - x[3][i] * WIDE;
        y[0][i] = sum + outer;
        y[1][i] = difference + inner;
        y[2][i] = difference - inner;
        y[3][i] = sum - outer;
    }
    y
}

fn four(block: &Block, out: &mut [u8], stride: usize) {
    let row = |v: usize| [block[8 * v], block[8 * v + 1], block[8 * v + 2], block[8 * v + 3]];
    let across = four_columns(transposed(four_columns([row(0), row(1), row(2), row(3)])));
    for (row, pixels) in out.chunks_mut(stride).zip(transposed(across)) {
        row[..4].copy_from_slice(&pixels.map(level));
    }
}

/// The transform of eight rows of numbers at once, by Loeffler, Ligtenberg and Moschytz.
#[inline(always)]
fn eight_columns(x: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let mut y = [[0.0; 8]; 8];
    for i in 0..8 {
        let z = (x[2][i] + x[6][i]) * 0.541_196_1;
        let (t2, t3) = (z - x[6][i] * 1.847_759_1, z + x[2][i] * 0.765_366_9);
        let (t0, t1) = (x[0][i] + x[4][i], x[0][i] - x[4][i]);
        let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];

        let [a, b, c, d] = [x[7][i], x[5][i], x[3][i], x[1][i]];
        let (z1, z2) = ((a + d) * -0.899_976_2, (b + c) * -2.562_915_4);
        let z5 = (a + c + b + d) * 1.175_875_6;
        let (z3, z4) = ((a + c) * -1.961_570_6 + z5, (b + d) * -0.390_180_65 + z5);
        let odd = [
            d * 1.501_321_1 + z1 + z4,
            c * 3.072_711 + z2 + z3,
            b * 2.053_12 + z2 + z4,
            a * 0.298_631_34 + z1 + z3,
        ];
        for k in 0..4 {
            y[k][i] = even[k] + odd[k];
            y[7 - k][i] = even[k] - odd[k];
        }
    }
    y
}

fn eight(block: &Block, out: &mut [u8], stride: usize) {
    let mut rows = [[0.0; 8]; 8];
    for (row, values) in rows.iter_mut().zip(block.as_chunks::<8>().0) {
        *row = *values;
    }
    let across = eight_columns(&transposed(eight_columns(&rows)));
    for (row, pixels) in out.chunks_mut(stride).zip(transposed(across)) {
        row[..8].copy_from_slice(&pixels.map(level));
    }
}

#[inline(always)]
fn transposed<const N: usize>(x: [[f32; N]; N]) -> [[f32; N]; N] {
    let mut y = [[0.0; N]; N];
    for (i, row) in x.iter().enumerate() {
        for (j, value) in row.iter().enumerate() {
            y[j][i] = *value;
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The transform by its definition.
    fn slowly(block: &Block, size: usize) -> Vec<u8> {
        let wave = |x: usize, u: usize| {
            let angle = std::f64::consts::PI * (2 * x + 1) as f64 * u as f64 / (2 * size) as f64;
            if u == 0 { 1.0 } else { std::f64::consts::SQRT_2 * angle.cos() }
        };
        let pixel = |x: usize, y: usize| {
            let terms = (0..size * size).map(|i| {
                let (u, v) = (i % size, i / size);
                f64::from(block[8 * v + u]) * wave(x, u) * wave(y, v)
            });
            level(terms.sum::<f64>() as f32)
        };
        (0..size * size).map(|i| pixel(i % size, i / size)).collect()
    }

    #[test]
    fn each_size_agrees_with_the_definition() {
        let mut block = [0.0; 64];
        for (i, value) in block.iter_mut().enumerate() {
            *value = ((i * 7919) % 401) as f32 / (1.0 + i as f32 / 4.0) - 20.0;
        }
        for size in [1, 2, 4, 8] {
            let mut out = vec![0; size * size];
            transform(&block, size, &mut out, size);
            let expected = slowly(&block, size);
            let most = out.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(most <= Some(1), "{size}: {out:?} {expected:?}");
        }
    }

    #[test]
    fn absurd_coefficients_saturate() {
        for size in [1, 2, 4, 8] {
            let mut out = vec![7; 64];
            transform(&[f32::MAX; 64], size, &mut out, 8);
            transform(&[f32::NAN; 64], size, &mut out, 8);
            assert_eq!(out[0], 0);
        }
    }
}
