//! The way in: files are classified, and admitted as one batch.
//!
//! `classify` finds the format of each file and the earlier uploads of it; it only reads.
//! [`receive`] writes the bytes of uploaded files. An admission is one command of the store.

mod admission;
mod classify;
mod inspection;
mod pairs;
pub mod receive;
pub mod resumable;

use std::{sync::Arc, time::Duration};

use self::classify::{Classifier, Verdict};
pub use self::{
    admission::{Admission, Source, Submitted},
    receive::{ReceiveError, Received, Receiving},
    resumable::Resumables,
};
use crate::{
    disk::Disk,
    error::Error,
    files::Files,
    id::{BatchId, Owner},
    media::{self, VisionSpec},
    provider_gate::ProviderGate,
    store::{AdmissionLimits, CommandError, Commands, NewBatch, Queries, Relocation},
};

/// The way in; see the module.
pub struct Intake {
    commands: Commands,
    queries: Queries,
    gate: Arc<ProviderGate>,
    files: Files,
    limits: media::Limits,
    vision: VisionSpec,
    disk: Disk,
    queue: AdmissionLimits,
    resumables: Resumables,
    pairs: bool,
}

/// The limits of an [`Intake`].
pub(crate) struct Limits {
    /// Limits of single files.
    pub(crate) media: media::Limits,
    /// Space on the disk of the data folder that must stay free, in bytes.
    pub(crate) min_free_bytes: u64,
    /// How many uploads may be unfinished.
    pub(crate) queue: AdmissionLimits,
    /// How long a resumable upload without new bytes is kept.
    pub(crate) resumable: Duration,
    /// Whether the files of one shot become one upload.
    pub(crate) pairs: bool,
}

impl Intake {
    /// A way into the store.
    pub(crate) fn new(
        commands: Commands,
        queries: Queries,
        gate: Arc<ProviderGate>,
        files: Files,
        vision: VisionSpec,
        limits: Limits,
    ) -> Self {
        let disk = Disk::new(queries.data_dir().to_owned(), limits.min_free_bytes);
        let Limits { media, queue, resumable, pairs, .. } = limits;
        let resumables = Resumables::new(
            files.clone(),
            disk.clone(),
            queries.clone(),
            media.clone(),
            vision.clone(),
            resumable,
        );
        Self { commands, queries, gate, files, limits: media, vision, disk, queue, resumables, pairs }
    }

    /// The uploads that arrive in several requests.
    pub fn resumables(&self) -> &Resumables {
        &self.resumables
    }

    /// Makes sure that the disk has room.
    ///
    /// # Errors
    /// [`Error::DiskFull`] below the watermark. A disk whose space cannot be read counts as one
    /// with room, since writing will fail.
    pub async fn check_disk(&self) -> Result<(), Error> {
        self.check_room(0).await
    }

    /// Makes sure that the disk has room for this many bytes.
    ///
    /// # Errors
    /// [`Error::DiskFull`] if less than the watermark would stay free.
    pub async fn check_room(&self, bytes: u64) -> Result<(), Error> {
        let disk = self.disk.clone();
        // The check may block: a disk may be asleep or remote.
        let check = tokio::task::spawn_blocking(move || disk.check(bytes));
        check.await.unwrap_or_else(|_| Err(Error::Store("the look at the disk panicked".into())))
    }

    /// Makes sure that the queue and the quotas of an owner have room for an upload.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::OverQuota`], [`Error::Store`].
    pub async fn check_queue(&self, owner: Owner) -> Result<(), Error> {
        // Most queues are far from full, and the store need not be asked then.
        let AdmissionLimits { total, batches, bytes, .. } = self.queue;
        if (self.queries.queue_depth().total() as u64) < total && batches.is_none() && bytes.is_none() {
            return Ok(());
        }
        Ok(self.commands.check_room(owner, self.queue).await?)
    }

    /// As [`Intake::check_room`], for callers that may block.
    ///
    /// # Errors
    /// As [`Intake::check_room`].
    pub fn check_room_blocking(&self, bytes: u64) -> Result<(), Error> {
        self.disk.check(bytes)
    }

