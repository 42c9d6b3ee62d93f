//! The places of the metadata of a HEIC picture in its file.

use std::io;
use std::ops::Range;

use super::items::{Id, Items};
use crate::media::source::Source;

/// The places of EXIF data and XMP, each if there is one in a single piece.
#[derive(Debug, Default)]
pub(crate) struct Places {
    pub(crate) exif: Option<Range<u64>>,
    pub(crate) xmp: Option<Range<u64>>,
}

/// Finds the metadata of the main picture, or otherwise any.
pub(crate) fn metadata(source: &mut Source<'_>) -> io::Result<Places> {
    let Some(items) = Items::read(source)? else { return Ok(Places::default()) };
    // The metadata refer to the pictures that they describe.
    let describing: Vec<Id> = items
        .references
        .iter()
        .filter(|(kind, _, to)| kind == b"cdsc" && items.primary.is_some_and(|it| to.contains(&it)))
        .map(|(_, from, _)| *from)
        .collect();
    let place = |ids: &mut dyn Iterator<Item = Id>| {
        let id = ids.min_by_key(|id| (!describing.contains(id), *id))?;
        items.places.get(&id)?.first().cloned()
    };
    let mut exif = items.kinds.iter().filter(|(_, kind)| *kind == b"Exif").map(|(&id, _)| id);
    Ok(Places { exif: place(&mut exif), xmp: place(&mut items.xmp.iter().copied()) })
}
