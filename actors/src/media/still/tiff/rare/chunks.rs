//! Decompresses a strip or tile of a TIFF.

use std::io::Read as _;

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};

use super::{Coding, Colours, Layout};

/// Most bytes that the history of Zstandard may take.
pub(super) const ZSTANDARD_WINDOW: u64 = 8 << 20;

/// Decompresses a strip or tile of `rows` rows. Bytes that are missing are zero. Returns `false` with them if
/// the data are broken or end early.
pub(super) fn expanded(data: &[u8], layout: &Layout, rows: u32) -> (Vec<u8>, bool) {
    let wanted = bytes(layout, rows);
    let turned: Vec<u8>;
    // JPEG has an order of bits of its own.
    let data = if layout.reversed && layout.coding != Coding::Jpeg {
        turned = data.iter().map(|byte| byte.reverse_bits()).collect();
        &turned[..]
    } else {
        data
    };
    let mut out = match layout.coding {
        Coding::None => data.get(..wanted).unwrap_or(data).to_vec(),
        Coding::PackBits => pack_bits(data, wanted),
        Coding::Lzw => lzw(data, wanted),
        Coding::Deflate => limited(flate2::bufread::ZlibDecoder::new(data), wanted),
        Coding::Zstandard => zstandard(data, wanted),
        Coding::Fax3 | Coding::Fax4 => fax(data, layout, rows),
        Coding::Jpeg => jpeg(data, layout, rows).unwrap_or_default(),
    };
    let whole = out.len() >= wanted;
    out.resize(wanted, 0);
    unpredicted(&mut out, layout);
    (out, whole)
}

/// Bytes of a strip or tile of `rows` rows.
fn bytes(layout: &Layout, rows: u32) -> usize {
    let (h, v) = layout.subsampling;
    if (h, v) == (1, 1) {
        return layout.row_bytes() * rows as usize;
    }
    // Each block has its lightnesses, then its two colours.
    let blocks = layout.chunk.0.div_ceil(h) as usize * rows.div_ceil(v) as usize;
    blocks * (h * v + 2) as usize
}

/// Reads up to `wanted` bytes, up to an error.
fn limited(reader: impl std::io::Read, wanted: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(wanted);
    // The bytes before an error are kept.
    let _ = reader.take(wanted as u64).read_to_end(&mut out);
    out
}

fn zstandard(data: &[u8], wanted: usize) -> Vec<u8> {
    let mut data = data;
    match ruzstd::decoding::StreamingDecoder::new_with_max_window_size(&mut data, ZSTANDARD_WINDOW) {
        Ok(decoder) => limited(decoder, wanted),
        Err(_) => Vec::new(),
    }
}

fn lzw(data: &[u8], wanted: usize) -> Vec<u8> {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let mut out = vec![0; wanted];
    let (mut read, mut written) = (0, 0);
    while written < wanted {
        let step = decoder.decode_bytes(&data[read..], &mut out[written..]);
        read += step.consumed_in;
        written += step.consumed_out;
        if !matches!(step.status, Ok(weezl::LzwStatus::Ok)) || step.consumed_in + step.consumed_out == 0 {
            break;
        }
    }
    out.truncate(written);
    out
}

fn pack_bits(data: &[u8], wanted: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(wanted);
    let mut rest = data;
    while let [head, tail @ ..] = rest {
        if out.len() >= wanted {
            break;
        }
        match *head as i8 {
            -128 => rest = tail,
            count @ 0.. => {
                let count = (count as usize + 1).min(tail.len());
                out.extend_from_slice(&tail[..count]);
                rest = &tail[count..];
            }
            count => {
                let Some((value, after)) = tail.split_first() else { break };
                out.resize(out.len() + (1 - isize::from(count)) as usize, *value);
                rest = after;
            }
        }
    }
    out
}

