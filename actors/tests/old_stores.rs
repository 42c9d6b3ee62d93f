//! A store of every format opens, loses nothing and continues its work.
//!
//! The recordings are in `fixtures/stores`; `examples/record_store.rs` makes one of the present
//! format.

#[path = "support/recording.rs"]
mod recording;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use mediamill_actors::{
    analysis::{DescribeRequest, Described, Identity, Provider, ProviderError},
    batch_supervisor::{ResumeBatch, SubmitBatch},
    id::UploadId,
    intake::{Admission, Source},
    pipeline::StartError,
    publisher::{Subscribe, Uploads},
    query_service::{GetBatch, ListBatches, ListUploads, SearchUploads},
    store::{OpenError, Recovered},
    upload::{AttemptOutcome, FailureKind, FileKey, Status, Thumbnail, Upload},
    wire::Message,
};
use recording::{
    Engine, FORMATS, Recording, a_day_later, as_recorded, assert_kept, assert_log_goes_on, batch_id, config,
    faults, interrupted, owner, restore, text, upload_id,
};
use serde_json::{Value, json};
use support::{
    picture,
    relay::{self, Relay},
    scripted::Scripted,
};

/// The owners of the recorded uploads.
const OWNERS: [&str; 2] = ["anna", "haus/müller"];
/// Length of the vectors of [`Long`].
const LONG: usize = 2100;

/// Embeds as the second session of the recordings did.
#[derive(Default)]
struct Long(Scripted);

impl Provider for Long {
    fn identity(&self) -> Identity {
        Identity { embedding_model: "long".into(), dimensions: LONG as u32, ..self.0.identity() }
    }

    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        self.0.describe(request)
    }

    fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        Box::pin(async {
            let mut vector = self.0.embed(text).await?;
            vector.resize(LONG, 0.5);
            Ok(vector)
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.0.probe()
    }
}

/// Whether the bytes of a recorded upload were received.
fn is_managed(upload: &Value) -> bool {
    upload["file"] == "stored" || upload["file"].get("managed").is_some()
}

#[actix_rt::test]
async fn every_format_was_recorded_with_uploads_in_every_status() {
    let clock = a_day_later().await;
    let empty = tempfile::tempdir().expect("a folder");
    let engine = Engine::start(config(empty.path()), clock, Arc::<Scripted>::default()).await;
    let present = format_of(&engine.expect("it starts").dump().await);
    assert_eq!(present, json!(FORMATS.last()), "record a store of the present format");
    for format in FORMATS {
        let recording = Recording::of(format, clock);
        assert_eq!(format_of(&recording.dump), format);
        let any = |tree, so: fn(&Value) -> bool| recording.values(tree).any(|it| so(&as_recorded(it)));
        let is_long = |it: &&Value| it["description"]["text"].as_str().is_some_and(|it| it.len() > 8192);
        let long = || recording.values("uploads").filter(is_long);
        let situations = [
            ("a completed upload", any("uploads", |it| it["status"] == "completed")),
            ("a cancelled upload", any("uploads", |it| it["status"] == "cancelled")),
            ("an upload that failed twice", any("uploads", |it| it["failures"][1].is_object())),
            ("an upload that was retried", any("uploads", |it| it["history"][0].is_object())),
            ("an upload at two paths", any("uploads", |it| it["also_at"][0].is_string())),
            ("an upload that replaces another", any("uploads", |it| it["replaces"].is_string())),
            ("received bytes", any("uploads", is_managed)),
            ("a path that is not UTF-8", any("uploads", |it| it["file"]["in_place"]["hex"].is_string())),
            ("an embedding of a part", any("uploads", |it| it["embedding_changed"].is_string())),
            ("objects", any("uploads", |it| it["objects"][0].is_object())),
            ("a camera", any("uploads", |it| it["facts"]["camera"].is_string())),
            ("a long record", long().any(|it| it["status"] == "completed")),
            ("a long record in flight", long().any(|it| recording.in_flight(it).is_some())),
            ("an attempt that has given nothing", any("active", |it| it["stage"] == "extracting_frames")),
            ("an attempt that is described", any("active", |it| it["stage"] == "vision_analysis")),
            ("an attempt that is embedded", any("active", |it| it["stage"] == "embedding_generation")),
            ("a second attempt", any("active", |it| it["attempt"] == 2)),
            ("a refused file", any("batches", |it| it["refused"] == 1)),
            ("a paused batch", any("batches", |it| it["paused_at"].is_string())),
            ("a cancelled batch", any("batches", |it| it["cancelled_at"].is_string())),
            ("a second round", any("batches", |it| it["run"] == 2)),
            ("an upload that waits", recording.tree("work").count() > 2),
            ("files that are to be removed", recording.tree("removals").count() > 0),
            ("a long vector", recording.tree("embeddings").any(|it| text(&it["key"]).ends_with("/001"))),
            ("a handed back attempt", any("events", |it| it["what"] == "upload_handed_back")),
            ("an interrupted attempt", any("events", |it| it["what"] == "upload_interrupted")),
            ("an event of no batch", any("events", |it| it["what"] == "provider_changed")),
        ];
        for (what, there) in situations {
            assert!(there, "format {format} was recorded without {what}");
        }
        let owners: BTreeSet<&str> = recording.values("batches").map(|it| text(&it["owner"])).collect();
        assert_eq!(owners, BTreeSet::from(OWNERS));
    }
}

