//! The API from outside.

mod support;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use mediamill::{
    Config,
    engine::{media::Format, store::QueueDepth},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use self::support::{World, picture, text};

/// Checks a refusal: its status, its type, and a part of its sentence.
async fn refused(response: Response, status: u16, kind: &str, says: &str) {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()["content-type"], "application/json");
    if matches!(status, 429 | 503) {
        let seconds = response.headers()["retry-after"].to_str().expect("text").parse::<u64>();
        assert!(seconds.is_ok_and(|it| it > 0));
    }
    let body: Value = response.json().await.expect("JSON");
    assert_eq!(body["type"], kind, "{body}");
    assert!(body["detail"].as_str().is_some_and(|it| it.contains(says)), "{body}");
}

#[actix_rt::test]
async fn files_become_a_batch_that_can_be_read_searched_and_deleted() {
    let world = World::open().await;
    let cat = include_bytes!("../actors/tests/fixtures/cat.jpg").to_vec();
    let files = vec![
        ("a/b/Größe 猫.png", picture("one")),
        ("cat.png", cat.clone()),
        ("notes.txt", b"no picture".to_vec()),
    ];
    let response = world.send(files).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let submitted: Value = response.json().await.expect("JSON");
    assert_eq!(
        (&submitted["total_files"], &submitted["queued"], &submitted["failed"]),
        (&json!(3), &json!(2), &json!(1))
    );
    assert_eq!(submitted["failed_files"][0]["filename"], "notes.txt");
    assert!(text(&submitted["failed_files"][0]["error"]).contains("no picture or video"));

    let batch = world.ended(&text(&submitted["batch_id"])).await;
    assert_eq!(
        (
            &batch["status"],
            &batch["total_uploads"],
            &batch["successful_uploads"],
            &batch["progress_percentage"]
        ),
        (&json!("completed"), &json!(2), &json!(2), &json!(100))
    );
    assert!(
        batch["completed_at"].is_string() && batch["error_message"].is_null() && batch["waiting"].is_null()
    );
    assert_eq!(world.get_json("/api/v1/uploads/batches").await, json!([batch]));

    let uploads =
        world.get_json(&format!("/api/v1/uploads/batches/{}/uploads", text(&batch["batch_id"]))).await;
    let upload = &uploads[1];
    assert_eq!(uploads[0]["filename"], "Größe 猫.png");
    assert_eq!(world.get_json(&format!("/api/v1/uploads/{}", text(&upload["id"]))).await, *upload);
    for (key, value) in [
        ("user_id", json!("local")),
        ("filename", json!("cat.png")),
        ("file_type", json!("image")),
        ("mime_type", json!("image/jpeg")),
        ("file_size", json!(cat.len())),
        ("processing_status", json!("completed")),
        ("has_embedding", json!(true)),
        ("needs_review", json!(false)),
        ("cancelled", json!(false)),
        ("error_message", json!(null)),
        ("failures", json!([])),
        ("hidden", json!(false)),
    ] {
        assert_eq!(upload[key], value, "{key}");
    }
    assert!(text(&upload["description"]).contains("cat.png"));

    let original = world.get(&text(&upload["file_path"])).await;
    assert_eq!(original.headers()["content-type"], "image/jpeg");
    assert_eq!(original.headers()["x-content-type-options"], "nosniff");
    let tag = original.headers()["etag"].clone();
    assert_eq!(original.bytes().await.expect("bytes"), cat);
    let again = world.request(Method::GET, &text(&upload["file_path"])).header("if-none-match", tag);
    assert_eq!(again.send().await.expect("an answer").status(), StatusCode::NOT_MODIFIED);
    let part = world.request(Method::GET, &text(&upload["file_path"])).header("range", "bytes=10-19");
    let part = part.send().await.expect("an answer");
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.bytes().await.expect("bytes"), cat[10..20]);
    let ask =
        |name, value| world.request(Method::GET, &text(&upload["file_path"])).header(name, value).send();
    let beyond = ask("range", "bytes=999999999-").await.expect("an answer");
    assert_eq!(beyond.headers()["content-range"], format!("bytes */{}", cat.len()));
    refused(beyond, 416, "no_such_part", "Content-Range").await;
    let other = ask("if-match", "\"another\"").await.expect("an answer");
    refused(other, 412, "precondition_failed", "If-Match").await;
    refused(ask("range", "bytes=\u{e9}").await.expect("an answer"), 400, "malformed", "Range").await;
    let thumbnail = world.get(&text(&upload["thumbnail_path"])).await;
    assert_eq!(thumbnail.headers()["content-type"], "image/jpeg");
    assert_eq!(Format::sniff(&thumbnail.bytes().await.expect("bytes")), Some(Format::Jpeg));

    let found = world.get_json("/api/v1/search?q=stripes&limit=1").await;
    assert_eq!(found.as_array().map(Vec::len), Some(1));
    assert!(
        found[0]["score"].as_f64().is_some_and(|score| score > 0.9) && found[0]["upload"]["id"].is_string()
    );

    for upload in uploads.as_array().expect("a list") {
        let path = format!("/api/v1/uploads/{}", text(&upload["id"]));
        let deleted = world.request(Method::DELETE, &path).send().await.expect("an answer");
        assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
        refused(world.get(&path).await, 404, "not_found", "upload").await;
        refused(world.get(&text(&upload["thumbnail_path"])).await, 404, "not_found", "upload").await;
    }
    assert_eq!(world.ended(&text(&batch["batch_id"])).await["total_uploads"], 0);
    let left = || files_below(&world.config.engine.store.data_dir, &["originals", "thumbnails", "incoming"]);
    eventually(|| left() == 0).await;
}

