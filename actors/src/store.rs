//! The only place that names sled: records, events and indexes in trees, changed by one committer.
//!
//! A change is answered when it is on disk. Readers see only what is on disk. Numbers of changes rise in the order in which they become
//! visible. No keys, closures or sled errors come out.

mod attempts;
mod batches;
mod committer;
mod draft;
mod dump;
mod events;
mod keys;
mod news;
mod opening;
mod places;
mod queue;
mod reads;
mod recovery;
mod removal;
mod retention;
mod steps;
mod vectors;
mod verification;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use self::draft::State;
pub use self::{
    draft::Active,
    news::{
        Change, ChangeBatch, ChangeSignal, Closed, Cursor, InFlight, InFlightSnapshot, Interest, LogPage,
        LogPosition, OwnerSnapshot,
    },
    places::{Place, Replaces},
    recovery::{Recovered, Scope},
    removal::Terminated,
    verification::Verification,
};
use crate::{
    id::{BatchId, Owner, UploadId},
    media::Format,
    upload::{FileRef, Status, Upload},
};

/// Name of the thread that opens sled, whose panics on a damaged store become an [`OpenError`]. A panic hook may stay silent for it.
pub const OPENING_THREAD: &str = "mediamill-open-store";

/// A handle to an open store; clones share it. The store closes when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// Changes the store. Only the actors hold one. Clones share the store.
#[derive(Clone)]
pub struct Commands {
    inner: Arc<Inner>,
}

/// Reads the store. Clones share it.
#[derive(Clone)]
pub struct Queries {
    inner: Arc<Inner>,
}

struct Inner {
    trees: Vec<sled::Tree>,
    db: sled::Db,
    db_file: File,
    highwater: Mutex<(opening::Highwater, Option<Instant>)>,
    inbox: Mutex<committer::Inbox>,
    writer: committer::Writer,
    state: Mutex<State>,
    /// Held for writing from the transaction until it is on disk.
    reading: RwLock<()>,
    /// Rises with every group that was committed, and when the store breaks.
    newest: watch::Sender<u64>,
    durable_change: AtomicU64,
    /// How many uploads wait and how many are in flight; the state itself is locked while the disk is waited for.
    waiting: AtomicUsize,
    active: AtomicUsize,
    /// How often the disk was waited for, and how long in all, in microseconds.
    flushes: AtomicU64,
    flush_us: AtomicU64,
    clock: Clock,
    /// It was told that an entry of the log makes no sense.
    damage_told: AtomicBool,
    /// Why nothing can be written any more.
    broken: OnceLock<String>,
    data_dir: PathBuf,
    _lock: File,
    /// Stands last and is dropped last: its receivers learn that the folder is free.
    closed: watch::Sender<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.highwater.lock().0.write(self.durable_change.load(Ordering::Acquire));
    }
}

/// How many uploads are unfinished.
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

/// Where time comes from.
#[derive(Debug, Clone, Copy, Default)]
pub enum Clock {
    /// The system's.
    #[default]
    System,
    /// A fixed date that moves with tokio's clock, which tests can pause.
    Tokio {
        /// When the clock was made.
        start: tokio::time::Instant,
    },
}