#[actix_rt::test]
async fn nothing_that_was_recorded_is_lost() {
    let clock = a_day_later().await;
    for format in FORMATS {
        let recording = Recording::of(format, clock);
        assert_eq!(faults(&recording.config(), clock).await, [""; 0], "format {format}");
        let engine = recording.start(away()).await;
        assert_all_is_there(&recording, &engine).await;
        engine.stop().await;
        assert_eq!(faults(&recording.config(), clock).await, [""; 0], "format {format}");
    }
}

#[actix_rt::test]
async fn a_dump_of_every_format_is_restored() {
    let clock = a_day_later().await;
    for format in FORMATS {
        let recording = Recording::of(format, clock);
        let empty = tempfile::tempdir().expect("a folder");
        let config = config(empty.path());
        restore(&config, clock, &recording.dump_file()).await;
        assert_eq!(faults(&config, clock).await, [""; 0], "format {format}");
        let engine = Engine::start(config, clock, away()).await.expect("it starts");
        assert_all_is_there(&recording, &engine).await;
    }
}

/// Asserts that an engine that has just started, with its provider away, has all recorded data.
async fn assert_all_is_there(recording: &Recording, engine: &Engine) {
    let (waiting, in_flight) = (recording.tree("work").count(), recording.tree("active").count());
    let recovered = Recovered { waiting: waiting + in_flight, interrupted: in_flight, resting: 0 };
    assert_eq!(engine.0.recovered, recovered);

    let mut of_batch: HashMap<&str, Vec<UploadId>> = HashMap::new();
    for recorded in recording.values("uploads") {
        let now = as_recorded(&engine.upload(recorded).await);
        let name = text(&recorded["file_name"]);
        match recording.in_flight(recorded) {
            Some(entry) => assert_kept(&interrupted(recorded, entry), &now, name),
            None => assert_kept(recorded, &now, name),
        }
        of_batch.entry(text(&recorded["batch_id"])).or_default().push(upload_id(&recorded["id"]));
    }
    let mut of_owner: BTreeMap<&str, Vec<(u64, &Value)>> = BTreeMap::new();
    for recorded in recording.values("batches") {
        let (owner, batch) = (owner(&recorded["owner"]), batch_id(&recorded["id"]));
        let view = engine.ask(GetBatch { owner: owner.clone(), batch }).await;
        let mut expected = recorded.clone();
        if !view.status.is_terminal() {
            expected["counts"]["active"] = json!(0);
            expected["pace"] = Value::Null;
        }
        assert_kept(&expected, &as_recorded(&view.batch), &batch.to_string());
        let listed = engine.ask(ListUploads { owner, batch, offset: 0, limit: 100 }).await;
        let listed: Vec<UploadId> = listed.iter().map(|it| it.id).collect();
        assert_eq!(listed, of_batch.remove(text(&recorded["id"])).unwrap_or_default());
        let number = recorded["number"].as_u64().expect("a number");
        of_owner.entry(text(&recorded["owner"])).or_default().push((number, &recorded["id"]));
    }
    for (name, mut expected) in of_owner {
        expected.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let list = ListBatches { owner: owner(&json!(name)), offset: 0, limit: 100 };
        let listed: Vec<Value> = engine.ask(list).await.iter().map(|it| json!(it.batch.id)).collect();
        assert_eq!(listed.iter().collect::<Vec<_>>(), expected.iter().map(|(_, id)| *id).collect::<Vec<_>>());
    }

    let dump = engine.dump().await;
    let mut added = assert_log_goes_on(&recording.dump, &dump);
    // The absence of the provider is an event of its own.
    added.retain(|it| it["what"] != "provider_changed");
    assert!(added.iter().all(|it| it["what"] == "upload_interrupted"), "{added:?}");
    assert_eq!(added.len(), in_flight);
    for line in &recording.dump {
        if ["embeddings", "hashes", "owner_batches", "places", "upload_ids"].contains(&text(&line["tree"])) {
            assert!(dump.contains(line), "{line}");
        }
    }
}

