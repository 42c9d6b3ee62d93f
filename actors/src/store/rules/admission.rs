//! Admission: a batch with its uploads, the paths that files were found at, and the uploads that lost theirs.
//!
//! A batch of up to [`PIECE`] files is one unit of work. A larger one is written in pieces, and
//! none of its uploads is begun before the last piece. Only the first piece can refuse, before it
//! writes.

use super::{
    super::{
        CommandError, NewUpload, Relocation, Replaces,
        unit_of_work::{Command, Touches, UnitOfWork},
    },
    PIECE,
    events::emit,
    paths::{add_path, claim_path, release_path, relocate_or_delete},
    removal::delete,
};
use crate::{
    event::EventKind,
    id::{BatchId, Owner, UploadId},
    upload::{Stage, Status, Thumbnail, Upload},
};

/// Admits a batch: checks the room in the queue, and writes the first piece.
pub(in super::super) struct Admit {
    pub(in super::super) owner: Owner,
    /// The batch; `None` if there are no new files and only paths are written.
    pub(in super::super) batch: Option<BatchId>,
    /// Refused files of the batch.
    pub(in super::super) refused: u32,
    /// Uploads of the whole batch.
    pub(in super::super) total: u64,
    /// Most uploads that may be unfinished.
    pub(in super::super) max_queued: u64,
    pub(in super::super) piece: Piece,
}

/// A part of an admission, in the order in which it is written.
#[derive(Debug, Default)]
pub(in super::super) struct Piece {
    /// Further paths of known uploads.
    pub(in super::super) relocations: Vec<Relocation>,
    /// Uploads whose paths belong to others now.
    pub(in super::super) displaced: Vec<UploadId>,
    /// New uploads.
    pub(in super::super) uploads: Vec<NewUpload>,
    /// Whether this is the last piece.
    pub(in super::super) last: bool,
}

/// The parts of an admission that are not written yet.
pub(in super::super) struct Pieces {
    relocations: std::vec::IntoIter<Relocation>,
    displaced: std::vec::IntoIter<UploadId>,
    uploads: std::vec::IntoIter<NewUpload>,
    ended: bool,
}

impl Pieces {
    pub(in super::super) fn new(
        relocations: Vec<Relocation>,
        displaced: Vec<UploadId>,
        uploads: Vec<NewUpload>,
    ) -> Self {
        Self {
            relocations: relocations.into_iter(),
            displaced: displaced.into_iter(),
            uploads: uploads.into_iter(),
            ended: false,
        }
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    /// All relocations come before the first displaced upload: when files have changed places,
    /// each upload then moves to the path of the other.
    fn next(&mut self) -> Option<Piece> {
        if self.ended {
            return None;
        }
        let mut room = PIECE;
        let relocations: Vec<_> = self.relocations.by_ref().take(room).collect();
        room -= relocations.len();
        let displaced: Vec<_> = self.displaced.by_ref().take(room).collect();
        room -= displaced.len();
        let uploads: Vec<_> = self.uploads.by_ref().take(room).collect();
        let last = self.relocations.len() + self.displaced.len() + self.uploads.len() == 0;
        self.ended = last;
        Some(Piece { relocations, displaced, uploads, last })
    }
}

impl Command for Admit {
    type Answer = Admission;

    fn touches(&self) -> Touches {
        self.piece.touches(&self.owner, self.batch)
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<Self::Answer, CommandError> {
        let Self { owner, batch, refused, total, max_queued, piece } = self;
        if let Some(id) = batch {
            if let Some(known) = work.batch(id)? {
                return match known.owner == owner {
                    true => Ok(Admission::Repeated),
                    false => Err(CommandError::Conflict("another batch has this id".into())),
                };
            }
            if total > 0 && work.queue_length() + total > max_queued {
                return Err(CommandError::Full { limit: max_queued });
            }
            work.reserve(total);
            work.add_batch(id, &owner, refused)?;
        }
        Ok(Admission::Begun { cancelled: piece.write(work, &owner, batch)? })
    }
}

/// The outcome of the first piece of an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Admission {
    /// Its first piece was written.
    Begun {
        /// Whether the piece was the last one and the batch was cancelled meanwhile.
        cancelled: bool,
    },
    /// The admission was written before, by the same command.
    Repeated,
}

/// Writes a further piece of an admission.
pub(in super::super) struct AdmitMore {
    pub(in super::super) owner: Owner,
    pub(in super::super) batch: Option<BatchId>,
    pub(in super::super) piece: Piece,
}

impl Command for AdmitMore {
    /// Whether the piece was the last one and the batch was cancelled meanwhile.
    type Answer = bool;

    fn touches(&self) -> Touches {
        self.piece.touches(&self.owner, self.batch)
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<bool, CommandError> {
        self.piece.write(work, &self.owner, self.batch)
    }
}

/// Ends the admission of a batch of which an earlier process wrote a part.
pub(in super::super) struct EndAdmission {
    pub(in super::super) owner: Owner,
    pub(in super::super) batch: BatchId,
}

impl Command for EndAdmission {
    /// Whether the batch was cancelled meanwhile.
    type Answer = bool;

