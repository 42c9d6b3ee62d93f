//! The store on sled: the only module that names sled.
//!
//! `keys` lays keys out; `unit_of_work` collects the writes of a group of commands; `committer`
//! makes them durable; `index` builds the state in memory at a start; `reads` and `feed` answer
//! queries; `event_log` and `vectors` keep events and vectors; `queue` orders waiting uploads;
//! `opening` opens and heals; `dump` dumps and restores; `verification` compares the trees with
//! each other; `pages` turns sled's panics on damaged pages into errors.

mod committer;
mod dump;
mod event_log;
mod feed;
mod index;
mod keys;
mod opening;
mod pages;
mod queue;
mod reads;
mod records;
mod unit_of_work;
mod vectors;
mod verification;

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};

pub(super) use self::index::Loaded;
pub use self::{
    feed::{
        Change, ChangeBatch, ChangeSignal, Closed, Cursor, InFlight, InFlightSnapshot, Interest, LogPage,
        LogPosition, OwnerSnapshot,
    },
    reads::KnownPath,
    verification::Verification,
};
use self::{index::State, keys::Tree, pages::Pages};
use super::{Clock, CommandError, Faults, Notice, OpenError, Options, RunId, RunRecord};
use crate::error::Error;

/// Name of the threads that open and close sled. A panic on a damaged store becomes an [`OpenError`], and one
/// of the last flush a line in the log. A panic hook may ignore them.
pub const OPENING_THREAD: &str = "mediamill-open-store";

/// An open store.
pub(super) struct Sled {
    trees: Vec<Pages>,
    /// `None` once it is being closed.
    db: Option<sled::Db>,
    /// Our own handle to sled's file, for fdatasync.
    db_file: File,
    highwater: Mutex<(opening::Highwater, Option<Instant>)>,
    inbox: Mutex<committer::Inbox>,
    writer: committer::Writer,
    state: Mutex<State>,
    /// The committer holds it for writing until the transaction is durable.
    reading: RwLock<()>,
    /// Rises with every group that was committed, and when the store breaks.
    newest: watch::Sender<u64>,
    durable_change: AtomicU64,
    /// Lengths of the queue and of the attempts in flight, which can be read while the state is
    /// locked over a commit.
    waiting: AtomicUsize,
    in_flight: AtomicUsize,
    /// Waits for the disk since the store was opened, and their time in microseconds.
    flushes: AtomicU64,
    flush_us: AtomicU64,
    clock: Clock,
    faults: Faults,
    /// Whether the batches and bytes of each owner are counted.
    count_usage: bool,
    /// The receiver of the notices to each run.
    notices: Mutex<HashMap<RunId, mpsc::UnboundedSender<Notice>>>,
    /// Whether a damaged entry of the event log was logged already.
    damage_logged: AtomicBool,
    /// Why the store can no longer be written.
    broken: OnceLock<String>,
    data_dir: PathBuf,
    _lock: File,
    /// This field is dropped last: its receivers then learn that the folder is free.
    closed: watch::Sender<()>,
}

impl Drop for Sled {
    fn drop(&mut self) {
        self.highwater.lock().0.write(self.durable_change.load(Ordering::Acquire), true);
        let open = (std::mem::take(&mut self.trees), self.db.take());
        // sled panics if its last flush fails, on a thread of its own as with an open.
        let closing = thread::Builder::new().name(OPENING_THREAD.into()).spawn(move || drop(open));
        if closing.is_ok_and(|closing| closing.join().is_err()) {
            log::error!(
                "{} could not be closed in good order; acknowledged changes are on the disk",
                self.data_dir.join("store").display()
            );
        }
    }
}

/// Unfinished uploads of all owners, as of the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepth {
    /// Uploads that wait for a worker.
    pub waiting: usize,
    /// Uploads with a running attempt.
    pub in_flight: usize,
}

impl QueueDepth {
    /// Whether no upload is unfinished.
    pub fn is_empty(self) -> bool {
        self.waiting == 0 && self.in_flight == 0
    }

    /// All unfinished uploads.
    pub fn total(self) -> usize {
        self.waiting + self.in_flight
    }
}

/// Reads the store. Clones share it.
#[derive(Clone)]
pub struct Queries {
    sled: Arc<Sled>,
}

