//! The seam between rules and storage: a rule reads and writes through a [`UnitOfWork`], and a
//! backend makes the unit durable as a whole or not at all.

use jiff::Timestamp;

use super::{CommandError, PathEntry, RunId, RunRecord, attempt::RunningAttempt};
use crate::{
    batch::{Batch, Tally},
    event::EventKind,
    id::{BatchId, Owner, UploadId},
    upload::{PlacePath, Upload},
};

/// A change of the store, as a value.
pub(crate) trait Command: Send + 'static {
    /// The answer of the command, given when it is durable.
    type Answer: Send + 'static;

    /// The records that the rule may read or write, so that a backend can lock and fetch them
    /// before the rule runs.
    fn touches(&self) -> Touches;

    /// Applies the rule. A rule refuses before it writes.
    ///
    /// # Errors
    /// A refusal, which leaves the unit as it was; or [`CommandError::Unknown`], after which
    /// nothing of the unit may be written.
    fn apply(self, work: &mut dyn UnitOfWork) -> Result<Self::Answer, CommandError>;
}

/// The records that a command may read or write. Naming an owner declares all of its records.
#[derive(Debug, Default)]
pub(crate) struct Touches {
    /// Owners whose batches, uploads, paths, contents and events are read or written.
    pub(crate) owners: Vec<Owner>,
    /// Batches that are read or written.
    pub(crate) batches: Vec<BatchId>,
    /// Uploads that are read or written.
    pub(crate) uploads: Vec<UploadId>,
    /// Content hashes that are looked up, in hexadecimal digits.
    pub(crate) hashes: Vec<String>,
    /// Paths that are looked up.
    pub(crate) paths: Vec<PlacePath>,
    /// Most waiting uploads that are taken, of any owner.
    pub(crate) takes: usize,
    /// Runs whose attempts are all read or written.
    pub(crate) runs: Vec<RunId>,
    /// Whether every owner with unfinished uploads is written.
    pub(crate) unfinished_owners: bool,
}

impl Touches {
    /// One owner.
    pub(crate) fn owner(owner: &Owner) -> Self {
        Self { owners: vec![owner.clone()], ..Self::default() }
    }

    /// One batch of an owner.
    pub(crate) fn batch(owner: &Owner, batch: BatchId) -> Self {
        Self { batches: vec![batch], ..Self::owner(owner) }
    }

    /// One upload of an owner.
    pub(crate) fn upload(owner: &Owner, upload: UploadId) -> Self {
        Self { uploads: vec![upload], ..Self::owner(owner) }
    }
}

/// Which part of a running attempt a rule changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its stage alone.
    Stage,
    /// Its stage and the record of its upload.
    Record,
}

/// An upload with a running attempt.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The record, with the running attempt.
    pub(crate) upload: Upload,
    /// The attempt.
    pub(crate) attempt: RunningAttempt,
}

/// Records and indexes as one command sees them: the stored ones, with the writes of the commands
/// before it.
///
/// All methods that answer with a `Result` fail with [`CommandError::Unknown`], if the storage fails.
pub(crate) trait UnitOfWork {
    /// The time of the unit, by the clock of the store, in whole milliseconds.
    fn now(&self) -> Timestamp;

    // Batches

    /// Adds a batch, under the next number.
    fn add_batch(&mut self, id: BatchId, owner: &Owner, refused: u32) -> Result<(), CommandError>;
    /// A batch.
    fn batch(&mut self, id: BatchId) -> Result<Option<&Batch>, CommandError>;
    /// A batch that is about to be changed.
    fn change_batch(&mut self, id: BatchId) -> Result<Option<&mut Batch>, CommandError>;
    /// Batches with unfinished uploads, of all owners.
    fn unfinished_batches(&self) -> Vec<BatchId>;
    /// Owners with unfinished uploads, each once.
    fn unfinished_owners(&self) -> Vec<Owner>;

    // Uploads

    /// An upload, with its running attempt.
    fn upload(&mut self, id: UploadId) -> Result<Option<Upload>, CommandError>;
    /// At most `most` uploads of a batch from a position on, in their order; later positions may follow.
    fn uploads_from(
        &mut self,
        batch: BatchId,
        position: u32,
        most: usize,
    ) -> Result<Vec<Upload>, CommandError>;
    /// Adds an upload.
    fn add_upload(&mut self, upload: &Upload) -> Result<(), CommandError>;
    /// Writes the record of an upload, which may have a running attempt.
    fn put_upload(&mut self, upload: &Upload) -> Result<(), CommandError>;
    /// Removes the record of an upload, which has no running attempt.
    fn remove_upload(&mut self, upload: &Upload) -> Result<(), CommandError>;

