//! Limits of owners, queue and disk.

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use mediamill::engine::disk::free_bytes;
use reqwest::StatusCode;
use serde_json::{Value, json};

use self::support::{PATIENCE, World, picture, scripted::Act, text};

/// Sends the head of an upload, and nothing after it.
fn head(world: &World, token: &str, length: u64) -> TcpStream {
    let mut stream = TcpStream::connect(world.server.address()).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let head = format!(
        "POST /api/v1/uploads/bulk HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \
         {token}\r\nContent-Type: multipart/form-data; \
         boundary=x\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream
}

/// Status and type of the refusal of a request whose head alone was sent.
async fn refused(stream: TcpStream) -> (u16, String) {
    refused_after(b"", stream).await
}

/// As [`refused`], if the first bytes of the answer were read already.
async fn refused_after(first: &[u8], mut stream: TcpStream) -> (u16, String) {
    let first = first.to_owned();
    let read = move || {
        let mut answer = first;
        let mut piece = [0; 4096];
        // The server may keep the connection open.
        while !answer.ends_with(b"}") {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(length) => answer.extend_from_slice(&piece[..length]),
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = tokio::task::spawn_blocking(read).await.expect("no panic");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a status");
    let body: Value = serde_json::from_str(body).expect("JSON");
    (status, text(&body["type"]))
}

#[actix_rt::test]
async fn an_owner_with_slow_senders_does_not_keep_others_out() {
    let mut world = World::with(|config| {
        support::keys(config);
        config.server.max_receiving_per_owner = 2;
    })
    .await;
    world.token = Some("ann-key".into());
    let _slow = [head(&world, "ann-key", 1 << 20), head(&world, "ann-key", 1 << 20)];
    let counted = async {
        while !world.get("/metrics").await.text().await.expect("text").contains("mediamill_receiving 2") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("both are counted");
    let reply = world.send(vec![("a", picture("a"))]).await;
    assert_eq!(reply.status(), StatusCode::TOO_MANY_REQUESTS);
    let reply: Value = reply.json().await.expect("JSON");
    assert!(text(&reply["detail"]).contains("server.max_receiving_per_owner"), "{reply}");
    world.token = Some("bob-key".into());
    assert_eq!(world.send(vec![("a", picture("a"))]).await.status(), StatusCode::CREATED);
}

#[actix_rt::test]
async fn the_slowest_bodies_of_one_owner_give_way_to_another_owner() {
    let mut world = World::with(|config| {
        support::keys(config);
        config.server.max_receiving = 3;
    })
    .await;
    world.token = Some("ann-key".into());
    let slow: Vec<_> = (0..3).map(|_| head(&world, "ann-key", 1 << 20)).collect();
    let counted = async {
        while !world.get("/metrics").await.text().await.expect("text").contains("mediamill_receiving 3") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("all are counted");
    // Ann has no more to gain by it than another owner.
    assert_eq!(world.send(vec![("a", picture("a"))]).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    world.token = Some("bob-key".into());
    for name in ["a", "b"] {
        assert_eq!(world.send(vec![(name, picture(name))]).await.status(), StatusCode::CREATED);
    }
    let mut ousted = 0;
    for stream in slow {
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
        let mut first = [0; 12];
        if (&stream).read_exact(&mut first).is_ok() {
            ousted += 1;
            assert_eq!(refused_after(&first, stream).await, (503, "busy".into()));
        }
    }
    assert_eq!(ousted, 1, "a place that bob gave back is free");
}

#[actix_rt::test]
async fn searches_of_an_owner_beyond_the_limit_are_refused() {
    let mut world = World::with(|config| {
        support::keys(config);
        config.server.max_searches_per_owner = 1;
    })
    .await;
    world.provider.embedding("cat", &[Act::Hang]);
    world.token = Some("ann-key".into());
    let second = async {
        while world.provider.running() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.get("/api/v1/search?q=dog").await
    };
    let second = tokio::select! {
        first = world.get("/api/v1/search?q=cat") => panic!("it waits: {first:?}"),
        second = tokio::time::timeout(PATIENCE, second) => second.expect("an answer"),
    };
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    let reply: Value = second.json().await.expect("JSON");
    assert!(text(&reply["detail"]).contains("server.max_searches_per_owner"), "{reply}");
}

#[actix_rt::test]
async fn a_request_without_room_is_refused_by_its_head() {
    let world = World::with(|config| {
        config.engine.limits.max_queued_uploads = 1;
        let free = free_bytes(&std::env::temp_dir()).expect("a disk");
        config.engine.limits.min_free_disk_mb = (free >> 20) / 2;
        config.engine.limits.max_batch_bytes = 1 << 50;
    })
    .await;
    world.provider.takes(Duration::from_secs(600), Duration::ZERO);
    assert_eq!(refused(head(&world, "-", 1 << 49)).await, (507, "disk_full".into()));
    world.submit(&["waits"]).await;
    assert_eq!(refused(head(&world, "-", 1 << 20)).await, (503, "queue_full".into()));
}

#[actix_rt::test]
async fn a_dump_is_refused_on_a_full_disk() {
    let world = World::with(|config| config.engine.limits.min_free_disk_mb = u64::MAX >> 24).await;
    let reply = world.get("/api/v1/dump").await;
    assert_eq!(reply.status(), StatusCode::INSUFFICIENT_STORAGE);
}

#[actix_rt::test]
async fn long_names_are_truncated() {
    let world = World::open().await;
    let (long, wide) = (format!("{}.txt", "a".repeat(60_000)), "猫".repeat(5000));
    let sent = vec![(long.as_str(), b"text".to_vec()), (wide.as_str(), b"text".to_vec())];
    let submitted: Value = world.send(sent).await.json().await.expect("JSON");
    let names = submitted["failed_files"].as_array().expect("a list").iter().map(|it| text(&it["filename"]));
    let names: Vec<_> = names.collect();
    assert!(names[0].ends_with("aaa.txt"));
    assert_eq!(json!(names.iter().map(|it| it.chars().count()).collect::<Vec<_>>()), json!([255, 255]));
}
