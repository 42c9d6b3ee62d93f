//! Reads the change feed and forwards it to the Publisher, for owners that have subscribers.
//!
//! A tick at a fixed interval reads new events and the uploads in flight, and computes percentages for these.
//! A nudge after a write brings the next read of events forward. Without subscribers nothing is read.

mod tracker;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use actix::prelude::*;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use self::tracker::ProgressTracker;
use crate::{
    analysis::ProviderState,
    config,
    error::Error,
    id::{Owner, UploadId},
    lifeline::Lifeline,
    publisher::{Forward, Listeners},
    store::{ChangeBatch, Cursor, Interest, Queries},
};

/// Forwards the remaining events, then stops the actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Shortest time between two nudges.
const NUDGE_INTERVAL: Duration = Duration::from_millis(20);
/// Pause after a failed read.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Largest number of events in one read.
const MAX_EVENTS: usize = 256;

/// The store was written.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Nudge;

/// One read of the change feed.
struct FeedRead {
    changes: ChangeBatch,
    /// Owners that got their first subscriber during the read, each with the number of its newest event.
    joined: HashMap<Owner, u64>,
}

/// The actor. At most one read is under way.
pub struct ProgressMonitor {
    store: Queries,
    provider: watch::Receiver<ProviderState>,
    publisher: Recipient<Forward>,
    listeners: watch::Receiver<Listeners>,
    config: config::Monitor,
    lifeline: Lifeline,
    /// Where the next read begins.
    cursor: Cursor,
    tracker: ProgressTracker,
    /// A read is under way.
    reading: bool,
    /// The store was written during the read that is under way.
    read_again: bool,
    /// Earliest time of the next read after a failed one.
    retry_at: Option<Instant>,
    /// Answers [`Stop`] once everything is forwarded.
    stopping: Option<oneshot::Sender<()>>,
}

impl ProgressMonitor {
    /// A monitor that forwards to `publisher` whatever changes from now on for the owners in `listeners`.
    pub fn new(
        store: Queries,
        provider: watch::Receiver<ProviderState>,
        publisher: Recipient<Forward>,
        listeners: watch::Receiver<Listeners>,
        config: &config::Monitor,
        lifeline: Lifeline,
    ) -> Self {
        Self {
            cursor: store.newest(),
            store,
            provider,
            publisher,
            listeners,
            config: config.clone(),
            lifeline,
            tracker: ProgressTracker::default(),
            reading: false,
            read_again: false,
            retry_at: None,
            stopping: None,
        }
    }

    /// Reads new events, and uploads in flight if `with_percentages`, and forwards both.
    fn tick(&mut self, with_percentages: bool, ctx: &mut Context<Self>) {
        if self.reading {
            self.read_again |= !with_percentages;
            return;
        }
        if self.retry_at.is_some_and(|at| Instant::now() < at) && self.stopping.is_none() {
            return;
        }
        // In this order: an owner that joins after the check takes its position in the log after `newest`.
        let newest = self.store.newest();
        if self.listeners.borrow().0.is_empty() {
            self.cursor = newest;
            self.tracker.clear();
            return self.stop_if_asked(ctx);
        }
        let in_flight = with_percentages && self.store.queue_depth().in_flight > 0;
        if !self.store.has_changes_after(&self.cursor) && !in_flight {
            return self.stop_if_asked(ctx);
        }
        self.reading = true;
        let tracked = in_flight.then(|| self.tracker.ids());
        let read = read_feed(self.store.clone(), self.cursor.clone(), self.listeners.clone(), tracked);
        let forwarded = read.into_actor(self).then(|read, monitor, _| monitor.forward(read));
        ctx.spawn(forwarded.map(|forwarded, monitor, ctx| {
            monitor.reading = false;
            let read_again = std::mem::take(&mut monitor.read_again);
            match forwarded {
                Ok(more) if more || read_again => monitor.tick(false, ctx),
                Ok(_) => monitor.stop_if_asked(ctx),
                Err(error) => {
                    log::error!(
                        "the change feed cannot be read; the next try is in {RETRY_DELAY:?}: {error}"
                    );
                    monitor.retry_at = Some(Instant::now() + RETRY_DELAY);
                    ctx.run_later(RETRY_DELAY, |monitor, ctx| monitor.tick(true, ctx));
                    monitor.stop_if_asked(ctx);
                }
            }
        }));
    }

    /// Forwards what was read and waits until the Publisher has handled it. Returns whether more events can
    /// be read.
    fn forward(&mut self, read: Result<FeedRead, Error>) -> ResponseActFuture<Self, Result<bool, Error>> {
        let FeedRead { changes, joined } = match read {
            Ok(read) => read,
            Err(error) => return Box::pin(fut::ready(Err(error))),
        };
        self.cursor = changes.reached.clone();
        let more = changes.more;
        let waiting = self.provider.borrow().waiting();
        let mut forwards = self.tracker.update(changes, waiting, self.store.clock().now(), self.config.tick);
        forwards.extend(joined.into_iter().map(|(owner, newest)| Forward::up_to(owner, newest)));
        let publisher = self.publisher.clone();
        let send = async move {
            for forward in forwards {
                // Without a Publisher the engine ends by the Publisher's lifeline.
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

/// Reads events after `cursor` and, with the ids of `tracked` uploads, the uploads in flight.
async fn read_feed(
    store: Queries,
    cursor: Cursor,
    listeners: watch::Receiver<Listeners>,
    tracked: Option<HashSet<UploadId>>,
) -> Result<FeedRead, Error> {
    let owners = listeners.borrow().owners();
    let changes = store.changes_after(&cursor, Interest::Owners(owners.clone()), MAX_EVENTS, tracked).await?;
    // An owner may have joined during the read and taken its position in the log before an event that the
    // read skipped. The Publisher learns how far the log goes and reads the rest there. An owner that joins
    // later takes a later position.
    let mut joined = listeners.borrow().owners();
    joined.retain(|owner| !owners.contains(owner));
    let mut positions = HashMap::new();
    for owner in joined {
        let newest = store.log_position(owner.clone(), None).await?.newest;
        positions.insert(owner, newest);
    }
    Ok(FeedRead { changes, joined: positions })
}

impl Actor for ProgressMonitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.config.tick, |monitor, ctx| monitor.tick(true, ctx));
        if self.config.nudge {
            let (mut signal, monitor) = (self.store.watch(), ctx.address());
            let nudge = async move {
                while signal.changed().await.is_ok() {
                    monitor.do_send(Nudge);
                    tokio::time::sleep(NUDGE_INTERVAL).await;
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
        let (sender, stopped) = oneshot::channel();
        self.stopping = Some(sender);
        self.read_again = true;
        self.tick(false, ctx);
        Box::pin(async move {
            // The sender is dropped only with the actor.
            let _ = stopped.await;
        })
    }
}
