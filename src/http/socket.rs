//! What happens, over a WebSocket: the client says who it is, then which uploads it wants to be told of.

use std::{pin::pin, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Payload, ServiceConfig},
};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, Session};
use futures_util::{StreamExt as _, future::LocalBoxFuture};
use mediamill_actors::{
    id::UploadId,
    publisher::{Resume, UnwatchUpload, Uploads, WatchUpload},
    wire::Message,
};
use serde::Deserialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at};

use super::{
    Inner,
    auth::{Caller, Denied},
    error::Problem,
    feed::{Delivery, Feed},
};

/// Longest time until a client says who it is.
const AUTH_WITHIN: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(30);
/// A peer that is silent for longer is gone: three heartbeats.
const SILENCE: Duration = Duration::from_secs(90);
/// Longest time that a message may take to reach a peer that ended the connection.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longest message of a client, in bytes; a token is the longest thing in it.
const MOST_BYTES: usize = 16 * 1024;

/// Why a connection ends, as the client is told.
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
    /// It cannot be told at the moment who it is.
    CannotTell,
    /// The peer ended it.
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
            Self::NotReading | Self::Full | Self::CannotTell => CloseCode::Again,
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

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(web::resource("/ws/uploads").route(web::get().to(open)));
}

/// Opens a WebSocket, whose messages are JSON. The client sends a `SocketAuth` within five seconds, then any number of `SocketRequest`; it is
/// sent `Message`s.
#[utoipa::path(
    get,
    path = "/api/ws/uploads",
    tag = "events",
    operation_id = "socket",
    responses(
        (status = 101, description = "The connection is a WebSocket from now on"),
        (status = 400, description = "The request is not that for a WebSocket", body = super::error::Refusal),
        (status = 403, description = "The request comes from the page of another origin", body = super::error::Refusal)
    )
)]
pub(super) async fn open(
    request: HttpRequest,
    inner: Data<Inner>,
    body: Payload,
) -> Result<HttpResponse, Problem> {
    let (response, session, incoming) = actix_ws::handle(&request, body)
        .map_err(|error| Problem::malformed(format!("this is where WebSockets are opened: {error}")))?;
    let incoming =
        incoming.max_frame_size(MOST_BYTES).aggregate_continuations().max_continuation_size(MOST_BYTES);
    let connection = Connection { inner, session, incoming, heard: Instant::now() };
    actix_rt::spawn(connection.run(request));
    Ok(response)
}

struct Connection {
    inner: Data<Inner>,
    session: Session,
    incoming: AggregatedMessageStream,
    /// When the peer last sent anything.
    heard: Instant,
}

/// The first message of a client.
#[derive(Deserialize)]
struct First {
    #[serde(rename = "type")]
    kind: Option<String>,
    token: Option<String>,
}

/// What a client may send afterwards; older ones write `type` where others write `action`.
#[derive(Deserialize)]
struct Request {
    #[serde(alias = "type")]
    action: String,
    upload_id: Option<UploadId>,
    after_seq: Option<u64>,
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
        log::debug!("a socket ends: {end:?}");
        // A peer that does not read gets it behind what it has not read; until it does or its connection is cut, this costs what the
        // socket holds.
        let _ = self.session.close(Some(CloseReason { code, description: None })).await;
    }

    /// Waits until it is known whose connection this is.
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
                    return self.refuse(format!("no token came within {seconds} s"), End::NoAuthInTime).await;
                }
                Ok(Some(Ok(AggregatedMessage::Text(text)))) => break text,
                Ok(Some(Ok(AggregatedMessage::Ping(bytes)))) => self.session.pong(&bytes).await?,
                Ok(Some(Ok(AggregatedMessage::Pong(_)))) => {}
                Ok(Some(Ok(AggregatedMessage::Binary(_)))) => {
                    return self.refuse("the first message is no text", End::Unreadable).await;
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
        let Ok(first) = serde_json::from_str::<First>(&text) else {
            return self.refuse("the first message is no JSON object with a token", End::Unreadable).await;
        };
        let token = first.token.filter(|token| first.kind.as_deref() == Some("auth") && !token.is_empty());
        let Some(token) = token else {
            let asked = r#"the first message must be {"type":"auth","token":…}"#;
            return self.refuse(asked, End::AuthMissing).await;
        };
        let auth = std::sync::Arc::clone(&self.inner.auth);
        match auth.bearer(request, &token).await {
            Ok(caller) => Ok(caller),
            Err(Denied::Unavailable(why)) => {
                log::warn!("a socket is turned away, since it cannot be told whose it is: {why}");
                Err(End::CannotTell)
            }
            Err(denied) => self.refuse(denied.to_string(), End::TokenRefused).await,
        }
    }

    async fn refuse<T>(&mut self, message: impl Into<String>, end: End) -> Result<T, End> {
        self.send(&Message::AuthError { message: message.into() }).await?;
        Err(end)
    }

    async fn serve(&mut self, caller: Caller) -> End {
        let owner = caller.owner.clone();
        let mut feed = match Feed::subscribe(&self.inner, owner, Uploads::Chosen, None).await {
            Ok(feed) => feed,
            Err(problem) => {
                log::warn!("a socket of {:?} is turned away: {problem}", caller.owner.as_str());
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
                    // Browsers answer the frame by themselves, others the message.
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

    /// Answers a peer that ends the connection with its own reason, without which it would take it for broken.
    async fn farewell(&mut self, reason: Option<CloseReason>) -> End {
        let _ = timeout(FAREWELL, self.session.clone().close(reason)).await;
        End::Gone
    }

    /// Does what a client asks for; what cannot be read, is not known or is one too many of its owner is passed over.
    async fn answer(&mut self, text: &str, caller: &Caller, feed: &Feed) -> Result<(), End> {
        if let Err(problem) = self.inner.count(&caller.owner) {
            log::debug!("a message of a socket is dropped: {problem}");
            return Ok(());
        }
        let Ok(request) = serde_json::from_str::<Request>(text) else { return Ok(()) };
        let (publisher, subscriber) = (feed.publisher(), feed.subscriber());
        match (request.action.as_str(), request.upload_id, request.after_seq) {
            ("subscribe_upload", Some(upload), _) => {
                if let Ok(Ok(present)) = publisher.send(WatchUpload { subscriber, upload }).await {
                    self.send(&present).await?;
                }
            }
            ("unsubscribe_upload", Some(upload), _) => {
                let _ = publisher.send(UnwatchUpload { subscriber, upload }).await;
            }
            ("resume", _, Some(after_seq)) => {
                let _ = publisher.send(Resume { subscriber, after_seq }).await;
            }
            ("ping", _, _) => {
                self.within(|session| Box::pin(session.text(r#"{"action":"pong"}"#))).await?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn send(&mut self, message: &Message) -> Result<(), End> {
        match serde_json::to_string(message) {
            Ok(json) => self.within(|session| Box::pin(session.text(json))).await,
            Err(error) => {
                log::error!("a message is no JSON: {error}");
                Ok(())
            }
        }
    }

    /// Writes to the peer, which has a while to make room for it.
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
