//! Makes thumbnail, vision input and facts of a still picture, by one decode.

use std::io::{BufRead, Cursor, Seek};

use super::contents::Contents;
use super::decode::decode;
use super::embedded;
use super::error::Error;
use super::exif::Exif;
use super::facts::{Facts, PixelFacts};
use super::format::Format;
use super::header::{admit, header};
use super::layout::{self, VisionSpec};
use super::limits::Limits;
use super::origin::Origins;
use super::picture::{Picture, Prepared};
use super::pieces::Pieces;
use super::render::{self, Rgb, THUMBNAIL_QUALITY, VISION_QUALITY};
use super::sidecar;
use super::source::Source;
use super::still::Decoded;

/// Makes thumbnail, vision input and facts of a picture, with one decode.
///
/// The picture is turned upright by its EXIF orientation, its alpha is blended on white, and of an animation
/// the first frame is used. The thumbnail has at most 256 pixels a side, is never enlarged, and is made only
/// if `want_thumbnail` is set; if it alone fails, the rest is still returned. Holds at most
/// [`Inspected::decode_bytes`], `bytes` included, and checks the limits again, as the file may have changed
/// since it was inspected.
///
/// Takes up to a second for the largest pictures and never waits: call it in a thread that may block.
///
/// # Errors
/// As [`inspect`](super::inspect), and [`ErrorKind::Undecodable`](super::ErrorKind::Undecodable) if the
/// decoder fails. A picture that is cut short is not an error: the missing part is grey or like the part
/// above it, and [`Facts::damaged`] is set.
///
/// # Panics
/// The decoders are not known to panic, but a caller that must not end by a panic should catch it.
///
/// [`Inspected::decode_bytes`]: super::Inspected::decode_bytes
pub fn prepare(
    bytes: &[u8],
    limits: &Limits,
    vision: &VisionSpec,
    want_thumbnail: bool,
) -> Result<Prepared, Error> {
    let mut reader = Cursor::new(bytes);
    let contents = Contents::new(&mut reader, bytes.len() as u64, Some(bytes));
    made(contents, limits, vision, want_thumbnail)
}

/// As [`prepare`], of a file of `len` bytes that is read while it is decoded, as far as its format allows.
///
/// # Errors
/// As [`prepare`], and [`ErrorKind::Unreadable`](super::ErrorKind::Unreadable).
pub fn prepare_file<R: BufRead + Seek>(
    reader: &mut R,
    len: u64,
    limits: &Limits,
    vision: &VisionSpec,
    want_thumbnail: bool,
) -> Result<Prepared, Error> {
    made(Contents::new(reader, len, None), limits, vision, want_thumbnail)
}

fn made(
    mut contents: Contents<'_>,
    limits: &Limits,
    vision: &VisionSpec,
    want_thumbnail: bool,
) -> Result<Prepared, Error> {
    let len = contents.len();
    let header = header(contents.reader(), len, limits)?;
    admit(&header, len, limits, vision)?;
    let least = layout::least(header.width, header.height, vision);
    let decoded = decode(&mut contents, &header, limits, least)?;
    let Decoded { mut pixels, colour, exif, animation, damaged, mut notes } = decoded;

    let orientation = exif.orientation;
    let turn = |(w, h): (u32, u32)| if orientation.swaps_sides() { (h, w) } else { (w, h) };
    let (width, height) = turn((header.width, header.height));
    let layout = layout::vision(width, height, vision);
    let small = layout::thumbnail(width, height);

    let pieces = Pieces::of(width, height, vision);
    notes.extend(pieces.map(|it| it.note()));
    let seen = pieces.map_or(layout.content, |it| it.whole);

    // The picture for a model that wants very small ones has too few pixels for a thumbnail.
    let from_all = want_thumbnail && (seen.0 < small.0 || seen.1 < small.1);
    let early = from_all.then(|| render::resized_copy(&mut pixels, turn(small)));
    let stored = render::resized(pixels, turn(seen))?;
    let mut content = render::upright(colour.apply(stored, &mut notes), orientation);
    let thumbnail = want_thumbnail.then(|| {
        let picture = match early {
            Some(early) => render::upright(colour.apply(early?, &mut Vec::new()), orientation),
            None => render::reduced(&mut content, small)?,
        };
        render::jpeg(&picture, THUMBNAIL_QUALITY)
    });

    let measured = PixelFacts::of(&content);
    let origins = origins(&mut contents.source(), header.format, exif);
    let mut facts = Facts {
        width,
        height,
        colours: measured.colours,
        lightness: measured.lightness,
        sharpness: measured.sharpness,
        duration_ms: animation.and_then(|a| a.duration_ms()),
        animated: animation.is_some_and(|a| a.is_moving()),
        damaged,
        notes,
        ..Facts::default()
    };
    sidecar::complete(&mut facts, &origins, None);
    let (content, within, size) = match pieces {
        Some(pieces) => (pieces.arranged(&content), pieces.padded, pieces.content),
        None => (content, layout.padded, layout.content),
    };
    let padded = render::padded(content, within);
    let jpeg = if vision.jpeg { Some(render::jpeg(&padded, VISION_QUALITY)?) } else { None };
    let Rgb { width, height, data } = padded;
    let picture = Picture { width, height, rgb: data, content: size, jpeg };
    Ok(Prepared { thumbnail, picture, facts, origins })
}

/// What a picture says of its origin. The EXIF data that the decoder found count only if no others are found.
fn origins(source: &mut Source<'_>, format: Format, exif: Exif) -> Origins {
    let (found, exif) = (embedded::origins(source, format).unwrap_or_default(), exif.origins());
    Origins { embedded: exif.embedded.or(found.embedded), changed: found.changed.or(exif.changed) }
}
