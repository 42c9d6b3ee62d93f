//! What happens, as server-sent events.

use std::{convert::Infallible, fmt::Write as _, pin::Pin, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName},
    web::{self, Bytes, Data, ServiceConfig},
};
use futures_util::stream;
use mediamill_actors::{publisher::Uploads, wire};
use tokio::sync::watch;

use super::{
    Inner,
    auth::Caller,
    error::Problem,
    feed::{Delivery, Feed},
    openapi::{Checked, Full, Refusals},
    query::Query,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How often a sign of life is sent while nothing happens.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon a client should come back, in ms.
const COME_BACK_MS: u32 = 1000;

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(web::resource("/events").route(web::get().to(events)));
}

/// What happens to the caller's batches and uploads, from now on or after an event that it knows. Each event's `data` is one message as JSON,
/// with an `action`; the last message of a change of state has its number as `id`.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "events",
    operation_id = "events",
    params(
        ("after_seq" = Option<u64>, Query, description = "The last event that is known; 0: none. `Last-Event-ID` counts more"),
        ("Last-Event-ID" = Option<String>, Header, description = "The same, as browsers send it when they come back")
    ),
    responses(
        (status = 200, description = "Messages, until one side ends it", content_type = "text/event-stream", body = super::messages::Message),
        Refusals, Checked, Full
    )
)]
pub(super) async fn events(
    caller: Caller,
    inner: Data<Inner>,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let asked = query.text("after_seq").map(|_| query.number("after_seq", 0..=u64::MAX, 0)).transpose()?;
    let known = request.headers().get(LAST_EVENT_ID).map(|id| {
        let number = id.to_str().ok().and_then(|id| id.parse().ok());
        number.ok_or_else(|| Problem::invalid("Last-Event-ID must be the number of an event"))
    });
    let after_seq = known.transpose()?.or(asked);
    let expired = Box::pin(caller.expired());
    let feed = Feed::subscribe(&inner, caller.owner, Uploads::All, after_seq).await?;
    let teller =
        EventRenderer { feed, expired, closing: inner.closing.subscribe(), sent: None, snapshot: None };
    let greeting = Bytes::from(format!("retry: {COME_BACK_MS}\n: here is what happens\n\n"));
    let pieces = stream::unfold(Some(teller), move |teller| async move {
        let mut teller = teller?;
        let piece = teller.next().await?;
        Some((Ok::<_, Infallible>(piece), Some(teller)))
    });
    let pieces = futures_util::StreamExt::chain(stream::iter([Ok(greeting)]), pieces);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Proxies would collect it otherwise.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(pieces))
}

struct EventRenderer {
    feed: Feed,
    /// Comes when it is no longer known whose stream this is.
    expired: Pin<Box<dyn Future<Output = ()>>>,
    closing: watch::Receiver<bool>,
    /// What the connection was given last; it has passed that on when it asks for more.
    sent: Option<Delivery>,
    /// A snapshot of this number is being told. Until something newer is, there are no ids: who comes back in between gets it once more.
    snapshot: Option<u64>,
}

impl EventRenderer {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(sent) = self.sent.take() {
            sent.passed_on();
        }
        let delivery = tokio::select! {
            delivery = self.feed.next() => delivery?,
            () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": still here\n\n")),
            _ = self.closing.wait_for(|closing| *closing) => return None,
            () = &mut self.expired => return None,
        };
        let text = self.write(&delivery.messages);
        self.sent = Some(delivery);
        Some(Bytes::from(text))
    }

    fn write(&mut self, messages: &[std::sync::Arc<wire::Message>]) -> String {
        let mut text = String::with_capacity(messages.len() * 400);
        for (at, message) in messages.iter().enumerate() {
            let seq = message.seq();
            if let wire::Message::Resumed { snapshot, seq, .. } = &**message {
                self.snapshot = snapshot.then_some(*seq);
            } else if self.snapshot.is_some_and(|of| seq.is_some_and(|seq| seq > of)) {
                self.snapshot = None;
            }
            let last = messages.get(at + 1).is_none_or(|next| next.seq() != seq);
            if let Some(seq) = seq.filter(|_| last && self.snapshot.is_none()) {
                let _ = writeln!(text, "id: {seq}");
            }
            match serde_json::to_string(&**message) {
                Ok(json) => {
                    let _ = write!(text, "data: {json}\n\n");
                }
                Err(error) => log::error!("a message is no JSON: {error}"),
            }
        }
        text
    }
}
