//! Sends events and percentages to subscribers.
//!
//! A subscriber is a cursor in the event log of one owner, not a queue: at most one [`Publication`] is
//! outstanding to it. While it keeps up it gets what the monitor forwards; once it has fallen behind it gets
//! pages of the log. Events are delivered at least once, in order, and never skipped or merged. Percentages
//! between events go only to subscribers that keep up.

mod delivery;
mod feed;
mod subscriber;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
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
    event::EventKind,
    id::{Owner, UploadId},
    lifeline::Lifeline,
    store::{Change, LogPosition, Queries},
    upload::Upload,
    wire::{self, Live},
};

/// At most 256 messages in order. The next publication follows once the subscriber's handler has finished
/// with this one: a slow subscriber falls behind and is fed from the log, and one whose handler never
/// finishes gets nothing more.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Publication(pub Vec<Arc<wire::Message>>);

/// Identifies a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId(u64);

/// The uploads that a subscriber gets messages about. Messages about batches and files come in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploads {
    /// All uploads of the owner.
    All,
    /// Uploads added by [`WatchUpload`].
    Chosen,
}

/// Subscribes an actor to the events of an owner, from now on or after an earlier event. The Publisher keeps
/// its address until [`Unsubscribe`], or until the actor is gone.
///
/// # Errors
/// [`Error::Store`], [`Error::Stopping`].
#[derive(Message)]
#[rtype(result = "Result<SubscriberId, Error>")]
pub struct Subscribe {
    /// The owner.
    pub owner: Owner,
    /// Receives the publications.
    pub to: Recipient<Publication>,
    /// The uploads to get messages about.
    pub uploads: Uploads,
    /// As [`Resume::after_seq`]; `None` for events from now on.
    pub after_seq: Option<u64>,
}

/// Ends a subscription. An unknown one is ignored.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Unsubscribe(pub SubscriberId);

/// Moves a subscriber back to an event. It gets `resumed`, that event once more, and all later ones. If the
/// log no longer holds that event, it gets `resumed` with `snapshot`, and the present state of unfinished and
/// recent batches.
///
/// # Errors
/// [`Error::NotFound`] if there is no such subscriber.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct Resume {
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// Number of the last event that it has processed; 0 if there is none.
    pub after_seq: u64,
}

/// Adds an upload to those that a subscriber gets messages about. Returns the upload's state as an
/// `upload_progress`.
///
/// # Errors
/// [`Error::NotFound`] if there is no such subscriber, or if its owner has no such upload; [`Error::Invalid`]
/// if it watches [`MAX_WATCHED`] uploads already; [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<wire::Message, Error>")]
pub struct WatchUpload {
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// The upload.
    pub upload: UploadId,
}

/// Removes an upload from those that a subscriber gets messages about. One that it does not watch is ignored.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct UnwatchUpload {
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// The upload.
    pub upload: UploadId,
}

/// News of one owner, from the ProgressMonitor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Forward {
    /// The owner.
    pub owner: Owner,
    /// New events, in order.
    pub events: Vec<RenderedEvent>,
    /// Percentages that rose, read when `newest` was the owner's newest event.
    pub percentages: Vec<Percentage>,
    /// Number of the newest event of the owner's log when this was read. Events up to it that were not
    /// forwarded can be read from the log.
    pub newest: u64,
}

impl Forward {
    /// A forward without events and percentages, which says how far the log goes.
    pub(crate) fn up_to(owner: Owner, newest: u64) -> Self {
        Self { owner, events: Vec::new(), percentages: Vec::new(), newest }
    }
}

/// An event as messages.
#[derive(Debug, Clone)]
pub struct RenderedEvent {
    /// Number of the event.
    pub seq: u64,
    /// The upload that changed.
    pub upload: Option<UploadId>,
    /// Whether the state of the provider changed.
    pub provider_changed: bool,
    /// The messages, in order.
    pub messages: Vec<Arc<wire::Message>>,
}

impl RenderedEvent {
    pub(crate) fn of(change: &Change, live: &Live) -> Self {
        let messages = wire::render(&change.event, change.upload.as_ref(), live);
        Self {
            seq: change.event.seq,
            upload: change.event.upload_id,
            provider_changed: change.event.kind == EventKind::ProviderChanged,
            messages: messages.into_iter().map(Arc::new).collect(),
        }
    }
}

/// The percentage of an upload in flight, between two events.
#[derive(Debug, Clone)]
pub struct Percentage {
    /// The upload.
    pub upload: UploadId,
    /// Number of the attempt.
    pub attempt: u32,
    /// 0 to 100.
    pub percent: u8,
    /// The messages, numbered by the owner's newest event.
    pub messages: [Arc<wire::Message>; 2],
}

/// Stops the actor once every subscriber has taken the remaining events, or after this time.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop(pub Duration);

/// Number of subscribers of each owner. Owners without subscribers are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listeners(pub HashMap<Owner, usize>);