#[actix_rt::test]
async fn recorded_uploads_in_flight_or_waiting_continue() {
    let clock = a_day_later().await;
    for format in FORMATS {
        let recording = Recording::of(format, clock);
        let scripted = Arc::new(Scripted::default());
        let engine = recording.start(Arc::clone(&scripted)).await;
        let (paused, open): (Vec<_>, Vec<_>) =
            recording.values("batches").partition(|it| it["paused_at"].is_string());
        for batch in open {
            engine.ended(&owner(&batch["owner"]), batch_id(&batch["id"])).await;
        }
        for recorded in recording.values("uploads").filter(|it| recording.is_paused(it)) {
            assert_kept(recorded, &as_recorded(&engine.upload(recorded).await), "a paused upload");
        }
        for batch in paused {
            let (owner, batch) = (owner(&batch["owner"]), batch_id(&batch["id"]));
            engine.tell(ResumeBatch { owner: owner.clone(), batch }).await;
            engine.ended(&owner, batch).await;
        }
        for recorded in recording.values("uploads") {
            let now = engine.upload(recorded).await;
            match ["pending", "analyzing", "embedding"].contains(&text(&recorded["status"])) {
                true => assert_went_on(recorded, recording.in_flight(recorded), &now),
                false => assert_kept(recorded, &as_recorded(&now), &now.file_name),
            }
            let has_thumbnail = engine.0.files.local_path(&FileKey::thumbnail(now.id)).exists();
            assert_eq!(has_thumbnail, now.thumbnail == Thumbnail::Made, "{}", now.file_name);
        }
        let mut asked = scripted.asked();
        asked.sort();
        // Uploads with a description and uploads whose files are missing are not described.
        assert_eq!(asked, ["dach.png", "garage.png", "keller.png", "küche.png", "speicher.png"]);

        let dump = engine.dump().await;
        assert_log_goes_on(&recording.dump, &dump);
        for tree in ["active", "removals", "work"] {
            assert!(!dump.iter().any(|it| it["tree"] == tree), "{tree} is not empty");
        }
        for line in recording.tree("removals") {
            assert!(
                !engine.0.files.local_path(&FileKey::thumbnail(upload_id(&line["key"]))).exists(),
                "it was to be removed"
            );
        }
        assert_eq!(format_of(&dump), json!(FORMATS.last()));

        // A second start changes nothing.
        engine.stop().await;
        assert_eq!(faults(&recording.config(), clock).await, [""; 0], "format {format}");
        let engine = recording.start(Arc::new(Scripted::default())).await;
        assert_eq!(engine.0.recovered, Recovered::default());
        // Each start is a run of its own.
        let but_for_runs = |mut dump: Vec<Value>| {
            dump.retain(|it| it["tree"] != "runs" && it["tree"] != "dump");
            dump
        };
        assert!(but_for_runs(engine.dump().await) == but_for_runs(dump), "format {format}");
    }
}

/// Asserts that an upload that was unfinished has the right outcome.
fn assert_went_on(recorded: &Value, in_flight: Option<&Value>, now: &Upload) {
    let name = now.file_name.as_str();
    let before: Vec<AttemptOutcome> = in_flight.map_or_else(Vec::new, |entry| {
        let attempts = entry["attempt"].as_u64().expect("a number") as usize;
        [vec![AttemptOutcome::Failed; attempts - 1], vec![AttemptOutcome::Interrupted]].concat()
    });
    let described = recorded["description"].is_object();
    // The files in place do not exist here; an upload with a description no longer needs its
    // file.
    let (status, since) = match described || is_managed(recorded) {
        true => (Status::Completed, vec![AttemptOutcome::Completed]),
        false => (Status::Failed, vec![AttemptOutcome::Failed; 2]),
    };
    assert_eq!(now.status, status, "{name}");
    assert!(!now.suspect, "{name}");
    let outcomes: Vec<AttemptOutcome> = now.attempts.iter().filter_map(|it| it.outcome).collect();
    assert_eq!(outcomes, [before, since].concat(), "{name}");
    if described {
        assert_kept(&recorded["description"], &as_recorded(&now.description), name);
    }
    if status == Status::Failed {
        let kinds: Vec<FailureKind> = now.failures.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [FailureKind::FileMissing; 2], "{name}");
    }
}

