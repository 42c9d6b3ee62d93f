//! The WebSocket: the client authenticates, then chooses the uploads whose messages it wants.

use std::{pin::pin, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, Session};
use futures_util::{StreamExt as _, future::LocalBoxFuture};
use mediamill_actors::{
    id::UploadId,
    publisher::{Resume, UnwatchUpload, Uploads, WatchUpload},
    wire::Message,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};
use utoipa::ToSchema;

use super::{
    Inner,
    auth::{Caller, Denied},
    error::{Problem, Refusal},
    feed::{Delivery, Feed},
    operations::{Operations, operation},
    redaction::Addresses,
};

/// Longest time until a client has authenticated.
const AUTH_WITHIN: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Longest silence of a live peer: three heartbeats.
const SILENCE: Duration = Duration::from_secs(90);
/// Longest time for the answer to a close frame to be sent.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest message of a client, in bytes; tokens are the longest part.
const MAX_BYTES: usize = 16 * 1024;

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NoAuthInTime,
    AuthMissing,
    TokenRefused,
    Unreadable,
    Restart,
    Silent,
    NotReading,
    Full,
    TooLong,
    /// Authentication is unavailable for now.
    AuthUnavailable,
    /// The peer closed it.
    Gone,
}

impl End {
    fn code(self) -> Option<CloseCode> {
        Some(match self {
            Self::NoAuthInTime => CloseCode::Other(4001),
            Self::AuthMissing => CloseCode::Other(4002),
            Self::TokenRefused => CloseCode::Other(4003),
            Self::Unreadable => CloseCode::Other(4004),
            Self::Restart => CloseCode::Restart,
            Self::Silent => CloseCode::Away,
            Self::NotReading | Self::Full | Self::AuthUnavailable => CloseCode::Again,
            Self::TooLong => CloseCode::Size,
            Self::Gone => return None,
        })
    }
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Gone
    }
}

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(open).without_head())
}

/// Opens a WebSocket for JSON messages.
///
/// The client sends a `SocketAuth` within five seconds, then `SocketRequest`s; it receives `Message`s.
#[utoipa::path(
    get,
    path = "/ws/uploads",
    tag = "events",
    operation_id = "socket",
    responses(
        (status = 101, description = "The connection becomes a WebSocket"),
        (status = 400, description = "The request does not open a WebSocket", body = Refusal),
        (status = 403, description = "The request comes from a page of another origin", body = Refusal)
    )
)]
async fn open(request: HttpRequest, inner: Data<Inner>, body: Payload) -> Result<HttpResponse, Problem> {
    let (response, session, incoming) = actix_ws::handle(&request, body)
        .map_err(|error| Problem::malformed(format!("this address is for WebSockets: {error}")))?;
    let incoming =
        incoming.max_frame_size(MAX_BYTES).aggregate_continuations().max_continuation_size(MAX_BYTES);
    let hidden = inner.addresses.clone();
    let connection = Connection { inner, session, incoming, hidden, heard: Instant::now() };
    actix_rt::spawn(connection.run(request));
    Ok(response)
}

struct Connection {
    inner: Data<Inner>,
    session: Session,
    incoming: AggregatedMessageStream,
    /// What the caller does not see.
    hidden: Addresses,
    /// When the peer last sent anything.
    heard: Instant,
}

/// The first message of a client.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum SocketAuth {
    /// Authenticates the client.
    Auth {
        /// A key or signed token; any text that is not empty if authentication is not configured.
        token: String,
    },
}

/// A later message of a client. Others are ignored.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(super) enum SocketRequest {
    /// Requests the `upload_*` messages of an upload. The answer is its present state.
    SubscribeUpload {
        /// The upload.
        upload_id: UploadId,
    },
    /// Ends the `upload_*` messages of an upload.
    UnsubscribeUpload {
        /// The upload.
        upload_id: UploadId,
    },
    /// Requests all messages after an event.
    Resume {
        /// The last event that the client has; 0: none.
        after_seq: u64,
    },
    /// Requests a heartbeat, `{"action":"pong"}`.
    Ping,
    /// Answers a heartbeat.
    Pong,
}

type Object = Map<String, Value>;

fn read<T: DeserializeOwned>(object: Object) -> Option<T> {
    serde_json::from_value(Value::Object(object)).ok()
}

