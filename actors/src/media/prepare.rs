//! Makes thumbnail, vision input and facts of a still picture, by one decode.

use std::io::Cursor;

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
/// decoder fails. A JPEG that is cut short is not an error: the missing part is grey, and [`Facts::damaged`]
/// is set.
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
    let len = bytes.len() as u64;
    let header = header(&mut Cursor::new(bytes), len, limits)?;
    admit(&header, len, limits, vision)?;
    let Decoded { mut pixels, colour, exif, animation, damaged, mut notes } = decode(bytes, &header, limits)?;

    let orientation = exif.orientation;
    let turn = |(w, h): (u32, u32)| if orientation.swaps_sides() { (h, w) } else { (w, h) };
    let (width, height) = turn((pixels.width, pixels.height));
    let layout = layout::vision(width, height, vision);
    let small = layout::thumbnail(width, height);

    // The picture for a model that wants very small ones has too few pixels for a thumbnail.
    let from_all = want_thumbnail && (layout.content.0 < small.0 || layout.content.1 < small.1);
    let early = from_all.then(|| render::resized_copy(&mut pixels, turn(small)));
    let stored = render::resized(pixels, turn(layout.content))?;
    let mut content = render::upright(colour.apply(stored, &mut notes), orientation);
    let thumbnail = want_thumbnail.then(|| {
        let picture = match early {
            Some(early) => render::upright(colour.apply(early?, &mut Vec::new()), orientation),
            None => render::reduced(&mut content, small)?,
        };
        render::jpeg(&picture, THUMBNAIL_QUALITY)
    });

    let seen = PixelFacts::of(&content);
    let origins = origins(bytes, header.format, exif);
    let mut facts = Facts {
        width,
        height,
        colours: seen.colours,
        lightness: seen.lightness,
        sharpness: seen.sharpness,
        duration_ms: animation.and_then(|a| a.duration_ms()),
        animated: animation.is_some_and(|a| a.is_moving()),
        damaged,
        notes,
        ..Facts::default()
    };
    sidecar::complete(&mut facts, &origins, None);
    let padded = render::padded(content, layout.padded);
    let jpeg = if vision.jpeg { Some(render::jpeg(&padded, VISION_QUALITY)?) } else { None };
    let Rgb { width, height, data } = padded;
    let picture = Picture { width, height, rgb: data, content: layout.content, jpeg };
    Ok(Prepared { thumbnail, picture, facts, origins })
}

/// What a picture says of its origin. The EXIF data that the decoder found count only if no others are found.
fn origins(bytes: &[u8], format: Format, exif: Exif) -> Origins {
    let found = embedded::origins(&mut Source::new(&mut Cursor::new(bytes), bytes.len() as u64), format);
    let (found, exif) = (found.unwrap_or_default(), exif.origins());
    Origins { embedded: exif.embedded.or(found.embedded), changed: found.changed.or(exif.changed) }
}
