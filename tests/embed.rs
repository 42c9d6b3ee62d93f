//! The example `embed`, run as a program.
#![cfg(unix)]

mod support;

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{
    Client, Method, StatusCode,
    multipart::{Form, Part},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use self::support::{PATIENCE, picture, text};

struct Host {
    process: Child,
    address: String,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Host {
    fn start() -> Self {
        let build = Command::new(env!("CARGO")).args(["build", "--quiet", "--example", "embed"]).status();
        assert!(build.expect("cargo runs").success());
        let program: PathBuf =
            std::env::current_exe().expect("a path").parent().expect("deps").join("../examples/embed");
        let folder = tempfile::tempdir().expect("a folder");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
        let process = Command::new(program)
            .arg(folder.path())
            .arg(free.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs");
        Self { process, address: free.to_string(), client: support::client(), _folder: folder }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn ask(&self, user: Option<&str>, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, self.url(path));
        match user {
            Some(user) => request.header("x-user", user),
            None => request,
        }
    }

    async fn json(&self, user: &str, path: &str) -> Value {
        let response = self.ask(Some(user), Method::GET, path).send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.expect("JSON")
    }

    /// Status and text of a page of the host's own.
    async fn page(&self, path: &str) -> (u16, String) {
        let response = self.client.get(self.url(path)).send().await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("text"))
    }

    async fn status(&self, user: Option<&str>, path: &str) -> u16 {
        self.ask(user, Method::GET, path).send().await.expect("an answer").status().as_u16()
    }
}

#[test]
fn a_host_has_its_own_pages_and_authentication_and_shuts_down_gracefully() {
    // Started outside of the system, so that the process is killed even if the test panics.
    for signal in [Signal::INT, Signal::TERM] {
        let mut host = Host::start();
        actix_rt::System::new().block_on(drive(&mut host, signal));
    }
}

async fn drive(host: &mut Host, signal: Signal) {
    let there = async {
        while host.client.get(host.url("/")).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("it listens");
    let page = host.client.get(host.url("/")).send().await.expect("an answer");
    assert!(page.text().await.expect("text").contains("the host's own page"));
    let unknown = host.ask(None, Method::GET, "/media/v1/uploads/batches").send().await.expect("an answer");
    assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
    let unknown: Value = unknown.json().await.expect("JSON");
    assert_eq!(unknown["detail"], "sign in with your account of this site");
    assert_eq!(unknown["sign_in"], "/sign-in");
    assert_eq!(host.status(Some("ann"), "/media/v1/dump").await, 403);
    assert_eq!(host.status(Some("root"), "/media/v1/dump").await, 200);

    let url = format!("ws://{}/media/ws/uploads", host.address);
    let mut request = url.into_client_request().expect("a request");
    request.headers_mut().insert("x-user", "ann".parse().expect("a value"));
    let (mut socket, _) = connect_async(request).await.expect("a socket");
    socket.send(Message::text(r#"{"type":"auth","token":"whatever"}"#)).await.expect("sent");
    let mut next = async || {
        loop {
            match tokio::time::timeout(PATIENCE, socket.next())
                .await
                .expect("in time")
                .expect("open")
                .expect("sound")
            {
                Message::Text(text) => return Ok(serde_json::from_str::<Value>(&text).expect("JSON")),
                Message::Close(frame) => return Err(frame.map(|it| u16::from(it.code))),
                _ => {}
            }
        }
    };
    assert_eq!(next().await, Ok(json!({"action": "auth_success", "user_id": "ann"})));

    let form = Form::new().part("files", Part::bytes(picture("a")).file_name("a.png"));
    let sent = host.ask(Some("ann"), Method::POST, "/media/v1/uploads/bulk").multipart(form).send().await;
    let submitted: Value = sent.expect("an answer").json().await.expect("JSON");
    assert_eq!(submitted["queued"], 1);
    loop {
        let message = next().await.expect("open");
        if message["action"] == "batch_progress" && message["payload"]["status"] == "completed" {
            break;
        }
    }
    let upload = format!("/media/v1/uploads/{}", text(&submitted["upload_ids"][0]));
    let record = host.json("ann", &upload).await;
    assert_eq!(record["thumbnail_path"], format!("{upload}/thumbnail"));
    assert_eq!(host.status(Some("ann"), &text(&record["thumbnail_path"])).await, 200);
    assert_eq!(host.page("/batches/ann").await, (200, "1 batches\n".into()));
    let (status, description) = host.page(&format!("/descriptions/ann/{}", text(&record["id"]))).await;
    assert_eq!((status, description), (200, text(&record["description"])));
    let missing = (404, r#"{"detail":"there is no such upload","type":"not_found"}"#.to_owned());
    assert_eq!(host.page(&format!("/descriptions/bob/{}", text(&record["id"]))).await, missing);
    assert_eq!(host.page("/batches/%01").await.0, 422);
    for path in ["", "/thumbnail", "/original"] {
        assert_eq!(host.status(Some("bob"), &format!("{upload}{path}")).await, 404);
    }

    kill_process(Pid::from_child(&host.process), signal).expect("sent");
    assert_eq!(next().await, Err(Some(1012)));
    let ended = async {
        loop {
            if let Some(status) = host.process.try_wait().expect("a child") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
    assert!(status.success(), "{signal:?}: {status}");
}
