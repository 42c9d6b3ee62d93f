//! The bits of a scan, and the Huffman codes in them.

use crate::media::source::Input;

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Codes of up to so many bits are found by one look into a table.
const LOOK: u32 = 10;

/// Reads a JPEG: segments byte by byte, scans bit by bit.
pub(super) struct Bits<'a> {
    reader: &'a mut dyn Input,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// The next bits, the first one on top.
    bits: u64,
    /// Number of valid bits.
    count: u32,
    /// Number of zeros at the end of the bits that are not in the file.
    made_up: u32,
    /// More bits were used than there are before the next marker.
    overrun: bool,
    /// The marker that ends the bits.
    marker: Option<u8>,
    /// The file has no more bytes.
    ended: bool,
    error: Option<std::io::Error>,
}

impl<'a> Bits<'a> {
    /// Takes a reader at the start of the file.
    pub(super) fn new(reader: &'a mut dyn Input) -> Self {
        Self {
            reader,
            buffer: vec![0; BUFFER_BYTES],
            at: 0,
            end: 0,
            bits: 0,
            count: 0,
            made_up: 0,
            overrun: false,
            marker: None,
            ended: false,
            error: None,
        }
    }

    /// The error that ended the file, if one did.
    pub(super) fn take_error(&mut self) -> Option<std::io::Error> {
        self.error.take()
    }

    /// The next byte of a segment; `None` at the end of the file.
    pub(super) fn byte(&mut self) -> Option<u8> {
        if self.at == self.end {
            self.fill();
        }
        let byte = *self.buffer.get(self.at).filter(|_| self.at < self.end)?;
        self.at += 1;
        Some(byte)
    }

    /// The next two bytes of a segment, the high one first.
    pub(super) fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// Goes to the next marker, past bits and stray bytes, and returns its code.
    pub(super) fn next_marker(&mut self) -> Option<u8> {
        (self.bits, self.count, self.made_up, self.overrun) = (0, 0, 0, false);
        if let Some(marker) = self.marker.take() {
            return Some(marker).filter(|it| *it != END);
        }
        loop {
            while self.byte()? != 0xff {}
            let code = loop {
                match self.byte()? {
                    0xff => {}
                    code => break code,
                }
            };
            if code != 0 {
                return Some(code);
            }
        }
    }

    /// Puts a marker back.
    pub(super) fn put_back(&mut self, marker: u8) {
        self.marker = Some(marker);
    }

    /// Returns `true` if bits were used that are not in the file.
    pub(super) fn is_overrun(&self) -> bool {
        self.overrun || self.count < self.made_up
    }

    /// Makes sure that there are 32 bits: enough for a code and its value.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(bytes) = self.buffer.get(self.at..self.at + 8)
            && self.at + 8 <= self.end
            && self.marker.is_none()
        {
            let word = u64::from_be_bytes(bytes.try_into().unwrap_or_default());
            // A byte of 0xff may be a marker.
            if has_no_ff(word) {
                self.bits |= word >> self.count;
                let bytes = (63 - self.count) / 8;
                self.at += bytes as usize;
                self.count += bytes * 8;
                return;
            }
        }
        self.refill_slowly();
    }

    #[cold]
    fn refill_slowly(&mut self) {
        // Bits beyond `count` may have been set by a whole word.
        self.bits &= !(u64::MAX.checked_shr(self.count).unwrap_or(0));
        while self.count <= 56 {
            if self.marker.is_none() {
                match self.byte() {
                    Some(0xff) => {
                        let code = loop {
                            match self.byte() {
                                Some(0xff) => {}
                                code => break code,
                            }
                        };
                        match code {
                            Some(0) => {}
                            Some(code) => self.marker = Some(code),
                            // Without a marker the file ends here.
                            None => self.marker = Some(END),
                        }
                    }
                    Some(byte) => {
                        self.push(byte);
                        continue;
                    }
                    None => self.marker = Some(END),
                }
                if self.marker.is_none() {
                    self.push(0xff);
                    continue;
                }
            }
            self.overrun |= self.count < self.made_up;
            self.made_up = self.made_up.min(self.count) + 8;
            self.count += 8;
        }
    }

    fn push(&mut self, byte: u8) {
        self.bits |= u64::from(byte) << (56 - self.count);
        self.count += 8;
    }

    fn fill(&mut self) {
        if self.ended {
            return;
        }
        (self.at, self.end) = (0, 0);
        loop {
            match self.reader.read(&mut self.buffer) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end = read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => (self.ended, self.error) = (true, Some(error)),
            }
            return;
        }
    }

    /// The next bits, at least 1 and at most 32, as a number.
    #[inline(always)]
    fn peek(&self, count: u32) -> usize {
        (self.bits >> (64 - count)) as usize
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.bits <<= count;
        self.count = self.count.wrapping_sub(count);
    }

    /// Takes up to 16 bits; the caller has refilled.
    #[inline(always)]
    pub(super) fn take(&mut self, count: u32) -> i32 {
        if count == 0 {
            return 0;
        }
        let bits = self.peek(count) as i32;
        self.skip(count);
        bits
    }

    /// Takes one bit.
    #[inline(always)]
    pub(super) fn flag(&mut self) -> bool {
        self.refill();
        self.take(1) == 1
    }

    /// Takes a signed number of 1 to 15 bits; the caller has refilled.
    #[inline(always)]
    fn signed(&mut self, size: u32) -> i32 {
        extend(self.take(size), size)
    }
}

