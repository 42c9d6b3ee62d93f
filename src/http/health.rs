//! Liveness and readiness.

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Data, Json},
};
use mediamill_actors::query_service::GetHealth;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Inner,
    operations::{Operations, operation},
};

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(alive)).with(operation!(ready))
}

/// Liveness.
#[derive(Debug, Serialize, ToSchema)]
struct Alive {
    /// Always `ok`.
    status: &'static str,
    /// The version of the program.
    version: &'static str,
}

/// Readiness.
#[derive(Debug, Serialize, ToSchema)]
struct Ready {
    /// Whether the server accepts uploads.
    ready: bool,
    /// Whether the store can be written.
    store: bool,
    /// Whether the disk has enough free space.
    disk: bool,
    /// `starting`, `ready`, `away`, `gave_up` or `misconfigured`. It does not affect `ready`, since batches
    /// wait for their provider.
    provider: &'static str,
    /// Whether the server is stopping.
    stopping: bool,
}

/// Liveness.
///
/// It says that the process answers.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operation",
    operation_id = "health",
    security(()),
    responses((status = 200, description = "The process answers", body = Alive))
)]
async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Readiness.
///
/// It says whether the server accepts uploads.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "operation",
    operation_id = "ready",
    security(()),
    responses((status = 200, description = "Ready", body = Ready), (status = 503, description = "Not ready", body = Ready))
)]
async fn ready(inner: Data<Inner>) -> HttpResponse {
    let health = inner.query_service.send(GetHealth).await.ok();
    let store = health.as_ref().is_some_and(|it| it.store_broken.is_none());
    let disk = inner.intake.check_disk().await.is_ok();
    let stopping = *inner.stopping.borrow();
    let ready = store && disk && !stopping;
    let provider = health.map_or("starting", |it| it.provider.into());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(Ready { ready, store, disk, provider, stopping })
}
