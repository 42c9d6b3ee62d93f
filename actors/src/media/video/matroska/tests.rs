//! Tests of the reader of Matroska and WebM.

use super::super::ebml::element;
use super::*;

fn number(id: u32, value: u64) -> Vec<u8> {
    element(id, &[&value.to_be_bytes()])
}

/// A file of ten frames a second with a key frame every `every` frames, each cluster a second, between
/// frames of sound.
fn file(seconds: u64, every: u64, flags: u8) -> Vec<u8> {
    late_file(seconds, every, flags, 0, 0)
}

/// The same with a picture that begins after some seconds, and a clock that begins at a time in seconds.
fn late_file(seconds: u64, every: u64, flags: u8, late: u64, clock: u64) -> Vec<u8> {
    let entry = [
        number(id::TRACK_NUMBER, 1),
        number(id::TRACK_TYPE, 1),
        element(id::CODEC_ID, &[b"V_VP9"]),
        element(id::VIDEO, &[&number(id::PIXEL_WIDTH, 64), &number(id::PIXEL_HEIGHT, 48)]),
    ];
    let info = element(id::DURATION, &[&(seconds as f64 * 1000.0).to_be_bytes()]);
    let front =
        [element(id::INFO, &[&info]), element(id::TRACKS, &[&element(id::TRACK_ENTRY, &[&entry.concat()])])]
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
            let frame = if second < late { vec![] } else { frame };
            [element(id::SIMPLE_BLOCK, &[&[0x82], &time, &[0x80], &[9; 20]]), frame].concat()
        });
        let inside = [number(id::TIMESTAMP, (clock + second) * 1000), blocks.collect()].concat();
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
                [number(id::CUE_TIME, (clock + second) * 1000), element(id::CUE_PLACES, &[&place])].concat();
            if second >= late && (second * 10).is_multiple_of(every) {
                element(id::CUE_POINT, &[&point])
            } else {
                vec![]
            }
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
fn a_picture_that_begins_late_is_whole() {
    for (seconds, late) in [(6, 3), (12, 3), (60, 20), (200, 50)] {
        let found = index(&late_file(seconds, 10, 0, late, 0)).expect("read");
        let (start, end) = (late as i64 * 1_000_000, seconds as i64 * 1_000_000);
        assert_eq!((found.shown, found.track.damaged), (start..end, false), "{seconds} {late}");
        assert_eq!(found.track.duration_ms, Some(seconds * 1000));
    }
    // The clock began long before, and the duration is counted from the first frame.
    let found = index(&late_file(12, 10, 0, 0, 1000)).expect("read");
    assert_eq!((found.shown, found.track.damaged), (1_000_000_000..1_012_000_000, false));
    let whole = late_file(12, 10, 0, 3, 0);
    let half = index(&whole[..whole.len() / 2]).expect("the first half");
    assert!(half.track.damaged && half.shown == (3_000_000..12_000_000), "{:?}", half.shown);
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