/// The code that the end of a file is given, as if it were a marker; no marker has it.
const END: u8 = 0;

fn has_no_ff(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let inverse = !word;
    inverse.wrapping_sub(ONES) & !inverse & (ONES << 7) == 0
}

/// A number of some bits by the rule of JPEG: numbers without the top bit are negative.
#[inline(always)]
fn extend(bits: i32, size: u32) -> i32 {
    if bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
}

/// A run of zeros, and the value after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Zeros before the value; without a value 15 means sixteen zeros, any other number an end.
    pub(super) run: u32,
    /// Not 0, unless there is no value.
    pub(super) value: i32,
}

/// A Huffman table.
pub(super) struct Table {
    /// By the next ten bits: bits used with the value (0: the code is longer), run, bits of the value, bits
    /// of the code, and the value if it is within the ten bits.
    lookup: Vec<u32>,
    /// The largest code of each length, -1 if there is none.
    largest: [i32; 17],
    /// The index of a code's symbol minus the code.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// Takes the number of codes of each length, and the symbols in the order of their codes. Returns `None`
    /// for more codes than there can be.
    pub(super) fn new(counts: &[u8; 16], symbols: Vec<u8>) -> Option<Self> {
        let mut table = Self { lookup: vec![0; 1 << LOOK], largest: [-1; 17], offset: [0; 17], symbols };
        let (mut code, mut index) = (0_i32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            table.offset[length as usize] = index as i32 - code;
            for _ in 0..count {
                let symbol = *table.symbols.get(index)?;
                if code >= 1 << length {
                    return None;
                }
                if length <= LOOK {
                    let spread = 1 << (LOOK - length);
                    let first = (code << (LOOK - length)) as usize;
                    for (rest, entry) in table.lookup[first..first + spread].iter_mut().enumerate() {
                        *entry = entry_of(symbol, length, rest as u32);
                    }
                }
                table.largest[length as usize] = code;
                (code, index) = (code + 1, index + 1);
            }
            code <<= 1;
        }
        Some(table)
    }

    /// The next symbol; `None` for bits that are no code.
    #[inline]
    pub(super) fn symbol(&self, bits: &mut Bits<'_>) -> Option<u8> {
        bits.refill();
        let entry = self.lookup[bits.peek(LOOK)];
        if entry == 0 {
            return self.long_symbol(bits);
        }
        bits.skip(entry >> 13 & 15);
        Some((entry >> 5) as u8)
    }

    /// The next run and value; `None` for bits that are no code.
    #[inline(always)]
    pub(super) fn step(&self, bits: &mut Bits<'_>) -> Option<Step> {
        bits.refill();
        let entry = self.lookup[bits.peek(LOOK)];
        if entry & 1 << 17 != 0 {
            bits.skip(entry & 31);
            return Some(Step { run: entry >> 9 & 15, value: entry as i32 >> 18 });
        }
        let symbol = match entry {
            0 => u32::from(self.long_symbol(bits)?),
            _ => {
                bits.skip(entry & 31);
                entry >> 5 & 255
            }
        };
        let (run, size) = (symbol >> 4, symbol & 15);
        Some(Step { run, value: if size == 0 { 0 } else { bits.signed(size) } })
    }

    #[cold]
    fn long_symbol(&self, bits: &mut Bits<'_>) -> Option<u8> {
        for length in LOOK + 1..=16 {
            let code = bits.peek(length) as i32;
            if code <= self.largest[length as usize] {
                bits.skip(length);
                return self.symbols.get((code + self.offset[length as usize]) as usize).copied();
            }
        }
        None
    }
}

/// The entry for a code that is followed by the bits `rest`.
fn entry_of(symbol: u8, length: u32, rest: u32) -> u32 {
    let size = u32::from(symbol & 15);
    let (run_and_size, code) = (u32::from(symbol) << 5, length << 13);
    let left = LOOK - length;
    if size == 0 || size > left {
        return length | run_and_size | code;
    }
    let value = extend((rest >> (left - size)) as i32, size);
    (length + size) | run_and_size | code | 1 << 17 | (value << 18) as u32
}