impl Queries {
    pub(super) fn new(sled: Arc<Sled>) -> Self {
        Self { sled }
    }

    /// Why the store can no longer be written, if so.
    pub fn broken(&self) -> Option<&str> {
        self.sled.broken.get().map(String::as_str)
    }

    /// The clock of the store.
    pub fn clock(&self) -> Clock {
        self.sled.clock
    }

    /// How many uploads are unfinished, as of the last commit. Waits for nothing.
    pub fn queue_depth(&self) -> QueueDepth {
        self.sled.queue_depth()
    }

    /// How many times commits have waited for the disk since the store was opened, and how long
    /// in all.
    pub fn flushes(&self) -> (u64, Duration) {
        let us = self.sled.flush_us.load(Ordering::Relaxed);
        (self.sled.flushes.load(Ordering::Relaxed), Duration::from_micros(us))
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.sled.data_dir
    }

    /// Gives this handle up and waits until no other handle and no job uses the store; then the
    /// folder is free.
    pub async fn close(self) {
        let mut closed = self.sled.closed.subscribe();
        drop(self);
        // No value is ever sent, so this ends when the sender is dropped.
        let _ = closed.changed().await;
    }
}

impl Sled {
    /// Opens the store of a data folder, or makes a new one.
    pub(super) fn open(data_dir: &Path, options: Options) -> Result<Self, OpenError> {
        let Options { cache_mb, keep_events, count_usage, clock, faults } = options;
        let opened = opening::open(data_dir, cache_mb << 20)?;
        let newest_change =
            opening::newest_change(&opened.trees).map_err(|error| OpenError::damaged(data_dir, error))?;
        let writer = committer::Writer::start()
            .map_err(|error| OpenError::folder(data_dir, "start a thread to write", &error))?;
        Ok(Self {
            trees: opened.trees,
            db: Some(opened.db),
            db_file: opened.db_file,
            highwater: Mutex::new((opened.highwater, None)),
            inbox: Mutex::default(),
            writer,
            state: Mutex::new(State::new(newest_change, keep_events.max(1), clock)),
            reading: RwLock::new(()),
            newest: watch::Sender::new(0),
            durable_change: AtomicU64::new(newest_change),
            waiting: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            flushes: AtomicU64::new(0),
            flush_us: AtomicU64::new(0),
            clock,
            faults,
            count_usage,
            notices: Mutex::default(),
            damage_logged: AtomicBool::new(false),
            broken: OnceLock::new(),
            data_dir: data_dir.to_owned(),
            _lock: opened.lock,
            closed: watch::Sender::new(()),
        })
    }

    /// Hands all writes to the system. It does not wait for the disk.
    fn flush(&self) -> sled::Result<()> {
        self.db.as_ref().map_or(Ok(()), |db| db.flush().map(drop))
    }

    pub(super) fn queue_depth(&self) -> QueueDepth {
        QueueDepth {
            waiting: self.waiting.load(Ordering::Acquire),
            in_flight: self.in_flight.load(Ordering::Acquire),
        }
    }

    /// Sends the notices to a run to a receiver from now on.
    pub(super) fn notify(&self, run: RunId, to: mpsc::UnboundedSender<Notice>) {
        self.notices.lock().insert(run, to);
    }

    /// Whether a run has started and not ended.
    pub(super) async fn has_run(self: &Arc<Self>, run: RunId) -> Result<bool, CommandError> {
        if let Some(why) = self.broken.get() {
            return Err(CommandError::Unknown(why.clone()));
        }
        let read = self
            .read(move |sled| {
                let record = sled.tree(Tree::Runs).get(&keys::run(run))?;
                let record: Option<RunRecord> = record.map(|it| records::decode(&it)).transpose()?;
                Ok(record.is_some_and(|it| it.ended.is_none()))
            })
            .await;
        read.map_err(|error| match error {
            Error::Store(text) => CommandError::Unknown(text),
            error => CommandError::unknown(error),
        })
    }

    fn note_depth(&self, state: &State) {
        self.waiting.store(state.queue.len(), Ordering::Release);
        self.in_flight.store(state.held.len(), Ordering::Release);
    }
}
