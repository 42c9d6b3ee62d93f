//! One subscriber: its cursor, and the messages that it is sent before any others.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use actix::Recipient;
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::{MAX_MESSAGES, Publication, RenderedEvent, Uploads, feed::Feed};
use crate::{
    id::{Owner, UploadId},
    store::{LogPage, OwnerSnapshot},
    wire::{self, Message},
};

/// The source of a subscriber's next messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// None yet: its position in the log is being read.
    Positioning,
    /// The log from this event on, after `resumed`.
    Resuming(u64),
    /// A snapshot, which is being read, since the log no longer holds its next event.
    Snapshot,
    /// The log from its cursor on, since it has fallen behind.
    Behind,
    /// The events and percentages that the monitor forwards.
    Live,
}

pub(super) struct Subscriber {
    pub(super) owner: Owner,
    pub(super) to: Recipient<Publication>,
    /// The uploads that it watches, each with the number of the newest event when the watch was answered.
    /// `None`: all uploads.
    pub(super) watched: Option<HashMap<UploadId, u64>>,
    pub(super) mode: Mode,
    /// Number of the last event that it was sent.
    pub(super) cursor: u64,
    /// Number of the last event that it has handled.
    pub(super) answered: u64,
    /// Number of the newest event that was committed when any record shown to it was read. A page of old
    /// events and the answer to a watch show records of now, so this may be ahead of `cursor`.
    pub(super) newest_shown: u64,
    /// Messages to be sent before any event after `cursor`.
    pub(super) backlog: VecDeque<Arc<Message>>,
    /// The provider changed within the pages that it was sent; the present state follows once it has caught
    /// up.
    pub(super) provider_changed: bool,
    /// It is in the queue for the log.
    pub(super) queued: bool,
    /// Waits until the outstanding publication has been handled.
    pub(super) outstanding: Option<JoinHandle<()>>,
}

impl Subscriber {
    pub(super) fn new(owner: Owner, to: Recipient<Publication>, uploads: Uploads, mode: Mode) -> Self {
        Self {
            owner,
            to,
            watched: match uploads {
                Uploads::All => None,
                Uploads::Chosen => Some(HashMap::new()),
            },
            mode,
            cursor: 0,
            answered: 0,
            newest_shown: 0,
            backlog: VecDeque::new(),
            provider_changed: false,
            queued: false,
            outstanding: None,
        }
    }

    /// Whether a message of an event is for this subscriber. The answer to a watch covers earlier messages,
    /// except the end.
    pub(super) fn wants(&self, message: &Message) -> bool {
        match (&self.watched, message.chosen_by()) {
            (None, _) | (_, None) => true,
            (Some(watched), Some(upload)) => watched.get(&upload).is_some_and(|covered| {
                message.ends_upload() || message.seq().is_some_and(|seq| seq > *covered)
            }),
        }
    }

    /// Whether percentages of an upload are for this subscriber.
    pub(super) fn watches(&self, upload: UploadId) -> bool {
        self.watched.as_ref().is_none_or(|watched| watched.contains_key(&upload))
    }

    /// Whether it has been sent every event up to `newest` and shown nothing later. Only then a percentage as
    /// of `newest` is neither early nor late.
    pub(super) fn is_at(&self, newest: u64) -> bool {
        self.cursor == newest && self.newest_shown <= newest
    }

    /// Whether nothing is outstanding or in the backlog.
    pub(super) fn is_idle(&self) -> bool {
        self.outstanding.is_none() && self.backlog.is_empty()
    }

    /// Begins with the events after `newest`.
    pub(super) fn begin_after(&mut self, newest: u64) {
        self.mode = Mode::Live;
        self.cursor = newest;
        self.answered = newest;
        self.newest_shown = self.newest_shown.max(newest);
    }

    /// Goes back to event `after`. Everything after it is sent again.
    pub(super) fn resume(&mut self, after: u64) {
        self.mode = Mode::Resuming(after);
        self.backlog.clear();
        for covered in self.watched.iter_mut().flat_map(HashMap::values_mut) {
            *covered = 0;
        }
    }

    /// Moves its part of a page into the backlog. The page may have been read for another subscriber and hold
    /// nothing for this one.
    pub(super) fn take_page(
        &mut self,
        page: &LogPage,
        events: &[RenderedEvent],
        waiting: Option<&str>,
        now: Timestamp,
    ) {
        let (next, kept) = match self.mode {
            Mode::Resuming(0) => (1, page.oldest <= 1),
            Mode::Resuming(after) => (after, (page.oldest..=page.newest).contains(&after)),
            Mode::Behind => (self.cursor + 1, self.cursor + 1 >= page.oldest),
            Mode::Positioning | Mode::Snapshot | Mode::Live => return,
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
        for event in events.iter().filter(|event| event.seq >= next) {
            self.provider_changed |= event.provider_changed;
            let wanted: Vec<_> = event.messages.iter().filter(|it| self.wants(it)).cloned().collect();
            self.backlog.extend(wanted);
        }
        self.cursor = if next <= page.newest { *page.numbers.end() } else { page.newest };
        self.newest_shown = self.newest_shown.max(page.newest);
        self.mode = Mode::Behind;
        if self.cursor >= page.newest {
            self.mode = Mode::Live;
            // Past events do not say what a batch waits for, so its present state follows.
            if std::mem::take(&mut self.provider_changed) || waiting.is_some() {
                for batch in &page.unfinished {
                    self.push(wire::batch_now(batch, self.cursor, waiting, now));
                }
            }
        }
    }

    /// Moves a snapshot into the backlog.
    pub(super) fn take_snapshot(
        &mut self,
        snapshot: &OwnerSnapshot,
        feed: &mut Feed,
        waiting: Option<&str>,
        now: Timestamp,
    ) {
        let seq = snapshot.newest;
        self.push(Message::Resumed { timestamp: now, seq, snapshot: true });
        for batch in &snapshot.batches {
            self.push(wire::batch_now(batch, seq, waiting, now));
        }
        for upload in &snapshot.in_flight {
            for message in wire::percent_now(upload, upload.stage, feed.show_percent(upload), seq, now) {
                self.push(message);
            }
        }
        for upload in snapshot.uploads.iter().filter(|it| !it.status.is_active()) {
            self.push(wire::upload_now(upload, 0, seq, now));
            if let Some(end) = wire::end_now(upload, seq, now) {
                self.push(end);
            }
        }
        self.provider_changed = false;
        self.mode = Mode::Live;
        self.cursor = seq;
        self.newest_shown = self.newest_shown.max(seq);
    }

    /// Adds a message to the backlog if it is for this subscriber.
    fn push(&mut self, message: Message) {
        if self.wants(&message) {
            self.backlog.push_back(Arc::new(message));
        }
    }

    /// Takes as many events after the cursor as fit one publication, and moves the cursor.
    pub(super) fn take<'a>(&mut self, events: impl Iterator<Item = &'a RenderedEvent>) -> Vec<Arc<Message>> {
        let mut messages: Vec<Arc<Message>> = Vec::new();
        for event in events {
            if !messages.is_empty() && messages.len() + event.messages.len() > MAX_MESSAGES {
                break;
            }
            messages.extend(event.messages.iter().filter(|message| self.wants(message)).cloned());
            self.cursor = event.seq;
        }
        messages
    }

    /// Takes as many messages from the backlog as fit one publication.
    pub(super) fn take_backlog(&mut self) -> Vec<Arc<Message>> {
        let count = self.backlog.len().min(MAX_MESSAGES);
        self.backlog.drain(..count).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some(waiting) = self.outstanding.take() {
            waiting.abort();
        }
    }
}
