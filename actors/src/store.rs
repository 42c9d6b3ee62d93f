//! Records, events and indexes, changed by commands and read by queries.
//!
//! [`Store::open`] gives two handles: [`Commands`] changes the store and is held by the actors
//! alone; [`Queries`] reads it. The meaning of every command is in `rules/`, written against a
//! `UnitOfWork`. `sled/` supplies that unit of work, the commit, the reads, the change feed,
//! opening and healing, and the dump. No keys, closures or sled errors come out.
//!
//! A command is answered when it is durable, and a reader sees durable changes only. Events of an
//! owner have numbers without gaps, in the order in which they become visible.

mod admission;
mod attempt;
mod clock;
mod commands;
mod error;
mod fault;
mod rules;
mod run;
mod sled;
mod unit_of_work;

use std::{path::Path, sync::Arc};

use self::admission::PathEntry;
pub use self::{
    admission::{AdmissionLimits, Companionship, FileStamp, NewBatch, NewUpload, Relocation, Replaces},
    attempt::{AfterAttempt, Begun, RunningAttempt, Token},
    clock::Clock,
    commands::{Commands, Notice, Notices},
    error::{CommandError, OpenError},
    fault::{FaultPoint, Faults},
    run::{Recovered, RunEnd, RunId, RunRecord, Scope},
    sled::{
        Change, ChangeBatch, ChangeSignal, Closed, Cursor, InFlight, InFlightSnapshot, Interest, KnownPath,
        LogPage, LogPosition, OPENING_THREAD, OwnerSnapshot, Queries, QueueDepth, Verification,
    },
};

/// The settings of an open store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of the page cache, in MiB. Memory use is about three times as much.
    pub cache_mb: u64,
    /// Events that are kept of each owner, at least 1. Up to a tenth more stay while there is work.
    pub keep_events: u64,
    /// Whether the batches and bytes of each owner are counted, as quotas need. A start then reads all records.
    pub count_usage: bool,
    /// The clock of the store.
    pub clock: Clock,
    /// Faults that a test injects.
    pub faults: Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_mb: 64,
            keep_events: 100_000,
            count_usage: false,
            clock: Clock::default(),
            faults: Faults::default(),
        }
    }
}

/// An open store. Clones share it; it closes when the last clone and the last handle are dropped.
#[derive(Clone)]
pub struct Store {
    sled: Arc<sled::Sled>,
}

impl Store {
    /// Opens the store of a data folder, or makes a new one. Nothing is resumed: see [`Commands::start`].
    ///
    /// # Errors
    /// [`OpenError`], a sentence that says what to do.
    pub fn open(data_dir: &Path, options: Options) -> Result<Self, OpenError> {
        Ok(Self { sled: Arc::new(sled::Sled::open(data_dir, options)?) })
    }

    /// A handle that changes the store, under a new run. The run begins attempts after [`Commands::start`].
    pub fn commands(&self) -> Commands {
        Commands::new(Arc::clone(&self.sled), RunId::generate())
    }

    /// The handle that reads the store.
    pub fn queries(&self) -> Queries {
        Queries::new(Arc::clone(&self.sled))
    }

    /// Gives this clone up and waits until the folder is free: see [`Queries::close`].
    pub async fn close(self) {
        let queries = self.queries();
        drop(self);
        queries.close().await;
    }
}
