//! The composition of a HEIC picture: the coded pictures that it consists of, how they are assembled, and the
//! place of its metadata. Reads the box `meta` and no coded byte.
//!
//! The decoder could read it too, but would hold all parts of a picture at once, several times over, and
//! everything that an item claims to consist of: a file of a few kilobytes can list the same bytes a million
//! times.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::hevc::{self, Coding};
use super::items::{Id, Items};
use crate::media::boxes::Fields;
use crate::media::orientation::Orientation;
use crate::media::source::Source;

/// Longest chain of pictures that are the same as another one.
const MAX_IDENTITIES: usize = 8;

/// How a picture is assembled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Composition {
    /// Width and height of the whole before it is cropped.
    pub(crate) canvas: (u32, u32),
    /// The part that is shown: left, top, width, height.
    pub(crate) crop: (u32, u32, u32, u32),
    /// How the cropped picture is turned. The orientation in the EXIF data is ignored: it would turn the
    /// picture twice.
    pub(super) orientation: Orientation,
    pub(super) colour: Mosaic,
    pub(super) alpha: Option<Mosaic>,
    /// The colours are premultiplied by alpha.
    pub(super) premultiplied: bool,
    /// The range of the EXIF data in the file.
    pub(super) exif: Option<Range<u64>>,
    /// The colour space as the contents of a box `colr`, if the container names one.
    pub(super) colour_space: Option<Vec<u8>>,
    /// The ICC profile, if the container has one.
    pub(super) profile: Option<Vec<u8>>,
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
    /// Index in [`Mosaic::configurations`].
    pub(super) configuration: usize,
    /// The ranges of its bytes in the file.
    pub(super) data: Vec<Range<u64>>,
}

/// Why a composition cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompositionError {
    /// Boxes are missing or make no sense.
    Broken,
    /// Parts of the picture lie after the end of the file.
    EndsEarly,
    /// A known coding without a decoder, as the object of a sentence.
    NoDecoder(&'static str),
}

