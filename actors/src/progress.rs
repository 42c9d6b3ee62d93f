//! The table of stages, and progress in percent from step and time. Pure.
//!
//! All messages share one scale: 0 accepted, 5 reading, 10 to 75 describing, 75 to 90 embedding, 100 ended.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use crate::{media::Kind, upload::Stage};

/// Percentage of an upload that completed, failed or was cancelled.
pub const ENDED: u8 = 100;
/// Number of uploads in a mean.
const RECENT: usize = 20;

/// A row of the table of stages.
struct Row {
    /// The step of an attempt to which the stage belongs; `None` while no worker has the upload.
    step: Option<Step>,
    /// The stage in a word, as the page shows it.
    label: &'static str,
    /// The work of the stage, in a few words.
    message: &'static str,
}

/// The table of stages: everything that depends on the stage alone.
const fn row(stage: Stage) -> Row {
    let (step, label, message) = match stage {
        Stage::Queued => (None, "waiting", "waiting for a worker"),
        Stage::ExtractingFrames => (Some(Step::Reading), "reading", "reading the file"),
        Stage::VisionAnalysis => (Some(Step::Describing), "describing", "describing the picture"),
        Stage::DescriptionAudit => {
            (Some(Step::Describing), "checking", "checking the description, and asking for a better one")
        }
        Stage::EmbeddingGeneration => {
            (Some(Step::Embedding), "indexing", "embedding the description for the search")
        }
        Stage::Indexing => (Some(Step::Embedding), "finishing", "writing the result"),
        Stage::Completed => (None, "completed", "completed"),
        Stage::Failed => (None, "failed", "failed"),
    };
    Row { step, label, message }
}

impl Stage {
    /// The stage in a word, for people: `describing`.
    pub fn label(self) -> &'static str {
        row(self).label
    }

    /// The work of the stage in a few words, for people.
    pub fn message(self) -> &'static str {
        row(self).message
    }
}

/// A part of an attempt that takes measurable time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading the file, and making its thumbnail and vision input.
    Reading,
    /// Describing it, again if the audit failed.
    Describing,
    /// Embedding the description, and writing the result.
    Embedding,
}

impl Step {
    /// The step that a stage belongs to; `None` while no worker has the upload.
    pub fn of(stage: Stage) -> Option<Self> {
        row(stage).step
    }

    /// The percentages at its beginning and at its end.
    pub fn range(self) -> (u8, u8) {
        match self {
            Self::Reading => (5, 5),
            Self::Describing => (10, 75),
            Self::Embedding => (75, 90),
        }
    }

    /// The percentage after `busy` in this step, in proportion to the `mean` duration of recent uploads.
    /// Without a mean it grows by two points per `tick`; describing slows down to one point per second from
    /// 50 on.
    pub fn percent(self, busy: Duration, mean: Option<Duration>, tick: Duration) -> u8 {
        let (from, to) = self.range();
        let points = match mean {
            Some(mean) if mean.is_zero() => u128::from(to - from),
            Some(mean) => u128::from(to - from) * busy.as_nanos() / mean.as_nanos(),
            None => {
                let tick = tick.max(Duration::from_millis(1)).as_nanos();
                let slow_from: u128 = if self == Self::Describing { 40 } else { u128::MAX };
                let points = 2 * (busy.as_nanos() / tick);
                if points <= slow_from {
                    points
                } else {
                    let fast = slow_from / 2 * tick;
                    slow_from + (busy.as_nanos() - fast) / Duration::from_secs(1).as_nanos()
                }
            }
        };
        from + points.min(u128::from(to - from)) as u8
    }
}

/// The progress of one attempt. Its percentage never decreases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Number of the attempt.
    pub attempt: u32,
    /// The last percentage that was reported.
    percent: u8,
    /// Its step, and when that began.
    step: Option<(Step, Timestamp)>,
}

impl Track {
    /// The progress of an attempt that has just begun.
    pub fn new(attempt: u32) -> Self {
        Self { attempt, percent: 0, step: None }
    }

    /// Records that the attempt has been in `stage` since `since`. Returns its percentage if that increased.
    pub fn advance(
        &mut self,
        stage: Stage,
        since: Timestamp,
        now: Timestamp,
        means: &Means,
        kind: Kind,
        tick: Duration,
    ) -> Option<u8> {
        let step = Step::of(stage)?;
        // A step of two stages begins with the first.
        let (_, since) = *self.step.insert(self.step.filter(|it| it.0 == step).unwrap_or((step, since)));
        let busy = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        self.rise(step.percent(busy, means.of(kind, step), tick))
    }

    /// Records a percentage that was reported elsewhere. Returns it if it is higher than the last one.
    pub fn rise(&mut self, percent: u8) -> Option<u8> {
        (percent > self.percent).then(|| {
            self.percent = percent;
            percent
        })
    }
}

/// The durations of the steps of recent uploads.
#[derive(Debug, Default)]
pub struct Means {
    image: [Recent; 2],
    video: [Recent; 2],
}