#[actix_rt::test]
async fn a_deleted_batch_is_gone_with_all_its_files() {
    let world = World::open().await;
    let (batch, uploads) = world.submit(&["a", "b"]).await;
    world.ended(&batch).await;
    let path = format!("/api/v1/uploads/batches/{batch}");
    let deleted = world.request(Method::DELETE, &path).send().await.expect("an answer");
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    refused(world.get(&path).await, 404, "not_found", "batch").await;
    for upload in uploads {
        refused(world.get(&format!("/api/v1/uploads/{upload}")).await, 404, "not_found", "upload").await;
    }
    let again = world.request(Method::DELETE, &path).send().await.expect("an answer");
    refused(again, 404, "not_found", "batch").await;
    let left = || files_below(&world.config.engine.store.data_dir, &["originals", "thumbnails", "incoming"]);
    eventually(|| left() == 0).await;
}

/// Number of files in folders of the data folder.
fn files_below(data_dir: &Path, folders: &[&str]) -> usize {
    fn count(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
    }
    folders.iter().map(|folder| count(&data_dir.join(folder))).sum()
}

async fn eventually(so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(support::PATIENCE, wait).await.expect("it comes to be so");
}

#[actix_rt::test]
async fn a_batch_of_refused_files_exists_and_has_failed() {
    let world = World::open().await;
    let response = world.send(vec![("a.txt", b"text".to_vec()), ("empty.jpg", Vec::new())]).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let submitted: Value = response.json().await.expect("JSON");
    assert_eq!((&submitted["queued"], &submitted["failed"]), (&json!(0), &json!(2)));
    let batch = world.ended(&text(&submitted["batch_id"])).await;
    assert_eq!((&batch["status"], &batch["total_uploads"]), (&json!("failed"), &json!(0)));
    assert!(text(&batch["error_message"]).contains("2 of 2 were refused"));
}

#[actix_rt::test]
async fn failures_are_reported_and_retried() {
    let world = World::open().await;
    let (batch, uploads) = world.submit(&["bad one", "good"]).await;
    let ended = world.ended(&batch).await;
    assert_eq!((&ended["status"], &ended["failed_uploads"]), (&json!("completed"), &json!(1)));
    let upload = world.get_json(&format!("/api/v1/uploads/{}", uploads[0])).await;
    assert_eq!(upload["processing_status"], "failed");
    let failures = upload["failures"].as_array().expect("a list");
    assert_eq!(failures.iter().map(|it| &it["attempt"]).collect::<Vec<_>>(), [1, 2]);
    assert!(text(&upload["error_message"]).contains("bad one"));
    assert_eq!(world.post(&format!("/api/v1/uploads/batches/{batch}/retry")).await.status(), 204);
    let failed_again = |upload: &Value| upload["failures"][0]["attempt"] == 3;
    world.ended(&batch).await;
    let upload = world.get_json(&format!("/api/v1/uploads/{}", uploads[0])).await;
    assert!(failed_again(&upload), "{upload}");
}

