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
    // A single frame has no duration.
    track.duration_ms = Some((shown.end - shown.start) as u64 / 1000).filter(|&it| it > 0);
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
        let length = seconds.map_or(end - start + pace, |it| (it * f64::from(TICKS)) as i64);
        let shown = start..start.saturating_add(length.max(1));
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
        let shown = start..start.saturating_add((seconds * f64::from(TICKS)) as i64);
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
mod tests {
    use super::super::ebml::element;
    use super::*;

    fn number(id: u32, value: u64) -> Vec<u8> {
        element(id, &[&value.to_be_bytes()])
    }

    /// A file of ten frames a second with a key frame every `every` frames, each cluster a second, between
    /// frames of sound.
    fn file(seconds: u64, every: u64, flags: u8) -> Vec<u8> {
        let entry = [
            number(id::TRACK_NUMBER, 1),
            number(id::TRACK_TYPE, 1),
            element(id::CODEC_ID, &[b"V_VP9"]),
            element(id::VIDEO, &[&number(id::PIXEL_WIDTH, 64), &number(id::PIXEL_HEIGHT, 48)]),
        ];
        let info = element(id::DURATION, &[&(seconds as f64 * 1000.0).to_be_bytes()]);
        let front = [
            element(id::INFO, &[&info]),
            element(id::TRACKS, &[&element(id::TRACK_ENTRY, &[&entry.concat()])]),
        ]
        .concat();
        let cluster = |second: u64| {
            let blocks = (0..10_u8).flat_map(|n| {
                let key = (second * 10 + u64::from(n)).is_multiple_of(every);
                let time = (i16::from(n) * 100).to_be_bytes();
                // A frame is a group with or without a reference to another frame, or a simple block.
                let frame = if n % 2 == 0 {
                    let needs = if key { vec![] } else { element(id::REFERENCE, &[&[0xff]]) };
                    let block = element(id::BLOCK, &[&[0x81], &time, &[flags], &[7; 50]]);
                    element(id::BLOCK_GROUP, &[&needs, &block])
                } else {
                    element(id::SIMPLE_BLOCK, &[&[0x81], &time, &[flags | u8::from(key) << 7], &[7; 50]])
                };
                [element(id::SIMPLE_BLOCK, &[&[0x82], &time, &[0x80], &[9; 20]]), frame].concat()
            });
            let inside = [number(id::TIMESTAMP, second * 1000), blocks.collect()].concat();
            element(id::CLUSTER, &[&inside])
        };
        let clusters: Vec<Vec<u8>> = (0..seconds).map(cluster).collect();
        // The list of cues has the same length wherever the clusters are.
        let cues = |first: u64| {
            let mut at = first;
            let points = clusters.iter().zip(0_u64..).map(|(cluster, second)| {
                let place = [number(id::CUE_TRACK, 1), number(id::CUE_CLUSTER, at)].concat();
                at += cluster.len() as u64;
                let point =
                    [number(id::CUE_TIME, second * 1000), element(id::CUE_PLACES, &[&place])].concat();
                if (second * 10).is_multiple_of(every) { element(id::CUE_POINT, &[&point]) } else { vec![] }
            });
            element(id::CUES, &[&points.collect::<Vec<_>>().concat()])
        };
        let first = (front.len() + cues(0).len()) as u64;
        let segment = element(id::SEGMENT, &[&front, &cues(first), &clusters.concat()]);
        [element(id::EBML, &[]), segment].concat()
    }

    fn index(bytes: &[u8]) -> Option<Index> {
        read(&mut Source::new(&mut io::Cursor::new(bytes), bytes.len() as u64)).expect("in memory")
    }

    #[test]
    fn a_short_file_is_read_from_block_to_block() {
        let bytes = file(12, 25, 0);
        let index = index(&bytes).expect("read");
        assert_eq!((index.samples.len(), index.shown, index.track.damaged), (120, 0..12_000_000, false));
        let keys: Vec<i64> = index.samples.iter().filter(|it| it.key).map(|it| it.at / 1000).collect();
        assert_eq!(keys, [0, 2500, 5000, 7500, 10_000]);
        assert!(index.samples.iter().all(|it| bytes[it.offset as usize..][..it.size as usize] == [7; 50]));
    }

    #[test]
    fn only_the_wanted_parts_of_a_long_file_are_read() {
        // Spans of 20 s, a key frame in each: the one nearest to its middle.
        let often = index(&file(200, 50, 0)).expect("read");
        let times: Vec<i64> = often.samples.iter().map(|it| it.at / 1_000_000).collect();
        assert_eq!(times, (0..10).map(|n| n * 20 + 10).collect::<Vec<_>>());
        // Key frames at 0, 70 and 140: from each up to the last span's first frame before the next, and a few
        // to spare.
        let seldom = index(&file(200, 700, 0)).expect("read");
        let runs = seldom.samples.chunk_by(|a, b| b.at - a.at == 100_000);
        let runs: Vec<(i64, i64)> =
            runs.map(|run| (run[0].at / 100_000, run[run.len() - 1].at / 100_000)).collect();
        assert_eq!(runs, [(0, 403), (700, 1203), (1400, 1803)]);
    }

    #[test]
    fn other_layouts_are_left_to_a_demuxer() {
        assert_eq!(index(&file(12, 25, 0x02)), None, "laced");
        let whole = file(12, 25, 0);
        assert_eq!(index(&[&whole[..], &whole].concat()), None, "two files in one");
        assert_eq!(index(&[&whole[..], b"\0\0\0garbage"].concat()), None);
        assert_eq!(index(b""), None);
        let long = file(200, 50, 0);
        assert_eq!(index(&long[..long.len() / 2]), None, "cues lead beyond the end");
        let half = index(&whole[..whole.len() / 2]).expect("the first half");
        assert!(half.track.damaged && half.samples.len() >= 55 && half.shown == (0..12_000_000));
    }

    #[test]
    fn unknown_lengths_and_any_change_end_in_an_answer() {
        let mut live = file(12, 25, 0);
        let mut places = Vec::new();
        for id in [id::SEGMENT, id::CLUSTER] {
            let id = id.to_be_bytes();
            places.extend(live.windows(4).enumerate().filter(|it| it.1 == id).map(|it| it.0 + 4));
        }
        places
            .into_iter()
            .for_each(|at| live[at..at + 8].copy_from_slice(&[1, 255, 255, 255, 255, 255, 255, 255]));
        assert_eq!(index(&live).expect("read").samples.len(), 120);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for original in [file(4, 25, 0), file(70, 50, 0)] {
            for _ in 0..300 {
                let mut bytes = original.clone();
                for _ in 0..1 + random(5) {
                    // Mostly near the start.
                    let within = if random(3) > 0 { bytes.len().min(1200) } else { bytes.len() };
                    let at = random(within);
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
                }
                if let Some(index) = index(&bytes) {
                    let len = bytes.len() as u64;
                    assert!(index.samples.iter().all(|it| it.offset + u64::from(it.size) <= len));
                    let _ = super::super::excerpt::Excerpt::choose(&index, 10);
                }
            }
        }
    }
}
