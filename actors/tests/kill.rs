//! Kills a working engine with SIGKILL at random moments, again and again, and verifies the
//! store.
//!
//! A child process works and submits; each acknowledgement is a line on its standard output.
//! After the last kill a child works to the end. Then every acknowledged upload must have
//! completed exactly once and be counted once, with its thumbnail on disk, and events must have
//! no gap.
//!
//! ```text
//! cargo test -p mediamill-actors --test kill                             30 kills
//! cargo test -p mediamill-actors --release --test kill -- --kills 500    a soak
//! ```

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use mediamill_actors::{
    analysis::{DescribeRequest, Described, Identity, Provider, ProviderError, ProviderProfile},
    batch_supervisor::SubmitBatch,
    config::Config,
    event::EventKind,
    files::Files,
    id::{Owner, UploadId},
    intake::{Admission, Source},
    media::VisionSpec,
    pipeline::{self, Options, Pipeline},
    store::Clock,
    upload::{FileKey, Status},
};

/// Pictures that are submitted over and over, each time under a new name.
const PICTURES: usize = 40;
/// Longest life of a child, in ms.
const LONGEST_LIFE: u64 = 700;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("child") => child(Path::new(&arguments[1]), arguments[2] == "submit"),
        // Test runners ask for the list of tests.
        Some("--list") => {
            println!("nothing_acknowledged_is_lost: test");
            ExitCode::SUCCESS
        }
        _ => {
            let after = |name: &str| {
                let at = arguments.iter().position(|argument| argument == name)?;
                arguments.get(at + 1)?.parse().ok()
            };
            parent(after("--kills").unwrap_or(30), after("--seed"))
        }
    }
}

/// A provider that takes a few milliseconds.
struct Quick;

impl Provider for Quick {
    fn identity(&self) -> Identity {
        serde_json::from_value(serde_json::json!({
            "provider": "quick", "vision_model": "q", "embedding_model": "q", "dimensions": 16,
            "prompt_version": 1,
        }))
        .expect("an identity")
    }

    fn profile(&self) -> ProviderProfile {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        ProviderProfile { vision_concurrency: processors as u32, ..ProviderProfile::default() }
    }

    fn vision(&self, configured: VisionSpec) -> VisionSpec {
        VisionSpec { jpeg: false, ..configured }
    }

    fn describe(&self, _: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        Box::pin(async {
            actix_rt::time::sleep(Duration::from_millis(2)).await;
            let text =
                "The picture is a plain one, and it was made for a test that kills the process.".into();
            Ok(Described { text, objects: Vec::new(), changed: None })
        })
    }

    fn embed(&self, _: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        Box::pin(async { Ok(vec![0.5; 16]) })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async { Ok(()) })
    }
}

fn config(folder: &Path) -> Config {
    let mut config = Config::default();
    config.store.data_dir = folder.join("data");
    config.store.cache_mb = 16;
    config.limits.max_interruptions = 0;
    config.limits.min_free_disk_mb = 0;
    config.events.keep = 10_000_000;
    config
}

/// Processes unfinished uploads. With `submit` it submits more until it is killed; otherwise it
/// ends when all uploads have ended.
fn child(folder: &Path, submit: bool) -> ExitCode {
    actix_rt::System::new().block_on(async {
        let options = Options { provider: Some(Arc::new(Quick)), ..Options::default() };
        let pipeline = Pipeline::start_with(config(folder), options).await.expect("it starts");
        let mut round = 0;
        loop {
            if !submit {
                break;
            }
            let files = (0..7).map(|n| {
                let name = folder.join(format!("{}-{round}-{n}.png", std::process::id()));
                std::fs::hard_link(folder.join(format!("{}.png", (round * 7 + n) % PICTURES)), &name)
                    .expect("a new name");
                Source::InPlace(name)
            });
            let new = SubmitBatch { owner: Owner::local(), files: files.collect(), force: true };
            let submitted = pipeline.supervisor.send(new).await.expect("alive").expect("taken");
            let ids = submitted.files.iter().filter_map(|admission| match admission {
                Admission::Accepted(id) => Some(id.to_string()),
                _ => None,
            });
            let line = format!("{}\n", ids.collect::<Vec<_>>().join(" "));
            let mut out = std::io::stdout().lock();
            out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("the parent reads");
            drop(out);
            round += 1;
            actix_rt::time::sleep(Duration::from_millis(15)).await;
        }
        let mut changes = pipeline.queries().watch();
        while !pipeline.queries().queue_depth().is_empty() {
            changes.changed().await.expect("open");
        }
        pipeline.stop(Duration::ZERO).await;
    });
    ExitCode::SUCCESS
}

