//! Who wants to know, and how far each has read.
//!
//! A subscriber is a cursor in the event log of one owner, not a queue: at most one [`Publication`] is outstanding to it. One that fell
//! behind is fed from the log. Percentages between events are for those that keep up; events are never skipped, merged or reordered.
//! Delivery is at least once.

mod delivery;
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
    event::EventKind,
    id::{Owner, UploadId},
    lifeline::Lifeline,
    store::{Change, Cursor, LogPosition, Queries},
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
    pub events: Vec<RenderedEvent>,
    /// Percentages that rose, which hold for `reached`.
    pub percentages: Vec<Percentage>,
    /// How far the monitor has read.
    pub reached: Cursor,
}

/// An event and its messages.
#[derive(Debug, Clone)]
pub struct RenderedEvent {
    /// Number of the event.
    pub seq: u64,
    /// The upload that it happened to.
    pub upload: Option<UploadId>,
    /// How the provider stands changed with it.
    pub provider_changed: bool,
    /// What it is told as.
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
/// How often subscribers whose actor is gone are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// See the module.
pub struct Publisher {
    store: Queries,
    provider: watch::Receiver<ProviderState>,
    listeners: watch::Sender<Listeners>,
    lifeline: Lifeline,
    subscribers: HashMap<SubscriberId, Subscriber>,
    /// One for each owner that has subscribers.
    feeds: HashMap<Owner, Feed>,
    newest_id: u64,
    /// RenderedEvent when nothing is left to be sent.
    stopping: Option<oneshot::Sender<()>>,
}

impl Publisher {
    /// A publisher that says through `listeners` whom it has subscribers of.
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
                Ok(LogPosition { newest, upload: Some(record), reached }) => {
                    match publisher.subscribers.get(&id) {
                        // It was sent events that are newer than what was read: what they said of the upload would be missed.
                        Some(it) if it.cursor > newest => return publisher.watch(id, upload),
                        Some(_) => publisher.choose(id, &record, newest, reached),
                        None => Err(Error::NotFound("subscriber")),
                    }
                }
                Ok(LogPosition { upload: None, .. }) => Err(Error::NotFound("upload")),
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
}
