//! Who wants to know, and how far each has read.
//!
//! A subscriber is a cursor in the event log of one owner, not a queue: at most one [`Publication`] is outstanding to it. One that fell
//! behind is fed from the log. Percentages between events are for those that keep up; events are never skipped, merged or reordered.
//! Delivery is at least once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::sync::watch;

use crate::{
    analysis::ProviderState,
    error::Error,
    id::{Owner, UploadId},
    lifeline::Lifeline,
    store::{Cursor, Store},
    wire,
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
    /// What it is told as.
    pub messages: Vec<Arc<wire::Message>>,
}

/// A percentage between two events.
#[derive(Debug, Clone)]
pub struct Percentage {
    /// The upload.
    pub upload: UploadId,
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
pub const MAX_WATCHED: usize = 10_000;

/// See the module.
pub struct Publisher {
    store: Store,
    provider: watch::Receiver<ProviderState>,
    listeners: watch::Sender<Listeners>,
    lifeline: Lifeline,
}

impl Publisher {
    /// A publisher that says through `listeners` whom it has subscribers of.
    pub fn new(
        store: Store,
        provider: watch::Receiver<ProviderState>,
        listeners: watch::Sender<Listeners>,
        lifeline: Lifeline,
    ) -> Self {
        Self { store, provider, listeners, lifeline }
    }
}

impl Actor for Publisher {
    type Context = Context<Self>;
}

impl Handler<Subscribe> for Publisher {
    type Result = ResponseActFuture<Self, Result<SubscriberId, Error>>;

    fn handle(&mut self, _: Subscribe, _: &mut Self::Context) -> Self::Result {
        let _ = (&self.store, &self.provider, &self.listeners);
        Box::pin(async { Err(Error::Stopping) }.into_actor(self))
    }
}

impl Handler<Unsubscribe> for Publisher {
    type Result = ();

    fn handle(&mut self, _: Unsubscribe, _: &mut Self::Context) {}
}

impl Handler<Resume> for Publisher {
    type Result = Result<(), Error>;

    fn handle(&mut self, _: Resume, _: &mut Self::Context) -> Self::Result {
        Err(Error::NotFound("subscriber"))
    }
}

impl Handler<WatchUpload> for Publisher {
    type Result = ResponseActFuture<Self, Result<wire::Message, Error>>;

    fn handle(&mut self, _: WatchUpload, _: &mut Self::Context) -> Self::Result {
        Box::pin(async { Err(Error::NotFound("subscriber")) }.into_actor(self))
    }
}

impl Handler<UnwatchUpload> for Publisher {
    type Result = ();

    fn handle(&mut self, _: UnwatchUpload, _: &mut Self::Context) {}
}

impl Handler<Forward> for Publisher {
    type Result = ();

    fn handle(&mut self, _: Forward, _: &mut Self::Context) {}
}

impl Handler<Stop> for Publisher {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.lifeline.release();
        ctx.stop();
    }
}
