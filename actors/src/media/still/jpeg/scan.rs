//! The scans of a JPEG: from its bits to a plane of pixels for each component.
//!
//! Every way to sample, to interleave and to refine is decoded, at any scale, by one thread, with the memory
//! of the planes alone (and of the coefficients if the picture is progressive). A scan that breaks goes on
//! at its next restart marker; what is missing is grey.

use super::frame::{Component, Frame};
use super::huffman::{Bits, Table};
use super::idct::{self, Block};
use super::scale::Scale;
use crate::media::error::Error;

/// Most scans, as each costs the time of a whole picture, however few bytes it has.
const MAX_SCANS: usize = 100;

/// The index of each coefficient in its block, in the order of the file.
#[rustfmt::skip]
const ZIGZAG: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// The pixels of a component.
pub(super) struct Plane {
    pub(super) data: Vec<u8>,
    /// Bytes of a row, of which those of whole MCUs beyond the picture are no part of it.
    pub(super) stride: usize,
    /// Width and height of the part that is picture.
    pub(super) size: (usize, usize),
}

/// The decoded planes.
pub(super) struct Planes {
    pub(super) planes: Vec<Plane>,
    /// The data are broken or end early.
    pub(super) damaged: bool,
}

/// Decodes all scans.
///
/// # Errors
/// Tables that are missing or make no sense, more than [`MAX_SCANS`] scans, no scan at all, and a file that
/// cannot be read. Broken or missing data of a scan are no error.
pub(super) fn planes<'a>(bits: Bits<'a>, frame: &'a Frame, scale: Scale) -> Result<Planes, Error> {
    let mut decoder = Decoder::new(bits, frame, scale);
    let scans = decoder.segments()?;
    if let Some(error) = decoder.bits.take_error() {
        return Err(Error::unreadable(error));
    }
    if scans == 0 {
        return Err(Error::broken("the file ends before the picture's data"));
    }
    Ok(decoder.finished())
}

/// Data that make no sense.
struct Damage;

/// A component while it is decoded.
struct Part {
    component: Component,
    /// Pixels of a block on each side.
    scale: usize,
    /// Blocks in a row and in a column, of whole MCUs.
    blocks: (usize, usize),
    /// Blocks in a row and in a column of its own scans.
    own: (usize, usize),
    plane: Plane,
    /// All coefficients of a progressive picture, 64 for each block.
    coefficients: Vec<i16>,
    /// In the order of the file; that of its first scan.
    quantisation: Option<[f32; 64]>,
    seen: bool,
}

struct Decoder<'a> {
    bits: Bits<'a>,
    frame: &'a Frame,
    parts: Vec<Part>,
    quantisation: [Option<[f32; 64]>; 4],
    /// Tables for the lowest coefficient.
    dc: [Option<Table>; 4],
    /// Tables for all others.
    ac: [Option<Table>; 4],
    /// MCUs between restart markers; 0: none.
    restart: usize,
    damaged: bool,
}

/// The header of a scan.
struct Scan {
    /// For each component its index, and the indices of its tables.
    members: Vec<(usize, usize, usize)>,
    /// The first and last coefficient of a progressive scan.
    first: usize,
    last: usize,
    /// The bit that was refined before, 0 for the first scan of these coefficients.
    high: u32,
    /// The bit that this scan gives.
    low: u32,
}

impl<'a> Decoder<'a> {
    fn new(bits: Bits<'a>, frame: &'a Frame, scale: Scale) -> Self {
        let (across, down) = frame.mcus();
        let part = |component: &Component| {
            let pixels = scale.of_component(frame, component);
            let blocks = ((across * component.across) as usize, (down * component.down) as usize);
            let samples = |full: u32, part: u32, most: u32| {
                (u64::from(full) * u64::from(part)).div_ceil(u64::from(most)) as usize
            };
            let width = samples(frame.width, component.across, frame.across());
            let height = samples(frame.height, component.down, frame.down());
            let stride = blocks.0 * pixels;
            let coefficients = if frame.progressive { blocks.0 * blocks.1 * 64 } else { 0 };
            Part {
                component: *component,
                scale: pixels,
                blocks,
                own: (width.div_ceil(8), height.div_ceil(8)),
                plane: Plane {
                    data: vec![128; stride * blocks.1 * pixels],
                    stride,
                    size: ((width * pixels).div_ceil(8), (height * pixels).div_ceil(8)),
                },
                coefficients: vec![0; coefficients],
                quantisation: None,
                seen: false,
            }
        };
        Self {
            bits,
            frame,
            parts: frame.components.iter().map(part).collect(),
            quantisation: [None; 4],
            dc: [None, None, None, None],
            ac: [None, None, None, None],
            restart: 0,
            damaged: false,
        }
    }

