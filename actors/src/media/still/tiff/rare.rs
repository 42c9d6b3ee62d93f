//! TIFF with codings and colours that the crate `image` refuses: palettes, YCbCr, Lab, grey of any depth and
//! as floating point, Fax, Zstandard.

mod chunks;
mod colours;

use std::io;

use super::super::extent::Extent;
use crate::media::directory::{Entry, Order};
use crate::media::error::Error;
use crate::media::pixels::Pixels;
use crate::media::source::Source;

/// Most strips or tiles.
const MAX_CHUNKS: usize = 1 << 18;
/// Most bytes of the tables that the JPEGs of a file share.
const MAX_TABLES_BYTES: u32 = 64 << 10;
/// The tag of the ICC profile.
const PROFILE: u16 = 0x8773;
/// Most bytes of an ICC profile.
const MAX_PROFILE_BYTES: u32 = 4 << 20;

/// The first picture of a file as its directory describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    order: Order,
    width: u32,
    height: u32,
    /// Bits of a sample: 1, 2, 4, 8, 16 or 32.
    bits: u32,
    /// Samples of a pixel, alpha and others included.
    samples: u32,
    kind: SampleKind,
    colours: Colours,
    /// The sample of alpha, and whether the colours are premultiplied by it.
    alpha: Option<(u32, bool)>,
    coding: Coding,
    /// Differences of neighbours are stored: 2 of whole numbers, 3 of floating point.
    predictor: u32,
    /// The lowest bit of a byte comes first.
    reversed: bool,
    /// Each sample has strips or tiles of its own.
    planar: bool,
    /// Width and height of a strip or tile.
    chunk: (u32, u32),
    tiled: bool,
    offsets: Vec<u32>,
    lengths: Vec<u32>,
    /// Red, green, blue of each number, 16 bits each.
    palette: Vec<u32>,
    /// The tables that the JPEGs share.
    tables: Vec<u8>,
    /// Colours of YCbCr are stored once for this many pixels across and down.
    subsampling: (u32, u32),
    /// The ICC profile of its colours; Lab needs none.
    profile: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SampleKind {
    Unsigned,
    Signed,
    Float,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colours {
    WhiteIsZero,
    BlackIsZero,
    Rgb,
    Palette,
    Cmyk,
    YCbCr,
    /// `a` and `b` are signed.
    CieLab,
    /// `a` and `b` have an offset.
    IccLab,
}

impl Colours {
    /// Samples without alpha.
    fn samples(self) -> u32 {
        match self {
            Self::WhiteIsZero | Self::BlackIsZero | Self::Palette => 1,
            Self::Rgb | Self::YCbCr | Self::CieLab | Self::IccLab => 3,
            Self::Cmyk => 4,
        }
    }

    fn is_grey(self) -> bool {
        matches!(self, Self::WhiteIsZero | Self::BlackIsZero)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    Fax3,
    Fax4,
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
    Zstandard,
}

/// Tells whether the first picture has a coding or colours that the crate `image` does not decode.
pub(crate) fn is_rare(source: &mut Source<'_>) -> io::Result<bool> {
    let Some((order, entries)) = first_directory(source)? else { return Ok(false) };
    let number = |tag: u16, source: &mut Source<'_>| match entries.iter().find(|it| it.tag == tag) {
        Some(entry) => order.number(source, entry),
        None => Ok(None),
    };
    let coding = number(0x0103, source)?.unwrap_or(1);
    let common = matches!(coding, 1 | 4 | 5 | 7 | 8 | 32_773 | 32_946);
    // Of other colours `image` would say no more than that the file makes no sense.
    let rare_colours = match number(0x0106, source)? {
        Some(1 | 2) => false,
        // Of ink, `image` would drop what its profile is for.
        Some(5) if entries.iter().any(|it| it.tag == PROFILE) => true,
        Some(0 | 5) => coding == 7,
        _ => true,
    };
    Ok(!common || rare_colours)
}

fn first_directory(source: &mut Source<'_>) -> io::Result<Option<(Order, Vec<Entry>)>> {
    let Some(head) = source.exactly::<8>(0)? else { return Ok(None) };
    let Some(order) = Order::of(&head).filter(|order| order.u16(&head, 2) == Some(42)) else {
        return Ok(None);
    };
    let at = order.u32(&head, 4).unwrap_or(0);
    let (entries, _) = order.directory(source, at.into())?;
    Ok(Some((order, entries)))
}

/// Reads the layout of the first picture. Returns `None` if it makes no sense.
///
/// # Errors
/// The file cannot be read, or, inside, it has a coding or colours that are not decoded.
pub(crate) fn layout(source: &mut Source<'_>) -> io::Result<Result<Option<Layout>, Error>> {
    let Some((order, entries)) = first_directory(source)? else { return Ok(Ok(None)) };
    let mut tags = Tags { order, entries, source };
    let (Some(width), Some(height)) = (tags.number(0x0100)?, tags.number(0x0101)?) else {
        return Ok(Ok(None));
    };
    let number = tags.number(0x0103)?.unwrap_or(1);
    let coding = match number {
        1 => Coding::None,
        3 if tags.number(0x0124)?.unwrap_or(0) & 1 == 0 => Coding::Fax3,
        4 => Coding::Fax4,
        5 => Coding::Lzw,
        7 => Coding::Jpeg,
        8 | 32_946 => Coding::Deflate,
        32_773 => Coding::PackBits,
        50_000 => Coding::Zstandard,
        2 | 3 => return Ok(Err(refused("a TIFF of an unusual fax machine"))),
        6 => return Ok(Err(refused("a TIFF with JPEG in the form of 1992"))),
        _ => return Ok(Err(refused(&format!("a TIFF with the compression {number}")))),
    };
    let colours = match tags.number(0x0106)? {
        Some(0) => Colours::WhiteIsZero,
        Some(1) => Colours::BlackIsZero,
        Some(2) => Colours::Rgb,
        Some(3) => Colours::Palette,
        Some(5) => Colours::Cmyk,
        Some(6) => Colours::YCbCr,
        Some(8) => Colours::CieLab,
        Some(9) => Colours::IccLab,
        Some(number) => return Ok(Err(refused(&format!("a TIFF with the colours {number}")))),
        None => return Ok(Ok(None)),
    };
    let samples = tags.number(0x0115)?.unwrap_or(1);
    let depths = tags.numbers(0x0102, 64)?;
    let bits = depths.first().copied().unwrap_or(1);
    let kind = match tags.number(0x0153)?.unwrap_or(1) {
        2 => SampleKind::Signed,
        3 => SampleKind::Float,
        _ => SampleKind::Unsigned,
    };
    let extra = tags.numbers(0x0152, 16)?;
    let alpha = extra.iter().position(|&it| matches!(it, 1 | 2));
    let alpha = alpha.map(|at| (colours.samples() + at as u32, extra[at] == 1));
    let whole_bytes = bits >= 8;
    let sound = samples >= colours.samples()
        && samples <= 16
        && depths.iter().all(|it| *it == bits)
        && match (kind, colours) {
            (SampleKind::Float, _) => bits == 32,
            (_, Colours::Palette) => bits <= 8 && matches!(bits, 1 | 2 | 4 | 8),
            (_, Colours::CieLab | Colours::IccLab) => matches!(bits, 8 | 16),
            (_, Colours::YCbCr) => bits == 8,
            _ => matches!(bits, 1 | 2 | 4 | 8 | 16 | 32),
        }
        && match coding {
            Coding::Fax3 | Coding::Fax4 => bits == 1 && samples == 1,
            Coding::Jpeg => bits == 8 && matches!(samples, 1 | 3 | 4),
            _ => true,
        };
    if !sound {
        return Ok(Err(refused("this kind of TIFF, its colours are stored in a rare way")));
    }
    let tile = tags.number(0x0142)?.zip(tags.number(0x0143)?);
    let rows = tags.number(0x0116)?.unwrap_or(height).clamp(1, height.max(1));
    let (tiled, chunk) = (tile.is_some(), tile.unwrap_or((width, rows)));
    let planar = tags.number(0x011c)? == Some(2) && samples > 1;
    let (places, sizes) = if tiled { (0x0144, 0x0145) } else { (0x0111, 0x0117) };
    let (offsets, mut lengths) = (tags.numbers(places, MAX_CHUNKS)?, tags.numbers(sizes, MAX_CHUNKS)?);
    // Old programs leave out the length of a single strip.
    if lengths.is_empty() && offsets.len() == 1 {
        lengths.push(u32::MAX);
    }
    let subsampling = match colours {
        Colours::YCbCr if coding != Coding::Jpeg => match tags.numbers(0x0212, 2)?[..] {
            [across, down] => (across, down),
            _ => (2, 2),
        },
        _ => (1, 1),
    };
    let predictor = tags.number(0x013d)?.unwrap_or(1);
    let reversed = tags.number(0x010a)? == Some(2);
    let palette = tags.numbers(0x0140, 3 << 8)?;
    let tables = tags.bytes(0x015b, MAX_TABLES_BYTES)?;
    let profile = match colours {
        Colours::CieLab | Colours::IccLab => Vec::new(),
        _ => tags.bytes(PROFILE, MAX_PROFILE_BYTES)?,
    };
    let layout = Layout {
        order,
        width,
        height,
        bits,
        samples,
        kind,
        colours,
        alpha: alpha.filter(|(at, _)| *at < samples),
        coding,
        predictor: if whole_bytes { predictor } else { 1 },
        reversed,
        planar,
        chunk,
        tiled,
        offsets,
        lengths,
        palette,
        tables,
        subsampling,
        profile,
    };
    Ok(Ok(layout.is_sound().then_some(layout)))
}

/// The tags of a directory.
struct Tags<'a, 'b> {
    order: Order,
    entries: Vec<Entry>,
    source: &'a mut Source<'b>,
}

impl Tags<'_, '_> {
    fn numbers(&mut self, tag: u16, most: usize) -> io::Result<Vec<u32>> {
        match self.entries.iter().find(|it| it.tag == tag) {
            Some(entry) => self.order.numbers(self.source, entry, most),
            None => Ok(Vec::new()),
        }
    }

    fn number(&mut self, tag: u16) -> io::Result<Option<u32>> {
        Ok(self.numbers(tag, 1)?.first().copied())
    }

    fn bytes(&mut self, tag: u16, most: u32) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if let Some(entry) = self.entries.iter().find(|it| it.tag == tag && it.count <= most) {
            self.source.append(entry.at, entry.count as usize, &mut bytes)?;
        }
        Ok(bytes)
    }
}

