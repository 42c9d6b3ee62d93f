//! The parts of a running engine that the command line uses, so that a run need not own the pipeline.

use std::path::PathBuf;

use actix::Addr;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use mediamill_actors::{
    analysis::ProviderState,
    batch_supervisor::BatchSupervisor,
    files::Files,
    pipeline::{Pipeline, Stopped},
    publisher::Publisher,
    query_service::QueryService,
    store::Queries,
};
use tokio::sync::watch;

/// See the module. Clones share it; the data folder is free only when all are dropped.
#[derive(Clone)]
pub(super) struct Engine {
    pub(super) supervisor: Addr<BatchSupervisor>,
    pub(super) publisher: Addr<Publisher>,
    pub(super) query_service: Addr<QueryService>,
    pub(super) queries: Queries,
    pub(super) files: Files,
    pub(super) provider: watch::Receiver<ProviderState>,
    pub(super) stopped: Shared<BoxFuture<'static, Stopped>>,
    pub(super) data_dir: PathBuf,
}

impl Engine {
    pub(super) fn of(pipeline: &Pipeline) -> Self {
        Self {
            supervisor: pipeline.supervisor.clone(),
            publisher: pipeline.publisher.clone(),
            query_service: pipeline.query_service.clone(),
            queries: pipeline.queries().clone(),
            files: pipeline.files.clone(),
            provider: pipeline.provider(),
            stopped: pipeline.stopped().boxed().shared(),
            data_dir: pipeline.queries().data_dir().to_owned(),
        }
    }
}
