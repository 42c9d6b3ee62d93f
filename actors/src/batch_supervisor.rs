//! What runs next and how many at once: spawns UploadWorkers and notices the dead ones.
//!
//! It takes the commands about batches. A change that it makes is durable when it answers.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;

use crate::{
    analysis::ProviderState,
    error::Error,
    id::{BatchId, Owner, UploadId},
    intake::classify::Verdict,
    intake::receive::Received,
    intake::{Admission, Intake, Source},
    lifeline::Lifeline,
    store::{AfterAttempt, Begun, Commands, NewBatch, Terminated, WriteError},
    upload::{Failure, FailureKind, Stage},
    upload_worker::{Abort, UploadFinished, UploadWorker, WorkerContext},
};

/// Submits files as one batch, in order. Answers when the batch, its uploads and the bytes that were handed over are durable; files in
/// place are only referenced. Without an answer (the process died) a batch may be there or not, and of one of more than 1,000 files a part.
///
/// # Errors
/// [`Error::Stopping`], [`Error::QueueFull`], [`Error::DiskFull`], [`Error::Store`]: nothing of it was taken then. A file that cannot be
/// taken is no error of the batch: see [`Admission`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Submitted, Error>")]
pub struct SubmitBatch {
    /// Whose batch.
    pub owner: Owner,
    /// The files.
    pub files: Vec<Source>,
    /// Does again what earlier uploads of the same files hold.
    pub force: bool,
}

/// What became of a [`SubmitBatch`].
#[derive(Debug)]
pub struct Submitted {
    /// The batch; `None` if nothing new came with it, because all was done before or is no media, or nothing was submitted.
    pub batch_id: Option<BatchId>,
    /// What became of each file, in order.
    pub files: Vec<Admission>,
}

/// Ends what is unfinished of a batch and aborts running calls; of a batch that has ended nothing changes.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Conflict`] if it does not stand so, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct CancelBatch {
    /// Whose batch.
    pub owner: Owner,
    /// Which batch.
    pub batch: BatchId,
}

/// Begins no more uploads of a batch; running attempts finish.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Conflict`] if it does not stand so, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct PauseBatch {
    /// Whose batch.
    pub owner: Owner,
    /// Which batch.
    pub batch: BatchId,
}

/// Begins the uploads of a paused batch again.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Conflict`] if it does not stand so, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct ResumeBatch {
    /// Whose batch.
    pub owner: Owner,
    /// Which batch.
    pub batch: BatchId,
}

/// Gives the failed uploads of a batch two fresh attempts: its next run.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Conflict`] if it does not stand so, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct RetryFailed {
    /// Whose batch.
    pub owner: Owner,
    /// Which batch.
    pub batch: BatchId,
}

/// Deletes an upload with all that belongs to it, wherever it stands.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct DeleteUpload {
    /// Whose upload.
    pub owner: Owner,
    /// Which upload.
    pub upload: UploadId,
}

/// Takes no more work, gives running attempts this long to finish, hands back the rest, and stops the engine. Answers with how many were
/// handed back. Whatever command comes after that is answered with [`Error::Stopping`].
///
/// # Errors
/// [`Error::Store`] if they could not be handed back; the next start takes them as interrupted then.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, Error>")]
pub struct Drain(pub Duration);

/// There may be something to begin.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Fill;

/// See the module.
pub struct BatchSupervisor {
    /// Gone once it has drained, so that whoever still has its address does not keep the data folder.
    at_work: Option<AtWork>,
    concurrency: usize,
    max_queued: u64,
    /// Each with the number of the attempt that it was spawned for.
    workers: HashMap<UploadId, (u32, Addr<UploadWorker>)>,
    /// A request for what is next is under way.
    filling: bool,
    /// Something changed meanwhile, so that it is to be asked for again.
    again: bool,
    /// Uploads that were ended between the begin of their attempt and its worker.
    too_late: HashSet<UploadId>,
    /// It takes no more work; shared with submissions that are under way.
    draining: Arc<AtomicBool>,
}

/// What a supervisor works with until it has drained.
struct AtWork {
    tools: Arc<WorkerContext>,
    intake: Arc<Intake>,
    lifeline: Lifeline,
    /// Passes the provider's state on.
    follows: Option<SpawnHandle>,
}

impl BatchSupervisor {
    /// A supervisor of at most `concurrency` workers that takes submissions until `max_queued` uploads wait.
    pub fn new(
        tools: Arc<WorkerContext>,
        intake: Arc<Intake>,
        concurrency: usize,
        max_queued: u64,
        lifeline: Lifeline,
    ) -> Self {
        Self {
            at_work: Some(AtWork { tools, intake, lifeline, follows: None }),
            concurrency: concurrency.max(1),
            max_queued,
            workers: HashMap::new(),
            filling: false,
            again: false,
            too_late: HashSet::new(),
            draining: Arc::default(),
        }
    }
}

