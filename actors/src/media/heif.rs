//! The container of HEIC pictures: which coded pictures make up the picture, how it is put together from them, and
//! where its metadata lie. Reads the box `meta` and not one coded byte.
//!
//! This is done here and not by the decoder, which would hold all parts of a picture at once, several times over, and
//! whatever an item claims to consist of: a file of some kilobytes can list the same bytes a million times.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::boxes::Fields;
use super::exif::Orientation;
use super::hevc::{self, Coding};
use super::items::{Id, Items};
use super::source::Source;

/// Most links from a picture that is nothing but another one.
const MAX_IDENTITIES: usize = 8;

/// How a picture is put together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    /// Width and height of the whole before it is cropped.
    pub(super) canvas: (u32, u32),
    /// The part that is shown: left, top, width, height.
    pub(super) crop: (u32, u32, u32, u32),
    /// How it is to be turned after that. The EXIF data say it too, and do not count: it would be turned twice.
    pub(super) orientation: Orientation,
    pub(super) colour: Mosaic,
    pub(super) alpha: Option<Mosaic>,
    /// The colours are multiplied by alpha already.
    pub(super) premultiplied: bool,
    /// Where the EXIF data lie in the file.
    pub(super) exif: Option<Range<u64>>,
    /// What the colours mean, as a box `colr`, if the container says it.
    pub(super) meaning: Option<Vec<u8>>,
}

/// Coded pictures of one size, row by row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mosaic {
    pub(super) columns: u32,
    pub(super) coding: Coding,
    /// The contents of the boxes `hvcC`.
    pub(super) configurations: Vec<Vec<u8>>,
    pub(super) tiles: Vec<Tile>,
}

/// A coded picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tile {
    /// Which of [`Mosaic::configurations`] it needs.
    pub(super) configuration: usize,
    /// Where its bytes lie in the file.
    pub(super) data: Vec<Range<u64>>,
}

/// Why there is no layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Boxes are missing or make no sense.
    Broken,
    /// Parts of the picture lie behind the end of the file.
    EndsEarly,
    /// Something known that is not decoded here, as the object of a sentence.
    Coding(&'static str),
}

impl Mosaic {
    /// Bytes of the longest coded picture.
    pub(super) fn longest(&self) -> u64 {
        self.tiles.iter().map(|tile| length(&tile.data)).max().unwrap_or(0)
    }
}

fn length(data: &[Range<u64>]) -> u64 {
    data.iter().map(|range| range.end - range.start).fold(0, u64::saturating_add)
}

/// Reads how the picture of a file is put together.
pub(super) fn layout(source: &mut Source<'_>) -> io::Result<Result<Layout, Trouble>> {
    let Some(items) = Items::read(source)? else { return Ok(Err(Trouble::Broken)) };
    Ok(items.layout(source.len()))
}

impl Items {
    fn layout(&self, len: u64) -> Result<Layout, Trouble> {
        let mut id = self.primary.ok_or(Trouble::Broken)?;
        let mut chain = vec![id];
        while self.kinds.get(&id) == Some(b"iden") {
            let [source] = self.references(id, b"dimg") else { return Err(Trouble::Broken) };
            id = *source;
            if chain.len() >= MAX_IDENTITIES || chain.contains(&id) {
                return Err(Trouble::Broken);
            }
            chain.push(id);
        }
        let (canvas, colour) = self.mosaic(id, len)?;
        let (mut crop, mut turn) = ((0, 0, canvas.0, canvas.1), Turn::default());
        for (kind, body) in chain.iter().rev().flat_map(|&id| self.all_properties(id)) {
            match kind {
                b"clap" if turn == Turn::default() => crop = cropped(crop, body).ok_or(Trouble::Broken)?,
                b"clap" => return Err(Trouble::Coding("a HEIC picture that is cropped after it is turned")),
                b"irot" => turn.rotate(body.first().ok_or(Trouble::Broken)? & 3),
                b"imir" => turn.mirror(body.first().ok_or(Trouble::Broken)? & 1 == 0),
                _ => {}
            }
        }
        let alpha = self.alpha_of(&chain);
        let exif = self.references.iter().find_map(|(kind, from, to)| {
            let describes = kind == b"cdsc" && to.iter().any(|it| chain.contains(it));
            (describes && self.kinds.get(from) == Some(b"Exif")).then_some(*from)
        });
        let tiles = self.references(id, b"dimg");
        Ok(Layout {
            canvas,
            crop,
            orientation: turn.orientation(),
            colour,
            premultiplied: alpha
                .is_some_and(|it| chain.iter().any(|&id| self.references(id, b"prem").contains(&it))),
            // A picture is worth having without its transparency.
            alpha: alpha
                .and_then(|it| self.mosaic(it, len).ok())
                .filter(|(size, _)| *size == canvas)
                .map(|it| it.1),
            exif: exif.and_then(|id| self.places.get(&id)?.first().cloned()),
            meaning: chain.iter().chain(tiles.first()).find_map(|&id| {
                self.properties(id, b"colr").find(|body| body.starts_with(b"nclx")).map(<[u8]>::to_vec)
            }),
        })
    }

