//! The open connections, and the end of those that are idle or blocked for too long.
//!
//! actix-web times the head of a connection's first request and the pause between requests. It times neither
//! a body that nobody reads, nor a later head that arrives byte by byte, nor a peer that does not read its
//! answer.
//!
//! Each connection costs a second file descriptor, the handle by which it is ended: 10,000 connections take
//! 20,000 descriptors.

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
    /// Longest time without a request in progress.
    max_idle: Duration,
    /// Longest time in which a peer reads nothing. WebSockets close earlier, by `server.send_timeout`.
    max_blocked: Duration,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    /// A second handle, by which it is ended from outside.
    socket: socket2::Socket,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests in progress.
    answering: u32,
    /// When that number last changed.
    since: Instant,
    /// Since when the peer has not read, if the answer is waiting for it.
    blocked: Option<Instant>,
}

impl Connections {
    /// An empty register. A task checks its connections for as long as it lives.
    pub(super) fn new(config: &config::Server) -> Arc<Self> {
        let connections = Arc::new(Self {
            open: Mutex::default(),
            max_idle: config.keep_alive + config.head_timeout,
            max_blocked: config.send_timeout * 2,
        });
        let pause = (connections.max_idle.min(connections.max_blocked) / 8)
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

    /// Registers a new connection, and adds its entry to its data.
    pub(super) fn register(&self, connection: &dyn Any, data: &mut Extensions) {
        let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
        let socket = socket2::SockRef::from(stream);
        #[cfg(target_os = "linux")]
        if let Err(error) = bound(&socket, self.max_blocked) {
            log::debug!("cannot limit the buffers of a connection: {error}");
        }
        let socket = match socket.try_clone() {
            Ok(socket) => socket,
            Err(error) => return log::warn!("cannot watch a connection: {error}"),
        };
        let state = Mutex::new(State { answering: 0, since: Instant::now(), blocked: None });
        let connection = Arc::new(Connection { socket, state });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
        data.insert(connection);
    }

    /// Ends connections that are idle or blocked for too long, and removes closed ones.
    fn sweep(&self, now: Instant) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            let why = self.why_ended(&connection.state(), now);
            if let Some(why) = why {
                log::debug!("a connection is ended: {why}");
                // The peer may have closed it just now.
                let _ = connection.socket.shutdown(Shutdown::Both);
            }
            why.is_none()
        });
    }

    fn why_ended(&self, state: &State, now: Instant) -> Option<&'static str> {
        if state.answering == 0 && now.duration_since(state.since) > self.max_idle {
            return Some("no complete request arrived");
        }
        let blocked = state.blocked.filter(|_| state.answering > 0)?;
        (now.duration_since(blocked) > self.max_blocked).then_some("its peer does not read")
    }
}

/// Limits what the system buffers for a peer that does not read, and for how long.
#[cfg(target_os = "linux")]
fn bound(socket: &socket2::SockRef<'_>, max_blocked: Duration) -> std::io::Result<()> {
    /// Bytes that the system buffers before writing has to wait.
    const UNSENT_BYTES: u32 = 128 << 10;
    // This applies after the last write, too.
    socket.set_tcp_user_timeout(Some(max_blocked))?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES)
}

impl Connection {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in progress, until this is dropped.
struct Answering(Option<Arc<Connection>>);

impl Answering {
    fn begin(connection: Option<Arc<Connection>>) -> Self {
        if let Some(connection) = &connection {
            connection.state().answering += 1;
        }
        Self(connection)
    }

    /// Records whether the last chunk of the answer is waiting for the peer.
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

/// Marks a request as in progress at its connection, until its answer was written.
pub(super) async fn note(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let connection = request.conn_data::<Arc<Connection>>().cloned();
    let answering = Answering::begin(connection);
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| Noted { body: Box::pin(body), answering }))
}

/// The body of an answer, which records its progress.
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
        // The body is polled again as soon as the peer has read enough.
        this.answering.note(matches!(next, Poll::Ready(Some(_))));
        next
    }
}
