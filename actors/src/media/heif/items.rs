//! The box `meta` of a HEIC file: its items with their kinds, places, properties and references.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use crate::media::boxes::{self, Fields, boxes};
use crate::media::source::Source;

/// Most boxes at the top of a file, and in `meta`.
const MAX_BOXES: usize = 200;
/// Largest `meta` box without its `idat`. A phone's photo of 200 tiles has 12 KiB and a colour profile.
const MAX_META_BYTES: u64 = 1 << 20;
/// Most pictures that are grids. A phone's photo has one, and one each for depth, transparency and gain.
const MAX_GRIDS: usize = 16;

/// The number of an item.
pub(super) type Id = u32;

/// The contents of the box `meta`.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// The boxes in it, without `idat`.
    bytes: Vec<u8>,
    /// The range of the contents of `idat` in the file.
    idat: Option<Range<u64>>,
    /// The item that is the main picture.
    pub(super) primary: Option<Id>,
    pub(super) kinds: HashMap<Id, [u8; 4]>,
    /// The items that are XMP.
    pub(super) xmp: Vec<Id>,
    /// The ranges of an item's bytes in the file.
    pub(super) places: HashMap<Id, Vec<Range<u64>>>,
    /// Rows, columns, and width and height of the items that are grids.
    pub(super) grids: HashMap<Id, (u32, u32, (u32, u32))>,
    properties: Vec<boxes::Box>,
    /// The properties of an item in order, as indices in `properties`.
    owned: HashMap<Id, Vec<usize>>,
    /// Kind, referring item, and the items that it refers to.
    pub(super) references: Vec<([u8; 4], Id, Vec<Id>)>,
}

impl Items {
    /// Reads the box from a file. Returns `None` if it is missing or makes no sense.
    pub(super) fn read(source: &mut Source<'_>) -> io::Result<Option<Self>> {
        let mut items = Self::default();
        let Some(body) = boxes::find_in_file(source, b"meta", MAX_BOXES)? else { return Ok(None) };
        // Version and flags come first.
        let inner: Vec<_> = boxes::in_file(source, body.start + 4..body.end, MAX_BOXES).collect();
        for found in inner {
            let (kind, body) = found?;
            let size = body.end - body.start;
            if &kind == b"idat" {
                items.idat = Some(body);
            } else if size + items.bytes.len() as u64 > MAX_META_BYTES {
                return Ok(None);
            } else {
                // With a header of its own, as the one in the file may be longer.
                items.bytes.extend((size as u32 + 8).to_be_bytes());
                items.bytes.extend(kind);
                source.append(body.start, size as usize, &mut items.bytes)?;
            }
        }
        if items.parse().is_none() {
            return Ok(None);
        }
        let grids = items.kinds.iter().filter(|(_, kind)| *kind == b"grid").take(MAX_GRIDS);
        for (&id, _) in grids {
            let Some(place) = items.places.get(&id).and_then(|place| place.first()) else { continue };
            let (bytes, got) = source.at::<12>(place.start)?;
            let length = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
            items.grids.extend(grid(&bytes[..got.min(length)]).map(|grid| (id, grid)));
        }
        Ok(Some(items))
    }

