//! Reads the description of the video and the places of its frames in Matroska and WebM files.
//!
//! These files have no index of all frames. A short file is read from block to block; in a longer one the
//! cues lead to key frames.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use super::blocks::{Block, Piece, Walk, id};
use super::ebml::{elements, find, float, uint};
use super::frame_colours::FrameColours;
use super::index::{Container, Index, Sample};
use super::sampling::{LEAST_BYTES_PER_S, MAX_DECODED, SHORT_S, SPARE, spans, wanted};
use super::track::{Tags, Track};
use crate::media::colour_space::CodePoints;
use crate::media::source::Source;

/// Largest description of tracks or tags that is read, in bytes.
const MAX_TABLE_BYTES: u64 = 1 << 20;
/// Largest list of cues, in bytes; enough for 200,000 of them.
const MAX_CUES_BYTES: u64 = 4 << 20;
/// Most frames of a short file.
const MAX_SAMPLES: usize = 1 << 17;
/// Times are kept in microseconds.
const TICKS: u32 = 1_000_000;

/// Finds the frames of a file: all of them, or in a long video those that are needed for a few. Returns
/// `None` if the layout of the file or the description of its video is not supported here.
pub(super) fn read(source: &mut Source<'_>) -> io::Result<Option<Index>> {
    let len = source.len();
    let mut walk = Walk::new(source);
    let Some(front) = Front::read(&mut walk)? else { return Ok(None) };
    let Some(entry) = front.entry() else { return Ok(None) };
    let seconds = front.seconds().filter(|&it| len as f64 / it >= LEAST_BYTES_PER_S);
    let mut tags = front.tags(&entry);
    let found = match seconds {
        Some(seconds) if seconds > SHORT_S => front.by_cues(&mut walk, &entry, seconds)?,
        _ => front.through(&mut walk, &entry, seconds, &mut tags)?,
    };
    let Some(Samples { samples, shown, damaged }) = found else { return Ok(None) };
    let mut track = entry.track;
    tags.apply(&mut track);
    // The picture may begin late. A single frame has no duration.
    let length = seconds.map_or((shown.end - shown.start) as u64 / 1000, |it| (it * 1000.0).round() as u64);
    track.duration_ms = Some(length).filter(|&it| it > 0);
    track.damaged = damaged;
    let container = Container::Matroska { entry: entry.bytes, number: entry.number };
    Ok(Some(Index { track, container, timescale: TICKS, shown, samples }))
}

/// The colours that the description of a video names.
fn colours(video: &[u8]) -> FrameColours {
    let Some(names) = find(video, id::COLOUR) else { return FrameColours::default() };
    let number = |id| find(names, id).and_then(|it| u8::try_from(uint(it)).ok()).unwrap_or(2);
    let points = CodePoints { primaries: number(id::PRIMARIES), transfer: number(id::TRANSFER) };
    FrameColours { points, matrix: number(id::MATRIX), alpha: false }
}

/// The part of a file before the first frames.
#[derive(Default)]
struct Front {
    /// The start of the contents of the segment, from which offsets are counted.
    segment: u64,
    /// The start of the first cluster of frames.
    cluster: u64,
    info: Vec<u8>,
    tracks: Vec<u8>,
    tags: Vec<u8>,
    /// The range of the cues.
    cues: Option<Range<u64>>,
}

/// The first video track.
struct Entry {
    number: u8,
    uid: u64,
    track: Track,
    bytes: Vec<u8>,
}

/// The frames that were found.
struct Samples {
    samples: Vec<Sample>,
    shown: Range<i64>,
    damaged: bool,
}

