//! Begins the next uploads, as many at once as allowed: spawns UploadWorkers and notices dead
//! ones.
//!
//! It takes the commands about batches, and answers when the change is durable. It follows the
//! notices of the store: the worker of an attempt that somebody else ended is aborted, and the
//! files of deleted uploads are removed.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use tokio::sync::watch;

use crate::{
    analysis::ProviderState,
    error::Error,
    files::Files,
    id::{BatchId, Owner, UploadId},
    intake::{Intake, Source},
    lifeline::Lifeline,
    provider_gate::ProviderGate,
    store::{AfterAttempt, Begun, CommandError, Commands, Notice, Queries, Token},
    upload::{Failure, FailureKind, Stage},
    upload_worker::{Abort, UploadWorker, WorkerContext, WorkerOutcome, WorkerStopped},
};

pub use crate::intake::Submitted;

/// How often the run is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How often thumbnails are made that were left for later.
const LATE_THUMBNAILS_EVERY: Duration = Duration::from_secs(60);

/// Submits files as one batch, in order. Answers when the batch, its uploads and the received
/// bytes are durable; files in place are only referenced. If the process dies before the answer,
/// the batch may exist; a batch of more than 1,000 files may then be incomplete.
///
/// # Errors
/// [`Error::Stopping`], [`Error::QueueFull`], [`Error::DiskFull`]: nothing was written.
/// [`Error::Store`]: the engine stops, and the next start shows whether the batch exists. A
/// refused file is no error of the batch: see [`Submitted`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Submitted, Error>")]
pub struct SubmitBatch {
    /// Owner of the batch.
    pub owner: Owner,
    /// The files.
    pub files: Vec<Source>,
    /// Whether to describe files again that have a description from an earlier upload.
    pub force: bool,
}

/// Cancels the unfinished uploads of a batch and aborts their calls. A batch that has ended stays as it is.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Conflict`] if its status does not allow
/// it, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct CancelBatch {
    /// Owner of the batch.
    pub owner: Owner,
    /// The batch.
    pub batch: BatchId,
}

/// Begins no more uploads of a batch; running attempts finish.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Conflict`] if its status does not allow
/// it, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct PauseBatch {
    /// Owner of the batch.
    pub owner: Owner,
    /// The batch.
    pub batch: BatchId,
}

/// Begins the uploads of a paused batch again.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Conflict`] if its status does not allow
/// it, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct ResumeBatch {
    /// Owner of the batch.
    pub owner: Owner,
    /// The batch.
    pub batch: BatchId,
}

/// Gives the failed uploads of a batch two fresh attempts: its next round.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Conflict`] if its status does not allow
/// it, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct RetryFailed {
    /// Owner of the batch.
    pub owner: Owner,
    /// The batch.
    pub batch: BatchId,
}

/// Deletes an upload of any status with all that belongs to it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct DeleteUpload {
    /// Owner of the upload.
    pub owner: Owner,
    /// The upload.
    pub upload: UploadId,
}

/// Deletes a batch of any status with all its uploads.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] while its files are being written; [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct DeleteBatch {
    /// Owner of the batch.
    pub owner: Owner,
    /// The batch.
    pub batch: BatchId,
}

/// Begins no more work, gives running attempts this long to finish, hands back the others, and
/// stops the engine. Answers with the number of attempts that were handed back. Every later
/// command is answered with [`Error::Stopping`].
///
/// # Errors
/// [`Error::Store`] if they could not be handed back; the next start ends them as interrupted.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, Error>")]
pub struct Drain(pub Duration);

/// Looks for waiting uploads.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Fill;

/// The supervisor; see the module.
pub struct BatchSupervisor {
    /// `None` after the drain, so that the address of the supervisor does not keep the data
    /// folder open.
    at_work: Option<AtWork>,
    concurrency: usize,
    /// The workers by upload, each with the number of its attempt.
    workers: HashMap<UploadId, (u32, Addr<UploadWorker>)>,
    /// Workers for which requests for the next uploads are in flight.
    asked: usize,
    /// Whether another request must follow, since something changed meanwhile.
    again: bool,
    /// Commands in flight whose answers may have new attempts.
    beginning: usize,
    /// Attempts that were revoked before their answer came.
    revoked: HashSet<Token>,
    /// Whether it begins no more work; shared with submissions in flight.
    draining: Arc<AtomicBool>,
}

