//! Finds the JPEGs in raw files that are built like TIFF: CR2, NEF, ARW, DNG, PEF, SRW, and with magic numbers
//! of their own ORF and RW2.

use std::collections::HashSet;
use std::io;

use super::Found;
use crate::media::directory::Order;
use crate::media::source::Source;

/// Most directories that are read.
const MAX_DIRECTORIES: usize = 64;
/// Most directories below one.
const MAX_BELOW: usize = 16;

/// Which tags of a directory have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    First,
    Other,
    /// The EXIF directory, which has the maker's note.
    Photo,
    /// The first directory of Olympus's note.
    Olympus,
    /// The directory of camera settings in Olympus's note.
    OlympusSettings,
    /// The first directory of Nikon's note.
    Nikon,
}

/// A directory that is still to be read.
#[derive(Debug, Clone, Copy)]
struct Task {
    kind: Kind,
    order: Order,
    /// Offsets in the directory count from here.
    base: u64,
    /// The offset of the directory.
    at: u64,
}

/// Looks for JPEGs in the directories of a file. Says too whether the file has the magic number of TIFF.
/// Returns `None` if the file is no raw file.
pub(super) fn find(source: &mut Source<'_>) -> io::Result<Option<(Found, bool)>> {
    let Some(head) = source.exactly::<16>(0)? else { return Ok(None) };
    let Some(order) = Order::of(&head) else { return Ok(None) };
    let usual = order.u16(&head, 2) == Some(42);
    // Olympus writes a version there, Panasonic a number; none of them is a TIFF for others.
    let odd = [&b"IIRO"[..], b"IIRS", b"MMOR", b"IIU\0"].iter().any(|magic| head.starts_with(magic));
    if !usual && !odd {
        return Ok(None);
    }
    let mut walk =
        Walk { found: Found::default(), raw: odd || head[8..].starts_with(b"CR\x02"), seen: HashSet::new() };
    let first = order.u32(&head, 4).unwrap_or(0).into();
    let mut tasks = vec![Task { kind: Kind::First, order, base: 0, at: first }];
    while let Some(task) = tasks.pop() {
        let place = task.base.saturating_add(task.at);
        if task.at >= 8 && walk.seen.len() < MAX_DIRECTORIES && walk.seen.insert(place) {
            walk.directory(source, task, &mut tasks)?;
        }
    }
    Ok(walk.raw.then_some((walk.found, usual)))
}

struct Walk {
    found: Found,
    raw: bool,
    /// The places of the directories that were read.
    seen: HashSet<u64>,
}

/// The picture that a directory describes.
#[derive(Debug, Default)]
struct Image {
    compression: Option<u32>,
    photometric: Option<u32>,
    /// The starts of its strips, at most two.
    strips: Vec<u32>,
    lengths: Vec<u32>,
    jpeg: Option<u32>,
    jpeg_length: Option<u32>,
}

impl Walk {
    /// Reads a directory. Notes the JPEGs that it names, and adds the directories below and after it.
    fn directory(&mut self, source: &mut Source<'_>, task: Task, tasks: &mut Vec<Task>) -> io::Result<()> {
        let Task { kind, order, base, at } = task;
        let end = source.len();
        let source = &mut source.window(base..end);
        let (entries, next) = order.directory(source, at)?;
        let below = |kind, offset: u32| Task { kind, order, base, at: offset.into() };
        if matches!(kind, Kind::First | Kind::Other) {
            tasks.push(Task { kind: Kind::Other, at: next, ..task });
        }
        let mut image = Image::default();
        let (mut start, mut length) = (None, None);
        for entry in &entries {
            let mut number = || order.number(source, entry);
            match (kind, entry.tag) {
                (Kind::First | Kind::Other, 0x0103) => image.compression = number()?,
                (Kind::First | Kind::Other, 0x0106) => image.photometric = number()?,
                (Kind::First | Kind::Other, 0x0111) => image.strips = order.numbers(source, entry, 2)?,
                (Kind::First | Kind::Other, 0x0117) => image.lengths = order.numbers(source, entry, 2)?,
                (Kind::First, 0x0112) => {
                    self.found.orientation = number()?.and_then(|it| u16::try_from(it).ok());
                }
                (Kind::First | Kind::Other, 0x014a) => {
                    let below_it = order.numbers(source, entry, MAX_BELOW)?;
                    tasks.extend(below_it.into_iter().map(|offset| below(Kind::Other, offset)));
                }
                (Kind::First | Kind::Other, 0x8769) => {
                    tasks.extend(number()?.map(|offset| below(Kind::Photo, offset)));
                }
                (_, 0x0201) => image.jpeg = number()?,
                (_, 0x0202) => image.jpeg_length = number()?,
                // Panasonic's previews are values of entries.
                (Kind::First, 0x002e | 0x0127) if entry.count > 4 => {
                    self.found.add(base + entry.at, entry.count.into());
                }
                (Kind::First, 0xc612) => self.raw = true,
                (Kind::Photo, 0x927c) => tasks.extend(note(source, entry.at)?),
                (Kind::Olympus, 0x2020) => {
                    let offset = number()?;
                    // Newer cameras write a directory, older ones its offset.
                    tasks.extend(offset.map(|offset| below(Kind::OlympusSettings, offset)));
                }
                (Kind::OlympusSettings, 0x0101) => start = number()?,
                (Kind::OlympusSettings, 0x0102) => length = number()?,
                (Kind::Nikon, 0x0011) => {
                    tasks.extend(number()?.map(|offset| below(Kind::Nikon, offset)));
                }
                _ => {}
            }
        }
        if let (Some(start), Some(length)) = (start, length) {
            self.found.add(base + u64::from(start), length.into());
        }
        self.image(&image, base);
        Ok(())
    }

    /// Notes the JPEG of a picture, and whether the picture is a sensor's.
    fn image(&mut self, image: &Image, base: u64) {
        // The colours of a sensor: a mosaic, or a mosaic made whole.
        let sensor = matches!(image.photometric, Some(32_803 | 34_892));
        // The codings of Sony, Nikon, Samsung, Kodak and Pentax.
        self.raw |=
            sensor || matches!(image.compression, Some(32_767 | 32_769 | 32_770 | 34_713 | 65_000 | 65_535));
        if let (Some(start), Some(length)) = (image.jpeg, image.jpeg_length) {
            self.found.add(base + u64::from(start), length.into());
        }
        if let (Some(6 | 7), false, [start], [length]) =
            (image.compression, sensor, &image.strips[..], &image.lengths[..])
        {
            self.found.add(base + u64::from(*start), u64::from(*length));
        }
    }
}

/// The first directory of a maker's note that may lead to a preview.
fn note(source: &mut Source<'_>, at: u64) -> io::Result<Option<Task>> {
    let (head, _) = source.at::<18>(at)?;
    // The kind, and how far after the start of the note its byte order, its directory and its base are.
    let (kind, order, directory, base) = if head.starts_with(b"OLYMPUS\0") {
        (Kind::Olympus, 8, 12, at)
    } else if head.starts_with(b"OM SYSTEM\0") {
        (Kind::Olympus, 12, 16, at)
    } else if head.starts_with(b"Nikon\0\x02") {
        // A TIFF structure of its own.
        let base = at + 10;
        let order = Order::of(&head[10..]);
        let offset = order.and_then(|order| order.u32(&head, 14)).unwrap_or(0);
        return Ok(order.map(|order| Task { kind: Kind::Nikon, order, base, at: offset.into() }));
    } else {
        return Ok(None);
    };
    Ok(Order::of(&head[order..]).map(|order| Task { kind, order, base, at: directory }))
}