fn parent(kills: u64, seed: Option<u64>) -> ExitCode {
    let mut seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 16 | 1);
    println!("killing {kills} times, --seed {seed}");
    let folder = tempfile::tempdir().expect("a folder");
    for n in 0..PICTURES {
        let picture = image::RgbImage::from_pixel(40, 30, image::Rgb([n as u8 * 6, 90, 200]));
        picture.save(folder.path().join(format!("{n}.png"))).expect("written");
    }
    let mut random = |below: u64| {
        // Knuth's MMIX constants.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let started = Instant::now();
    let mut acknowledged: HashSet<UploadId> = HashSet::new();
    for _ in 0..kills {
        let mut child = spawn(folder.path(), "submit");
        let reader = BufReader::new(child.stdout.take().expect("piped"));
        let lines = std::thread::spawn(move || {
            // The kill may cut the last line, which then is no acknowledgement.
            let mut reader = reader;
            let mut whole = Vec::new();
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
                whole.push(std::mem::take(&mut line));
            }
            whole
        });
        std::thread::sleep(Duration::from_millis(60 + random(LONGEST_LIFE)));
        child.kill().expect("killed");
        child.wait().expect("reaped");
        for line in lines.join().expect("read") {
            acknowledged.extend(line.split_whitespace().map(|id| id.parse::<UploadId>().expect("an id")));
        }
    }
    let killed_for = started.elapsed();
    let finished = spawn(folder.path(), "finish").wait().expect("reaped");
    assert!(finished.success(), "the last child ends by itself");
    let faults = actix_rt::System::new().block_on(verify(folder.path(), &acknowledged));
    println!(
        "{kills} kills in {:.0} s, {} uploads acknowledged, {} lost, {} done twice, \
         {} without thumbnail, {} gaps and other faults",
        killed_for.as_secs_f64(),
        acknowledged.len(),
        faults.lost,
        faults.done_twice,
        faults.without_thumbnail,
        faults.others.len()
    );
    for other in &faults.others {
        println!("  {other}");
    }
    let sound = faults.lost + faults.done_twice + faults.without_thumbnail == 0 && faults.others.is_empty();
    if sound && !acknowledged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn spawn(folder: &Path, what: &str) -> std::process::Child {
    let this: PathBuf = std::env::current_exe().expect("this program");
    Command::new(this).arg("child").arg(folder).arg(what).stdout(Stdio::piped()).spawn().expect("a child")
}

#[derive(Default)]
struct Faults {
    lost: usize,
    done_twice: usize,
    without_thumbnail: usize,
    others: Vec<String>,
}

async fn verify(folder: &Path, acknowledged: &HashSet<UploadId>) -> Faults {
    let config = config(folder);
    let store = pipeline::open(&config, Clock::System).await.expect("it opens");
    let verified = store.queries().verify().await.expect("it can be read");
    let mut faults = Faults { others: verified.faults, ..Faults::default() };
    let mut completed: HashMap<UploadId, u32> = HashMap::new();
    let (mut cursor, mut seq) = (1, 0);
    loop {
        let page = store.queries().events_from(Owner::local(), cursor, 1000).await.expect("it can be read");
        if page.changes.is_empty() {
            break;
        }
        for change in page.changes {
            if change.event.seq != seq + 1 {
                faults.others.push(format!("event {} follows event {seq}", change.event.seq));
            }
            seq = change.event.seq;
            match (change.event.kind, change.event.upload_id) {
                (EventKind::UploadCompleted { .. }, Some(id)) => *completed.entry(id).or_default() += 1,
                (EventKind::UploadFailed { .. }, id) => faults.others.push(format!("{id:?} failed")),
                _ => {}
            }
        }
        cursor = seq + 1;
    }
    let files = Files::new(&config.store.data_dir);
    for id in acknowledged {
        match store.queries().upload(Owner::local(), *id).await {
            Ok(upload) if upload.status == Status::Completed => {
                faults.without_thumbnail += usize::from(!files.local_path(&FileKey::thumbnail(*id)).exists());
                faults.lost += usize::from(!completed.contains_key(id));
            }
            Ok(_) | Err(_) => faults.lost += 1,
        }
    }
    faults.done_twice = completed.values().filter(|times| **times > 1).count();
    faults
}
