//! Resizes, turns, pads and encodes decoded pixels.

use fast_image_resize::images::TypedImage;
use fast_image_resize::pixels::{U8, U8x3, U8x4};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

use super::error::{Error, ErrorKind};
use super::orientation::Orientation;
use super::pixels::Pixels;

/// JPEG quality of thumbnails.
pub(super) const THUMBNAIL_QUALITY: u8 = 85;
/// JPEG quality of pictures for a model.
pub(super) const VISION_QUALITY: u8 = 88;

/// Red, green, blue; `width * height * 3` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rgb {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) data: Vec<u8>,
}

/// Resizes to an exact size. Grey stays one byte a pixel.
pub(super) fn resized(mut picture: Pixels, size: (u32, u32)) -> Result<Pixels, Error> {
    let whole = picture.exact == (f64::from(size.0), f64::from(size.1));
    if whole { Ok(picture) } else { resized_copy(&mut picture, size) }
}

/// Makes a copy of another size. The picture is only read, though the resizer wants it mutable.
pub(super) fn resized_copy(picture: &mut Pixels, size: (u32, u32)) -> Result<Pixels, Error> {
    let (from, part) = ((picture.width, picture.height), picture.exact);
    let data = match picture.channels {
        1 => scaled::<U8>(&mut picture.data, from, part, size, FilterType::Lanczos3)?,
        4 => scaled::<U8x4>(&mut picture.data, from, part, size, FilterType::Lanczos3)?,
        _ => scaled::<U8x3>(&mut picture.data, from, part, size, FilterType::Lanczos3)?,
    };
    Ok(Pixels::new(size.0, size.1, picture.channels, data))
}

/// Makes a smaller copy. The picture is only read, though the resizer wants it mutable.
pub(super) fn reduced(picture: &mut Rgb, (width, height): (u32, u32)) -> Result<Rgb, Error> {
    let from = (picture.width, picture.height);
    let data = if from == (width, height) {
        picture.data.clone()
    } else {
        scaled::<U8x3>(&mut picture.data, from, whole(from), (width, height), FilterType::Lanczos3)?
    };
    Ok(Rgb { width, height, data })
}

/// Makes a smaller or larger copy by bilinear interpolation, for a network that was trained with such
/// pictures. The picture is only read, though the resizer wants it mutable.
#[cfg(feature = "builtin")]
pub(crate) fn interpolated(picture: &mut Rgb, (width, height): (u32, u32)) -> Result<Rgb, Error> {
    let from = (picture.width, picture.height);
    let data = scaled::<U8x3>(&mut picture.data, from, whole(from), (width, height), FilterType::Bilinear)?;
    Ok(Rgb { width, height, data })
}

fn whole((width, height): (u32, u32)) -> (f64, f64) {
    (f64::from(width), f64::from(height))
}

/// Resizes the part in the upper left corner of pixels of a static type: choosing the type at run time would double the machine code of this
/// crate. A source that is not one of the library's own mutable buffers would double it again, so `data` is
/// mutable, but only read.
fn scaled<P: PixelTrait>(
    data: &mut [u8],
    from: (u32, u32),
    part: (f64, f64),
    to: (u32, u32),
    filter: FilterType,
) -> Result<Vec<u8>, Error> {
    let source = TypedImage::<P>::from_buffer(from.0, from.1, data).map_err(failed)?;
    let mut pixels = vec![0; to.0 as usize * to.1 as usize * P::size()];
    let mut target = TypedImage::<P>::from_buffer(to.0, to.1, &mut pixels).map_err(failed)?;
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(0.0, 0.0, part.0, part.1);
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(failed)?;
    Ok(pixels)
}