impl Layout {
    /// Strips or tiles across and down.
    fn chunks(&self) -> (u32, u32) {
        (self.width.div_ceil(self.chunk.0.max(1)), self.height.div_ceil(self.chunk.1.max(1)))
    }

    /// Samples of a pixel in one strip or tile.
    fn chunk_samples(&self) -> u32 {
        if self.planar { 1 } else { self.samples }
    }

    /// Bytes of a row of a strip or tile.
    fn row_bytes(&self) -> usize {
        (u64::from(self.chunk.0) * u64::from(self.chunk_samples()) * u64::from(self.bits)).div_ceil(8)
            as usize
    }

    fn is_sound(&self) -> bool {
        let ((across, down), planes) = (self.chunks(), if self.planar { self.samples } else { 1 });
        let count = u64::from(across) * u64::from(down) * u64::from(planes);
        let (h, v) = self.subsampling;
        let colours = match self.colours {
            Colours::Palette => self.palette.len() == 3 << self.bits,
            _ => true,
        };
        self.width > 0
            && self.height > 0
            && self.chunk.0 > 0
            && self.chunk.1 > 0
            // A tile is larger than the picture only by what fills it up.
            && u64::from(self.chunk.0) < u64::from(self.width) + 4096
            && u64::from(self.chunk.1) < u64::from(self.height) + 4096
            && count <= self.offsets.len().min(self.lengths.len()) as u64
            && matches!(h, 1 | 2 | 4)
            && matches!(v, 1 | 2 | 4)
            && !((h, v) != (1, 1) && self.planar)
            && colours
            // A fax has at most as many pixels a row as its numbers can count.
            && (!matches!(self.coding, Coding::Fax3 | Coding::Fax4) || self.chunk.0 <= 65_535)
    }

