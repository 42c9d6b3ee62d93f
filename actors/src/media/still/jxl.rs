//! JPEG XL, by `jxl-oxide`.
//!
//! The container is read here, so that the decoder gets the picture alone: it would expand compressed
//! metadata to any size. It converts to sRGB itself, by a profile too, and HDR.

use std::io::{self, Read as _};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jxl_oxide::{
    AllocTracker, EnumColourEncoding, ExtraChannelType, InitializeResult, JxlImage, JxlThreadPool, Render,
    RenderingIntent, UninitializedJxlImage,
};

use super::animation::Animation;
use super::decoded::Decoded;
use super::extent::Extent;
use crate::media::boxes;
use crate::media::error::Error;
use crate::media::exif::{self, Exif};
use crate::media::limits::Limits;
use crate::media::orientation::Orientation;
use crate::media::pixels::{Pixels, on_white};
use crate::media::source::Source;

/// Most boxes of the container that are looked at.
const MAX_BOXES: usize = 4096;
/// Most bytes of the picture that are read for its header, which may hold a colour profile.
const MAX_HEADER_BYTES: usize = 4 << 20;
/// Most bytes of EXIF data.
const MAX_EXIF_BYTES: u64 = 4 << 20;
/// Bytes that a decode holds for a pixel: measured, the planes of floats twice while they are filtered, and
/// the coefficients.
const PIXEL_BYTES: u64 = 36;
/// The same for a pixel of each plane that is no colour.
const EXTRA_BYTES: u64 = 8;

/// The header of a picture, and the places of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Jxl {
    extent: Extent,
    parts: Parts,
}

/// The places of the parts in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Parts {
    /// The picture.
    codestream: Vec<Range<u64>>,
    exif: Option<Range<u64>>,
    /// The EXIF data are compressed by Brotli.
    compressed: bool,
}

impl Jxl {
    pub(crate) fn extent(&self) -> Extent {
        self.extent
    }
}

/// Reads the header. Returns `None` if it makes no sense.
pub(crate) fn header(source: &mut Source<'_>, limits: &Limits) -> io::Result<Option<Jxl>> {
    let parts = parts(source)?;
    let mut image = builder(limits);
    let mut fed = 0;
    let mut bytes = Vec::new();
    for range in &parts.codestream {
        let mut at = range.start;
        while at < range.end && fed < MAX_HEADER_BYTES {
            // The header is mostly in the first kilobyte.
            let most = (fed.max(1024) as u64).min(range.end - at) as usize;
            bytes.clear();
            source.append(at, most, &mut bytes)?;
            at += most as u64;
            fed += most;
            let Ok(_) = image.feed_bytes(&bytes) else { return Ok(None) };
            match image.try_init() {
                Ok(InitializeResult::Initialized(image)) => {
                    let extent = extent(&image);
                    return Ok(extent.map(|extent| Jxl { extent, parts }));
                }
                Ok(InitializeResult::NeedMoreData(more)) => image = more,
                Err(_) => return Ok(None),
            }
        }
    }
    Ok(None)
}

/// Decodes a picture, or the first frame of an animation, to sRGB. It is upright already.
pub(crate) fn decode(bytes: &[u8], jxl: &Jxl, limits: &Limits) -> Result<Decoded, Error> {
    let job = || decoded(bytes, jxl, limits);
    catch_unwind(AssertUnwindSafe(job)).map_err(|_| Error::broken("the decoder failed on it"))?
}

fn decoded(bytes: &[u8], jxl: &Jxl, limits: &Limits) -> Result<Decoded, Error> {
    let mut image = image(bytes, jxl, limits)?;
    let premultiplied = image
        .image_header()
        .metadata
        .ec_info
        .iter()
        .any(|it| matches!(it.ty, ExtraChannelType::Alpha { alpha_associated: true }));
    image.request_color_encoding(EnumColourEncoding::srgb(RenderingIntent::Relative));
    let (render, profile) = match image.render_frame(0) {
        Ok(render) => (render, None),
        // A profile that makes no sense gives a note.
        Err(_) => {
            let image = self::image(bytes, jxl, limits)?;
            let profile = image.original_icc().map(<[u8]>::to_vec);
            (image.render_frame(0).map_err(Error::decoder)?, profile)
        }
    };
    let pixels = flattened(&render, premultiplied)?;
    let exif = Exif { orientation: Orientation::default(), ..exif(bytes, &jxl.parts).unwrap_or_default() };
    Ok(Decoded::new(pixels, exif, animation(&image)).with_profile(profile.as_deref()))
}

