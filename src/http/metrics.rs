//! Metrics of the engine and of the server, in the text format of Prometheus.

use std::{
    sync::{Arc, Weak, atomic::AtomicU64},
    time::{Duration, Instant},
};

use actix_web::{
    Error as WebError, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web::Data,
};
use mediamill_actors::{
    analysis::ProviderState,
    error::Error,
    event::EventKind,
    query_service::GetHealth,
    store::{Cursor, Interest},
};
use prometheus_client::{
    encoding::prometheus_text,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use strum::VariantNames as _;

use super::{
    Inner,
    auth::Administrator,
    error::Problem,
    operations::{Operations, operation},
    responses::{Administrators, Refusals},
};

/// Interval at which events are read for their durations.
const READ_EVERY: Duration = Duration::from_secs(1);
/// Events that are read at once.
const PAGE: usize = 256;

type Label = [(&'static str, &'static str); 1];

/// The metrics that are counted continuously; the others are read for each answer.
pub(super) struct Metrics {
    stages: Family<Label, Histogram, fn() -> Histogram>,
    requests: Family<Label, Histogram, fn() -> Histogram>,
}

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(metrics))
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            stages: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.01, 2.5, 13))),
            requests: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.5, 12))),
        }
    }
}

/// Metrics. For administrators.
///
/// They are of the engine and of the server, in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "",
    tag = "operation",
    operation_id = "metrics",
    security(("token" = []), ("session" = [])),
    responses(
        (status = 200, description = "Metrics", content_type = "text/plain", body = String),
        Refusals, Administrators
    )
)]
async fn metrics(_: Administrator, inner: Data<Inner>) -> Result<HttpResponse, Problem> {
    let health = inner.query_service.send(GetHealth).await?;
    let totals = inner.queries.totals().await?;
    let (flushes, flushed) = inner.queries.flushes();
    let mut registry = Registry::with_prefix("mediamill");

    let uploads = Family::<Label, Gauge>::default();
    let waiting = totals.total.saturating_sub(totals.active + totals.processed());
    for (status, count) in [
        ("pending", waiting),
        ("active", totals.active),
        ("completed", totals.completed),
        ("failed", totals.failed),
        ("cancelled", totals.cancelled),
    ] {
        uploads.get_or_create(&[("status", status)]).set(count.into());
    }
    registry.register("uploads", "Uploads by status", uploads);
    gauge(
        &mut registry,
        "uploads_needing_review",
        "Completed uploads whose description failed the audit",
        totals.needs_review,
    );
    gauge(&mut registry, "queue_waiting", "Uploads that are waiting for a worker", health.waiting as u32);
    gauge(&mut registry, "queue_active", "Uploads in flight", health.active as u32);

    let provider = Family::<Label, Gauge>::default();
    let present: &str = (&health.provider).into();
    for state in ProviderState::VARIANTS {
        provider.get_or_create(&[("state", *state)]).set((*state == present).into());
    }
    registry.register("provider", "1 for the present state of the provider", provider);
    let waiting = health.provider.waiting().is_some();
    gauge(&mut registry, "provider_waiting", "1 while uploads wait for the provider", u32::from(waiting));

    counter(&mut registry, "store_flushes", "Flushes of the store to disk", flushes);
    let seconds = Counter::<f64, AtomicU64>::default();
    seconds.inc_by(flushed.as_secs_f64());
    registry.register("store_flush_seconds", "Time that flushes of the store took", seconds);
    let healthy = health.store_broken.is_none();
    gauge(&mut registry, "store_writable", "1 while the store can be written", u32::from(healthy));

    gauge(&mut registry, "subscribers", "Subscribers of the publisher", health.subscribers as u32);
    let receiving = inner.receiving.total();
    gauge(&mut registry, "receiving", "Requests that are uploading files", receiving);
    registry.register("stage_seconds", "Duration of the stages of uploads", inner.metrics.stages.clone());
    registry.register(
        "http_request_seconds",
        "Time until the answer to a request began, by class of status",
        inner.metrics.requests.clone(),
    );

    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)
        .map_err(|_| Problem::internal("the metrics cannot be written"))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u32) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value.into());
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

/// Measures the time of a request.
pub(super) async fn time(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, WebError> {
    let started = Instant::now();
    let inner = request.app_data::<Data<Inner>>().cloned();
    let response = next.call(request).await?.map_into_boxed_body();
    let class = match response.status().as_u16() {
        ..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500.. => "5xx",
    };
    if let Some(inner) = inner {
        inner.metrics.requests.get_or_create(&[("status", class)]).observe(started.elapsed().as_secs_f64());
    }
    Ok(response)
}

/// Reads the durations of stages from events, until the server is dropped.
pub(super) async fn follow(inner: Weak<Inner>) {
    let Some(queries) = inner.upgrade().map(|inner| inner.queries.clone()) else { return };
    let mut cursor = queries.newest();
    drop(queries);
    loop {
        tokio::time::sleep(READ_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        loop {
            match read(&inner, &cursor).await {
                Ok((reached, more)) => {
                    cursor = reached;
                    if !more {
                        break;
                    }
                }
                Err(error) => {
                    log::warn!("metrics lack events that cannot be read: {error}");
                    break;
                }
            }
        }
    }
}

/// Reads a page of events. Returns the new cursor, and whether there are more events.
async fn read(inner: &Arc<Inner>, cursor: &Cursor) -> Result<(Cursor, bool), Error> {
    let batch = inner.queries.changes_after(cursor, Interest::Everyone, PAGE, None).await?;
    for change in &batch.changes {
        let (stage, ms) = match change.event.kind {
            EventKind::UploadDescribed { took_ms, .. } => ("description", took_ms),
            EventKind::UploadCompleted { took_ms, .. } => ("embedding", took_ms),
            EventKind::BatchSubmitted
            | EventKind::BatchPaused
            | EventKind::BatchResumed
            | EventKind::BatchCancelled
            | EventKind::BatchRetried { .. }
            | EventKind::UploadBegun { .. }
            | EventKind::UploadFailed { .. }
            | EventKind::UploadHandedBack { .. }
            | EventKind::UploadInterrupted { .. }
            | EventKind::UploadCancelled
            | EventKind::BatchDeleted
            | EventKind::UploadDeleted { .. }
            | EventKind::ProviderChanged => continue,
        };
        inner.metrics.stages.get_or_create(&[("stage", stage)]).observe(ms as f64 / 1000.0);
    }
    Ok((batch.reached, batch.more))
}
