//! The marks by which the files of one shot recognise each other: the time, and the identifier that Apple
//! writes into both parts of a Live Photo. Reads headers alone.

use std::io::{self, BufRead, Cursor, Seek};
use std::ops::Range;

use jiff::civil::DateTime;

use super::boxes::in_file;
use super::bytes::be32;
use super::directory::Order;
use super::exif;
use super::format::Format;
use super::raw;
use super::source::Source;

/// Most boxes side by side, and most keys of metadata, that are looked at.
const MAX_BOXES: usize = 256;
/// Most segments of a JPEG that are looked at.
const MAX_SEGMENTS: usize = 64;
/// Most bytes of a block of EXIF.
const MAX_EXIF_BYTES: u64 = 1 << 20;
/// Most bytes of a value of metadata.
const MAX_VALUE_BYTES: u64 = 256;
/// Seconds from 1904, from which QuickTime counts, to 1970.
const EPOCH_1904: i64 = 2_082_844_800;

/// The marks of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Shot {
    /// The identifier that both parts of a Live Photo have.
    pub(crate) content_id: Option<String>,
    /// When it was taken.
    pub(crate) taken_at: Option<DateTime>,
    /// The time is universal time; otherwise it is the camera's local time.
    pub(crate) is_utc: bool,
}

impl Shot {
    /// Whether both files can have been taken within some seconds of each other; `None` if the time of one is
    /// unknown. The local time may differ from universal time by quarters of an hour.
    pub(crate) fn is_near(&self, other: &Self, seconds: i64) -> Option<bool> {
        let apart = self.taken_at?.duration_since(other.taken_at?).as_secs().abs();
        let zoned = self.is_utc != other.is_utc && apart <= 14 * 3600 + seconds;
        let apart = if zoned { (apart % 900).min(900 - apart % 900) } else { apart };
        Some(apart <= seconds)
    }
}

/// Reads the marks of a file of a known format. What cannot be read is left out.
pub(crate) fn shot<R: BufRead + Seek>(reader: &mut R, len: u64, format: Format) -> Shot {
    let source = &mut Source::new(reader, len);
    match format {
        Format::Jpeg => jpeg_exif(source).map(|block| of_exif(&block)),
        #[cfg(feature = "heic")]
        Format::Heic => heic_exif(source).map(|block| of_exif(&block)),
        Format::Raw => raw::exif_block(source).map(|block| of_exif(&block)),
        Format::Mov | Format::Mp4 => of_video(source),
        _ => Ok(Shot::default()),
    }
    .unwrap_or_default()
}

fn of_exif(block: &[u8]) -> Shot {
    let block = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
    let taken_at = exif::read(block).taken.and_then(|it| moment(&it.to_string()));
    Shot { content_id: apple_content_id(block), taken_at, is_utc: false }
}

/// The time without an offset.
fn moment(text: &str) -> Option<DateTime> {
    text.get(..19)?.parse().ok()
}

/// The identifier in Apple's note, whose offsets count from its start.
fn apple_content_id(block: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(block);
    let source = &mut Source::new(&mut cursor, block.len() as u64);
    let order = Order::of(block)?;
    let (main, _) = order.directory(source, order.u32(block, 4)?.into()).ok()?;
    let photo = main.iter().find(|it| it.tag == 0x8769)?;
    let photo = order.number(source, photo).ok()??;
    let (photo, _) = order.directory(source, photo.into()).ok()?;
    let note = photo.iter().find(|it| it.tag == 0x927c)?.at;
    let head = source.exactly::<14>(note).ok()??;
    if !head.starts_with(b"Apple iOS\0") {
        return None;
    }
    let order = Order::of(&head[12..])?;
    let note = &mut source.window(note..block.len() as u64);
    let (entries, _) = order.directory(note, 14).ok()?;
    let entry = entries.iter().find(|it| it.tag == 0x0011)?;
    let mut text = Vec::new();
    note.append(entry.at, (entry.count as usize).min(MAX_VALUE_BYTES as usize), &mut text).ok()?;
    identifier(&text)
}

