//! ICC profiles for tests, written here, and the colours that they mean.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

pub type Matrix = [[f64; 3]; 3];

/// The colorants of a colour space as columns: XYZ for the white of profiles (D50).
pub const SRGB: Matrix =
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]];
pub const DISPLAY_P3: Matrix =
    [[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]];
pub const ADOBE_RGB: Matrix =
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]];
pub const PROPHOTO: Matrix = [[0.79767, 0.13519, 0.03135], [0.28804, 0.71188, 0.00009], [0.0, 0.0, 0.82491]];
/// sRGB with green in place of red, blue in place of green, and red in place of blue.
pub const GBR: Matrix =
    [[0.38515, 0.14307, 0.43607], [0.71687, 0.06061, 0.22249], [0.09708, 0.71410, 0.01392]];
pub const BT_2020: Matrix =
    [[0.67350, 0.16570, 0.12505], [0.27904, 0.67534, 0.04562], [-0.00193, 0.02998, 0.79686]];

/// The curve of a colour space.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Curve {
    Gamma(f64),
    /// The curve of sRGB, as parameters.
    Srgb,
}

impl Curve {
    pub fn coded(self, linear: f64) -> f64 {
        let linear = linear.clamp(0.0, 1.0);
        match self {
            Self::Gamma(gamma) => linear.powf(1.0 / gamma),
            Self::Srgb if linear <= 0.003_130_8 => linear * 12.92,
            Self::Srgb => 1.055 * linear.powf(1.0 / 2.4) - 0.055,
        }
    }

    fn tag(self) -> Vec<u8> {
        let fixed = |value: f64| ((value * 65_536.0).round() as i32).to_be_bytes();
        match self {
            Self::Gamma(gamma) => {
                [&b"curv\0\0\0\0\0\0\0\x01"[..], &((gamma * 256.0).round() as u16).to_be_bytes()].concat()
            }
            Self::Srgb => {
                let numbers = [2.4, 1.0 / 1.055, 0.055 / 1.055, 1.0 / 12.92, 0.040_45].map(fixed);
                [&b"para\0\0\0\0\0\x03\0\0"[..], &numbers.concat()].concat()
            }
        }
    }
}