#[actix_rt::test]
async fn a_batch_is_paused_resumed_and_cancelled() {
    let world =
        World::with(|config| config.engine.workers.concurrency = Some(1.try_into().expect("one"))).await;
    world.provider.takes(Duration::from_secs(600), Duration::ZERO);
    let (batch, uploads) = world.submit(&["a", "b", "c"]).await;
    let path = |verb: &str| format!("/api/v1/uploads/batches/{batch}/{verb}");
    assert_eq!(world.post(&path("pause")).await.status(), StatusCode::NO_CONTENT);
    let paused = world.batch_when(&batch, |it| it["paused_at"].is_string()).await;
    assert!(text(&paused["waiting"]).contains("paused"));
    assert_eq!(world.post(&path("resume")).await.status(), StatusCode::NO_CONTENT);
    world.batch_when(&batch, |it| it["paused_at"].is_null()).await;
    assert_eq!(world.post(&path("cancel")).await.status(), StatusCode::NO_CONTENT);
    let ended = world.ended(&batch).await;
    assert_eq!((&ended["status"], &ended["cancelled_uploads"]), (&json!("cancelled"), &json!(3)));
    let upload = world.get_json(&format!("/api/v1/uploads/{}", uploads[2])).await;
    assert_eq!((&upload["processing_status"], &upload["cancelled"]), (&json!("failed"), &json!(true)));
    refused(world.post(&path("pause")).await, 409, "conflict", "").await;
    refused(world.post("/api/v1/uploads/batches/none/pause").await, 404, "not_found", "batch").await;
}

