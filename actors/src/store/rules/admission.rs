//! Admission: a batch with its uploads, the paths that files were found at, and the uploads that lost theirs.
//!
//! A batch of up to [`PIECE`] files is one unit of work. A larger one is written in pieces, and
//! none of its uploads is begun before the last piece. Only the first piece can refuse, before it
//! writes.

use std::collections::HashSet;

use super::{
    super::{
        AdmissionLimits, CommandError, NewUpload, Relocation, Replaces,
        unit_of_work::{Command, Touches, UnitOfWork},
    },
    PIECE,
    events::emit,
    paths::{add_path, claim_path, release_path, relocate_or_delete},
    removal::delete,
};
use crate::{
    batch::Counts,
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
    /// Bytes of their managed originals.
    pub(in super::super) bytes: u64,
    /// How many uploads may be unfinished.
    pub(in super::super) limit: AdmissionLimits,
    /// Ids of all uploads of the batch. An id that is in use is refused.
    pub(in super::super) ids: Vec<UploadId>,
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
    /// Position of the first of them within the batch.
    pub(in super::super) from: u32,
    /// Whether this is the last piece.
    pub(in super::super) last: bool,
}

/// The parts of an admission that are not written yet.
#[derive(Default)]
pub(in super::super) struct Pieces {
    relocations: std::vec::IntoIter<Relocation>,
    displaced: std::vec::IntoIter<UploadId>,
    uploads: std::vec::IntoIter<NewUpload>,
    from: u32,
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
            from: 0,
            ended: false,
        }
    }

    /// Whether the last piece was taken.
    pub(in super::super) fn is_ended(&self) -> bool {
        self.ended
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
        let from = self.from;
        self.from += uploads.len() as u32;
        Some(Piece { relocations, displaced, uploads, from, last })
    }
}

impl Command for Admit {
    type Answer = Admission;

    fn touches(&self) -> Touches {
        let mut touches = self.piece.touches(&self.owner, self.batch);
        touches.uploads.extend(&self.ids);
        Touches { unfinished_owners: true, ..touches }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<Self::Answer, CommandError> {
        let Self { owner, batch, refused, total, bytes, limit, ids, piece } = self;
        if let Some(id) = batch {
            match work.batch(id)? {
                Some(known) if known.owner != owner => {
                    return Err(CommandError::Conflict("another batch has this id".into()));
                }
                Some(known) if known.arriving => {
                    return Ok(Admission::Begun { cancelled: piece.write(work, &owner, batch)? });
                }
                Some(known) => {
                    return match known.expected {
                        Some(expected) => Err(CommandError::Conflict(format!(
                            "the admission of this batch was cut short after {} of {expected} files; submit the \
                             others as another batch",
                            known.accepted
                        ))),
                        None => Ok(Admission::Repeated),
                    };
                }
                None => {}
            }
            let mut seen = HashSet::with_capacity(ids.len());
            for upload in ids {
                if !seen.insert(upload) || work.upload(upload)?.is_some() {
                    return Err(CommandError::Conflict(format!("another upload has the id {upload}")));
                }
            }
            check_room(work, &owner, total, limit)?;
            check_quotas(work, &owner, bytes, limit)?;
            work.add_batch(id, &owner, refused)?;
            if let Some(batch) = work.change_batch(id)? {
                batch.expected = Some(total as u32);
            }
        }
        Ok(Admission::Begun { cancelled: piece.write(work, &owner, batch)? })
    }
}

/// Makes sure that the queue has room for one more upload.
pub(in super::super) struct CheckRoom {
    pub(in super::super) owner: Owner,
    pub(in super::super) limit: AdmissionLimits,
}

impl Command for CheckRoom {
    type Answer = ();

    fn touches(&self) -> Touches {
        Touches { unfinished_owners: true, ..Touches::owner(&self.owner) }
    }

    fn apply(self, work: &mut dyn UnitOfWork) -> Result<(), CommandError> {
        check_room(work, &self.owner, 1, self.limit)?;
        check_quotas(work, &self.owner, 1, self.limit)
    }
}

/// Refuses uploads that the queue has no room for.
fn check_room(
    work: &mut dyn UnitOfWork,
    owner: &Owner,
    uploads: u64,
    limit: AdmissionLimits,
) -> Result<(), CommandError> {
    if uploads == 0 || work.queue_length() + uploads <= limit.total {
        return Ok(());
    }
    let (mut own, mut paused) = (0, 0);
    for id in work.unfinished_batches() {
        let Some(batch) = work.batch(id)? else { continue };
        let Counts { active, .. } = batch.counts;
        if batch.owner == *owner {
            own += u64::from(batch.counts.unfinished()) + batch.missing();
        } else if batch.paused_at.is_some() {
            paused += u64::from(batch.counts.unfinished() - active);
        }
    }
    let counted = work.queue_length().saturating_sub(paused);
    match counted + uploads <= limit.total || own + uploads <= limit.of_each_owner {
        true => Ok(()),
        false => Err(CommandError::Full { limit: limit.total }),
    }
}

/// Refuses another batch with `bytes` more than the quotas of an owner allow.
fn check_quotas(
    work: &dyn UnitOfWork,
    owner: &Owner,
    bytes: u64,
    limit: AdmissionLimits,
) -> Result<(), CommandError> {
    let Some(usage) = work.usage(owner) else { return Ok(()) };
    match limit {
        AdmissionLimits { batches: Some(most), .. } if usage.batches >= most => {
            Err(CommandError::OverQuota { quota: "batches", most })
        }
        AdmissionLimits { bytes: Some(most), .. } if usage.bytes.saturating_add(bytes) > most => {
            Err(CommandError::OverQuota { quota: "bytes", most })
        }
        AdmissionLimits { .. } => Ok(()),
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
    /// The whole admission was written before, by the same command.
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
        let Some(record) = work.batch(batch)? else { return Err(CommandError::NotFound("batch")) };
        if !record.arriving {
            // An earlier process began this admission, and a start has ended it; or it is repeated.
            return Ok(false);
        }
        // A repeated piece was written before.
        let written = record.accepted.saturating_sub(self.from) as usize;
        let uploads: Vec<_> = self.uploads.into_iter().skip(written).collect();
        add(work, owner, batch, uploads)?;
        if self.last { open(work, batch) } else { Ok(false) }
    }
}

/// Opens a batch whose uploads are all written. Answers with whether it was cancelled meanwhile.
fn open(work: &mut dyn UnitOfWork, id: BatchId) -> Result<bool, CommandError> {
    let batch = work.change_batch(id)?.ok_or(CommandError::NotFound("batch"))?;
    batch.arriving = false;
    batch.expected = batch.expected.filter(|expected| batch.accepted < *expected);
    let cancelled = batch.cancelled_at.is_some();
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
