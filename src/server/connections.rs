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
    cmp::Reverse,
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, Shutdown},
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
    /// Most open connections: the last one makes room for the next.
    max: usize,
    /// Longest time without a request in progress.
    max_idle: Duration,
    /// Longest time in which a peer reads nothing. WebSockets close earlier, by `server.send_timeout`.
    max_blocked: Duration,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    /// The network that the peer belongs to.
    peer: Option<IpAddr>,
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
    /// It was ended to make room.
    shed: bool,
    /// Since when the peer has not read, if the answer is waiting for it.
    blocked: Option<Instant>,
}

impl Connections {
    /// An empty register. A task checks its connections for as long as it lives.
    pub(super) fn new(config: &config::Server) -> Arc<Self> {
        let connections = Arc::new(Self {
            open: Mutex::default(),
            max: config.max_connections as usize,
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
        let peer = stream.peer_addr().ok().map(|it| network(it.ip()));
        let state = Mutex::new(State { answering: 0, since: Instant::now(), blocked: None, shed: false });
        let connection = Arc::new(Connection { peer, socket, state });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(Arc::downgrade(&connection));
        if open.len() >= self.max {
            open.retain(|connection| connection.strong_count() > 0);
            let present: Vec<_> = open.iter().filter_map(Weak::upgrade).collect();
            drop(open);
            self.make_room(&present, &connection);
        }
        data.insert(connection);
    }

    /// Ends idle connections if none is left for the next client: the longest idle ones of the address that has
    /// most. Otherwise idle connections of one client would keep all others out.
    fn make_room(&self, present: &[Arc<Connection>], newest: &Arc<Connection>) {
        let mut count = 0;
        let mut by_peer: HashMap<Option<IpAddr>, u32> = HashMap::new();
        for connection in present.iter().filter(|it| !it.state().shed) {
            *by_peer.entry(connection.peer).or_default() += 1;
            count += 1;
        }
        if count < self.max {
            return;
        }
        let mut idle: Vec<_> = present
            .iter()
            .filter(|it| !Arc::ptr_eq(it, newest))
            .filter_map(|it| {
                let state = it.state();
                let most = by_peer.get(&it.peer).copied().unwrap_or_default();
                (state.answering == 0 && !state.shed).then_some((Reverse(most), state.since, it))
            })
            .collect();
        idle.sort_unstable_by_key(|(most, since, _)| (*most, *since));
        // Several at once, since looking through all of them for each new one would be slow.
        let enough = count + 1 - self.max + self.max / SHED_SHARE;
        let first = idle.first().map(|(most, ..)| *most);
        for (_, _, connection) in idle.iter().take_while(|(most, ..)| Some(*most) == first).take(enough) {
            connection.state().shed = true;
            log::debug!("a connection is ended to make room: it is idle, and its address has most of them");
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
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

/// The part of all connections that is ended at once when they run out.
const SHED_SHARE: usize = 128;

/// The network that an address stands for: with IPv6 a client has 2^64 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
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
