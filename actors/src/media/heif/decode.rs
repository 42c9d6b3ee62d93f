//! Decodes HEIC pictures: the coded pictures are decoded one after the other and copied to their place in the
//! whole.
//!
//! The decoder gets each coded picture in a file of its own, which is made here. So it never holds more than
//! one, and nothing in the container can make it hold or do more than [`composition`](super::composition) has
//! counted. It runs on one thread, and its panic is an error.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::composition::{Composition, Mosaic, Tile};
use super::hevc::Coding;
use crate::media::boxes::boxed;
use crate::media::colour_space::{CodePoints, Coded, ToSrgb};
use crate::media::error::Error;
use crate::media::exif::{self, Exif};
use crate::media::pixels::{Pixels, on_white};
use crate::media::still::Decoded;

/// Stack of the decoding thread, in bytes.
const STACK_BYTES: usize = 4 << 20;

/// Matrix coefficients by their numbers in H.273.
const UNSPECIFIED: u16 = 2;
const BT_601: u16 = 6;

/// Most bytes that a decode holds at one time: the whole, and one coded picture in work.
pub(crate) fn decoder_bytes(composition: &Composition) -> u64 {
    let (width, height) = composition.canvas;
    let pixels = u64::from(width) * u64::from(height);
    let whole =
        |mosaic: &Mosaic, channels: u64| if fills(mosaic, composition) { 0 } else { pixels * channels };
    // For each sample four bytes, a flag, and four bytes more while edges are smoothed; for each pixel two
    // bytes about its coding; the coded bytes four times on their way. Measured with all kinds of chroma.
    let at_work = |mosaic: &Mosaic| {
        let Coding { coded, .. } = mosaic.coding;
        let pixels = u64::from(coded.0) * u64::from(coded.1);
        // Of HDR, grey with sixteen bits a channel needs more than that.
        let words = if mosaic.coding.chroma == 0 { pixels * 2 } else { 0 };
        mosaic.coding.samples() * 9 + pixels * 2 + words + mosaic.longest() * 4
    };
    let colour = whole(&composition.colour, 3) + at_work(&composition.colour);
    let alpha = composition.alpha.as_ref().map_or(0, |alpha| pixels * 3 + whole(alpha, 1) + at_work(alpha));
    colour.max(alpha) + STACK_BYTES as u64
}

/// Decodes and crops a picture, with alpha blended on white. It is not turned yet. Of HDR the pixels are sRGB.
pub(crate) fn decode(bytes: &[u8], composition: &Composition) -> Result<Decoded, Error> {
    // By default the decoder would use all processors, which other uploads need too.
    let thread = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(STACK_BYTES).build();
    let thread = thread.map_err(|error| Error::broken(&format!("no thread for it: {error}")))?;
    let mut colours = Colours::default();
    let job = || thread.install(|| whole(bytes, composition, &mut colours));
    let mut pixels =
        catch_unwind(AssertUnwindSafe(job)).map_err(|_| Error::broken("the decoder failed on it"))??;
    // Without chroma, so that a profile for grey fits.
    if composition.colour.coding.chroma == 0 {
        pixels = Pixels { channels: 1, data: pixels.data.into_iter().step_by(3).collect(), ..pixels };
    }
    let channels = pixels.channels;
    let colour = match (&colours, &composition.profile) {
        (Colours { hdr: Some(_), .. }, _) => Ok(ToSrgb::Unchanged),
        (_, Some(profile)) => ToSrgb::by_profile(profile, channels),
        (Colours { points, .. }, None) => Ok(ToSrgb::by_code(points.and_then(CodePoints::coded), channels)),
    };
    Ok(Decoded::new(pixels, exif(bytes, composition), None).with_colour(colour))
}

/// The description of the colours of the decoded pictures.
#[derive(Default)]
struct Colours {
    /// From the container, or else from the coded picture.
    points: Option<CodePoints>,
    /// The conversion of HDR.
    hdr: Option<Coded>,
}

/// The EXIF data of a picture, with the orientation from the container.
fn exif(bytes: &[u8], composition: &Composition) -> Exif {
    let block = composition.exif.as_ref().and_then(|range| slice(bytes, range)).and_then(|block| {
        // The number of bytes before the TIFF header comes first.
        let skip = usize::try_from(u32::from_be_bytes(*block.first_chunk()?)).ok()?;
        block.get(4_usize.checked_add(skip)?..)
    });
    let read = block.map(exif::read_block).unwrap_or_default();
    Exif { orientation: composition.orientation, ..read }
}

