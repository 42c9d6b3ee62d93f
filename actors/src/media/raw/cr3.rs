//! Finds the JPEGs in Canon's CR3 files, which are built of boxes like MP4.

use std::io;
use std::ops::Range;

use super::Found;
use crate::media::boxes::in_file;
use crate::media::bytes::be32;
use crate::media::directory::Order;
use crate::media::source::Source;

/// Most boxes side by side that are looked at.
const MAX_BOXES: usize = 64;
/// The box of Canon's metadata, and that of the preview.
const METADATA: [u8; 16] = *b"\x85\xc0\xb6\x87\x82\x0f\x11\xe0\x81\x11\xf4\xce\x46\x2b\x6a\x48";
const PREVIEW: [u8; 16] = *b"\xea\xf4\x2b\x5e\x1c\x98\x4b\x88\xb9\xfb\xb7\xdc\x40\x6e\x4d\x16";

/// Looks for JPEGs, and for the blocks with the main, the photo's and the place's directory.
pub(super) fn find(source: &mut Source<'_>) -> io::Result<(Found, [Option<Range<u64>>; 3])> {
    let (mut found, mut blocks) = (Found::default(), [None, None, None]);
    for (kind, body) in children(source, 0..source.len())? {
        match &kind {
            b"moov" => {
                for (kind, body) in children(source, body)? {
                    match &kind {
                        b"uuid" if starts(source, &body, &METADATA)? => {
                            metadata(source, body.start + 16..body.end, &mut found, &mut blocks)?;
                        }
                        b"trak" => found.jpegs.extend(first_sample(source, body)?),
                        _ => {}
                    }
                }
            }
            // Two numbers precede the boxes inside.
            b"uuid" if starts(source, &body, &PREVIEW)? => {
                for (kind, body) in children(source, body.start + 24..body.end)? {
                    if &kind == b"PRVW" {
                        found.jpegs.extend(jpeg_in(source, body)?);
                    }
                }
            }
            _ => {}
        }
    }
    if let Some(main) = &blocks[0] {
        let mut main = source.window(main.clone());
        let order = main.exactly::<8>(0)?.and_then(|head| Some((Order::of(&head)?, head)));
        if let Some((order, head)) = order {
            let (entries, _) = order.directory(&mut main, order.u32(&head, 4).unwrap_or(0).into())?;
            if let Some(entry) = entries.iter().find(|it| it.tag == 0x0112) {
                let number = order.number(&mut main, entry)?;
                found.orientation = number.and_then(|it| u16::try_from(it).ok());
            }
        }
    }
    Ok((found, blocks))
}

fn metadata(
    source: &mut Source<'_>,
    within: Range<u64>,
    found: &mut Found,
    blocks: &mut [Option<Range<u64>>; 3],
) -> io::Result<()> {
    for (kind, body) in children(source, within)? {
        match &kind {
            b"CMT1" => blocks[0] = Some(body),
            b"CMT2" => blocks[1] = Some(body),
            b"CMT4" => blocks[2] = Some(body),
            b"THMB" => found.jpegs.extend(jpeg_in(source, body)?),
            _ => {}
        }
    }
    Ok(())
}

/// The boxes in a part of a file.
fn children(source: &mut Source<'_>, within: Range<u64>) -> io::Result<Vec<([u8; 4], Range<u64>)>> {
    in_file(source, within, MAX_BOXES).collect()
}

fn starts(source: &mut Source<'_>, body: &Range<u64>, id: &[u8; 16]) -> io::Result<bool> {
    Ok(source.exactly::<16>(body.start)?.as_ref() == Some(id))
}

/// The JPEG after the short header of a box.
fn jpeg_in(source: &mut Source<'_>, body: Range<u64>) -> io::Result<Option<Range<u64>>> {
    let (head, got) = source.at::<32>(body.start)?;
    let at = head[..got].windows(3).position(|it| it == b"\xff\xd8\xff");
    Ok(at.map(|at| body.start + at as u64..body.end).filter(|it| it.start < it.end))
}

/// The range of the first sample of a track. Of the tracks with a picture each, one is a JPEG of full size.
fn first_sample(source: &mut Source<'_>, track: Range<u64>) -> io::Result<Option<Range<u64>>> {
    let mut within = track;
    for wanted in [b"mdia", b"minf", b"stbl"] {
        let Some((_, body)) = children(source, within)?.into_iter().find(|(kind, _)| kind == wanted) else {
            return Ok(None);
        };
        within = body;
    }
    let (mut start, mut length) = (None, None);
    for (kind, body) in children(source, within)? {
        let Some(head) = source.exactly::<16>(body.start)? else { continue };
        let number = |at| be32(&head, at).unwrap_or(0);
        match &kind {
            // One size for all samples, or a table of sizes.
            b"stsz" if number(4) > 0 => length = Some(number(4)),
            b"stsz" => length = Some(number(12)),
            b"stco" => start = Some(u64::from(number(8))),
            b"co64" => start = Some(u64::from(number(8)) << 32 | u64::from(number(12))),
            _ => {}
        }
    }
    Ok(start.zip(length).map(|(start, length)| start..start.saturating_add(length.into())))
}