#[actix_rt::test]
async fn recorded_events_are_replayed() {
    let clock = a_day_later().await;
    for format in FORMATS {
        let recording = Recording::of(format, clock);
        let engine = recording.start(away()).await;
        let events = || recording.values("events").zip(recording.tree("events").map(|it| text(&it["key"])));
        for name in OWNERS {
            let of_owner = || events().filter(|(_, key)| key.starts_with(&format!("{name}/")));
            let last = of_owner().filter_map(|(event, _)| event["seq"].as_u64()).max().expect("events");
            let (listener, told) = relay::listener(relay::Answer::AtOnce);
            let (owner, to) = (owner(&json!(name)), listener.clone().recipient());
            let subscribe = Subscribe { owner, to, uploads: Uploads::All, after_seq: Some(0) };
            let id = engine.0.publisher.send(subscribe).await.expect("alive").expect("subscribed");
            let heard = Relay::new(id, listener, told).until(|it| it.seq() >= Some(last)).await;
            let ends = heard.iter().filter_map(|it| match it {
                Message::UploadCompleted { upload_id, .. } => {
                    Some((it.seq()?, "upload_completed", *upload_id))
                }
                Message::UploadFailed { upload_id, .. } => Some((it.seq()?, "upload_failed", *upload_id)),
                _ => None,
            });
            let ends: BTreeSet<(u64, &str, UploadId)> = ends.filter(|(seq, ..)| *seq <= last).collect();
            let expected = of_owner().filter_map(|(event, _)| {
                let end = match text(&event["what"]) {
                    "upload_completed" => "upload_completed",
                    "upload_cancelled" => "upload_failed",
                    "upload_failed" if event["last"] == true => "upload_failed",
                    _ => return None,
                };
                Some((event["seq"].as_u64().expect("a number"), end, upload_id(&event["upload_id"])))
            });
            assert_eq!(ends, expected.collect(), "format {format}");
        }
    }
}

#[actix_rt::test]
async fn recorded_events_are_forgotten_like_later_ones() {
    let clock = a_day_later().await;
    for format in FORMATS {
        let recording = Recording::of(format, clock);
        let mut config = recording.config();
        config.events.keep = 100;
        let engine = Engine::start(config.clone(), clock, Arc::<Scripted>::default()).await;
        let (engine, anna) = (engine.expect("it opens"), owner(&json!(OWNERS[0])));
        let file = |n: u32| {
            let path = recording.photo(&format!("{n}.png"));
            std::fs::write(&path, picture(&n.to_string())).expect("written");
            Source::InPlace(path)
        };
        let files = (0..60).map(file).collect();
        let submitted = engine.tell(SubmitBatch { owner: anna.clone(), files, force: false }).await;
        engine.ended(&anna, submitted.batch_id.expect("a batch")).await;
        let events_of = |dump: &[Value], name: &str| -> Vec<u64> {
            let of_owner = |it: &&Value| text(&it["key"]).starts_with(&format!("{name}/"));
            let events = dump.iter().filter(|it| it["tree"] == "events").filter(of_owner);
            events.filter_map(|it| it["value"]["seq"].as_u64()).collect()
        };
        let recorded = events_of(&recording.dump, OWNERS[0]).len() as u64;
        let (mut dump, mut left) = (Vec::new(), vec![1; 200]);
        while left.len() > 110 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            dump = engine.dump().await;
            left = events_of(&dump, OWNERS[0]);
        }
        assert!(left[0] > recorded && left.len() >= 100, "{left:?}");
        assert!(left.is_sorted_by(|a, b| a + 1 == *b), "{left:?}");
        let changes = dump.iter().filter(|it| it["tree"] == "changes" && it["value"]["owner"] == OWNERS[0]);
        let last = |it: &Value| {
            it["value"]["seq"].as_u64().expect("a number") + it["value"]["count"].as_u64().unwrap_or(1) - 1
        };
        assert_eq!(changes.map(last).filter(|it| *it < left[0]).collect::<Vec<_>>(), [0; 0]);
        let others = events_of(&dump, OWNERS[1]);
        assert_eq!(others.first(), Some(&1), "the other owner is below the limit");
        engine.stop().await;
        assert_eq!(faults(&config, clock).await, [""; 0], "format {format}");
    }
}