fn whole(bytes: &[u8], composition: &Composition, colours: &mut Colours) -> Result<Pixels, Error> {
    let mut colour = assembled::<3>(bytes, composition, &composition.colour, colours)?;
    if let Some(alpha) = &composition.alpha {
        let alpha = assembled::<1>(bytes, composition, alpha, colours)?;
        for (pixel, &alpha) in colour.as_chunks_mut::<3>().0.iter_mut().zip(&alpha) {
            *pixel = pixel.map(|value| {
                if composition.premultiplied {
                    value.saturating_add(255 - alpha)
                } else {
                    on_white(value, alpha)
                }
            });
        }
    }
    let (left, top, width, height) = composition.crop;
    if (left, top) != (0, 0) {
        let stride = (left + width) as usize * 3;
        let row = width as usize * 3;
        for y in 0..height as usize {
            let from = (y + top as usize) * stride + left as usize * 3;
            colour.copy_within(from..from + row, y * row);
        }
        colour.truncate(row * height as usize);
    }
    Ok(Pixels::new(width, height, 3, colour))
}

/// Returns `true` if one coded picture is the whole.
fn fills(mosaic: &Mosaic, composition: &Composition) -> bool {
    mosaic.tiles.len() == 1 && mosaic.coding.shown == composition.canvas
}

/// Decodes coded pictures one by one and assembles them up to the right and lower edge of the part that is
/// shown. Beyond that edge an encoder may fill in anything.
fn assembled<const N: usize>(
    bytes: &[u8],
    composition: &Composition,
    mosaic: &Mosaic,
    colours: &mut Colours,
) -> Result<Vec<u8>, Error> {
    let (left, top, width, height) = composition.crop;
    let (right, bottom) = ((left + width) as usize, (top + height) as usize);
    if fills(mosaic, composition) {
        return decoded::<N>(bytes, composition, mosaic, &mosaic.tiles[0], (right, bottom), colours);
    }
    let (tile_width, tile_height) = (mosaic.coding.shown.0 as usize, mosaic.coding.shown.1 as usize);
    let columns = mosaic.columns as usize;
    let mut data = vec![0; right * bottom * N];
    for (i, tile) in mosaic.tiles.iter().enumerate() {
        let (left, top) = (i % columns * tile_width, i / columns * tile_height);
        if left >= right || top >= bottom {
            continue;
        }
        let part = (tile_width.min(right - left), tile_height.min(bottom - top));
        let pixels = decoded::<N>(bytes, composition, mosaic, tile, part, colours)?;
        for (y, row) in pixels.chunks_exact(part.0 * N).enumerate() {
            let to = ((top + y) * right + left) * N;
            data[to..to + row.len()].copy_from_slice(row);
        }
    }
    Ok(data)
}

/// Decodes the upper left part of one coded picture to red, green, blue, or to one channel.
fn decoded<const N: usize>(
    bytes: &[u8],
    composition: &Composition,
    mosaic: &Mosaic,
    tile: &Tile,
    part: (usize, usize),
    colours: &mut Colours,
) -> Result<Vec<u8>, Error> {
    let parts = tile.data.iter().map(|range| slice(bytes, range)).collect::<Option<Vec<_>>>();
    let parts = parts.ok_or_else(|| Error::broken("it ends early"))?;
    let configuration = &mosaic.configurations[tile.configuration];
    let alone = alone(configuration, composition.colour_space.as_deref(), &parts)
        .ok_or_else(|| Error::broken("it is too large"))?;
    let mut decoded = heic_decoder::decode(&alone).map_err(Error::decoder)?;
    let (width, height) = mosaic.coding.shown;
    if (decoded.width, decoded.height) != (width as usize, height as usize) {
        return Err(Error::broken("a part has another size than its header says"));
    }
    cut(&mut decoded, part);
    if N == 3 {
        // Cameras that name no matrix mean the one of JPEG; the decoder would assume that of television.
        let named = decoded.color_info.filter(|colour| colour.matrix_coefficients != UNSPECIFIED);
        let unnamed =
            heic_decoder::ColorInfo { matrix_coefficients: BT_601, ..decoded.color_info.unwrap_or_default() };
        let colour = named.unwrap_or(unnamed);
        let options = heic_decoder::RgbOptions { color: Some(colour), ..Default::default() };
        if colours.points.is_none() {
            let number = |it: u16| u8::try_from(it).unwrap_or(0);
            let points = CodePoints {
                primaries: number(colour.color_primaries),
                transfer: number(colour.transfer_characteristics),
            };
            colours.points = Some(points);
            colours.hdr = Some(points).filter(|it| it.is_hdr()).and_then(CodePoints::coded);
        }
        if let Some(coded) = &colours.hdr {
            let words = decoded.to_rgb16_with_options(&options).map_err(Error::decoder)?.data;
            let mut converted = Vec::with_capacity(words.len());
            words.as_chunks().0.iter().for_each(|&pixel| converted.extend(coded.srgb_of_words(pixel)));
            return Ok(converted);
        }
        return Ok(decoded.to_rgb8_with_options(&options).map_err(Error::decoder)?.data);
    }
    let most = (1_i64 << decoded.bit_depth_luma.min(16)) - 1;
    Ok(decoded.y.iter().map(|&y| ((i64::from(y).clamp(0, most) * 255 + most / 2) / most) as u8).collect())
}