    /// Reads all segments up to the end and returns the number of scans.
    fn segments(&mut self) -> Result<usize, Error> {
        let mut scans = 0;
        while let Some(marker) = self.bits.next_marker() {
            let sound = match marker {
                0xd8 | 0x01 | 0xd0..=0xd7 => Some(()),
                0xd9 => {
                    self.damaged |= !self.parts.iter().all(|it| it.seen);
                    return Ok(scans);
                }
                0xda => {
                    scans += 1;
                    if scans > MAX_SCANS {
                        return Err(Error::broken("it has more than 100 scans"));
                    }
                    match self.scan_header() {
                        Some(scan) => {
                            self.scan(&scan)?;
                            Some(())
                        }
                        None => None,
                    }
                }
                0xc4 => self.huffman_tables(),
                0xdb => self.quantisation_tables(),
                0xdd => self.restart_interval(),
                _ => self.skip(),
            };
            if sound.is_none() {
                if scans == 0 {
                    return Err(Error::broken("a table or header before its data makes no sense"));
                }
                break;
            }
        }
        self.damaged = true;
        Ok(scans)
    }

    /// The number of bytes of a segment after its length.
    fn length(&mut self) -> Option<usize> {
        usize::from(self.bits.word()?).checked_sub(2)
    }

    fn skip(&mut self) -> Option<()> {
        for _ in 0..self.length()? {
            self.bits.byte()?;
        }
        Some(())
    }

    fn restart_interval(&mut self) -> Option<()> {
        let length = self.length()?;
        if length != 2 {
            return None;
        }
        self.restart = usize::from(self.bits.word()?);
        Some(())
    }

    fn quantisation_tables(&mut self) -> Option<()> {
        let mut left = self.length()?;
        while left > 0 {
            let head = self.bits.byte()?;
            let wide = head >> 4 != 0;
            left = left.checked_sub(if wide { 129 } else { 65 })?;
            let mut table = [0.0; 64];
            for value in &mut table {
                let number = if wide { self.bits.word()? } else { u16::from(self.bits.byte()?) };
                *value = f32::from(number);
            }
            *self.quantisation.get_mut(usize::from(head & 15))? = Some(table);
        }
        Some(())
    }