#[actix_rt::test]
async fn names_in_another_coding_than_utf_8_are_taken() {
    let world = World::open().await;
    let mut body = Vec::new();
    let names: [&[u8]; 2] =
        [b"F\xe4hre nach \xd6land.png", b"\x95\x5c\x8e\xa6\x83\x5c\x83t\x83g\x82\xcc\x8e\xca\x90^.png"];
    for name in names {
        body.extend_from_slice(b"--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"");
        body.extend_from_slice(name);
        body.extend_from_slice(b"\"\r\n\r\n");
        body.extend_from_slice(&picture("one"));
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--x--\r\n");
    let request = world.request(Method::POST, "/api/v1/uploads/bulk").body(body);
    let request = request.header("content-type", "multipart/form-data; boundary=x");
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::CREATED);
    let submitted: Value = response.json().await.expect("JSON");
    for (at, name) in ["Fähre nach Öland.png", "表示ソフトの写真.png"].into_iter().enumerate() {
        let id = text(&submitted["upload_ids"][at]);
        assert_eq!(world.get_json(&format!("/api/v1/uploads/{id}")).await["filename"], name);
    }
}

#[actix_rt::test]
async fn an_invalid_request_is_refused_with_a_sentence() {
    let world = World::open().await;
    let bulk = || world.request(Method::POST, "/api/v1/uploads/bulk");
    let send = async |request: reqwest::RequestBuilder| request.send().await.expect("an answer");
    refused(send(bulk().json(&json!({}))).await, 415, "unsupported_media_type", "multipart/form-data").await;
    refused(send(bulk().body("x")).await, 415, "unsupported_media_type", "").await;
    let form = reqwest::multipart::Form::new().text("note", "no file");
    refused(send(bulk().multipart(form)).await, 422, "invalid", "`files`").await;
    let form =
        |body: &'static str| bulk().header("content-type", "multipart/form-data; boundary=x").body(body);
    refused(
        send(form("--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a.png\"\r\n\r\nbyt"))
            .await,
        400,
        "malformed",
        "",
    )
    .await;
    let nameless = "--x\r\nContent-Disposition: form-data; name=\"files\"\r\n\r\ntext\r\n--x--\r\n";
    let brackets = nameless.replace("name=\"files\"", "name=\"files[]\"; filename=\"a.png\"");
    refused(
        send(bulk().header("content-type", "multipart/form-data; boundary=x").body(brackets)).await,
        422,
        "invalid",
        "`files`",
    )
    .await;
    refused(send(form(nameless)).await, 422, "invalid", "no file name").await;
    refused(send(form("nonsense")).await, 400, "malformed", "").await;
    let zipped = form("--x--\r\n").header("content-encoding", "gzip");
    refused(send(zipped).await, 415, "unsupported_media_type", "Content-Encoding \"gzip\"").await;
    let endless: &'static str = "a".repeat(70_000).leak();
    refused(send(form(endless)).await, 400, "malformed", "no part").await;
    let head: &'static str = format!("--x\r\nContent-Disposition: {endless}").leak();
    refused(send(form(head)).await, 400, "malformed", "the head of a part").await;
    for query in ["limit=0", "limit=101", "limit=-1", "limit=ten", "limit=", "offset=-1", "offset=9999999999"]
    {
        let key = query.split('=').next().expect("a key");
        refused(world.get(&format!("/api/v1/uploads/batches?{query}")).await, 422, "invalid", key).await;
    }
    for query in ["", "?q=", "?q=%20", "?q=a&limit=0", "?q=a&limit=101"] {
        refused(world.get(&format!("/api/v1/search{query}")).await, 422, "invalid", "").await;
    }
    let long = "a".repeat(1001);
    refused(world.get(&format!("/api/v1/search?q={long}")).await, 422, "invalid", "1001").await;
    for path in
        ["batches/01900000-0000-7000-8000-000000000000", "batches/x", "x", "..%2f..%2fetc%2fpasswd/original"]
    {
        refused(world.get(&format!("/api/v1/uploads/{path}")).await, 404, "not_found", "").await;
    }
    for path in ["/nowhere", "/api/nowhere", "/api/v1/nowhere"] {
        refused(world.get(path).await, 404, "not_found", path).await;
    }
    let put = world.request(Method::PUT, "/api/v1/uploads/batches").send().await.expect("an answer");
    assert_eq!(put.headers()["allow"], "GET, HEAD");
    refused(put, 405, "method_not_allowed", "GET").await;
    assert_eq!(files_below(&world.config.engine.store.data_dir, &["incoming", "originals"]), 0);
}

#[actix_rt::test]
async fn a_request_above_a_limit_is_refused_and_leaves_nothing_behind() {
    let world = World::with(|config| {
        config.engine.limits.max_batch_files = 2;
        config.engine.limits.max_batch_bytes = 200_000;
        config.engine.limits.max_file_bytes = 150_000;
        config.engine.limits.max_video_bytes = 150_000;
        config.engine.limits.max_queued_uploads = 3;
        config.engine.workers.concurrency = Some(1.try_into().expect("one"));
    })
    .await;
    let three = vec![("a", picture("a")), ("b", picture("b")), ("c", picture("c"))];
    refused(world.send(three).await, 413, "too_large", "limits.max_batch_files").await;
    let (one, other) = (vec![0; 130_000], vec![0; 130_000]);
    refused(world.send(vec![("a", one), ("b", other)]).await, 413, "too_large", "limits.max_batch_bytes")
        .await;
    let response = world.send(vec![("large", vec![0; 160_000]), ("fits", picture("fits"))]).await;
    let submitted: Value = response.json().await.expect("JSON");
    assert!(text(&submitted["failed_files"][0]["error"]).contains("150000"), "{submitted}");
    assert_eq!(submitted["queued"], 1);
    world.ended(&text(&submitted["batch_id"])).await;
    world.provider.takes(Duration::from_secs(600), Duration::ZERO);
    world.submit(&["runs"]).await;
    eventually(|| world.server.pipeline().queries().queue_depth() == QueueDepth { waiting: 0, in_flight: 1 })
        .await;
    world.submit(&["waits", "waits too"]).await;
    refused(
        world.send(vec![("more", picture("more"))]).await,
        503,
        "queue_full",
        "limits.max_queued_uploads",
    )
    .await;
    eventually(|| files_below(&world.config.engine.store.data_dir, &["incoming"]) == 0).await;
    assert_eq!(files_below(&world.config.engine.store.data_dir, &["originals"]), 4);
}

#[actix_rt::test]
async fn a_full_disk_has_a_refusal_of_its_own() {
    let world = World::with(|config| config.engine.limits.min_free_disk_mb = u64::MAX >> 24).await;
    refused(world.send(vec![("a", picture("a"))]).await, 507, "disk_full", "make room").await;
    let ready = world.get("/ready").await;
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let ready: Value = ready.json().await.expect("JSON");
    assert_eq!((&ready["disk"], &ready["store"]), (&json!(false), &json!(true)));
    assert_eq!(world.get("/health").await.status(), StatusCode::OK);
}

#[actix_rt::test]
async fn an_owner_above_the_rate_limit_has_to_wait() {
    let world = World::with(|config| {
        config.server.requests_per_second = 1.try_into().expect("one");
        config.server.burst_requests = 3.try_into().expect("three");
    })
    .await;
    for _ in 0..3 {
        assert_eq!(world.get("/api/v1/uploads/batches").await.status(), StatusCode::OK);
    }
    refused(
        world.get("/api/v1/uploads/batches").await,
        429,
        "too_many_requests",
        "server.requests_per_second",
    )
    .await;
    assert_eq!(world.get("/health").await.status(), StatusCode::OK);
}

/// The beginning of a request that uploads a file.
fn beginning(world: &World, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(world.server.address()).expect("connected");
    stream.set_read_timeout(Some(support::PATIENCE)).expect("set");
    let head = format!(
        "POST /api/v1/uploads/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; \
         boundary=x\r\nContent-Length: \
         {length}\r\n\r\n--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a.png\"\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&picture("half")[..1000]).expect("sent");
    stream
}

#[actix_rt::test]
async fn an_upload_that_is_broken_off_leaves_nothing_behind() {
    let world = World::open().await;
    let data_dir = world.config.engine.store.data_dir.clone();
    let stream = beginning(&world, 1 << 20);
    eventually(|| files_below(&data_dir, &["incoming"]) == 1).await;
    stream.shutdown(Shutdown::Both).expect("gone");
    eventually(|| files_below(&data_dir, &["incoming"]) == 0).await;
    assert_eq!(world.get_json("/api/v1/uploads/batches").await, json!([]));
}

#[actix_rt::test]
async fn a_slow_sender_is_disconnected() {
    let world = World::with(|config| config.server.body_timeout = Duration::from_millis(200)).await;
    let mut stream = beginning(&world, 1 << 20);
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| answer)
    });
    let answer = answer.await.expect("no panic").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 408");
    eventually(|| files_below(&world.config.engine.store.data_dir, &["incoming"]) == 0).await;
}