/// sRGB of eight bits as linear light.
pub fn linear(value: u8) -> f64 {
    let value = f64::from(value) / 255.0;
    if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// A colour of sRGB as linear light of another colour space.
pub fn light_in(space: &Matrix, colour: [u8; 3]) -> [f64; 3] {
    times(&inverse(space), times(&SRGB, colour.map(linear)))
}

/// A colour of sRGB in the code of another colour space, 0 to 1.
pub fn code_in(space: &Matrix, curve: Curve, colour: [u8; 3]) -> [f64; 3] {
    light_in(space, colour).map(|value| curve.coded(value))
}

pub fn times(matrix: &Matrix, vector: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
}

pub fn inverse(m: &Matrix) -> Matrix {
    let minor = |r: usize, c: usize| {
        let (r1, r2, c1, c2) = ((r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3);
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    let determinant: f64 = (0..3).map(|c| m[0][c] * minor(0, c)).sum();
    std::array::from_fn(|r| std::array::from_fn(|c| minor(c, r) / determinant))
}

/// A profile with its tags. `space` is `RGB `, `GRAY` or `CMYK`, `pcs` is `XYZ ` or `Lab `.
pub fn profile(version: u8, space: &[u8; 4], pcs: &[u8; 4], tags: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let class = if space == b"CMYK" { b"prtr" } else { b"mntr" };
    let mut table = (tags.len() as u32).to_be_bytes().to_vec();
    let mut data: Vec<u8> = Vec::new();
    let start = 132 + 12 * tags.len();
    for (name, body) in tags {
        table.extend(*name);
        table.extend(((start + data.len()) as u32).to_be_bytes());
        table.extend((body.len() as u32).to_be_bytes());
        data.extend(body);
        data.resize(data.len().next_multiple_of(4), 0);
    }
    let mut header = vec![0; 128];
    header[..4].copy_from_slice(&((start + data.len()) as u32).to_be_bytes());
    header[8] = version;
    header[12..16].copy_from_slice(class);
    header[16..20].copy_from_slice(space);
    header[20..24].copy_from_slice(pcs);
    header[36..40].copy_from_slice(b"acsp");
    header[68..80].copy_from_slice(&xyz([0.9642, 1.0, 0.8249])[8..]);
    [header, table, data].concat()
}

fn xyz(values: [f64; 3]) -> Vec<u8> {
    let numbers = values.map(|value| ((value * 65_536.0).round() as i32).to_be_bytes());
    [&b"XYZ \0\0\0\0"[..], &numbers.concat()].concat()
}

/// A profile of a matrix and a curve.
pub fn rgb(version: u8, space: &Matrix, curve: Curve) -> Vec<u8> {
    let column = |c: usize| xyz(space.map(|row| row[c]));
    let tags = [
        (b"wtpt", xyz([0.9642, 1.0, 0.8249])),
        (b"rXYZ", column(0)),
        (b"gXYZ", column(1)),
        (b"bXYZ", column(2)),
        (b"rTRC", curve.tag()),
        (b"gTRC", curve.tag()),
        (b"bTRC", curve.tag()),
    ];
    profile(version, b"RGB ", b"XYZ ", &tags)
}

/// A profile of grey with a curve of light (`XYZ `) or of lightness (`Lab `).
pub fn grey(curve: Curve, pcs: &[u8; 4]) -> Vec<u8> {
    let tags = [(b"wtpt", xyz([0.9642, 1.0, 0.8249])), (b"kTRC", curve.tag())];
    profile(2, b"GRAY", pcs, &tags)
}

/// A profile of a table (`mft2`) with `points` in each direction; `colour` is the linear light of sRGB for the
/// channels, each from 0 to 1.
pub fn table(
    space: &[u8; 4],
    channels: usize,
    points: usize,
    colour: impl Fn(&[f64]) -> [f64; 3],
) -> Vec<u8> {
    let mut body = table_head(b"mft2", channels, points);
    // Curves of two entries: straight.
    body.extend([0, 2, 0, 2]);
    (0..channels).for_each(|_| body.extend([0, 0, 0xff, 0xff]));
    for place in places(channels, points) {
        let [l, a, b] = lab(colour(&place));
        for value in [l * 652.8, (a + 128.0) * 256.0, (b + 128.0) * 256.0] {
            body.extend((value.round().clamp(0.0, 65_535.0) as u16).to_be_bytes());
        }
    }
    (0..3).for_each(|_| body.extend([0, 0, 0xff, 0xff]));
    profile(2, space, b"Lab ", &[(b"wtpt", xyz([0.9642, 1.0, 0.8249])), (b"A2B0", body)])
}

/// The same with eight bits (`mft1`).
pub fn coarse_table(
    space: &[u8; 4],
    channels: usize,
    points: usize,
    colour: impl Fn(&[f64]) -> [f64; 3],
) -> Vec<u8> {
    let mut body = table_head(b"mft1", channels, points);
    (0..channels).for_each(|_| body.extend(0..=255));
    for place in places(channels, points) {
        let [l, a, b] = lab(colour(&place));
        body.extend([l * 2.55, a + 128.0, b + 128.0].map(|it| it.round().clamp(0.0, 255.0) as u8));
    }
    (0..3).for_each(|_| body.extend(0..=255));
    profile(2, space, b"Lab ", &[(b"wtpt", xyz([0.9642, 1.0, 0.8249])), (b"A2B0", body)])
}

fn table_head(kind: &[u8; 4], channels: usize, points: usize) -> Vec<u8> {
    let mut head = [&kind[..], &[0; 4], &[channels as u8, 3, points as u8, 0]].concat();
    [1, 0, 0, 0, 1, 0, 0, 0, 1].iter().for_each(|it| head.extend((it * 65_536_i32).to_be_bytes()));
    head
}

/// The places of the entries of a table, the last channel fastest.
fn places(channels: usize, points: usize) -> impl Iterator<Item = Vec<f64>> {
    (0..points.pow(channels as u32)).map(move |entry| {
        let step = |channel: usize| entry / points.pow((channels - 1 - channel) as u32) % points;
        (0..channels).map(|channel| step(channel) as f64 / (points - 1) as f64).collect()
    })
}

/// Lab of linear light of sRGB.
fn lab(light: [f64; 3]) -> [f64; 3] {
    let [x, y, z] = times(&SRGB, light);
    let f = |t: f64| if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
    let (x, y, z) = (f(x / 0.9642), f(y), f(z / 0.8249));
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}
