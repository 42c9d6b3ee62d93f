//! What all subscribers of one owner share: its newest events, and the queue for its log.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{Percentage, RenderedEvent, SubscriberId};
use crate::{
    id::UploadId,
    progress::Step,
    upload::{Status, Upload},
};

/// Most events that are kept for those who are about to take them; who is slower is fed from the log.
const MOST_RECENT: usize = 128;

#[derive(Default)]
pub(super) struct Feed {
    pub(super) subscribers: BTreeSet<SubscriberId>,
    /// Subscribers that wait for a page of the log.
    pub(super) queue: VecDeque<SubscriberId>,
    /// A page of the log is being read.
    pub(super) reading: bool,
    /// The newest events, as far as somebody who keeps up has not taken them; without gaps.
    recent: VecDeque<RenderedEvent>,
    /// Number of the last event that was forwarded; 0: none yet.
    last: u64,
    /// Attempts and percentages that were told since the last event of their uploads.
    percentages: HashMap<UploadId, (u32, u8)>,
}

impl Feed {
    /// Takes what the monitor forwards. What is known already is passed over; a gap is left to the log.
    pub(super) fn append(&mut self, events: Vec<RenderedEvent>) {
        for told in events {
            if told.seq <= self.last {
                continue;
            }
            if told.seq > self.last + 1 {
                self.recent.clear();
            }
            self.last = told.seq;
            if let Some(upload) = told.upload {
                self.percentages.remove(&upload);
            }
            self.recent.push_back(told);
        }
        let surplus = self.recent.len().saturating_sub(MOST_RECENT);
        self.recent.drain(..surplus);
    }

    /// Number of the last event that was forwarded; 0: none yet.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// The events after `cursor`; `None` if some of them are only in the log.
    pub(super) fn after(&self, cursor: u64) -> Option<impl Iterator<Item = &RenderedEvent>> {
        let first = self.recent.front().map_or(self.last + 1, |told| told.seq);
        let skip = (cursor + 1).checked_sub(first)?;
        Some(self.recent.iter().skip(skip as usize))
    }

    /// Forgets events that everybody who keeps up has taken.
    pub(super) fn forget_through(&mut self, cursor: u64) {
        while self.recent.front().is_some_and(|told| told.seq <= cursor) {
            self.recent.pop_front();
        }
    }

    pub(super) fn note_percentage(&mut self, it: &Percentage) {
        self.percentages.insert(it.upload, (it.attempt, it.percent));
    }

    /// How far an upload is, as far as that was told.
    pub(super) fn percent(&self, upload: &Upload) -> u8 {
        let from = match upload.status {
            Status::Analyzing | Status::Embedding => Step::of(upload.stage).map_or(0, |step| step.range().0),
            Status::Pending | Status::Completed | Status::Failed | Status::Cancelled => return 0,
        };
        let told = self.percentages.get(&upload.id).filter(|it| it.0 == upload.attempt);
        told.map_or(from, |it| from.max(it.1))
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
        feed.after(cursor).map(|it| it.map(|told| told.seq).collect())
    }

    #[test]
    fn what_is_after_a_cursor_is_there_whole_or_left_to_the_log() {
        let mut feed = Feed::default();
        assert_eq!(after(&feed, 0), Some(vec![]));
        assert_eq!(after(&feed, 7), Some(vec![]));
        feed.append(events(5..9));
        feed.append(events(7..10));
        assert_eq!(after(&feed, 4), Some(vec![5, 6, 7, 8, 9]));
        assert_eq!(after(&feed, 8), Some(vec![9]));
        assert_eq!(after(&feed, 9), Some(vec![]));
        assert_eq!(after(&feed, 12), Some(vec![]), "the log was ahead of the monitor");
        assert_eq!(after(&feed, 3), None);
        feed.forget_through(9);
        assert_eq!(after(&feed, 9), Some(vec![]));
        assert_eq!(after(&feed, 8), None, "forgotten is not the same as never forwarded");
        feed.append(events([12]));
        assert_eq!((after(&feed, 9), after(&feed, 11)), (None, Some(vec![12])));
        feed.append(events(13..13 + MOST_RECENT as u64));
        assert_eq!((after(&feed, 11), after(&feed, 12).map(|it| it.len())), (None, Some(MOST_RECENT)));
    }
}