impl Front {
    fn read(walk: &mut Walk<'_, '_>) -> io::Result<Option<Self>> {
        let mut front = Self::default();
        // The places of elements after the frames.
        let mut elsewhere: Vec<(u32, u64)> = Vec::new();
        loop {
            match walk.next()? {
                Some(Piece::Segment(at)) => front.segment = at,
                Some(Piece::Cluster(at)) => {
                    front.cluster = at;
                    break;
                }
                Some(Piece::Element(id::SEEK_HEAD, place)) => {
                    for (_, seek) in elements(&walk.contents(place, MAX_TABLE_BYTES)?) {
                        if let (Some(kind), Some(at)) = (find(seek, id::SEEK_ID), find(seek, id::SEEK_AT)) {
                            elsewhere.push((uint(kind) as u32, uint(at)));
                        }
                    }
                }
                Some(Piece::Element(kind, place)) => front.take(walk, kind, place)?,
                Some(Piece::Block(_)) | None => return Ok(None),
            }
        }
        for (kind, at) in elsewhere {
            let missing = match kind {
                id::CUES => front.cues.is_none(),
                id::TAGS => front.tags.is_empty(),
                _ => false,
            };
            if let (true, Some(at)) = (missing, front.segment.checked_add(at)) {
                walk.go(at);
                if let Some(Piece::Element(found, place)) = walk.next()?
                    && found == kind
                {
                    front.take(walk, kind, place)?;
                }
            }
        }
        Ok(Some(front))
    }

    fn take(&mut self, walk: &mut Walk<'_, '_>, kind: u32, place: Range<u64>) -> io::Result<()> {
        match kind {
            id::INFO => self.info = walk.contents(place, MAX_TABLE_BYTES)?,
            id::TRACKS => self.tracks = walk.contents(place, MAX_TABLE_BYTES)?,
            id::TAGS => self.tags = walk.contents(place, MAX_TABLE_BYTES)?,
            id::CUES => self.cues = Some(place),
            _ => {}
        }
        Ok(())
    }

    /// Nanoseconds of the file's own unit of time.
    fn scale(&self) -> u64 {
        find(&self.info, id::TIMESTAMP_SCALE).map(uint).filter(|&it| it > 0).unwrap_or(1_000_000)
    }

    fn ticks(&self, time: i64) -> i64 {
        let ticks = i128::from(time) * i128::from(self.scale()) / 1000;
        // Absurd times are clamped, so that no sum of two overflows.
        i64::try_from(ticks).unwrap_or(i64::MAX).clamp(i64::MIN / 4, i64::MAX / 4)
    }

    /// The duration that the file names.
    fn seconds(&self) -> Option<f64> {
        let length = find(&self.info, id::DURATION).and_then(float)?;
        Some(length * self.scale() as f64 / 1e9).filter(|it| it.is_finite() && *it > 0.0)
    }

    fn entry(&self) -> Option<Entry> {
        let mut entries = elements(&self.tracks).filter(|it| it.0 == id::TRACK_ENTRY);
        let (_, entry) = entries.find(|(_, it)| find(it, id::TRACK_TYPE).map(uint) == Some(1))?;
        let field = |id| find(entry, id).map_or(0, uint);
        // A video that is turned, transparent, or begins with hidden frames is left to ffprobe.
        let video = find(entry, id::VIDEO)?;
        let turned = find(video, id::PROJECTION).is_some_and(|it| {
            [id::YAW, id::PITCH, id::ROLL]
                .iter()
                .any(|&id| find(it, id).and_then(float).unwrap_or(0.0) != 0.0)
        });
        let number = u8::try_from(field(id::TRACK_NUMBER)).ok().filter(|it| (1..=126).contains(it))?;
        let side = |id| find(video, id).map(uint).and_then(|it| u32::try_from(it).ok());
        // The blocks of a transparent video have additions, which are not copied.
        if turned || field(id::CODEC_DELAY) > 0 || side(id::ALPHA_MODE).is_some_and(|it| it > 0) {
            return None;
        }
        let (width, height) = (side(id::PIXEL_WIDTH)?, side(id::PIXEL_HEIGHT)?);
        let ratio = match (side(id::DISPLAY_WIDTH), side(id::DISPLAY_HEIGHT), side(id::DISPLAY_UNIT)) {
            (Some(w), Some(h), unit) if w > 0 && h > 0 && unit.unwrap_or(0) < 4 => {
                let (over, under) = (u64::from(w) * u64::from(height), u64::from(h) * u64::from(width));
                let shift = u64::BITS.saturating_sub(over.max(under).leading_zeros() + 32);
                ((over >> shift) as u32, (under >> shift) as u32)
            }
            _ => (1, 1),
        };
        let name = codec(find(entry, id::CODEC_ID)?)?;
        Some(Entry {
            number,
            uid: field(id::TRACK_UID),
            track: Track { colours: colours(video), ..Track::new(name.into(), (width, height), ratio)? },
            bytes: entry.to_vec(),
        })
    }