impl Composition {
    /// The range of the EXIF data in the file.
    pub(crate) fn exif_place(&self) -> Option<Range<u64>> {
        self.exif.clone()
    }
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

/// Reads how the picture of a file is assembled.
pub(crate) fn composition(source: &mut Source<'_>) -> io::Result<Result<Composition, CompositionError>> {
    let Some(items) = Items::read(source)? else { return Ok(Err(CompositionError::Broken)) };
    Ok(items.composition(source.len()))
}

impl Items {
    fn composition(&self, len: u64) -> Result<Composition, CompositionError> {
        let mut id = self.primary.ok_or(CompositionError::Broken)?;
        let mut chain = vec![id];
        while self.kinds.get(&id) == Some(b"iden") {
            let [source] = self.references(id, b"dimg") else { return Err(CompositionError::Broken) };
            id = *source;
            if chain.len() >= MAX_IDENTITIES || chain.contains(&id) {
                return Err(CompositionError::Broken);
            }
            chain.push(id);
        }
        let (canvas, colour) = self.mosaic(id, len)?;
        let (mut crop, mut turn) = ((0, 0, canvas.0, canvas.1), Turn::default());
        for (kind, body) in chain.iter().rev().flat_map(|&id| self.all_properties(id)) {
            match kind {
                b"clap" if turn == Turn::default() => {
                    crop = cropped(crop, body).ok_or(CompositionError::Broken)?
                }
                b"clap" => {
                    return Err(CompositionError::NoDecoder(
                        "a HEIC picture that is cropped after it is turned",
                    ));
                }
                b"irot" => turn.rotate(body.first().ok_or(CompositionError::Broken)? & 3),
                b"imir" => turn.mirror(body.first().ok_or(CompositionError::Broken)? & 1 == 0),
                _ => {}
            }
        }
        let alpha = self.alpha_of(&chain);
        let exif = self.references.iter().find_map(|(kind, from, to)| {
            let describes = kind == b"cdsc" && to.iter().any(|it| chain.contains(it));
            (describes && self.kinds.get(from) == Some(b"Exif")).then_some(*from)
        });
        let tiles = self.references(id, b"dimg");
        let colours = || chain.iter().chain(tiles.first()).flat_map(|&id| self.properties(id, b"colr"));
        Ok(Composition {
            canvas,
            crop,
            orientation: turn.orientation(),
            colour,
            premultiplied: alpha
                .is_some_and(|it| chain.iter().any(|&id| self.references(id, b"prem").contains(&it))),
            // Without a usable transparency the colours are used alone.
            alpha: alpha
                .and_then(|it| self.mosaic(it, len).ok())
                .filter(|(size, _)| *size == canvas)
                .map(|it| it.1),
            exif: exif.and_then(|id| self.places.get(&id)?.first().cloned()),
            colour_space: colours().find(|body| body.starts_with(b"nclx")).map(<[u8]>::to_vec),
            profile: colours()
                .find_map(|body| body.strip_prefix(b"prof").or(body.strip_prefix(b"rICC")))
                .map(<[u8]>::to_vec),
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

    /// The size of a picture, and the coded pictures that it consists of. The sizes of the coded pictures are
    /// checked against it, so that it bounds the work of a decode.
    fn mosaic(&self, id: Id, len: u64) -> Result<((u32, u32), Mosaic), CompositionError> {
        let kind = self.kinds.get(&id).ok_or(CompositionError::Broken)?;
        let ids = match kind {
            b"hvc1" => std::slice::from_ref(&id),
            b"grid" => self.references(id, b"dimg"),
            b"iovl" => return Err(CompositionError::NoDecoder("a HEIC picture that is laid over others")),
            b"av01" => return Err(CompositionError::NoDecoder("an AVIF picture")),
            _ => return Err(CompositionError::NoDecoder("a HEIF picture that is not coded as HEVC")),
        };
        let mut configurations = Vec::new();
        let mut known: HashMap<&[u8], (usize, Coding)> = HashMap::new();
        let mut tiles = Vec::with_capacity(ids.len());
        let mut coding = None;
        let mut total = 0_u64;
        for tile in ids {
            if self.kinds.get(tile) != Some(b"hvc1") {
                return Err(CompositionError::NoDecoder("a HEIF picture that is not coded as HEVC"));
            }
            let body = self.properties(*tile, b"hvcC").last().ok_or(CompositionError::Broken)?;
            let (configuration, its_coding) = match known.get(body) {
                Some(known) => *known,
                None => {
                    let new = (configurations.len(), hevc::coding(body).ok_or(CompositionError::Broken)?);
                    configurations.push(body.to_vec());
                    known.insert(body, new);
                    new
                }
            };
            if *coding.get_or_insert(its_coding) != its_coding {
                return Err(CompositionError::Broken);
            }
            let data = self.places.get(tile).ok_or(CompositionError::Broken)?.clone();
            if data.iter().any(|range| range.end > len) {
                return Err(CompositionError::EndsEarly);
            }
            // Bytes that are listed twice would be decoded twice, or a million times.
            total = total.saturating_add(length(&data));
            if total > len {
                return Err(CompositionError::Broken);
            }
            tiles.push(Tile { configuration, data });
        }
        let coding = coding.ok_or(CompositionError::Broken)?;
        if kind == b"hvc1" {
            return Ok((coding.shown, Mosaic { columns: 1, coding, configurations, tiles }));
        }
        let &(rows, columns, canvas) = self.grids.get(&id).ok_or(CompositionError::Broken)?;
        // Each coded picture covers a part of the whole, and together they cover the whole.
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
            Err(CompositionError::Broken)
        }
    }
}

/// Crops a part further by a box `clap`: a size and the offset of its centre, in fractions.
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

/// A transformation that mirrors left and right or not, and then turns by quarters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Turn {
    mirrored: bool,
    /// Quarter turns clockwise, 0 to 3.
    quarters: u8,
}

impl Turn {
    /// Adds quarter turns anticlockwise.
    fn rotate(&mut self, quarters: u8) {
        self.quarters = (self.quarters + 4 - quarters) % 4;
    }

    /// Adds an exchange of top and bottom, or of left and right.
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
