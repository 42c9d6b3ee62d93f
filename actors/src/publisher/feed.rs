//! State shared by all subscribers of one owner: recent events, percentages, and the queue of those that need
//! the log.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{Percentage, RenderedEvent, SubscriberId};
use crate::{
    id::UploadId,
    progress::Step,
    upload::{Status, Upload},
};

/// Largest number of recent events. A subscriber that needs older ones is fed from the log.
const MAX_RECENT: usize = 128;

#[derive(Default)]
pub(super) struct Feed {
    pub(super) subscribers: BTreeSet<SubscriberId>,
    /// Subscribers that need a page of the log, in order.
    pub(super) queue: VecDeque<SubscriberId>,
    /// A page of the log is being read.
    pub(super) reading: bool,
    /// Forwarded events that some live subscriber has not been sent, without gaps. They end with event
    /// `last`.
    recent: VecDeque<RenderedEvent>,
    /// Number of the newest known event; 0 if there is none.
    last: u64,
    /// Attempt and percentage of uploads, as shown to subscribers since the last event of each.
    percentages: HashMap<UploadId, (u32, u8)>,
}

impl Feed {
    /// Adds forwarded events, of which some may be known. `newest` says how far the log goes; events that are
    /// missing before it are left to the log.
    pub(super) fn append(&mut self, events: Vec<RenderedEvent>, newest: u64) {
        for event in events {
            if event.seq <= self.last {
                continue;
            }
            if event.seq > self.last + 1 {
                self.recent.clear();
            }
            self.last = event.seq;
            if let Some(upload) = event.upload {
                self.percentages.remove(&upload);
            }
            self.recent.push_back(event);
        }
        if self.last < newest {
            self.recent.clear();
            self.last = newest;
        }
        let surplus = self.recent.len().saturating_sub(MAX_RECENT);
        self.recent.drain(..surplus);
    }

    /// Number of the newest known event; 0 if there is none.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The known events after `cursor`; `None` if some of them can only be read from the log.
    pub(super) fn after(&self, cursor: u64) -> Option<impl Iterator<Item = &RenderedEvent>> {
        let first = self.recent.front().map_or(self.last + 1, |event| event.seq);
        let skip = (cursor + 1).checked_sub(first)?;
        Some(self.recent.iter().skip(skip as usize))
    }

    /// Drops the events up to `cursor`.
    pub(super) fn drop_through(&mut self, cursor: u64) {
        while self.recent.front().is_some_and(|event| event.seq <= cursor) {
            self.recent.pop_front();
        }
    }

    /// Notes a percentage that is about to be shown. Returns `false` if a higher one was shown, so that this
    /// one is out of date.
    pub(super) fn note_percentage(&mut self, it: &Percentage) -> bool {
        self.raise(it.upload, it.attempt, it.percent)
    }

    /// Returns the percentage of an upload, as far as known, and notes it as shown.
    pub(super) fn show_percent(&mut self, upload: &Upload) -> u8 {
        let from = match upload.status {
            Status::Analyzing | Status::Embedding => Step::of(upload.stage).map_or(0, |step| step.range().0),
            Status::Pending | Status::Completed | Status::Failed | Status::Cancelled => return 0,
        };
        let shown = self.percentages.get(&upload.id).filter(|(attempt, _)| *attempt == upload.attempt);
        let percent = shown.map_or(from, |(_, percent)| from.max(*percent));
        self.raise(upload.id, upload.attempt, percent);
        percent
    }

    fn raise(&mut self, upload: UploadId, attempt: u32, percent: u8) -> bool {
        let shown = self.percentages.entry(upload).or_insert((attempt, percent));
        let falls = shown.0 == attempt && percent < shown.1;
        if !falls {
            *shown = (attempt, percent);
        }
        !falls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(seqs: impl IntoIterator<Item = u64>) -> Vec<RenderedEvent> {
        seqs.into_iter()
            .map(|seq| RenderedEvent { seq, upload: None, provider_changed: false, messages: Vec::new() })
            .collect()
    }

    fn after(feed: &Feed, cursor: u64) -> Option<Vec<u64>> {
        feed.after(cursor).map(|it| it.map(|event| event.seq).collect())
    }

    #[test]
    fn events_after_a_cursor_are_complete_or_left_to_the_log() {
        let mut feed = Feed::default();
        assert_eq!(after(&feed, 0), Some(vec![]));
        assert_eq!(after(&feed, 7), Some(vec![]));
        feed.append(events(5..9), 8);
        feed.append(events(7..10), 9);
        assert_eq!(after(&feed, 4), Some(vec![5, 6, 7, 8, 9]));
        assert_eq!(after(&feed, 8), Some(vec![9]));
        assert_eq!(after(&feed, 9), Some(vec![]));
        assert_eq!(after(&feed, 12), Some(vec![]), "the log was ahead of the monitor");
        assert_eq!(after(&feed, 3), None);
    }

    #[test]
    fn dropped_events_are_left_to_the_log() {
        let mut feed = Feed::default();
        feed.append(events(5..10), 9);
        feed.drop_through(9);
        assert_eq!((after(&feed, 9), after(&feed, 8)), (Some(vec![]), None));
    }

    #[test]
    fn events_that_were_not_forwarded_are_left_to_the_log() {
        let mut feed = Feed::default();
        feed.append(events(5..10), 9);
        feed.append(events([12]), 12);
        assert_eq!((after(&feed, 9), after(&feed, 11)), (None, Some(vec![12])));
        feed.append(Vec::new(), 14);
        assert_eq!((after(&feed, 12), after(&feed, 14)), (None, Some(vec![])));
        feed.append(events(13..16), 15);
        assert_eq!((after(&feed, 12), after(&feed, 14)), (None, Some(vec![15])));
    }

    #[test]
    fn more_events_than_the_limit_are_left_to_the_log() {
        let mut feed = Feed::default();
        let newest = MAX_RECENT as u64 + 1;
        feed.append(events(1..=newest), newest);
        assert_eq!((after(&feed, 0), after(&feed, 1).map(|it| it.len())), (None, Some(MAX_RECENT)));
    }
}
