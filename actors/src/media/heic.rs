//! HEIC pictures: one coded picture after the other goes through the decoder into its place in the whole.
//!
//! The decoder sees each of them alone, in a file of its own that is made here. So it never holds more than one, and
//! nothing in the container can make it hold or do more than [`heif::layout`] has counted. It runs on one thread, and
//! a panic of it is an error.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Error;
use super::decode::{broken, undecodable};
use super::exif::{self, Exif};
use super::heif::{Layout, Mosaic, Tile};
use super::hevc::Coding;
use super::pixels::{Pixels, on_white};

/// Stack of the thread that decodes, in bytes.
const STACK_BYTES: usize = 4 << 20;

/// Ways to make colours of brightness and differences, by their numbers in H.273.
const UNSPECIFIED: u16 = 2;
const BT_601: u16 = 6;

/// Bytes that a decode holds at most at one time: the whole, and one coded picture in work.
pub(super) fn decoder_bytes(layout: &Layout) -> u64 {
    let (width, height) = layout.canvas;
    let pixels = u64::from(width) * u64::from(height);
    let whole = |mosaic: &Mosaic, channels: u64| if fills(mosaic, layout) { 0 } else { pixels * channels };
    // Of each sample four bytes and whether it is there, and four bytes more while edges are smoothed; of each pixel two
    // bytes on how it was coded; the coded bytes four times on their way. Measured with all kinds of chroma.
    let at_work = |mosaic: &Mosaic| {
        let Coding { coded, .. } = mosaic.coding;
        let pixels = u64::from(coded.0) * u64::from(coded.1);
        mosaic.coding.samples() * 9 + pixels * 2 + mosaic.longest() * 4
    };
    let colour = whole(&layout.colour, 3) + at_work(&layout.colour);
    let alpha = layout.alpha.as_ref().map_or(0, |alpha| pixels * 3 + whole(alpha, 1) + at_work(alpha));
    colour.max(alpha) + STACK_BYTES as u64
}

/// Decodes a picture. Alpha is blended on white, and what the container crops away is gone; it is not turned yet.
pub(super) fn decode(bytes: &[u8], layout: &Layout) -> Result<Pixels, Error> {
    // The decoder would spread over all processors, of which other uploads have theirs.
    let thread = rayon::ThreadPoolBuilder::new().num_threads(1).stack_size(STACK_BYTES).build();
    let thread = thread.map_err(|error| broken(&format!("no thread for it: {error}")))?;
    let job = || thread.install(|| whole(bytes, layout));
    let pixels = catch_unwind(AssertUnwindSafe(job)).map_err(|_| broken("the decoder failed on it"))??;
    Ok(pixels)
}

/// The EXIF data of a picture, but for the orientation, which the container says.
pub(super) fn exif(bytes: &[u8], layout: &Layout, most: usize) -> Exif {
    let block = layout.exif.as_ref().and_then(|range| slice(bytes, range)).and_then(|block| {
        // How many bytes come before the TIFF header stands in front.
        let skip = usize::try_from(u32::from_be_bytes(*block.first_chunk()?)).ok()?;
        block.get(4_usize.checked_add(skip)?..)
    });
    let read = block.filter(|block| block.len() <= most).map(exif::read).unwrap_or_default();
    Exif { orientation: layout.orientation, ..read }
}

fn whole(bytes: &[u8], layout: &Layout) -> Result<Pixels, Error> {
    let mut colour = assembled::<3>(bytes, layout, &layout.colour)?;
    if let Some(alpha) = &layout.alpha {
        let alpha = assembled::<1>(bytes, layout, alpha)?;
        for (pixel, &alpha) in colour.as_chunks_mut::<3>().0.iter_mut().zip(&alpha) {
            *pixel = pixel.map(|value| {
                if layout.premultiplied { value.saturating_add(255 - alpha) } else { on_white(value, alpha) }
            });
        }
    }
    let (left, top, width, height) = layout.crop;
    if (left, top) != (0, 0) {
        let stride = (left + width) as usize * 3;
        let row = width as usize * 3;
        for y in 0..height as usize {
            let from = (y + top as usize) * stride + left as usize * 3;
            colour.copy_within(from..from + row, y * row);
        }
        colour.truncate(row * height as usize);
    }
    Ok(Pixels { width, height, channels: 3, data: colour })
}

