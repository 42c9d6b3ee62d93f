//! Snapshots of a dump at each point of a batch's life, with names in place of ids, times and
//! paths.
//!
//! If a change is intended, `UPDATE_SNAPSHOTS=1 cargo test -p mediamill-actors --test dumps`
//! writes the snapshots again.

mod support;

use std::{collections::BTreeMap, num::NonZeroU32, path::Path, time::Duration};

use mediamill_actors::{batch_supervisor::CancelBatch, config::Config, query_service::DumpStore};
use serde_json::{Value, json};
use support::{World, scripted::Act};

fn one_at_a_time(config: &mut Config) {
    config.workers.concurrency = NonZeroU32::new(1);
    config.provider.vision_concurrency = NonZeroU32::new(1);
}

async fn dump(world: &World) -> Vec<Value> {
    let dump =
        world.pipeline.query_service.send(DumpStore(Vec::new())).await.expect("alive").expect("a dump");
    let text = String::from_utf8(dump).expect("text");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    // The frame has the number of lines, which depends on the speed of the disk.
    lines.filter(|line| line["tree"] != "dump").collect()
}

/// Names for the ids, times and paths of one run of the test.
struct Names(BTreeMap<String, String>);

impl Names {
    fn of(world: &World, dump: &[Value]) -> Self {
        let mut names = BTreeMap::new();
        let folder = world.folder.path().to_string_lossy().into_owned();
        names.insert(folder, "FOLDER".into());
        let values =
            |tree: &'static str| dump.iter().filter(move |it| it["tree"] == tree).map(|it| &it["value"]);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        for run in dump.iter().filter(|it| it["tree"] == "runs") {
            names.insert(text(&run["key"]), "RUN".into());
        }
        for batch in values("batches") {
            names.insert(text(&batch["id"]), format!("BATCH-{}", batch["number"]));
        }
        for upload in values("uploads") {
            let batch = &names[&text(&upload["batch_id"])];
            names.insert(text(&upload["id"]), format!("UPLOAD-{}.{}", &batch[6..], upload["position"]));
        }
        for place in dump.iter().filter(|it| it["tree"] == "places") {
            let upload = names[&text(&place["value"]["upload_id"])].clone();
            let key = text(&place["key"]);
            let digest = key.rsplit('/').next().expect("a digest").to_owned();
            names.insert(digest, format!("PATH-OF-{upload}"));
        }
        Self(names)
    }

    /// Replaces ids, times and paths by names.
    fn put(&self, key: Option<&str>, value: &mut Value) {
        match value {
            Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => *text = "TIME".into(),
            Value::String(text) if key == Some("modified_ns") => *text = "NS".into(),
            Value::String(text) => {
                for (id, name) in &self.0 {
                    *text = text.replace(id, name);
                }
            }
            Value::Number(_) if key == Some("run") => *value = "RUN".into(),
            Value::Number(_) if key == Some("took_ms") => *value = "MS".into(),
            // Arithmetic on pixels may differ in the last digits.
            Value::Number(number) if number.is_f64() => {
                *value = ((number.as_f64().unwrap_or_default() * 100.0).round() / 100.0).into();
            }
            Value::Array(values) => values.iter_mut().for_each(|it| self.put(None, it)),
            Value::Object(values) => values.iter_mut().for_each(|(key, it)| self.put(Some(key), it)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The events of an entry, one by one: their number in an entry depends on the speed of the disk.
fn one_by_one(line: Value) -> Vec<Value> {
    if line["tree"] != "changes" {
        return vec![line];
    }
    let (Some(first), Some(seq)) = (line["key"].as_str(), line["value"]["seq"].as_u64()) else {
        unreachable!("{line}")
    };
    let first: u64 = first.parse().expect("a number");
    let count = line["value"]["count"].as_u64().unwrap_or(1);
    let change = |n| {
        let value = json!({ "owner": line["value"]["owner"], "seq": seq + n });
        json!({ "tree": "changes", "key": format!("{:020}", first + n), "value": value })
    };
    (0..count).map(change).collect()
}

/// Compares a dump with the snapshot of this name.
async fn matches(world: &World, name: &str) {
    let dump = dump(world).await;
    let names = Names::of(world, &dump);
    // Ids have no order, and so lines whose keys are ids have none.
    let mut lines: Vec<String> = dump
        .into_iter()
        .flat_map(one_by_one)
        .map(|mut line| {
            names.put(None, &mut line);
            format!(
                "{} {} {}",
                line["tree"].as_str().expect("text"),
                line["key"].as_str().expect("text"),
                line["value"]
            )
        })
        .collect();
    lines.sort();
    let found = lines.join("\n") + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, &found).expect("written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let different: Vec<String> = expected
        .lines()
        .filter(|line| !found.contains(line))
        .map(|it| format!("- {it}"))
        .chain(found.lines().filter(|line| !expected.contains(line)).map(|it| format!("+ {it}")))
        .collect();
    assert!(
        expected == found,
        "the dump differs from {}; if that is intended, write it again with UPDATE_SNAPSHOTS=1:\n{}",
        path.display(),
        different.join("\n")
    );
}

#[actix_rt::test]
async fn a_batch_is_submitted_processed_and_completed() {
    let world = World::scripted_with(one_at_a_time).await;
    world.provider.is_there(false);
    world.provider.takes(Duration::from_secs(10), Duration::from_secs(1));
    let provider_is = async |state: &str| {
        while !dump(&world)
            .await
            .iter()
            .any(|it| it["tree"] == "runs" && it["value"]["provider"]["state"] == state)
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    provider_is("away").await;
    let (batch, _) = world.submit(&["a.png", "b.png"]).await;
    matches(&world, "submitted").await;
    world.provider.is_there(true);
    provider_is("ready").await;
    world.batch_when(batch, |it| it.counts.completed == 1 && it.counts.active == 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    matches(&world, "in_flight").await;
    world.ended(batch).await;
    matches(&world, "completed").await;
}

#[actix_rt::test]
async fn a_batch_fails() {
    let world = World::scripted_with(one_at_a_time).await;
    world
        .provider
        .describing("b.png", &[Act::Say(" ".into()), Act::Say("Cat cat cat cat.".into()), Act::Fail]);
    world.provider.embedding("Cat", &[Act::Fail]);
    let (batch, _) = world.submit(&["broken.png", "b.png"]).await;
    world.ended(batch).await;
    matches(&world, "failed").await;
}

#[actix_rt::test]
async fn a_batch_is_cancelled() {
    let world = World::scripted_with(one_at_a_time).await;
    world.provider.describing("b.png", &[Act::Hang]);
    let (batch, _) = world.submit(&["a.png", "b.png", "c.png"]).await;
    world.batch_when(batch, |it| it.counts.completed == 1 && it.counts.active == 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.tell(CancelBatch { owner: world.owner.clone(), batch }).await.expect("cancelled");
    world.ended(batch).await;
    matches(&world, "cancelled").await;
}
