//! ICC profiles, read and applied by the crate `moxcms`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use moxcms::{
    ColorProfile, DataColorSpace, InterpolationMethod, Layout, LutDataType, LutStore, LutType, LutWarehouse,
    ParsingOptions, ProfileClass, ProfileVersion, RenderingIntent, ToneReprCurve, Transform8BitExecutor,
    TransformOptions,
};
use parking_lot::Mutex;

use super::ToSrgb;
use super::coded::{CodePoints, Coded, linear_to_srgb, srgb_to_linear};
use crate::media::bytes::be32;

/// Largest profile that is used, in bytes. Those of printing presses have two or three MiB.
pub(super) const MAX_PROFILE_BYTES: usize = 4 << 20;
/// Largest difference, of 255, of a profile that counts as sRGB.
const SRGB_DIFFERENCE: u8 = 1;
/// Most tags of a profile; real ones have about twenty.
const MAX_TAGS: u32 = 200;

/// The note about a profile that makes no sense.
pub(super) const BROKEN: &str = "the colour profile is broken and was ignored";

/// The note about a profile that is too large.
pub(super) fn too_large(bytes: usize) -> String {
    format!("the colour profile has {} MiB, more than any real one, and was ignored", bytes >> 20)
}

/// The conversion by a profile.
#[derive(Clone)]
pub(crate) struct Conversion {
    executor: Arc<Transform8BitExecutor>,
    /// Bytes of a pixel.
    channels: usize,
    /// Applied to each channel of the result.
    after: Option<Arc<[u8; 256]>>,
}

impl Conversion {
    /// Converts pixels to red, green, blue. Returns `None` if the profile makes that impossible.
    pub(super) fn apply(&self, data: &[u8]) -> Option<Vec<u8>> {
        let mut converted = vec![0; data.len() / self.channels * 3];
        let job = || self.executor.transform(data, &mut converted);
        catch_unwind(AssertUnwindSafe(job)).ok()?.ok()?;
        if let Some(after) = &self.after {
            converted.iter_mut().for_each(|value| *value = after[usize::from(*value)]);
        }
        Some(converted)
    }
}

/// The conversion of pixels by a profile, or the note about a profile that is ignored.
pub(super) fn conversion(profile: &[u8], channels: usize) -> Result<ToSrgb, String> {
    if profile.len() > MAX_PROFILE_BYTES {
        return Err(too_large(profile.len()));
    }
    let is_it = |known: &Known| known.channels == channels && known.profile == profile;
    if let Some(known) = KNOWN.lock().iter().find(|it| is_it(it)) {
        return Ok(known.colour.clone());
    }
    // The crate is not known to panic, but it reads what anybody can write.
    let colour = catch_unwind(|| read(profile, channels)).unwrap_or_else(|_| Err(BROKEN.into()))?;
    if profile.len() <= MAX_KNOWN_BYTES {
        let mut known = KNOWN.lock();
        known.truncate(MAX_KNOWN - 1);
        known.insert(0, Known { profile: profile.to_vec(), channels, colour: colour.clone() });
    }
    Ok(colour)
}

/// The conversions by the profiles that came last: the photos of a camera all have the same one, and a conversion
/// takes time to prepare.
static KNOWN: Mutex<Vec<Known>> = Mutex::new(Vec::new());
/// Most conversions that are kept, and the largest profile of one, in bytes.
const MAX_KNOWN: usize = 4;
const MAX_KNOWN_BYTES: usize = 64 << 10;

struct Known {
    profile: Vec<u8>,
    channels: usize,
    colour: ToSrgb,
}