impl Listeners {
    /// The owners that have subscribers.
    pub(crate) fn owners(&self) -> HashSet<Owner> {
        self.0.keys().cloned().collect()
    }
}

/// Largest number of uploads that one subscriber watches.
pub const MAX_WATCHED: usize = 1000;

/// Largest number of messages in one publication.
const MAX_MESSAGES: usize = 256;
/// Time between two searches for subscribers whose actor is gone.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// The actor.
pub struct Publisher {
    store: Queries,
    provider: watch::Receiver<ProviderState>,
    listeners: watch::Sender<Listeners>,
    lifeline: Lifeline,
    subscribers: HashMap<SubscriberId, Subscriber>,
    /// One feed for each owner that has subscribers.
    feeds: HashMap<Owner, Feed>,
    newest_id: u64,
    /// Answers [`Stop`] once every subscriber has taken the remaining events.
    stopping: Option<oneshot::Sender<()>>,
}

impl Publisher {
    /// A publisher that keeps `listeners` up to date.
    pub fn new(
        store: Queries,
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
        ctx.run_interval(SWEEP_INTERVAL, |publisher, _| {
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
        // Before the position is read, so that the monitor skips no later event of the owner.
        self.listeners.send_modify(|listeners| *listeners.0.entry(owner.clone()).or_default() += 1);
        self.feeds.entry(owner.clone()).or_default().subscribers.insert(id);
        let mode = after_seq.map_or(Mode::Positioning, Mode::Resuming);
        self.subscribers.insert(id, Subscriber::new(owner.clone(), to, uploads, mode));
        if after_seq.is_some() {
            self.proceed(id, ctx);
            return Box::pin(fut::ready(Ok(id)));
        }
        let store = self.store.clone();
        let position = async move { store.log_position(owner, None).await };
        Box::pin(position.into_actor(self).map(move |position, publisher, ctx| {
            let position = position.inspect_err(|_| publisher.remove(id))?;
            // A resume during the read has set another mode.
            let subscriber = publisher.subscribers.get_mut(&id);
            if let Some(subscriber) = subscriber.filter(|it| it.mode == Mode::Positioning) {
                subscriber.begin_after(position.newest);
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
        if let Some(watched) = self.subscribers.get_mut(&subscriber).and_then(|it| it.watched.as_mut()) {
            watched.remove(&upload);
        }
    }
}

impl Handler<Stop> for Publisher {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Stop(limit): Stop, _: &mut Self::Context) -> Self::Result {
        let (sender, stopped) = oneshot::channel();
        self.stopping = Some(sender);
        self.stop_if_done();
        let done = async move {
            let _ = tokio::time::timeout(limit, stopped).await;
        };
        Box::pin(done.into_actor(self).map(|(), publisher, ctx| {
            publisher.lifeline.release();
            ctx.stop();
        }))
    }
}

impl Publisher {
    fn watch(
        &mut self,
        id: SubscriberId,
        upload: UploadId,
    ) -> ResponseActFuture<Self, Result<wire::Message, Error>> {
        let Some(subscriber) = self.subscribers.get(&id) else {
            return Box::pin(fut::ready(Err(Error::NotFound("subscriber"))));
        };
        let (store, owner) = (self.store.clone(), subscriber.owner.clone());
        let read = async move { store.log_position(owner, Some(upload)).await };
        Box::pin(read.into_actor(self).then(move |position, publisher, _| {
            let answer = match position {
                Ok(LogPosition { newest, upload: Some(record) }) => match publisher.subscribers.get(&id) {
                    // It was sent later events during the read, without those about this upload.
                    Some(it) if it.cursor > newest => return publisher.watch(id, upload),
                    Some(_) => publisher.add_watched(id, &record, newest),
                    None => Err(Error::NotFound("subscriber")),
                },
                Ok(LogPosition { upload: None, .. }) => Err(Error::NotFound("upload")),
                Err(error) => Err(error),
            };
            Box::pin(fut::ready(answer))
        }))
    }

    fn add_watched(
        &mut self,
        id: SubscriberId,
        upload: &Upload,
        newest: u64,
    ) -> Result<wire::Message, Error> {
        let subscriber = self.subscribers.get_mut(&id).ok_or(Error::NotFound("subscriber"))?;
        if let Some(watched) = &mut subscriber.watched {
            if watched.len() >= MAX_WATCHED && !watched.contains_key(&upload.id) {
                return Err(Error::Invalid(format!(
                    "a subscriber may watch {MAX_WATCHED} uploads; unwatch some, or subscribe to all"
                )));
            }
            watched.insert(upload.id, newest);
        }
        subscriber.newest_shown = subscriber.newest_shown.max(newest);
        let percent = self.feeds.get_mut(&subscriber.owner).map_or(0, |feed| feed.show_percent(upload));
        // The client may resume after this number, so it must not skip an event that the client has not
        // answered.
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
}
