//! GIF.

use std::ops::Range;

use weezl::{BitOrder, decode::Decoder};

use super::animation::Animation;
use super::decoded::Decoded;
use super::extent::Extent;
use crate::media::bytes::le16;
use crate::media::error::Error;
use crate::media::exif::Exif;
use crate::media::pixels::Pixels;

/// Indices that are decompressed at once.
const CHUNK_BYTES: usize = 32 << 10;

/// Reads the header from the first bytes of the file.
pub(crate) fn extent(head: &[u8]) -> Option<Extent> {
    let (width, height) = (le16(head, 6)?, le16(head, 8)?);
    // The screen in red, green, blue; a frame is decoded row by row.
    Extent::new(width.into(), height.into(), 3)
}

/// Decodes the first frame, on white. If the file ends early or breaks, the rest is grey, or spread from the
/// rows of earlier passes.
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded, Error> {
    let frame = first_frame(bytes).ok_or_else(|| Error::broken("the file ends before its picture"))?;
    let (width, height) = frame.screen;
    if frame.colours.is_empty() {
        return Err(Error::broken("it has no table of colours"));
    }
    let mut canvas = vec![255; usize::from(width) * usize::from(height) * 3];
    let missing = draw(&frame, &mut canvas)?;
    let pixels = Pixels::new(width.into(), height.into(), 3, canvas);
    Ok(Decoded { damaged: missing, ..Decoded::new(pixels, Exif::default(), Some(animation(bytes))) })
}

/// The first frame of a file.
struct Frame<'a> {
    /// Width and height of the whole picture.
    screen: (u16, u16),
    /// Left and upper edge on the screen.
    at: (u16, u16),
    /// Width and height.
    size: (u16, u16),
    interlaced: bool,
    transparent: Option<u8>,
    colours: &'a [[u8; 3]],
    /// Bits of a colour's index.
    bits: u8,
    /// The blocks of compressed data.
    data: &'a [u8],
}

fn table(flags: u8) -> usize {
    if flags & 0x80 != 0 { 3 << ((flags & 7) + 1) } else { 0 }
}

fn first_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let flags = *bytes.get(10)?;
    let global = bytes.get(13..13 + table(flags))?;
    let mut at = 13 + table(flags);
    let mut transparent = None;
    loop {
        match *bytes.get(at)? {
            0x21 => {
                if *bytes.get(at + 1)? == 0xf9 {
                    let is_set = *bytes.get(at + 3)? & 1 == 1;
                    transparent = is_set.then_some(*bytes.get(at + 6)?);
                }
                at = after_sub_blocks(bytes, at + 2)?;
            }
            0x2c => break,
            _ => return None,
        }
    }
    let word = |offset: usize| le16(bytes, at + offset);
    let flags = *bytes.get(at + 9)?;
    let local = bytes.get(at + 10..at + 10 + table(flags))?;
    let colours = if local.is_empty() { global } else { local };
    let data = at + 10 + table(flags);
    Some(Frame {
        screen: (le16(bytes, 6)?, le16(bytes, 8)?),
        at: (word(1)?, word(3)?),
        size: (word(5)?, word(7)?),
        interlaced: flags & 0x40 != 0,
        transparent,
        colours: colours.as_chunks::<3>().0,
        bits: *bytes.get(data).filter(|bits| (1..=11).contains(*bits))?,
        data: &bytes[data + 1..],
    })
}

/// Draws the frame onto the screen. Returns `true` if a part of it is missing.
fn draw(frame: &Frame<'_>, canvas: &mut [u8]) -> Result<bool, Error> {
    let (width, height) = (usize::from(frame.size.0), usize::from(frame.size.1));
    let screen = (usize::from(frame.screen.0), usize::from(frame.screen.1));
    let at = (usize::from(frame.at.0), usize::from(frame.at.1));
    // A larger frame costs the time of its pixels, though they are not shown.
    if (width * height) / 4 > screen.0 * screen.1 + 65_536 {
        return Err(Error::broken("its frame is far larger than the picture"));
    }
    let mut indices = Indices::new(frame);
    let mut row = vec![0; width];
    let mut drawn = vec![false; height];
    let mut missing = false;
    for y in rows(height, frame.interlaced) {
        let got = indices.fill(&mut row);
        if got == 0 && !drawn.contains(&true) && width > 0 {
            return Err(Error::broken("the data of its picture are missing or broken"));
        }
        missing |= got < width;
        let shown = at.1 + y < screen.1;
        if shown {
            let line = &mut canvas[(at.1 + y) * screen.0 * 3..][..screen.0 * 3];
            let line = line.as_chunks_mut::<3>().0.get_mut(at.0..).unwrap_or_default();
            for (x, (to, index)) in line.iter_mut().zip(&row).enumerate() {
                if x >= got {
                    *to = [128; 3];
                } else if frame.transparent != Some(*index) {
                    *to = frame.colours.get(usize::from(*index)).copied().unwrap_or([255; 3]);
                }
            }
        }
        drawn[y] = got == width;
        if !(shown || frame.interlaced) {
            break;
        }
    }
    if missing && frame.interlaced {
        spread(&drawn, at.1, screen, canvas);
    }
    Ok(missing)
}

