//! Data folders that older versions recorded, and an engine on them that tests use by messages
//! only.
#![allow(unreachable_pub, reason = "as in the other files of support")]

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use mediamill_actors::{
    analysis::Provider,
    batch_supervisor::BatchSupervisor,
    config::Config,
    error::Error,
    id::{BatchId, Owner, UploadId},
    pipeline::{self, Options, Pipeline, StartError, Stopped},
    private,
    query_service::{DumpStore, GetBatch, GetUpload, QueryService},
    store::Clock,
    upload::Upload,
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Every format up to the present one.
pub const FORMATS: [u32; 4] = [1, 2, 3, 4];

/// A paused clock that starts after the recordings, which were made in the first hours of 2026.
pub async fn a_day_later() -> Clock {
    tokio::time::pause();
    let start = Instant::now();
    tokio::time::advance(Duration::from_secs(86_400)).await;
    Clock::Tokio { start }
}

/// An unpacked recording: a data folder, and the dump that its version made of it.
pub struct Recording {
    folder: tempfile::TempDir,
    clock: Clock,
    pub dump: Vec<Value>,
}

impl Recording {
    pub fn of(format: u32, clock: Clock) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stores");
        let archive = File::open(fixtures.join(format!("format-{format}.tar.gz"))).expect("a recording");
        tar::Archive::new(flate2::read::GzDecoder::new(archive)).unpack(folder.path()).expect("unpacked");
        // Older versions left it open to other users.
        let data_dir = folder.path().join("data");
        private::close(&data_dir).expect("closed");
        let dump = lines(&std::fs::read(folder.path().join("dump.jsonl")).expect("a dump"));
        Self { folder, clock, dump }
    }

    pub fn config(&self) -> Config {
        config(&self.folder.path().join("data"))
    }

    /// The dump that the older version wrote.
    pub fn dump_file(&self) -> PathBuf {
        self.folder.path().join("dump.jsonl")
    }

    /// Where a file of the folder `/photos` is now.
    pub fn photo(&self, path: &str) -> PathBuf {
        self.folder.path().join("photos").join(path)
    }

    /// Starts an engine on the folder.
    pub async fn start(&self, provider: Arc<impl Provider>) -> Engine {
        Engine::start(self.config(), self.clock, provider).await.expect("it opens")
    }

    /// The entries of a tree.
    pub fn tree(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.dump.iter().filter(move |it| it["tree"] == name)
    }

    /// The values of a tree.
    pub fn values(&self, tree: &str) -> impl Iterator<Item = &Value> {
        self.tree(tree).map(|it| &it["value"])
    }

    /// The record of the newest upload of this name.
    pub fn upload(&self, file_name: &str) -> &Value {
        let named = self.values("uploads").filter(|it| it["file_name"] == file_name);
        named.max_by_key(|it| text(&it["created_at"])).expect("an upload of this name")
    }

    /// The entry of an upload in the tree `active`.
    pub fn in_flight(&self, upload: &Value) -> Option<&Value> {
        self.tree("active").find(|it| it["key"] == upload["id"]).map(|it| &it["value"])
    }

    pub fn is_paused(&self, upload: &Value) -> bool {
        self.values("batches").any(|it| it["id"] == upload["batch_id"] && !it["paused_at"].is_null())
    }
}

/// The faults that a verification finds in a store. Only this does without messages.
pub async fn faults(config: &Config, clock: Clock) -> Vec<String> {
    let store = pipeline::open(config, clock).await.expect("it opens");
    let found = store.queries().verify().await.expect("it can be read");
    store.close().await;
    found.faults
}

/// Fills the empty store of a configuration with a dump.
pub async fn restore(config: &Config, clock: Clock, dump: &Path) {
    let store = pipeline::open(config, clock).await.expect("it opens");
    let dump = std::io::BufReader::new(File::open(dump).expect("there"));
    store.restore(dump).expect("restored");
    store.close().await;
}

/// A running engine.
pub struct Engine(pub Pipeline);

impl Engine {
    pub async fn start(
        config: Config,
        clock: Clock,
        provider: Arc<impl Provider>,
    ) -> Result<Self, StartError> {
        let options = Options { clock, provider: Some(provider), ..Options::default() };
        Pipeline::start_with(config, options).await.map(Self)
    }

    pub async fn stop(self) {
        assert_eq!(self.0.stop(Duration::ZERO).await, Stopped::Drained);
    }

    pub async fn ask<M, T>(&self, question: M) -> T
    where
        M: Message<Result = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
        QueryService: Handler<M>,
    {
        self.0.query_service.send(question).await.expect("the query service is alive").expect("an answer")
    }

    pub async fn tell<M, T>(&self, command: M) -> T
    where
        M: Message<Result = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
        BatchSupervisor: Handler<M>,
    {
        self.0.supervisor.send(command).await.expect("the supervisor is alive").expect("done")
    }

