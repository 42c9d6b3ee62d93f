//! Reads the index of an MP4 or QuickTime file: the description of its video track and the places of its
//! frames.
//!
//! With the index a few frames can be copied out of the file: `ffmpeg` gets those instead of the file,
//! `ffprobe` is not needed, and neither sees the rest of the file.

mod tags;

use std::io;
use std::ops::Range;

use super::frame_colours::FrameColours;
use super::index::{Container, Index, Sample};
use super::track::Track;
use crate::media::boxes::{self, Fields, boxes};
use crate::media::colour_space::CodePoints;
use crate::media::orientation::Orientation;
use crate::media::origin::Origin;
use crate::media::source::Source;

/// Largest index that is read, in bytes; ten hours have about 15 MiB.
const MAX_INDEX_BYTES: u64 = 32 << 20;
/// Most frames of a track: five hours at sixty a second.
const MAX_SAMPLES: usize = 1 << 20;
/// Most boxes at the top of a file.
const MAX_BOXES: usize = 10_000;

/// The result of reading an index.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reading {
    /// The index.
    Index(Box<Index>),
    /// A layout that is not read here, such as fragments, or an edit list of several parts.
    Other,
    /// The file ends before its index, or never got one.
    Unfinished,
    /// There is no video track.
    NoVideo,
    /// The video is encrypted.
    Encrypted,
}

/// Reads the index of a file.
pub(crate) fn read(source: &mut Source<'_>) -> io::Result<Reading> {
    let Some(place) = boxes::find_in_file(source, b"moov", MAX_BOXES)? else {
        return Ok(Reading::Unfinished);
    };
    if place.end - place.start > MAX_INDEX_BYTES {
        return Ok(Reading::Other);
    }
    let mut moov = Vec::new();
    source.append(place.start, (place.end - place.start) as usize, &mut moov)?;
    let xmp = tags::xmp(source, &moov)?;
    Ok(index(&moov, source.len(), xmp))
}

/// The colours that a box `colr` names. QuickTime calls it `nclc`, and MP4 `nclx`.
fn colour(body: &[u8]) -> Option<FrameColours> {
    let numbers = body.strip_prefix(b"nclx").or(body.strip_prefix(b"nclc"))?;
    let mut fields = Fields::new(numbers);
    let mut number = || fields.u16().and_then(|it| u8::try_from(it).ok());
    let points = CodePoints { primaries: number()?, transfer: number()? };
    Some(FrameColours { points, matrix: number()?, alpha: false })
}

/// The contents of the first box at a path of kinds.
fn inside<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| {
        let found = boxes(bytes, 0..bytes.len()).find(|it| &it.kind == *kind)?;
        bytes.get(found.body)
    })
}

fn index(moov: &[u8], len: u64, xmp: Origin) -> Reading {
    let tracks = || {
        let tracks = boxes(moov, 0..moov.len()).filter(|it| &it.kind == b"trak");
        tracks.filter_map(|it| moov.get(it.body)).filter(|trak| {
            inside(trak, &[b"mdia", b"hdlr"]).and_then(|hdlr| hdlr.get(8..12)) == Some(b"vide")
        })
    };
    // Pictures of chapters are video tracks too, but are not enabled.
    let enabled =
        |trak: &&[u8]| inside(trak, &[b"tkhd"]).is_some_and(|tkhd| tkhd.get(3).is_some_and(|it| it & 1 == 1));
    let Some(trak) = tracks().find(enabled).or_else(|| tracks().next()) else { return Reading::NoVideo };
    if inside(trak, &[b"mdia", b"minf", b"stbl", b"stsd"]).is_some_and(|it| it.get(12..16) == Some(b"encv")) {
        return Reading::Encrypted;
    }
    // The index may cover only the first fragment.
    if inside(moov, &[b"mvex"]).is_some() {
        return Reading::Other;
    }
    match Table::of(trak).and_then(|table| table.index(moov, trak, len)) {
        Some(mut index) => {
            tags::tags(moov, xmp).apply(&mut index.track);
            Reading::Index(Box::new(index))
        }
        None => Reading::Other,
    }
}

/// The boxes with the places of frames.
struct Table<'a> {
    stbl: &'a [u8],
    description: &'a [u8],
    timescale: u32,
}

impl<'a> Table<'a> {
    fn of(trak: &'a [u8]) -> Option<Self> {
        let stbl = inside(trak, &[b"mdia", b"minf", b"stbl"])?;
        let mut mdhd = Fields::new(inside(trak, &[b"mdia", b"mdhd"])?);
        let long = mdhd.version()?.0 == 1;
        mdhd.take(if long { 16 } else { 8 })?;
        let timescale = mdhd.u32().filter(|&it| it > 0)?;
        Some(Self { stbl, description: inside(stbl, &[b"stsd"])?, timescale })
    }

