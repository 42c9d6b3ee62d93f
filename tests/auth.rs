//! Authentication by keys, signed tokens and sessions, and the separation of owners.

mod support;

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use futures_util::{SinkExt as _, StreamExt as _};
use jwt_compact::{
    AlgorithmExt as _, Claims, Header,
    alg::{Hs256, Hs256Key, Hs384, Hs384Key},
};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite;

use self::support::{World, text};

/// An environment variable that cargo sets for tests, used as the secret.
const SECRET_ENV: &str = "CARGO_PKG_DESCRIPTION";
const SECRET: &str = env!("CARGO_PKG_DESCRIPTION");

async fn ask(world: &World, token: Option<&str>, method: Method, path: &str) -> Response {
    let request = world.client.request(method, world.url(path));
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    request.send().await.expect("an answer")
}

async fn status(world: &World, token: Option<&str>, path: &str) -> u16 {
    ask(world, token, Method::GET, path).await.status().as_u16()
}

fn signed(claims: Value, lasts: i64, secret: &str) -> String {
    let mut claims = Claims::new(claims);
    claims.expiration = Some(Utc::now() + TimeDelta::seconds(lasts));
    Hs256.token(&Header::empty(), &claims, &Hs256Key::new(secret)).expect("signed")
}

#[actix_rt::test]
async fn callers_must_authenticate() {
    let world = World::of_ann_and_bob().await;
    for path in ["/api/v1/uploads/batches", "/api/v1/events", "/api/v1/dump", "/metrics", "/api/v1/nowhere"] {
        for token in [None, Some("bob-kez"), Some("ann-key2"), Some("a.b.c")] {
            let response = ask(&world, token, Method::GET, path).await;
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path} {token:?}");
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let body: Value = response.json().await.expect("JSON");
            assert_eq!(body["type"], "unauthorized");
            assert!(!text(&body["detail"]).contains(token.unwrap_or("bob-kez")), "the token is not repeated");
        }
    }
    for path in ["/", "/app.js", "/health", "/ready", "/openapi.json"] {
        assert_eq!(status(&world, None, path).await, 200, "{path}");
    }
    let basic = world.client.get(world.url("/api/v1/status")).basic_auth("ann", Some("ann-key"));
    assert_eq!(basic.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    assert_eq!(world.get_json("/api/v1/status").await["user_id"], "ann");
    // With authentication, any `Host` is accepted.
    let named = world.request(Method::GET, "/api/v1/status").header(header::HOST, "photos.example");
    assert_eq!(named.send().await.expect("an answer").status(), StatusCode::OK);
    let foreign = world.request(Method::GET, "/api/v1/status").header(header::ORIGIN, "https://evil.example");
    assert_eq!(foreign.send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
}

#[actix_rt::test]
async fn the_resources_of_another_owner_are_hidden() {
    let world = World::of_ann_and_bob().await;
    let (batch, uploads) = world.submit(&["secret"]).await;
    world.ended(&batch).await;
    let upload = &uploads[0];
    let (batch, upload) = (format!("/api/v1/uploads/batches/{batch}"), format!("/api/v1/uploads/{upload}"));
    let mut questions = vec![(Method::DELETE, upload.clone())];
    for path in ["", "/uploads"] {
        questions.push((Method::GET, format!("{batch}{path}")));
    }
    for path in ["", "/thumbnail", "/original"] {
        questions.push((Method::GET, format!("{upload}{path}")));
    }
    for verb in ["cancel", "pause", "resume", "retry"] {
        questions.push((Method::POST, format!("{batch}/{verb}")));
    }
    for (method, path) in questions {
        let theirs = ask(&world, Some("bob-key"), method.clone(), &path).await;
        assert_eq!(theirs.status(), StatusCode::NOT_FOUND, "{method} {path}");
        let theirs: Value = theirs.json().await.expect("JSON");
        let nobodys = path.replace(&path[path.len() - 20..], "000000000000");
        assert_eq!(theirs["type"], "not_found", "{nobodys}");
    }
    let list = ask(&world, Some("bob-key"), Method::GET, "/api/v1/uploads/batches").await;
    assert_eq!(list.json::<Value>().await.expect("JSON"), json!([]));
    let found = ask(&world, Some("bob-key"), Method::GET, "/api/v1/search?q=secret").await;
    assert_eq!(found.json::<Value>().await.expect("JSON"), json!([]));
    let events = ask(&world, Some("bob-key"), Method::GET, "/api/v1/events?after_seq=0").await;
    let mut reply = String::new();
    let mut events = events;
    while let Ok(Ok(Some(piece))) = tokio::time::timeout(Duration::from_millis(300), events.chunk()).await {
        reply.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(reply.contains("resumed") && !reply.contains("batch_progress"), "{reply}");
    assert_eq!(status(&world, Some("ann-key"), &format!("{upload}/original")).await, 200);
}

#[actix_rt::test]
async fn dump_and_metrics_are_for_administrators() {
    let world = World::of_ann_and_bob().await;
    for path in ["/api/v1/dump", "/metrics"] {
        assert_eq!(status(&world, Some("ann-key"), path).await, 200);
        assert_eq!(status(&world, Some("bob-key"), path).await, 403);
    }
}

#[actix_rt::test]
async fn signed_tokens_are_valid_until_they_expire() {
    let world = World::with(|config| config.auth.jwt_secret_env = SECRET_ENV.into()).await;
    let who = async |token: &str| {
        let answer = ask(&world, Some(token), Method::GET, "/api/v1/status").await;
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let (status, reply) = who(&signed(json!({"sub": "cleo"}), 60, SECRET)).await;
    assert_eq!((status, &reply["user_id"], &reply["administrator"]), (200, &json!("cleo"), &json!(false)));
    let (status, reply) = who(&signed(json!({"sub": "dan", "role": "admin"}), 60, SECRET)).await;
    assert_eq!((status, &reply["administrator"]), (200, &json!(true)));

    let endless = Hs256.token(&Header::empty(), &Claims::new(json!({"sub": "cleo"})), &Hs256Key::new(SECRET));
    let mut early = Claims::new(json!({"sub": "cleo"}));
    early.expiration = Some(Utc::now() + TimeDelta::hours(3));
    early.not_before = Some(Utc::now() + TimeDelta::hours(2));
    let early = Hs256.token(&Header::empty(), &early, &Hs256Key::new(SECRET)).expect("signed");
    let mut other = Claims::new(json!({"sub": "cleo"}));
    other.expiration = Some(Utc::now() + TimeDelta::hours(1));
    let other = Hs384.token(&Header::empty(), &other, &Hs384Key::new(SECRET)).expect("signed");
    let mut critical = Claims::new(json!({"sub": "cleo"}));
    critical.expiration = Some(Utc::now() + TimeDelta::hours(1));
    let extension = Header::new(json!({"crit": ["urn:example:bound"], "urn:example:bound": true}));
    let critical = Hs256.token(&extension, &critical, &Hs256Key::new(SECRET));
    let good = signed(json!({"sub": "cleo"}), 60, SECRET);
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let (_, payload) = head.split_once('.').expect("three parts");
    // {"alg":"none"}
    let none = format!("eyJhbGciOiJub25lIn0.{payload}.");
    let swapped = signed(json!({"sub": "ann"}), 60, SECRET);
    let swapped = format!("{}.{signature}", swapped.rsplit_once('.').expect("three parts").0);
    for token in [
        signed(json!({"sub": "cleo"}), -5, SECRET),
        signed(json!({"sub": "cleo"}), 60, "another secret of more than 32 bytes"),
        signed(json!({"sub": ""}), 60, SECRET),
        signed(json!({"sub": "a\nb"}), 60, SECRET),
        signed(json!({"role": "admin"}), 60, SECRET),
        endless.expect("signed"),
        early,
        other,
        critical.expect("signed"),
        none,
        swapped,
    ] {
        assert_eq!(who(&token).await.0, 401, "{token}");
    }
}

#[actix_rt::test]
async fn sockets_and_streams_end_when_the_token_expires() {
    let world = World::with(|config| config.auth.jwt_secret_env = SECRET_ENV.into()).await;
    let token = signed(json!({"sub": "cleo"}), 2, SECRET);
    let mut stream = ask(&world, Some(&token), Method::GET, "/api/v1/events").await;
    let url = world.url("/api/ws/uploads").replace("http", "ws");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a socket");
    let first = json!({"type": "auth", "token": token}).to_string();
    socket.send(tungstenite::Message::text(first)).await.expect("sent");
    let mut reply = Vec::new();
    let ends = async {
        while let Some(Ok(message)) = socket.next().await {
            reply.push(message);
        }
        while stream.chunk().await.expect("in good order").is_some() {}
    };
    tokio::time::timeout(support::PATIENCE, ends).await.expect("they end");
    let [success, error, tungstenite::Message::Close(Some(close))] = reply.as_slice() else {
        unreachable!("{reply:?}")
    };
    assert!(success.to_text().is_ok_and(|it| it.contains("auth_success")), "{reply:?}");
    assert!(error.to_text().is_ok_and(|it| it.contains("auth_error") && it.contains("expired")), "{reply:?}");
    assert_eq!(u16::from(close.code), 4003);
    assert_eq!(status(&world, Some(&token), "/api/v1/status").await, 401);
}

#[actix_rt::test]
async fn the_queue_of_all_owners_is_for_administrators() {
    let world = World::of_ann_and_bob().await;
    for (token, reply) in [("ann-key", json!(0)), ("bob-key", json!(null))] {
        let answer: Value =
            ask(&world, Some(token), Method::GET, "/api/v1/status").await.json().await.expect("JSON");
        assert_eq!((&answer["waiting_uploads"], &answer["active_uploads"]), (&reply, &reply));
    }
}

#[actix_rt::test]
async fn a_short_or_missing_secret_stops_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    // Cargo sets it to `mediamill`.
    for name in ["CARGO_PKG_NAME", "MEDIAMILL_NO_SUCH_VARIABLE"] {
        let mut config = mediamill::Config::default();
        config.engine.store.data_dir = folder.path().into();
        config.auth.jwt_secret_env = name.into();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let refused = mediamill::run(config, listener).await.err().expect("refused");
        assert!(refused.contains("auth.jwt_secret_env") && refused.contains(name), "{refused}");
        assert!(!refused.contains("mediamill\""), "{refused}");
    }
}

#[actix_rt::test]
async fn a_browser_signs_in_and_out_and_its_session_survives_a_restart() {
    let mut world = World::of_ann_and_bob().await;
    let (batch, uploads) = world.submit(&["a"]).await;
    world.ended(&batch).await;
    world.token = None;
    let picture = format!("/api/v1/uploads/{}/thumbnail", uploads[0]);
    let signed_in = ask(&world, Some("ann-key"), Method::POST, "/api/v1/session").await;
    assert_eq!(signed_in.status(), StatusCode::NO_CONTENT);
    let set = signed_in.headers()[header::SET_COOKIE].to_str().expect("text").to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("ann-key") && !set.contains("Secure"), "{set}");
    let cookie = set.split(';').next().expect("a cookie").to_owned();
    let with = async |world: &World, cookie: &str, method: Method, path: &str| {
        let request = world.client.request(method, world.url(path)).header(header::COOKIE, cookie);
        request.send().await.expect("an answer").status().as_u16()
    };
    assert_eq!(with(&world, &cookie, Method::GET, &picture).await, 200);
    assert_eq!(with(&world, &cookie, Method::GET, "/api/v1/dump").await, 200, "it is an administrator's");
    let damaged = format!("{}x", &cookie[..cookie.len() - 1]);
    assert_eq!(with(&world, &damaged, Method::GET, &picture).await, 401);
    // A session is not a token, and a token is not a session.
    let value = cookie.split_once('=').expect("a value").1;
    assert_eq!(status(&world, Some(value), &picture).await, 401);
    assert_eq!(with(&world, "mediamill_session=ann-key", Method::GET, &picture).await, 401);
    // A request with the cookie from a page of another origin.
    let forged = world.client.post(world.url(&format!("/api/v1/uploads/batches/{batch}/cancel")));
    let forged = forged.header(header::COOKIE, &cookie).header(header::ORIGIN, "http://127.0.0.1:1");
    assert_eq!(forged.send().await.expect("an answer").status(), StatusCode::FORBIDDEN);

    let mut world = world.restart().await;
    assert_eq!(with(&world, &cookie, Method::GET, &picture).await, 200);
    // Ann's key is revoked.
    world.config.auth.keys.remove(0);
    let world = world.restart().await;
    assert_eq!(with(&world, &cookie, Method::GET, &picture).await, 401);

    // Signing out ends the session itself, also after a restart, and no other one.
    let cookies = async |world: &World| {
        let signed_in = ask(world, Some("bob-key"), Method::POST, "/api/v1/session").await;
        let set = signed_in.headers()[header::SET_COOKIE].to_str().expect("text").to_owned();
        set.split(';').next().expect("a cookie").to_owned()
    };
    let (one, two) = (cookies(&world).await, cookies(&world).await);
    let statuses = async |world: &World| {
        [
            with(world, &one, Method::GET, "/api/v1/status").await,
            with(world, &two, Method::GET, "/api/v1/status").await,
        ]
    };
    assert_eq!(statuses(&world).await, [200, 200]);
    assert_eq!(with(&world, &one, Method::DELETE, "/api/v1/session").await, 204);
    assert_eq!(statuses(&world).await, [401, 200]);
    let world = world.restart().await;
    assert_eq!(statuses(&world).await, [401, 200]);

    let out = ask(&world, Some("bob-key"), Method::DELETE, "/api/v1/session").await;
    assert!(out.headers()[header::SET_COOKIE].to_str().expect("text").contains("Max-Age=0"));
    let secure = world.client.post(world.url("/api/v1/session")).bearer_auth("bob-key");
    let secure = secure.header("x-forwarded-proto", "https").send().await.expect("an answer");
    assert!(secure.headers()[header::SET_COOKIE].to_str().expect("text").contains("Secure"));
}
