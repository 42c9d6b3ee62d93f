//! The engine over HTTP: one file for each resource.
//!
//! A request passes `door` (is it from here, who asks, how often), reaches its resource, and is answered with JSON, bytes or a stream.

pub(crate) mod auth;
mod batches;
mod body;
mod door;
mod dump;
pub(crate) mod error;
mod events;
mod feed;
mod health;
mod messages;
mod metrics;
mod openapi;
mod originals;
mod page;
mod query;
mod quota;
mod receive;
mod search;
mod socket;
mod status;
mod uploads;
mod views;

use std::{path::PathBuf, sync::Arc};

use actix::Addr;
use actix_web::{
    FromRequest, Handler, HttpRequest, HttpResponse, Responder,
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
    quota::Quota,
};
use crate::config::{self, Config};

pub(crate) use self::door::log;

/// What the routes need of a running engine; clones share it.
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
    /// The same as `auth`, where that is ours.
    tokens: Option<Arc<Tokens>>,
    server: config::Server,
    limits: engine::Limits,
    /// What everyone should know who reads the provider's descriptions.
    notice: Option<String>,
    data_dir: PathBuf,
    rates: DefaultKeyedRateLimiter<Owner>,
    /// Open sockets and event streams.
    streams: Quota,
    /// Requests that bring files in.
    receiving: Quota,
    metrics: Metrics,
    /// No more work is taken; streams are about to end.
    stopping: watch::Sender<bool>,
    /// Streams end.
    closing: watch::Sender<bool>,
}

impl Handle {
    /// The routes of an engine, with the authentication that a configuration names.
    ///
    /// # Errors
    /// A sentence that names the key of the configuration that cannot be taken.
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

    /// The routes of an engine, with a host's own authentication; section `auth` of the configuration is not looked at.
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
            streams: Quota::default(),
            receiving: Quota::default(),
            server,
            limits: config.engine.limits.clone(),
            notice: pipeline.provider_profile().notice.clone(),
            data_dir: config.engine.store.data_dir.clone(),
            metrics: Metrics::new(),
            stopping: watch::Sender::new(false),
            closing: watch::Sender::new(false),
        });
        // An engine that ends by itself takes its streams along.
        let (stopped, handle) = (pipeline.stopped(), Arc::downgrade(&inner));
        actix_rt::spawn(async move {
            stopped.await;
            if let Some(inner) = handle.upgrade() {
                inner.stopping.send_replace(true);
                inner.closing.send_replace(true);
            }
        });
        actix_rt::spawn(metrics::follow(Arc::downgrade(&inner)));
        Self { inner }
    }

    /// Ends sockets and event streams, so that a server that stops does not wait for them; their clients come back to the next one.
    pub fn close(&self) {
        self.inner.stopping.send_replace(true);
        self.inner.closing.send_replace(true);
    }

    /// Says at `/ready` that the server is about to stop.
    pub(crate) fn announce_stop(&self) {
        self.inner.stopping.send_replace(true);
    }
}

/// The API below the scope into which it is put: `v1/…`, `ws/uploads`, and its description `openapi.json`.
///
/// It answers for all that is asked below that scope, with 404 for what it does not know. Routes of the host's own beside it, in the same scope or at
/// the root of an app, must be configured before it.
pub fn routes(handle: Handle) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.service(guarded(handle).configure(openapi::mounted).configure(api));
    }
}

/// The whole site: the page at `/`, the API below `/api`, and what operates it.
///
/// Its paths are relative, so it may lie in a scope; the page's address ends in a slash then (`/media/`). Like [`routes`] it answers for all that
/// is asked below its scope.
pub fn site(handle: Handle) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.service(
            guarded(handle)
                .configure(page::routes)
                .configure(health::routes)
                .configure(metrics::routes)
                .configure(openapi::routes)
                .service(web::scope("/api").configure(api).default_service(web::to(nowhere))),
        );
    }
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

fn api(config: &mut ServiceConfig) {
    config
        .service(
            web::scope("/v1")
                .configure(uploads::routes)
                .configure(batches::routes)
                .configure(uploads::single)
                .configure(originals::routes)
                .configure(search::routes)
                .configure(events::routes)
                .configure(status::routes)
                .configure(dump::routes)
                .default_service(web::to(nowhere))
                .wrap(from_fn(door::admit)),
        )
        .configure(socket::routes);
}

async fn nowhere(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Err(Problem::not_found(&format!("resource as {}", request.path())))
}

/// A resource that can only be read.
fn readable<F, Args>(path: &str, handler: F) -> actix_web::Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path).route(web::get().to(handler.clone())).route(web::head().to(handler))
}

/// A plain answer without a body.
fn no_content() -> HttpResponse {
    HttpResponse::NoContent().finish()
}