    /// Channels of the colours that its profile is for: 1 grey, 3 red, green, blue, 4 ink.
    pub(crate) fn channels(&self) -> usize {
        match self.colours {
            Colours::Cmyk => 4,
            colours if colours.is_grey() && self.alpha.is_none() => 1,
            _ => 3,
        }
    }

    /// The ICC profile of the decoded colours.
    pub(crate) fn profile(&self) -> Option<&[u8]> {
        (!self.profile.is_empty()).then_some(&self.profile)
    }

    pub(crate) fn extent(&self) -> Extent {
        let (width, height) = (self.width, self.height);
        let pixels = u64::from(width) * u64::from(height);
        let output = pixels * self.channels() as u64;
        let chunk = u64::from(self.chunk.0) * u64::from(self.chunk.1);
        // Planes are put together before they become colours; floats keep their size until their range is
        // known.
        let planes = if self.planar || self.kind == SampleKind::Float {
            pixels * u64::from(self.samples) * u64::from(self.bits.div_ceil(8))
        } else {
            0
        };
        let work = chunk * u64::from(self.chunk_samples()) * u64::from(self.bits.div_ceil(8)).max(1) * 2;
        let window = if self.coding == Coding::Zstandard { chunks::ZSTANDARD_WINDOW } else { 0 };
        Extent { width, height, decoder_bytes: output + planes + work.max(chunk * 6) + window }
    }
}

fn refused(what: &str) -> Error {
    Error::no_decoder(what, "save it as RGB without compression")
}

/// Decodes the picture; `keep_ink` leaves the four channels of CMYK as they are. Says too whether parts of it are
/// missing or broken.
pub(crate) fn decode(bytes: &[u8], layout: &Layout, keep_ink: bool) -> Result<(Pixels, bool), Error> {
    colours::decode(bytes, layout, if keep_ink { layout.channels() } else { layout.channels().min(3) })
}