impl Clock {
    /// The present, in whole milliseconds.
    pub fn now(&self) -> Timestamp {
        let since_epoch = match self {
            Self::System => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            // 2026-01-01T00:00:00Z
            Self::Tokio { start } => Duration::from_secs(1_767_225_600) + start.elapsed(),
        };
        Timestamp::from_millisecond(since_epoch.as_millis() as i64).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Why a store does not open. Each is a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// Another process has it.
    Locked {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// A folder or file cannot be made, read or written.
    Folder {
        /// The sentence.
        message: String,
    },
    /// The pages do not make sense.
    Damaged {
        /// The sentence.
        message: String,
    },
    /// It holds less than it once did.
    Shorter {
        /// The data folder.
        data_dir: PathBuf,
        /// The newest change that is there.
        found: u64,
        /// The newest change that once was on disk.
        known: u64,
    },
    /// A dump was being restored into it when the process ended.
    HalfRestored {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// Another version of mediamill wrote it.
    Format {
        /// The data folder.
        data_dir: PathBuf,
        /// The version that it has.
        found: String,
    },
}

impl OpenError {
    fn folder(path: &Path, verb: &str, error: &std::io::Error) -> Self {
        Self::Folder {
            message: format!(
                "cannot {verb} {}: {error}; choose another folder with store.data_dir or mend this one",
                path.display()
            ),
        }
    }

    fn damaged(path: &Path, error: impl std::fmt::Display) -> Self {
        Self::Damaged {
            message: format!(
                "the store in {} is damaged ({error}); move that folder away and restore a dump with `mediamill restore`, or start anew \
                 without it",
                path.display()
            ),
        }
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked { data_dir } => write!(
                f,
                "another mediamill is using {}; wait until it ends, or choose another folder with store.data_dir",
                data_dir.display()
            ),
            Self::Folder { message } | Self::Damaged { message } => f.write_str(message),
            Self::Shorter { data_dir, found, known } => write!(
                f,
                "the store in {0} holds {found} changes, but {known} were on disk once, so part of it is lost; move {0} away and restore a \
                 dump with `mediamill restore`, or delete {0}/HIGHWATER to go on with what is there",
                data_dir.display()
            ),
            Self::HalfRestored { data_dir } => write!(
                f,
                "the store in {0} holds only a part of a dump, as its restoring was cut short; delete {0}/store and restore the dump again",
                data_dir.display()
            ),
            Self::Format { data_dir, found } => write!(
                f,
                "the store in {} has format {found}, which this version of mediamill does not know; use the version that wrote it, or \
                 restore a dump into an empty folder",
                data_dir.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// There is no such batch or upload of this owner.
    NotFound(&'static str),
    /// It does not stand so that this can be done.
    Refused(String),
    /// The attempt was given up meanwhile; its result is dropped.
    Stale,
    /// More uploads would wait than may.
    Full {
        /// The limit.
        limit: u64,
    },
    /// Whether it was made is not known: the store cannot be written any more.
    Unknown(String),
}

impl WriteError {
    fn unknown(error: impl std::fmt::Display) -> Self {
        Self::Unknown(error.to_string())
    }

    fn refused(from: Status) -> Self {
        Self::Refused(format!("the upload is {}", from.as_str()))
    }
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotFound(what) => write!(f, "there is no such {what}"),
            Self::Refused(text) | Self::Unknown(text) => f.write_str(text),
            Self::Stale => f.write_str("the attempt was given up"),
            Self::Full { limit } => write!(f, "more than {limit} uploads would wait"),
        }
    }
}

impl From<WriteError> for crate::error::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NotFound(what) => Self::NotFound(what),
            WriteError::Refused(text) => Self::Conflict(text),
            WriteError::Stale => Self::Conflict("the attempt was given up".into()),
            WriteError::Full { limit } => Self::QueueFull { limit },
            WriteError::Unknown(text) => Self::Store(text),
        }
    }
}

/// Proves that an attempt is the running one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The upload.
    pub upload: UploadId,
    /// Number of the attempt.
    pub attempt: u32,
    /// The opening of the store in which it began.
    run: u64,
}

impl Token {
    fn of(upload: UploadId, entry: &Active) -> Self {
        Self { upload, attempt: entry.attempt, run: entry.run }
    }
}

/// An attempt that was begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The record as it stands.
    pub upload: Upload,
    /// What proves the attempt.
    pub token: Token,
    /// Nothing else runs beside it.
    pub alone: bool,
    /// Is there for as long as the attempt holds the upload.
    pub(crate) held: Weak<()>,
}

/// What follows an attempt that did not complete.
#[derive(Debug)]
pub enum AfterAttempt {
    /// The next attempt has begun.
    Again(Box<Begun>),
    /// The upload waits.
    Rests,
    /// The upload has failed.
    Ended,
}

/// A batch to be written.
#[derive(Debug)]
pub struct NewBatch {
    /// Whose it is.
    pub owner: Owner,
    /// Files that were refused.
    pub refused: u32,
    /// Files that were accepted, in order.
    pub uploads: Vec<NewUpload>,
}

/// A file that was accepted.
#[derive(Debug)]
pub struct NewUpload {
    /// Its name; stored bytes already lie under it.
    pub id: UploadId,
    /// Where the bytes lie.
    pub file: FileRef,
    /// The file's name without folders.
    pub file_name: String,
    /// Length in bytes.
    pub file_size: u64,
    /// SHA-256, in hexadecimal digits.
    pub content_hash: String,
    /// What the bytes are.
    pub format: Format,
    /// Memory that the decode needs at most, in bytes.
    pub decode_bytes: u64,
    /// For a file in place: what it looked like.
    pub place: Option<Place>,
    /// An older upload of the same file.
    pub replaces: Option<Replaces>,
    /// A completed upload of the same bytes whose description still holds, so that only what follows it is done anew.
    pub described_as: Option<UploadId>,
}

