//! The handle that changes the store.

mod writing;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{FutureExt as _, TryFutureExt as _};
use tokio::sync::mpsc;

use self::writing::Writing;
use super::{
    AdmissionLimits, AfterAttempt, Begun, CommandError, Companionship, NewBatch, Recovered, RunId, Scope,
    Token,
    rules::{
        PIECE,
        admission::{Admit, CheckRoom, EndAdmission, Pieces},
        attempts::{
            BeginNext, Complete, Fail, HandBack, RecordDescription, RecordMedia, RecordStage,
            RecordThumbnail, ResumeEmbedding,
        },
        batches::{CancelBatch, RetryFailed, SetPaused},
        companions::ChangeCompanions,
        provider::SetProviderState,
        removal::{DeleteBatch, DeleteUpload, FilesRemoved},
        runs::{EndRun, EndStart, RecoverRun, StartRun},
    },
    sled::{Loaded, Sled},
    unit_of_work::Command,
};
use crate::{
    analysis::{Identity, Object, ProviderState},
    id::{BatchId, Owner, UploadId},
    media::Facts,
    upload::{Description, Failure, FileRef, Stage, Thumbnail},
};

/// Changes the store on behalf of one run. Clones share the run.
///
/// Commands of all clones take effect in the order of the calls; a returned future waits for the answer. The
/// future of a command of more than 1,000 uploads also writes its later pieces. An answer is one of three:
/// done and durable, refused with nothing written, or [`CommandError::Unknown`].
///
/// A command that is repeated after a lost answer gives the same answer and changes nothing more. Of ended
/// runs, the newest 16 are remembered for that.
///
/// Before the first [`Commands::start`] on an open store, every command is [`CommandError::Stale`].
#[derive(Clone)]
pub struct Commands {
    sled: Arc<Sled>,
    run: RunId,
    takes: Arc<AtomicU64>,
}

/// A notice of the change feed to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Somebody else ended this running attempt: its upload was cancelled or deleted, or its run
    /// was recovered.
    Revoked(Token),
    /// An upload was deleted, and its files are to be removed: see [`Commands::files_removed`].
    FilesToRemove(UploadId),
}

/// The notices to a run, each sent after its change is durable.
#[derive(Debug)]
pub struct Notices(mpsc::UnboundedReceiver<Notice>);

impl Notices {
    /// The next notice; `None` once the store is closed.
    pub async fn next(&mut self) -> Option<Notice> {
        self.0.recv().await
    }
}

impl Commands {
    pub(super) fn new(sled: Arc<Sled>, run: RunId) -> Self {
        Self { sled, run, takes: Arc::default() }
    }

    /// The run on whose behalf the store is changed.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The notices to this run from now on. Every attempt of this run that another command ends
    /// gives a notice.
    pub fn notices(&self) -> Notices {
        // At most one notice for each attempt and each deleted upload, so the queue is as long as
        // the work that it names.
        let (sender, receiver) = mpsc::unbounded_channel();
        self.sled.notify(self.run, sender);
        Notices(receiver)
    }

    // Runs

    /// Starts the run. The first start on an open store loads the waiting uploads within the scope, and
    /// recovers the runs of dead processes. A later start adds a run beside the live ones, with the scope of
    /// the first.
    ///
    /// # Errors
    /// [`CommandError::Stale`] if the run has ended; [`CommandError::Unknown`] if the store cannot be read or
    /// written.
    pub async fn start(&self, scope: Scope, max_interruptions: u32) -> Result<Recovered, CommandError> {
        let Loaded { mut resting, runs, cancelled, arriving } = self.sled.load(scope.clone()).await?;
        if let Some(recovered) = self.write(StartRun { run: self.run }).await? {
            return Ok(recovered);
        }
        let mut interrupted = 0;
        for run in runs {
            let (more, outside) = self.recover(run, scope.clone(), max_interruptions).await?;
            interrupted += more;
            resting += outside;
        }
        for (owner, batch) in arriving {
            if self.write(EndAdmission { owner: owner.clone(), batch }).await? {
                self.cancel(owner, batch).await?;
            }
        }
        for (owner, batch) in cancelled {
            self.cancel(owner, batch).await?;
        }
        let recovered = Recovered { waiting: self.sled.queue_depth().waiting, interrupted, resting };
        self.write(EndStart { run: self.run, recovered }).await?;
        Ok(recovered)
    }

    /// Recovers the run of a dead process: its attempts end as interrupted, and its later
    /// commands are refused. Answers with the number of attempts, and with the number of their
    /// uploads outside the scope.
    ///
    /// # Errors
    /// [`CommandError::Unknown`] if the store cannot be written.
    pub fn recover(
        &self,
        run: RunId,
        scope: Scope,
        max_interruptions: u32,
    ) -> impl Future<Output = Result<(usize, usize), CommandError>> + Send + use<> {
        let recovered = self.write(RecoverRun { run, scope, max_interruptions });
        recovered.map_ok(|it| (it.interrupted, it.resting))
    }