/// Cuts a picture to its upper left part before the colours are interpolated, so that no others mix into its
/// edge.
fn cut(picture: &mut heic_decoder::DecodedImage, (width, height): (usize, usize)) {
    let plane = |samples: &mut Vec<i32>, stride: &mut usize, width: usize, height: usize| {
        if *stride > width {
            (0..height).for_each(|y| samples.copy_within(y * *stride..y * *stride + width, y * width));
            *stride = width;
        }
        samples.truncate(width * height);
    };
    plane(&mut picture.y, &mut picture.width, width, height);
    picture.height = height;
    if picture.chroma_format_idc != 0 {
        let sampling = picture.chroma_sampling;
        let (width, height) =
            (width.div_ceil(sampling.sub_x as usize), height.div_ceil(sampling.sub_y as usize));
        let mut stride = picture.cb_width;
        plane(&mut picture.cb, &mut stride, width, height);
        plane(&mut picture.cr, &mut picture.cb_width, width, height);
        picture.cb_height = height;
    }
}

fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

/// Makes a HEIC file of one coded picture alone. Returns `None` if it would be too large for the fields of
/// its lengths.
fn alone(configuration: &[u8], colour_space: Option<&[u8]>, parts: &[&[u8]]) -> Option<Vec<u8>> {
    let length = u32::try_from(parts.iter().map(|part| part.len()).sum::<usize>()).ok()?;
    length.checked_add(1 << 20)?;
    let front = |offset: u32| {
        let colour = colour_space.map(|body| boxed(b"colr", &[body])).unwrap_or_default();
        let owned: &[u8] = if colour.is_empty() { &[1, 1] } else { &[2, 1, 2] };
        let kind = boxed(b"infe", &[&[2, 0, 0, 0, 0, 1, 0, 0], b"hvc1\0"]);
        let place = [
            &[0, 0, 0, 0, 0x44, 0, 0, 1, 0, 1, 0, 0, 0, 1][..],
            &offset.to_be_bytes(),
            &length.to_be_bytes(),
        ];
        let properties = boxed(b"ipco", &[&boxed(b"hvcC", &[configuration]), &colour]);
        let owners = boxed(b"ipma", &[&[0; 4], &[0, 0, 0, 1, 0, 1], owned]);
        let meta = boxed(
            b"meta",
            &[
                &[0; 4],
                &boxed(b"pitm", &[&[0; 4], &[0, 1]]),
                &boxed(b"iinf", &[&[0; 4], &[0, 1], &kind]),
                &boxed(b"iloc", &place),
                &boxed(b"iprp", &[&properties, &owners]),
            ],
        );
        [boxed(b"ftyp", &[b"heic\0\0\0\0heic"]), meta, (length + 8).to_be_bytes().to_vec(), b"mdat".to_vec()]
            .concat()
    };
    let mut file = front(front(0).len() as u32);
    file.reserve_exact(length as usize);
    parts.iter().for_each(|part| file.extend_from_slice(part));
    Some(file)
}