fn identifier(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_matches(['\0', ' ']);
    (!text.is_empty()).then(|| text.to_owned())
}

fn jpeg_exif(source: &mut Source<'_>) -> io::Result<Vec<u8>> {
    let mut at = 2;
    for _ in 0..MAX_SEGMENTS {
        let Some([0xff, marker, high, low]) = source.exactly::<4>(at)? else { break };
        let length = u64::from(u16::from_be_bytes([high, low]));
        if marker == 0xe1 && source.exactly::<6>(at + 4)? == Some(*b"Exif\0\0") {
            return bytes(source, at + 4..at + 2 + length.max(2));
        }
        if marker == 0xda {
            break;
        }
        at += 2 + length;
    }
    Ok(Vec::new())
}

#[cfg(feature = "heic")]
fn heic_exif(source: &mut Source<'_>) -> io::Result<Vec<u8>> {
    let composition = super::heif::composition(source)?.ok();
    let Some(place) = composition.and_then(|it| it.exif_place()) else { return Ok(Vec::new()) };
    let skip = source.exactly::<4>(place.start)?.map_or(0, u32::from_be_bytes);
    bytes(source, place.start.saturating_add(4 + u64::from(skip))..place.end)
}

/// Reads a part of a file, up to [`MAX_EXIF_BYTES`].
fn bytes(source: &mut Source<'_>, place: Range<u64>) -> io::Result<Vec<u8>> {
    let length = place.end.saturating_sub(place.start).min(MAX_EXIF_BYTES);
    let mut bytes = Vec::new();
    source.append(place.start, length as usize, &mut bytes)?;
    Ok(bytes)
}

/// The marks in the index of a video.
fn of_video(source: &mut Source<'_>) -> io::Result<Shot> {
    let mut shot = Shot::default();
    let all = 0..source.len();
    let Some(index) = child(source, all, b"moov")? else { return Ok(shot) };
    if let Some(header) = child(source, index.clone(), b"mvhd")?
        && let Some(head) = source.exactly::<12>(header.start)?
    {
        let seconds = if head[0] == 1 {
            i64::from(be32(&head, 4).unwrap_or(0)) << 32 | i64::from(be32(&head, 8).unwrap_or(0))
        } else {
            be32(&head, 4).unwrap_or(0).into()
        };
        let moment = jiff::Timestamp::from_second(seconds.saturating_sub(EPOCH_1904));
        let since_1970 = moment.ok().filter(|it| it.as_second() > 0);
        shot.taken_at = since_1970.map(|it| jiff::tz::Offset::UTC.to_datetime(it));
        shot.is_utc = true;
    }
    // Phones write it here, other programs into the data of the user.
    let meta = match (child(source, index.clone(), b"meta")?, child(source, index, b"udta")?) {
        (Some(meta), _) => Some(meta),
        (None, Some(data)) => child(source, data, b"meta")?,
        (None, None) => None,
    };
    let Some(meta) = meta else { return Ok(shot) };
    // In MP4 a version precedes the boxes, in QuickTime nothing does.
    let plain = source.exactly::<8>(meta.start)?.is_some_and(|head| matches!(&head[4..], b"hdlr" | b"keys"));
    let meta = if plain { meta } else { meta.start + 4..meta.end };
    let (keys, values) = (child(source, meta.clone(), b"keys")?, child(source, meta, b"ilst")?);
    let (Some(keys), Some(values)) = (keys, values) else { return Ok(shot) };
    let names: Vec<_> = in_file(source, keys.start + 8..keys.end, MAX_BOXES).collect::<io::Result<_>>()?;
    let values: Vec<_> = in_file(source, values, MAX_BOXES).collect::<io::Result<_>>()?;
    for (number, body) in values {
        // The number of a value's key is in place of the kind of its box.
        let number = u32::from_be_bytes(number) as usize;
        let Some((_, name)) = number.checked_sub(1).and_then(|it| names.get(it)) else { continue };
        let name = text(source, name.clone())?;
        let Some(value) = child(source, body, b"data")? else { continue };
        let value = value.start + 8..value.end;
        match &name[..] {
            b"com.apple.quicktime.content.identifier" => shot.content_id = identifier(&text(source, value)?),
            b"com.apple.quicktime.creationdate" => {
                let value = text(source, value)?;
                if let Some(local) = std::str::from_utf8(&value).ok().and_then(moment) {
                    (shot.taken_at, shot.is_utc) = (Some(local), false);
                }
            }
            _ => {}
        }
    }
    Ok(shot)
}

