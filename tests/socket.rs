//! Messages over WebSockets and server-sent events.

mod support;

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use mediamill::engine::query_service::GetHealth;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};

use self::support::{PATIENCE, World, text};

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(world: &World) -> Self {
        let url = world.url("/api/ws/uploads").replace("http", "ws");
        Self(connect_async(url).await.expect("a socket").0)
    }

    /// A socket that is authenticated with a token.
    async fn of(world: &World, token: &str) -> Self {
        let mut socket = Self::open(world).await;
        socket.send(json!({"type": "auth", "token": token})).await;
        assert_eq!(socket.next().await["action"], "auth_success");
        socket
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sent");
    }

    async fn frame(&mut self) -> Message {
        timeout(PATIENCE, self.0.next()).await.expect("in time").expect("open").expect("sound")
    }

    /// The next message.
    async fn next(&mut self) -> Value {
        loop {
            match self.frame().await {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => unreachable!("{other:?}"),
            }
        }
    }

    /// The messages up to the first that matches.
    async fn until(&mut self, matches: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.next().await);
            if messages.last().is_some_and(&matches) {
                return messages;
            }
        }
    }

    /// The code of the close frame; earlier messages are ignored.
    async fn code(&mut self) -> u16 {
        loop {
            match self.frame().await {
                Message::Close(Some(frame)) => return frame.code.into(),
                Message::Close(None) => return 1005,
                _ => {}
            }
        }
    }
}

fn ends_batch(message: &Value) -> bool {
    message["action"] == "batch_progress" && message["payload"]["ends_run"].is_number()
}

fn actions(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|it| it["action"].as_str().expect("an action")).collect()
}

