//! The engine over HTTP, one file per resource.
//!
//! A request passes `door`, which checks its origin, its caller and the caller's rate. Its resource answers
//! it with JSON, bytes or a stream. Each resource lists its `operations`, from which both the routes and the
//! description of the API are collected.

pub(crate) mod auth;
mod batches;
mod body;
mod contents;
mod door;
mod dump;
pub(crate) mod error;
mod events;
mod feed;
mod heads;
mod health;
mod metrics;
mod openapi;
mod operations;
mod originals;
mod page;
mod query;
mod quota;
mod receive;
mod receiving;
mod redaction;
mod responses;
mod resumable;
mod search;
mod socket;
mod status;
mod uploads;
mod views;

use std::{path::PathBuf, sync::Arc};

use actix::Addr;
use actix_web::{
    HttpRequest, HttpResponse,
    dev::HttpServiceFactory,
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};
use governor::DefaultKeyedRateLimiter;
use mediamill_actors::{
    batch_supervisor::BatchSupervisor, config as engine, files::Files, id::Owner, intake::Intake,
    pipeline::Pipeline, publisher::Publisher, query_service::QueryService, store::Queries,
};
use tokio::sync::watch;

use self::{
    auth::{Authenticate, Open, Tokens},
    error::Problem,
    metrics::Metrics,
    operations::Operations,
    quota::Quota,
    receiving::Receivers,
    redaction::Addresses,
};
use crate::config::{self, Config};

pub(crate) use self::{
    door::log,
    resumable::{ANSWER_HEADERS as RESUMABLE_ANSWER_HEADERS, REQUEST_HEADERS as RESUMABLE_REQUEST_HEADERS},
};

/// A running engine as the routes need it; clones share it.
#[derive(Clone)]
pub struct Handle {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    supervisor: Addr<BatchSupervisor>,
    query_service: Addr<QueryService>,
    publisher: Addr<Publisher>,
    intake: Arc<Intake>,
    files: Files,
    queries: Queries,
    auth: Arc<dyn Authenticate>,
    /// The same as `auth`, unless a host brought its own.
    tokens: Option<Arc<Tokens>>,
    server: config::Server,
    limits: engine::Limits,
    /// What everyone should know who reads the provider's descriptions.
    notice: Option<String>,
    data_dir: PathBuf,
    rates: DefaultKeyedRateLimiter<Owner>,
    /// What ordinary callers do not see.
    addresses: Addresses,
    /// Open sockets and event streams.
    streams: Quota,
    /// Searches that have no answer yet.
    searches: Quota,
    /// Requests that upload files.
    receiving: Receivers,
    metrics: Metrics,
    /// No more work is taken, and streams will be closed soon.
    stopping: watch::Sender<bool>,
    /// Streams are closed.
    closing: watch::Sender<bool>,
}

impl Handle {
    /// A handle with the authentication of the configuration.
    ///
    /// # Errors
    /// A sentence that names the invalid key of the configuration.
    pub fn new(pipeline: &Pipeline, config: &Config) -> Result<Self, String> {
        config.validate()?;
        if config.auth.is_configured() {
            let tokens = Arc::new(Tokens::new(&config.auth, &config.engine.store.data_dir)?);
            let auth: Arc<dyn Authenticate> = Arc::clone(&tokens) as Arc<dyn Authenticate>;
            Ok(Self::assemble(pipeline, config, auth, Some(tokens)))
        } else {
            Ok(Self::assemble(pipeline, config, Arc::new(Open), None))
        }
    }

    /// A handle with a host's own authentication; section `auth` of the configuration is ignored.
    pub fn with(pipeline: &Pipeline, config: &Config, auth: impl Authenticate) -> Self {
        Self::assemble(pipeline, config, Arc::new(auth), None)
    }