    fn huffman_tables(&mut self) -> Option<()> {
        let mut left = self.length()?;
        while left > 0 {
            let head = self.bits.byte()?;
            let mut counts = [0; 16];
            for count in &mut counts {
                *count = self.bits.byte()?;
            }
            let number = counts.iter().map(|&it| usize::from(it)).sum::<usize>();
            left = left.checked_sub(17 + number)?;
            let symbols = (0..number).map(|_| self.bits.byte()).collect::<Option<Vec<_>>>()?;
            let tables = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(head & 15))? = Some(Table::new(&counts, symbols)?);
        }
        Some(())
    }

    fn scan_header(&mut self) -> Option<Scan> {
        let length = self.length()?;
        let count = usize::from(self.bits.byte()?);
        if !(1..=self.parts.len()).contains(&count) || length != 4 + 2 * count {
            return None;
        }
        let mut members: Vec<(usize, usize, usize)> = Vec::with_capacity(count);
        for _ in 0..count {
            let (id, tables) = (self.bits.byte()?, self.bits.byte()?);
            // If several components have one id, their order counts.
            let free = |index: &usize| members.iter().all(|it| it.0 != *index);
            let named = |index: &usize| self.frame.components[*index].id == id;
            let index = (0..self.parts.len()).filter(free).find(named)?;
            members.push((index, usize::from(tables >> 4), usize::from(tables & 15)));
        }
        let (first, last) = (usize::from(self.bits.byte()?), usize::from(self.bits.byte()?));
        let bits = u32::from(self.bits.byte()?);
        let (high, low) = (bits >> 4, bits & 15);
        let sound = !self.frame.progressive
            || (first <= last
                && last < 64
                && low < 14
                && (first > 0 || last == 0)
                && (first == 0 || count == 1));
        sound.then_some(Scan { members, first, last, high, low })
    }

    fn scan(&mut self, scan: &Scan) -> Result<(), Error> {
        for &(index, dc, ac) in &scan.members {
            let part = &mut self.parts[index];
            let table = self.quantisation[usize::from(part.component.table)];
            part.quantisation = part.quantisation.or(table);
            let needs_dc = !self.frame.progressive || (scan.first == 0 && scan.high == 0);
            let needs_ac = !self.frame.progressive || scan.first > 0;
            let has =
                |tables: &[Option<Table>; 4], index: usize| tables.get(index).is_some_and(Option::is_some);
            let complete = part.quantisation.is_some()
                && (!needs_dc || has(&self.dc, dc))
                && (!needs_ac || has(&self.ac, ac));
            if !complete {
                return Err(Error::broken("a table that its data need is missing"));
            }
            part.seen = true;
        }
        let (across, down) = match &scan.members[..] {
            [(index, _, _)] => self.parts[*index].own,
            _ => {
                let (across, down) = self.frame.mcus();
                (across as usize, down as usize)
            }
        };
        let total = across * down;
        let step = if self.restart == 0 { total } else { self.restart };
        let (mut start, mut expected) = (0, 0);
        while start < total {
            let end = total.min(start + step);
            let result = match self.frame.progressive {
                false => self.sequential(scan, start..end, across),
                true => self.progressive(scan, start..end, across),
            };
            self.damaged |= result.is_err();
            start = end;
            if start == total {
                break;
            }
            match self.bits.next_marker() {
                Some(marker @ 0xd0..=0xd7) => {
                    // After lost markers the data go on where they belong.
                    let lost = usize::from((marker - 0xd0).wrapping_sub(expected) & 7);
                    self.damaged |= lost > 0;
                    start += lost * step;
                    expected = (marker - 0xd0 + 1) & 7;
                }
                Some(marker) => {
                    self.damaged = true;
                    self.bits.put_back(marker);
                    break;
                }
                None => {
                    self.damaged = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Decodes some MCUs of a scan that has all coefficients of its components.
    fn sequential(&mut self, scan: &Scan, mcus: std::ops::Range<usize>, across: usize) -> Result<(), Damage> {
        let Self { bits, parts, dc, ac, .. } = self;
        let alone = scan.members.len() == 1;
        let mut last = [0_i32; 4];
        let mut block: Block = [0.0; 64];
        for mcu in mcus {
            let (column, row) = (mcu % across, mcu / across);
            for (&(index, dc_index, ac_index), last) in scan.members.iter().zip(&mut last) {
                let part = &mut parts[index];
                let (Some(dc), Some(ac)) = (&dc[dc_index], &ac[ac_index]) else { return Err(Damage) };
                let Some(quantisation) = &part.quantisation else { return Err(Damage) };
                let (wide, high) = match alone {
                    true => (1, 1),
                    false => (part.component.across as usize, part.component.down as usize),
                };
                for y in row * high..(row + 1) * high {
                    for x in column * wide..(column + 1) * wide {
                        let any = whole_block(bits, dc, ac, quantisation, last, &mut block)?;
                        let at = (y * part.plane.stride + x) * part.scale;
                        let Some(out) = part.plane.data.get_mut(at..) else { return Err(Damage) };
                        if any {
                            idct::transform(&block, part.scale, out, part.plane.stride);
                            block = [0.0; 64];
                        } else {
                            idct::flat(block[0], part.scale, out, part.plane.stride);
                        }
                    }
                }
            }
            if bits.is_overrun() {
                return Err(Damage);
            }
        }
        Ok(())
    }

    /// Decodes some MCUs of a scan of a progressive picture.
    fn progressive(
        &mut self,
        scan: &Scan,
        mcus: std::ops::Range<usize>,
        across: usize,
    ) -> Result<(), Damage> {
        let Self { bits, parts, dc, ac, .. } = self;
        let alone = scan.members.len() == 1;
        let mut last = [0_i32; 4];
        let mut ends = 0;
        for mcu in mcus {
            let (column, row) = (mcu % across, mcu / across);
            for (&(index, dc_index, ac_index), last) in scan.members.iter().zip(&mut last) {
                let part = &mut parts[index];
                let (wide, high) = match alone {
                    true => (1, 1),
                    false => (part.component.across as usize, part.component.down as usize),
                };
                for y in row * high..(row + 1) * high {
                    for x in column * wide..(column + 1) * wide {
                        let at = (y * part.blocks.0 + x) * 64;
                        let block = part.coefficients.get_mut(at..).and_then(<[i16]>::first_chunk_mut::<64>);
                        let Some(block) = block else { return Err(Damage) };
                        match (scan.first, scan.high) {
                            (0, 0) => {
                                let table = dc[dc_index].as_ref().ok_or(Damage)?;
                                let step = table.step(bits).filter(|it| it.run == 0).ok_or(Damage)?;
                                *last = last.wrapping_add(step.value);
                                block[0] = (*last << scan.low) as i16;
                            }
                            (0, _) => block[0] |= i16::from(bits.flag()) << scan.low,
                            (_, 0) => {
                                let table = ac[ac_index].as_ref().ok_or(Damage)?;
                                first_pass(bits, table, scan, block, &mut ends)?;
                            }
                            (_, _) => {
                                let table = ac[ac_index].as_ref().ok_or(Damage)?;
                                refining_pass(bits, table, scan, block, &mut ends)?;
                            }
                        }
                    }
                }
            }
            if bits.is_overrun() {
                return Err(Damage);
            }
        }
        Ok(())
    }

    fn finished(mut self) -> Planes {
        let finish = |part: &mut Part| {
            let coefficients = std::mem::take(&mut part.coefficients);
            let quantisation = part.quantisation.unwrap_or([1.0; 64]);
            for (index, values) in coefficients.as_chunks::<64>().0.iter().enumerate() {
                let (x, y) = (index % part.blocks.0, index / part.blocks.0);
                let mut block: Block = [0.0; 64];
                for ((value, factor), at) in values.iter().zip(quantisation).zip(ZIGZAG) {
                    block[usize::from(at)] = f32::from(*value) * factor;
                }
                let at = (y * part.plane.stride + x) * part.scale;
                idct::transform(&block, part.scale, &mut part.plane.data[at..], part.plane.stride);
            }
        };
        self.parts.iter_mut().for_each(finish);
        let planes = self.parts.into_iter().map(|it| it.plane).collect();
        Planes { planes, damaged: self.damaged }
    }
}

/// Decodes all coefficients of a block. Returns `false` if there is none but the lowest.
#[inline]
fn whole_block(
    bits: &mut Bits<'_>,
    dc: &Table,
    ac: &Table,
    quantisation: &[f32; 64],
    last: &mut i32,
    block: &mut Block,
) -> Result<bool, Damage> {
    let step = dc.step(bits).filter(|it| it.run == 0).ok_or(Damage)?;
    *last = last.wrapping_add(step.value);
    block[0] = *last as f32 * quantisation[0];
    let mut index = 1_usize;
    let mut any = false;
    while index < 64 {
        let step = ac.step(bits).ok_or(Damage)?;
        if step.value == 0 {
            if step.run < 15 {
                break;
            }
            index += 16;
            continue;
        }
        index += step.run as usize;
        let at = *ZIGZAG.get(index).ok_or(Damage)?;
        block[usize::from(at & 63)] = step.value as f32 * quantisation[index & 63];
        any = true;
        index += 1;
    }
    Ok(any)
}

/// Decodes the coefficients of a block without their lowest bits. `ends` is the number of blocks to come
/// that have none.
fn first_pass(
    bits: &mut Bits<'_>,
    table: &Table,
    scan: &Scan,
    block: &mut [i16; 64],
    ends: &mut u32,
) -> Result<(), Damage> {
    if *ends > 0 {
        *ends -= 1;
        return Ok(());
    }
    let mut index = scan.first;
    while index <= scan.last {
        let step = table.step(bits).ok_or(Damage)?;
        if step.value == 0 {
            if step.run < 15 {
                bits.refill();
                *ends = (1 << step.run) - 1 + bits.take(step.run) as u32;
                break;
            }
            index += 16;
            continue;
        }
        index += step.run as usize;
        *block.get_mut(index).ok_or(Damage)? = (step.value << scan.low) as i16;
        index += 1;
    }
    Ok(())
}

/// Adds a bit to the coefficients of a block.
fn refining_pass(
    bits: &mut Bits<'_>,
    table: &Table,
    scan: &Scan,
    block: &mut [i16; 64],
    ends: &mut u32,
) -> Result<(), Damage> {
    let bit = 1_i16 << scan.low;
    let mut index = scan.first;
    if *ends == 0 {
        while index <= scan.last {
            let symbol = u32::from(table.symbol(bits).ok_or(Damage)?);
            let (mut zeros, size) = (symbol >> 4, symbol & 15);
            let value = match size {
                0 if zeros < 15 => {
                    bits.refill();
                    *ends = (1 << zeros) + bits.take(zeros) as u32;
                    break;
                }
                0 => 0,
                1 => {
                    if bits.flag() {
                        bit
                    } else {
                        -bit
                    }
                }
                _ => return Err(Damage),
            };
            // Past as many coefficients that are zero so far, refining the others.
            while index <= scan.last {
                if block[index] != 0 {
                    refine(bits, &mut block[index], bit);
                } else if zeros == 0 {
                    break;
                } else {
                    zeros -= 1;
                }
                index += 1;
            }
            if value != 0 {
                *block.get_mut(index).ok_or(Damage)? = value;
            }
            index += 1;
        }
    }
    if *ends > 0 {
        for value in block.get_mut(index..=scan.last).unwrap_or_default() {
            if *value != 0 {
                refine(bits, value, bit);
            }
        }
        *ends -= 1;
    }
    Ok(())
}

fn refine(bits: &mut Bits<'_>, value: &mut i16, bit: i16) {
    if bits.flag() && *value & bit == 0 {
        *value = if *value > 0 { value.saturating_add(bit) } else { value.saturating_sub(bit) };
    }
}