fn read(bytes: &[u8], channels: usize) -> Result<ToSrgb, String> {
    let profile = essential(bytes)
        .and_then(|bytes| ColorProfile::new_from_slice_with_options(&bytes, ParsingOptions::default()).ok());
    let mut profile = profile.ok_or(BROKEN)?;
    let known = matches!(
        profile.profile_class,
        ProfileClass::InputDevice
            | ProfileClass::DisplayDevice
            | ProfileClass::OutputDevice
            | ProfileClass::ColorSpace
    );
    if !known {
        return Err("the colour profile is of a kind that describes no pictures and was ignored".into());
    }
    let (name, layout) = match profile.color_space {
        DataColorSpace::Rgb => ("RGB", Layout::Rgb),
        DataColorSpace::Gray => ("grey", Layout::Gray),
        DataColorSpace::Cmyk => ("CMYK", Layout::Rgba),
        _ => return Err("the colour profile is for an unusual kind of colours and was ignored".into()),
    };
    // A grey picture with a profile for colours has equal red, green and blue.
    match (channels, layout) {
        (1, Layout::Gray | Layout::Rgb) | (3, Layout::Rgb) | (4, Layout::Rgba) => {}
        _ => return Err(format!("the colour profile is one for {name} pictures and was ignored")),
    }
    if let Some(coded) = hdr(&profile) {
        return Ok(ToSrgb::by_code(Some(coded), channels));
    }
    if let (Layout::Gray, Some(curve)) = (layout, &profile.gray_trc) {
        return grey(curve, profile.pcs);
    }
    profile.lut_a_to_b_perceptual = profile.lut_a_to_b_perceptual.map(|it| widened(it, profile.pcs));
    // As other programs do: the table that is meant for pictures, then the matrix, then any other table.
    let has_table = profile.lut_a_to_b_perceptual.is_some();
    if !has_table && profile.is_matrix_shaper() {
        (profile.lut_a_to_b_colorimetric, profile.lut_a_to_b_saturation) = (None, None);
    }
    let rendering_intent = match (has_table, &profile.lut_a_to_b_colorimetric) {
        (false, Some(_)) => RenderingIntent::RelativeColorimetric,
        _ => RenderingIntent::Perceptual,
    };
    let options = TransformOptions {
        rendering_intent,
        interpolation_method: InterpolationMethod::Tetrahedral,
        ..TransformOptions::default()
    };
    let executor = profile.create_transform_8bit(layout, &ColorProfile::new_srgb(), Layout::Rgb, options);
    let executor = executor.map_err(|_| BROKEN)?;
    let bytes = match layout {
        Layout::Gray => 1,
        Layout::Rgb => 3,
        _ => 4,
    };
    let after = (has_table && profile.version() >= ProfileVersion::V4_0).then(deeper_black);
    let conversion = Conversion { executor, channels: bytes, after };
    checked(conversion, channels)
}

/// The conversion of grey by a curve, of light or of lightness.
fn grey(curve: &ToneReprCurve, pcs: DataColorSpace) -> Result<ToSrgb, String> {
    let curve = curve.make_linear_evaluator().map_err(|_| BROKEN)?;
    let colour = |level: u8| {
        let value = f64::from(curve.evaluate_value(f32::from(level) / 255.0)).clamp(0.0, 1.0);
        let light = match pcs {
            DataColorSpace::Lab if value > 0.08 => ((value * 100.0 + 16.0) / 116.0).powi(3),
            DataColorSpace::Lab => value * 100.0 / 903.3,
            _ => value,
        };
        [(linear_to_srgb(light) * 255.0).round() as u8; 3]
    };
    greys((0..=255).map(colour).collect())
}

/// The conversion of grey by the colours of its levels.
fn greys(colours: Box<[[u8; 3]]>) -> Result<ToSrgb, String> {
    let colours = <Box<[[u8; 3]; 256]>>::try_from(colours).map_err(|_| BROKEN)?;
    if !is_sound(colours[0], colours[255]) {
        return Err(BROKEN.into());
    }
    let unchanged = colours.iter().zip(0..=255).all(|(colour, level)| is_same(&[level; 3], colour));
    Ok(if unchanged { ToSrgb::Unchanged } else { ToSrgb::Grey(colours) })
}

/// Returns `true` if white is light, and lighter than black.
fn is_sound(black: [u8; 3], white: [u8; 3]) -> bool {
    let sum = |colour: [u8; 3]| colour.iter().map(|&it| u32::from(it)).sum::<u32>();
    sum(white) >= 3 * 96 && sum(black) + 3 * 32 <= sum(white)
}

