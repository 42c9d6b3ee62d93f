//! What a subscriber is sent next: what is forwarded, a part of the log, or the present state.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;

use super::{
    Forward, MOST_MESSAGES, Percentage, Publication, Publisher, RenderedEvent, SubscriberId,
    feed::Feed,
    subscriber::{Mode, Subscriber},
};
use crate::{
    error::Error,
    id::Owner,
    store::{LogPage, OwnerSnapshot},
    wire::{self, Live},
};

/// Events that are read from the log at once: as many as fit one publication.
const PAGE: usize = 64;
/// Newest batches that a snapshot tells of beside the unfinished ones.
const RECENT_BATCHES: usize = 20;
/// How long after a failed read the log is read again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// A publication was answered, or its actor is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Answered {
    subscriber: SubscriberId,
    alive: bool,
}

/// A part of an owner's log was read for a subscriber at the head of the queue.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct PageRead {
    owner: Owner,
    subscriber: SubscriberId,
    page: Result<LogPage, Error>,
}

/// The present state was read for a subscriber to whom the log no longer goes back.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct SnapshotRead {
    subscriber: SubscriberId,
    present: Result<OwnerSnapshot, Error>,
}

impl Handler<Forward> for Publisher {
    type Result = ();

    fn handle(&mut self, forward: Forward, ctx: &mut Self::Context) {
        let Forward { owner, events, percentages, reached } = forward;
        // The last subscriber may have gone meanwhile.
        let Some(feed) = self.feeds.get_mut(&owner) else { return };
        feed.append(events);
        for it in &percentages {
            feed.note_percentage(it);
        }
        let mut numbered: Option<Vec<Arc<wire::Message>>> = None;
        for id in feed.subscribers.clone() {
            let (Some(subscriber), Some(feed)) = (self.subscribers.get_mut(&id), self.feeds.get(&owner))
            else {
                continue;
            };
            if !subscriber.is_idle() || subscriber.mode != Mode::Live {
                continue;
            }
            let Some(events) = feed.after(subscriber.cursor) else {
                self.proceed(id, ctx);
                continue;
            };
            let mut messages = subscriber.take(events);
            // All whom the percentages are for have read as far as the monitor has, so they share the number of the last event.
            if subscriber.cursor >= feed.last() && subscriber.told_of <= reached {
                let seq = subscriber.cursor;
                let numbered = numbered.get_or_insert_with(|| number(&percentages, seq));
                // What the answer to a watch told is no reason to hold them back: they are newer.
                let wants =
                    |it: &wire::Message| it.chosen_by().is_none_or(|upload| subscriber.watches(upload));
                let wanted = numbered.iter().filter(|it| wants(it)).cloned();
                messages.extend(wanted.take(MOST_MESSAGES.saturating_sub(messages.len())));
            }
            self.send(id, messages, ctx);
        }
        self.forget(&owner);
    }
}

impl Handler<Answered> for Publisher {
    type Result = ();

    fn handle(&mut self, Answered { subscriber: id, alive }: Answered, ctx: &mut Self::Context) {
        if alive && let Some(subscriber) = self.subscribers.get_mut(&id) {
            subscriber.outstanding = None;
            if subscriber.backlog.is_empty() {
                subscriber.answered = subscriber.cursor;
            }
            self.proceed(id, ctx);
        } else {
            self.remove(id);
        }
        self.stop_if_done();
    }
}

impl Handler<PageRead> for Publisher {
    type Result = ();

    fn handle(&mut self, PageRead { owner, subscriber, page }: PageRead, ctx: &mut Self::Context) {
        let Some(feed) = self.feeds.get_mut(&owner) else { return };
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                log::error!("the events of an owner cannot be read, and are tried again: {error}");
                // At the end, so that one whose part cannot be read does not hold up the others.
                feed.queue.push_back(subscriber);
                ctx.run_later(AFTER_FAILURE, move |publisher, ctx| {
                    if let Some(feed) = publisher.feeds.get_mut(&owner) {
                        feed.reading = false;
                        publisher.read_log(&owner, ctx);
                    }
                });
                return;
            }
        };
        let told: Vec<RenderedEvent> =
            page.changes.iter().map(|it| RenderedEvent::of(it, &Live::default())).collect();
        let waiting = self.provider.borrow().waiting();
        feed.reading = false;
        for id in std::iter::once(subscriber).chain(std::mem::take(&mut feed.queue)) {
            let Some(subscriber) = self.subscribers.get_mut(&id) else { continue };
            subscriber.queued = false;
            if subscriber.is_idle() {
                subscriber.take_page(&page, &told, waiting.as_deref(), self.store.clock().now());
            }
            if subscriber.mode == Mode::Snapshot {
                self.read_present(id, ctx);
            }
            self.proceed(id, ctx);
        }
        self.read_log(&owner, ctx);
    }
}

impl Handler<SnapshotRead> for Publisher {
    type Result = ();