#[actix_rt::test]
async fn no_page_of_another_origin_reaches_an_open_server() {
    let world = World::open().await;
    let port = world.server.address().port();
    let here = format!("http://localhost:{port}");
    for (headers, status) in [
        (vec![("host", format!("localhost:{port}"))], 200),
        (vec![("host", format!("[::1]:{port}"))], 200),
        (vec![("host", format!("localhost:{port}")), ("origin", here.clone())], 200),
        (vec![("sec-fetch-site", "same-origin".into())], 200),
        (vec![("sec-fetch-site", "none".into())], 200),
        (vec![("host", "rebound.example".into())], 403),
        (vec![("host", format!("127.0.0.1.evil.example:{port}"))], 403),
        (vec![("host", format!("localhost.evil.example:{port}"))], 403),
        (vec![("host", "localhost:evil.example".into())], 403),
        (vec![("host", "[::1]x.evil.example".into())], 403),
        (vec![("host", "[::1".into())], 403),
        (vec![("host", format!("localhost:{port}")), ("origin", "https://evil.example".into())], 403),
        (vec![("host", format!("localhost:{port}")), ("origin", "http://localhost:1".into())], 403),
        (vec![("origin", "null".into())], 403),
        (vec![("sec-fetch-site", "cross-site".into())], 403),
        (vec![("sec-fetch-site", "same-site".into())], 403),
    ] {
        for path in ["/", "/api/v1/uploads/batches", "/metrics"] {
            let request = headers.iter().fold(world.request(Method::GET, path), |request, (name, value)| {
                request.header(*name, value)
            });
            let response = request.send().await.expect("an answer");
            assert_eq!(response.status(), status, "{path} {headers:?}");
        }
    }
}

#[actix_rt::test]
async fn a_request_with_two_meanings_is_refused() {
    let world = World::open().await;
    let address = world.server.address();
    let ask = async |head: &str| {
        let head = format!("GET {head}\r\nConnection: close\r\n\r\n");
        let ask = move || {
            let mut stream = std::net::TcpStream::connect(address).expect("connected");
            std::io::Write::write_all(&mut stream, head.as_bytes()).expect("sent");
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
            answer[9..12].parse::<u16>().expect("a status")
        };
        tokio::task::spawn_blocking(ask).await.expect("no panic")
    };
    for (head, status) in [
        ("/health HTTP/1.1\r\nHost: localhost", 200),
        ("/health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example", 400),
        (
            "/health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nOrigin: http://evil.example",
            400,
        ),
        ("http://localhost/health HTTP/1.1\r\nHost: localhost", 200),
        ("http://evil.example/health HTTP/1.1\r\nHost: localhost", 400),
    ] {
        assert_eq!(ask(head).await, status, "{head}");
    }
}

