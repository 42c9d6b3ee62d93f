//! Resumable uploads, over connections that break and through restarts.

mod support;

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mediamill::engine::files::hash;
use reqwest::{Method, RequestBuilder, Response, StatusCode, multipart::Form};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use self::support::{PATIENCE, World, keys, picture, text};

const CREATE: &str = "/api/v1/uploads/resumable";

/// A request of the protocol.
fn tus(world: &World, method: Method, path: &str) -> RequestBuilder {
    world.request(method, path).header("tus-resumable", "1.0.0")
}

async fn answer(request: RequestBuilder) -> Response {
    let response = request.send().await.expect("an answer");
    assert_eq!(response.headers()["tus-resumable"], "1.0.0");
    response
}

async fn status(request: RequestBuilder) -> u16 {
    answer(request).await.status().as_u16()
}

/// Begins an upload. Returns the path for its bytes.
async fn begun(world: &World, name: &str, length: usize, waits: bool) -> String {
    let later = if waits { ",batch bGF0ZXI=" } else { "" };
    let metadata = format!("filename {}{later}", BASE64_STANDARD.encode(name));
    let create = tus(world, Method::POST, CREATE).header("upload-length", length);
    let response = answer(create.header("upload-metadata", metadata)).await;
    assert_eq!(response.status(), StatusCode::CREATED);
    assert!(response.headers().contains_key("upload-expires"));
    response.headers()["location"].to_str().expect("text").to_owned()
}

fn bytes(world: &World, path: &str, offset: usize, bytes: &[u8]) -> RequestBuilder {
    tus(world, Method::PATCH, path)
        .header("upload-offset", offset)
        .header("content-type", "application/offset+octet-stream")
        .body(bytes.to_vec())
}

/// How many bytes have arrived.
async fn offset(world: &World, path: &str) -> usize {
    let response = answer(tus(world, Method::HEAD, path)).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    response.headers()["upload-offset"].to_str().expect("text").parse().expect("a number")
}

/// Sends a part of a body that was announced longer, and breaks the connection.
async fn broken(world: &World, path: &str, offset: usize, bytes: &[u8]) {
    let mut stream = TcpStream::connect(world.server.address()).expect("connected");
    let token = world.token.as_deref().unwrap_or("none");
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n\
         Upload-Offset: {offset}\r\nContent-Type: application/offset+octet-stream\r\n\
         Content-Length: {}\r\n\r\n",
        bytes.len() + 1
    );
    let bytes = bytes.to_vec();
    let send = move || {
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(&bytes).expect("sent");
        stream.shutdown(Shutdown::Write).expect("shut");
        // Waits until the server has noticed.
        let _ = stream.read_to_end(&mut Vec::new());
    };
    tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(send)).await.expect("noticed").expect("sent");
}

fn id(path: &str) -> &str {
    path.rsplit('/').next().expect("an id")
}

async fn state(world: &World, path: &str) -> Value {
    world.get_json(path).await
}

#[actix_rt::test]
async fn a_file_over_a_connection_that_breaks_ten_times_arrives_once() {
    let world = World::open().await;
    let file = picture("film");
    let path = begun(&world, "a/b/Größe.png", file.len(), false).await;
    let piece = file.len() / 11;
    for time in 0..10 {
        let from = offset(&world, &path).await;
        assert_eq!(from, time * piece);
        broken(&world, &path, from, &file[from..from + piece]).await;
    }
    let from = offset(&world, &path).await;
    let response = answer(bytes(&world, &path, from, &file[from..])).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    assert_eq!(response.headers()["upload-offset"], file.len().to_string().as_str());

    let state = state(&world, &path).await;
    assert_eq!(state["filename"], "Größe.png");
    let batch = world.ended(&text(&state["batch_id"])).await;
    assert_eq!((&batch["total_uploads"], &batch["successful_uploads"]), (&json!(1), &json!(1)));
    let upload = world.get_json(&format!("/api/v1/uploads/{}", id(&path))).await;
    assert_eq!(
        (&upload["filename"], &upload["provenance"]["content_hash"]),
        (&json!("Größe.png"), &json!(hash(&file)))
    );
    // The answer may be lost: the client asks again, and nothing arrives twice.
    assert_eq!(offset(&world, &path).await, file.len());
    assert_eq!(status(bytes(&world, &path, file.len(), b"")).await, 409);
    let batches = world.get_json("/api/v1/uploads/batches").await;
    assert_eq!(batches.as_array().map(Vec::len), Some(1));
    let partial = world.folder.path().join("data/partial").join(id(&path));
    assert!(!partial.exists());
}

