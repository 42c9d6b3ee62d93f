//! Idle and slow connections.

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use self::support::{PATIENCE, World, picture};

/// A server that closes idle connections after a second and a half.
async fn impatient() -> World {
    World::with(|config| {
        config.server.keep_alive = Duration::from_millis(500);
        config.server.head_timeout = Duration::from_secs(1);
    })
    .await
}

fn connect(world: &World) -> TcpStream {
    let stream = TcpStream::connect(world.server.address()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

/// Sends a request, and something more once it is answered, and reads until the other side ends the
/// connection.
async fn answered(mut stream: TcpStream, request: &'static [u8], more: &'static [u8]) -> String {
    let read = move || {
        stream.write_all(request).expect("sent");
        let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let first = answer.is_empty();
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => answer.extend_from_slice(&piece[..length]),
                // The server closed with unread data.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => return format!("the connection stays open: {error}"),
            }
            if first {
                stream.write_all(more).expect("sent");
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::task::spawn_blocking(read).await.expect("no panic")
}

#[actix_rt::test]
async fn an_endless_body_that_nobody_reads_does_not_hold_a_connection() {
    let world = impatient().await;
    let asked = b"GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = answered(connect(&world), asked, b"").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[actix_rt::test]
async fn a_later_head_that_never_ends_does_not_hold_a_connection() {
    let world = impatient().await;
    for begun in [&b""[..], b"G", b"GET / HTTP/1.1\r\nHost: loc"] {
        let asked = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let answer = answered(connect(&world), asked, begun).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[actix_rt::test]
async fn a_slow_chunked_sender_is_refused_and_disconnected() {
    let world = World::with(|config| {
        config.server.keep_alive = Duration::from_millis(500);
        config.server.head_timeout = Duration::from_secs(1);
        config.server.body_timeout = Duration::from_millis(200);
    })
    .await;
    let asked = b"POST /api/v1/uploads/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
     multipart/form-data; boundary=x\r\n\
        Transfer-Encoding: chunked\r\n\r\n5\r\n--x\r\n\r\n";
    let answer = answered(connect(&world), asked, b"").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[actix_rt::test]
async fn idle_connections_give_way_when_connections_run_out() {
    let world = World::with(|config| config.server.max_connections = 16).await;
    let ask = |stream: &mut TcpStream| {
        let asked = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut answer = [0; 15];
        asked.and_then(|()| stream.read_exact(&mut answer)).map(|()| answer)
    };
    let address = world.server.address();
    let asked = tokio::task::spawn_blocking(move || {
        let mut idle = Vec::new();
        for n in 0..60 {
            let mut stream = TcpStream::connect(address).expect("connected");
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
            // The kernel alone has those that the server has no place for.
            assert_eq!(ask(&mut stream).ok().as_ref(), Some(b"HTTP/1.1 200 OK"), "connection {n}");
            idle.push(stream);
        }
        let is_open = |stream: &mut TcpStream| {
            stream.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
            let ended = stream.read_to_end(&mut Vec::new());
            ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        idle.iter_mut().map(is_open).collect::<Vec<_>>()
    });
    let kept = asked.await.expect("no panic");
    assert!(kept.iter().filter(|kept| **kept).count() <= 16, "{kept:?}");
    assert!(kept[59], "the newest one is open");
}

#[actix_rt::test]
async fn a_connection_in_use_is_kept() {
    let world = impatient().await;
    // An event stream without events.
    let mut stream = connect(&world);
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    // A file that arrives slowly but steadily.
    let bytes = picture("slow");
    let mut body =
        b"--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a.png\"\r\n\r\n".to_vec();
    body.extend_from_slice(&bytes);
    body.extend_from_slice(b"\r\n--x--\r\n");
    let mut sender = connect(&world);
    let sent = tokio::task::spawn_blocking(move || {
        let head = format!(
            "POST /api/v1/uploads/bulk HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: \
             multipart/form-data; \
             boundary=x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        sender.write_all(head.as_bytes()).expect("sent");
        for piece in body.chunks(body.len().div_ceil(20)) {
            std::thread::sleep(Duration::from_millis(100));
            sender.write_all(piece).expect("sent");
        }
        let mut answer = String::new();
        sender.read_to_string(&mut answer).map(|_| answer)
    });
    let started = Instant::now();
    let answer = sent.await.expect("no panic").expect("an answer");
    assert!(started.elapsed() > Duration::from_millis(1900));
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let messages = tokio::task::spawn_blocking(move || {
        let mut messages = String::new();
        let mut piece = [0; 4096];
        while !messages.contains("batch_progress") {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(length) => messages.push_str(&String::from_utf8_lossy(&piece[..length])),
            }
        }
        messages
    });
    let messages = messages.await.expect("no panic");
    assert!(messages.contains("batch_progress"), "{messages}");
}