/// What [`Store::submit`] did.
#[derive(Debug)]
pub struct Accepted {
    /// The batch.
    pub batch_id: BatchId,
    /// Its uploads, in order.
    pub uploads: Vec<UploadId>,
    /// Older uploads of the same files that never completed, and are gone.
    pub ended: Terminated,
}

impl Store {
    /// Opens the store of a data folder, or makes a new one. Resumes nothing: see [`Store::recover`].
    ///
    /// # Errors
    /// [`OpenError`], a sentence that says what to do.
    pub fn open(data_dir: &Path, cache_mb: u64, keep_events: u64, clock: Clock) -> Result<Self, OpenError> {
        let opened = opening::open(data_dir, cache_mb << 20)?;
        let newest_change =
            opening::newest_change(&opened.trees).map_err(|error| opening::unusable(data_dir, error))?;
        let state = State {
            newest_change,
            next_batch: 1,
            keep_events: keep_events.max(1),
            run: random(),
            clock,
            ..State::default()
        };
        let writer = committer::Writer::start()
            .map_err(|error| OpenError::folder(data_dir, "start a thread to write", &error))?;
        let inner = Inner {
            trees: opened.trees,
            db: opened.db,
            db_file: opened.db_file,
            highwater: Mutex::new((opened.highwater, None)),
            inbox: Mutex::default(),
            writer,
            state: Mutex::new(state),
            reading: RwLock::new(()),
            newest: watch::Sender::new(0),
            durable_change: AtomicU64::new(newest_change),
            waiting: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            flushes: AtomicU64::new(0),
            flush_us: AtomicU64::new(0),
            clock,
            damage_told: AtomicBool::new(false),
            broken: OnceLock::new(),
            data_dir: data_dir.to_owned(),
            _lock: opened.lock,
            closed: watch::Sender::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The handle that changes the store, for the actors.
    pub fn commands(&self) -> Commands {
        Commands { inner: Arc::clone(&self.inner) }
    }

    /// The handle that reads the store.
    pub fn queries(&self) -> Queries {
        Queries { inner: Arc::clone(&self.inner) }
    }

    /// Gives this handle up and waits until the folder is free: see [`Queries::close`].
    pub async fn close(self) {
        let queries = self.queries();
        drop(self);
        queries.close().await;
    }
}

impl Queries {
    /// Gives this handle up and waits until no blocking job uses the store any more. Once no other handle is left, the folder is free for
    /// another opening then; otherwise this waits for the other handles too.
    pub async fn close(self) {
        let mut closed = self.inner.closed.subscribe();
        drop(self);
        // Nothing is ever sent, so this ends when the sender is dropped.
        let _ = closed.changed().await;
    }

    /// Why nothing can be written any more, if so.
    pub fn broken(&self) -> Option<&str> {
        self.inner.broken.get().map(String::as_str)
    }

    /// Where time comes from.
    pub fn clock(&self) -> Clock {
        self.inner.clock
    }

    /// How many uploads are unfinished.
    pub fn queue_depth(&self) -> QueueDepth {
        QueueDepth {
            waiting: self.inner.waiting.load(Ordering::Acquire),
            in_flight: self.inner.active.load(Ordering::Acquire),
        }
    }

    /// How often the disk was waited for since the store was opened, and how long in all.
    pub fn flushes(&self) -> (u64, Duration) {
        let us = self.inner.flush_us.load(Ordering::Relaxed);
        (self.inner.flushes.load(Ordering::Relaxed), Duration::from_micros(us))
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        &self.inner.data_dir
    }
}

impl Inner {
    fn note_load(&self, state: &State) {
        self.waiting.store(state.queue.len(), Ordering::Release);
        self.active.store(state.active.len(), Ordering::Release);
    }
}

/// A number that tells openings apart.
fn random() -> u64 {
    let [a, b, ..] = *uuid::Uuid::new_v4().as_bytes().as_chunks::<8>().0 else { return 0 };
    u64::from_le_bytes(a) ^ u64::from_le_bytes(b)
}