    /// The tags about time, place and camera.
    fn tags(&self, entry: &Entry) -> Tags {
        let mut tags = Tags::default();
        // Nanoseconds since 2001.
        tags.created_s =
            find(&self.info, id::DATE).map(|it| (uint(it) as i64).div_euclid(1_000_000_000) + 978_307_200);
        set(&mut tags, &self.tags, entry);
        tags
    }

    /// Finds all frames by reading from block to block.
    fn through(
        &self,
        walk: &mut Walk<'_, '_>,
        entry: &Entry,
        seconds: Option<f64>,
        tags: &mut Tags,
    ) -> io::Result<Option<Samples>> {
        let (mut samples, mut last) = (Vec::new(), i64::MIN);
        walk.go(self.cluster);
        while let Some(piece) = walk.next()? {
            match piece {
                Piece::Block(block) => {
                    last = last.max(self.ticks(block.at));
                    if block.track == u64::from(entry.number) {
                        let Some(sample) = self.sample(&block) else { return Ok(None) };
                        samples.push(sample);
                    }
                }
                Piece::Element(id::TAGS, place) if self.tags.is_empty() => {
                    set(tags, &walk.contents(place, MAX_TABLE_BYTES)?, entry);
                }
                Piece::Segment(_) | Piece::Cluster(_) | Piece::Element(..) => {}
            }
            if samples.len() > MAX_SAMPLES {
                return Ok(None);
            }
        }
        // A demuxer may find more frames after an element that makes no sense here.
        if !walk.at_end() {
            return Ok(None);
        }
        let times = || samples.iter().map(|it: &Sample| it.at);
        let (Some(start), Some(end)) = (times().min(), times().max()) else { return Ok(None) };
        // The last frame has the average duration.
        let pace = ((end - start) / (samples.len() as i64 - 1).max(1)).max(1);
        let shown = match seconds {
            Some(seconds) => start..ends(start, last.saturating_add(-pace), seconds),
            None => start..start.saturating_add((end - start + pace).max(1)),
        };
        let length = shown.end - shown.start;
        let step = (length / wanted(length as f64 / f64::from(TICKS)) as i64).max(TICKS.into());
        Ok(Some(Samples { damaged: last.saturating_add(pace) < shown.end - step, samples, shown }))
    }

    /// Finds in each span the key frame that is nearest to its middle, or its first frame and the frames that
    /// it needs.
    fn by_cues(&self, walk: &mut Walk<'_, '_>, entry: &Entry, seconds: f64) -> io::Result<Option<Samples>> {
        let Some(place) = self.cues.clone() else { return Ok(None) };
        let cues = cues(&walk.contents(place, MAX_CUES_BYTES)?, entry.number.into());
        walk.go(self.cluster);
        let Some(first) = walk.block(entry.number.into())? else { return Ok(None) };
        let start = self.ticks(first.at);
        let last = cues.last().map_or(start, |cue| self.ticks(cue.0));
        let shown = start..ends(start, last, seconds);
        // The cues from which frames are needed, and the time up to which.
        let mut needed = BTreeMap::new();
        for (start, end) in spans(&shown, TICKS, wanted(seconds)) {
            let middle = start + (end - start) / 2;
            let at = |cue: &(i64, u64)| self.ticks(cue.0);
            let inside = cues.iter().filter(|it| (start..end).contains(&at(it)));
            if let Some(cue) = inside.min_by_key(|it| at(it).abs_diff(middle)) {
                needed.entry(*cue).or_insert(i64::MIN);
            } else if let Some(cue) = cues.iter().rev().find(|it| at(it) < start) {
                needed.insert(*cue, start);
            } else {
                return Ok(None);
            }
        }
        let mut samples = Vec::new();
        for ((time, cluster), until) in needed {
            walk.go(self.segment.saturating_add(cluster));
            let mut spare = None;
            for n in 0.. {
                let Some(block) = walk.block(entry.number.into())? else { return Ok(None) };
                if spare.is_none() && block.at != time {
                    // Clusters are short; a cue whose frame is not in its cluster is wrong.
                    if n > MAX_DECODED {
                        return Ok(None);
                    }
                    continue;
                }
                let Some(sample) = self.sample(&block) else { return Ok(None) };
                let left = spare.unwrap_or(SPARE) - usize::from(sample.at >= until);
                samples.push(sample);
                if left == 0 || until == i64::MIN || samples.len() > MAX_DECODED {
                    break;
                }
                spare = Some(left);
            }
        }
        Ok(Some(Samples { samples, shown, damaged: false }))
    }