    fn index(&self, moov: &[u8], trak: &[u8], len: u64) -> Option<Index> {
        let mut samples = self.samples()?;
        let count = samples.len();
        samples.retain(|sample| {
            sample.size > 0 && sample.offset.checked_add(sample.size.into()).is_some_and(|end| end <= len)
        });
        let (first, last) = (samples.iter().map(|it| it.at).min()?, samples.iter().map(|it| it.at).max()?);
        // The last frame has the average duration.
        let end = last.checked_add(((last - first) / (samples.len() as i64 - 1).max(1)).max(1))?;
        let shown = self.edited(moov, trak, first..end)?;
        let seconds = (shown.end - shown.start) as f64 / f64::from(self.timescale);
        let mut track = self.track(trak)?;
        track.duration_ms = Some((seconds * 1000.0).round() as u64);
        track.damaged = samples.len() < count;
        let mut description = ((self.description.len() + 8) as u32).to_be_bytes().to_vec();
        description.extend(b"stsd");
        description.extend(self.description);
        let container = Container::Mp4(description);
        Some(Index { track, container, timescale: self.timescale, shown, samples })
    }

    fn track(&self, trak: &[u8]) -> Option<Track> {
        let entry = boxes(self.description, 8..self.description.len()).next()?;
        let body = self.description.get(entry.body)?;
        let mut fields = Fields::new(body);
        fields.take(24)?;
        let (width, height) = (fields.u16()?, fields.u16()?);
        let ratio = boxes(body, 78..body.len()).find(|it| &it.kind == b"pasp").and_then(|it| {
            let mut fields = Fields::new(body.get(it.body)?);
            Some((fields.u32()?, fields.u32()?))
        });
        let tkhd = inside(trak, &[b"tkhd"])?;
        let matrix = tkhd.get(if tkhd.first() == Some(&1) { 52.. } else { 40.. })?;
        let mut track =
            Track::new(codec(entry.kind), (width.into(), height.into()), ratio.unwrap_or((1, 1)))?;
        track.orientation = orientation(matrix);
        let colours = boxes(body, 78..body.len()).filter(|it| &it.kind == b"colr");
        track.colours = colours.filter_map(|it| colour(body.get(it.body)?)).next().unwrap_or_default();
        Some(track)
    }

    /// All frames in decoding order; their places may be outside of the file.
    fn samples(&self) -> Option<Vec<Sample>> {
        let sizes = self.sizes()?;
        let mut samples: Vec<Sample> =
            sizes.into_iter().map(|size| Sample { offset: 0, size, key: false, at: 0 }).collect();
        self.place(&mut samples)?;
        let mut at = 0_i64;
        let mut rest = samples.iter_mut();
        let mut fields = self.table(b"stts")?;
        for _ in 0..fields.u32()? {
            let (count, delta) = (fields.u32()?, fields.u32()?);
            for sample in rest.by_ref().take(count as usize) {
                sample.at = at;
                at += i64::from(delta);
            }
        }
        if rest.next().is_some() {
            return None;
        }
        if let Some(mut fields) = self.table(b"ctts") {
            let mut rest = samples.iter_mut();
            for _ in 0..fields.u32()? {
                let (count, offset) = (fields.u32()?, fields.u32()?);
                // Signed in the newer version of the box, and in practice in the older one too.
                rest.by_ref().take(count as usize).for_each(|sample| sample.at += i64::from(offset as i32));
            }
        }
        match self.table(b"stss") {
            None => samples.iter_mut().for_each(|sample| sample.key = true),
            Some(mut fields) => {
                for _ in 0..fields.u32()? {
                    let number = fields.u32()? as usize;
                    samples.get_mut(number.checked_sub(1)?)?.key = true;
                }
            }
        }
        (!samples.is_empty()).then_some(samples)
    }