#[actix_rt::test]
async fn several_resumable_uploads_and_files_share_a_batch() {
    let world = World::open().await;
    let (one, two) = (picture("one"), picture("two"));
    let mut form = Form::new();
    let mut ids = Vec::new();
    for (name, file) in [("one.png", &one), ("two.png", &two)] {
        let path = begun(&world, name, file.len(), true).await;
        assert_eq!(status(bytes(&world, &path, 0, file)).await, 204);
        assert_eq!(state(&world, &path).await["batch_id"], Value::Null);
        ids.push(id(&path).to_owned());
        form = form.text("resumable", ids[ids.len() - 1].clone());
    }
    let part = reqwest::multipart::Part::bytes(picture("three")).file_name("three.png");
    let submit = world.request(Method::POST, "/api/v1/uploads/bulk").multipart(form.part("files", part));
    let response = submit.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::CREATED);
    let submitted: Value = response.json().await.expect("JSON");
    assert_eq!(submitted["queued"], 3);
    assert_eq!(
        submitted["upload_ids"].as_array().map(|them| them[..2].to_vec()),
        json!(ids).as_array().cloned()
    );
    let batch = world.ended(&text(&submitted["batch_id"])).await;
    assert_eq!(batch["successful_uploads"], 3);

    let again = Form::new().text("resumable", ids[0].clone());
    let again = world.request(Method::POST, "/api/v1/uploads/bulk").multipart(again);
    let refusal = again.send().await.expect("an answer");
    assert_eq!(refusal.status(), StatusCode::CONFLICT);
    let refusal: Value = refusal.json().await.expect("JSON");
    assert!(text(&refusal["detail"]).contains(&text(&submitted["batch_id"])));
}

#[actix_rt::test]
async fn what_arrived_survives_a_restart() {
    let world = World::open().await;
    let (file, waiting) = (picture("file"), picture("waiting"));
    let path = begun(&world, "file.png", file.len(), false).await;
    let waits = begun(&world, "waiting.png", waiting.len(), true).await;
    broken(&world, &path, 0, &file[..1000]).await;
    assert_eq!(offset(&world, &path).await, 1000);
    assert_eq!(status(bytes(&world, &waits, 0, &waiting)).await, 204);
    let world = world.restart().await;
    assert_eq!(offset(&world, &path).await, 1000);
    assert_eq!(status(bytes(&world, &path, 1000, &file[1000..])).await, 204);
    let batch = text(&state(&world, &path).await["batch_id"]);
    world.ended(&batch).await;
    let form = Form::new().text("resumable", id(&waits).to_owned());
    let submit = world.request(Method::POST, "/api/v1/uploads/bulk").multipart(form);
    let submitted: Value = submit.send().await.expect("an answer").json().await.expect("JSON");
    world.ended(&text(&submitted["batch_id"])).await;
    for (path, file) in [(&path, &file), (&waits, &waiting)] {
        let upload = world.get_json(&format!("/api/v1/uploads/{}", id(path))).await;
        assert_eq!(upload["provenance"]["content_hash"], hash(file));
    }
    let world = world.restart().await;
    assert_eq!(state(&world, &path).await["batch_id"], batch);
}

#[actix_rt::test]
async fn a_checksum_that_does_not_match_adds_nothing() {
    let world = World::open().await;
    let file = picture("checked");
    let path = begun(&world, "checked.png", file.len(), true).await;
    let sum = |bytes: &[u8]| format!("sha256 {}", BASE64_STANDARD.encode(Sha256::digest(bytes)));
    let checked = |from: usize, part: &[u8], sum: String| {
        bytes(&world, &path, from, part).header("upload-checksum", sum)
    };
    assert_eq!(status(checked(0, &file[..500], sum(b"other"))).await, 460);
    assert_eq!(offset(&world, &path).await, 0);
    assert_eq!(status(checked(0, &file[..500], sum(&file[..500]))).await, 204);
    let sha1 = "sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=".to_owned();
    assert_eq!(status(checked(500, b"abc", sha1.clone())).await, 204, "the SHA-1 of abc");
    assert_eq!(status(checked(503, b"abd", sha1)).await, 460);
    assert_eq!(offset(&world, &path).await, 503);
    assert_eq!(status(checked(503, b"abc", "md5 AAAA".into())).await, 400);
}