/// The handles of a supervisor, held until it has drained.
struct AtWork {
    commands: Commands,
    queries: Queries,
    gate: Arc<ProviderGate>,
    files: Files,
    intake: Arc<Intake>,
    /// Shared by its workers.
    context: Arc<WorkerContext>,
    lifeline: Lifeline,
    /// The tasks that follow the state of the provider and the notices of the store.
    follows: Vec<SpawnHandle>,
}

impl BatchSupervisor {
    /// A supervisor of at most `concurrency` workers.
    pub(crate) fn new(
        context: Arc<WorkerContext>,
        intake: Arc<Intake>,
        concurrency: usize,
        lifeline: Lifeline,
    ) -> Self {
        let at_work = AtWork {
            commands: context.commands.clone(),
            queries: context.queries.clone(),
            gate: Arc::clone(&context.gate),
            files: context.files.clone(),
            intake,
            context,
            lifeline,
            follows: Vec::new(),
        };
        Self {
            at_work: Some(at_work),
            concurrency: concurrency.max(1),
            workers: HashMap::new(),
            asked: 0,
            again: false,
            beginning: 0,
            revoked: HashSet::new(),
            draining: Arc::default(),
        }
    }
}

impl Actor for BatchSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(at_work) = &self.at_work else { return };
        let provider = follow_provider(at_work.commands.clone(), at_work.gate.state(), ctx.address());
        let mut notices = at_work.commands.notices();
        let supervisor = ctx.address();
        let follow_store = async move {
            while let Some(notice) = notices.next().await {
                supervisor.do_send(Noticed(notice));
            }
        };
        let context = Arc::clone(&at_work.context);
        let make_thumbnails = async move {
            loop {
                context.make_late_thumbnails().await;
                tokio::time::sleep(LATE_THUMBNAILS_EVERY).await;
            }
        };
        let follows = vec![
            ctx.spawn(make_thumbnails.into_actor(self)),
            ctx.spawn(provider.into_actor(self)),
            ctx.spawn(follow_store.into_actor(self)),
            ctx.run_interval(RENEW_EVERY, |supervisor, ctx| supervisor.renew(ctx)),
        ];
        if let Some(at_work) = &mut self.at_work {
            at_work.follows = follows;
        }
    }
}

/// Records every state of the provider, and looks for work when it can be called.
async fn follow_provider(
    commands: Commands,
    mut state: watch::Receiver<ProviderState>,
    supervisor: Addr<BatchSupervisor>,
) {
    loop {
        let now = state.borrow_and_update().clone();
        let workable = is_workable(&now);
        match commands.set_provider_state(now).await {
            Ok(()) if workable => supervisor.do_send(Fill),
            Ok(()) => {}
            // A broken store ends the engine by itself.
            Err(error) => log::debug!("the state of the provider was not recorded: {error}"),
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

fn is_workable(state: &ProviderState) -> bool {
    matches!(state, ProviderState::Ready | ProviderState::GaveUp { .. })
}

/// A notice of the store.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Noticed(Notice);

impl Handler<Noticed> for BatchSupervisor {
    type Result = ();

    fn handle(&mut self, Noticed(notice): Noticed, _: &mut Self::Context) {
        match notice {
            Notice::Revoked(token) => match self.workers.get(&token.upload) {
                Some((attempt, worker)) if *attempt == token.attempt => worker.do_send(Abort),
                _ if self.beginning > 0 => drop(self.revoked.insert(token)),
                Some(_) | None => {}
            },
            Notice::FilesToRemove(upload) => {
                // After the drain, the files stay for the next start to remove.
                let Some(AtWork { commands, files, .. }) = &self.at_work else { return };
                actix_rt::spawn(remove_files(commands.clone(), files.clone(), upload));
            }
        }
    }
}

/// Removes the files of a deleted upload, and then the note about them.
pub(crate) async fn remove_files(commands: Commands, files: Files, upload: UploadId) {
    match files.delete(upload).await {
        Ok(()) => {
            if let Err(error) = commands.files_removed(vec![upload]).await {
                log::debug!("upload {upload}: the next start removes its files once more: {error}");
            }
        }
        Err(error) => {
            log::warn!("upload {upload}: cannot remove its files, the next start tries again: {error}");
        }
    }
}

impl Handler<SubmitBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<Submitted, Error>>;

    fn handle(&mut self, submit: SubmitBatch, _: &mut Self::Context) -> Self::Result {
        let Some(AtWork { intake, .. }) = &self.at_work else { return stopped() };
        let (intake, draining) = (Arc::clone(intake), Arc::clone(&self.draining));
        let is_open = move || if draining.load(Ordering::Relaxed) { Err(Error::Stopping) } else { Ok(()) };
        let SubmitBatch { owner, files, force } = submit;
        let submit = async move { intake.admit(owner, files, force, is_open).await };
        Box::pin(submit.into_actor(self).map(|submitted, supervisor, ctx| {
            supervisor.fill(ctx);
            submitted
        }))
    }
}

impl Handler<CancelBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, CancelBatch { owner, batch }: CancelBatch, _: &mut Self::Context) -> Self::Result {
        self.change(async move |commands, _| Ok(commands.cancel(owner, batch).await?))
    }
}