    // The queue

    /// Adds an upload to the queue.
    fn enqueue(&mut self, upload: &Upload) -> Result<(), CommandError>;
    /// Removes an upload from the queue, if it waits there.
    fn dequeue(&mut self, upload: &Upload) -> Result<(), CommandError>;
    /// Hides a waiting upload from this run, without a durable change: the next run finds it in
    /// the queue.
    fn set_aside(&mut self, upload: &Upload);
    /// The next upload: owners take turns, batches of an owner go first in, first out, uploads of
    /// a batch in their order.
    fn next_waiting(&mut self) -> Option<UploadId>;
    /// The oldest waiting suspect of an open batch.
    fn next_suspect(&mut self) -> Option<UploadId>;
    /// At most `most` waiting uploads of a batch, in their order.
    fn waiting_of(&mut self, batch: BatchId, most: usize) -> Result<Vec<UploadId>, CommandError>;
    /// Updates the queue after a change of [`Batch::is_open`] of this batch.
    fn reopen(&mut self, batch: BatchId) -> Result<(), CommandError>;
    /// Uploads that wait, are in flight or are reserved, of all owners.
    fn queue_length(&self) -> u64;
    /// Reserves room in the queue for uploads of a batch that is still being written.
    fn reserve(&mut self, uploads: u64);
    /// Releases room that was reserved.
    fn release(&mut self, uploads: u64);

    // Attempts

    /// The running attempt of an upload.
    fn held(&self, id: UploadId) -> Option<&Held>;
    /// The running attempt of an upload, which is about to be changed.
    fn change_held(&mut self, id: UploadId, part: Part) -> Option<&mut Held>;
    /// Running attempts of a run.
    fn held_by(&self, run: RunId) -> Vec<UploadId>;
    /// Running attempts of a batch.
    fn held_of(&self, batch: BatchId) -> Vec<UploadId>;
    /// Adds a running attempt. The record of its upload may be written later, with the first
    /// result of the attempt.
    fn add_held(&mut self, held: Held);
    /// Removes the running attempt of an upload. The caller writes or removes the record.
    fn remove_held(&mut self, id: UploadId) -> Option<Held>;
    /// Reports to the run of an attempt that somebody else ended it.
    fn revoke(&mut self, held: &Held);

    // Paths, contents, vectors, files

    /// The entry of a path.
    fn path(&mut self, owner: &Owner, path: &PlacePath) -> Result<Option<PathEntry>, CommandError>;
    /// Writes the entry of a path.
    fn put_path(&mut self, owner: &Owner, path: &PlacePath, entry: &PathEntry) -> Result<(), CommandError>;
    /// Removes the entry of a path.
    fn remove_path(&mut self, owner: &Owner, path: &PlacePath);
    /// The completed upload that represents a content.
    fn content(&mut self, owner: &Owner, hash: &str) -> Result<Option<UploadId>, CommandError>;
    /// Makes an upload the one that represents its content.
    fn put_content(&mut self, upload: &Upload) -> Result<(), CommandError>;
    /// Removes the entry of this upload's content.
    fn remove_content(&mut self, upload: &Upload);
    /// Writes the vector of an upload; its record names the model.
    fn put_vector(&mut self, upload: &Upload, vector: &[f32]);
    /// Removes the vector of an upload.
    fn remove_vector(&mut self, upload: &Upload);
    /// Notes that the files of an upload must be removed.
    fn add_removal(&mut self, id: UploadId) -> Result<(), CommandError>;
    /// Removes the note about the files of an upload.
    fn remove_removal(&mut self, id: UploadId);

    // Runs

    /// The record of a run; `None` if it never started, has ended, or was recovered.
    fn run(&self, id: RunId) -> Option<&RunRecord>;
    /// Writes the record of a run.
    fn put_run(&mut self, id: RunId, run: RunRecord) -> Result<(), CommandError>;
    /// Removes the record of a run.
    fn remove_run(&mut self, id: RunId);

    // Events

    /// Appends an event to its owner's log, under the next number.
    fn append_event(
        &mut self,
        owner: &Owner,
        batch: Option<(BatchId, Tally)>,
        upload: Option<UploadId>,
        kind: EventKind,
    ) -> Result<(), CommandError>;
    /// First and last number of an owner's events that are kept; `(1, 0)` if there are none.
    fn kept_events(&mut self, owner: &Owner) -> Result<(u64, u64), CommandError>;
    /// Removes about `most` of an owner's oldest events, and none from the number `end` on.
    fn forget_events(&mut self, owner: &Owner, most: u64, end: u64) -> Result<u64, CommandError>;
}