#[actix_rt::test]
async fn owners_do_not_see_each_others_resumable_uploads() {
    let mut world = World::of_ann_and_bob().await;
    let file = picture("anns");
    let path = begun(&world, "anns.png", file.len(), true).await;
    assert_eq!(status(bytes(&world, &path, 0, &file)).await, 204);
    world.token = Some("bob-key".into());
    assert_eq!(status(tus(&world, Method::HEAD, &path)).await, 404);
    assert_eq!(status(tus(&world, Method::DELETE, &path)).await, 404);
    assert_eq!(status(bytes(&world, &path, 0, b"x")).await, 404);
    assert_eq!(world.get(&path).await.status(), StatusCode::NOT_FOUND);
    let form = Form::new().text("resumable", id(&path).to_owned());
    let submit = world.request(Method::POST, "/api/v1/uploads/bulk").multipart(form);
    assert_eq!(submit.send().await.expect("an answer").status(), StatusCode::NOT_FOUND);
    world.token = Some("ann-key".into());
    assert_eq!(offset(&world, &path).await, file.len());
    assert_eq!(status(tus(&world, Method::DELETE, &path)).await, 204);
    assert_eq!(status(tus(&world, Method::HEAD, &path)).await, 404);
}

#[actix_rt::test]
async fn limits_and_the_protocol_hold() {
    let world = World::with(|config| {
        keys(config);
        config.engine.limits.max_batch_files = 2;
        config.engine.limits.max_video_bytes = 10_000;
        config.engine.limits.max_file_bytes = 10_000;
        config.engine.limits.max_batch_bytes = 15_000;
    })
    .await;
    let world = World { token: Some("ann-key".into()), ..world };
    let create = |length: &str| tus(&world, Method::POST, CREATE).header("upload-length", length);
    assert_eq!(status(create("10001")).await, 413);
    assert_eq!(status(create("0")).await, 422);
    assert_eq!(status(create("ten")).await, 400);
    assert_eq!(status(tus(&world, Method::POST, CREATE)).await, 400);
    let other = world.request(Method::POST, CREATE).header("upload-length", "5");
    let other = answer(other.header("tus-resumable", "0.2.2")).await;
    assert_eq!(
        (other.status().as_u16(), &other.headers()["tus-version"]),
        (412, &"1.0.0".parse().expect("text"))
    );
    let options = answer(world.request(Method::OPTIONS, CREATE)).await;
    assert_eq!(options.headers()["tus-extension"], "creation,termination,checksum,expiration");
    assert_eq!(options.headers()["tus-max-size"], "10000");

    let path = begun(&world, "text.png", 10, false).await;
    assert_eq!(status(create("10000")).await, 201);
    let full = answer(create("1")).await;
    assert_eq!(full.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(full.headers().contains_key("retry-after"));
    assert_eq!(status(bytes(&world, &path, 1, b"x")).await, 409);
    assert_eq!(status(bytes(&world, &path, 0, b"more than ten bytes")).await, 413);
    let plain = tus(&world, Method::PATCH, &path).header("upload-offset", 0).body("x");
    assert_eq!(status(plain).await, 415);
    let instead = world.request(Method::POST, &path).header("tus-resumable", "1.0.0");
    let instead = instead.header("x-http-method-override", "PATCH").header("upload-offset", "0");
    let instead = instead.header("content-type", "application/offset+octet-stream").body("01234");
    assert_eq!(status(instead).await, 204);
    // A file that is no picture is refused, and goes.
    let refused = answer(bytes(&world, &path, 5, b"56789")).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let refusal: Value = refused.json().await.expect("JSON");
    assert!(text(&refusal["detail"]).contains("no picture or video"), "{refusal}");
    assert_eq!(status(tus(&world, Method::HEAD, &path)).await, 404);
}

#[actix_rt::test]
async fn a_client_that_comes_again_takes_over_from_a_silent_connection() {
    let world = World::open().await;
    let file = picture("taken over");
    let path = begun(&world, "file.png", file.len(), false).await;
    let mut silent = TcpStream::connect(world.server.address()).expect("connected");
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: {}\r\n\r\n",
        file.len()
    );
    silent.write_all(head.as_bytes()).expect("sent");
    silent.write_all(&file[..2000]).expect("sent");
    // The server may read what the silent client sent only after it has answered with an offset.
    let taken_over = async {
        loop {
            let from = offset(&world, &path).await;
            assert!(from <= 2000);
            match status(bytes(&world, &path, from, &file[from..])).await {
                409 => {}
                status => return status,
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, taken_over).await.expect("not blocked"), 204);
    world.ended(&text(&state(&world, &path).await["batch_id"])).await;
}