/// Turns a stored picture upright.
pub(super) fn upright(picture: Rgb, orientation: Orientation) -> Rgb {
    let Rgb { width, height, data } = picture;
    let (w, h) = (width as usize, height as usize);
    // The index of the stored pixel for x, y of the result.
    let source: fn(usize, usize, usize, usize) -> usize = match orientation.number() {
        2 => |x, y, w, _| y * w + (w - 1 - x),
        3 => |x, y, w, h| (h - 1 - y) * w + (w - 1 - x),
        4 => |x, y, w, h| (h - 1 - y) * w + x,
        5 => |x, y, w, _| x * w + y,
        6 => |x, y, w, h| (h - 1 - x) * w + y,
        7 => |x, y, w, h| (h - 1 - x) * w + (w - 1 - y),
        8 => |x, y, w, _| x * w + (w - 1 - y),
        _ => return Rgb { width, height, data },
    };
    let (width, height) = if orientation.swaps_sides() { (height, width) } else { (width, height) };
    let pixels = data.as_chunks::<3>().0;
    let mut turned = Vec::with_capacity(data.len());
    for y in 0..height as usize {
        for x in 0..width as usize {
            turned.extend_from_slice(&pixels[source(x, y, w, h)]);
        }
    }
    Rgb { width, height, data: turned }
}

/// Puts a picture into the upper left corner of a larger white one.
pub(super) fn padded(picture: Rgb, (width, height): (u32, u32)) -> Rgb {
    if (picture.width, picture.height) == (width, height) {
        return picture;
    }
    let (row, wide) = (picture.width as usize * 3, width as usize * 3);
    let mut data = vec![255; wide * height as usize];
    for (to, from) in data.chunks_exact_mut(wide).zip(picture.data.chunks_exact(row)) {
        to[..row].copy_from_slice(from);
    }
    Rgb { width, height, data }
}

/// Encodes a baseline JPEG with chroma at half size, which every model server and browser accepts.
pub(super) fn jpeg(picture: &Rgb, quality: u8) -> Result<Vec<u8>, Error> {
    let too_large = |_| Error::new(ErrorKind::TooLarge, "a JPEG has at most 65535 pixels a side");
    let width = u16::try_from(picture.width).map_err(too_large)?;
    let height = u16::try_from(picture.height).map_err(too_large)?;
    let mut bytes = Vec::with_capacity(picture.data.len() / 8 + 1024);
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(jpeg_encoder::ChromaSubsamplingMethod::Average);
    encoder.encode(&picture.data, width, height, ColorType::Rgb).map_err(failed)?;
    Ok(bytes)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::undecodable(format!("cannot resize or encode the picture: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three by two pixels, numbered.
    fn numbered() -> Rgb {
        Rgb { width: 3, height: 2, data: (1..=6).flat_map(|n| [n, n, n]).collect() }
    }

    #[test]
    fn each_orientation_is_turned_upright() {
        for (number, size, expected) in [
            (1, (3, 2), [1, 2, 3, 4, 5, 6]),
            (2, (3, 2), [3, 2, 1, 6, 5, 4]),
            (3, (3, 2), [6, 5, 4, 3, 2, 1]),
            (4, (3, 2), [4, 5, 6, 1, 2, 3]),
            (5, (2, 3), [1, 4, 2, 5, 3, 6]),
            (6, (2, 3), [4, 1, 5, 2, 6, 3]),
            (7, (2, 3), [6, 3, 5, 2, 4, 1]),
            (8, (2, 3), [3, 6, 2, 5, 1, 4]),
            (9, (3, 2), [1, 2, 3, 4, 5, 6]),
        ] {
            let turned = upright(numbered(), Orientation::new(number));
            let pixels: Vec<u8> = turned.data.iter().copied().step_by(3).collect();
            assert_eq!(
                ((turned.width, turned.height), &pixels[..]),
                (size, &expected[..]),
                "orientation {number}"
            );
        }
    }

    #[test]
    fn padding_is_white_and_lies_right_and_below() {
        let wide = padded(numbered(), (4, 3));
        let pixels: Vec<u8> = wide.data.iter().copied().step_by(3).collect();
        assert_eq!(pixels, [1, 2, 3, 255, 4, 5, 6, 255, 255, 255, 255, 255]);
    }
}