impl SocketRequest {
    fn read(text: &str) -> Option<Self> {
        let mut object: Object = serde_json::from_str(text).ok()?;
        // Older clients send `type` instead of `action`.
        if let Some(action) = object.remove("type") {
            object.entry("action").or_insert(action);
        }
        read(object)
    }
}

impl Connection {
    async fn run(mut self, request: HttpRequest) {
        let admitted = self.admit(&request).await;
        drop(request);
        let end = match admitted {
            Ok(caller) => self.serve(caller).await,
            Err(end) => end,
        };
        let Some(code) = end.code() else { return };
        log::debug!("a WebSocket is closed: {end:?}");
        // If the peer does not read, this waits until it does or its connection is ended.
        let _ = self.session.close(Some(CloseReason { code, description: None })).await;
    }

    /// Waits for the first message, and identifies the caller by it.
    async fn admit(&mut self, request: &HttpRequest) -> Result<Caller, End> {
        let deadline = Instant::now() + AUTH_WITHIN;
        let mut closing = self.inner.closing.subscribe();
        let text = loop {
            let message = tokio::select! {
                message = timeout_at(deadline, self.incoming.next()) => message,
                _ = closing.wait_for(|closing| *closing) => return Err(End::Restart),
            };
            match message {
                Err(_) => {
                    let seconds = AUTH_WITHIN.as_secs();
                    return self
                        .refuse(format!("no token arrived within {seconds} s"), End::NoAuthInTime)
                        .await;
                }
                Ok(Some(Ok(AggregatedMessage::Text(text)))) => break text,
                Ok(Some(Ok(AggregatedMessage::Ping(bytes)))) => self.session.pong(&bytes).await?,
                Ok(Some(Ok(AggregatedMessage::Pong(_)))) => {}
                Ok(Some(Ok(AggregatedMessage::Binary(_)))) => {
                    return self.refuse("the first message is not text", End::Unreadable).await;
                }
                Ok(Some(Err(error))) => {
                    return self
                        .refuse(format!("the first message cannot be read: {error}"), End::Unreadable)
                        .await;
                }
                Ok(Some(Ok(AggregatedMessage::Close(reason)))) => return Err(self.farewell(reason).await),
                Ok(None) => return Err(End::Gone),
            }
        };
        self.heard = Instant::now();
        let Ok(first) = serde_json::from_str::<Object>(&text) else {
            return self.refuse("the first message is not a JSON object", End::Unreadable).await;
        };
        let token = read(first).map(|SocketAuth::Auth { token }| token).filter(|token| !token.is_empty());
        let Some(token) = token else {
            let asked = r#"the first message must be {"type":"auth","token":…}"#;
            return self.refuse(asked, End::AuthMissing).await;
        };
        let auth = std::sync::Arc::clone(&self.inner.auth);
        match auth.bearer(request, &token).await {
            Ok(caller) => Ok(caller),
            Err(Denied::Unavailable(why)) => {
                log::warn!("a WebSocket is refused, since authentication is unavailable: {why}");
                Err(End::AuthUnavailable)
            }
            Err(denied) => self.refuse(denied.to_string(), End::TokenRefused).await,
        }
    }

    async fn refuse<T>(&mut self, message: impl Into<String>, end: End) -> Result<T, End> {
        self.send(&Message::AuthError { message: message.into() }).await?;
        Err(end)
    }

    async fn serve(&mut self, caller: Caller) -> End {
        if caller.administrator {
            self.hidden = Addresses::default();
        }
        let owner = caller.owner.clone();
        let mut feed = match Feed::subscribe(&self.inner, owner, Uploads::Chosen, None).await {
            Ok(feed) => feed,
            Err(problem) => {
                log::warn!("a WebSocket of {:?} is refused: {problem}", caller.owner.as_str());
                return if *self.inner.closing.borrow() { End::Restart } else { End::Full };
            }
        };
        match self.converse(&caller, &mut feed).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn converse(&mut self, caller: &Caller, feed: &mut Feed) -> Result<std::convert::Infallible, End> {
        self.send(&Message::AuthSuccess { user_id: caller.owner.clone() }).await?;
        let mut closing = self.inner.closing.subscribe();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let mut expired = pin!(caller.expired());
        loop {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return Err(End::Restart),
                message = self.incoming.next() => self.hear(message, caller, feed).await?,
                delivery = feed.next() => self.deliver(delivery.ok_or(End::Restart)?).await?,
                () = &mut expired => {
                    return self.refuse("the token has expired; ask for a new one", End::TokenRefused).await;
                }
                () = sleep_until(self.heard + SILENCE) => return Err(End::Silent),
                _ = heartbeat.tick() => {
                    // Browsers answer the ping frame, other clients the message.
                    self.send(&Message::Ping).await?;
                    self.within(|session| Box::pin(session.ping(b""))).await?;
                }
            }
        }
    }

