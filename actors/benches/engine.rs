//! The cost of the engine itself, with a provider that costs nothing and tiny pictures. Every figure
//! is for durable work.
//!
//! ```text
//! cargo bench -p mediamill-actors --bench engine -- [NAME] [WORKERS]
//!
//! bookkeeping   uploads a second, CPU and memory for each, by the number of workers
//! size          2,000 uploads in stores of 1,000 and of 100,000, interleaved
//! busy          busy time of a provider of 200 ms with one permit, with 12 MP pictures
//! ready         time to start with 100,000 unfinished uploads
//! memory        resident memory over one batch of 10,000
//! ```

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use mediamill_actors::{
    analysis::{DescribeRequest, Described, Identity, Provider, ProviderError, ProviderProfile},
    batch_supervisor::SubmitBatch,
    config::Config,
    id::Owner,
    intake::Source,
    media::VisionSpec,
    pipeline::{Options, Pipeline},
};

/// The allocator of the program, which is advised for hosts, too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    let system = actix_rt::System::new();
    if wants("bookkeeping") {
        system.block_on(bookkeeping());
    }
    if wants("size") {
        system.block_on(size());
    }
    if wants("busy") {
        system.block_on(busy());
    }
    if wants("ready") {
        system.block_on(ready());
    }
    if wants("memory") {
        system.block_on(memory());
    }
}

/// Answers after a fixed time, and counts its busy time.
struct Scripted {
    identity: Identity,
    takes: Duration,
    busy_us: AtomicU64,
}

impl Scripted {
    fn new(takes: Duration) -> Self {
        let identity = serde_json::from_value(serde_json::json!({
            "provider": "scripted", "vision_model": "s", "embedding_model": "s", "dimensions": 512,
            "prompt_version": 1,
        }));
        Self { identity: identity.expect("an identity"), takes, busy_us: AtomicU64::default() }
    }
}

impl Provider for Scripted {
    fn identity(&self) -> Identity {
        self.identity.clone()
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
            let started = Instant::now();
            if !self.takes.is_zero() {
                actix_rt::time::sleep(self.takes).await;
            }
            self.busy_us.fetch_add(started.elapsed().as_micros() as u64, Ordering::Relaxed);
            let text =
                "The picture is a plain one, and it was made to measure the cost of the engine.".into();
            Ok(Described { text, objects: Vec::new(), changed: None })
        })
    }

    fn embed(&self, _: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        Box::pin(async { Ok(vec![0.5; 512]) })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async { Ok(()) })
    }
}

struct World {
    folder: tempfile::TempDir,
    config: Config,
    provider: Arc<Scripted>,
    names: u64,
}

impl World {
    fn new(takes: Duration, picture: (u32, u32), workers: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.store.data_dir = folder.path().join("data");
        config.limits.min_free_disk_mb = 0;
        config.workers.concurrency = std::num::NonZeroU32::new(workers);
        let pixels = image::RgbImage::from_fn(picture.0, picture.1, |x, y| {
            image::Rgb([(x / 7) as u8, (y / 5) as u8, ((x + y) / 3) as u8])
        });
        pixels.save(folder.path().join("picture.jpg")).expect("written");
        Self { folder, config, provider: Arc::new(Scripted::new(takes)), names: 0 }
    }

    async fn start(&self) -> Pipeline {
        let provider: Arc<dyn Provider> = self.provider.clone();
        let options = Options { provider: Some(provider), ..Options::default() };
        Pipeline::start_with(self.config.clone(), options).await.expect("it starts")
    }

    /// New names of the one picture.
    fn files(&mut self, count: u64) -> Vec<PathBuf> {
        let from = self.names;
        self.names += count;
        (from..self.names)
            .map(|n| {
                let folder = self.folder.path().join(format!("{}", n / 1000));
                std::fs::create_dir_all(&folder).expect("a folder");
                let name = folder.join(format!("{n}.jpg"));
                // A file has 65,000 names at most on ext4.
                let picture = self.folder.path().join(format!("picture-{}.jpg", n / 50_000));
                if !picture.exists() {
                    std::fs::copy(self.folder.path().join("picture.jpg"), &picture).expect("copied");
                }
                std::fs::hard_link(picture, &name).expect("a name");
                name
            })
            .collect()
    }

    async fn submit(&mut self, pipeline: &Pipeline, count: u64) {
        let files = self.files(count);
        Self::submit_all(pipeline, &files).await;
    }

    async fn submit_all(pipeline: &Pipeline, files: &[PathBuf]) {
        for files in files.chunks(500) {
            let files = files.iter().cloned().map(Source::InPlace).collect();
            let submit = SubmitBatch { owner: Owner::local(), files, force: true };
            pipeline.supervisor.send(submit).await.expect("alive").expect("taken");
        }
    }
}

async fn idle(pipeline: &Pipeline) {
    let mut changes = pipeline.queries().watch();
    while !pipeline.queries().queue_depth().is_empty() {
        changes.changed().await.expect("open");
    }
}

/// Waits until the store has forgotten the events that are too many, which it does once it has time.
async fn tidy(pipeline: &Pipeline) {
    let mut changes = pipeline.queries().watch();
    loop {
        let log = pipeline.queries().events_from(Owner::local(), 0, 1).await.expect("the log");
        // Some more stay, as those that were written together go together.
        if log.newest + 1 - log.oldest <= Config::default().events.keep + 50 {
            return;
        }
        changes.changed().await.expect("open");
    }
}