impl Handler<PauseBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, PauseBatch { owner, batch }: PauseBatch, _: &mut Self::Context) -> Self::Result {
        self.change(async move |commands, _| Ok(commands.set_paused(owner, batch, true).await?))
    }
}

impl Handler<ResumeBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, ResumeBatch { owner, batch }: ResumeBatch, _: &mut Self::Context) -> Self::Result {
        self.change(async move |commands, _| Ok(commands.set_paused(owner, batch, false).await?))
    }
}

impl Handler<RetryFailed> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, RetryFailed { owner, batch }: RetryFailed, _: &mut Self::Context) -> Self::Result {
        self.change(async move |commands, _| Ok(commands.retry_failed(owner, batch).await?))
    }
}

impl Handler<DeleteUpload> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(
        &mut self,
        DeleteUpload { owner, upload }: DeleteUpload,
        _: &mut Self::Context,
    ) -> Self::Result {
        self.change(async move |commands, queries| {
            // The command itself accepts an upload that does not exist.
            queries.upload(owner.clone(), upload).await?;
            Ok(commands.delete(owner, upload).await?)
        })
    }
}

impl Handler<DeleteBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, DeleteBatch { owner, batch }: DeleteBatch, _: &mut Self::Context) -> Self::Result {
        self.change(async move |commands, queries| {
            // The command itself accepts a batch that does not exist.
            queries.batch(owner.clone(), batch).await?;
            Ok(commands.delete_batch(owner, batch).await?)
        })
    }
}

impl Handler<WorkerStopped> for BatchSupervisor {
    type Result = ();

    fn handle(&mut self, WorkerStopped { token, outcome }: WorkerStopped, ctx: &mut Self::Context) {
        let upload = token.upload;
        // An upload that was handed back may have a new worker before the end of the old one is noticed.
        if self.workers.get(&upload).is_some_and(|(attempt, _)| *attempt <= token.attempt) {
            self.workers.remove(&upload);
        }
        match (outcome, &self.at_work) {
            (WorkerOutcome::Ended, _) | (WorkerOutcome::Panicked, None) => self.fill(ctx),
            (WorkerOutcome::Panicked, Some(AtWork { commands, .. })) => {
                log::error!("upload {upload}: its worker panicked");
                let message = "the code that worked on it panicked; the log says where";
                let failure =
                    Failure::new(token.attempt, Stage::VisionAnalysis, FailureKind::Panicked, message);
                let fail = commands.fail(token, failure);
                self.beginning += 1;
                ctx.spawn(fail.into_actor(self).map(|after, supervisor, ctx| {
                    let retried = match after {
                        Ok(AfterAttempt::Retried(begun)) => vec![*begun],
                        Ok(AfterAttempt::Waits | AfterAttempt::Ended) | Err(_) => Vec::new(),
                    };
                    supervisor.begun(retried, ctx);
                    supervisor.fill(ctx);
                }));
            }
        }
    }
}

impl Handler<Fill> for BatchSupervisor {
    type Result = ();

    fn handle(&mut self, Fill: Fill, ctx: &mut Self::Context) {
        self.fill(ctx);
    }
}