impl Actor for BatchSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(AtWork { tools, .. }) = &self.at_work else { return };
        let (tools, supervisor) = (Arc::clone(tools), ctx.address());
        let mut state = tools.gate.state();
        let follows = ctx.spawn(
            async move {
                loop {
                    let now = state.borrow_and_update().clone();
                    let workable = matches!(now, ProviderState::Ready | ProviderState::GaveUp { .. });
                    if tools.commands.set_provider_state(now).await.is_ok() && workable {
                        supervisor.do_send(Fill);
                    }
                    if state.changed().await.is_err() {
                        return;
                    }
                }
            }
            .into_actor(self),
        );
        if let Some(at_work) = &mut self.at_work {
            at_work.follows = Some(follows);
        }
    }
}

impl Handler<SubmitBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<Submitted, Error>>;

    fn handle(&mut self, submit: SubmitBatch, _: &mut Self::Context) -> Self::Result {
        let Some(AtWork { tools, intake, .. }) = &self.at_work else { return stopped() };
        let (tools, intake) = (Arc::clone(tools), Arc::clone(intake));
        let (max_queued, draining) = (self.max_queued, Arc::clone(&self.draining));
        let submit = async move {
            let goes_on =
                move || if draining.load(Ordering::Relaxed) { Err(Error::Stopping) } else { Ok(()) };
            goes_on()?;
            intake.check_disk()?;
            let SubmitBatch { owner, files, force } = submit;
            // Looking is reading, and in vain if there is no room for one more.
            if !files.is_empty() && tools.queries.queue_depth().total() as u64 >= max_queued {
                return Err(Error::QueueFull { limit: max_queued });
            }
            let verdicts = intake.classifier(owner.clone(), force).classify(files, goes_on.clone()).await?;
            let (mut admissions, mut uploads, mut received) = (Vec::new(), Vec::new(), Vec::new());
            let mut displaced = Vec::new();
            for look in verdicts {
                admissions.push(match look {
                    Verdict::New(upload, bytes) => {
                        let id = upload.id;
                        uploads.push(*upload);
                        received.extend(bytes);
                        Admission::Accepted(id)
                    }
                    Verdict::Decided(admission) => admission,
                    Verdict::Known(upload, stood_there) => {
                        displaced.extend(stood_there);
                        Admission::Done(upload)
                    }
                });
            }
            goes_on()?;
            // Only now, as files that change places may find each other in one submission.
            let mut ended = match displaced.is_empty() {
                true => Terminated::default(),
                false => tools.commands.displace(owner.clone(), displaced).await?,
            };
            let refused = admissions.iter().filter(|it| matches!(it, Admission::Refused(_))).count();
            if uploads.is_empty() && refused == 0 {
                return Ok((Submitted { batch_id: None, files: admissions }, ended));
            }
            let new = NewBatch { owner, refused: refused as u32, uploads };
            // From now on the uploads may be written whatever becomes of this: what is not is removed at the next start.
            received.iter_mut().for_each(Received::keep);
            let accepted = match tools.commands.submit(new, max_queued).await {
                Ok(accepted) => accepted,
                Err(WriteError::Unknown(why)) => return Err(WriteError::Unknown(why).into()),
                Err(refused) => {
                    received.into_iter().for_each(Received::remove);
                    return Err(refused.into());
                }
            };
            tools.settle(received).await;
            ended.extend(accepted.ended);
            Ok((Submitted { batch_id: Some(accepted.batch_id), files: admissions }, ended))
        };
        Box::pin(submit.into_actor(self).map(|submitted, supervisor, ctx| {
            let (submitted, ended) = submitted?;
            supervisor.abort_and_clean_up(ended);
            supervisor.fill(ctx);
            Ok(submitted)
        }))
    }
}

impl Handler<CancelBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, CancelBatch { owner, batch }: CancelBatch, _: &mut Self::Context) -> Self::Result {
        self.ending(async move |store| store.cancel(owner, batch).await)
    }
}

impl Handler<PauseBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, PauseBatch { owner, batch }: PauseBatch, _: &mut Self::Context) -> Self::Result {
        self.ending(async move |store| {
            store.set_paused(owner, batch, true).await.map(|()| Terminated::default())
        })
    }
}

impl Handler<ResumeBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, ResumeBatch { owner, batch }: ResumeBatch, _: &mut Self::Context) -> Self::Result {
        self.ending(async move |store| {
            store.set_paused(owner, batch, false).await.map(|()| Terminated::default())
        })
    }
}

impl Handler<RetryFailed> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, RetryFailed { owner, batch }: RetryFailed, _: &mut Self::Context) -> Self::Result {
        self.ending(async move |store| store.retry_failed(owner, batch).await.map(|_| Terminated::default()))
    }
}

impl Handler<DeleteUpload> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(
        &mut self,
        DeleteUpload { owner, upload }: DeleteUpload,
        _: &mut Self::Context,
    ) -> Self::Result {
        self.ending(async move |store| store.delete(owner, upload).await)
    }
}

impl Handler<UploadFinished> for BatchSupervisor {
    type Result = ();

