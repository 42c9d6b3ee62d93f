//! A few frames of a video, with the others that they need, as a small video of its own.
//!
//! The time of a video is cut into as many equal spans as frames are wanted. From each comes a key frame, if there is
//! one, as it needs no other; else the first frame of the span, with all from the key frame before it.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use super::index::{Container, Index, Sample};
use super::mux;
use super::source::Source;

/// Most frames that are decoded for the sake of those that are wanted: two minutes at 25 a second.
pub(super) const MAX_SAMPLES: usize = 3000;
/// Most bytes of an excerpt.
pub(super) const MAX_BYTES: u64 = 48 << 20;
/// Frames after a wanted one that go along, should the decoder leave that one out.
pub(super) const SPARE: usize = 4;

/// Which frames of a video go into an excerpt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Excerpt {
    /// All frames that go along, by their place in the index, in the order in which they are decoded.
    pub(super) samples: Vec<usize>,
    /// The spans from which one frame each is wanted, as ranks among the frames that go along when sorted by their time,
    /// the end included.
    pub(super) wanted: Vec<(i64, i64)>,
    /// The time of each frame that goes along, in ticks, sorted.
    pub(super) times: Vec<i64>,
    /// Only key frames go along.
    pub(super) keys_only: bool,
    /// By how much the time of a frame in the excerpt is higher than its rank.
    pub(super) delay: i64,
}

impl Excerpt {
    /// Chooses frames so that up to `count` of them can be had, spread over what is shown of the video. `None` if they are so
    /// large that not even one can be.
    pub(super) fn choose(index: &Index, count: usize) -> Option<Self> {
        let mut count = count.max(1);
        loop {
            let excerpt = Self::of_spans(index, count);
            if excerpt.bytes(index) <= MAX_BYTES {
                return Some(excerpt);
            }
            count = (count > 1).then_some(count / 2)?;
        }
    }

    fn of_spans(index: &Index, count: usize) -> Self {
        let spans = spans(&index.shown, index.timescale, count);
        let mut chosen = BTreeSet::new();
        let mut wanted = Vec::new();
        let mut dear = Vec::new();
        for &(start, end) in &spans {
            let middle = start + (end - start) / 2;
            let inside = |sample: &&(usize, &Sample)| (start..end).contains(&sample.1.at);
            let keys = index.samples.iter().enumerate().filter(|(_, sample)| sample.key);
            if let Some((place, key)) =
                keys.clone().filter(|it| inside(&it)).min_by_key(|(_, it)| it.at.abs_diff(middle))
            {
                chosen.insert(place);
                wanted.push((key.at, key.at));
            } else if let Some((place, sample)) = index.samples.iter().enumerate().find(|it| inside(&it)) {
                let before = &index.samples[..place];
                // Without a key frame before it, it is tried with all that there is.
                let from = before.iter().rposition(|sample| sample.key).unwrap_or(0);
                dear.push((place - from, from, place, (sample.at, end - 1)));
            }
        }
        let mut bytes: u64 = chosen.iter().map(|&place| u64::from(index.samples[place].size)).sum();
        let keys_only = dear.is_empty();
        // The cheapest first: of a video with few key frames as many as can be had.
        dear.sort_unstable();
        for (_, from, place, span) in dear {
            let until = (place + SPARE).min(index.samples.len() - 1);
            let more: Vec<usize> = (from..=until).filter(|it| !chosen.contains(it)).collect();
            bytes += more.iter().map(|&place| u64::from(index.samples[place].size)).sum::<u64>();
            if chosen.len() + more.len() > MAX_SAMPLES || bytes > MAX_BYTES {
                break;
            }
            chosen.extend(more);
            wanted.push(span);
        }
        Self::of(index, chosen.into_iter().collect(), wanted, keys_only)
    }

    fn of(index: &Index, samples: Vec<usize>, wanted: Vec<(i64, i64)>, keys_only: bool) -> Self {
        let mut times: Vec<i64> = samples.iter().map(|&place| index.samples[place].at).collect();
        times.sort_unstable();
        let rank = |at: i64| times.partition_point(|&it| it < at) as i64;
        let mut wanted: Vec<(i64, i64)> =
            wanted.into_iter().map(|(start, end)| (rank(start), rank(end + 1) - 1)).collect();
        wanted.sort_unstable();
        let mut excerpt = Self { samples, wanted, times, keys_only, delay: 0 };
        // In an MP4 file no frame is shown before it is decoded.
        if let Container::Mp4(_) = index.container {
            let late = excerpt.ranks(index).iter().zip(0..).map(|(rank, i)| i - rank).max();
            excerpt.delay = late.unwrap_or(0);
        }
        excerpt
    }

