//! Ticks: reads what changed in the store since the last tick and the uploads in flight, and forwards it as messages to the Publisher.
//! It also answers what is asked about batches and uploads.
//!
//! It reads nothing for owners that nobody listens to.

mod answers;
mod tracker;

use std::{io::Write, sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use self::tracker::ProgressTracker;
use crate::{
    analysis::{Identity, ProviderState},
    batch::Batch,
    config,
    error::Error,
    id::{BatchId, Owner, UploadId},
    lifeline::Lifeline,
    provider_gate::ProviderGate,
    publisher::{Forward, Listeners},
    store::{ChangeBatch, Cursor, Queries},
    upload::Upload,
};

/// Asks for a batch.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<BatchView, Error>")]
pub struct GetBatch {
    /// Whose batch.
    pub owner: Owner,
    /// Which batch.
    pub batch: BatchId,
}

/// Asks for an upload, with the step that it is in now.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Upload, Error>")]
pub struct GetUpload {
    /// Whose upload.
    pub owner: Owner,
    /// Which upload.
    pub upload: UploadId,
}

/// Asks for batches, newest first.
///
/// # Errors
/// [`Error::Invalid`] unless `limit` is 1 to [`ListBatches::MAX`], [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<BatchView>, Error>")]
pub struct ListBatches {
    /// Whose batches.
    pub owner: Owner,
    /// How many are passed over.
    pub offset: usize,
    /// Most that come, 1 to [`ListBatches::MAX`].
    pub limit: usize,
}

impl ListBatches {
    /// Most batches of one answer.
    pub const MAX: usize = 100;
}

/// Asks for the uploads of a batch, in their order.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Invalid`] unless `limit` is 1 to [`ListUploads::MAX`],
/// [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Upload>, Error>")]
pub struct ListUploads {
    /// Whose batch.
    pub owner: Owner,
    /// Which batch.
    pub batch: BatchId,
    /// How many are passed over.
    pub offset: usize,
    /// Most that come, 1 to [`ListUploads::MAX`].
    pub limit: usize,
}

impl ListUploads {
    /// Most uploads of one answer.
    pub const MAX: usize = 1000;
}

/// Asks for completed uploads whose descriptions are nearest in meaning to words, the nearest first.
///
/// # Errors
/// [`Error::Invalid`] unless the trimmed `query` has 1 to [`SearchUploads::MAX_CHARS`] characters and `limit` is 1 to
/// [`SearchUploads::MAX`];
/// [`Error::ProviderUnavailable`] if the words cannot be embedded; [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Found>, Error>")]
pub struct SearchUploads {
    /// Whose uploads.
    pub owner: Owner,
    /// The words.
    pub query: String,
    /// Most that come, 1 to [`SearchUploads::MAX`].
    pub limit: usize,
}

impl SearchUploads {
    /// Most uploads of one answer.
    pub const MAX: usize = 100;
    /// Longest query, in characters.
    pub const MAX_CHARS: usize = 1000;
}

/// Asks how the engine is.
#[derive(Debug, Message)]
#[rtype(result = "Health")]
pub struct GetHealth;

/// Writes the whole store to a writer, between two commits, and gives the writer back. Writers of the store wait meanwhile: hand it a file
/// or memory, never a socket.
///
/// # Errors
/// [`Error::Store`] if the store cannot be read or the writer cannot be written.
#[derive(Debug, Message)]
#[rtype(result = "Result<W, Error>")]
pub struct DumpStore<W: Write + Send + 'static>(pub W);

/// Forwards what is left, and stops.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// A batch, and what follows from its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    /// Its record.
    pub batch: Batch,
    /// Where it stands.
    pub status: crate::batch::Status,
    /// Percent of its uploads that ended, rounded down.
    pub percent: u8,
    /// Seconds until the last upload ends, if that can be told.
    pub eta_seconds: Option<u64>,
    /// What is waited for, in one sentence.
    pub waiting: Option<String>,
}

/// An upload that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The upload.
    pub upload: Upload,
    /// Cosine of the angle between description and query, -1 to 1.
    pub score: f32,
}

/// How the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How the provider stands.
    pub provider: ProviderState,
    /// What answers there.
    pub identity: Identity,
    /// Uploads that wait for a worker.
    pub waiting: usize,
    /// Uploads in the hands of workers.
    pub active: usize,
    /// Subscribers of the Publisher.
    pub subscribers: usize,
    /// Free space where the data folder lies, in bytes; `None` if that cannot be told.
    pub free_bytes: Option<u64>,
    /// Why the store cannot be written any more, if so.
    pub store_broken: Option<String>,
}

/// Shortest time between two nudges.
const NUDGE_EVERY: Duration = Duration::from_millis(20);
/// How long after a failed read the next tick comes.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Events that one tick reads at once.
const MOST_EVENTS: usize = 256;

/// Something changed in the store.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Nudge;

