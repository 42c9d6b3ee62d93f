//! What runs next and how many at once: spawns UploadWorkers and notices the dead ones.
//!
//! It takes the commands about batches. A change that it makes is durable when it answers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::prelude::*;

use crate::{
    analysis::ProviderState,
    error::Error,
    id::{BatchId, Owner, UploadId},
    store::{Accepted, Begun, Ended, NewBatch, WriteError},
    upload::{Failure, FailureKind, Stage},
    upload_worker::{Abort, Tools, UploadFinished, UploadWorker},
};

/// Submits files that were looked at and accepted. Answers when they are durable.
///
/// # Errors
/// [`Error::Stopping`], [`Error::QueueFull`], [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<Accepted, Error>")]
pub struct SubmitBatch(pub NewBatch);

/// A command about one batch of one owner.
///
/// # Errors
/// [`Error::NotFound`] if it is not this owner's, [`Error::Conflict`] if it does not stand so, [`Error::Store`].
#[derive(Debug, Message)]
#[rtype(result = "Result<(), Error>")]
pub struct ChangeBatch {
    /// Whose batch.
    pub owner: Owner,
    /// Which batch.
    pub batch: BatchId,
    /// What is to happen to it.
    pub change: Change,
}

/// What can happen to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Ends what is unfinished; of a batch that has ended nothing changes.
    Cancel,
    /// Begins no more uploads of it; running attempts finish.
    Pause,
    /// Begins its uploads again.
    Resume,
    /// Gives its failed uploads two fresh attempts.
    RetryFailed,
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

/// Takes no more work, gives running attempts this long to finish, and hands back the rest. Answers with how many that were.
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
    tools: Arc<Tools>,
    concurrency: usize,
    max_queued: u64,
    /// Each with the number of the attempt that it was spawned for.
    workers: HashMap<UploadId, (u32, Addr<UploadWorker>)>,
    /// A request for what is next is under way.
    filling: bool,
    /// Something changed meanwhile, so that it is to be asked for again.
    again: bool,
    draining: bool,
}

impl BatchSupervisor {
    /// A supervisor of at most `concurrency` workers that takes submissions until `max_queued` uploads wait.
    pub fn new(tools: Arc<Tools>, concurrency: usize, max_queued: u64) -> Self {
        Self {
            tools,
            concurrency: concurrency.max(1),
            max_queued,
            workers: HashMap::new(),
            filling: false,
            again: false,
            draining: false,
        }
    }
}

impl Actor for BatchSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (tools, supervisor) = (Arc::clone(&self.tools), ctx.address());
        let mut state = tools.gate.state();
        // The task ends with the context, and with the gate.
        ctx.spawn(
            async move {
                loop {
                    let now = state.borrow_and_update().clone();
                    let workable = matches!(now, ProviderState::Ready | ProviderState::GaveUp { .. });
                    if tools.store.set_provider_state(now).await.is_ok() && workable {
                        supervisor.do_send(Fill);
                    }
                    if state.changed().await.is_err() {
                        return;
                    }
                }
            }
            .into_actor(self),
        );
    }
}

impl Handler<SubmitBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<Accepted, Error>>;

    fn handle(&mut self, SubmitBatch(new): SubmitBatch, _: &mut Self::Context) -> Self::Result {
        let (store, max_queued, draining) = (self.tools.store.clone(), self.max_queued, self.draining);
        let submit = async move {
            if draining {
                return Err(Error::Stopping);
            }
            Ok(store.submit(new, max_queued).await?)
        };
        Box::pin(submit.into_actor(self).map(|accepted, supervisor, ctx| {
            let mut accepted = accepted?;
            supervisor.carry_out(std::mem::take(&mut accepted.ended));
            supervisor.fill(ctx);
            Ok(accepted)
        }))
    }
}

