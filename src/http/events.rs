//! The event stream: messages as server-sent events.

use std::{convert::Infallible, fmt::Write as _, pin::Pin, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName},
    web::{Bytes, Data},
};
use futures_util::stream;
use mediamill_actors::{publisher::Uploads, wire};
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::IntoParams;

use super::{
    Inner,
    auth::Caller,
    error::Problem,
    feed::{Delivery, Feed},
    operations::{Operations, operation},
    query::{Query, Whole, present},
    redaction::Addresses,
    responses::{Checked, Full, Refusals},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Interval of heartbeats while there are no messages.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Delay after which a client should reconnect, in ms.
const RECONNECT_MS: u32 = 1000;

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(events).without_head())
}

/// The position in the events of the caller.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Position {
    /// The last event that the client has; 0: none. `Last-Event-ID` takes precedence
    #[serde(default, deserialize_with = "present")]
    #[param(inline)]
    after_seq: Option<Seq>,
}

/// Sequence number of an event.
type Seq = Whole<0, { u64::MAX }, 0>;

/// Streams messages about the caller's batches and uploads.
///
/// The stream begins now, or after a given event. The `data` of each server-sent event is one message as JSON
/// with an `action`; the last message of an event has its sequence number as `id`.
#[utoipa::path(
    get,
    path = "/events",
    tag = "events",
    operation_id = "events",
    params(
        Position,
        ("Last-Event-ID" = Option<String>, Header, description = "The same, as browsers send it when they \
         reconnect")
    ),
    responses(
        (
            status = 200,
            description = "Messages, until one side closes the stream",
            content_type = "text/event-stream",
            body = wire::Message
        ),
        Refusals, Checked, Full
    )
)]
async fn events(
    caller: Caller,
    inner: Data<Inner>,
    Query(position): Query<Position>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let known = request.headers().get(LAST_EVENT_ID).map(|id| {
        let number = id.to_str().ok().and_then(|id| id.parse().ok());
        number.ok_or_else(|| Problem::invalid("Last-Event-ID must be the sequence number of an event"))
    });
    let after_seq = known.transpose()?.or(position.after_seq.map(Whole::get));
    let expired = Box::pin(caller.expired());
    let feed = Feed::subscribe(&inner, caller.owner, Uploads::All, after_seq).await?;
    let hidden = if caller.administrator { Addresses::default() } else { inner.addresses.clone() };
    let closing = inner.closing.subscribe();
    let events = EventStream { feed, expired, hidden, closing, sent: None, snapshot: None };
    let greeting = Bytes::from(format!("retry: {RECONNECT_MS}\n: the messages follow\n\n"));
    let chunks = stream::unfold(events, move |mut events| async move {
        let chunk = events.next().await?;
        Some((Ok::<_, Infallible>(chunk), events))
    });
    let chunks = futures_util::StreamExt::chain(stream::iter([Ok(greeting)]), chunks);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Keeps proxies from buffering the stream.
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"))
        .streaming(chunks))
}

struct EventStream {
    feed: Feed,
    /// Completes when the credentials of the caller expire.
    expired: Pin<Box<dyn Future<Output = ()>>>,
    /// What the caller does not see.
    hidden: Addresses,
    closing: watch::Receiver<bool>,
    /// The last delivery to the connection, which has sent it when it polls again.
    sent: Option<Delivery>,
    /// Sequence number of the snapshot that is being sent. Its messages have no ids, so that a client which
    /// reconnects in between gets the whole snapshot again.
    snapshot: Option<u64>,
}

impl EventStream {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(sent) = self.sent.take() {
            sent.passed_on();
        }
        let delivery = tokio::select! {
            delivery = self.feed.next() => delivery?,
            () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": heartbeat\n\n")),
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
                    let _ = write!(text, "data: {}\n\n", self.hidden.hide(json));
                }
                Err(error) => log::error!("a message cannot be written as JSON: {error}"),
            }
        }
        text
    }
}