/// Copies rows of earlier passes onto the rows of later ones that are missing.
fn spread(drawn: &[bool], top: usize, (width, height): (usize, usize), canvas: &mut [u8]) {
    for y in (0..drawn.len().min(height.saturating_sub(top))).filter(|y| !drawn[*y]) {
        if let Some(from) = [!1, !3, !7].map(|mask| y & mask).into_iter().find(|from| drawn[*from]) {
            let row = |y: usize| (top + y) * width * 3..(top + y + 1) * width * 3;
            canvas.copy_within(row(from), row(y).start);
        }
    }
}

/// The rows of a frame in the order of the file.
fn rows(height: usize, interlaced: bool) -> impl Iterator<Item = usize> {
    let passes: &[(usize, usize)] = if interlaced { &[(0, 8), (4, 8), (2, 4), (1, 2)] } else { &[(0, 1)] };
    passes.iter().flat_map(move |&(first, step)| (first..height).step_by(step))
}

/// Decompresses the indices of colours.
struct Indices<'a> {
    decoder: Decoder,
    /// The blocks that were not begun.
    blocks: &'a [u8],
    /// The rest of the block that was begun.
    block: &'a [u8],
    /// Indices that were decompressed: the decoder loses some if it gets little room.
    chunk: Vec<u8>,
    /// The part of the chunk that was not used.
    ready: Range<usize>,
}

impl<'a> Indices<'a> {
    fn new(frame: &Frame<'a>) -> Self {
        let decoder = Decoder::new(BitOrder::Lsb, frame.bits);
        Self { decoder, blocks: frame.data, block: &[], chunk: vec![0; CHUNK_BYTES], ready: 0..0 }
    }

    /// Fills a row and returns the number of its pixels that there are.
    fn fill(&mut self, row: &mut [u8]) -> usize {
        let mut got = 0;
        while got < row.len() && (!self.ready.is_empty() || self.decompress()) {
            let count = self.ready.len().min(row.len() - got);
            row[got..got + count].copy_from_slice(&self.chunk[self.ready.start..][..count]);
            self.ready.start += count;
            got += count;
        }
        got
    }

    /// Decompresses the next indices. Returns `false` at their end.
    fn decompress(&mut self) -> bool {
        loop {
            if self.decoder.has_ended() {
                return false;
            }
            let result = self.decoder.decode_bytes(self.block, &mut self.chunk);
            self.block = &self.block[result.consumed_in..];
            self.ready = 0..result.consumed_out;
            if result.consumed_out > 0 {
                return true;
            }
            if result.status.is_err() {
                return false;
            }
            // The decoder first takes bytes, and gives indices when it is called again.
            if result.consumed_in == 0 {
                let next = self.blocks.split_first().filter(|(size, _)| **size > 0);
                let Some((&size, rest)) = next.filter(|_| self.block.is_empty()) else { return false };
                // A last block may be cut.
                (self.block, self.blocks) = rest.split_at(usize::from(size).min(rest.len()));
            }
        }
    }
}

/// Counts the frames up to the end of the file or the first block that makes no sense, without decoding them.
fn animation(bytes: &[u8]) -> Animation {
    let mut animation = Animation::default();
    count_frames(bytes, &mut animation);
    animation
}

fn count_frames(bytes: &[u8], animation: &mut Animation) -> Option<()> {
    let mut at = 13 + table(*bytes.get(10)?);
    let mut delay = 0;
    loop {
        match *bytes.get(at)? {
            0x21 => {
                if *bytes.get(at + 1)? == 0xf9 {
                    delay = u64::from(le16(bytes, at + 4)?);
                }
                at = after_sub_blocks(bytes, at + 2)?;
            }
            0x2c => {
                let flags = *bytes.get(at + 9)?;
                // Viewers show a frame without a sensible delay for a tenth of a second.
                animation.add_frame(if delay < 2 { 100 } else { delay * 10 });
                delay = 0;
                at = after_sub_blocks(bytes, at + 11 + table(flags))?;
            }
            _ => return None,
        }
    }
}

fn after_sub_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            size => at += 1 + usize::from(size),
        }
    }
}