    fn sample(&self, block: &Block) -> Option<Sample> {
        let size = u32::try_from(block.data.end - block.data.start).ok().filter(|_| !block.laced)?;
        Some(Sample { offset: block.data.start, size, key: block.key, at: self.ticks(block.at) })
    }
}

/// Where a video ends whose file has a duration. Most programs count the duration from zero, so that a
/// picture that begins late has less of it. In a file whose times go beyond, it is counted from the first frame.
fn ends(start: i64, last: i64, seconds: f64) -> i64 {
    let length = ((seconds * f64::from(TICKS)) as i64).max(1);
    if start < length && last < length { length } else { start.saturating_add(length) }
}

/// Times of the key frames of a track with the offsets of their clusters, in order.
fn cues(bytes: &[u8], track: u64) -> Vec<(i64, u64)> {
    let points = elements(bytes).filter(|it| it.0 == id::CUE_POINT).filter_map(|(_, point)| {
        let time = i64::try_from(uint(find(point, id::CUE_TIME)?)).ok()?;
        let mut places = elements(point).filter(|it| it.0 == id::CUE_PLACES);
        let (_, place) = places.find(|(_, it)| find(it, id::CUE_TRACK).map(uint) == Some(track))?;
        Some((time, uint(find(place, id::CUE_CLUSTER)?)))
    });
    let mut cues: Vec<_> = points.collect();
    cues.sort_unstable();
    cues
}

/// Adds the tags of the whole file and of one track.
fn set(tags: &mut Tags, bytes: &[u8], entry: &Entry) {
    for (_, tag) in elements(bytes).filter(|it| it.0 == id::TAG) {
        let others = find(tag, id::TARGETS).is_some_and(|targets| {
            elements(targets).any(|(kind, target)| match kind {
                id::TARGET_TRACK => ![0, entry.uid].contains(&uint(target)),
                id::TARGET_EDITION | id::TARGET_CHAPTER | id::TARGET_ATTACHMENT => uint(target) != 0,
                _ => false,
            })
        });
        for (_, simple) in elements(tag).filter(|it| it.0 == id::SIMPLE_TAG && !others) {
            if let (Some(name), Some(value)) = (find(simple, id::TAG_NAME), find(simple, id::TAG_STRING)) {
                tags.set(&String::from_utf8_lossy(name), value);
            }
        }
    }
}

/// The name of a codec by `ffmpeg`. Returns `None` for one that is rare in these files.
fn codec(id: &[u8]) -> Option<&'static str> {
    Some(match id {
        b"V_MPEG4/ISO/AVC" => "h264",
        b"V_MPEGH/ISO/HEVC" => "hevc",
        b"V_VP8" => "vp8",
        b"V_VP9" => "vp9",
        b"V_AV1" => "av1",
        b"V_MPEG1" => "mpeg1video",
        b"V_MPEG2" => "mpeg2video",
        b"V_MPEG4/ISO/SP" | b"V_MPEG4/ISO/ASP" => "mpeg4",
        b"V_MJPEG" => "mjpeg",
        b"V_PRORES" => "prores",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
