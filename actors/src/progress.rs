//! Step and time to percent. Pure.
//!
//! One scale for all messages: 0 accepted, 5 thumbnail begun, 10 to 75 describing, 75 to 90 embedding, 100 ended.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;

use crate::{media::Kind, upload::Stage};

/// Uploads that a mean is taken of.
const RECENT: usize = 20;

/// What takes its time within an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The file is read, and thumbnail and vision input are made.
    Reading,
    /// It is described, and perhaps once more after the audit.
    Describing,
    /// Its description is embedded, and everything is written.
    Embedding,
}

impl Step {
    /// The step that a stage belongs to; `None` while no worker has the upload.
    pub fn of(stage: Stage) -> Option<Self> {
        match stage {
            Stage::ExtractingFrames => Some(Self::Reading),
            Stage::VisionAnalysis | Stage::DescriptionAudit => Some(Self::Describing),
            Stage::EmbeddingGeneration | Stage::Indexing => Some(Self::Embedding),
            Stage::Queued | Stage::Completed | Stage::Failed => None,
        }
    }

    /// The percent that it begins with and the one that it does not pass.
    pub fn range(self) -> (u8, u8) {
        match self {
            Self::Reading => (5, 5),
            Self::Describing => (10, 75),
            Self::Embedding => (75, 90),
        }
    }

    /// The percent after `busy` in this step: in proportion to the `mean` of recent uploads. Until there is one, two points for each
    /// `tick`; describing gets slower from 50 on, at one point a second.
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

/// How far one attempt is. Its percent never falls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Number of the attempt.
    pub attempt: u32,
    /// The last percent that was told.
    percent: u8,
    /// The step that it is in, and since when.
    step: Option<(Step, Timestamp)>,
}

impl Track {
    /// An attempt that a worker just accepted.
    pub fn new(attempt: u32) -> Self {
        Self { attempt, percent: 0, step: None }
    }

    /// Takes note of the stage that it is in since `since`. Answers with its percent if that rose.
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
        // A step of two stages counts from its first.
        let (_, since) = *self.step.insert(self.step.filter(|it| it.0 == step).unwrap_or((step, since)));
        let busy = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        self.rise(step.percent(busy, means.of(kind, step), tick))
    }

    /// Takes note of a percent that was told otherwise. Answers with it if it is higher than the last.
    pub fn rise(&mut self, percent: u8) -> Option<u8> {
        (percent > self.percent).then(|| {
            self.percent = percent;
            percent
        })
    }
}

/// How long the steps of recent uploads took.
#[derive(Debug, Default)]
pub struct Means {
    image: [Recent; 2],
    video: [Recent; 2],
}

impl Means {
    /// Takes note of how long a step took.
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

    /// The mean of a step over the last twenty uploads of a kind, if there is any.
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
            ticks in prop::collection::vec((0_usize..5, 0_u64..40_000, 0_u64..40_000, prop::option::of(0_u64..9_000)), 0..60),
        ) {
            const STAGES: [Stage; 5] = [
                Stage::ExtractingFrames, Stage::VisionAnalysis, Stage::DescriptionAudit, Stage::EmbeddingGeneration, Stage::Indexing,
            ];
            let (mut track, mut means, mut last) = (Track::new(1), Means::default(), 0);
            for (stage, since, now, took) in ticks {
                if let Some(took) = took {
                    means.note(Kind::Image, Step::Describing, Duration::from_millis(took));
                }
                if let Some(percent) = track.advance(STAGES[stage], at(since), at(now), &means, Kind::Image, TICK) {
                    prop_assert!(percent > last && percent <= 90);
                    last = percent;
                }
            }
        }
    }
}