fn text(source: &mut Source<'_>, place: Range<u64>) -> io::Result<Vec<u8>> {
    bytes(source, place.start..place.end.min(place.start.saturating_add(MAX_VALUE_BYTES)))
}

/// The contents of the first box of a kind.
fn child(source: &mut Source<'_>, within: Range<u64>, kind: &[u8; 4]) -> io::Result<Option<Range<u64>>> {
    let found = in_file(source, within, MAX_BOXES).find(|it| it.as_ref().map_or(true, |(it, _)| it == kind));
    Ok(found.transpose()?.map(|(_, body)| body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::boxes::boxed;

    /// The index of a video, created at a time in seconds since 1904.
    fn video(created: u32, values: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut header = [0; 100];
        header[4..8].copy_from_slice(&created.to_be_bytes());
        let (mut keys, mut list) = (vec![0; 8], Vec::new());
        for (number, (name, value)) in (1_u32..).zip(values) {
            keys.extend(boxed(b"mdta", &[name]));
            let data = boxed(b"data", &[&[0, 0, 0, 1, 0, 0, 0, 0], value]);
            list.extend(boxed(&number.to_be_bytes(), &[&data]));
        }
        let meta = boxed(
            b"meta",
            &[&boxed(b"hdlr", &[&[0; 24]]), &boxed(b"keys", &[&keys]), &boxed(b"ilst", &[&list])],
        );
        let index = boxed(b"moov", &[&boxed(b"mvhd", &[&header]), &meta]);
        [boxed(b"ftyp", &[b"qt  \0\0\0\0qt  "]), index].concat()
    }

    fn read(bytes: &[u8], format: Format) -> Shot {
        shot(&mut Cursor::new(bytes), bytes.len() as u64, format)
    }

    #[test]
    fn the_marks_of_a_video_are_its_identifier_and_its_local_time_if_it_has_one() {
        let universal = read(&video(3_639_802_272, &[]), Format::Mov);
        let expected = jiff::civil::date(2019, 5, 4).at(8, 11, 12, 0);
        assert_eq!(
            (universal.taken_at, universal.is_utc, universal.content_id),
            (Some(expected), true, None)
        );
        let marked = video(
            3_639_802_272,
            &[
                (b"com.apple.quicktime.make", b"Apple"),
                (b"com.apple.quicktime.content.identifier", b"7F-1"),
                (b"com.apple.quicktime.creationdate", b"2019-05-04T10:11:12+0200"),
            ],
        );
        let shot = read(&marked, Format::Mov);
        assert_eq!(shot.content_id.as_deref(), Some("7F-1"));
        assert_eq!(
            (shot.taken_at, shot.is_utc),
            (Some(jiff::civil::date(2019, 5, 4).at(10, 11, 12, 0)), false)
        );
        for length in 0..marked.len() {
            read(&marked[..length], Format::Mov);
        }
    }

    #[test]
    fn local_and_universal_time_may_differ_by_quarters_of_an_hour() {
        let at = |hour, minute, second, is_utc| Shot {
            taken_at: Some(jiff::civil::date(2019, 5, 4).at(hour, minute, second, 0)),
            is_utc,
            content_id: None,
        };
        let still = at(10, 11, 12, false);
        for (other, near) in [
            (at(10, 11, 14, false), true),
            (at(10, 11, 16, false), false),
            (at(8, 11, 14, true), true),
            (at(4, 41, 10, true), true),
            (at(8, 17, 12, true), false),
            (at(8, 11, 14, false), false),
        ] {
            assert_eq!(still.is_near(&other, 3), Some(near), "{other:?}");
        }
        assert_eq!(still.is_near(&Shot::default(), 3), None);
    }
}