    /// The item that holds the transparency of a picture.
    fn alpha_of(&self, chain: &[Id]) -> Option<Id> {
        let mut auxiliary = self.references.iter().filter(|(kind, _, _)| kind == b"auxl");
        auxiliary.find_map(|(_, from, to)| {
            let names: [&[u8]; 2] =
                [b"urn:mpeg:hevc:2015:auxid:1\0", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"];
            let alpha = self
                .properties(*from, b"auxC")
                .any(|body| body.get(4..).is_some_and(|urn| names.iter().any(|name| urn.starts_with(name))));
            (alpha && to.iter().any(|it| chain.contains(it)) && !chain.contains(from)).then_some(*from)
        })
    }

    /// The size of a picture, and what it is made of. All that the coded pictures say is held against the size, so that
    /// the work of a decode is bounded by it.
    fn mosaic(&self, id: Id, len: u64) -> Result<((u32, u32), Mosaic), Trouble> {
        let kind = self.kinds.get(&id).ok_or(Trouble::Broken)?;
        let ids = match kind {
            b"hvc1" => std::slice::from_ref(&id),
            b"grid" => self.references(id, b"dimg"),
            b"iovl" => return Err(Trouble::Coding("a HEIC picture that is laid over others")),
            b"av01" => return Err(Trouble::Coding("an AVIF picture")),
            _ => return Err(Trouble::Coding("a HEIF picture that is not coded as HEVC")),
        };
        let mut configurations = Vec::new();
        let mut known: HashMap<&[u8], (usize, Coding)> = HashMap::new();
        let mut tiles = Vec::with_capacity(ids.len());
        let mut coding = None;
        let mut total = 0_u64;
        for tile in ids {
            if self.kinds.get(tile) != Some(b"hvc1") {
                return Err(Trouble::Coding("a HEIF picture that is not coded as HEVC"));
            }
            let body = self.properties(*tile, b"hvcC").last().ok_or(Trouble::Broken)?;
            let (configuration, its_coding) = match known.get(body) {
                Some(known) => *known,
                None => {
                    let new = (configurations.len(), hevc::coding(body).ok_or(Trouble::Broken)?);
                    configurations.push(body.to_vec());
                    known.insert(body, new);
                    new
                }
            };
            if *coding.get_or_insert(its_coding) != its_coding {
                return Err(Trouble::Broken);
            }
            let data = self.places.get(tile).ok_or(Trouble::Broken)?.clone();
            if data.iter().any(|range| range.end > len) {
                return Err(Trouble::EndsEarly);
            }
            // Bytes that are listed twice would be decoded twice, or a million times.
            total = total.saturating_add(length(&data));
            if total > len {
                return Err(Trouble::Broken);
            }
            tiles.push(Tile { configuration, data });
        }
        let coding = coding.ok_or(Trouble::Broken)?;
        if kind == b"hvc1" {
            return Ok((coding.shown, Mosaic { columns: 1, coding, configurations, tiles }));
        }
        let &(rows, columns, canvas) = self.grids.get(&id).ok_or(Trouble::Broken)?;
        // Each coded picture covers a part of the whole, and together they cover it.
        let covers = |side: u32, count: u32, tile: u32| {
            let (side, count, tile) = (u64::from(side), u64::from(count), u64::from(tile));
            tile > 0 && side > (count - 1) * tile && side <= count * tile
        };
        let sound = tiles.len() as u64 == u64::from(rows) * u64::from(columns)
            && covers(canvas.0, columns, coding.shown.0)
            && covers(canvas.1, rows, coding.shown.1);
        if sound {
            Ok((canvas, Mosaic { columns, coding, configurations, tiles }))
        } else {
            Err(Trouble::Broken)
        }
    }
}

/// The part of a part that a box `clap` leaves: a size and how far its centre lies from the centre, in fractions.
fn cropped((left, top, width, height): (u32, u32, u32, u32), clap: &[u8]) -> Option<(u32, u32, u32, u32)> {
    let mut fields = Fields::new(clap);
    let mut fraction = || {
        let (over, under) = (fields.u32()?, fields.u32()?);
        (under > 0).then(|| f64::from(over as i32) / f64::from(under))
    };
    let (w, h, x, y) = (fraction()?, fraction()?, fraction()?, fraction()?);
    // Fractions of a pixel are dropped: encoders write halves where they mean the edge.
    let axis = |full: u32, size: f64, offset: f64| {
        let start = ((f64::from(full) - size) / 2.0 + offset).round();
        let sound = size >= 1.0 && start >= 0.0 && start + size.floor() <= f64::from(full);
        sound.then_some((start as u32, size as u32))
    };
    let ((x, w), (y, h)) = (axis(width, w, x)?, axis(height, h, y)?);
    Some((left + x, top + y, w, h))
}

/// A picture that is mirrored, left for right, or not, and then turned by quarters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Turn {
    mirrored: bool,
    /// Quarter turns clockwise, 0 to 3.
    quarters: u8,
}

impl Turn {
    /// Turns it anticlockwise.
    fn rotate(&mut self, quarters: u8) {
        self.quarters = (self.quarters + 4 - quarters) % 4;
    }

    /// Exchanges top and bottom, or else left and right.
    fn mirror(&mut self, top_and_bottom: bool) {
        self.quarters = (4 - self.quarters + if top_and_bottom { 2 } else { 0 }) % 4;
        self.mirrored = !self.mirrored;
    }

    fn orientation(self) -> Orientation {
        Orientation::new(match (self.mirrored, self.quarters) {
            (false, 0) => 1,
            (false, 1) => 6,
            (false, 2) => 3,
            (false, _) => 8,
            (true, 0) => 2,
            (true, 1) => 7,
            (true, 2) => 4,
            (true, _) => 5,
        })
    }
}
