//! The small files in which excerpts are given to `ffmpeg`. Times in them are the ranks of the frames, one a tick.

use super::ebml::element;
use super::excerpt::Excerpt;
use super::index::Index;

/// All of an MP4 file but its frames, which follow one behind the other.
pub(super) fn mp4(excerpt: &Excerpt, index: &Index, description: &[u8]) -> Vec<u8> {
    let mut file = boxed(b"ftyp", &[b"isom\0\0\0\0isom"]);
    let length = moov(excerpt, index, description, 0).len();
    file.extend(moov(excerpt, index, description, (file.len() + length + 8) as u32));
    file.extend((excerpt.bytes(index) as u32 + 8).to_be_bytes());
    file.extend(b"mdat");
    file
}

fn boxed(kind: &[u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    let length = 8 + parts.iter().map(|part| part.len()).sum::<usize>();
    let head = [&(length as u32).to_be_bytes()[..], kind].concat();
    parts.iter().fold(head, |mut all, part| {
        all.extend_from_slice(part);
        all
    })
}

/// The index of an excerpt whose frames begin at an offset.
fn moov(excerpt: &Excerpt, index: &Index, description: &[u8], offset: u32) -> Vec<u8> {
    /// Any number: the ticks are counted, not timed.
    const TIMESCALE: u32 = 25;
    let count = excerpt.samples.len() as u32;
    let be = |numbers: &[u32]| numbers.iter().flat_map(|it| it.to_be_bytes()).collect::<Vec<u8>>();
    let samples = || excerpt.samples.iter().map(|&place| index.samples[place]);
    let ranks = excerpt.ranks(index);
    let offsets: Vec<u32> = ranks
        .iter()
        .enumerate()
        .flat_map(|(i, rank)| [1, (rank + excerpt.delay - i as i64) as u32])
        .collect();
    let keys: Vec<u32> =
        samples().zip(1..).filter(|(sample, _)| sample.key).map(|(_, number)| number).collect();
    let sizes: Vec<u32> = samples().map(|sample| sample.size).collect();
    let matrix = be(&[0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000]);
    let (width, height) = index.track.coded;
    // One chunk holds all.
    let table = boxed(
        b"stbl",
        &[
            description,
            &boxed(b"stts", &[&be(&[0, 1, count, 1])]),
            &boxed(b"ctts", &[&be(&[0, count]), &be(&offsets)]),
            &boxed(b"stss", &[&be(&[0, keys.len() as u32]), &be(&keys)]),
            &boxed(b"stsc", &[&be(&[0, 1, 1, count, 1])]),
            &boxed(b"stsz", &[&be(&[0, 0, count]), &be(&sizes)]),
            &boxed(b"stco", &[&be(&[0, 1, offset])]),
        ],
    );
    let reference = boxed(b"dref", &[&be(&[0, 1]), &boxed(b"url ", &[&be(&[1])])]);
    let media = boxed(
        b"mdia",
        &[
            &boxed(b"mdhd", &[&be(&[0, 0, 0, TIMESCALE, count, 0x55c4_0000])]),
            &boxed(b"hdlr", &[&be(&[0, 0]), b"vide", &[0; 13]]),
            &boxed(b"minf", &[&boxed(b"vmhd", &[&be(&[1, 0, 0])]), &boxed(b"dinf", &[&reference]), &table]),
        ],
    );
    let header = be(&[1, 0, 0, 1, 0, count, 0, 0, 0, 0]);
    let track = boxed(b"tkhd", &[&header, &matrix, &be(&[width << 16, height << 16])]);
    let movie = be(&[0, 0, 0, TIMESCALE, count, 0x1_0000, 0x0100_0000, 0, 0]);
    boxed(
        b"moov",
        &[&boxed(b"mvhd", &[&movie, &matrix, &[0; 24], &be(&[2])]), &boxed(b"trak", &[&track, &media])],
    )
}

/// What comes before the frames in a Matroska file of one track.
pub(super) fn matroska(entry: &[u8]) -> Vec<u8> {
    // Version 4, as some codings need it, to be read by whoever knows 2.
    let header = element(
        0x1a45_dfa3,
        &[&element(0x4282, &[b"matroska"]), &[0x42, 0x87, 0x81, 4, 0x42, 0x85, 0x81, 2]],
    );
    // It goes on to the end.
    let segment = [0x18, 0x53, 0x80, 0x67, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    // Ticks of a millisecond.
    let info = element(0x1549_a966, &[&[0x2a, 0xd7, 0xb1, 0x83, 0x0f, 0x42, 0x40]]);
    let tracks = element(0x1654_ae6b, &[&element(0xae, &[entry])]);
    [&header[..], &segment, &info, &tracks].concat()
}

/// What comes before each frame there: a cluster of its own begins.
pub(super) fn cluster(track: u8, rank: i64, key: bool, size: u32) -> Vec<u8> {
    let time = element(0xe7, &[&rank.to_be_bytes()]);
    // Number of the track, no time beyond the cluster's, flags.
    let block = [0x80 | track, 0, 0, if key { 0x80 } else { 0 }];
    let length = |size: usize| (size as u64 | 1 << 56).to_be_bytes();
    let block = [&[0xa3][..], &length(block.len() + size as usize), &block].concat();
    let whole = time.len() + block.len() + size as usize;
    [&[0x1f, 0x43, 0xb6, 0x75][..], &length(whole), &time, &block].concat()
}
