//! Answers questions about batches, uploads and the engine itself. Every answer is read from disk; nothing is
//! cached.

mod handlers;

use std::{io::Write, sync::Arc};

use actix::prelude::*;
use tokio::sync::watch;

use crate::{
    analysis::{Identity, ProviderState},
    batch::{Batch, Status},
    error::Error,
    id::{BatchId, Owner, UploadId},
    lifeline::Lifeline,
    provider_gate::ProviderGate,
    publisher::Listeners,
    store::Queries,
    upload::Upload,
};

/// Gets one batch.
///
/// # Errors
/// [`Error::NotFound`] if the owner has no such batch, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<BatchView, Error>")]
pub struct GetBatch {
    /// Owner of the batch.
    pub owner: Owner,
    /// The batch.
    pub batch: BatchId,
}

/// Gets one upload. Its stage is the present one, also while an attempt runs.
///
/// # Errors
/// [`Error::NotFound`] if the owner has no such upload, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Upload, Error>")]
pub struct GetUpload {
    /// Owner of the upload.
    pub owner: Owner,
    /// The upload.
    pub upload: UploadId,
}

/// Lists batches, newest first.
///
/// # Errors
/// [`Error::Invalid`] unless `limit` is 1 to [`ListBatches::MAX`], [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<BatchView>, Error>")]
pub struct ListBatches {
    /// Owner of the batches.
    pub owner: Owner,
    /// Number of batches to skip.
    pub offset: usize,
    /// Largest number of batches in the answer, 1 to [`ListBatches::MAX`].
    pub limit: usize,
}

impl ListBatches {
    /// Most batches of one answer.
    pub const MAX: usize = 100;
}

/// Lists the uploads of a batch in the order in which they were submitted.
///
/// # Errors
/// [`Error::NotFound`] if the owner has no such batch, [`Error::Invalid`] unless `limit` is 1 to
/// [`ListUploads::MAX`], [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Upload>, Error>")]
pub struct ListUploads {
    /// Owner of the batch.
    pub owner: Owner,
    /// The batch.
    pub batch: BatchId,
    /// Number of uploads to skip.
    pub offset: usize,
    /// Largest number of uploads in the answer, 1 to [`ListUploads::MAX`].
    pub limit: usize,
}

impl ListUploads {
    /// Most uploads of one answer.
    pub const MAX: usize = 1000;
}

/// Finds the completed uploads whose descriptions are nearest in meaning to a query, nearest first.
///
/// # Errors
/// [`Error::Invalid`] unless the trimmed `query` has 1 to [`SearchUploads::MAX_CHARS`] characters and `limit`
/// is 1 to [`SearchUploads::MAX`]; [`Error::ProviderUnavailable`] if the query cannot be embedded;
/// [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<SearchHit>, Error>")]
pub struct SearchUploads {
    /// Owner of the uploads.
    pub owner: Owner,
    /// Words to search for.
    pub query: String,
    /// Largest number of uploads in the answer, 1 to [`SearchUploads::MAX`].
    pub limit: usize,
}

impl SearchUploads {
    /// Most uploads of one answer.
    pub const MAX: usize = 100;
    /// Longest query, in characters.
    pub const MAX_CHARS: usize = 1000;
}

/// Gets the health of the engine.
#[derive(Debug, Message)]
#[rtype(result = "Health")]
pub struct GetHealth;

/// Writes the whole store as text to a writer, as of one commit, and returns the writer. Commits wait until
/// it is written: pass a file or memory, never a socket.
///
/// # Errors
/// [`Error::Store`] if the store cannot be read or the writer fails.
#[derive(Debug, Message)]
#[rtype(result = "Result<W, Error>")]
pub struct DumpStore<W: Write + Send + 'static>(pub W);

/// Stops the actor. Questions that it has accepted are still answered.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// A batch with values computed from its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    /// The record.
    pub batch: Batch,
    /// Status of the batch.
    pub status: Status,
    /// Percentage of its uploads that have ended, 0 to 100, rounded down.
    pub percent: u8,
    /// Estimated seconds until its last upload ends; `None` without an estimate.
    pub eta_seconds: Option<u64>,
    /// The condition that its uploads wait for, as a sentence; `None` if they do not wait.
    pub waiting: Option<String>,
}

/// An upload found by a search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchHit {
    /// The upload.
    pub upload: Upload,
    /// Cosine of the angle between description and query, -1 to 1.
    pub score: f32,
}

/// Health of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// State of the provider.
    pub provider: ProviderState,
    /// Identity of the provider and its models.
    pub identity: Identity,
    /// Number of uploads that wait for a worker.
    pub waiting: usize,
    /// Number of uploads in flight.
    pub active: usize,
    /// Number of subscribers of the Publisher.
    pub subscribers: usize,
    /// Free bytes on the disk of the data folder; `None` if the system does not say.
    pub free_bytes: Option<u64>,
    /// The reason why the store no longer accepts writes; `None` while it does.
    pub store_broken: Option<String>,
}

/// The actor. Each question has a task of its own: a slow one delays no other, and one that panics ends
/// without an answer.
pub struct QueryService {
    store: Queries,
    gate: Arc<ProviderGate>,
    listeners: watch::Receiver<Listeners>,
    lifeline: Lifeline,
}

impl QueryService {
    /// A service that reads `store`, embeds queries through `gate`, and counts subscribers by `listeners`.
    pub fn new(
        store: Queries,
        gate: Arc<ProviderGate>,
        listeners: watch::Receiver<Listeners>,
        lifeline: Lifeline,
    ) -> Self {
        Self { store, gate, listeners, lifeline }
    }
}

impl Actor for QueryService {
    type Context = Context<Self>;
}

impl Handler<Stop> for QueryService {
    type Result = ();

    fn handle(&mut self, Stop: Stop, ctx: &mut Self::Context) {
        self.lifeline.release();
        ctx.stop();
    }
}