impl Handler<ChangeBatch> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(&mut self, command: ChangeBatch, _: &mut Self::Context) -> Self::Result {
        let store = self.tools.store.clone();
        let change = async move {
            let ChangeBatch { owner, batch, change } = command;
            match change {
                Change::Cancel => store.cancel(owner, batch).await,
                Change::Pause => store.set_paused(owner, batch, true).await.map(|()| Ended::default()),
                Change::Resume => store.set_paused(owner, batch, false).await.map(|()| Ended::default()),
                Change::RetryFailed => store.retry_failed(owner, batch).await.map(|_| Ended::default()),
            }
        };
        self.ending(change)
    }
}

impl Handler<DeleteUpload> for BatchSupervisor {
    type Result = ResponseActFuture<Self, Result<(), Error>>;

    fn handle(
        &mut self,
        DeleteUpload { owner, upload }: DeleteUpload,
        _: &mut Self::Context,
    ) -> Self::Result {
        let store = self.tools.store.clone();
        self.ending(async move { store.delete(owner, upload).await })
    }
}

impl Handler<UploadFinished> for BatchSupervisor {
    type Result = ();

    fn handle(&mut self, UploadFinished { upload, token }: UploadFinished, ctx: &mut Self::Context) {
        // An upload that was handed back may have a new worker before the old one is heard of.
        if self.workers.get(&upload).is_some_and(|(attempt, _)| *attempt <= token.attempt) {
            self.workers.remove(&upload);
        }
        if self.draining {
            return;
        }
        let store = self.tools.store.clone();
        // Of an attempt that was ended in good order the token is stale, and nothing happens.
        let message = "the code that worked on it panicked; the log tells where";
        let failure = Failure::new(token.attempt, Stage::VisionAnalysis, FailureKind::Panicked, message);
        ctx.spawn(async move { store.fail(token, failure).await }.into_actor(self).map(
            |after, supervisor, ctx| {
                if let Ok(crate::store::AfterAttempt::Again(begun)) = after {
                    log::error!("upload {}: its worker died; it is tried again", begun.token.upload);
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
        self.draining = true;
        let store = self.tools.store.clone();
        let idle = async move {
            let mut changes = store.watch();
            let wait = async { while store.load().1 > 0 && changes.changed().await.is_ok() {} };
            let _ = tokio::time::timeout(limit, wait).await;
            store.hand_back_all().await
        };
        Box::pin(idle.into_actor(self).map(|handed_back, supervisor, _| {
            for (_, (_, worker)) in supervisor.workers.drain() {
                worker.do_send(Abort);
            }
            Ok(handed_back?)
        }))
    }
}

impl BatchSupervisor {
    /// Waits for a change that may end uploads, and carries out what follows from it.
    fn ending(
        &self,
        change: impl Future<Output = Result<Ended, WriteError>> + 'static,
    ) -> ResponseActFuture<Self, Result<(), Error>> {
        Box::pin(change.into_actor(self).map(|ended, supervisor, ctx| {
            supervisor.carry_out(ended?);
            supervisor.fill(ctx);
            Ok(())
        }))
    }

    /// Stops the workers of uploads that were ended, and removes the files of those that were deleted.
    fn carry_out(&mut self, ended: Ended) {
        for upload in ended.in_flight {
            if let Some((_, worker)) = self.workers.get(&upload) {
                worker.do_send(Abort);
            }
        }
        for upload in ended.removed {
            let tools = Arc::clone(&self.tools);
            actix_rt::spawn(async move { tools.remove_files(upload).await });
        }
    }

    fn fill(&mut self, ctx: &mut Context<Self>) {
        let workable =
            matches!(*self.tools.gate.state().borrow(), ProviderState::Ready | ProviderState::GaveUp { .. });
        let free = self.concurrency.saturating_sub(self.workers.len());
        if self.draining || !workable || free == 0 {
            return;
        }
        if self.filling {
            self.again = true;
            return;
        }
        self.filling = true;
        let store = self.tools.store.clone();
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
        // What was begun while the drain began is handed back by it.
        if !self.draining {
            let (upload, attempt) = (begun.token.upload, begun.token.attempt);
            let worker = UploadWorker::new(Arc::clone(&self.tools), begun, ctx.address().recipient()).start();
            self.workers.insert(upload, (attempt, worker));
        }
    }
}
