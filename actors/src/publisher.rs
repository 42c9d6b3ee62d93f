//! Who wants to know, and how far each has read.
//!
//! A subscriber is a cursor in the event log of one owner, not a queue: at most one [`Publication`] is outstanding to it. One that fell
//! behind is fed from the log. Percentages between events are for those that keep up; events are never skipped, merged or reordered.
//! Delivery is at least once.

mod feed;
mod subscriber;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use tokio::sync::{oneshot, watch};

use self::{
    feed::Feed,
    subscriber::{Mode, Subscriber},
};
use crate::{
    analysis::ProviderState,
    error::Error,
    event::What,
    id::{Owner, UploadId},
    lifeline::Lifeline,
    store::{Change, Cursor, LogPage, Present, Standing, Store},
    upload::Upload,
    wire::{self, Live},
};

/// What a subscriber is told: at most 256 messages, in order. The next one comes when this one is answered, so a handler that takes its
/// time is fed from the log, and one that never answers is sent nothing more.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Publication(pub Vec<Arc<wire::Message>>);

/// Names a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId(u64);

/// Which uploads a subscriber is told of; it is told of batches and files in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploads {
    /// All of the owner's.
    All,
    /// Those that it names by [`WatchUpload`].
    Chosen,
}

/// Tells an actor of everything that happens to an owner's batches, from now on or from an event on that it knew. The publisher keeps its
/// address until [`Unsubscribe`], or until the actor is gone.
///
/// # Errors
/// [`Error::Store`], [`Error::Stopping`].
#[derive(Message)]
#[rtype(result = "Result<SubscriberId, Error>")]
pub struct Subscribe {
    /// Whose batches.
    pub owner: Owner,
    /// Who is told.
    pub to: Recipient<Publication>,
    /// Which uploads it is told of.
    pub uploads: Uploads,
    /// As [`Resume::after_seq`]; `None`: only what comes from now on.
    pub after_seq: Option<u64>,
}

/// Tells an actor nothing more. One that is not known is fine.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Unsubscribe(pub SubscriberId);

/// Goes back to an event that a subscriber knew. It is sent `resumed`, that event again and all after it; if that is no longer kept,
/// `resumed` with `snapshot` and the present state of unfinished and recent batches.
///
/// # Errors
/// [`Error::NotFound`] if there is no such subscriber.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Resume {
    /// Who goes back.
    pub subscriber: SubscriberId,
    /// Number of the last event that it knew; 0: none.
    pub after_seq: u64,
}

/// Adds an upload to those that a subscriber is told of. Answers with where it stands, as an `upload_progress`.
///
/// # Errors
/// [`Error::NotFound`] if there is no such subscriber, or its owner has no such upload; [`Error::Invalid`] if it watches more than
/// [`MAX_WATCHED`]; [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<wire::Message, Error>")]
pub struct WatchUpload {
    /// Who is told.
    pub subscriber: SubscriberId,
    /// Which upload.
    pub upload: UploadId,
}

/// Takes an upload from those that a subscriber is told of. One that it was not told of is fine.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct UnwatchUpload {
    /// Who was told.
    pub subscriber: SubscriberId,
    /// Which upload.
    pub upload: UploadId,
}

/// What changed, from the ProgressMonitor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Forward {
    /// Whose batches.
    pub owner: Owner,
    /// The events since the last one, in order.
    pub events: Vec<Told>,
    /// Percentages that rose, which hold for `reached`.
    pub percentages: Vec<Percentage>,
    /// How far the monitor has read.
    pub reached: Cursor,
}

/// An event and its messages.
#[derive(Debug, Clone)]
pub struct Told {
    /// Number of the event.
    pub seq: u64,
    /// The upload that it happened to.
    pub upload: Option<UploadId>,
    /// How the provider stands changed with it.
    pub provider_changed: bool,
    /// What it is told as.
    pub messages: Vec<Arc<wire::Message>>,
}

impl Told {
    pub(crate) fn of(change: &Change, live: &Live) -> Self {
        let messages = wire::told(&change.event, change.upload.as_ref(), live);
        Self {
            seq: change.event.seq,
            upload: change.event.upload_id,
            provider_changed: change.event.what == What::ProviderChanged,
            messages: messages.into_iter().map(Arc::new).collect(),
        }
    }
}

/// A percentage between two events.
#[derive(Debug, Clone)]
pub struct Percentage {
    /// The upload.
    pub upload: UploadId,
    /// Number of the attempt.
    pub attempt: u32,
    /// 0 to 100.
    pub percent: u8,
    /// What it is told as; the publisher puts the number of the last event in.
    pub messages: [wire::Message; 2],
}

/// Lets subscribers that read take what is left, for at most this long, and stops.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop(pub Duration);