    async fn deliver(&mut self, delivery: Delivery) -> Result<(), End> {
        for message in &delivery.messages {
            self.send(message).await?;
        }
        delivery.passed_on();
        Ok(())
    }

    async fn hear(
        &mut self,
        message: Option<Result<AggregatedMessage, actix_ws::ProtocolError>>,
        caller: &Caller,
        feed: &Feed,
    ) -> Result<(), End> {
        let message = message.ok_or(End::Gone)?.map_err(|error| match error {
            actix_ws::ProtocolError::Overflow => End::TooLong,
            _ => End::Gone,
        })?;
        self.heard = Instant::now();
        match message {
            AggregatedMessage::Text(text) => self.answer(&text, caller, feed).await,
            AggregatedMessage::Ping(bytes) => {
                self.within(|session| Box::pin(async move { session.pong(&bytes).await })).await
            }
            AggregatedMessage::Close(reason) => Err(self.farewell(reason).await),
            AggregatedMessage::Binary(_) | AggregatedMessage::Pong(_) => Ok(()),
        }
    }

    /// Answers a close frame with its own reason, as the protocol demands.
    async fn farewell(&mut self, reason: Option<CloseReason>) -> End {
        let _ = timeout(FAREWELL, self.session.clone().close(reason)).await;
        End::Gone
    }

    /// Handles a message of the client. Messages that are invalid, unknown or above the rate limit are
    /// ignored.
    async fn answer(&mut self, text: &str, caller: &Caller, feed: &Feed) -> Result<(), End> {
        if let Err(problem) = self.inner.count(&caller.owner) {
            log::debug!("a message of a WebSocket is ignored: {problem}");
            return Ok(());
        }
        let Some(request) = SocketRequest::read(text) else { return Ok(()) };
        let (publisher, subscriber) = (feed.publisher(), feed.subscriber());
        match request {
            SocketRequest::SubscribeUpload { upload_id: upload } => {
                if let Ok(Ok(present)) = publisher.send(WatchUpload { subscriber, upload }).await {
                    self.send(&present).await?;
                }
            }
            SocketRequest::UnsubscribeUpload { upload_id: upload } => {
                let _ = publisher.send(UnwatchUpload { subscriber, upload }).await;
            }
            SocketRequest::Resume { after_seq } => {
                let _ = publisher.send(Resume { subscriber, after_seq }).await;
            }
            SocketRequest::Ping => {
                self.within(|session| Box::pin(session.text(r#"{"action":"pong"}"#))).await?;
            }
            SocketRequest::Pong => {}
        }
        Ok(())
    }

    async fn send(&mut self, message: &Message) -> Result<(), End> {
        match serde_json::to_string(message) {
            Ok(json) => {
                let json = self.hidden.hide(json);
                self.within(|session| Box::pin(session.text(json))).await
            }
            Err(error) => {
                log::error!("a message cannot be written as JSON: {error}");
                Ok(())
            }
        }
    }

    /// Writes to the peer, which has `server.send_timeout` to read.
    async fn within(
        &mut self,
        write: impl FnOnce(&mut Session) -> LocalBoxFuture<'_, Result<(), Closed>>,
    ) -> Result<(), End> {
        match timeout(self.inner.server.send_timeout, write(&mut self.session)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(End::NotReading),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_action_and_older_clients_write_type() {
        for text in [r#"{"action":"resume","after_seq":7}"#, r#"{"type":"resume","after_seq":7}"#] {
            let read = SocketRequest::read(text);
            assert!(matches!(read, Some(SocketRequest::Resume { after_seq: 7 })), "{text}");
        }
        let both = SocketRequest::read(r#"{"action":"ping","type":"resume","after_seq":7}"#);
        assert!(matches!(both, Some(SocketRequest::Ping)));
        for ignored in ["ping", "[]", "{}", r#"{"action":"resume"}"#, r#"{"action":"dance"}"#] {
            assert!(SocketRequest::read(ignored).is_none(), "{ignored}");
        }
    }
}