    /// Begins to receive the bytes of a file. A file that is never submitted leaves nothing
    /// behind.
    ///
    /// # Errors
    /// [`Error::DiskFull`], and [`Error::Store`] if no file can be made.
    pub async fn receive(&self, file_name: &str) -> Result<Receiving, Error> {
        self.check_disk().await?;
        Receiving::begin(
            self.files.clone(),
            self.disk.clone(),
            self.limits.clone(),
            self.vision.clone(),
            file_name,
        )
        .await
    }

    /// Admits files as one batch, in order. Answers when the batch is durable.
    ///
    /// `is_open` is asked before each file is read, since reading many large files takes minutes.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::OverQuota`], [`Error::DiskFull`], [`Error::Store`] and the error of `is_open`:
    /// nothing of the batch is written then.
    pub(crate) async fn admit(
        &self,
        owner: Owner,
        files: Vec<Source>,
        force: bool,
        is_open: impl Fn() -> Result<(), Error> + Clone + Send + 'static,
    ) -> Result<Submitted, Error> {
        is_open()?;
        self.check_disk().await?;
        let classifier = Classifier {
            queries: self.queries.clone(),
            files: self.files.clone(),
            limits: self.limits.in_place(),
            vision: self.vision.clone(),
            gate: Arc::clone(&self.gate),
            owner: owner.clone(),
            force,
        };
        // Classification reads whole files, and is wasted if there is no room for a single
        // upload.
        if !files.is_empty() {
            self.check_queue(owner.clone()).await?;
        }
        let paths: Vec<_> = files.iter().map(Source::path).collect();
        let mut verdicts = classifier.classify(files, is_open.clone()).await?;
        is_open()?;
        let mut companions = Vec::new();
        if self.pairs && paths.iter().any(Option::is_some) {
            let form = move || {
                let companions = pairs::form(&paths, &mut verdicts);
                (verdicts, companions)
            };
            (verdicts, companions) = classify::blocking(form).await?;
            is_open()?;
        }
        let submitted = self.commit(owner.clone(), verdicts).await?;
        if !companions.is_empty() {
            self.commands.change_companions(owner, companions).await?;
        }
        Ok(submitted)
    }

    /// Writes the verdicts as one batch.
    async fn commit(&self, owner: Owner, verdicts: Vec<Verdict>) -> Result<Submitted, Error> {
        let (mut files, mut received) = (Vec::with_capacity(verdicts.len()), Vec::new());
        let (mut uploads, mut relocations, mut displaced) = (Vec::new(), Vec::new(), Vec::new());
        for verdict in verdicts {
            files.push(match verdict {
                Verdict::New { upload, bytes } => {
                    let id = upload.id;
                    uploads.push(*upload);
                    received.extend(bytes);
                    Admission::Accepted(id)
                }
                Verdict::Elsewhere { upload, stamp, moved, displaces } => {
                    relocations.push(Relocation { upload: upload.id, stamp, moved });
                    displaced.extend(displaces);
                    Admission::Done(upload)
                }
                Verdict::Decided(admission) => admission,
            });
        }
        let refused = files.iter().filter(|it| matches!(it, Admission::Refused(_))).count() as u32;
        let id = (!uploads.is_empty() || refused > 0).then(BatchId::generate);
        if id.is_none() && relocations.is_empty() {
            return Ok(Submitted { batch_id: None, files });
        }
        // From here on the uploads may be written, even if this call is dropped. The next start
        // removes files without an upload.
        received.iter_mut().for_each(Received::keep);
        let ids = received.iter().map(Received::id).collect();
        let new = NewBatch { id, owner, refused, uploads, relocations, displaced };
        match self.commands.admit(new, self.queue).await {
            Ok(()) => self.files.promote(ids).await,
            Err(error @ CommandError::Unknown(_)) => return Err(error.into()),
            Err(refusal) => {
                received.into_iter().for_each(Received::remove);
                return Err(refusal.into());
            }
        }
        Ok(Submitted { batch_id: id, files })
    }
}