    fn handle(&mut self, finished: UploadFinished, ctx: &mut Self::Context) {
        let UploadFinished { upload, token, died } = finished;
        // An upload that was handed back may have a new worker before the old one is heard of.
        if self.workers.get(&upload).is_some_and(|(attempt, _)| *attempt <= token.attempt) {
            self.workers.remove(&upload);
        }
        if !died {
            return self.fill(ctx);
        }
        let Some(store) = self.commands() else { return };
        let message = "the code that worked on it panicked; the log tells where";
        let failure = Failure::new(token.attempt, Stage::VisionAnalysis, FailureKind::Panicked, message);
        ctx.spawn(async move { store.fail(token, failure).await }.into_actor(self).map(
            move |after, supervisor, ctx| {
                log::error!("upload {upload}: its worker died");
                if let Ok(AfterAttempt::Again(begun)) = after {
                    supervisor.spawn(*begun, ctx);
                }
                supervisor.fill(ctx);
            },
        ));
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
        let Some(AtWork { tools, .. }) = &self.at_work else { return Box::pin(fut::ready(Ok(0))) };
        let (commands, queries) = (tools.commands.clone(), tools.queries.clone());
        let idle = async move {
            let mut changes = queries.watch();
            let wait =
                async { while queries.queue_depth().in_flight > 0 && changes.changed().await.is_ok() {} };
            let _ = tokio::time::timeout(limit, wait).await;
            commands.hand_back_all().await
        };
        Box::pin(idle.into_actor(self).map(|handed_back, supervisor, ctx| {
            for (_, (_, worker)) in supervisor.workers.drain() {
                worker.do_send(Abort);
            }
            // It stays to tell whoever comes late. The rest of the engine follows its lifeline.
            if let Some(mut at_work) = supervisor.at_work.take() {
                if let Some(follows) = at_work.follows {
                    ctx.cancel_future(follows);
                }
                at_work.lifeline.release();
            }
            Ok(handed_back?)
        }))
    }
}

/// The answer to whoever comes after the end.
fn stopped<T: 'static>() -> ResponseActFuture<BatchSupervisor, Result<T, Error>> {
    Box::pin(fut::ready(Err(Error::Stopping)))
}

impl BatchSupervisor {
    fn commands(&self) -> Option<Commands> {
        self.at_work.as_ref().map(|it| it.tools.commands.clone())
    }

    /// Waits for a change that may end uploads, and carries out what follows from it.
    fn ending<F>(&self, change: impl FnOnce(Commands) -> F) -> ResponseActFuture<Self, Result<(), Error>>
    where
        F: Future<Output = Result<Terminated, WriteError>> + 'static,
    {
        let Some(store) = self.commands() else { return stopped() };
        Box::pin(change(store).into_actor(self).map(|ended, supervisor, ctx| {
            supervisor.abort_and_clean_up(ended?);
            supervisor.fill(ctx);
            Ok(())
        }))
    }

    /// Stops the workers of uploads that were ended, and removes the files of those that were deleted.
    fn abort_and_clean_up(&mut self, ended: Terminated) {
        for upload in ended.in_flight {
            match self.workers.get(&upload) {
                Some((_, worker)) => worker.do_send(Abort),
                // Its attempt is begun, but this was heard of first.
                None => {
                    self.too_late.insert(upload);
                }
            }
        }
        // After the end, the next start removes them.
        let Some(AtWork { tools, .. }) = &self.at_work else { return };
        for upload in ended.removed {
            let tools = Arc::clone(tools);
            actix_rt::spawn(async move { tools.remove_files(upload).await });
        }
    }

    fn fill(&mut self, ctx: &mut Context<Self>) {
        let Some(AtWork { tools, .. }) = &self.at_work else { return };
        let workable =
            matches!(*tools.gate.state().borrow(), ProviderState::Ready | ProviderState::GaveUp { .. });
        let free = self.concurrency.saturating_sub(self.workers.len());
        if self.draining.load(Ordering::Relaxed) || !workable || free == 0 {
            return;
        }
        if self.filling {
            self.again = true;
            return;
        }
        self.filling = true;
        let store = tools.commands.clone();
        ctx.spawn(async move { store.begin_next(free).await }.into_actor(self).map(
            |begun, supervisor, ctx| {
                supervisor.filling = false;
                for begun in begun.unwrap_or_default() {
                    supervisor.spawn(begun, ctx);
                }
                if std::mem::take(&mut supervisor.again) {
                    supervisor.fill(ctx);
                }
            },
        ));
    }

    fn spawn(&mut self, begun: Begun, ctx: &mut Context<Self>) {
        // Also while it drains: the attempt is begun, so the drain waits for it.
        let (upload, attempt) = (begun.token.upload, begun.token.attempt);
        let Some(AtWork { tools, .. }) = &self.at_work else { return };
        if self.too_late.remove(&upload) {
            return;
        }
        let worker = UploadWorker::new(Arc::clone(tools), begun, ctx.address().recipient()).start();
        self.workers.insert(upload, (attempt, worker));
    }
}