/// Returns `true` if a conversion has changed no value by more than rounding does.
fn is_same(from: &[u8], to: &[u8]) -> bool {
    from.iter().zip(to).all(|(from, to)| from.abs_diff(*to) <= SRGB_DIFFERENCE)
}

/// Tries a conversion on a few colours: one that changes nothing is left out, and one by which paper is not
/// lighter than ink is refused.
fn checked(conversion: Conversion, channels: usize) -> Result<ToSrgb, String> {
    let ramp: Vec<u8> = (0..=255).flat_map(|level| vec![level; conversion.channels]).collect();
    let colours: Box<[[u8; 3]]> = conversion.apply(&ramp).ok_or(BROKEN)?.as_chunks().0.into();
    if channels == 1 {
        return greys(colours);
    }
    let (Some(&first), Some(&last)) = (colours.first(), colours.last()) else { return Err(BROKEN.into()) };
    let (black, white) = if channels == 4 { (last, first) } else { (first, last) };
    if !is_sound(black, white) {
        return Err(BROKEN.into());
    }
    if channels == 3 {
        let steps = || (0..=255_u8).step_by(51);
        let cube: Vec<u8> =
            steps().flat_map(|r| steps().flat_map(move |g| steps().flat_map(move |b| [r, g, b]))).collect();
        let converted = conversion.apply(&cube).ok_or(BROKEN)?;
        if is_same(&cube, &converted) && is_same(&ramp, colours.as_flattened()) {
            return Ok(ToSrgb::Unchanged);
        }
    }
    Ok(ToSrgb::Icc(conversion))
}

/// A table of eight bits (`mft1`) with sixteen (`mft2`), since the crate misreads its Lab: 128 is neutral, which it
/// takes for a little more.
fn widened(table: LutWarehouse, pcs: DataColorSpace) -> LutWarehouse {
    let wide = |store: &LutStore, factor: u16| match store {
        LutStore::Store8(values) => {
            Some(LutStore::Store16(values.iter().map(|&it| u16::from(it) * factor).collect()))
        }
        LutStore::Store16(_) => None,
    };
    match table {
        LutWarehouse::Lut(table) if pcs == DataColorSpace::Lab => {
            let stores =
                (wide(&table.input_table, 257), wide(&table.clut_table, 257), wide(&table.output_table, 256));
            LutWarehouse::Lut(match stores {
                (Some(input_table), Some(clut_table), Some(output_table)) => {
                    LutDataType { input_table, clut_table, output_table, lut_type: LutType::Lut16, ..table }
                }
                _ => table,
            })
        }
        _ => table,
    }
}

/// Black as other programs show it: the tables of version 4 give it the lightness of a good print's, which is not
/// that of a screen.
fn deeper_black() -> Arc<[u8; 256]> {
    const BLACK: f64 = 0.003_473_1;
    Arc::new(std::array::from_fn(|level| {
        let light = (srgb_to_linear(level as f64 / 255.0) - BLACK) / (1.0 - BLACK);
        (linear_to_srgb(light.max(0.0)) * 255.0).round() as u8
    }))
}

/// The description of an HDR profile, whose curves and tables show it too dark or too flat.
fn hdr(profile: &ColorProfile) -> Option<Coded> {
    let code = profile.cicp.as_ref()?;
    let points =
        CodePoints { primaries: code.color_primaries as u8, transfer: code.transfer_characteristics as u8 };
    points.is_hdr().then(|| points.coded()).flatten()
}

/// The profile without the tags that are not needed, which are often large, or broken and harmless.
fn essential(bytes: &[u8]) -> Option<Vec<u8>> {
    const NEEDED: [&[u8; 4]; 14] = [
        b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC", b"kTRC", b"A2B0", b"A2B1", b"A2B2", b"chad",
        b"wtpt", b"bkpt", b"cicp",
    ];
    let count = be32(bytes, 128).filter(|&count| count <= MAX_TAGS)?;
    let mut reduced = bytes.to_vec();
    for at in (0..count as usize).map(|tag| 132 + 12 * tag) {
        let name = reduced.get_mut(at..at + 4)?;
        if !NEEDED.iter().any(|needed| name == *needed) {
            name.fill(0);
        }
    }
    Some(reduced)
}