    fn touches(&self) -> Touches {
        Touches::batch(&self.owner, self.batch)
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<bool, CommandError> {
        match work.batch(self.batch)? {
            Some(batch) if batch.arriving => open(work, self.batch),
            Some(_) | None => Ok(false),
        }
    }
}

impl Piece {
    fn touches(&self, owner: &Owner, batch: Option<BatchId>) -> Touches {
        let known = self.relocations.iter().map(|it| it.upload).chain(self.displaced.iter().copied());
        let replaced = self.uploads.iter().filter_map(|it| Some(it.replaces.as_ref()?.upload));
        let described = self.uploads.iter().filter_map(|it| it.described_as);
        let relocated = self.relocations.iter().map(|it| &it.stamp);
        let stamps = relocated.chain(self.uploads.iter().filter_map(|it| it.stamp.as_ref()));
        Touches {
            batches: batch.into_iter().collect(),
            paths: stamps.map(|it| it.path.clone()).collect(),
            uploads: known.chain(replaced).chain(described).collect(),
            ..Touches::owner(owner)
        }
    }

    fn write(
        self,
        work: &mut dyn UnitOfWork,
        owner: &Owner,
        batch: Option<BatchId>,
    ) -> Result<bool, CommandError> {
        for Relocation { upload, stamp, moved } in &self.relocations {
            add_path(work, owner, *upload, stamp, *moved)?;
        }
        for upload in &self.displaced {
            relocate_or_delete(work, owner, *upload)?;
        }
        let Some(batch) = batch else { return Ok(false) };
        work.release(self.uploads.len() as u64);
        add(work, owner, batch, self.uploads)?;
        if self.last { open(work, batch) } else { Ok(false) }
    }
}

/// Opens a batch whose uploads are all written. Answers with whether it was cancelled meanwhile.
fn open(work: &mut dyn UnitOfWork, id: BatchId) -> Result<bool, CommandError> {
    let batch = work.change_batch(id)?.ok_or(CommandError::NotFound("batch"))?;
    batch.arriving = false;
    let cancelled = batch.cancelled_at.is_some();
    work.reopen(id)?;
    emit(work, id, None, EventKind::BatchSubmitted)?;
    Ok(cancelled)
}

/// Adds the next uploads of a batch.
fn add(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    id: BatchId,
    uploads: Vec<NewUpload>,
) -> Result<(), CommandError> {
    let batch = work.change_batch(id)?.ok_or(CommandError::NotFound("batch"))?;
    let from = batch.accepted;
    batch.accepted += uploads.len() as u32;
    for (position, mut new) in (from..).zip(uploads) {
        let replaces = match new.replaces.take() {
            Some(older) => replace(work, owner, older)?,
            None => None,
        };
        let stamp = new.stamp.take();
        let upload = record(work, owner, id, position, new, replaces)?;
        work.add_upload(&upload)?;
        if let Some(batch) = work.change_batch(id)? {
            batch.counts.add(&upload);
        }
        work.enqueue(&upload)?;
        if let Some(stamp) = stamp {
            claim_path(work, owner, &stamp, upload.id)?;
        }
    }
    Ok(())
}

/// Prepares the replacement of an older upload. A completed upload stays until the new one
/// completes. An upload of another status is deleted at once, and the new one inherits its
/// `replaces`.
fn replace(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    Replaces { upload: older, at }: Replaces,
) -> Result<Option<UploadId>, CommandError> {
    let Some(record) = work.upload(older)? else { return Ok(None) };
    if record.owner != *owner || record.place() != Some(at.as_path()) {
        return Ok(None);
    }
    if record.status == Status::Completed {
        release_path(work, owner, &at, older)?;
        return Ok(Some(older));
    }
    Ok(delete(work, owner, older)?.and_then(|record| record.replaces))
}

fn record(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    batch_id: BatchId,
    position: u32,
    new: NewUpload,
    replaces: Option<UploadId>,
) -> Result<Upload, CommandError> {
    let described = match new.described_as {
        Some(older) => work.upload(older)?.filter(|it| it.owner == *owner),
        None => None,
    };
    let same_as = described.as_ref().map(|it| it.id);
    let (facts, objects, description) =
        described.map(|it| (it.facts, it.objects, it.description)).unwrap_or_default();
    let now = work.now();
    Ok(Upload {
        v: 1,
        id: new.id,
        batch_id,
        owner: owner.clone(),
        position,
        file: new.file,
        also_at: Vec::new(),
        companions: Vec::new(),
        file_name: new.file_name,
        file_size: new.file_size,
        content_hash: new.content_hash,
        format: new.format,
        decode_bytes: new.decode_bytes,
        created_at: now,
        updated_at: now,
        status: Status::Pending,
        stage: Stage::Queued,
        round: 1,
        attempt: 0,
        attempts: Vec::new(),
        failures: Vec::new(),
        interruptions: 0,
        provider_away: 0,
        suspect: false,
        thumbnail: Thumbnail::Pending,
        facts,
        objects,
        description,
        embedded_by: None,
        embedding_changed: None,
        same_as,
        replaces,
        history: Vec::new(),
    })
}
