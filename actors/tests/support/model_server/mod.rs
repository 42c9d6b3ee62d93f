//! A scripted model server: it has the interfaces of Ollama and OpenAI on a real socket, refuses what real
//! servers refuse, and fails in their ways. `examples/scripted_server.rs` runs it alone.

mod connection;
mod ollama;
mod openai;
mod script;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use self::connection::{Body, Connection, Reply, Request};
pub(crate) use self::script::{Fault, Script};

/// The text of a valid answer.
pub(crate) const TEXT: &str =
    "A red disc stands on a white ground. Its edge is clean, and there is nothing else in the picture.";

/// A running server. Dropping it ends the server and all its connections.
pub(crate) struct ModelServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    script: Mutex<Script>,
    /// Every request except to `/script` and `/requests`: method, path, key, body.
    requests: Mutex<Vec<Value>>,
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[allow(dead_code, reason = "each program with this module uses another part of it")]
impl ModelServer {
    /// Starts on a free port.
    pub(crate) async fn start(script: Script) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script).await
    }

    /// Starts at an address, for example that of a stopped server.
    pub(crate) async fn start_at(address: SocketAddr, script: Script) -> Self {
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { script: Mutex::new(script), requests: Mutex::default() });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// Ends it like a crash, and returns the address, where nothing listens any more.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.address
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes the script.
    pub(crate) fn follow(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.shared.script.lock());
    }

    /// The bodies of the requests to a path, oldest first.
    pub(crate) fn sent_to(&self, path: &str) -> Vec<Value> {
        let requests = self.shared.requests.lock();
        requests.iter().filter(|it| it["path"] == path).map(|it| it["body"].clone()).collect()
    }

    /// Waits until the server ends.
    pub(crate) async fn ended(&mut self) {
        let _ = (&mut self.task).await;
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // They end with this task, like the connections of a killed process.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connected(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connected(stream: TcpStream, shared: Arc<Shared>) {
    let mut connection = Connection::new(stream);
    while let Ok(Some(request)) = connection.request().await {
        let reply = match request.path.as_str() {
            "/script" => {
                match serde_json::from_value(request.body) {
                    Ok(script) => *shared.script.lock() = script,
                    Err(error) => {
                        let reply = Reply::json(400, json!({ "error": error.to_string() }));
                        let _ = connection.send(reply).await;
                        continue;
                    }
                }
                shared.requests.lock().clear();
                Reply::json(200, json!({}))
            }
            "/requests" => Reply::json(200, json!(*shared.requests.lock())),
            _ => {
                shared.requests.lock().push(json!({
                    "method": request.method, "path": request.path, "key": request.key, "body": request.body,
                }));
                let script = shared.script.lock().clone();
                answer(&request, &script).await
            }
        };
        if !connection.send(reply).await {
            return;
        }
    }
}

/// The scripted response to a request.
async fn answer(request: &Request, script: &Script) -> Reply {
    let speaks_openai = request.path.starts_with("/v1/");
    if script.loading && request.path != "/v1/models" {
        let error = json!({ "code": 503, "message": "Loading model", "type": "unavailable_error" });
        return Reply::json(503, json!({ "error": error }));
    }
    if script.llama_cpp && request.path == "/health" {
        return Reply::json(200, json!({ "status": "ok" }));
    }
    if script.llama_cpp && request.path == "/props" {
        return openai::props(script);
    }
    let fault = script.fault(&request.path);
    if let Some(fault) = fault
        && let Some(reply) = broken(fault, request, speaks_openai).await
    {
        return reply;
    }
    if script.key.is_some() && request.key != script.key && request.path != "/v1/models" {
        return if speaks_openai {
            openai::wrong_key(request)
        } else {
            Reply::json(401, json!({ "error": "unauthorized" }))
        };
    }
    tokio::time::sleep(Duration::from_millis(script.delay_ms)).await;
    let mut reply = if speaks_openai {
        openai::answer(request, script, fault)
    } else {
        ollama::answer(request, script, fault)
    };
    if let Some(Fault::Cut) = fault {
        reply.body.cut();
    } else if let Some(Fault::Drip { every_ms }) = fault {
        reply.pause = Duration::from_millis(*every_ms);
    }
    reply
}

/// The response for a fault that does not depend on the request.
async fn broken(fault: &Fault, request: &Request, speaks_openai: bool) -> Option<Reply> {
    match fault {
        Fault::Hang => std::future::pending().await,
        Fault::Page { status } => Some(page(*status)),
        Fault::Status { status, message, headers } => {
            let body = if speaks_openai {
                let (kind, param) = ("server_error", Value::Null);
                json!({ "error": { "message": message, "type": kind, "param": param, "code": status } })
            } else {
                json!({ "error": message })
            };
            let mut reply = Reply::json(*status, body);
            reply.headers.extend(headers.clone());
            Some(reply)
        }
        Fault::LargePicture { above_pixels } => {
            let large = is_large(request, *above_pixels);
            let message = "model runner has unexpectedly stopped, this may be due to resource limitations or \
                           an internal error, check ollama server logs for details";
            let openai = json!({ "error": { "code": 500, "message": message, "type": "server_error" } });
            large.then(|| Reply::json(500, if speaks_openai { openai } else { json!({ "error": message }) }))
        }
        Fault::Filter { above_pixels, status } => is_large(request, *above_pixels).then(|| page(*status)),
        Fault::Cut
        | Fault::Drip { .. }
        | Fault::Empty
        | Fault::Thinking
        | Fault::Repetition
        | Fault::Length
        | Fault::ErrorLine
        | Fault::Unfinished
        | Fault::Whole
        | Fault::NaN
        | Fault::LongText { .. }
        | Fault::Zeros
        | Fault::Dimensions(_)
        | Fault::Refuses(_)
        | Fault::Blind
        | Fault::Parts => None,
    }
}

fn page(status: u16) -> Reply {
    let text = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Welcome</h1></body></html>";
    Reply {
        status,
        headers: vec![("content-type".into(), "text/html; charset=utf-8".into())],
        body: Body::Whole(text.into()),
        pause: Duration::ZERO,
    }
}

fn is_large(request: &Request, above_pixels: u64) -> bool {
    pictures(&request.body).iter().any(|(width, height)| u64::from(width * height) > above_pixels)
}

/// Width and height of each picture in a request, in any form.
fn pictures(body: &Value) -> Vec<(u32, u32)> {
    fn find(value: &Value, found: &mut Vec<(u32, u32)>) {
        match value {
            Value::String(text) => {
                found.extend(picture(text.split_once(";base64,").map_or(text, |(_, data)| data)))
            }
            Value::Array(values) => values.iter().for_each(|it| find(it, found)),
            Value::Object(fields) => fields.values().for_each(|it| find(it, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    find(body, &mut found);
    found
}

/// Width and height of a picture in base64.
fn picture(data: &str) -> Option<(u32, u32)> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let bytes = BASE64_STANDARD.decode(data).ok()?;
    image::ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format().ok()?.into_dimensions().ok()
}

/// A vector of length 1 that depends on the text.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut seed = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |seed, byte| (seed ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let numbers: Vec<f64> = (0..dimensions)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as f64 / f64::from(1_u32 << 31) - 0.5
        })
        .collect();
    let length = numbers.iter().map(|it| it * it).sum::<f64>().sqrt();
    numbers.into_iter().map(|it| (it / length) as f32).collect()
}