    fn assemble(
        pipeline: &Pipeline,
        config: &Config,
        auth: Arc<dyn Authenticate>,
        tokens: Option<Arc<Tokens>>,
    ) -> Self {
        let server = config.server.clone();
        let inner = Arc::new(Inner {
            supervisor: pipeline.supervisor.clone(),
            query_service: pipeline.query_service.clone(),
            publisher: pipeline.publisher.clone(),
            intake: Arc::clone(&pipeline.intake),
            files: pipeline.files.clone(),
            queries: pipeline.queries().clone(),
            auth,
            tokens,
            rates: door::rates(&server),
            addresses: Addresses::of(&config.engine.provider),
            streams: Quota::default(),
            searches: Quota::default(),
            receiving: Receivers::default(),
            server,
            limits: config.engine.limits.clone(),
            notice: pipeline.provider_profile().notice.clone(),
            data_dir: config.engine.store.data_dir.clone(),
            metrics: Metrics::new(),
            stopping: watch::Sender::new(false),
            closing: watch::Sender::new(false),
        });
        // Streams end with the engine, even if it stops by itself.
        let (stopped, handle) = (pipeline.stopped(), Arc::downgrade(&inner));
        actix_rt::spawn(async move {
            stopped.await;
            if let Some(inner) = handle.upgrade() {
                inner.stopping.send_replace(true);
                inner.closing.send_replace(true);
            }
        });
        actix_rt::spawn(metrics::follow(Arc::downgrade(&inner)));
        actix_rt::spawn(resumable::follow(Arc::downgrade(&inner)));
        Self { inner }
    }

    /// Closes WebSockets and event streams, so that a stopping server does not wait for them. Their clients
    /// reconnect.
    pub fn close(&self) {
        self.inner.stopping.send_replace(true);
        self.inner.closing.send_replace(true);
    }

    /// Reports at `/ready` that the server is stopping.
    pub(crate) fn announce_stop(&self) {
        self.inner.stopping.send_replace(true);
    }
}

/// The API below the host's scope: `v1/…`, `ws/uploads`, and its description `openapi.json`.
///
/// It answers every path below that scope, unknown ones with 404. A host that puts routes of its own into the
/// same scope, or the API at the root of its app, must configure its own routes first.
pub fn routes(handle: Handle) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.service(guarded(handle).configure(openapi::mounted).configure(api));
    }
}

/// The whole site: the page at `/`, the API below `/api`, and the endpoints for operators.
///
/// Its paths are relative, so it works in a scope, where the page's address ends with a slash (`/media/`).
/// Like [`routes`] it answers every path below its scope.
pub fn site(handle: Handle) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.service(
            guarded(handle)
                .configure(page::routes)
                .configure(|config| operators().register(config))
                .service(admitted(METRICS, metrics::operations()))
                .service(web::scope(API).configure(api).default_service(web::to(nowhere))),
        );
    }
}

/// Scope of the API in the site.
const API: &str = "/api";
/// Scope of the API's operations for admitted callers.
const V1: &str = "/v1";
/// Scope of the metrics.
const METRICS: &str = "/metrics";

/// The operations of the API for admitted callers, below [`V1`].
fn v1() -> Operations {
    uploads::operations()
        .and(resumable::operations())
        .and(batches::operations())
        .and(originals::operations())
        .and(search::operations())
        .and(events::operations())
        .and(status::operations())
        .and(dump::operations())
}

/// The operations of the site that admit everybody.
fn operators() -> Operations {
    health::operations().and(openapi::operations())
}

fn api(config: &mut ServiceConfig) {
    config.service(admitted(V1, v1())).configure(|config| socket::operations().register(config));
}

/// Describes the operations of the API below `base`.
fn describe_api(base: &str, api: &mut utoipa::openapi::OpenApi) {
    v1().describe(&format!("{base}{V1}"), api);
    socket::operations().describe(base, api);
}

/// Describes the operations of the site, with the API.
fn describe_site(api: &mut utoipa::openapi::OpenApi) {
    describe_api(API, api);
    operators().describe("", api);
    metrics::operations().describe(METRICS, api);
}

/// A scope that admits known callers only.
fn admitted(scope: &str, operations: Operations) -> impl HttpServiceFactory + use<> {
    web::scope(scope)
        .configure(|config| operations.register(config))
        .default_service(web::to(nowhere))
        .wrap(from_fn(door::admit))
}

fn guarded(
    handle: Handle,
) -> actix_web::Scope<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    web::scope("")
        .app_data(Data::from(handle.inner))
        .default_service(web::to(nowhere))
        .wrap(from_fn(door::guard))
        .wrap(from_fn(metrics::time))
}

async fn nowhere(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::not_found(&format!("resource as {}", request.path())))
}

/// A successful answer without a body.
fn no_content() -> HttpResponse {
    HttpResponse::NoContent().finish()
}