/// Whether one coded picture is the whole already.
fn fills(mosaic: &Mosaic, layout: &Layout) -> bool {
    mosaic.tiles.len() == 1 && mosaic.coding.shown == layout.canvas
}

/// Decodes coded pictures one by one and lays them side by side, up to the right and lower edge of what is shown. Beyond
/// lies what an encoder filled its last parts with.
fn assembled<const N: usize>(bytes: &[u8], layout: &Layout, mosaic: &Mosaic) -> Result<Vec<u8>, Error> {
    let (left, top, width, height) = layout.crop;
    let (right, bottom) = ((left + width) as usize, (top + height) as usize);
    if fills(mosaic, layout) {
        return decoded::<N>(bytes, layout, mosaic, &mosaic.tiles[0], (right, bottom));
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
        let pixels = decoded::<N>(bytes, layout, mosaic, tile, part)?;
        for (y, row) in pixels.chunks_exact(part.0 * N).enumerate() {
            let to = ((top + y) * right + left) * N;
            data[to..to + row.len()].copy_from_slice(row);
        }
    }
    Ok(data)
}

/// The upper left part of one coded picture as red, green, blue, or as one channel.
fn decoded<const N: usize>(
    bytes: &[u8],
    layout: &Layout,
    mosaic: &Mosaic,
    tile: &Tile,
    part: (usize, usize),
) -> Result<Vec<u8>, Error> {
    let parts = tile.data.iter().map(|range| slice(bytes, range)).collect::<Option<Vec<_>>>();
    let parts = parts.ok_or_else(|| broken("it ends early"))?;
    let configuration = &mosaic.configurations[tile.configuration];
    let alone =
        alone(configuration, layout.meaning.as_deref(), &parts).ok_or_else(|| broken("it is too large"))?;
    let mut decoded = heic_decoder::decode(&alone).map_err(undecodable)?;
    let (width, height) = mosaic.coding.shown;
    if (decoded.width, decoded.height) != (width as usize, height as usize) {
        return Err(broken("a part has another size than its header says"));
    }
    cut(&mut decoded, part);
    if N == 3 {
        // Where nothing names the matrix it is the one of JPEG, as cameras mean it; the decoder would take television's.
        let named = decoded.color_info.filter(|colour| colour.matrix_coefficients != UNSPECIFIED);
        let unnamed =
            heic_decoder::ColorInfo { matrix_coefficients: BT_601, ..decoded.color_info.unwrap_or_default() };
        let colour = named.unwrap_or(unnamed);
        let options = heic_decoder::RgbOptions { color: Some(colour), ..Default::default() };
        return Ok(decoded.to_rgb8_with_options(&options).map_err(undecodable)?.data);
    }
    let most = (1_i64 << decoded.bit_depth_luma.min(16)) - 1;
    Ok(decoded.y.iter().map(|&y| ((i64::from(y).clamp(0, most) * 255 + most / 2) / most) as u8).collect())
}

/// Cuts off what is right of and below a part, before its colours are spread over the pixels beside them.
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

/// A HEIC file of one coded picture and nothing else; `None` if it would be larger than its fields can say.
fn alone(configuration: &[u8], meaning: Option<&[u8]>, parts: &[&[u8]]) -> Option<Vec<u8>> {
    let length = u32::try_from(parts.iter().map(|part| part.len()).sum::<usize>()).ok()?;
    length.checked_add(1 << 20)?;
    let front = |offset: u32| {
        let colour = meaning.map(|body| boxed(b"colr", &[body])).unwrap_or_default();
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

fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let length = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    [&(length as u32).to_be_bytes()[..], kind]
        .into_iter()
        .chain(parts.iter().copied())
        .flatten()
        .copied()
        .collect()
}