/// How many subscribers each owner has; owners without one are not listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listeners(pub HashMap<Owner, usize>);

/// Most uploads that one subscriber may name.
pub const MAX_WATCHED: usize = 1000;

/// Most messages of one publication.
const MOST_MESSAGES: usize = 256;
/// Events that are read from the log at once: as many as fit one publication.
const PAGE: usize = 64;
/// Newest batches that a snapshot tells of beside the unfinished ones.
const RECENT_BATCHES: usize = 20;
/// How often subscribers whose actor is gone are looked for.
const SWEEP: Duration = Duration::from_secs(10);
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
struct PresentRead {
    subscriber: SubscriberId,
    present: Result<Present, Error>,
}

/// See the module.
pub struct Publisher {
    store: Store,
    provider: watch::Receiver<ProviderState>,
    listeners: watch::Sender<Listeners>,
    lifeline: Lifeline,
    subscribers: HashMap<SubscriberId, Subscriber>,
    /// One for each owner that has subscribers.
    feeds: HashMap<Owner, Feed>,
    newest_id: u64,
    /// Told when nothing is left to be sent.
    stopping: Option<oneshot::Sender<()>>,
}

impl Publisher {
    /// A publisher that says through `listeners` whom it has subscribers of.
    pub fn new(
        store: Store,
        provider: watch::Receiver<ProviderState>,
        listeners: watch::Sender<Listeners>,
        lifeline: Lifeline,
    ) -> Self {
        Self {
            store,
            provider,
            listeners,
            lifeline,
            subscribers: HashMap::new(),
            feeds: HashMap::new(),
            newest_id: 0,
            stopping: None,
        }
    }
}

impl Actor for Publisher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SWEEP, |publisher, _| {
            let gone = publisher.subscribers.iter().filter(|(_, it)| !it.to.connected());
            for id in gone.map(|(id, _)| *id).collect::<Vec<_>>() {
                publisher.remove(id);
            }
        });
    }
}

impl Handler<Subscribe> for Publisher {
    type Result = ResponseActFuture<Self, Result<SubscriberId, Error>>;

    fn handle(&mut self, subscribe: Subscribe, ctx: &mut Self::Context) -> Self::Result {
        if self.stopping.is_some() {
            return Box::pin(fut::ready(Err(Error::Stopping)));
        }
        let Subscribe { owner, to, uploads, after_seq } = subscribe;
        self.newest_id += 1;
        let id = SubscriberId(self.newest_id);
        // Before its place is looked up, so that the monitor passes over nothing that comes after.
        self.listeners.send_modify(|listeners| *listeners.0.entry(owner.clone()).or_default() += 1);
        self.feeds.entry(owner.clone()).or_default().subscribers.insert(id);
        let mode = after_seq.map_or(Mode::Placing, Mode::Resuming);
        let subscriber = Subscriber::new(owner.clone(), to, uploads, mode, self.store.newest());
        self.subscribers.insert(id, subscriber);
        if after_seq.is_some() {
            self.proceed(id, ctx);
            return Box::pin(fut::ready(Ok(id)));
        }
        let store = self.store.clone();
        let place = async move { store.standing(owner, None).await };
        Box::pin(place.into_actor(self).map(move |standing, publisher, ctx| {
            let standing = standing.inspect_err(|_| publisher.remove(id))?;
            // A resume may have come first.
            if let Some(subscriber) = publisher.subscribers.get_mut(&id).filter(|it| it.mode == Mode::Placing)
            {
                subscriber.place(standing.newest, standing.reached);
                publisher.proceed(id, ctx);
            }
            Ok(id)
        }))
    }
}

impl Handler<Unsubscribe> for Publisher {
    type Result = ();

    fn handle(&mut self, Unsubscribe(id): Unsubscribe, _: &mut Self::Context) {
        self.remove(id);
    }
}

impl Handler<Resume> for Publisher {
    type Result = Result<(), Error>;

    fn handle(
        &mut self,
        Resume { subscriber: id, after_seq }: Resume,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        let subscriber = self.subscribers.get_mut(&id).ok_or(Error::NotFound("subscriber"))?;
        subscriber.resume(after_seq);
        self.proceed(id, ctx);
        Ok(())
    }
}

impl Handler<WatchUpload> for Publisher {
    type Result = ResponseActFuture<Self, Result<wire::Message, Error>>;

    fn handle(&mut self, watch: WatchUpload, _: &mut Self::Context) -> Self::Result {
        self.watch(watch.subscriber, watch.upload)
    }
}

impl Handler<UnwatchUpload> for Publisher {
    type Result = ();