#[actix_rt::test]
async fn a_socket_must_authenticate() {
    let world = World::of_ann_and_bob().await;
    let mut socket = Socket::open(&world).await;
    socket.send(json!({"type": "auth", "token": "bob-key"})).await;
    assert_eq!(socket.next().await, json!({"action": "auth_success", "user_id": "bob"}));
    for (first, code) in [
        (Message::text(r#"{"type":"auth","token":"wrong"}"#), 4003),
        (Message::text(r#"{"type":"auth","token":""}"#), 4002),
        (Message::text(r#"{"type":"auth"}"#), 4002),
        (Message::text(r#"{"action":"resume","after_seq":0}"#), 4002),
        (Message::text("hello"), 4004),
        (Message::text("[]"), 4004),
        (Message::binary("{}"), 4004),
    ] {
        let mut socket = Socket::open(&world).await;
        socket.0.send(first.clone()).await.expect("sent");
        let messages = socket.next().await;
        assert_eq!(messages["action"], "auth_error", "{first:?}");
        assert!(messages["message"].is_string());
        assert_eq!(socket.code().await, code, "{first:?}");
    }
    let started = Instant::now();
    let mut silent = Socket::open(&world).await;
    assert_eq!(silent.next().await["action"], "auth_error");
    assert_eq!(silent.code().await, 4001);
    assert!((4..8).contains(&started.elapsed().as_secs()));
}

#[actix_rt::test]
async fn without_authentication_any_token_is_local_and_no_page_of_another_origin_opens_a_socket() {
    let world = World::open().await;
    let mut socket = Socket::open(&world).await;
    socket.send(json!({"type": "auth", "token": "whatever"})).await;
    assert_eq!(socket.next().await, json!({"action": "auth_success", "user_id": "local"}));
    let url = world.url("/api/ws/uploads").replace("http", "ws");
    for (header, value) in
        [("origin", "https://evil.example"), ("host", "rebound.example"), ("sec-fetch-site", "cross-site")]
    {
        let mut request = url.as_str().into_client_request().expect("a request");
        request.headers_mut().insert(header, value.parse().expect("a value"));
        match connect_async(request).await {
            Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 403),
            other => unreachable!("{other:?}"),
        }
    }
}

#[actix_rt::test]
async fn all_sockets_of_an_owner_get_batches_and_files_and_subscribed_ones_get_uploads() {
    let world = World::of_ann_and_bob().await;
    let (mut all, mut theirs) = (Socket::of(&world, "ann-key").await, Socket::of(&world, "bob-key").await);
    world.provider.takes(Duration::from_millis(300), Duration::ZERO);
    let (batch, uploads) = world.submit(&["one", "bad two"]).await;
    let mut chosen = Socket::of(&world, "ann-key").await;
    chosen.send(json!({"action": "subscribe_upload", "upload_id": uploads[0]})).await;
    let present = chosen.until(|it| it["action"] == "upload_progress").await;
    assert_eq!(present.last().expect("one")["payload"]["upload_id"], json!(uploads[0]));
    theirs.send(json!({"action": "subscribe_upload", "upload_id": uploads[0]})).await;

    let messages = all.until(ends_batch).await;
    assert!(
        actions(&messages).iter().all(|it| ["batch_progress", "file_progress"].contains(it)),
        "{messages:?}"
    );
    let end = &messages.last().expect("one")["payload"];
    assert_eq!(
        (
            &end["batch_id"],
            &end["status"],
            &end["total"],
            &end["processed"],
            &end["successful"],
            &end["failed"]
        ),
        (&json!(batch), &json!("completed"), &json!(2), &json!(2), &json!(1), &json!(1))
    );
    let ended = |name: &str| {
        let of = |it: &&Value| it["action"] == "file_progress" && it["payload"]["file_name"] == name;
        messages.iter().rfind(of).expect("a message")["payload"]["status"].clone()
    };
    assert_eq!((ended("one"), ended("bad two")), (json!("completed"), json!("failed")));

    let messages = chosen.until(ends_batch).await;
    let about: Vec<_> =
        messages.iter().filter(|it| actions(std::slice::from_ref(it))[0].starts_with("upload_")).collect();
    let completed = about.last().expect("one");
    assert_eq!(completed["action"], "upload_completed");
    assert_eq!((&completed["upload_id"], &completed["needs_review"]), (&json!(uploads[0]), &json!(false)));
    assert!(
        completed["description"].as_str().is_some_and(|it| it.contains("one"))
            && completed["audit_score"].is_u64()
    );
    assert!(about.iter().all(
        |it| it["payload"]["upload_id"] == uploads[0].as_str() || it["upload_id"] == uploads[0].as_str()
    ));
    for message in &messages {
        assert!(message["seq"].is_u64() && message["timestamp"].is_string(), "{message}");
    }
    // Bob gets no messages, his requests have no effect, and his pings are answered.
    for nonsense in [json!({}), json!({"action": "dance"}), json!(7), json!({"action": "resume"})] {
        theirs.send(nonsense).await;
    }
    theirs.0.send(Message::text("{")).await.expect("sent");
    theirs.0.send(Message::binary(vec![1, 2, 3])).await.expect("sent");
    theirs.send(json!({"action": "ping"})).await;
    assert_eq!(theirs.next().await, json!({"action": "pong"}));
}

#[actix_rt::test]
async fn a_socket_can_unsubscribe_from_an_upload() {
    let world = World::open().await;
    world.provider.takes(Duration::from_millis(300), Duration::ZERO);
    let (_, uploads) = world.submit(&["one"]).await;
    let mut socket = Socket::of(&world, "x").await;
    socket.send(json!({"action": "subscribe_upload", "upload_id": uploads[0]})).await;
    socket.until(|it| it["action"] == "upload_progress").await;
    socket.send(json!({"action": "unsubscribe_upload", "upload_id": uploads[0]})).await;
    socket.send(json!({"action": "ping"})).await;
    socket.until(|it| it["action"] == "pong").await;
    let messages = socket.until(ends_batch).await;
    assert!(!actions(&messages).contains(&"upload_completed"), "{messages:?}");
}

#[actix_rt::test]
async fn a_resume_after_a_restart_replays_what_was_missed() {
    let world = World::open().await;
    let mut socket = Socket::of(&world, "x").await;
    let (batch, _) = world.submit(&["one"]).await;
    let messages = socket.until(ends_batch).await;
    let known = messages[1]["seq"].as_u64().expect("a number");
    drop(socket);
    world.submit(&["two"]).await;
    let world = world.restart().await;
    let (last, _) = world.submit(&["three"]).await;
    world.ended(&last).await;

    let mut socket = Socket::of(&world, "x").await;
    socket.send(json!({"action": "resume", "after_seq": known})).await;
    let of_last = |it: &Value| ends_batch(it) && it["payload"]["batch_id"] == last.as_str();
    let resumed = socket.until(of_last).await;
    assert_eq!((&resumed[0]["action"], &resumed[0]["snapshot"]), (&json!("resumed"), &json!(false)));
    let mut seqs: Vec<u64> = resumed[1..].iter().map(|it| it["seq"].as_u64().expect("a number")).collect();
    assert!(seqs.is_sorted());
    seqs.dedup();
    let newest = *seqs.last().expect("some");
    assert_eq!(seqs, (known..=newest).collect::<Vec<_>>(), "every event once, none left out");
    assert!(resumed.iter().any(|it| ends_batch(it) && it["payload"]["batch_id"] == batch.as_str()));
}

#[actix_rt::test]
async fn a_stop_closes_sockets_so_that_their_clients_reconnect() {
    let world = World::open().await;
    let (mut socket, mut quiet) = (Socket::of(&world, "x").await, Socket::open(&world).await);
    let stop = world.server.stop(Duration::ZERO);
    let (code, quiet, _) = tokio::join!(socket.code(), quiet.code(), stop);
    assert_eq!((code, quiet), (1012, 1012));
}

#[actix_rt::test]
async fn a_close_frame_is_answered_with_its_own_reason() {
    let world = World::open().await;
    for (admitted, code) in [(true, 1000), (true, 3001), (false, 1000)] {
        let mut socket = if admitted { Socket::of(&world, "any").await } else { Socket::open(&world).await };
        let frame = tungstenite::protocol::CloseFrame { code: code.into(), reason: "bye".into() };
        socket.0.send(Message::Close(Some(frame))).await.expect("sent");
        assert_eq!(socket.code().await, code);
    }
}

#[actix_rt::test]
async fn a_socket_above_the_rate_limit_is_ignored_but_still_gets_messages() {
    let world = World::with(|config| {
        config.server.requests_per_second = 1.try_into().expect("one");
        config.server.burst_requests = 3.try_into().expect("three");
    })
    .await;
    let mut socket = Socket::of(&world, "any").await;
    for _ in 0..100 {
        socket.send(json!({"action": "ping"})).await;
    }
    socket.0.send(Message::Ping("ping".into())).await.expect("sent");
    let mut answered = 0;
    loop {
        match socket.frame().await {
            Message::Text(text) if text.contains("pong") => answered += 1,
            Message::Pong(bytes) if &bytes[..] == b"ping" => break,
            _ => {}
        }
    }
    assert!((1..20).contains(&answered), "{answered}");
}

#[actix_rt::test]
async fn a_client_that_disconnects_during_authentication_leaves_no_subscriber() {
    let world = World::open().await;
    let subscribers = async || {
        let health = world.server.pipeline().query_service.send(GetHealth).await;
        health.expect("the engine is alive").subscribers
    };
    let mut listens = Socket::of(&world, "any").await;
    for step in 0..60 {
        let stream = std::net::TcpStream::connect(world.server.address()).expect("connected");
        let request = b"GET /api/v1/events?after_seq=0 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        std::io::Write::write_all(&mut &stream, request).expect("sent");
        tokio::time::sleep(Duration::from_micros(step * 50)).await;
        // This resets the connection.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
    }
    let (batch, _) = world.submit(&["a"]).await;
    listens.until(|it| ends_batch(it) && it["payload"]["batch_id"] == batch.as_str()).await;
    let wait = async {
        while subscribers().await > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("they are gone");
}

#[actix_rt::test]
async fn the_streams_of_an_owner_are_limited() {
    let world = World::with(|config| config.server.max_streams_per_owner = 2).await;
    let (first, second) = (Socket::of(&world, "x").await, Events::open(&world, None).await);
    let mut third = Socket::open(&world).await;
    third.send(json!({"type": "auth", "token": "x"})).await;
    assert_eq!(third.code().await, 1013);
    assert_eq!(world.get("/api/v1/events").await.status(), 429);
    drop((first, second));
    let free = async {
        while world.get("/api/v1/events").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, free).await.expect("they are counted no longer");
}

#[actix_rt::test]
async fn a_peer_that_does_not_read_is_closed_and_delays_nobody() {
    let world = World::with(|config| {
        config.server.send_timeout = Duration::from_secs(1);
        config.engine.monitor.tick = Duration::from_millis(10);
    })
    .await;
    let mut deaf = Socket::of(&world, "x").await;
    let mut reads = Socket::of(&world, "x").await;
    // The log is large enough to fill the buffers of the system when it is replayed repeatedly.
    let names: Vec<String> = (0..40).map(|number| format!("{number} {}", "x".repeat(200))).collect();
    let (batch, _) = world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let ends = |it: &Value| ends_batch(it) && it["payload"]["batch_id"] == batch.as_str();
    reads.until(ends).await;
    let subscribers = async || {
        let health = world.server.pipeline().query_service.send(GetHealth).await;
        health.expect("the engine is alive").subscribers
    };
    let fill = async {
        while subscribers().await > 1 {
            let again = deaf.0.send(Message::text(r#"{"action":"resume","after_seq":0}"#));
            // This blocks once the server no longer reads.
            let _ = timeout(Duration::from_millis(20), again).await;
        }
    };
    timeout(PATIENCE, fill).await.expect("it is closed");
    let (again, _) = world.submit(&["again"]).await;
    let ended = reads.until(|it| ends_batch(it) && it["payload"]["batch_id"] == again.as_str());
    timeout(Duration::from_secs(5), ended).await.expect("in time");
    // The close frame follows the unread messages. The connection is reset instead if requests lay unread at
    // the server.
    loop {
        match timeout(PATIENCE, deaf.0.next()).await.expect("in time") {
            Some(Ok(Message::Close(frame))) => {
                assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1013));
                break;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
}

/// A stream of server-sent events.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn open(world: &World, last: Option<u64>) -> Self {
        let request = world.request(reqwest::Method::GET, "/api/v1/events");
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The id and the message of the next event. `None` once the server has closed the stream.
    async fn next(&mut self) -> Option<(Option<u64>, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let Some(data) = field("data: ") {
                    let id = field("id: ").map(|id| id.parse().expect("a number"));
                    return Some((id, serde_json::from_str(&data).expect("JSON")));
                }
                continue;
            }
            let piece = timeout(PATIENCE, self.response.chunk()).await.expect("in time").ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&piece).expect("text"));
        }
    }

    async fn until(&mut self, so: impl Fn(&Value) -> bool) -> Vec<(Option<u64>, Value)> {
        let mut events = Vec::new();
        loop {
            events.push(self.next().await.expect("open"));
            if events.last().is_some_and(|(_, message)| so(message)) {
                return events;
            }
        }
    }
}

#[actix_rt::test]
async fn server_sent_events_are_complete_and_resume_after_their_id() {
    let world = World::open().await;
    let mut events = Events::open(&world, None).await;
    let (batch, uploads) = world.submit(&["one", "bad two"]).await;
    let messages = events.until(ends_batch).await;
    let find = |action: &str| messages.iter().map(|(_, message)| message).find(|it| it["action"] == action);
    assert_eq!(find("upload_completed").expect("a message")["upload_id"], json!(uploads[0]));
    assert_eq!(find("upload_failed").expect("a message")["upload_id"], json!(uploads[1]));
    for (index, (id, message)) in messages.iter().enumerate() {
        let (seq, next) =
            (message["seq"].as_u64(), messages.get(index + 1).map(|(_, next)| next["seq"].as_u64()));
        assert!(seq.is_some());
        match id {
            Some(id) => assert_eq!(Some(*id), seq),
            None => assert_eq!(next, Some(seq), "the last message of an event has its id"),
        }
    }
    drop(events);
    let known = messages[0].1["seq"].as_u64().expect("a number");
    let world = world.restart().await;
    let mut events = Events::open(&world, Some(known)).await;
    let again = events.until(|it| ends_batch(it) && it["payload"]["batch_id"] == batch.as_str()).await;
    assert_eq!(again[0].1["action"], "resumed");
    let of = |events: &[(Option<u64>, Value)]| -> Vec<String> {
        let ends = ["upload_completed", "upload_failed"];
        let ends = events.iter().filter(|(_, it)| ends.contains(&it["action"].as_str().expect("an action")));
        ends.map(|(_, it)| text(&it["upload_id"])).collect()
    };
    assert_eq!(of(&again), of(&messages));
}

#[actix_rt::test]
async fn a_snapshot_replaces_events_that_are_no_longer_kept() {
    let world = World::with(|config| config.engine.events.keep = 100).await;
    for round in 0..4 {
        let names: Vec<String> = (0..12).map(|number| format!("{round} {number}")).collect();
        let (batch, _) = world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        world.ended(&batch).await;
    }
    let mut events = Events::open(&world, Some(1)).await;
    let (id, resumed) = events.next().await.expect("open");
    assert_eq!((&resumed["action"], &resumed["snapshot"], id), (&json!("resumed"), &json!(true), None));
    for _ in 0..4 {
        let (id, batch) = events.next().await.expect("open");
        assert_eq!(
            (&batch["action"], &batch["payload"]["status"]),
            (&json!("batch_progress"), &json!("completed"))
        );
        assert_eq!(id, None, "who comes back in the middle of a snapshot gets it whole");
    }
    let (last, _) = world.submit(&["more"]).await;
    let messages = events.until(|it| ends_batch(it) && it["payload"]["batch_id"] == last.as_str()).await;
    assert!(messages.last().is_some_and(|(id, _)| id.is_some()));
}

#[actix_rt::test]
async fn server_sent_events_end_with_the_server_and_invalid_positions_are_refused() {
    let world = World::open().await;
    let mut events = Events::open(&world, None).await;
    for path in ["?after_seq=x", "?after_seq=-1"] {
        assert_eq!(world.get(&format!("/api/v1/events{path}")).await.status(), 422);
    }
    let (end, _) = tokio::join!(events.next(), world.server.stop(Duration::ZERO));
    assert_eq!(end, None);
}