    /// Renews the lease of this run. With sled the lock of the data folder is the lease, so nothing
    /// is written.
    ///
    /// # Errors
    /// [`CommandError::Stale`] if the run has ended or was recovered; its process must begin nothing more.
    pub async fn renew(&self) -> Result<(), CommandError> {
        match self.sled.has_run(self.run).await? {
            true => Ok(()),
            false => Err(CommandError::Stale),
        }
    }

    /// Ends the run in good order: its attempts are handed back, and it begins no more. Answers
    /// with the number of attempts.
    ///
    /// # Errors
    /// [`CommandError::Unknown`].
    pub fn end(&self) -> impl Future<Output = Result<usize, CommandError>> + Send + use<> {
        self.write(EndRun { run: self.run })
    }

    /// Records the state of the provider, as this run sees it.
    ///
    /// # Errors
    /// [`CommandError::Stale`] if the run has ended, [`CommandError::Unknown`].
    pub fn set_provider_state(
        &self,
        state: ProviderState,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(SetProviderState { run: self.run, state })
    }

    // Batches

    /// Makes sure that the queue and the quotas of an owner have room for one more upload.
    ///
    /// # Errors
    /// [`CommandError::Full`], [`CommandError::OverQuota`], [`CommandError::Unknown`].
    pub fn check_room(
        &self,
        owner: Owner,
        limit: AdmissionLimits,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(CheckRoom { owner, limit })
    }

    /// Admits a batch, if the queue has room for it. Up to 1,000 files are
    /// one change; a larger batch is written in pieces, and its uploads wait for the last one. If
    /// the process dies in between, the batch has the uploads that were written. If the future is dropped in
    /// between, the rest is written nevertheless.
    ///
    /// # Errors
    /// [`CommandError::Full`]; [`CommandError::OverQuota`]; [`CommandError::Conflict`] if another owner's batch has this id, or another
    /// upload has the id of one of these; nothing is written then.
    pub fn admit(
        &self,
        new: NewBatch,
        limit: impl Into<AdmissionLimits>,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + 'static {
        let NewBatch { id: batch, owner, refused, uploads, relocations, displaced } = new;
        let (total, ids) = (uploads.len() as u64, uploads.iter().map(|it| it.id).collect());
        let managed = uploads.iter().filter(|it| matches!(it.file, FileRef::Managed(_)));
        let bytes = managed.map(|it| it.file_size).sum();
        let mut pieces = Pieces::new(relocations, displaced, uploads);
        let piece = pieces.next().unwrap_or_default();
        let first =
            Admit { owner: owner.clone(), batch, refused, total, bytes, limit: limit.into(), ids, piece };
        let first = self.write(first);
        Writing::new(self.clone(), owner, batch, pieces, first.boxed()).finish()
    }

    /// Changes the companions of uploads, in order. Changes of uploads that the owner does not have are left
    /// out.
    ///
    /// # Errors
    /// [`CommandError::Unknown`].
    pub fn change_companions(
        &self,
        owner: Owner,
        changes: Vec<Companionship>,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        let commands = self.clone();
        async move {
            let mut changes = changes.into_iter();
            loop {
                let changes: Vec<_> = changes.by_ref().take(PIECE).collect();
                if changes.is_empty() {
                    return Ok(());
                }
                commands.write(ChangeCompanions { owner: owner.clone(), changes }).await?;
            }
        }
    }

    /// Cancels the unfinished uploads of a batch. A batch that has ended stays as it is.
    ///
    /// # Errors
    /// [`CommandError::NotFound`], [`CommandError::Unknown`].
    pub fn cancel(
        &self,
        owner: Owner,
        batch: BatchId,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        let mut piece = self.write(CancelBatch { owner: owner.clone(), batch });
        let commands = self.clone();
        async move {
            while piece.await? {
                piece = commands.write(CancelBatch { owner: owner.clone(), batch });
            }
            Ok(())
        }
    }

    /// Pauses a batch (`true`) or resumes it (`false`). Repeating it changes nothing.
    ///
    /// # Errors
    /// [`CommandError::NotFound`]; [`CommandError::Conflict`] if the batch has ended;
    /// [`CommandError::Unknown`].
    pub fn set_paused(
        &self,
        owner: Owner,
        batch: BatchId,
        paused: bool,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(SetPaused { owner, batch, paused })
    }

    /// Gives the failed uploads of a batch two fresh attempts: its next round. A batch without
    /// failed uploads stays as it is.
    ///
    /// # Errors
    /// [`CommandError::NotFound`], [`CommandError::Unknown`].
    pub fn retry_failed(
        &self,
        owner: Owner,
        batch: BatchId,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        let mut goes_on = false;
        let mut piece = self.write(RetryFailed { owner: owner.clone(), batch, from: 0, goes_on });
        let commands = self.clone();
        async move {
            loop {
                let retried = piece.await?;
                goes_on |= retried.some;
                let Some(from) = retried.next else { return Ok(()) };
                piece = commands.write(RetryFailed { owner: owner.clone(), batch, from, goes_on });
            }
        }
    }