/// See the module.
pub struct ProgressMonitor {
    store: Queries,
    gate: Arc<ProviderGate>,
    publisher: Recipient<Forward>,
    listeners: watch::Receiver<Listeners>,
    config: config::Monitor,
    lifeline: Lifeline,
    /// How far the store was read.
    cursor: Cursor,
    tracker: ProgressTracker,
    /// A tick is under way.
    ticking: bool,
    /// Something changed meanwhile.
    again: bool,
    /// After a failed read.
    not_before: Option<Instant>,
    /// RenderedEvent when everything is forwarded.
    stopping: Option<oneshot::Sender<()>>,
}

impl ProgressMonitor {
    /// A monitor that tells `publisher` what changes for those owners that `listeners` names.
    pub fn new(
        store: Queries,
        gate: Arc<ProviderGate>,
        publisher: Recipient<Forward>,
        listeners: watch::Receiver<Listeners>,
        config: &config::Monitor,
        lifeline: Lifeline,
    ) -> Self {
        Self {
            cursor: store.newest(),
            store,
            gate,
            publisher,
            listeners,
            config: config.clone(),
            lifeline,
            tracker: ProgressTracker::default(),
            ticking: false,
            again: false,
            not_before: None,
            stopping: None,
        }
    }

    /// Reads what changed and, at an interval's tick, how far the uploads in flight are.
    fn tick(&mut self, interval: bool, ctx: &mut Context<Self>) {
        if self.ticking {
            self.again |= !interval;
            return;
        }
        if self.not_before.is_some_and(|then| Instant::now() < then) && self.stopping.is_none() {
            return;
        }
        // In this order: an owner to whom somebody begins to listen later has its place in the log looked up later still.
        let newest = self.store.newest();
        if self.listeners.borrow().0.is_empty() {
            self.cursor = newest;
            self.tracker.clear();
            return self.stop_if_asked(ctx);
        }
        let in_flight = interval && self.store.queue_depth().in_flight > 0;
        if newest == self.cursor && !in_flight {
            return self.stop_if_asked(ctx);
        }
        self.ticking = true;
        let known = in_flight.then(|| self.tracker.known());
        let (store, cursor, listeners) = (self.store.clone(), self.cursor, self.listeners.clone());
        let wanted = move |owner: &Owner| listeners.borrow().0.contains_key(owner);
        let read = async move { store.news(cursor, wanted, MOST_EVENTS, known).await };
        ctx.spawn(read.into_actor(self).then(|news, monitor, _| monitor.forward(news)).map(
            |done, monitor, ctx| {
                monitor.ticking = false;
                let again = std::mem::take(&mut monitor.again);
                match done {
                    Ok(more) if more || again => monitor.tick(false, ctx),
                    Ok(_) => monitor.stop_if_asked(ctx),
                    Err(error) => {
                        log::error!("what changed cannot be read, and is tried again: {error}");
                        monitor.not_before = Some(Instant::now() + AFTER_FAILURE);
                        ctx.run_later(AFTER_FAILURE, |monitor, ctx| monitor.tick(true, ctx));
                        monitor.stop_if_asked(ctx);
                    }
                }
            },
        ));
    }

    /// Forwards what was read, and waits until the publisher has it. Answers with whether there is more to be read.
    fn forward(&mut self, news: Result<ChangeBatch, Error>) -> ResponseActFuture<Self, Result<bool, Error>> {
        let news = match news {
            Ok(news) => news,
            Err(error) => return Box::pin(fut::ready(Err(error))),
        };
        self.cursor = news.reached;
        let more = news.more;
        let waiting = self.gate.state().borrow().waiting();
        let now = self.store.clock().now();
        let forwards = self.tracker.digest(news, waiting, now, self.config.tick);
        let publisher = self.publisher.clone();
        let send = async move {
            for forward in forwards {
                // A publisher that is gone ends the engine by its own lifeline.
                let _ = publisher.send(forward).await;
            }
            Ok(more)
        };
        Box::pin(send.into_actor(self))
    }

    fn stop_if_asked(&mut self, ctx: &mut Context<Self>) {
        if let Some(stopping) = self.stopping.take() {
            self.lifeline.release();
            ctx.stop();
            let _ = stopping.send(());
        }
    }
}

impl Actor for ProgressMonitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.config.tick, |monitor, ctx| monitor.tick(true, ctx));
        if self.config.nudge {
            let (mut changes, monitor) = (self.store.watch(), ctx.address());
            let nudge = async move {
                while changes.changed().await.is_ok() {
                    monitor.do_send(Nudge);
                    tokio::time::sleep(NUDGE_EVERY).await;
                }
            };
            ctx.spawn(nudge.into_actor(self));
        }
    }
}

impl Handler<Nudge> for ProgressMonitor {
    type Result = ();

    fn handle(&mut self, Nudge: Nudge, ctx: &mut Self::Context) {
        self.tick(false, ctx);
    }
}

impl Handler<Stop> for ProgressMonitor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Stop: Stop, ctx: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.stopping = Some(tell);
        self.again = true;
        self.tick(false, ctx);
        Box::pin(async move {
            // Not told means stopped as well.
            let _ = told.await;
        })
    }
}