#[actix_rt::test]
async fn listed_origins_may_use_the_api() {
    let world =
        World::with(|config| config.server.allowed_origins = vec!["https://friend.example".into()]).await;
    for (origin, status, allowed) in
        [("https://friend.example", 200, true), ("https://evil.example", 403, false)]
    {
        let request = world.request(Method::GET, "/api/v1/uploads/batches").header("origin", origin);
        let response = request.header("sec-fetch-site", "cross-site").send().await.expect("an answer");
        assert_eq!(response.status(), status);
        let named = response.headers().get("access-control-allow-origin").is_some_and(|it| it == origin);
        assert_eq!(named, allowed);
    }
    let preflight = world
        .request(Method::OPTIONS, "/api/v1/uploads/bulk")
        .header("origin", "https://friend.example")
        .header("access-control-request-method", "POST");
    assert_eq!(preflight.send().await.expect("an answer").status(), StatusCode::OK);
}

#[actix_rt::test]
async fn a_server_without_authentication_listens_on_loopback_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::default();
    config.engine.store.data_dir = folder.path().into();
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let refused = mediamill::run(config.clone(), listener).await.err().expect("refused");
    assert!(refused.contains("auth.keys"), "{refused}");
    support::keys(&mut config);
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let server = mediamill::run(config, listener).await.expect("it starts");
    server.stop(Duration::ZERO).await;
}

#[actix_rt::test]
async fn a_stop_hands_attempts_back_and_the_next_start_continues() {
    let world = World::open().await;
    world.provider.takes(Duration::from_secs(600), Duration::ZERO);
    let (batch, _) = world.submit(&["a", "b", "c"]).await;
    world.batch_when(&batch, |it| it["status"] == "processing").await;
    world.provider.takes(Duration::ZERO, Duration::ZERO);
    let world = world.restart().await;
    assert_eq!(world.ended(&batch).await["successful_uploads"], 3);
}

#[actix_rt::test]
async fn the_dump_and_the_metrics_agree_with_the_store() {
    let world = World::open().await;
    let (batch, _) = world.submit(&["a", "bad b"]).await;
    world.ended(&batch).await;
    let response = world.get("/api/v1/dump").await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let dump = response.bytes().await.expect("bytes");
    let expected = world.server.pipeline().queries().dump(Vec::new()).await.expect("a dump");
    assert_eq!(dump, expected);
    let metrics = async || world.get("/metrics").await.text().await.expect("text");
    // The durations of stages are read from the events once a second.
    let read = async {
        while !metrics().await.contains("mediamill_stage_seconds_count{stage=\"description\"} 1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("the stages are counted");
    let metrics = metrics().await;
    for line in [
        "mediamill_uploads{status=\"completed\"} 1",
        "mediamill_uploads{status=\"failed\"} 1",
        "mediamill_provider{state=\"ready\"} 1",
        "mediamill_stage_seconds_count{stage=\"description\"} 1",
        "mediamill_queue_waiting 0",
    ] {
        assert!(metrics.contains(line), "{line} is not among\n{metrics}");
    }
}

#[actix_rt::test]
async fn every_described_operation_exists() {
    let world = World::open().await;
    let api = world.get_json("/openapi.json").await;
    assert!(text(&api["openapi"]).starts_with("3."));
    let mut known = 0;
    for (path, methods) in api["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let path = path.replace("{id}", "01900000-0000-7000-8000-000000000000");
            if path == "/api/v1/events" {
                continue;
            }
            let method: Method = method.to_uppercase().parse().expect("a method");
            let response = world.request(method.clone(), &path).send().await.expect("an answer");
            let status = response.status();
            let body = response.text().await.unwrap_or_default();
            assert!(status != StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert!(!body.contains("there is no such resource"), "{method} {path}");
            known += 1;
        }
    }
    assert!(known >= 22, "{known} operations");
}