/// Reads all of a picture without decoding it.
fn image(bytes: &[u8], jxl: &Jxl, limits: &Limits) -> Result<JxlImage, Error> {
    let mut image = None;
    let mut waiting = Some(builder(limits));
    for range in &jxl.parts.codestream {
        let part = slice(bytes, range).ok_or_else(|| Error::broken("it ends early"))?;
        match (&mut image, waiting.take()) {
            (Some(image), _) => drop(JxlImage::feed_bytes(image, part).map_err(Error::decoder)?),
            (None, Some(mut more)) => {
                more.feed_bytes(part).map_err(Error::decoder)?;
                match more.try_init().map_err(Error::decoder)? {
                    InitializeResult::Initialized(begun) => image = Some(begun),
                    InitializeResult::NeedMoreData(more) => waiting = Some(more),
                }
            }
            (None, None) => {}
        }
    }
    image.ok_or_else(|| Error::broken("it ends early"))
}

/// A decoder in this thread alone, which fails where it would need more memory than all decodes share.
fn builder(limits: &Limits) -> UninitializedJxlImage {
    let most = usize::try_from(limits.decode_memory).unwrap_or(usize::MAX);
    JxlImage::builder()
        .pool(JxlThreadPool::none())
        .alloc_tracker(AllocTracker::with_limit(most))
        .build_uninit()
}

fn extent(image: &JxlImage) -> Option<Extent> {
    let extra = image.image_header().metadata.ec_info.len() as u64;
    Extent::new(image.width(), image.height(), PIXEL_BYTES + EXTRA_BYTES * extra)
}

/// Reduces a picture to grey or red, green, blue on white.
fn flattened(render: &Render, premultiplied: bool) -> Result<Pixels, Error> {
    let mut stream = render.stream();
    let (width, height, channels) = (stream.width(), stream.height(), stream.channels() as usize);
    let rare = || Error::broken("its colours are stored in a rare way");
    let colours = match channels {
        1 | 2 => 1,
        3 | 4 => 3,
        _ => return Err(rare()),
    };
    // Row by row, so that alpha is never held for the whole picture.
    let mut row = vec![0_u8; width as usize * channels];
    let mut data = Vec::with_capacity(width as usize * height as usize * colours);
    for _ in 0..height {
        if stream.write_to_buffer(&mut row) < row.len() {
            return Err(Error::broken("it ends early"));
        }
        for pixel in row.chunks_exact(channels) {
            let (colour, alpha) = pixel.split_at(colours);
            data.extend(colour.iter().map(|&value| match alpha.first() {
                None | Some(255) => value,
                Some(&alpha) if premultiplied => value.saturating_add(255 - alpha),
                Some(&alpha) => on_white(value, alpha),
            }));
        }
    }
    Ok(Pixels::new(width, height, colours, data))
}

fn animation(image: &JxlImage) -> Option<Animation> {
    let timing = image.image_header().metadata.animation.as_ref()?;
    let mut animation = Animation::default();
    for frame in 0..image.num_loaded_keyframes() {
        let ticks = image.frame_header(frame).map_or(0, |header| u64::from(header.duration));
        let ms = ticks.saturating_mul(1000).saturating_mul(timing.tps_denominator.into());
        animation.add_frame(ms / u64::from(timing.tps_numerator.max(1)));
    }
    Some(animation)
}

/// Finds the parts of a file: a bare picture, or a container of boxes.
fn parts(source: &mut Source<'_>) -> io::Result<Parts> {
    let mut parts = Parts::default();
    let whole = 0..source.len();
    if source.exactly::<2>(0)? == Some(*b"\xff\x0a") {
        parts.codestream.push(whole);
        return Ok(parts);
    }
    let boxes: Vec<_> = boxes::in_file(source, whole, MAX_BOXES).collect::<io::Result<_>>()?;
    for (kind, body) in boxes {
        match &kind {
            b"jxlc" => parts.codestream.push(body),
            // A number precedes each part.
            b"jxlp" => parts.codestream.push(body.start + 4..body.end.max(body.start + 4)),
            b"Exif" if parts.exif.is_none() => parts.exif = Some(body),
            b"brob" if parts.exif.is_none() && source.exactly::<4>(body.start)? == Some(*b"Exif") => {
                parts.exif = Some(body.start + 4..body.end);
                parts.compressed = true;
            }
            _ => {}
        }
    }
    Ok(parts)
}

/// The EXIF data. The number of bytes before their TIFF header comes first.
fn exif(bytes: &[u8], parts: &Parts) -> Option<Exif> {
    let block = slice(bytes, parts.exif.as_ref()?)?;
    let mut expanded = Vec::new();
    let block = if parts.compressed {
        let reader = brotli_decompressor::Decompressor::new(block, 4096);
        reader.take(MAX_EXIF_BYTES).read_to_end(&mut expanded).ok()?;
        &expanded[..]
    } else {
        block
    };
    let skip = usize::try_from(u32::from_be_bytes(*block.first_chunk()?)).ok()?;
    Some(exif::read_block(block.get(4_usize.checked_add(skip)?..)?))
}

fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
    let end = usize::try_from(range.end).ok()?.min(bytes.len());
    bytes.get(usize::try_from(range.start).ok()?..end)
}
