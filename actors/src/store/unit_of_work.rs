//! The seam between rules and storage: a rule reads and writes through a [`UnitOfWork`], and a
//! backend makes the unit durable as a whole or not at all.

use jiff::Timestamp;

use super::{CommandError, PathEntry, RunId, RunRecord, attempt::RunningAttempt};
use crate::{
    batch::{Batch, Tally},
    event::EventKind,
    id::{BatchId, Owner, UploadId},
    upload::{FileRef, PlacePath, Upload},
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

/// Whose running attempts are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// A run's.
    Run(RunId),
    /// A batch's.
    Batch(BatchId),
}

/// An upload with a running attempt.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The record, with the running attempt.
    pub(crate) upload: Upload,
    /// The attempt.
    pub(crate) attempt: RunningAttempt,
}

/// What an owner has in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Number of batches.
    pub(crate) batches: u64,
    /// Bytes of managed originals.
    pub(crate) bytes: u64,
}

impl Usage {
    /// The usage of one upload.
    pub(crate) fn of(upload: &Upload) -> Self {
        let is_managed = matches!(upload.file, FileRef::Managed(_));
        Self { batches: 0, bytes: if is_managed { upload.file_size } else { 0 } }
    }
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
    /// A batch that is about to be changed. The queue follows [`Batch::is_open`].
    fn change_batch(&mut self, id: BatchId) -> Result<Option<&mut Batch>, CommandError>;
    /// Removes the record of a batch, which has no uploads any more.
    fn remove_batch(&mut self, id: BatchId) -> Result<(), CommandError>;
    /// Batches of an owner that have ended without uploads, the oldest first.
    fn empty_batches(&self, owner: &Owner) -> Vec<BatchId>;
    /// What an owner has in the store; `None` if it is not counted.
    fn usage(&self, owner: &Owner) -> Option<Usage>;
    /// Batches with unfinished uploads, also with such that are not written yet, of all owners.
    fn unfinished_batches(&self) -> Vec<BatchId>;

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
    /// Removes an upload, which has no running attempt, with its place in the queue, its vector and its content,
    /// and notes that its files must be removed.
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
    /// Uploads of all owners that wait, are in flight, or are still being written.
    fn queue_length(&self) -> u64;

    // Attempts

    /// The running attempt of an upload.
    fn held(&self, id: UploadId) -> Option<&Held>;
    /// The running attempt of an upload, which is about to be changed.
    fn change_held(&mut self, id: UploadId, part: Part) -> Option<&mut Held>;
    /// Running attempts, in the order in which they began.
    fn held_by(&self, of: Of) -> Vec<UploadId>;
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
    /// Writes the entry of a path, or removes it.
    fn put_path(
        &mut self,
        owner: &Owner,
        path: &PlacePath,
        entry: Option<&PathEntry>,
    ) -> Result<(), CommandError>;
    /// Writes the vector of a completed upload, whose record names the model, and makes it the upload that
    /// represents its content.
    fn put_result(&mut self, upload: &Upload, vector: &[f32]) -> Result<(), CommandError>;
    /// Removes the note about the files of a removed upload.
    fn files_removed(&mut self, id: UploadId);
    /// Notes whether the thumbnail of a completed upload is still to be made.
    fn set_late(&mut self, upload: &Upload, is_late: bool) -> Result<(), CommandError>;

    // Runs

    /// The record of a run; `None` if it never started, or has ended long ago.
    fn run(&self, id: RunId) -> Option<&RunRecord>;
    /// All runs with a record.
    fn runs(&self) -> Vec<RunId>;
    /// Writes the record of a run, or removes it.
    fn put_run(&mut self, id: RunId, run: Option<RunRecord>) -> Result<(), CommandError>;

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