#[actix_rt::test]
async fn recorded_vectors_are_found_by_their_owners() {
    let clock = a_day_later().await;
    for format in FORMATS {
        let recording = Recording::of(format, clock);
        let engine = recording.start(Arc::new(Scripted::default())).await;
        assert_found(&recording, &engine, "scripted:e:2", &[1.0, 2.0]).await;
        engine.stop().await;
        let engine = recording.start(Arc::new(Long::default())).await;
        let mut query = vec![1.0, 2.0];
        query.resize(LONG, 0.5);
        assert_found(&recording, &engine, "scripted:long:2100", &query).await;
    }
}

/// Asserts that the words `ab`, whose vector is `query`, find all recorded vectors of a space.
async fn assert_found(recording: &Recording, engine: &Engine, space: &str, query: &[f64]) {
    let mut vectors: BTreeMap<(String, UploadId), Vec<f64>> = BTreeMap::new();
    for line in recording.tree("embeddings") {
        // Owner, space, upload, piece.
        let parts: Vec<&str> = text(&line["key"]).rsplitn(4, '/').collect();
        if parts[2] == space {
            let numbers = line["value"].as_array().expect("numbers").iter().filter_map(Value::as_f64);
            vectors.entry((parts[3].to_owned(), upload_id(&json!(parts[1])))).or_default().extend(numbers);
        }
    }
    assert!(!vectors.is_empty());
    for ((name, id), vector) in vectors {
        let search = SearchUploads { owner: owner(&json!(name)), query: "ab".into(), limit: 100 };
        let found = engine.ask(search).await.into_iter().find(|it| it.upload.id == id).expect("found");
        let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = product(query, &vector) / (product(query, query) * product(&vector, &vector)).sqrt();
        assert!((f64::from(found.score) - cosine).abs() < 1e-5, "{} is not {cosine}", found.score);
    }
}

#[actix_rt::test]
async fn completed_files_are_recognised_at_their_new_paths() {
    let clock = a_day_later().await;
    for format in FORMATS {
        let recording = Recording::of(format, clock);
        let engine = recording.start(away()).await;
        let names = ["holiday/harbour.png", "holiday/long.png", "holiday/fog.png", "trouble/second.png"];
        let files = names.iter().map(|name| Source::InPlace(recording.photo(name))).collect();
        let submit = SubmitBatch { owner: owner(&json!("anna")), files, force: false };
        let submitted = engine.tell(submit).await;
        assert_eq!(submitted.batch_id, None, "nothing is new");
        for (path, admission) in names.iter().zip(submitted.files) {
            let recorded = recording.upload(path.rsplit('/').next().expect("a name"));
            let Admission::Done(upload) = admission else { unreachable!("{path}: {admission:?}") };
            assert_eq!(json!(upload.id), recorded["id"]);
            let now = engine.upload(recorded).await;
            assert_eq!(now.place(), Some(recording.photo(path).as_path()));
        }
    }
}

#[actix_rt::test]
async fn a_store_of_an_unknown_format_is_refused_and_left_as_it_is() {
    let clock = a_day_later().await;
    let folder = tempfile::tempdir().expect("a folder");
    let store = sled::open(folder.path().join("store")).expect("it opens");
    store.open_tree("meta").expect("a tree").insert("format", "99").expect("written");
    drop(store);
    mediamill_actors::private::close(folder.path()).expect("closed");
    for _ in 0..2 {
        let refused = Engine::start(config(folder.path()), clock, away()).await.err();
        let refused = refused.expect("an error");
        assert!(matches!(refused, StartError::Open(OpenError::Format { .. })), "{refused:?}");
        let sentence = format!(
            "the store in {} has format 99, which this version of mediamill does not know; \
             use the version that wrote it, or restore a dump into an empty folder",
            folder.path().display()
        );
        assert_eq!(refused.to_string(), sentence);
    }
}

/// A provider that does not answer, so that no upload begins.
fn away() -> Arc<Scripted> {
    let scripted = Scripted::default();
    scripted.is_there(false);
    Arc::new(scripted)
}

/// The format version in a dump.
fn format_of(dump: &[Value]) -> Value {
    let format = dump.iter().find(|it| it["tree"] == "meta" && it["key"] == "format");
    format.map(|it| it["value"].clone()).unwrap_or_default()
}
