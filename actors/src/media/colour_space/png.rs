//! The colours of a PNG: the chunks `cICP`, `iCCP`, `sRGB`, `gAMA` and `cHRM`, of which the first counts.

use super::icc::{BROKEN, MAX_PROFILE_BYTES, too_large};
use super::{Chromaticities, CodePoints, Coded, ToSrgb};
use crate::media::bytes::be32;

/// The description of the colours of a PNG.
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::media) enum Description {
    /// sRGB, or nothing is said.
    #[default]
    Srgb,
    /// The chunk `cICP`.
    CodePoints(CodePoints),
    /// The chunk `iCCP`, unpacked, or the note about it.
    Profile(Result<Vec<u8>, String>),
    /// The chunks `gAMA` and `cHRM`: the exponent of the curve (2.2 for most screens), and the chromaticities.
    Gamma(Option<f32>, Option<Chromaticities>),
}

impl Description {
    /// The conversion of HDR.
    pub(in crate::media) fn hdr(&self) -> Option<Coded> {
        match self {
            Self::CodePoints(points) if points.is_hdr() => points.coded(),
            Self::Srgb | Self::CodePoints(_) | Self::Profile(_) | Self::Gamma(..) => None,
        }
    }

    /// The conversion of pixels with one channel or three.
    ///
    /// # Errors
    /// The note about a profile that is ignored.
    pub(in crate::media) fn conversion(self, channels: usize) -> Result<ToSrgb, String> {
        match self {
            Self::Srgb => Ok(ToSrgb::Unchanged),
            Self::CodePoints(points) => Ok(ToSrgb::by_code(points.coded(), channels)),
            Self::Profile(profile) => ToSrgb::by_profile(&profile?, channels),
            Self::Gamma(gamma, chromaticities) => {
                Ok(ToSrgb::by_code(Coded::by_gamma(gamma, chromaticities), channels))
            }
        }
    }
}

/// Reads the chunks before the picture's data.
pub(in crate::media) fn description(bytes: &[u8]) -> Description {
    let (mut profile, mut srgb, mut gamma, mut chromaticities) = (None, false, None, None);
    for (kind, body) in chunks(bytes) {
        let number = |at| be32(body, at).map(|it| it as f32 / 100_000.0);
        match &kind {
            // The matrix must be the one of RGB, and the range full: others are not defined for PNG.
            b"cICP" => {
                if let [primaries, transfer, 0, 1] = *body {
                    return Description::CodePoints(CodePoints { primaries, transfer });
                }
            }
            b"iCCP" => profile = profile.or_else(|| Some(unpacked(body))),
            b"sRGB" => srgb = true,
            b"gAMA" => gamma = number(0).filter(|&it| it > 0.0).map(|it| 1.0 / it),
            b"cHRM" => {
                let point = |at| Some((number(at)?, number(at + 4)?));
                chromaticities = (|| Some([point(0)?, point(8)?, point(16)?, point(24)?]))();
            }
            _ => {}
        }
    }
    match profile {
        Some(profile) => Description::Profile(profile),
        None if srgb || gamma.is_none() && chromaticities.is_none() => Description::Srgb,
        None => Description::Gamma(gamma, chromaticities),
    }
}

/// The kinds and contents of the chunks before the picture's data.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut at = 8_usize;
    std::iter::from_fn(move || {
        let size = usize::try_from(be32(bytes, at)?).ok()?;
        let kind: [u8; 4] = bytes.get(at + 4..at + 8)?.try_into().ok()?;
        let body = bytes.get(at + 8..at.checked_add(8)?.checked_add(size)?)?;
        at = at.checked_add(12)?.checked_add(size)?;
        (&kind != b"IDAT").then_some((kind, body))
    })
}

/// Unpacks the profile behind its name. It may be a bomb.
fn unpacked(body: &[u8]) -> Result<Vec<u8>, String> {
    let name = body.iter().position(|&it| it == 0).ok_or(BROKEN)?;
    let packed = body.get(name + 1..).and_then(|rest| rest.strip_prefix(&[0])).ok_or(BROKEN)?;
    fdeflate::decompress_to_vec_bounded(packed, MAX_PROFILE_BYTES).map_err(|error| match error {
        fdeflate::BoundedDecompressionError::OutputTooLarge { .. } => too_large(MAX_PROFILE_BYTES + 1),
        fdeflate::BoundedDecompressionError::DecompressionError { .. } => BROKEN.into(),
    })
}