    /// The contents of a box after its version and flags.
    fn table(&self, kind: &[u8; 4]) -> Option<Fields<'a>> {
        let mut fields = Fields::new(inside(self.stbl, &[kind])?);
        fields.version()?;
        Some(fields)
    }

    fn sizes(&self) -> Option<Vec<u32>> {
        let mut fields = self.table(b"stsz")?;
        let (size, count) = (fields.u32()?, fields.u32()? as usize);
        if count > MAX_SAMPLES {
            return None;
        }
        if size > 0 { Some(vec![size; count]) } else { (0..count).map(|_| fields.u32()).collect() }
    }

    /// Sets the places of samples, which are consecutive in chunks.
    fn place(&self, samples: &mut [Sample]) -> Option<()> {
        let (mut chunks, wide) = match self.table(b"stco") {
            Some(fields) => (fields, 4),
            None => (self.table(b"co64")?, 8),
        };
        let count = chunks.u32()?;
        let mut runs = self.table(b"stsc")?;
        let mut runs_left = runs.u32()?;
        let mut run = |left: &mut u32| {
            *left = left.checked_sub(1)?;
            // Samples of another description would need another decoder.
            let (first, samples, description) = (runs.u32()?, runs.u32()?, runs.u32()?);
            Some((first, samples, description))
        };
        let (_, mut in_chunk, mut description) = run(&mut runs_left)?;
        let mut next = run(&mut runs_left);
        let mut rest = samples.iter_mut();
        for chunk in 1..=count {
            if let Some(new) = next
                && new.0 <= chunk
            {
                (in_chunk, description) = (new.1, new.2);
                next = run(&mut runs_left);
            }
            let mut offset = chunks.uint(wide)?;
            for sample in rest.by_ref().take(in_chunk as usize) {
                if description != 1 {
                    return None;
                }
                sample.offset = offset;
                offset = offset.checked_add(sample.size.into())?;
            }
        }
        rest.next().is_none().then_some(())
    }

    /// The part that the edit list shows, or everything if there is no list. Returns `None` if it shows
    /// several parts, which a demuxer has to join.
    fn edited(&self, moov: &[u8], trak: &[u8], all: Range<i64>) -> Option<Range<i64>> {
        let Some((scale, parts)) = edits(moov, trak) else { return Some(all) };
        let &[(start, duration)] = &parts[..] else { return parts.is_empty().then_some(all) };
        let ticks = u128::from(duration) * u128::from(self.timescale) / u128::from(scale);
        let length = if ticks == 0 { i64::MAX } else { i64::try_from(ticks).unwrap_or(i64::MAX) };
        let part = start.max(all.start)..start.saturating_add(length).min(all.end);
        Some(if part.start < part.end { part } else { all })
    }
}

/// The units a second of durations, and the first two parts of a track that an edit list shows, each with its
/// start in ticks and its duration in these units.
fn edits(moov: &[u8], trak: &[u8]) -> Option<(u32, Vec<(i64, u64)>)> {
    let mut mvhd = Fields::new(inside(moov, &[b"mvhd"])?);
    let long = mvhd.version()?.0 == 1;
    mvhd.take(if long { 16 } else { 8 })?;
    let scale = mvhd.u32().filter(|&it| it > 0)?;
    let mut fields = Fields::new(inside(trak, &[b"edts", b"elst"])?);
    let wide = fields.version()?.0 == 1;
    let mut parts = Vec::new();
    for _ in 0..fields.u32()? {
        let (duration, start) = if wide {
            (fields.uint(8)?, fields.uint(8)? as i64)
        } else {
            (fields.u32()?.into(), i64::from(fields.u32()? as i32))
        };
        fields.u32()?;
        // An empty part is a delay.
        if start >= 0 {
            parts.push((start, duration));
        }
        if parts.len() > 1 {
            break;
        }
    }
    Some((scale, parts))
}

/// The name of a codec by `ffmpeg`.
fn codec(kind: [u8; 4]) -> String {
    let name = match &kind {
        b"avc1" | b"avc3" => "h264",
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => "hevc",
        b"mp4v" => "mpeg4",
        b"vp08" => "vp8",
        b"vp09" => "vp9",
        b"av01" => "av1",
        b"apco" | b"apcs" | b"apcn" | b"apch" | b"ap4h" | b"ap4x" => "prores",
        b"jpeg" | b"mjpa" | b"mjpb" => "mjpeg",
        b"s263" | b"h263" => "h263",
        other => {
            let name = String::from_utf8_lossy(other).to_lowercase();
            return name.chars().filter(char::is_ascii_alphanumeric).collect();
        }
    };
    name.into()
}

/// The orientation by the matrix that maps a frame to the screen.
fn orientation(matrix: &[u8]) -> Orientation {
    let mut fields = Fields::new(matrix);
    let mut next = || fields.u32().map_or(0, |it| (it as i32).signum());
    let (a, b, _, c, d) = (next(), next(), next(), next(), next());
    Orientation::new(match (a, b, c, d) {
        (-1, 0, 0, 1) => 2,
        (-1, 0, 0, -1) => 3,
        (1, 0, 0, -1) => 4,
        (0, 1, 1, 0) => 5,
        (0, 1, -1, 0) => 6,
        (0, -1, -1, 0) => 7,
        (0, -1, 1, 0) => 8,
        _ => 1,
    })
}
