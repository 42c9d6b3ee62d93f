//! A class of objects in a sentence: how many, and in a video when.

use super::{english::number, times::when};
use crate::analysis::builtin::{
    detector::{Area, Detection},
    labels::{Form, Label},
};

/// A class of objects that a picture or video shows.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenObject {
    /// The class.
    pub label: &'static Label,
    /// Number of objects.
    pub count: Count,
    /// Whether the class is certain; otherwise it is possible.
    pub certain: bool,
    /// Numbers of the frames that show it, ascending from 0.
    pub frames: Vec<usize>,
}

/// Number of objects of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// This many, at least 1.
    Exactly(u32),
    /// This many were detected, with signs of more.
    AtLeast(u32),
    /// This many in the frame of a video that shows the most; 2 or more.
    UpTo(u32),
    /// More than a few that overlap or lie in a stack.
    Several,
}

impl Count {
    /// Counts the objects in one picture.
    pub fn of(detection: &Detection) -> Self {
        let boxes = &detection.boxes;
        let n = u32::try_from(boxes.len()).unwrap_or(u32::MAX).max(1);
        let touching = |area: &&Area| boxes.iter().any(|other| other != *area && other.overlap(area) > 0.15);
        let crowded = || boxes.iter().filter(touching).count() * 2 >= boxes.len();
        match n {
            // In a crowd of this size, the detector misses some.
            11.. => Self::AtLeast(n),
            4.. if detection.label.stacked || crowded() => Self::Several,
            _ if detection.more => Self::AtLeast(n),
            _ => Self::Exactly(n),
        }
    }

    /// The count for a whole video, from the counts in the frames that show the class.
    pub fn over(counts: &[Self]) -> Self {
        let most = counts.iter().copied().max_by_key(|count| count.rank()).unwrap_or(Self::Exactly(1));
        match most {
            _ if counts.iter().all(|count| *count == most) => most,
            Self::Exactly(0 | 1) | Self::AtLeast(0 | 1) => Self::Exactly(1),
            Self::Exactly(n) | Self::UpTo(n) => Self::UpTo(n),
            Self::AtLeast(_) | Self::Several => Self::Several,
        }
    }

    fn rank(self) -> (u32, u8) {
        match self {
            Self::Several => (4, 0),
            Self::Exactly(n) => (n, 0),
            Self::UpTo(n) => (n, 1),
            Self::AtLeast(n) => (n, 2),
        }
    }
}

impl SeenObject {
    /// `a dog`, `at least two people`; in a video also when: `two dogs from about second 4`. `seconds` has
    /// the times of all frames of a video, and is empty for a still picture.
    pub(super) fn phrase(&self, seconds: &[f64]) -> String {
        let label = self.label;
        let counted = match self.count {
            _ if label.form == Form::Mass => label.one(),
            Count::Exactly(0 | 1) | Count::UpTo(0 | 1) => label.one(),
            Count::Exactly(n) => format!("{} {}", number(n.into()), label.plural),
            Count::AtLeast(0 | 1) => format!("at least one {}", label.single()),
            Count::AtLeast(n) => format!("at least {} {}", number(n.into()), label.plural),
            Count::UpTo(n) => format!("up to {} {}", number(n.into()), label.plural),
            Count::Several => format!("several {}", label.plural),
        };
        match when(&self.frames, seconds) {
            Some(when) => format!("{counted} {when}"),
            None => counted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::builtin::labels::LABELS;

    fn label(name: &str) -> &'static Label {
        LABELS.iter().find(|label| label.name == name).expect(name)
    }

    /// A detection with `n` boxes, 10 pixels wide and `step` pixels apart.
    fn detection(name: &str, n: usize, step: f32, more: bool) -> Detection {
        let boxes = (0..n)
            .map(|i| i as f32 * step)
            .map(|left| Area { left, top: 0.0, right: left + 10.0, bottom: 10.0 })
            .collect();
        Detection { label: label(name), score: 0.7, certain: true, boxes, more }
    }

    #[test]
    fn crowds_and_stacks_are_not_counted() {
        for (name, n, step, expected) in [
            ("person", 0, 20.0, Count::Exactly(1)),
            ("person", 10, 20.0, Count::Exactly(10)),
            ("person", 11, 20.0, Count::AtLeast(11)),
            ("person", 3, 4.0, Count::Exactly(3)),
            ("person", 6, 4.0, Count::Several),
            ("book", 3, 20.0, Count::Exactly(3)),
            ("book", 4, 20.0, Count::Several),
        ] {
            assert_eq!(Count::of(&detection(name, n, step, false)), expected);
        }
    }

    #[test]
    fn signs_of_more_make_the_count_a_lower_bound() {
        for (name, n, step, expected) in [
            ("person", 1, 20.0, Count::AtLeast(1)),
            ("person", 3, 20.0, Count::AtLeast(3)),
            ("person", 6, 4.0, Count::Several),
        ] {
            assert_eq!(Count::of(&detection(name, n, step, true)), expected);
        }
    }

    #[test]
    fn counts_that_differ_between_frames_become_an_upper_bound() {
        use Count::{AtLeast, Exactly, Several, UpTo};
        for (counts, expected) in [
            (&[Exactly(2), Exactly(2)][..], Exactly(2)),
            (&[Exactly(1), Exactly(3), Exactly(2)], UpTo(3)),
            (&[AtLeast(1), Exactly(1)], Exactly(1)),
            (&[AtLeast(2), AtLeast(2)], AtLeast(2)),
            (&[AtLeast(12), Exactly(1)], Several),
            (&[Several, Exactly(2)], Several),
            (&[], Exactly(1)),
        ] {
            assert_eq!(Count::over(counts), expected, "{counts:?}");
        }
    }

    #[test]
    fn counts_are_written_in_words() {
        for (name, count, expected) in [
            ("dog", Count::Exactly(1), "a dog"),
            ("dog", Count::Exactly(2), "two dogs"),
            ("dog", Count::AtLeast(1), "at least one dog"),
            ("person", Count::AtLeast(12), "at least 12 people"),
            ("person", Count::UpTo(3), "up to three people"),
            ("sheep", Count::Several, "several sheep"),
            ("skis", Count::Exactly(1), "a pair of skis"),
            ("skis", Count::AtLeast(1), "at least one pair of skis"),
            ("scissors", Count::Exactly(2), "two pairs of scissors"),
            ("orange", Count::AtLeast(1), "at least one orange (fruit)"),
            ("broccoli", Count::AtLeast(2), "some broccoli"),
        ] {
            let seen = SeenObject { label: label(name), count, certain: true, frames: vec![0] };
            assert_eq!(seen.phrase(&[]), expected);
        }
    }
}
