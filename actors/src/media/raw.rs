//! The raw files of cameras: CR2, CR3, NEF, ARW, DNG, ORF, RW2, RAF, PEF, SRW, and others that are built
//! like TIFF. The picture is the largest JPEG that the camera put into the file; the sensor's own data are
//! not developed.
//!
//! `tiff` finds the JPEGs of files that are built like TIFF, `cr3` those of Canon's newer files. Every number
//! in a file is believed only after the JPEG at its place has shown a frame header.

mod cr3;
mod tiff;

use std::io::{self, Cursor};
use std::ops::Range;

use super::bytes::be32;
use super::contents::Contents;
use super::directory;
use super::error::Error;
use super::exif::{self, Exif};
use super::orientation::Orientation;
use super::source::Source;
use super::still::{Decoded, Extent, jpeg};

/// Most JPEGs of a file that are looked at. Cameras write up to four.
const MAX_JPEGS: usize = 32;
/// Bytes at the start of a file with a magic number of its maker that are searched for EXIF.
const MAX_EXIF_BYTES: usize = 1 << 20;

/// The largest JPEG in a raw file, and where the facts about the photo are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Raw {
    /// The range of the JPEG in the file.
    jpeg: Range<u64>,
    frame: jpeg::Frame,
    /// The EXIF orientation that the file itself names.
    orientation: Option<u16>,
    facts: FactsIn,
}

/// Where the EXIF data of a raw file are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FactsIn {
    /// The file itself is a TIFF structure.
    File,
    /// The file is a TIFF structure with a magic number of its maker.
    OddFile,
    /// Blocks with the main, the photo's and the place's directory, each a TIFF structure.
    Blocks([Option<Range<u64>>; 3]),
    /// The JPEG has them.
    Jpeg,
}

/// The result of looking for the parts of a raw file.
#[derive(Debug, Default)]
struct Found {
    /// The ranges of possible JPEGs.
    jpegs: Vec<Range<u64>>,
    orientation: Option<u16>,
}

impl Found {
    /// Adds the range of a possible JPEG, if there is room for it.
    fn add(&mut self, start: u64, length: u64) {
        if length > 0 && self.jpegs.len() < MAX_JPEGS {
            self.jpegs.push(start..start.saturating_add(length));
        }
    }
}

impl Raw {
    /// Size of the picture, and memory of its decode.
    pub(super) fn extent(&self) -> Extent {
        self.frame.extent()
    }
}

/// Looks into a file that starts like a raw file or like TIFF. Returns `None` if it is no raw file.
///
/// # Errors
/// The file cannot be read, or, inside, there is no JPEG in it that can be decoded.
pub(super) fn find(source: &mut Source<'_>) -> io::Result<Option<Result<Raw, Error>>> {
    let Some(head) = source.exactly::<92>(0)? else { return Ok(None) };
    let (found, facts) = if head.starts_with(b"FUJIFILMCCD-RAW") {
        let mut found = Found::default();
        if let (Some(start), Some(length)) = (be32(&head, 84), be32(&head, 88)) {
            found.add(start.into(), length.into());
        }
        (found, FactsIn::Jpeg)
    } else if head.get(4..12) == Some(b"ftypcrx ") {
        let (found, blocks) = cr3::find(source)?;
        (found, FactsIn::Blocks(blocks))
    } else {
        match tiff::find(source)? {
            Some((found, true)) => (found, FactsIn::File),
            Some((found, false)) => (found, FactsIn::OddFile),
            None => return Ok(None),
        }
    };
    let mut best: Option<(u64, Raw)> = None;
    for range in found.jpegs {
        let range = range.start..range.end.min(source.len());
        if range.start >= range.end || source.exactly::<3>(range.start)? != Some(*b"\xff\xd8\xff") {
            continue;
        }
        // The sensor's data may be coded as a JPEG too, but as one that no viewer decodes.
        let Ok(frame) = jpeg::frame(&mut source.window(range.clone()))? else { continue };
        let Extent { width, height, .. } = frame.extent();
        let pixels = u64::from(width) * u64::from(height);
        if best.as_ref().is_none_or(|(most, _)| pixels > *most) {
            let raw = Raw { jpeg: range, frame, orientation: found.orientation, facts: facts.clone() };
            best = Some((pixels, raw));
        }
    }
    Ok(Some(best.map(|(_, raw)| raw).ok_or_else(undevelopable)))
}