    /// Deletes an upload of any status. An upload that the owner does not have, or no longer has,
    /// is no error.
    ///
    /// # Errors
    /// [`CommandError::Unknown`].
    pub fn delete(
        &self,
        owner: Owner,
        upload: UploadId,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(DeleteUpload { owner, upload })
    }

    /// Deletes a batch of any status with all its uploads. A batch that the owner does not have, or no longer
    /// has, is no error.
    ///
    /// # Errors
    /// [`CommandError::Conflict`] while its files are being written; [`CommandError::Unknown`].
    pub fn delete_batch(
        &self,
        owner: Owner,
        batch: BatchId,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        let mut piece = self.write(DeleteBatch { owner: owner.clone(), batch });
        let commands = self.clone();
        async move {
            while piece.await? {
                piece = commands.write(DeleteBatch { owner: owner.clone(), batch });
            }
            Ok(())
        }
    }

    /// Records that the files of deleted uploads are removed.
    ///
    /// # Errors
    /// [`CommandError::Unknown`].
    pub fn files_removed(
        &self,
        uploads: Vec<UploadId>,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(FilesRemoved { uploads })
    }

    // Attempts

    /// Begins attempts of the next uploads, at most `most`. Nothing is begun beside a suspect,
    /// and a suspect is begun alone.
    ///
    /// # Errors
    /// [`CommandError::Stale`] if the run has not started or has ended, [`CommandError::Unknown`].
    pub fn begin_next(
        &self,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Begun>, CommandError>> + Send + use<> {
        self.begin_take(self.takes.fetch_add(1, Ordering::Relaxed) + 1, most)
    }

    /// As [`Commands::begin_next`], with the number of the take, from 1: a repeated number gives
    /// the attempts that were begun under it and still run.
    ///
    /// # Errors
    /// As [`Commands::begin_next`].
    pub fn begin_take(
        &self,
        take: u64,
        most: usize,
    ) -> impl Future<Output = Result<Vec<Begun>, CommandError>> + Send + use<> {
        self.write(BeginNext { run: self.run, take, most })
    }

    /// Records the stage of an attempt.
    ///
    /// # Errors
    /// [`CommandError::Stale`], [`CommandError::Unknown`].
    pub fn record_stage(
        &self,
        token: Token,
        stage: Stage,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(RecordStage { token, stage })
    }

    /// Records the thumbnail and the facts that the decode gave.
    ///
    /// # Errors
    /// [`CommandError::Stale`], [`CommandError::Unknown`].
    pub fn record_media(
        &self,
        token: Token,
        thumbnail: Thumbnail,
        facts: Facts,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(RecordMedia { token, thumbnail, facts })
    }

    /// Records that the attempt continues with the description of an earlier one.
    ///
    /// # Errors
    /// [`CommandError::Stale`]; [`CommandError::Conflict`] if there is no description;
    /// [`CommandError::Unknown`].
    pub fn resume_embedding(
        &self,
        token: Token,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(ResumeEmbedding { token })
    }

    /// Records a description, which took `took_ms` milliseconds.
    ///
    /// # Errors
    /// [`CommandError::Stale`], [`CommandError::Unknown`].
    pub fn record_description(
        &self,
        token: Token,
        description: Description,
        objects: Vec<Object>,
        took_ms: u64,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(RecordDescription { token, description, objects, took_ms })
    }

    /// Records the vector and the change that was needed to get it, and ends the upload as
    /// completed. The older upload that it replaces is deleted.
    ///
    /// # Errors
    /// [`CommandError::Stale`], [`CommandError::Unknown`].
    pub fn complete(
        &self,
        token: Token,
        vector: Vec<f32>,
        by: Identity,
        changed: Option<String>,
        took_ms: u64,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(Complete { token, vector, by, changed, took_ms })
    }

    /// Records the thumbnail of a completed upload that was left for later. Another upload stays as it is.
    ///
    /// # Errors
    /// [`CommandError::Unknown`].
    pub fn record_thumbnail(
        &self,
        owner: Owner,
        upload: UploadId,
        thumbnail: Thumbnail,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.write(RecordThumbnail { owner, upload, thumbnail })
    }

    /// Ends an attempt as failed. The first failure of a round begins the next attempt in the same change.
    ///
    /// # Errors
    /// [`CommandError::Stale`], [`CommandError::Unknown`].
    pub fn fail(
        &self,
        token: Token,
        failure: Failure,
    ) -> impl Future<Output = Result<AfterAttempt, CommandError>> + Send + use<> {
        self.write(Fail { token, failure })
    }

    /// Ends an attempt that does not count. If the provider has gone away during this upload
    /// before, it counts as failed.
    ///
    /// # Errors
    /// [`CommandError::Stale`], [`CommandError::Unknown`].
    pub fn hand_back(
        &self,
        token: Token,
        provider_went_away: Option<Failure>,
    ) -> impl Future<Output = Result<AfterAttempt, CommandError>> + Send + use<> {
        self.write(HandBack { token, provider_went_away })
    }

    fn write<C: Command>(
        &self,
        command: C,
    ) -> impl Future<Output = Result<C::Answer, CommandError>> + Send + use<C> {
        self.sled.write(command)
    }
}
