//! A dump is the same from a live store, from a stopped store, and from a store that was restored from it.

mod program;

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use mediamill_actors::{
    analysis::{DescribeRequest, Described, Identity, Object, Provider, ProviderError, ProviderProfile},
    batch_supervisor::{CancelBatch, DeleteUpload, Drain, PauseBatch, RetryFailed, SubmitBatch},
    config::Config,
    id::{BatchId, Owner, UploadId},
    intake::{Admission, Source},
    pipeline::{Options, Pipeline, Stopped},
    query_service::DumpStore,
    store::{self, Store},
};
use program::{mediamill, picture};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ProviderError>> + Send + 'a>>;

const DIMENSIONS: u32 = 3000;

/// A provider with long descriptions, which hangs or fails for certain names.
struct Verbose;

impl Provider for Verbose {
    fn identity(&self) -> Identity {
        Identity {
            provider: "verbose".into(),
            vision_model: "v/1:latest".into(),
            embedding_model: "e \"quoted\" é".into(),
            dimensions: DIMENSIONS,
            prompt_version: 1,
            ..Identity::default()
        }
    }

    fn profile(&self) -> ProviderProfile {
        ProviderProfile { vision_concurrency: 2, ..ProviderProfile::default() }
    }

    fn describe(&self, request: Arc<DescribeRequest>) -> Answer<'_, Described> {
        Box::pin(async move {
            let name = request.names.first().cloned().unwrap_or_default();
            if name.starts_with("hangs") {
                std::future::pending::<()>().await;
            }
            if name.starts_with("bad") {
                return Err(ProviderError::BadAnswer {
                    message: "said \"no\"\n\u{1f408} and no more".into(),
                });
            }
            // More than three pieces of a record, with characters across their boundaries.
            let text =
                (0..1500).map(|n| format!("The {n}th stripe is \u{201c}göld\u{201d} \\ {name}. ")).collect();
            Ok(Described {
                text,
                objects: vec![Object { label: "cat".into(), count: 2, confidence: 73 }],
                changed: Some("\t".into()),
            })
        })
    }

    fn embed(&self, text: String) -> Answer<'_, Vec<f32>> {
        Box::pin(async move {
            let odd = [f32::MIN_POSITIVE, -0.0, 1.0e-45, f32::MAX, 0.1, text.len() as f32 / 3.0];
            Ok(odd.into_iter().cycle().take(DIMENSIONS as usize).collect())
        })
    }

    fn probe(&self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

struct Host {
    folder: tempfile::TempDir,
    pipeline: Pipeline,
}

impl Host {
    fn data(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.store.data_dir = folder.path().join("data");
        config.limits.min_free_disk_mb = 0;
        let options = Options { provider: Some(Arc::new(Verbose)), ..Options::default() };
        let pipeline = Pipeline::start_with(config, options).await.expect("it starts");
        Self { folder, pipeline }
    }

    async fn submit(&self, owner: &Owner, names: &[PathBuf]) -> (BatchId, Vec<UploadId>) {
        let files = names
            .iter()
            .enumerate()
            .map(|(seed, name)| {
                let path = self.folder.path().join(name);
                fs::write(&path, picture(seed as u8)).expect("written");
                Source::InPlace(path)
            })
            .collect();
        let submit = SubmitBatch { owner: owner.clone(), files, force: true };
        let submitted = self.pipeline.supervisor.send(submit).await.expect("alive").expect("taken");
        let id = |it| match it {
            Admission::Accepted(id) => id,
            other => unreachable!("{other:?}"),
        };
        (submitted.batch_id.expect("a batch"), submitted.files.into_iter().map(id).collect())
    }

    async fn when(
        &self,
        owner: &Owner,
        batch: BatchId,
        so: impl Fn(&mediamill_actors::batch::Batch) -> bool,
    ) {
        let mut changes = self.pipeline.queries().watch();
        let wait = async {
            while !so(&self.pipeline.queries().batch(owner.clone(), batch).await.expect("the batch")) {
                changes.changed().await.expect("open");
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it matches in time");
    }

    async fn dump(&self) -> String {
        let dump =
            self.pipeline.query_service.send(DumpStore(Vec::new())).await.expect("alive").expect("dumped");
        String::from_utf8(dump).expect("text")
    }
}

fn by_command(data: &str) -> String {
    let output = mediamill(&["dump", "--data-dir", data]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Of a sound store nothing is lost.
    let salvaged = mediamill(&["dump", "--salvage", "--data-dir", data]);
    assert!(salvaged.status.success() && salvaged.stderr.is_empty() && salvaged.stdout == output.stdout);
    String::from_utf8(output.stdout).expect("text")
}

/// Names of files, one of them not UTF-8 where the system allows that.
fn names() -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> =
        ["a.bmp", "quote\" \\ back.bmp", "\u{1f408}\n.bmp"].map(PathBuf::from).into();
    #[cfg(target_os = "linux")]
    {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        names.push(PathBuf::from(OsStr::from_bytes(b"caf\xe9-\xff.bmp")));
    }
    names
}

#[actix_rt::test]
async fn a_dump_is_the_same_by_message_by_command_and_after_a_restore() {
    let host = Host::start().await;
    let odd = Owner::new("o/d d\u{e9}").expect("valid");
    let local = Owner::local();
    let (done, _) = host.submit(&odd, &names()).await;
    host.when(&odd, done, |it| it.status().is_terminal()).await;
    let (failed, _) = host.submit(&local, &["bad.bmp", "b.bmp"].map(PathBuf::from)).await;
    host.when(&local, failed, |it| it.status().is_terminal()).await;
    let retry = RetryFailed { owner: local.clone(), batch: failed };
    host.pipeline.supervisor.send(retry).await.expect("alive").expect("a new run");
    host.when(&local, failed, |it| it.round == 2 && it.status().is_terminal()).await;
    let (cancelled, _) = host.submit(&local, &["hangs1.bmp", "c.bmp"].map(PathBuf::from)).await;
    host.when(&local, cancelled, |it| it.counts.completed == 1 && it.counts.active == 1).await;
    let cancel = CancelBatch { owner: local.clone(), batch: cancelled };
    host.pipeline.supervisor.send(cancel).await.expect("alive").expect("cancelled");
    let (paused, uploads) = host.submit(&local, &["hangs2.bmp", "d.bmp", "e.bmp"].map(PathBuf::from)).await;
    host.when(&local, paused, |it| it.counts.active == 1 && it.counts.completed == 2).await;
    let pause = PauseBatch { owner: local.clone(), batch: paused };
    host.pipeline.supervisor.send(pause).await.expect("alive").expect("paused");
    let delete = DeleteUpload { owner: local.clone(), upload: uploads[1] };
    host.pipeline.supervisor.send(delete).await.expect("alive").expect("deleted");
    while !host.pipeline.queries().removals().await.expect("readable").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    // One upload is in flight during the dump.
    let live = host.dump().await;
    for tree in ["active", "batches", "changes", "embeddings", "events", "hashes", "meta", "owner_batches"] {
        assert!(live.contains(&format!("{{\"tree\":\"{tree}\"")), "{tree}");
    }
    let restored = round_trip(&host, &live, "of-live");
    assert_eq!(restored, live);
    // The restored store continues like the original.
    let opened = Store::open(Path::new(&host.data("of-live")), store::Options::default()).expect("it opens");
    assert_eq!(opened.queries().verify().await.expect("readable").faults, [""; 0]);
    opened.close().await;

    let Host { folder, pipeline } = host;
    let stores = pipeline.queries().clone();
    let data = folder.path().join("data").to_string_lossy().into_owned();
    pipeline.supervisor.send(Drain(Duration::ZERO)).await.expect("alive").expect("drained");
    let by_message = String::from_utf8(stores.dump(Vec::new()).await.expect("dumped")).expect("text");
    drop(stores);
    assert_eq!(pipeline.stop(Duration::ZERO).await, Stopped::Drained);
    assert_eq!(by_command(&data), by_message);
    assert!(by_message.contains("{\"tree\":\"work\""), "what was handed back waits");
    let values =
        by_message.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let path = |it: &serde_json::Value| it["value"]["file"]["in_place"]["path"].clone();
    let hex = values.filter(|it| it["tree"] == "uploads" && path(it)["hex"].is_string());
    assert_eq!(hex.count(), usize::from(cfg!(target_os = "linux")), "a path that is not UTF-8 is kept whole");
}

#[actix_rt::test]
async fn a_truncated_dump_is_not_reported_as_restored() {
    let host = Host::start().await;
    let (batch, _) = host.submit(&Owner::local(), &["a.bmp", "b.bmp"].map(PathBuf::from)).await;
    host.when(&Owner::local(), batch, |it| it.status().is_terminal()).await;
    let dump = host.dump().await;
    let restore = |name: &str, dump: &str| {
        let file = host.data(name) + ".jsonl";
        fs::write(&file, dump).expect("written");
        let output = mediamill(&["restore", &file, "--data-dir", &host.data(name)]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (first_uploads, _) = dump.split_once("{\"tree\":\"uploads\"").expect("uploads");
    let (code, stderr) = restore("cut", first_uploads);
    assert!(code == Some(2) && stderr.contains("cut short"), "{stderr}");
    // The advice of the sentence works.
    fs::remove_dir_all(host.data("cut/store")).expect("removed");
    fs::remove_file(host.data("cut/HIGHWATER")).expect("removed");
    assert_eq!(restore("cut", &dump).0, Some(0));
    let (code, stderr) = restore("empty", "");
    assert!(code == Some(2) && stderr.contains("is empty"), "{stderr}");
    assert_eq!(restore("whole", &dump).0, Some(0));
}

/// Restores a dump, and dumps the restored store.
fn round_trip(host: &Host, dump: &str, name: &str) -> String {
    let file = host.data("dump.jsonl");
    fs::write(&file, dump).expect("written");
    let output = mediamill(&["restore", &file, "--data-dir", &host.data(name)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    by_command(&host.data(name))
}