    fn handle(&mut self, UnwatchUpload { subscriber, upload }: UnwatchUpload, _: &mut Self::Context) {
        if let Some(chosen) = self.subscribers.get_mut(&subscriber).and_then(|it| it.chosen.as_mut()) {
            chosen.remove(&upload);
        }
    }
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
                let wanted = numbered.iter().filter(|it| subscriber.wants(it)).cloned();
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
                feed.queue.push_front(subscriber);
                ctx.run_later(AFTER_FAILURE, move |publisher, ctx| {
                    if let Some(feed) = publisher.feeds.get_mut(&owner) {
                        feed.reading = false;
                        publisher.read_log(&owner, ctx);
                    }
                });
                return;
            }
        };
        let told: Vec<Told> = page.changes.iter().map(|it| Told::of(it, &Live::default())).collect();
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

impl Handler<PresentRead> for Publisher {
    type Result = ();

    fn handle(&mut self, PresentRead { subscriber: id, present }: PresentRead, ctx: &mut Self::Context) {
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

impl Handler<Stop> for Publisher {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Stop(limit): Stop, _: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.stopping = Some(tell);
        self.stop_if_done();
        let done = async move {
            // Whoever does not read is not waited for any longer than that.
            let _ = tokio::time::timeout(limit, told).await;
        };
        Box::pin(done.into_actor(self).map(|(), publisher, ctx| {
            publisher.lifeline.release();
            ctx.stop();
        }))
    }
}

impl Publisher {
    /// Sends a subscriber what is next for it, if it may be sent something, or has that read.
    fn proceed(&mut self, id: SubscriberId, ctx: &mut Context<Self>) {
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
            PresentRead { subscriber, present }
        });
    }

    fn watch(
        &mut self,
        id: SubscriberId,
        upload: UploadId,
    ) -> ResponseActFuture<Self, Result<wire::Message, Error>> {
        let Some(subscriber) = self.subscribers.get(&id) else {
            return Box::pin(fut::ready(Err(Error::NotFound("subscriber"))));
        };
        let (store, owner) = (self.store.clone(), subscriber.owner.clone());
        let read = async move { store.standing(owner, Some(upload)).await };
        Box::pin(read.into_actor(self).then(move |standing, publisher, _| {
            let answer = match standing {
                Ok(Standing { newest, upload: Some(record), reached }) => {
                    match publisher.subscribers.get(&id) {
                        // It was sent events that are newer than what was read: what they said of the upload would be missed.
                        Some(it) if it.cursor > newest => return publisher.watch(id, upload),
                        Some(_) => publisher.choose(id, &record, newest, reached),
                        None => Err(Error::NotFound("subscriber")),
                    }
                }
                Ok(Standing { upload: None, .. }) => Err(Error::NotFound("upload")),
                Err(error) => Err(error),
            };
            Box::pin(fut::ready(answer))
        }))
    }

    fn choose(
        &mut self,
        id: SubscriberId,
        upload: &Upload,
        newest: u64,
        reached: Cursor,
    ) -> Result<wire::Message, Error> {
        let subscriber = self.subscribers.get_mut(&id).ok_or(Error::NotFound("subscriber"))?;
        if let Some(chosen) = &mut subscriber.chosen {
            if chosen.len() >= MAX_WATCHED && !chosen.contains_key(&upload.id) {
                return Err(Error::Invalid(format!(
                    "a subscriber may watch {MAX_WATCHED} uploads; unwatch some, or subscribe to all"
                )));
            }
            chosen.insert(upload.id, newest);
        }
        subscriber.told_of = subscriber.told_of.max(reached);
        let percent = self.feeds.get(&subscriber.owner).map_or(0, |feed| feed.percent(upload));
        // It may go back to this number, so nothing that it has not answered yet may come before.
        Ok(wire::upload_now(upload, percent, subscriber.answered, self.store.clock().now()))
    }

    fn remove(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.remove(&id) else { return };
        if let Some(feed) = self.feeds.get_mut(&subscriber.owner) {
            feed.subscribers.remove(&id);
            if feed.subscribers.is_empty() {
                self.feeds.remove(&subscriber.owner);
            }
        }
        self.listeners.send_modify(|listeners| {
            if let Entry::Occupied(mut count) = listeners.0.entry(subscriber.owner.clone()) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        });
    }

    /// Forgets events that all who keep up have taken.
    fn forget(&mut self, owner: &Owner) {
        let Some(feed) = self.feeds.get_mut(owner) else { return };
        let live = feed.subscribers.iter().filter_map(|id| self.subscribers.get(id));
        let taken = live.filter(|it| it.mode == Mode::Live).map(|it| it.cursor).min();
        feed.forget_through(taken.unwrap_or(u64::MAX));
    }

    fn stop_if_done(&mut self) {
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
