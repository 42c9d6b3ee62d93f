//! The connections that are open, and the end of those that only hold a place.
//!
//! The timers of the library below cover the head of a connection's first request and the pause between requests. They cover neither a body
//! that nobody reads, nor a later head that comes in byte by byte, nor a peer that does not take its answer.

use std::{
    any::Any,
    net::Shutdown,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix_web::{
    Error,
    body::{BodySize, MessageBody},
    dev::{Extensions, ServiceRequest, ServiceResponse},
    middleware::Next,
    rt::net::TcpStream,
    web::Bytes,
};

use crate::config;

/// All connections of a server.
#[derive(Debug)]
pub(super) struct Connections {
    open: Mutex<Vec<Weak<Connection>>>,
    /// Longest time without a request that is being answered.
    most_idle: Duration,
    /// Longest time in which a peer takes nothing. Sockets are told before that that their peer does not read.
    most_blocked: Duration,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    /// A second handle of it, by which it is ended from outside.
    socket: socket2::Socket,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests that are being answered.
    answering: u32,
    /// Since when that number is what it is.
    since: Instant,
    /// Since when there was no room for more of an answer.
    blocked: Option<Instant>,
}

impl Connections {
    /// A register whose connections are looked at from now on, as long as it lives.
    pub(super) fn new(config: &config::Server) -> Arc<Self> {
        let connections = Arc::new(Self {
            open: Mutex::default(),
            most_idle: config.keep_alive + config.head_timeout,
            most_blocked: config.send_timeout * 2,
        });
        let pause = (connections.most_idle.min(connections.most_blocked) / 8)
            .clamp(Duration::from_millis(50), Duration::from_secs(5));
        let watched = Arc::downgrade(&connections);
        actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(connections) = watched.upgrade() else { return };
                connections.sweep(Instant::now());
            }
        });
        connections
    }

    /// Takes a connection in that has just been opened, with a place among its data.
    pub(super) fn enter(&self, connection: &dyn Any, data: &mut Extensions) {
        let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
        let socket = socket2::SockRef::from(stream);
        #[cfg(target_os = "linux")]
        if let Err(error) = bound(&socket, self.most_blocked) {
            log::debug!("a connection cannot be bounded: {error}");
        }
        let socket = match socket.try_clone() {
            Ok(socket) => socket,
            Err(error) => return log::warn!("a connection cannot be watched: {error}"),
        };
        let state = Mutex::new(State { answering: 0, since: Instant::now(), blocked: None });
        let connection = Arc::new(Connection { socket, state });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
        data.insert(connection);
    }

    /// Ends the connections that have been idle or blocked for too long, and forgets those that are gone.
    fn sweep(&self, now: Instant) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            let why = self.why_ended(&connection.state(), now);
            if let Some(why) = why {
                log::debug!("a connection is ended: {why}");
                // One that is gone already needs no end.
                let _ = connection.socket.shutdown(Shutdown::Both);
            }
            why.is_none()
        });
    }

    fn why_ended(&self, state: &State, now: Instant) -> Option<&'static str> {
        if state.answering == 0 && now.duration_since(state.since) > self.most_idle {
            return Some("no request came in whole");
        }
        let blocked = state.blocked.filter(|_| state.answering > 0)?;
        (now.duration_since(blocked) > self.most_blocked).then_some("its peer takes nothing")
    }
}

/// What the system may hold for a peer that does not read.
#[cfg(target_os = "linux")]
fn bound(socket: &socket2::SockRef<'_>, most_blocked: Duration) -> std::io::Result<()> {
    /// Bytes that the system holds before we are told to wait.
    const UNSENT_BYTES: u32 = 128 << 10;
    // Also after the last byte was handed over.
    socket.set_tcp_user_timeout(Some(most_blocked))?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)
}

impl Connection {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered, until this is dropped.
struct Answering(Option<Arc<Connection>>);

impl Answering {
    fn begin(connection: Option<Arc<Connection>>) -> Self {
        if let Some(connection) = &connection {
            connection.state().answering += 1;
        }
        Self(connection)
    }

    /// Notes whether the last piece of the answer waits for room.
    fn note(&self, blocked: bool) {
        if let Some(connection) = &self.0 {
            connection.state().blocked = blocked.then(Instant::now);
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            let mut state = connection.state();
            state.answering -= 1;
            (state.since, state.blocked) = (Instant::now(), None);
        }
    }
}

/// Notes on the connection of a request that it is being answered, until its answer has been handed over.
pub(super) async fn note(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    let answering = Answering::begin(connection);
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| Noted { body: Box::pin(body), answering }))
}

/// The body of an answer, which notes how it goes.
struct Noted<B> {
    body: Pin<Box<B>>,
    answering: Answering,
}

impl<B: MessageBody> MessageBody for Noted<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let next = this.body.as_mut().poll_next(cx);
        // It is asked for more as soon as there is room for it.
        this.answering.note(matches!(next, Poll::Ready(Some(_))));
        next
    }
}