/// Reads the EXIF data of a raw file. Returns nothing if there are none.
pub(super) fn exif_block(source: &mut Source<'_>) -> io::Result<Vec<u8>> {
    let Some(Ok(Raw { jpeg, facts, .. })) = find(source)? else { return Ok(Vec::new()) };
    let part = |source: &mut Source<'_>, place: Range<u64>| {
        let mut bytes = Vec::new();
        source.append(place.start, MAX_EXIF_BYTES, &mut bytes).map(|()| bytes)
    };
    match facts {
        FactsIn::File => part(source, 0..source.len()),
        FactsIn::OddFile => Ok(directory::usual(&part(source, 0..source.len())?, MAX_EXIF_BYTES)),
        FactsIn::Blocks(places) => {
            let mut blocks = [const { Vec::new() }; 3];
            for (block, place) in blocks.iter_mut().zip(places) {
                if let Some(place) = place {
                    *block = part(&mut source.window(place), 0..u64::MAX)?;
                }
            }
            Ok(directory::joined(blocks.each_ref().map(|it| (!it.is_empty()).then_some(&it[..]))))
        }
        // The segment of the camera comes first.
        FactsIn::Jpeg => {
            let head = part(source, jpeg)?;
            let at = head.windows(6).position(|it| it == b"Exif\0\0");
            Ok(at.and_then(|at| head.get(at + 6..)).unwrap_or_default().to_vec())
        }
    }
}

/// The refusal of a raw file that cannot be shown.
pub(super) fn undevelopable() -> Error {
    Error::no_decoder("a camera's raw file that has no JPEG in it", "develop it and save it as JPEG")
}

/// Decodes the JPEG of a raw file. The facts are those of the raw file, and those of the JPEG where the file
/// says nothing.
pub(super) fn decode(bytes: &[u8], raw: &Raw, least: (u32, u32)) -> Result<Decoded, Error> {
    let jpeg = slice(bytes, &raw.jpeg).ok_or_else(|| Error::broken("it ends early"))?;
    let mut reader = Cursor::new(jpeg);
    let mut contents = Contents::new(&mut reader, jpeg.len() as u64, Some(jpeg));
    let mut decoded = jpeg::decode(&mut contents, &raw.frame, least)?;
    let inner = std::mem::take(&mut decoded.exif);
    decoded.exif = match &raw.facts {
        FactsIn::File => complete(exif::read(bytes), inner),
        FactsIn::OddFile => complete(exif::read(&directory::usual(bytes, MAX_EXIF_BYTES)), inner),
        FactsIn::Blocks(blocks) => {
            let blocks = blocks.each_ref().map(|it| it.as_ref().and_then(|range| slice(bytes, range)));
            complete(exif::read(&directory::joined(blocks)), inner)
        }
        FactsIn::Jpeg => inner,
    };
    if let Some(orientation) = raw.orientation {
        decoded.exif.orientation = Orientation::new(orientation);
    }
    Ok(decoded)
}

/// Takes the facts that are missing, and the orientation, from those of the JPEG.
fn complete(mut own: Exif, inner: Exif) -> Exif {
    own.orientation = inner.orientation;
    own.taken = own.taken.or(inner.taken);
    own.changed = own.changed.or(inner.changed);
    own.title = own.title.or(inner.title);
    own.camera = own.camera.or(inner.camera);
    own.coordinates = own.coordinates.or(inner.coordinates);
    own
}

fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Option<&'a [u8]> {
    let end = usize::try_from(range.end).ok()?.min(bytes.len());
    bytes.get(usize::try_from(range.start).ok()?..end)
}
