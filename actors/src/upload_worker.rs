//! Works on one upload, for at most two failed attempts.
//!
//! It takes no work by message: it starts with an attempt, and continues with the next one if
//! that failed. It sends the supervisor [`WorkerStopped`] when it stops, even by a panic.

mod attempt;
mod preparation;

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::Semaphore;

use self::attempt::Attempt;
use crate::{
    config,
    files::Files,
    media::{self, VisionSpec},
    provider_gate::ProviderGate,
    store::{Begun, Commands, Queries, Token},
};

/// Most thumbnails that wait for the disk at once, beside the pictures that are decoded. More
/// threads cost processor time and memory, and the disk is hardly faster with them.
const THUMBNAILS_AT_ONCE: usize = 8;

/// A worker stopped.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct WorkerStopped {
    /// The last attempt of the worker.
    pub token: Token,
    /// How it stopped.
    pub outcome: WorkerOutcome,
}

/// How a worker stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerOutcome {
    /// The attempt has ended, or its end is queued in the store.
    Ended,
    /// The worker panicked during its attempt, which has not ended yet.
    Panicked,
}

/// The handles and budgets that all workers of a pipeline share.
pub struct WorkerContext {
    /// Changes the store.
    pub(crate) commands: Commands,
    /// Reads the store.
    pub(crate) queries: Queries,
    /// The way to the provider.
    pub(crate) gate: Arc<ProviderGate>,
    /// The files of uploads.
    pub(crate) files: Files,
    /// Limits of a decode.
    pub(crate) limits: media::Limits,
    /// The pictures that the provider wants.
    pub(crate) vision: VisionSpec,
    /// Memory for decodes, in MiB.
    decode_memory: Arc<Semaphore>,
    /// Pictures decoded at once: one for each processor.
    decoders: Arc<Semaphore>,
    /// Jobs that decode a picture or wait until its thumbnail is durable.
    jobs: Arc<Semaphore>,
}

impl WorkerContext {
    /// A context for workers that decode within `limits`.
    pub(crate) fn new(
        commands: Commands,
        queries: Queries,
        gate: Arc<ProviderGate>,
        files: Files,
        limits: media::Limits,
        vision: VisionSpec,
    ) -> Self {
        let mib = limits.decode_memory >> 20;
        Self {
            commands,
            queries,
            gate,
            files,
            decode_memory: Arc::new(Semaphore::new(mib as usize)),
            decoders: Arc::new(Semaphore::new(config::processors())),
            jobs: Arc::new(Semaphore::new(config::processors() + THUMBNAILS_AT_ONCE)),
            limits,
            vision,
        }
    }
}

/// The worker of one upload; see the module.
pub struct UploadWorker {
    context: Arc<WorkerContext>,
    /// The attempt to start with.
    begun: Option<Begun>,
    /// The attempt that runs.
    token: Token,
    outcome: WorkerOutcome,
    stopped: Recipient<WorkerStopped>,
}

impl UploadWorker {
    /// A worker for an attempt that has begun.
    pub fn new(context: Arc<WorkerContext>, begun: Begun, stopped: Recipient<WorkerStopped>) -> Self {
        let token = begun.token.clone();
        Self { context, token, begun: Some(begun), outcome: WorkerOutcome::Panicked, stopped }
    }

    fn run(&mut self, begun: Begun, ctx: &mut Context<Self>) {
        self.token = begun.token.clone();
        let attempt = Attempt::new(Arc::clone(&self.context), begun, self.stopped.clone());
        ctx.spawn(attempt.run().into_actor(self).map(|retried, worker, ctx| match retried {
            Some(begun) => worker.run(*begun, ctx),
            None => {
                worker.outcome = WorkerOutcome::Ended;
                ctx.stop();
            }
        }));
    }
}

impl Actor for UploadWorker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(begun) = self.begun.take() {
            self.run(begun, ctx);
        }
    }
}

impl Drop for UploadWorker {
    fn drop(&mut self) {
        self.stopped.do_send(WorkerStopped { token: self.token.clone(), outcome: self.outcome });
    }
}

/// Stops the worker of an attempt that was revoked; its work is dropped.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Abort;

impl Handler<Abort> for UploadWorker {
    type Result = ();

    fn handle(&mut self, Abort: Abort, ctx: &mut Self::Context) {
        self.outcome = WorkerOutcome::Ended;
        ctx.stop();
    }
}
