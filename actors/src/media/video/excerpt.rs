//! Chooses a few frames of a video, with the other frames that are needed to decode them.
//!
//! The duration of a video is cut into one span for each wanted frame. A key frame is taken from each span if
//! it has one, as it needs no other frame; otherwise the first frame of the span, with all frames since the
//! key frame before it.

use std::collections::BTreeSet;

use super::index::{Container, Index, Sample};
use super::sampling::{MAX_DECODED, SPARE, spans};

/// Most bytes of an excerpt.
const MAX_BYTES: u64 = 48 << 20;

/// The frames of a video that are in an excerpt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Excerpt {
    /// All frames of the excerpt as indices in [`Index::samples`], in decoding order.
    pub(super) samples: Vec<usize>,
    /// The spans from which one frame each is wanted: first and last rank among the frames of the excerpt,
    /// sorted by time.
    pub(super) wanted: Vec<(i64, i64)>,
    /// The time of each frame of the excerpt, in ticks, sorted.
    pub(super) times: Vec<i64>,
    /// It consists of key frames only.
    pub(super) keys_only: bool,
    /// The time of a frame in the excerpt minus its rank.
    pub(super) delay: i64,
}

impl Excerpt {
    /// Chooses up to `count` frames, spread over the shown part of the video. Returns `None` if not even one
    /// frame is small enough.
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
                // Without a key frame before it, all frames before it are tried.
                let from = before.iter().rposition(|sample| sample.key).unwrap_or(0);
                dear.push((place - from, from, place, (sample.at, end - 1)));
            }
        }
        let mut bytes: u64 = chosen.iter().map(|&place| u64::from(index.samples[place].size)).sum();
        let keys_only = dear.is_empty();
        // The cheapest first, to get as many frames as possible of a video with few key frames.
        dear.sort_unstable();
        for (_, from, place, span) in dear {
            let until = (place + SPARE).min(index.samples.len() - 1);
            let more: Vec<usize> = (from..=until).filter(|it| !chosen.contains(it)).collect();
            bytes += more.iter().map(|&place| u64::from(index.samples[place].size)).sum::<u64>();
            if chosen.len() + more.len() > MAX_DECODED || bytes > MAX_BYTES {
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
        // An MP4 file cannot show a frame before it is decoded.
        if let Container::Mp4(_) = index.container {
            let late = excerpt.ranks(index).iter().zip(0..).map(|(rank, i)| i - rank).max();
            excerpt.delay = late.unwrap_or(0);
        }
        excerpt
    }

    /// The rank of each frame by time; frames of equal time keep their order.
    pub(super) fn ranks(&self, index: &Index) -> Vec<i64> {
        let mut by_time: Vec<usize> = (0..self.samples.len()).collect();
        by_time.sort_by_key(|&i| (index.samples[self.samples[i]].at, i));
        let mut ranks = vec![0; self.samples.len()];
        by_time.into_iter().zip(0..).for_each(|(i, rank)| ranks[i] = rank);
        ranks
    }

    /// Bytes of all frames of the excerpt.
    pub(super) fn bytes(&self, index: &Index) -> u64 {
        self.samples.iter().map(|&place| u64::from(index.samples[place].size)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::super::track::Track;
    use super::*;

    /// Ten frames a second of `size` bytes each, with a key frame every `every` frames.
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
    fn a_span_without_a_key_frame_gives_its_first_frame_with_those_that_it_needs() {
        // Key frames are at 0 and 80: the spans at 20, 40 and 60 need all since the first, the span at 100
        // all since the second.
        assert_eq!(choose(&index(120, 80, 1), 6), (vec![0, 20, 40, 60, 80, 100], 65 + 25));
    }

    #[test]
    fn frames_that_cost_too_much_are_left_out_and_the_rest_is_kept() {
        let (times, samples) = choose(&index(100_000, 100_000, 1), 10);
        assert_eq!((times, samples), (vec![0], 1));
        // Of frames of six MiB only a few fit.
        let (times, _) = choose(&index(600, 10, 6 << 20), 10);
        assert_eq!(times.len(), 5);
        assert_eq!(Excerpt::choose(&index(10, 1, 49 << 20), 1), None);
    }
}