    /// The place of each frame among all when they are sorted by their time; those of the same time follow each other.
    pub(super) fn ranks(&self, index: &Index) -> Vec<i64> {
        let mut by_time: Vec<usize> = (0..self.samples.len()).collect();
        by_time.sort_by_key(|&i| (index.samples[self.samples[i]].at, i));
        let mut ranks = vec![0; self.samples.len()];
        by_time.into_iter().zip(0..).for_each(|(i, rank)| ranks[i] = rank);
        ranks
    }

    /// Bytes of the frames that go along.
    pub(super) fn bytes(&self, index: &Index) -> u64 {
        self.samples.iter().map(|&place| u64::from(index.samples[place].size)).sum()
    }

    /// Reads the frames out of the file and writes them behind an index of their own. The times in it are the ranks of the
    /// frames, one a tick.
    pub(super) fn write(&self, index: &Index, source: &mut Source<'_>) -> io::Result<Vec<u8>> {
        let (mut file, track) = match &index.container {
            Container::Mp4(description) => (mux::mp4(self, index, description), None),
            Container::Matroska { entry, number } => (mux::matroska(entry), Some(*number)),
        };
        for (&place, rank) in self.samples.iter().zip(self.ranks(index)) {
            let Sample { offset, size, key, .. } = index.samples[place];
            if let Some(number) = track {
                file.extend(mux::cluster(number, rank, key, size));
            }
            let before = file.len();
            source.append(offset, size as usize, &mut file)?;
            if file.len() - before != size as usize {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(file)
    }
}

/// The spans of time from which one frame each is wanted: a second each, or longer if so many seconds are fewer than there are.
pub(super) fn spans(shown: &Range<i64>, timescale: u32, count: usize) -> Vec<(i64, i64)> {
    let (start, end) = (i128::from(shown.start), i128::from(shown.end));
    let (second, count) = (i128::from(timescale), count as i128);
    let edge = |n: i128| (start + (second * n).max((end - start) * n / count)).min(end) as i64;
    (0..count).map(|n| (edge(n), edge(n + 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::track::Track;
    use super::*;

    /// Ten frames a second, a key frame every so many, `size` bytes each.
    fn index(frames: usize, every: usize, size: u32) -> Index {
        let samples = (0..frames).map(|n| Sample {
            offset: n as u64 * u64::from(size),
            size,
            key: n.is_multiple_of(every),
            at: n as i64,
        });
        Index {
            track: Track::new("h264".into(), (64, 48), (1, 1)).expect("a size"),
            container: Container::Mp4(b"\0\0\0\x08stsd".to_vec()),
            timescale: 10,
            shown: 0..frames as i64,
            samples: samples.collect(),
        }
    }

    fn choose(index: &Index, count: usize) -> (Vec<i64>, usize) {
        let excerpt = Excerpt::choose(index, count).expect("there is one");
        let times = excerpt.wanted.iter().map(|(first, _)| excerpt.times[*first as usize]).collect();
        (times, excerpt.samples.len())
    }

    #[test]
    fn key_frames_near_the_middles_of_the_spans_go_alone() {
        assert_eq!(choose(&index(600, 10, 1), 10), ((0..10).map(|n| n * 60 + 30).collect(), 10));
        assert_eq!(choose(&index(35, 5, 1), 4), (vec![5, 15, 25, 30], 4));
        assert_eq!(choose(&index(1, 1, 1), 1), (vec![0], 1));
    }

    #[test]
    fn a_span_without_a_key_frame_gives_its_first_with_those_that_it_needs() {
        // Key frames at 0 and 80: the spans at 20, 40 and 60 need all from the first on, that at 100 those from the second.
        assert_eq!(choose(&index(120, 80, 1), 6), (vec![0, 20, 40, 60, 80, 100], 65 + 25));
    }

    #[test]
    fn what_costs_too_much_is_left_out_and_the_rest_is_kept() {
        let (times, samples) = choose(&index(100_000, 100_000, 1), 10);
        assert_eq!((times, samples), (vec![0], 1));
        // Of frames of six MiB only a few fit.
        let (times, _) = choose(&index(600, 10, 6 << 20), 10);
        assert_eq!(times.len(), 5);
        assert_eq!(Excerpt::choose(&index(10, 1, 49 << 20), 1), None);
    }

    #[test]
    fn frames_are_taken_out_of_the_file_in_the_order_of_decoding() {
        let index = index(20, 10, 2);
        let bytes: Vec<u8> = (0..40).collect();
        let excerpt = Excerpt::choose(&index, 2).expect("there is one");
        let file =
            excerpt.write(&index, &mut Source::new(&mut io::Cursor::new(&bytes), 40)).expect("written");
        assert!(file.ends_with(&[b'm', b'd', b'a', b't', 0, 1, 20, 21]), "{}", file.escape_ascii());
        let short = excerpt.write(&index, &mut Source::new(&mut io::Cursor::new(&bytes[..21]), 40));
        assert_eq!(short.expect_err("cut short").kind(), io::ErrorKind::UnexpectedEof);
    }
}