impl Means {
    /// Records the duration of a step.
    pub fn note(&mut self, kind: Kind, step: Step, took: Duration) {
        let [describing, embedding] = match kind {
            Kind::Image => &mut self.image,
            Kind::Video => &mut self.video,
        };
        match step {
            Step::Reading => {}
            Step::Describing => describing.note(took),
            Step::Embedding => embedding.note(took),
        }
    }

    /// The mean duration of a step over the last twenty uploads of a kind; `None` before the first.
    pub fn of(&self, kind: Kind, step: Step) -> Option<Duration> {
        let [describing, embedding] = match kind {
            Kind::Image => &self.image,
            Kind::Video => &self.video,
        };
        match step {
            Step::Reading => None,
            Step::Describing => describing.mean(),
            Step::Embedding => embedding.mean(),
        }
    }
}

#[derive(Debug, Default)]
struct Recent(VecDeque<Duration>);

impl Recent {
    fn note(&mut self, took: Duration) {
        if self.0.len() == RECENT {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    fn mean(&self) -> Option<Duration> {
        let sum: Duration = self.0.iter().sum();
        sum.checked_div(self.0.len() as u32)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(300);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millisecond(ms as i64).expect("in range")
    }

    #[test]
    fn percent_follows_step_and_time() {
        let ms = Duration::from_millis;
        for (step, busy, mean, percent) in [
            (Step::Reading, 0, None, 5),
            (Step::Reading, 90_000, Some(1), 5),
            (Step::Describing, 0, None, 10),
            (Step::Describing, 299, None, 10),
            (Step::Describing, 300, None, 12),
            (Step::Describing, 5_999, None, 48),
            (Step::Describing, 6_000, None, 50),
            (Step::Describing, 6_999, None, 50),
            (Step::Describing, 7_000, None, 51),
            (Step::Describing, 30_999, None, 74),
            (Step::Describing, 31_000, None, 75),
            (Step::Describing, 3_600_000, None, 75),
            (Step::Describing, 0, Some(1_000), 10),
            (Step::Describing, 500, Some(1_000), 42),
            (Step::Describing, 1_000, Some(1_000), 75),
            (Step::Describing, 9_000, Some(1_000), 75),
            (Step::Describing, 0, Some(0), 75),
            (Step::Embedding, 0, None, 75),
            (Step::Embedding, 2_100, None, 89),
            (Step::Embedding, 2_400, None, 90),
            (Step::Embedding, 900, Some(1_000), 88),
            (Step::Embedding, 9_000, Some(1_000), 90),
        ] {
            assert_eq!(step.percent(ms(busy), mean.map(ms), TICK), percent, "{step:?} {busy} {mean:?}");
        }
    }

    #[test]
    fn the_second_stage_of_a_step_counts_from_the_first() {
        let (mut track, means) = (Track::new(1), Means::default());
        let mut advance =
            |stage, since, now| track.advance(stage, at(since), at(now), &means, Kind::Image, TICK);
        assert_eq!(advance(Stage::ExtractingFrames, 0, 0), Some(5));
        assert_eq!(advance(Stage::ExtractingFrames, 0, 9_000), None);
        assert_eq!(advance(Stage::VisionAnalysis, 9_000, 9_000), Some(10));
        assert_eq!(advance(Stage::DescriptionAudit, 12_000, 12_000), Some(30));
        assert_eq!(advance(Stage::Queued, 12_000, 12_000), None);
    }

    #[test]
    fn a_mean_is_of_the_last_twenty_uploads_of_its_kind() {
        let mut means = Means::default();
        assert_eq!(means.of(Kind::Image, Step::Describing), None);
        for ms in (0..20).map(|_| 1_000).chain([3_000; 10]) {
            means.note(Kind::Image, Step::Describing, Duration::from_millis(ms));
        }
        assert_eq!(means.of(Kind::Image, Step::Describing), Some(Duration::from_secs(2)));
        assert_eq!(means.of(Kind::Image, Step::Embedding), None);
        assert_eq!(means.of(Kind::Video, Step::Describing), None);
    }

    proptest! {
        #[test]
        fn a_percent_never_falls_within_an_attempt_whatever_clock_and_means_do(
            ticks in prop::collection::vec((0_usize..5, 0_u64..40_000, 0_u64..40_000,
            prop::option::of(0_u64..9_000)), 0..60),
        ) {
            const STAGES: [Stage; 5] = [
                Stage::ExtractingFrames, Stage::VisionAnalysis, Stage::DescriptionAudit,
                Stage::EmbeddingGeneration, Stage::Indexing,
            ];
            let (mut track, mut means, mut last) = (Track::new(1), Means::default(), 0);
            for (stage, since, now, took) in ticks {
                if let Some(took) = took {
                    means.note(Kind::Image, Step::Describing, Duration::from_millis(took));
                }
                if let Some(percent) = track.advance(STAGES[stage], at(since), at(now), &means, Kind::Image,
                TICK) {
                    prop_assert!(percent > last && percent <= 90);
                    last = percent;
                }
            }
        }
    }
}
