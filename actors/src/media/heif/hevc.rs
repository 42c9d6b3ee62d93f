//! Reads the size of a picture from the parameters of its HEVC coding.

use crate::media::boxes::Fields;

/// The parameters of a coded picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coding {
    /// Width and height of the decoded picture, which consists of whole blocks.
    pub(super) coded: (u32, u32),
    /// Width and height of the part that is shown.
    pub(super) shown: (u32, u32),
    /// 0 grey, 1 colour at a quarter, 2 at half, 3 at full resolution.
    pub(super) chroma: u8,
}

impl Coding {
    /// Number of samples of all planes.
    pub(super) fn samples(&self) -> u64 {
        let pixels = u64::from(self.coded.0) * u64::from(self.coded.1);
        match self.chroma {
            0 => pixels,
            1 => pixels * 3 / 2,
            2 => pixels * 2,
            _ => pixels * 3,
        }
    }
}

/// Reads the first sequence parameter set in a box `hvcC`. If there are more, they must be equal, so that a
/// decoder cannot choose another one.
pub(super) fn coding(configuration: &[u8]) -> Option<Coding> {
    let mut fields = Fields::new(configuration);
    fields.take(22)?;
    let mut coding = None;
    for _ in 0..fields.u8()? {
        fields.u8()?;
        for _ in 0..fields.u16()? {
            let length = fields.u16()?;
            let unit = fields.take(length.into())?;
            let [first, second, payload @ ..] = unit else { continue };
            let (kind, layer) = (first >> 1 & 0x3f, (first & 1) << 5 | second >> 3);
            if (kind, layer) == (SEQUENCE_PARAMETERS, 0) {
                let found = sequence_parameters(payload)?;
                if *coding.get_or_insert(found) != found {
                    return None;
                }
            }
        }
    }
    coding
}

const SEQUENCE_PARAMETERS: u8 = 33;

fn sequence_parameters(payload: &[u8]) -> Option<Coding> {
    let mut bits = Bits { bytes: unescaped(payload), at: 0 };
    bits.skip(4)?;
    let sub_layers = bits.number(3)?;
    bits.skip(1)?;
    // Profile and level of the whole, and of each temporal layer that has its own.
    bits.skip(96)?;
    let mut own = Vec::new();
    for _ in 0..sub_layers {
        own.push((bits.number(1)?, bits.number(1)?));
    }
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers as usize))?;
    }
    for (profile, level) in own {
        bits.skip(88 * profile as usize + 8 * level as usize)?;
    }
    bits.variable()?;
    let chroma = u8::try_from(bits.variable()?).ok().filter(|&it| it <= 3)?;
    if chroma == 3 {
        bits.skip(1)?;
    }
    let (width, height) = (bits.variable()?, bits.variable()?);
    let (mut shown_width, mut shown_height) = (width, height);
    if bits.number(1)? == 1 {
        let (unit_x, unit_y) = match chroma {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let [left, right, top, bottom] =
            [bits.variable()?, bits.variable()?, bits.variable()?, bits.variable()?];
        shown_width = width.checked_sub(left.checked_add(right)?.checked_mul(unit_x)?)?;
        shown_height = height.checked_sub(top.checked_add(bottom)?.checked_mul(unit_y)?)?;
    }
    let sound = shown_width > 0 && shown_height > 0;
    sound.then_some(Coding { coded: (width, height), shown: (shown_width, shown_height), chroma })
}

/// Most bytes that the fields which are read can take.
const MAX_BYTES: usize = 256;

/// The bytes without the emulation prevention bytes, which keep start codes out.
fn unescaped(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut zeros = 0;
    for &byte in payload.iter().take(MAX_BYTES) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        bytes.push(byte);
    }
    bytes
}

struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// A number of at most 32 bits.
    fn number(&mut self, count: usize) -> Option<u32> {
        let mut number = 0;
        for at in self.at..self.at + count {
            let bit = self.bytes.get(at / 8)? >> (7 - at % 8) & 1;
            number = number << 1 | u32::from(bit);
        }
        self.at += count;
        Some(number)
    }

    /// An unsigned number in Exp-Golomb code.
    fn variable(&mut self) -> Option<u32> {
        let mut length = 0;
        while self.number(1)? == 0 {
            length += 1;
            if length > 31 {
                return None;
            }
        }
        Some(((1_u64 << length) - 1) as u32 + self.number(length)?)
    }
}
