//! Turns decoded pixels into sRGB by the description of their colours: an ICC profile, code points of H.273,
//! a gamma with chromaticities, or the EXIF mark of Adobe RGB.
//!
//! `icc` reads profiles, `coded` knows the other descriptions and maps HDR, `jpeg` and `png` find the
//! description in a file. Thumbnail, vision input and colour facts are all made of the result.

mod coded;
mod icc;
pub(super) mod jpeg;
pub(super) mod png;

use super::pixels::Pixels;
use super::render::Rgb;

pub(super) use coded::{Chromaticities, CodePoints, Coded};

/// The conversion of decoded pixels into sRGB.
#[derive(Clone, Default)]
pub(crate) enum ToSrgb {
    /// The pixels are sRGB already, or nothing says otherwise.
    #[default]
    Unchanged,
    /// The colour of each grey level.
    Grey(Box<[[u8; 3]; 256]>),
    /// By an ICC profile.
    Icc(icc::Conversion),
    /// By primaries and transfer curve.
    Coded(Box<Coded>),
}

impl ToSrgb {
    /// The conversion by an ICC profile, of pixels with one channel (grey), three, or four (ink of CMYK, 255
    /// for full ink).
    ///
    /// # Errors
    /// The note about a profile that is broken, too large, or does not fit the pixels.
    pub(super) fn by_profile(profile: &[u8], channels: usize) -> Result<Self, String> {
        icc::conversion(profile, channels)
    }

    /// The conversion by a description without a profile, of pixels with one channel or three.
    pub(super) fn by_code(coded: Option<Coded>, channels: usize) -> Self {
        match coded {
            None => Self::Unchanged,
            Some(coded) if channels == 1 => {
                Self::Grey(Box::new(std::array::from_fn(|level| coded.srgb([level as u8; 3]))))
            }
            Some(coded) => Self::Coded(Box::new(coded)),
        }
    }

    /// Converts a picture. Notes it if a profile turns out to be useless only now.
    pub(super) fn apply(&self, picture: Pixels, notes: &mut Vec<String>) -> Rgb {
        let Pixels { width, height, channels, mut data, .. } = picture;
        match (self, channels) {
            (Self::Grey(colours), 1) => {
                data = data.iter().flat_map(|&level| colours[usize::from(level)]).collect();
            }
            (Self::Coded(coded), 3) => coded.convert(&mut data),
            (Self::Icc(conversion), 3 | 4) => match conversion.apply(&data) {
                Some(converted) => data = converted,
                None => {
                    notes.push(icc::BROKEN.to_owned());
                    data = unmanaged(data, channels);
                }
            },
            _ => data = unmanaged(data, channels),
        }
        Rgb { width, height, data }
    }
}

/// Red, green and blue without a conversion: of ink, the light that it lets through.
fn unmanaged(data: Vec<u8>, channels: usize) -> Vec<u8> {
    match channels {
        1 => data.iter().flat_map(|&level| [level; 3]).collect(),
        4 => {
            let light =
                |ink: u8, black: u8| ((u32::from(255 - ink) * u32::from(255 - black) + 127) / 255) as u8;
            data.as_chunks().0.iter().flat_map(|&[c, m, y, k]| [c, m, y].map(|ink| light(ink, k))).collect()
        }
        _ => data,
    }
}
