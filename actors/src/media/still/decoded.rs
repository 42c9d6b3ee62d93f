//! The result of decoding a picture, and decoding by the crate `image`.

use image::{ColorType, ImageDecoder};

use super::animation::Animation;
use crate::media::colour_space::ToSrgb;
use crate::media::error::Error;
use crate::media::exif::Exif;
use crate::media::limits::Limits;
use crate::media::pixels::Pixels;

/// A decoded picture and its metadata.
pub(crate) struct Decoded {
    pub(crate) pixels: Pixels,
    pub(crate) colour: ToSrgb,
    pub(crate) exif: Exif,
    pub(crate) animation: Option<Animation>,
    pub(crate) damaged: bool,
    /// The decoder's part of [`Facts::notes`](crate::media::Facts::notes).
    pub(crate) notes: Vec<String>,
}

impl Decoded {
    /// A picture without damage, in sRGB.
    pub(crate) fn new(pixels: Pixels, exif: Exif, animation: Option<Animation>) -> Self {
        Self { pixels, colour: ToSrgb::Unchanged, exif, animation, damaged: false, notes: Vec::new() }
    }

    /// Sets the conversion of its colours, or adds the note about a description that is ignored.
    pub(crate) fn with_colour(mut self, colour: Result<ToSrgb, String>) -> Self {
        match colour {
            Ok(colour) => self.colour = colour,
            Err(note) => self.notes.push(note),
        }
        self
    }

    /// Sets the conversion of its colours by a profile, if there is one.
    pub(super) fn with_profile(self, profile: Option<&[u8]>) -> Self {
        let channels = self.pixels.channels;
        self.with_colour(profile.map_or(Ok(ToSrgb::Unchanged), |it| ToSrgb::by_profile(it, channels)))
    }
}

/// Decodes a picture by the crate `image`. A decoder without limits allocates whatever the file claims, and
/// an allocation that fails ends the process, so the size is checked and reserved before anything is
/// allocated.
pub(super) fn read(mut decoder: impl ImageDecoder, limits: &Limits) -> Result<Pixels, Error> {
    let (width, height) = decoder.dimensions();
    let mut image_limits = image::Limits::default();
    image_limits.max_image_width = Some(limits.max_side_px);
    image_limits.max_image_height = Some(limits.max_side_px);
    image_limits.max_alloc = Some(limits.decode_memory);
    image_limits.check_dimensions(width, height).map_err(Error::decoder)?;
    if u64::from(width) * u64::from(height) > limits.max_pixels {
        return Err(Error::broken("the picture has another size than its header says"));
    }
    let total = decoder.total_bytes();
    image_limits.reserve(total).map_err(Error::decoder)?;
    decoder.set_limits(image_limits).map_err(Error::decoder)?;
    let colour = decoder.color_type();
    let total = usize::try_from(total).map_err(Error::decoder)?;
    let mut data = vec![0; total];
    decoder.read_image(&mut data).map_err(Error::decoder)?;
    flatten(width, height, colour, data)
}

pub(super) fn flatten(width: u32, height: u32, colour: ColorType, data: Vec<u8>) -> Result<Pixels, Error> {
    Pixels::flatten(width, height, colour, data)
        .ok_or_else(|| Error::broken("its colours are stored in a rare way"))
}