impl Handler<Drain> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<usize, Error>>;

    fn handle(&mut self, Drain(limit): Drain, _: &mut Self::Context) -> Self::Result {
        self.draining.store(true, Ordering::Relaxed);
        let Some(AtWork { commands, queries, .. }) = &self.at_work else {
            return Box::pin(fut::ready(Ok(0)));
        };
        let (commands, queries) = (commands.clone(), queries.clone());
        let drain = async move {
            let mut changes = queries.watch();
            let idle =
                async { while queries.queue_depth().in_flight > 0 && changes.changed().await.is_ok() {} };
            let _ = tokio::time::timeout(limit, idle).await;
            commands.end().await
        };
        Box::pin(drain.into_actor(self).map(|handed_back, supervisor, ctx| {
            for (_, (_, worker)) in supervisor.workers.drain() {
                worker.do_send(Abort);
            }
            // The actor stays to answer late commands. The rest of the engine stops with its
            // lifeline.
            if let Some(mut at_work) = supervisor.at_work.take() {
                for follows in at_work.follows.drain(..) {
                    ctx.cancel_future(follows);
                }
                at_work.lifeline.release();
            }
            Ok(handed_back?)
        }))
    }
}

/// The answer to a command that comes after the end.
fn stopped<T: 'static>() -> ResponseActFuture<BatchSupervisor, Result<T, Error>> {
    Box::pin(fut::ready(Err(Error::Stopping)))
}

impl BatchSupervisor {
    /// Makes a change, and looks for work after it.
    fn change<F>(
        &self,
        change: impl FnOnce(Commands, Queries) -> F,
    ) -> ResponseActFuture<Self, Result<(), Error>>
    where
        F: Future<Output = Result<(), Error>> + 'static,
    {
        let Some(AtWork { commands, queries, .. }) = &self.at_work else { return stopped() };
        let change = change(commands.clone(), queries.clone());
        Box::pin(change.into_actor(self).map(|done, supervisor, ctx| {
            supervisor.fill(ctx);
            done
        }))
    }

    /// Renews the run. An engine whose run was recovered by somebody else must end.
    fn renew(&self, ctx: &mut Context<Self>) {
        let Some(AtWork { commands, .. }) = &self.at_work else { return };
        let commands = commands.clone();
        ctx.spawn(async move { commands.renew().await }.into_actor(self).map(|renewed, supervisor, ctx| {
            let draining = supervisor.draining.load(Ordering::Relaxed);
            if let (Err(CommandError::Stale), false) = (renewed, draining) {
                log::error!("another process took over the work of this one, so this one ends");
                ctx.stop();
            }
        }));
    }

    /// Begins an attempt for each free worker.
    fn fill(&mut self, ctx: &mut Context<Self>) {
        let Some(AtWork { commands, gate, .. }) = &self.at_work else { return };
        let free = self.concurrency.saturating_sub(self.workers.len() + self.asked);
        let draining = self.draining.load(Ordering::Relaxed);
        if draining || !is_workable(&gate.state().borrow()) {
            return;
        }
        if free == 0 {
            self.again = self.asked > 0;
            return;
        }
        self.asked += free;
        self.beginning += 1;
        ctx.spawn(commands.begin_next(free).into_actor(self).map(move |begun, supervisor, ctx| {
            supervisor.asked -= free;
            // A broken store ends the engine by itself.
            supervisor.begun(begun.unwrap_or_default(), ctx);
            if std::mem::take(&mut supervisor.again) {
                supervisor.fill(ctx);
            }
        }));
    }

    /// Spawns a worker for each new attempt. It does so while draining, too: the attempts have
    /// begun, and the drain waits for them.
    fn begun(&mut self, begun: Vec<Begun>, ctx: &mut Context<Self>) {
        for begun in begun {
            let Some(AtWork { context, .. }) = &self.at_work else { break };
            if !self.revoked.remove(&begun.token) {
                let (upload, attempt) = (begun.token.upload, begun.token.attempt);
                let worker = UploadWorker::new(Arc::clone(context), begun, ctx.address().recipient());
                self.workers.insert(upload, (attempt, worker.start()));
            }
        }
        self.beginning -= 1;
        if self.beginning == 0 {
            self.revoked.clear();
        }
    }
}