    fn handle(&mut self, SnapshotRead { subscriber: id, present }: SnapshotRead, ctx: &mut Self::Context) {
        // A resume may have come meanwhile.
        let Some(subscriber) = self.subscribers.get_mut(&id).filter(|it| it.mode == Mode::Snapshot) else {
            return;
        };
        match (present, self.feeds.get(&subscriber.owner)) {
            (Ok(present), Some(feed)) => {
                let waiting = self.provider.borrow().waiting();
                subscriber.take_present(&present, feed, waiting.as_deref(), self.store.clock().now());
                self.proceed(id, ctx);
            }
            (Ok(_), None) => {}
            (Err(error), _) => {
                log::error!("the state of an owner's batches cannot be read, and is tried again: {error}");
                ctx.run_later(AFTER_FAILURE, move |publisher, ctx| publisher.read_present(id, ctx));
            }
        }
    }
}

impl Publisher {
    /// Sends a subscriber what is next for it, if it may be sent something, or has that read.
    pub(super) fn proceed(&mut self, id: SubscriberId, ctx: &mut Context<Self>) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        let Some(feed) = self.feeds.get_mut(&subscriber.owner) else { return };
        if subscriber.outstanding.is_some() {
            return;
        }
        if !subscriber.backlog.is_empty() {
            let messages = subscriber.take_backlog();
            return self.send(id, messages, ctx);
        }
        match subscriber.mode {
            Mode::Placing | Mode::Snapshot => return,
            Mode::Resuming(_) | Mode::Behind => {}
            Mode::Live => {
                if let Some(messages) = feed.after(subscriber.cursor).map(|events| subscriber.take(events)) {
                    return self.send(id, messages, ctx);
                }
                subscriber.mode = Mode::Behind;
            }
        }
        if !std::mem::replace(&mut subscriber.queued, true) {
            feed.queue.push_back(id);
        }
        let owner = subscriber.owner.clone();
        self.read_log(&owner, ctx);
    }

    /// Sends a publication, if there is something in it. What follows waits for its answer.
    fn send(&mut self, id: SubscriberId, messages: Vec<Arc<wire::Message>>, ctx: &mut Context<Self>) {
        let Some(subscriber) = self.subscribers.get_mut(&id) else { return };
        if messages.is_empty() {
            return;
        }
        let (to, publisher) = (subscriber.to.clone(), ctx.address().downgrade());
        subscriber.outstanding = Some(actix_rt::spawn(async move {
            let alive = to.send(Publication(messages)).await.is_ok();
            if let Some(publisher) = publisher.upgrade() {
                publisher.do_send(Answered { subscriber: id, alive });
            }
        }));
    }

    fn read_log(&mut self, owner: &Owner, ctx: &mut Context<Self>) {
        let Some(feed) = self.feeds.get_mut(owner).filter(|feed| !feed.reading) else { return };
        let (subscriber, from) = loop {
            let Some(id) = feed.queue.pop_front() else { return };
            match self.subscribers.get(&id).map(|it| (it.mode, it.cursor)) {
                Some((Mode::Resuming(after), _)) => break (id, after),
                Some((Mode::Behind, cursor)) => break (id, cursor + 1),
                Some((Mode::Placing | Mode::Snapshot | Mode::Live, _)) | None => {}
            }
        };
        feed.reading = true;
        let (store, owner) = (self.store.clone(), owner.clone());
        tell(ctx, async move {
            let page = store.events_from(owner.clone(), from, PAGE).await;
            PageRead { owner, subscriber, page }
        });
    }

    fn read_present(&mut self, subscriber: SubscriberId, ctx: &mut Context<Self>) {
        let Some(it) = self.subscribers.get(&subscriber) else { return };
        let chosen = it.chosen.iter().flat_map(|chosen| chosen.keys().copied()).collect();
        let (store, owner) = (self.store.clone(), it.owner.clone());
        tell(ctx, async move {
            let present = store.present(owner, RECENT_BATCHES, chosen).await;
            SnapshotRead { subscriber, present }
        });
    }

    /// Forgets events that all who keep up have taken.
    fn forget(&mut self, owner: &Owner) {
        let Some(feed) = self.feeds.get_mut(owner) else { return };
        let live = feed.subscribers.iter().filter_map(|id| self.subscribers.get(id));
        let taken = live.filter(|it| it.mode == Mode::Live).map(|it| it.cursor).min();
        feed.forget_through(taken.unwrap_or(u64::MAX));
    }

    pub(super) fn stop_if_done(&mut self) {
        let done = |it: &Subscriber| {
            let last = self.feeds.get(&it.owner).map_or(0, Feed::last);
            it.is_idle() && it.mode == Mode::Live && it.cursor >= last
        };
        if self.stopping.is_some()
            && self.subscribers.values().all(done)
            && let Some(stopping) = self.stopping.take()
        {
            let _ = stopping.send(());
        }
    }
}

/// Tells the publisher what a future gives, unless it has stopped by then.
fn tell<M>(ctx: &mut Context<Publisher>, future: impl Future<Output = M> + 'static)
where
    M: Message + Send + 'static,
    M::Result: Send,
    Publisher: Handler<M>,
{
    let publisher = ctx.address().downgrade();
    actix_rt::spawn(async move {
        let message = future.await;
        if let Some(publisher) = publisher.upgrade() {
            publisher.do_send(message);
        }
    });
}

fn number(percentages: &[Percentage], seq: u64) -> Vec<Arc<wire::Message>> {
    let messages = percentages.iter().flat_map(|it| it.messages.iter().cloned());
    messages.map(|message| Arc::new(message.numbered(seq))).collect()
}
