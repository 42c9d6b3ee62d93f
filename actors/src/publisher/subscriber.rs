//! One subscriber: how far it has read, and what it is to be sent before anything else.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use actix::Recipient;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::{MOST_MESSAGES, Publication, RenderedEvent, Uploads, feed::Feed};
use crate::{
    id::{Owner, UploadId},
    store::{Cursor, LogPage, OwnerSnapshot},
    wire::{self, Message},
};

/// Where what a subscriber is sent next comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Its place in the log is being looked up.
    Placing,
    /// From the log, from this event on, after `resumed`.
    Resuming(u64),
    /// From what stands in the store now, since the log no longer goes back far enough; it is being read.
    Snapshot,
    /// From the log, since it fell behind.
    Behind,
    /// From what the monitor forwards.
    Live,
}

pub(super) struct Subscriber {
    pub(super) owner: Owner,
    pub(super) to: Recipient<Publication>,
    /// The uploads that it named, each with the number of the event up to which it was told with the answer; `None`: all.
    pub(super) chosen: Option<HashMap<UploadId, u64>>,
    pub(super) mode: Mode,
    /// Number of the last event that it was sent.
    pub(super) cursor: u64,
    /// The last event that it has answered.
    pub(super) answered: u64,
    /// The newest moment that it was told of.
    pub(super) told_of: Cursor,
    /// What it is sent before what follows the cursor.
    pub(super) backlog: VecDeque<Arc<Message>>,
    /// The provider changed in the part of the log that it was sent, which is told as it stands once the end is reached.
    pub(super) provider_changed: bool,
    /// It stands in the queue for the log.
    pub(super) queued: bool,
    /// Waits for the answer to the publication that is on its way.
    pub(super) outstanding: Option<JoinHandle<()>>,
}

impl Subscriber {
    pub(super) fn new(
        owner: Owner,
        to: Recipient<Publication>,
        uploads: Uploads,
        mode: Mode,
        now: Cursor,
    ) -> Self {
        Self {
            owner,
            to,
            chosen: match uploads {
                Uploads::All => None,
                Uploads::Chosen => Some(HashMap::new()),
            },
            mode,
            cursor: 0,
            answered: 0,
            told_of: now,
            backlog: VecDeque::new(),
            provider_changed: false,
            queued: false,
            outstanding: None,
        }
    }

    /// Whether it is told this.
    pub(super) fn wants(&self, message: &Message) -> bool {
        match (&self.chosen, message.chosen_by()) {
            (None, _) | (_, None) => true,
            (Some(chosen), Some(upload)) => chosen
                .get(&upload)
                .is_some_and(|told| message.ends_upload() || message.seq().is_some_and(|seq| seq > *told)),
        }
    }

    /// Whether it is told percentages of this upload.
    pub(super) fn watches(&self, upload: UploadId) -> bool {
        self.chosen.as_ref().is_none_or(|chosen| chosen.contains_key(&upload))
    }

    /// Nothing is on its way or waits to be sent first.
    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.is_none() && self.backlog.is_empty()
    }

    /// Its place is found: it is told what comes after event `newest`.
    pub(super) fn place(&mut self, newest: u64, moment: Cursor) {
        self.mode = Mode::Live;
        self.cursor = newest;
        self.answered = newest;
        self.told_of = self.told_of.max(moment);
    }

    /// It goes back to event `after`, and is told everything again.
    pub(super) fn resume(&mut self, after: u64) {
        self.mode = Mode::Resuming(after);
        self.backlog.clear();
        for told in self.chosen.iter_mut().flat_map(HashMap::values_mut) {
            *told = 0;
        }
    }

    /// Takes what it needs from a part of the log that may have been read for another one.
    pub(super) fn take_page(
        &mut self,
        page: &LogPage,
        told: &[RenderedEvent],
        waiting: Option<&str>,
        now: Timestamp,
    ) {
        let (next, kept) = match self.mode {
            Mode::Resuming(0) => (1, page.oldest <= 1),
            Mode::Resuming(after) => (after, (page.oldest..=page.newest).contains(&after)),
            Mode::Behind => (self.cursor + 1, self.cursor + 1 >= page.oldest),
            Mode::Placing | Mode::Snapshot | Mode::Live => return,
        };
        if !kept {
            self.mode = Mode::Snapshot;
            return;
        }
        if !page.numbers.contains(&next) && next <= page.newest {
            return;
        }
        if let Mode::Resuming(seq) = self.mode {
            self.push(Message::Resumed { timestamp: now, seq, snapshot: false });
        }
        for told in told.iter().filter(|told| told.seq >= next) {
            self.provider_changed |= told.provider_changed;
            let wanted: Vec<_> = told.messages.iter().filter(|it| self.wants(it)).cloned().collect();
            self.backlog.extend(wanted);
        }
        self.cursor = if next <= page.newest { *page.numbers.end() } else { page.newest };
        self.told_of = self.told_of.max(page.reached);
        self.mode = Mode::Behind;
        if self.cursor >= page.newest {
            self.mode = Mode::Live;
            // The past is told without what was waited for, so that is told as it is now.
            if std::mem::take(&mut self.provider_changed) || waiting.is_some() {
                for batch in &page.unfinished {
                    self.push(wire::batch_now(batch, self.cursor, waiting, now));
                }
            }
        }
    }

    /// Takes how everything stands, since the log no longer goes back far enough.
    pub(super) fn take_present(
        &mut self,
        present: &OwnerSnapshot,
        feed: &Feed,
        waiting: Option<&str>,
        now: Timestamp,
    ) {
        let seq = present.newest;
        self.push(Message::Resumed { timestamp: now, seq, snapshot: true });
        for batch in &present.batches {
            self.push(wire::batch_now(batch, seq, waiting, now));
        }
        for upload in &present.in_flight {
            for message in wire::percent_now(upload, upload.stage, feed.percent(upload), seq, now) {
                self.push(message);
            }
        }
        for upload in present.uploads.iter().filter(|it| !it.status.is_active()) {
            self.push(wire::upload_now(upload, 0, seq, now));
            if let Some(end) = wire::end_now(upload, seq, now) {
                self.push(end);
            }
        }
        self.provider_changed = false;
        self.mode = Mode::Live;
        self.cursor = seq;
        self.told_of = self.told_of.max(present.reached);
    }

    /// Puts a message into the backlog, if it is for this subscriber.
    fn push(&mut self, message: Message) {
        if self.wants(&message) {
            self.backlog.push_back(Arc::new(message));
        }
    }

    /// Takes the events that follow the cursor, as many as fit one publication.
    pub(super) fn take<'a>(&mut self, events: impl Iterator<Item = &'a RenderedEvent>) -> Vec<Arc<Message>> {
        let mut messages: Vec<Arc<Message>> = Vec::new();
        for told in events {
            if !messages.is_empty() && messages.len() + told.messages.len() > MOST_MESSAGES {
                break;
            }
            messages.extend(told.messages.iter().filter(|message| self.wants(message)).cloned());
            self.cursor = told.seq;
        }
        messages
    }

    /// Puts the next messages of the backlog into one publication.
    pub(super) fn take_backlog(&mut self) -> Vec<Arc<Message>> {
        let most = self.backlog.len().min(MOST_MESSAGES);
        self.backlog.drain(..most).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some(waiting) = self.outstanding.take() {
            waiting.abort();
        }
    }
}
