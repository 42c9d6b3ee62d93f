//! Reduces a picture while it is decoded, row by row.

/// Collects the rows of a picture, and reduces it by whole numbers on the way: each pixel is the mean of a
/// field of pixels. With a factor of 1 the rows are kept as they are.
pub(super) struct Reduction {
    width: usize,
    height: usize,
    channels: usize,
    /// Pixels of the source for each pixel across and down.
    factor: (usize, usize),
    /// Sums of the rows of the present field.
    sums: Vec<u32>,
    /// Rows in the sums.
    summed: usize,
    data: Vec<u8>,
}

/// Largest factor, so that the sums of a field fit their numbers.
const MAX_FACTOR: u32 = 4096;

/// The factors by which a picture can be reduced and still has twice these sides, so that the loss is not
/// seen after the final resize.
pub(super) fn factor((width, height): (u32, u32), least: (u32, u32)) -> (u32, u32) {
    let factor = |full: u32, least: u32| (full / least.max(1).saturating_mul(2)).clamp(1, MAX_FACTOR);
    (factor(width, least.0), factor(height, least.1))
}

/// Width and height after a reduction.
pub(super) fn reduced((width, height): (u32, u32), factor: (u32, u32)) -> (u32, u32) {
    (width.div_ceil(factor.0), height.div_ceil(factor.1))
}

impl Reduction {
    pub(super) fn new((width, height): (u32, u32), channels: usize, factor: (u32, u32)) -> Self {
        let (wide, high) = reduced((width, height), factor);
        let (wide, high) = (wide as usize, high as usize);
        Self {
            width: width as usize,
            height: height as usize,
            channels,
            factor: (factor.0 as usize, factor.1 as usize),
            sums: vec![0; if factor == (1, 1) { 0 } else { wide * channels }],
            summed: 0,
            data: Vec::with_capacity(wide * high * channels),
        }
    }

    /// Adds the next row, of `width * channels` bytes.
    pub(super) fn push(&mut self, row: &[u8]) {
        if self.factor == (1, 1) {
            self.data.extend_from_slice(row);
            return;
        }
        let field = self.factor.0 * self.channels;
        for (sums, field) in self.sums.chunks_exact_mut(self.channels).zip(row.chunks(field)) {
            match sums {
                [a, b, c] => {
                    for [r, g, b2] in field.as_chunks::<3>().0 {
                        (*a, *b, *c) = (*a + u32::from(*r), *b + u32::from(*g), *c + u32::from(*b2));
                    }
                }
                sums => {
                    for pixel in field.chunks(self.channels) {
                        sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u32::from(*value));
                    }
                }
            }
        }
        self.summed += 1;
        if self.summed == self.factor.1 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.summed == 0 {
            return;
        }
        let cells = self.sums.chunks_exact_mut(self.channels);
        for (sums, x) in cells.zip((0..self.width).step_by(self.factor.0)) {
            let count = (self.factor.0.min(self.width - x) * self.summed) as u32;
            for sum in sums {
                self.data.push(((*sum + count / 2) / count) as u8);
                *sum = 0;
            }
        }
        self.summed = 0;
    }

    /// The reduced picture. Rows that were not added are grey.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.flush();
        let row = self.width.div_ceil(self.factor.0) * self.channels;
        self.data.resize(row * self.height.div_ceil(self.factor.1), 128);
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_their_means() {
        let mut reduction = Reduction::new((5, 3), 1, (2, 2));
        for row in [[0, 10, 20, 30, 40], [0, 10, 20, 30, 42], [7, 8, 9, 9, 1]] {
            reduction.push(&row);
        }
        assert_eq!(reduction.finish(), [5, 25, 41, 8, 9, 1]);
    }

    #[test]
    fn missing_rows_are_grey() {
        let mut reduction = Reduction::new((1, 3), 3, (1, 1));
        reduction.push(&[1, 2, 3]);
        assert_eq!(reduction.finish(), [1, 2, 3, 128, 128, 128, 128, 128, 128]);
    }

    #[test]
    fn twice_the_wanted_sides_are_kept() {
        assert_eq!(factor((12_000, 11_000), (1000, 900)), (6, 6));
        assert_eq!(factor((1999, 20_000), (1000, 80)), (1, 125));
        assert_eq!(factor((3, u32::MAX), (1, 1)), (1, MAX_FACTOR));
    }
}
