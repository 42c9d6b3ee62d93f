//! Writes excerpts as small files for `ffmpeg`. The times in them are the ranks of the frames, one a tick.

use std::io;

use super::ebml::{self, element};
use super::excerpt::Excerpt;
use super::index::{Container, Index, Sample};
use crate::media::boxes::boxed;
use crate::media::source::Source;

/// Matroska's identifier of the configuration of a codec.
const CODEC_PRIVATE: u32 = 0x63a2;

/// Copies the frames of an excerpt out of a file to a file with an index of its own.
pub(super) fn write(excerpt: &Excerpt, index: &Index, source: &mut Source<'_>) -> io::Result<Vec<u8>> {
    let (mut file, track) = match &index.container {
        Container::Mp4(description) => (mp4(excerpt, index, description), None),
        Container::Matroska { entry, number } => (matroska(entry), Some(*number)),
    };
    let width = if index.track.codec == "hevc" { length_bytes(&index.container) } else { None };
    let mut previous = None;
    for (&place, rank) in excerpt.samples.iter().zip(excerpt.ranks(index)) {
        let Sample { offset, size, key, .. } = index.samples[place];
        if let Some(number) = track {
            file.extend(cluster(number, rank, key, size));
        }
        let before = file.len();
        source.append(offset, size as usize, &mut file)?;
        if file.len() - before != size as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let gap = excerpt.keys_only || previous.is_some_and(|previous| place > previous + 1);
        if let Some(width) = width.filter(|_| gap) {
            restart(&mut file[before..], width);
        }
        previous = Some(place);
    }
    Ok(file)
}

/// Bytes of the length of a unit in an HEVC frame, from the box `hvcC` or from Matroska's private data.
fn length_bytes(container: &Container) -> Option<usize> {
    let configuration = match container {
        Container::Mp4(description) => {
            let at = description.windows(4).position(|kind| kind == b"hvcC")?;
            description.get(at + 4..)?
        }
        Container::Matroska { entry, .. } => ebml::find(entry, CODEC_PRIVATE)?,
    };
    Some(usize::from(configuration.get(21)? & 3) + 1)
}

/// Makes a key frame of HEVC the start of a sequence, by the kind of its units that is meant for cuts.
///
/// A decoder orders frames by a number modulo a power of two, which continues at most key frames. After a gap of
/// more than half of that it would take the key frame for an earlier one.
fn restart(frame: &mut [u8], width: usize) {
    const CLEAN_RANDOM_ACCESS: u8 = 21;
    const BROKEN_LINK_ACCESS: u8 = 16;
    let mut rest = frame;
    while let Some((length, units)) = rest.split_at_mut_checked(width) {
        let length = length.iter().fold(0, |number, &byte| (number << 8) | usize::from(byte));
        let Some((unit, after)) = units.split_at_mut_checked(length) else { break };
        if let Some(head) = unit.first_mut()
            && *head >> 1 & 0x3f == CLEAN_RANDOM_ACCESS
        {
            *head = *head & 0x81 | BROKEN_LINK_ACCESS << 1;
        }
        rest = after;
    }
}

/// The start of an MP4 file, up to its frames.
fn mp4(excerpt: &Excerpt, index: &Index, description: &[u8]) -> Vec<u8> {
    let mut file = boxed(b"ftyp", &[b"isom\0\0\0\0isom"]);
    let length = moov(excerpt, index, description, 0).len();
    file.extend(moov(excerpt, index, description, (file.len() + length + 8) as u32));
    file.extend((excerpt.bytes(index) as u32 + 8).to_be_bytes());
    file.extend(b"mdat");
    file
}

/// The index of an excerpt with its frames at an offset.
fn moov(excerpt: &Excerpt, index: &Index, description: &[u8], offset: u32) -> Vec<u8> {
    /// Arbitrary: the ticks are counted, not timed.
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
    // One chunk holds all frames.
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

/// The start of a Matroska file of one track, up to its frames.
fn matroska(entry: &[u8]) -> Vec<u8> {
    // Version 4, which some codecs need; a reader of version 2 is enough.
    let header = element(
        0x1a45_dfa3,
        &[&element(0x4282, &[b"matroska"]), &[0x42, 0x87, 0x81, 4, 0x42, 0x85, 0x81, 2]],
    );
    // Its length is unknown: it extends to the end of the file.
    let segment = [0x18, 0x53, 0x80, 0x67, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    // Ticks of a millisecond.
    let info = element(0x1549_a966, &[&[0x2a, 0xd7, 0xb1, 0x83, 0x0f, 0x42, 0x40]]);
    let tracks = element(0x1654_ae6b, &[&element(0xae, &[entry])]);
    [&header[..], &segment, &info, &tracks].concat()
}

/// The bytes before a frame of a Matroska file: the start of a cluster and a block.
fn cluster(track: u8, rank: i64, key: bool, size: u32) -> Vec<u8> {
    let time = element(0xe7, &[&rank.to_be_bytes()]);
    // Number of the track, time relative to the cluster, flags.
    let block = [0x80 | track, 0, 0, if key { 0x80 } else { 0 }];
    let length = |size: usize| (size as u64 | 1 << 56).to_be_bytes();
    let block = [&[0xa3][..], &length(block.len() + size as usize), &block].concat();
    let whole = time.len() + block.len() + size as usize;
    [&[0x1f, 0x43, 0xb6, 0x75][..], &length(whole), &time, &block].concat()
}

#[cfg(test)]
mod tests {
    use super::super::track::Track;
    use super::*;

    #[test]
    fn frames_are_copied_in_decoding_order() {
        let samples = (0..20).map(|n| Sample { offset: n as u64 * 2, size: 2, key: n % 10 == 0, at: n });
        let index = Index {
            track: Track::new("h264".into(), (64, 48), (1, 1)).expect("a size"),
            container: Container::Mp4(b"\0\0\0\x08stsd".to_vec()),
            timescale: 10,
            shown: 0..20,
            samples: samples.collect(),
        };
        let bytes: Vec<u8> = (0..40).collect();
        let excerpt = Excerpt::choose(&index, 2).expect("there is one");
        let file =
            write(&excerpt, &index, &mut Source::new(&mut io::Cursor::new(&bytes), 40)).expect("written");
        assert!(file.ends_with(&[b'm', b'd', b'a', b't', 0, 1, 20, 21]), "{}", file.escape_ascii());
        let short = write(&excerpt, &index, &mut Source::new(&mut io::Cursor::new(&bytes[..21]), 40));
        assert_eq!(short.expect_err("cut short").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn only_the_units_of_a_key_frame_restart_a_sequence() {
        let mut frame = [0, 2, 0x4e, 1, 0, 3, 0x2a, 1, 9, 0, 2, 0x2b, 1, 0, 9, 0x2a];
        restart(&mut frame, 2);
        assert_eq!(frame, [0, 2, 0x4e, 1, 0, 3, 0x20, 1, 9, 0, 2, 0x21, 1, 0, 9, 0x2a]);
        // Bytes that are no units stay as they are.
        for (mut bytes, width) in [(vec![], 4), (vec![0x2a; 3], 4), (vec![0xff; 9], 4), (vec![0; 9], 1)] {
            let before = bytes.clone();
            restart(&mut bytes, width);
            assert_eq!(bytes, before);
        }
    }
}