    fn parse(&mut self) -> Option<()> {
        let bytes = std::mem::take(&mut self.bytes);
        for it in boxes(&bytes, 0..bytes.len()) {
            let body = &bytes[it.body.clone()];
            match &it.kind {
                b"pitm" => {
                    let mut fields = Fields::new(body);
                    let (version, _) = fields.version()?;
                    self.primary = Some(fields.id(version > 0)?);
                }
                b"iinf" => self.item_kinds(body)?,
                b"iloc" => self.item_places(body)?,
                b"iref" => self.item_references(body)?,
                b"iprp" => {
                    for inner in boxes(&bytes, it.body.clone()) {
                        match &inner.kind {
                            b"ipco" => self.properties.extend(boxes(&bytes, inner.body)),
                            b"ipma" => self.item_properties(&bytes[inner.body])?,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        self.bytes = bytes;
        Some(())
    }

    fn item_kinds(&mut self, body: &[u8]) -> Option<()> {
        let mut fields = Fields::new(body);
        let (version, _) = fields.version()?;
        fields.id(version > 0)?;
        for entry in boxes(body, fields.at()..body.len()).filter(|it| &it.kind == b"infe") {
            let mut fields = Fields::new(&body[entry.body.clone()]);
            let (version, _) = fields.version()?;
            // Older versions have no kind and are not used for pictures.
            if version >= 2 {
                let id = fields.id(version > 2)?;
                fields.u16()?;
                let kind = fields.take(4)?.try_into().ok()?;
                self.kinds.insert(id, kind);
                // The name of the item comes before the type of its contents.
                let mut texts = body[entry.body.start + fields.at()..entry.body.end].split(|&byte| byte == 0);
                if &kind == b"mime" && texts.nth(1) == Some(b"application/rdf+xml") {
                    self.xmp.push(id);
                }
            }
        }
        Some(())
    }

    fn item_places(&mut self, body: &[u8]) -> Option<()> {
        let mut fields = Fields::new(body);
        let (version, _) = fields.version()?;
        let [first, second] = fields.u16()?.to_be_bytes();
        let (offset_size, length_size, base_size) = (first >> 4, first & 15, second >> 4);
        let index_size = if matches!(version, 1 | 2) { second & 15 } else { 0 };
        let count = fields.id(version >= 2)?;
        for _ in 0..count {
            let id = fields.id(version >= 2)?;
            let method = if matches!(version, 1 | 2) { fields.u16()? & 15 } else { 0 };
            let elsewhere = fields.u16()? != 0;
            let base = fields.uint(base_size)?;
            let parts = fields.u16()?;
            // Parts that take no bytes here would cost memory without end.
            if parts > 1 && index_size + offset_size + length_size == 0 {
                return None;
            }
            let mut place = Vec::new();
            for _ in 0..parts {
                fields.uint(index_size)?;
                let start = base.checked_add(fields.uint(offset_size)?)?;
                place.push(start..start.checked_add(fields.uint(length_size)?)?);
            }
            // Data in other files, and items made of items, have no place.
            match method {
                0 if !elsewhere => drop(self.places.insert(id, place)),
                1 => {
                    let idat = self.idat.clone()?;
                    for part in &mut place {
                        *part = idat.start.checked_add(part.start)?..idat.start.checked_add(part.end)?;
                    }
                    self.places.insert(id, place);
                }
                _ => {}
            }
        }
        Some(())
    }

    fn item_references(&mut self, body: &[u8]) -> Option<()> {
        let mut fields = Fields::new(body);
        let long = fields.version()?.0 > 0;
        for entry in boxes(body, fields.at()..body.len()) {
            let mut fields = Fields::new(&body[entry.body]);
            let from = fields.id(long)?;
            let to = (0..fields.u16()?).map(|_| fields.id(long)).collect::<Option<Vec<_>>>()?;
            self.references.push((entry.kind, from, to));
        }
        Some(())
    }

    fn item_properties(&mut self, body: &[u8]) -> Option<()> {
        let mut fields = Fields::new(body);
        let (version, flags) = fields.version()?;
        for _ in 0..fields.u32()? {
            let id = fields.id(version > 0)?;
            let mut owned = Vec::new();
            for _ in 0..fields.u8()? {
                let index =
                    if flags & 1 == 1 { fields.u16()? & 0x7fff } else { u16::from(fields.u8()? & 0x7f) };
                // Zero means no property; some phones write it.
                owned.extend(usize::from(index).checked_sub(1));
            }
            self.owned.insert(id, owned);
        }
        Some(())
    }

    /// The contents of an item's properties of one kind, in order.
    pub(super) fn properties<'a>(&'a self, id: Id, kind: &'a [u8; 4]) -> impl Iterator<Item = &'a [u8]> {
        self.all_properties(id).filter(move |(it, _)| *it == kind).map(|(_, body)| body)
    }

    /// The kinds and contents of all properties of an item, in order.
    pub(super) fn all_properties(&self, id: Id) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
        let owned = self.owned.get(&id).into_iter().flatten();
        owned.filter_map(|&index| {
            let property = self.properties.get(index)?;
            Some((&property.kind, self.bytes.get(property.body.clone())?))
        })
    }

    /// The items that an item refers to by a kind of reference.
    pub(super) fn references(&self, from: Id, kind: &[u8; 4]) -> &[Id] {
        let found = self.references.iter().find(|(it, id, _)| it == kind && *id == from);
        found.map_or(&[], |(_, _, to)| to)
    }
}

/// Rows, columns, and width and height of a grid.
fn grid(bytes: &[u8]) -> Option<(u32, u32, (u32, u32))> {
    let mut fields = Fields::new(bytes);
    let [_, flags, rows, columns] = fields.take(4)?.try_into().ok()?;
    let (width, height) = (fields.id(flags & 1 == 1)?, fields.id(flags & 1 == 1)?);
    Some((u32::from(rows) + 1, u32::from(columns) + 1, (width, height)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_take_no_bytes_are_refused() {
        // Version and flags, sizes of zero, then one item: its number, its place, its number of parts.
        let places = |parts: u16| {
            let body = [&[0; 6][..], &[0, 1, 0, 1, 0, 0], &parts.to_be_bytes()].concat();
            let mut items = Items::default();
            items.item_places(&body).map(|()| items.places.len())
        };
        assert_eq!(places(1), Some(1), "the whole file");
        assert_eq!(places(u16::MAX), None);
    }
}
