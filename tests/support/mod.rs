//! The world of a test: a running server with a folder of its own and a scripted provider.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

#[path = "../../actors/tests/support/scripted.rs"]
pub mod scripted;

use std::{net::TcpListener, sync::Arc, time::Duration};

use mediamill::{
    Config, Server,
    config::Key,
    engine::{analysis::Provider, files, id::Owner, pipeline::Options},
    run_with,
};
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    multipart::{Form, Part},
};
use serde_json::Value;

use self::scripted::Scripted;

/// A client for plain HTTP. reqwest asks for a cryptography provider even so.
pub fn client() -> Client {
    // Fails in the second test of a process, which is fine.
    let _ = rustls_graviola::default_provider().install_default();
    Client::new()
}

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub folder: tempfile::TempDir,
    pub config: Config,
    pub server: Server,
    pub provider: Arc<Scripted>,
    pub client: Client,
    /// The token of the caller.
    pub token: Option<String>,
}

impl World {
    /// A server without authentication.
    pub async fn open() -> Self {
        Self::with(|_| {}).await
    }

    /// A server with another configuration.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.engine.store.data_dir = folder.path().join("data");
        config.engine.store.cache_mb = 8;
        config.engine.limits.min_free_disk_mb = 0;
        change(&mut config);
        let provider = Arc::new(Scripted::default());
        let server = start(&config, &provider, "127.0.0.1:0").await;
        Self { folder, config, server, provider, client: client(), token: None }
    }

    /// A server with the keys `ann-key` of an administrator, and `bob-key`. Ann is the caller.
    pub async fn of_ann_and_bob() -> Self {
        let mut world = Self::with(keys).await;
        world.token = Some("ann-key".into());
        world
    }

    /// Restarts the server with the same folder and address.
    pub async fn restart(self) -> Self {
        let Self { folder, config, server, provider, client, token } = self;
        let address = server.address().to_string();
        server.stop(Duration::ZERO).await;
        let server = start(&config, &provider, &address).await;
        Self { folder, config, server, provider, client, token }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, self.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("an answer")
    }

    pub async fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.expect("JSON")
    }

    pub async fn post(&self, path: &str) -> Response {
        self.request(Method::POST, path).send().await.expect("an answer")
    }

    /// Uploads files.
    pub async fn send(&self, files: Vec<(&str, Vec<u8>)>) -> Response {
        let form = files.into_iter().fold(Form::new(), |form, (name, bytes)| {
            form.part("files", Part::bytes(bytes).file_name(name.to_owned()))
        });
        self.request(Method::POST, "/api/v1/uploads/bulk").multipart(form).send().await.expect("an answer")
    }

    /// Uploads pictures with these names as one batch. Returns the ids of the batch and of the uploads.
    pub async fn submit(&self, names: &[&str]) -> (String, Vec<String>) {
        let response = self.send(names.iter().map(|name| (*name, picture(name))).collect()).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let submitted: Value = response.json().await.expect("JSON");
        let ids = submitted["upload_ids"].as_array().expect("a list");
        (text(&submitted["batch_id"]), ids.iter().map(text).collect())
    }

    /// Waits until a batch has ended.
    pub async fn ended(&self, batch: &str) -> Value {
        self.batch_when(batch, |it| it["status"] != "pending" && it["status"] != "processing").await
    }

    /// Waits until a batch matches.
    pub async fn batch_when(&self, batch: &str, so: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let batch = self.get_json(&format!("/api/v1/uploads/batches/{batch}")).await;
                if so(&batch) {
                    return batch;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it matches in time")
    }
}

/// Keys for `ann`, an administrator, and `bob`.
pub fn keys(config: &mut Config) {
    let key = |name: &str, admin| Key {
        owner: Owner::new(name).expect("a name"),
        sha256: files::hash(format!("{name}-key").as_bytes()),
        admin,
    };
    config.auth.keys = vec![key("ann", true), key("bob", false)];
}

async fn start(config: &Config, provider: &Arc<Scripted>, at: &str) -> Server {
    let provider = Some(Arc::clone(provider) as Arc<dyn Provider>);
    let listener = TcpListener::bind(at).expect("a port");
    run_with(config.clone(), listener, Options { provider, ..Options::default() }).await.expect("it starts")
}

/// A small picture that depends on the name; its pixels are damaged if the name begins with `broken`.
pub fn picture(name: &str) -> Vec<u8> {
    let seed = name.bytes().fold(7_u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let [r, g, b, _] = seed.to_le_bytes();
    let picture = image::RgbImage::from_fn(300, 200, |x, y| {
        image::Rgb([(x as u8).wrapping_mul(3) ^ r, (y as u8).wrapping_mul(2) ^ g, b])
    });
    let mut png = Vec::new();
    picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).expect("encoded");
    if name.starts_with("broken") {
        let (from, to) = (png.len() / 4, png.len() - 20);
        png[from..to].fill(0xff);
    }
    png
}

/// The text of a JSON string.
pub fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