    /// The present record of a recorded upload.
    pub async fn upload(&self, recorded: &Value) -> Upload {
        self.ask(GetUpload { owner: owner(&recorded["owner"]), upload: upload_id(&recorded["id"]) }).await
    }

    pub async fn dump(&self) -> Vec<Value> {
        lines(&self.ask(DumpStore(Vec::new())).await)
    }

    /// Waits until a batch has ended.
    pub async fn ended(&self, owner: &Owner, batch: BatchId) {
        let get = || GetBatch { owner: owner.clone(), batch };
        while !self.ask(get()).await.status.is_terminal() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub fn config(data_dir: &Path) -> Config {
    let mut config = Config::default();
    config.store.data_dir = data_dir.to_owned();
    config.store.cache_mb = 8;
    config.limits.min_free_disk_mb = 0;
    config
}

fn lines(dump: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(dump).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

pub fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

pub fn owner(value: &Value) -> Owner {
    Owner::new(text(value)).expect("an owner")
}

pub fn upload_id(value: &Value) -> UploadId {
    text(value).parse().expect("an id")
}

pub fn batch_id(value: &Value) -> BatchId {
    text(value).parse().expect("an id")
}

/// A record as the recorded versions wrote it: formats 1 to 3 say `run` for a round, and have
/// other names for files.
pub fn as_recorded(record: &impl serde::Serialize) -> Value {
    older(serde_json::to_value(record).expect("JSON"))
}

/// The form of a record in the formats 1 to 3. A record of these formats stays as it is.
fn older(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (String, Value)| match (key.as_str(), value) {
                ("round", value) => ("run".to_owned(), value),
                ("ended_round", value) => ("ended_run".to_owned(), value),
                ("file", Value::Object(file)) if file.contains_key("managed") => (key, "stored".into()),
                ("in_place", Value::Object(place)) if place.contains_key("path") => {
                    (key, place["path"].clone())
                }
                (_, value) => (key, older(value)),
            };
            Value::Object(fields.into_iter().map(field).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(older).collect()),
        other => other,
    }
}

/// Asserts that the present value contains the recorded one. Additions of newer versions do not
/// matter.
pub fn assert_kept(recorded: &Value, now: &Value, at: &str) {
    match (&older(recorded.clone()), &older(now.clone())) {
        (Value::Object(recorded), Value::Object(now)) => {
            for (key, value) in recorded {
                assert_kept(value, now.get(key).unwrap_or(&Value::Null), &format!("{at}/{key}"));
            }
        }
        (Value::Array(recorded), Value::Array(now)) if recorded.len() == now.len() => {
            for (n, (recorded, now)) in recorded.iter().zip(now).enumerate() {
                assert_kept(recorded, now, &format!("{at}/{n}"));
            }
        }
        _ => assert_eq!(now, recorded, "{at}"),
    }
}

/// The record of an upload after its attempt was ended as interrupted, without the time.
pub fn interrupted(upload: &Value, in_flight: &Value) -> Value {
    let mut upload = upload.clone();
    let attempts = upload["attempts"].as_array_mut().expect("attempts");
    // From format 2 on, the beginning of an attempt is written to the tree `active` alone.
    if attempts.last().is_none_or(|it| it["number"] != in_flight["attempt"]) {
        attempts.push(json!({ "number": in_flight["attempt"], "started_at": in_flight["began_at"] }));
    }
    attempts.last_mut().expect("an attempt")["outcome"] = json!("interrupted");
    upload["attempt"] = in_flight["attempt"].clone();
    upload["status"] = json!("pending");
    upload["stage"] = json!("queued");
    upload["suspect"] = json!(true);
    upload.as_object_mut().expect("a record").remove("updated_at");
    upload
}

/// Asserts that all recorded events are in the log, and that later numbers of each owner follow
/// without a gap. Answers with the added events.
pub fn assert_log_goes_on(recorded: &[Value], now: &[Value]) -> Vec<Value> {
    let (recorded, mut now) = (events(recorded), events(now));
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for (owner, seq) in now.keys() {
        let next = next.entry(owner).or_insert(1);
        assert_eq!(seq, next, "the events of {owner}");
        *next += 1;
    }
    for (key, event) in &recorded {
        assert_kept(event, &now.remove(key).unwrap_or_default(), &format!("{key:?}"));
    }
    now.into_values().collect()
}

/// The events of a dump by owner and number, without their numbers among all changes of the store.
fn events(dump: &[Value]) -> BTreeMap<(String, u64), Value> {
    let event = |line: &Value| {
        let (owner, seq) = text(&line["key"]).rsplit_once('/').expect("an owner and a number");
        let mut event = line["value"].clone();
        event.as_object_mut().expect("an event").remove("change");
        ((owner.to_owned(), seq.parse().expect("a number")), event)
    };
    dump.iter().filter(|it| it["tree"] == "events").map(event).collect()
}