/// Black is 1, as the run lengths begin with white.
fn fax(data: &[u8], layout: &Layout, rows: u32) -> Vec<u8> {
    let (width, row_bytes) = (layout.chunk.0 as u16, layout.row_bytes());
    let most = row_bytes * rows as usize;
    let mut out = Vec::with_capacity(most);
    let mut line = |changes: &[u16]| {
        if out.len() >= most {
            return;
        }
        let start = out.len();
        out.resize(start + row_bytes, 0_u8);
        for run in changes.chunks(2) {
            let end = run.get(1).copied().unwrap_or(width).min(width);
            for x in run[0].min(end)..end {
                out[start + usize::from(x / 8)] |= 0x80 >> (x % 8);
            }
        }
    };
    match layout.coding {
        Coding::Fax4 => {
            let height = u16::try_from(rows).unwrap_or(u16::MAX);
            let _ = fax::decoder::decode_g4(data.iter().copied(), width, Some(height), &mut line);
        }
        _ => {
            // The line after the last one may be missing its end.
            let _ = fax::decoder::decode_g3(data.iter().copied(), &mut line);
        }
    }
    out
}

/// Decodes a JPEG to the samples of the picture; those of YCbCr become red, green, blue.
fn jpeg(data: &[u8], layout: &Layout, rows: u32) -> Option<Vec<u8>> {
    let file: Vec<u8> = match layout.tables.strip_suffix(b"\xff\xd9") {
        Some(tables) => [tables, data.strip_prefix(b"\xff\xd8")?].concat(),
        None => data.to_vec(),
    };
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(layout.chunk.0 as usize)
        .set_max_height(layout.chunk.1 as usize);
    let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(file), options);
    decoder.decode_headers().ok()?;
    let (width, height) = decoder.dimensions()?;
    let stored = decoder.input_colorspace()?;
    let wanted = match layout.colours {
        Colours::YCbCr => ColorSpace::RGB,
        _ => stored,
    };
    if wanted.num_components() != layout.chunk_samples() as usize {
        return None;
    }
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let pixels = decoder.decode().ok()?;
    // The last strip may be lower, and a picture narrower than its strip makes no sense.
    (width == layout.chunk.0 as usize && height >= rows as usize).then_some(pixels)
}

/// Undoes the storing of differences.
fn unpredicted(data: &mut [u8], layout: &Layout) {
    let (row, step) = (layout.row_bytes(), layout.chunk_samples() as usize);
    if row == 0 || layout.subsampling != (1, 1) {
        return;
    }
    match (layout.predictor, layout.bits) {
        (2, 8) => {
            for row in data.chunks_exact_mut(row) {
                (step..row.len()).for_each(|i| row[i] = row[i].wrapping_add(row[i - step]));
            }
        }
        (2, 16) => data.chunks_exact_mut(row).for_each(|row| summed::<2>(row, step, layout)),
        (2, 32) => data.chunks_exact_mut(row).for_each(|row| summed::<4>(row, step, layout)),
        (3, 32) => {
            let mut line = vec![0; row];
            for row in data.chunks_exact_mut(row) {
                (step..row.len()).for_each(|i| row[i] = row[i].wrapping_add(row[i - step]));
                // The highest bytes of all samples come first.
                let count = row.len() / 4;
                for i in 0..count {
                    for byte in 0..4 {
                        let to = if layout.order.is_little() { 3 - byte } else { byte };
                        line[i * 4 + to] = row[byte * count + i];
                    }
                }
                row.copy_from_slice(&line);
            }
        }
        _ => {}
    }
}

fn summed<const N: usize>(row: &mut [u8], step: usize, layout: &Layout) {
    let little = layout.order.is_little();
    let samples = row.as_chunks_mut::<N>().0;
    for i in step..samples.len() {
        let before = samples[i - step];
        let mut carry = 0;
        for n in 0..N {
            let at = if little { n } else { N - 1 - n };
            let sum = u16::from(samples[i][at]) + u16::from(before[at]) + carry;
            samples[i][at] = sum as u8;
            carry = sum >> 8;
        }
    }
}
