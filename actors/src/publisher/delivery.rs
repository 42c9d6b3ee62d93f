//! Chooses what a subscriber is sent next: forwarded events, a page of the log, or a snapshot.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;

use super::{
    Forward, MAX_MESSAGES, Publication, Publisher, RenderedEvent, SubscriberId,
    feed::Feed,
    subscriber::{Mode, Subscriber},
};
use crate::{
    error::Error,
    id::Owner,
    store::{LogPage, OwnerSnapshot},
    wire::{self, Live},
};

/// Events in one page of the log. An event has at most four messages, so a page fits one publication.
const PAGE_EVENTS: usize = 64;
/// Newest batches in a snapshot, beside the unfinished ones.
const RECENT_BATCHES: usize = 20;
/// Pause after a failed read.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A subscriber has handled its publication, or its actor is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Answered {
    subscriber: SubscriberId,
    alive: bool,
}

/// A page of an owner's log was read for the first subscriber in the queue.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct PageRead {
    owner: Owner,
    subscriber: SubscriberId,
    page: Result<LogPage, Error>,
}

/// A snapshot was read for a subscriber whose next event the log no longer holds.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct SnapshotRead {
    subscriber: SubscriberId,
    snapshot: Result<OwnerSnapshot, Error>,
}

impl Handler<Forward> for Publisher {
    type Result = ();

    fn handle(&mut self, forward: Forward, ctx: &mut Self::Context) {
        let Forward { owner, events, mut percentages, newest } = forward;
        // The last subscriber may have left since the read.
        let Some(feed) = self.feeds.get_mut(&owner) else { return };
        feed.append(events, newest);
        percentages.retain(|it| feed.note_percentage(it));
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
            if subscriber.is_at(newest) {
                let is_for = |it: &wire::Message| it.chosen_by().is_none_or(|id| subscriber.watches(id));
                let rose = percentages.iter().flat_map(|it| &it.messages).filter(|it| is_for(it)).cloned();
                messages.extend(rose.take(MAX_MESSAGES.saturating_sub(messages.len())));
            }
            self.send(id, messages, ctx);
        }
        self.drop_sent_events(&owner);
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
                log::error!(
                    "the event log of an owner cannot be read; the next try is in {RETRY_DELAY:?}: {error}"
                );
                // At the end, so that an unreadable page does not hold up subscribers that need another one.
                feed.queue.push_back(subscriber);
                ctx.run_later(RETRY_DELAY, move |publisher, ctx| {
                    if let Some(feed) = publisher.feeds.get_mut(&owner) {
                        feed.reading = false;
                        publisher.read_log(&owner, ctx);
                    }
                });
                return;
            }
        };
        let events: Vec<RenderedEvent> =
            page.changes.iter().map(|it| RenderedEvent::of(it, &Live::default())).collect();
        let waiting = self.provider.borrow().waiting();
        feed.reading = false;
        for id in std::iter::once(subscriber).chain(std::mem::take(&mut feed.queue)) {
            let Some(subscriber) = self.subscribers.get_mut(&id) else { continue };
            subscriber.queued = false;
            if subscriber.is_idle() {
                subscriber.take_page(&page, &events, waiting.as_deref(), self.store.clock().now());
            }
            if subscriber.mode == Mode::Snapshot {
                self.read_snapshot(id, ctx);
            }
            self.proceed(id, ctx);
        }
        self.read_log(&owner, ctx);
    }
}

impl Handler<SnapshotRead> for Publisher {
    type Result = ();

    fn handle(&mut self, SnapshotRead { subscriber: id, snapshot }: SnapshotRead, ctx: &mut Self::Context) {
        // A resume during the read has set another mode.
        let Some(subscriber) = self.subscribers.get_mut(&id).filter(|it| it.mode == Mode::Snapshot) else {
            return;
        };
        match (snapshot, self.feeds.get_mut(&subscriber.owner)) {
            (Ok(snapshot), Some(feed)) => {
                let waiting = self.provider.borrow().waiting();
                subscriber.take_snapshot(&snapshot, feed, waiting.as_deref(), self.store.clock().now());
                self.proceed(id, ctx);
            }
            (Ok(_), None) => {}
            (Err(error), _) => {
                log::error!(
                    "the batches of an owner cannot be read; the next try is in {RETRY_DELAY:?}: {error}"
                );
                ctx.run_later(RETRY_DELAY, move |publisher, ctx| publisher.read_snapshot(id, ctx));
            }
        }
    }
}

impl Publisher {
    /// Sends a subscriber its next publication, or starts the read that this needs. Does nothing while one is
    /// outstanding.
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
            Mode::Positioning | Mode::Snapshot => return,
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

    /// Sends a publication unless it is empty. The next one waits until the subscriber has handled it.
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

    /// Reads a page for the first subscriber in the queue that still needs one, unless a read is under way.
    fn read_log(&mut self, owner: &Owner, ctx: &mut Context<Self>) {
        let Some(feed) = self.feeds.get_mut(owner).filter(|feed| !feed.reading) else { return };
        let (subscriber, from) = loop {
            let Some(id) = feed.queue.pop_front() else { return };
            match self.subscribers.get(&id).map(|it| (it.mode, it.cursor)) {
                Some((Mode::Resuming(after), _)) => break (id, after),
                Some((Mode::Behind, cursor)) => break (id, cursor + 1),
                Some((Mode::Positioning | Mode::Snapshot | Mode::Live, _)) | None => {}
            }
        };
        feed.reading = true;
        let (store, owner) = (self.store.clone(), owner.clone());
        notify(ctx, async move {
            let page = store.events_from(owner.clone(), from, PAGE_EVENTS).await;
            PageRead { owner, subscriber, page }
        });
    }

    fn read_snapshot(&mut self, subscriber: SubscriberId, ctx: &mut Context<Self>) {
        let Some(it) = self.subscribers.get(&subscriber) else { return };
        let watched = it.watched.iter().flat_map(|watched| watched.keys().copied()).collect();
        let (store, owner) = (self.store.clone(), it.owner.clone());
        notify(ctx, async move {
            let snapshot = store.owner_snapshot(owner, RECENT_BATCHES, watched).await;
            SnapshotRead { subscriber, snapshot }
        });
    }

    /// Drops events that every live subscriber has been sent.
    fn drop_sent_events(&mut self, owner: &Owner) {
        let Some(feed) = self.feeds.get_mut(owner) else { return };
        let live = feed.subscribers.iter().filter_map(|id| self.subscribers.get(id));
        let sent = live.filter(|it| it.mode == Mode::Live).map(|it| it.cursor).min();
        feed.drop_through(sent.unwrap_or(u64::MAX));
    }

    /// Answers [`super::Stop`] if every subscriber has been sent everything.
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

/// Sends the message that a future returns to the Publisher, if it still runs.
fn notify<M>(ctx: &mut Context<Publisher>, future: impl Future<Output = M> + 'static)
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
