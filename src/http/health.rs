//! Is it alive, and would work that is given to it now be done.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Json, ServiceConfig},
};
use mediamill_actors::query_service::GetHealth;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Inner, readable, status::provider_word};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(readable("/health", alive)).service(readable("/ready", ready));
}

/// The process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alive {
    /// Always `ok`.
    status: &'static str,
    /// The version of the program.
    version: &'static str,
}

/// Whether work that is given to it now would be done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    /// Whether files are taken in.
    ready: bool,
    /// Whether the store can be written.
    store: bool,
    /// Whether the disk has room.
    disk: bool,
    /// `starting`, `ready`, `away`, `gave_up` or `misconfigured`. Batches wait for a provider that is away, so that alone refuses nothing.
    provider: &'static str,
    /// Whether the server is about to stop.
    stopping: bool,
}

/// Says that the process is alive.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operation",
    operation_id = "health",
    responses((status = 200, body = Alive))
)]
pub(super) async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Says whether work that is given to the server now would be done.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "operation",
    operation_id = "ready",
    responses((status = 200, body = Ready), (status = 503, description = "Not now", body = Ready))
)]
pub(super) async fn ready(inner: Data<Inner>) -> HttpResponse {
    let health = inner.query_service.send(GetHealth).await.ok();
    let store = health.as_ref().is_some_and(|it| it.store_broken.is_none());
    let disk = inner.intake.check_disk().await.is_ok();
    let stopping = *inner.stopping.borrow();
    let ready = store && disk && !stopping;
    let provider = health.map_or("starting", |it| provider_word(&it.provider));
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(Ready { ready, store, disk, provider, stopping })
}