/// CPU time of this process, and its resident memory.
fn usage() -> (Duration, u64) {
    let read = |name: &str| std::fs::read_to_string(Path::new("/proc/self").join(name)).unwrap_or_default();
    let stat = read("stat");
    // Fields 14 and 15 of the file, in ticks of 10 ms; the first field after the name is the third.
    let ticks: u64 = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    let pages: u64 = read("statm").split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or_default();
    (Duration::from_millis(ticks * 10), pages * 4096)
}

async fn bookkeeping() {
    // The worlds are kept to the end: a file system creates files slowly just after many were removed.
    let mut worlds = Vec::new();
    let chosen: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    for workers in if chosen.is_empty() { vec![4, 16, 64, 256, 1000] } else { chosen } {
        let mut world = World::new(Duration::ZERO, (32, 24), workers);
        let pipeline = world.start().await;
        world.submit(&pipeline, 1000).await;
        idle(&pipeline).await;
        let uploads = 10_000;
        let files = world.files(uploads);
        let (cpu, memory) = usage();
        let flushes = pipeline.queries().flushes();
        let started = Instant::now();
        World::submit_all(&pipeline, &files).await;
        let submitted = started.elapsed();
        idle(&pipeline).await;
        let (took, after) = (started.elapsed(), usage());
        let flushed = pipeline.queries().flushes();
        let count = flushed.0 - flushes.0;
        println!(
            "bookkeeping, {workers} workers: {uploads} uploads in {:.2} s (submitted after {:.2} s), \
             {:.0} a second, {:.3} ms CPU each, memory {} to {} MiB, {count} waits for the disk of {:.2} ms",
            took.as_secs_f64(),
            submitted.as_secs_f64(),
            uploads as f64 / took.as_secs_f64(),
            (after.0 - cpu).as_secs_f64() * 1000.0 / uploads as f64,
            memory >> 20,
            after.1 >> 20,
            (flushed.1 - flushes.1).as_secs_f64() * 1000.0 / count as f64,
        );
        pipeline.stop(Duration::ZERO).await;
        worlds.push(world);
    }
}

async fn size() {
    let mut worlds = Vec::new();
    for uploads in [1000, 100_000] {
        let mut world = World::new(Duration::ZERO, (32, 24), 16);
        let pipeline = world.start().await;
        world.submit(&pipeline, uploads).await;
        idle(&pipeline).await;
        tidy(&pipeline).await;
        worlds.push((uploads, world, pipeline, [Vec::new(), Vec::new()]));
    }
    for _ in 0..7 {
        for (_, world, pipeline, [times, tidied]) in &mut worlds {
            let files = world.files(2000);
            let started = Instant::now();
            World::submit_all(pipeline, &files).await;
            idle(pipeline).await;
            times.push(started.elapsed());
            tidy(pipeline).await;
            tidied.push(started.elapsed());
        }
    }
    let mut medians = Vec::new();
    for (uploads, _, pipeline, times) in worlds {
        let [median, tidied] = times.map(|mut times| {
            times.sort();
            times[times.len() / 2].as_secs_f64()
        });
        println!(
            "size: 2000 uploads in a store of {uploads}: {median:.3} s, old events forgotten after \
             {tidied:.3} s (medians of 7)"
        );
        medians.push(median);
        pipeline.stop(Duration::ZERO).await;
    }
    println!("size: large to small {:.2}", medians[1] / medians[0]);
}

async fn busy() {
    let mut world = World::new(Duration::from_millis(200), (4000, 3000), 0);
    world.config.provider.vision_concurrency = std::num::NonZeroU32::new(1);
    let pipeline = world.start().await;
    let started = Instant::now();
    world.submit(&pipeline, 100).await;
    idle(&pipeline).await;
    let took = started.elapsed();
    let busy = Duration::from_micros(world.provider.busy_us.load(Ordering::Relaxed));
    println!(
        "busy: 100 pictures of 12 MP in {:.1} s, the provider was busy {:.1} % of that",
        took.as_secs_f64(),
        busy.as_secs_f64() / took.as_secs_f64() * 100.0
    );
    pipeline.stop(Duration::ZERO).await;
}

async fn ready() {
    // Two calls that never end keep all uploads unfinished.
    let mut world = World::new(Duration::from_secs(100_000), (32, 24), 2);
    let pipeline = world.start().await;
    world.submit(&pipeline, 100_000).await;
    pipeline.stop(Duration::ZERO).await;
    let started = Instant::now();
    let pipeline = world.start().await;
    println!("ready: {:.2} s with {:?}", started.elapsed().as_secs_f64(), pipeline.recovered);
    pipeline.stop(Duration::ZERO).await;
}

async fn memory() {
    let mut world = World::new(Duration::ZERO, (32, 24), 16);
    let pipeline = world.start().await;
    println!("memory: {} MiB before anything", usage().1 >> 20);
    for batch in ["first", "second"] {
        let files = world.files(10_000).into_iter().map(Source::InPlace).collect();
        let submit = SubmitBatch { owner: Owner::local(), files, force: true };
        pipeline.supervisor.send(submit).await.expect("alive").expect("taken");
        let mut changes = pipeline.queries().watch();
        let mut standing = Vec::new();
        while standing.len() <= 10 {
            if pipeline.queries().queue_depth().total() <= 10_000 - 1000 * standing.len() {
                standing.push((usage().1 >> 20).to_string());
                continue;
            }
            changes.changed().await.expect("open");
        }
        println!(
            "memory: MiB over the {batch} batch of 10,000, submitted at once, each 1,000: {}",
            standing.join(" ")
        );
    }
    pipeline.stop(Duration::ZERO).await;
}
