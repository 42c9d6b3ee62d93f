//! Records a store of the present format, as a killed process leaves it, for `tests/old_stores.rs`.
//!
//! ```text
//! cargo run -p mediamill-actors --example record_store -- actors/tests/fixtures/stores/format-3.tar.gz
//! ```
//!
//! Three processes work on a data folder, one after the other. The first stops in good order, the others are
//! killed. The archive holds `data` (the data folder), `photos` (the files that were submitted in place, as
//! `/photos/...`) and `dump.jsonl` (a dump from just before the last kill).
//!
//! Needs Unix with `mkfifo` and the right to make the folder `/photos`, which must not exist.

#[path = "../tests/support/pictures.rs"]
mod pictures;
#[path = "../tests/support/scripted.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use the rest of it")]
mod scripted;

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    num::NonZeroU32,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use image::{ImageFormat, Rgb, RgbImage};
use mediamill_actors::{
    analysis::{DescribeRequest, Described, Identity, Object, Provider, ProviderError},
    batch_supervisor::{
        BatchSupervisor, CancelBatch, DeleteUpload, PauseBatch, ResumeBatch, RetryFailed, SubmitBatch,
    },
    config::Config,
    error::Error,
    id::{BatchId, Owner, UploadId},
    intake::{Admission, Source},
    pipeline::{Options, Pipeline, Stopped},
    query_service::{DumpStore, GetBatch, GetUpload},
    store::Clock,
    upload::{FileKey, Stage, Status, Upload},
};
use scripted::{Act, Scripted};

/// The folder of files in place while a store is recorded.
const PHOTOS: &str = "/photos";
/// The line that a session prints when its work is done.
const READY: &str = "ready";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["session", session, folder] => {
            actix_rt::System::new().block_on(work(session, Path::new(folder)));
        }
        [archive] => record(Path::new(archive)).expect("the store is recorded"),
        _ => eprintln!("name the archive to write"),
    }
}

/// The folder of the files in place, which is removed when this is dropped.
struct Photos;

impl Drop for Photos {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(PHOTOS);
    }
}

/// A process that is killed when this is dropped.
struct Mortal(Child);

impl Drop for Mortal {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn record(archive: &Path) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(PHOTOS)?;
    let _photos = Photos;
    for session in ["first", "second", "third"] {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["session", session]).arg(folder.path()).stdout(Stdio::piped());
        let mut process = Mortal(command.spawn()?);
        let mut said = String::new();
        BufReader::new(process.0.stdout.take().expect("a pipe")).read_line(&mut said)?;
        assert_eq!(said.trim_end(), READY, "the {session} session failed");
    }
    fs::remove_file(folder.path().join("data/LOCK"))?;
    put_back_thumbnails(&folder.path().join("data/thumbnails"))?;
    if let Some(folder) = archive.parent() {
        fs::create_dir_all(folder)?;
    }
    let gzip = flate2::write::GzEncoder::new(File::create(archive)?, flate2::Compression::best());
    let mut tar = tar::Builder::new(gzip);
    tar.mode(tar::HeaderMode::Deterministic);
    for (root, below) in [(folder.path(), folder.path()), (Path::new("/"), Path::new(PHOTOS))] {
        // Some file systems refuse names that are not text.
        for file in files(below)?.iter().filter(|it| it.to_str().is_some()) {
            tar.append_path_with_name(file, file.strip_prefix(root).expect("below the root"))?;
        }
    }
    tar.into_inner()?.finish()?;
    println!("{}: {} bytes", archive.display(), fs::metadata(archive)?.len());
    Ok(())
}

/// The regular files below a folder, ordered by their paths.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Undoes [`Session::keep_from_removal`].
fn put_back_thumbnails(folder: &Path) -> io::Result<()> {
    for kept in files(folder)?.iter().filter(|it| it.extension().is_some_and(|it| it == "kept")) {
        let thumbnail = kept.with_extension("jpg");
        fs::remove_dir(&thumbnail)?;
        fs::rename(kept, thumbnail)?;
    }
    Ok(())
}

/// The provider of the tests, which also finds an object. With `long` it embeds by another model,
/// whose vectors are kept in pieces.
#[derive(Default)]
struct Recorded {
    scripted: Scripted,
    long: AtomicBool,
}

impl Recorded {
    /// Length of a long vector.
    const DIMENSIONS: usize = 2100;

    fn is_long(&self) -> bool {
        self.long.load(Ordering::Relaxed)
    }
}

impl Provider for Recorded {
    fn identity(&self) -> Identity {
        let usual = self.scripted.identity();
        if !self.is_long() {
            return usual;
        }
        Identity { embedding_model: "long".into(), dimensions: Self::DIMENSIONS as u32, ..usual }
    }

    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        Box::pin(async {
            let described = self.scripted.describe(request).await?;
            let objects = vec![Object { label: "stripe".into(), count: 3, confidence: 87 }];
            Ok(Described { objects, ..described })
        })
    }

    fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        Box::pin(async {
            let mut vector = self.scripted.embed(text).await?;
            if self.is_long() {
                vector.resize(Self::DIMENSIONS, 0.5);
            }
            Ok(vector)
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.scripted.probe()
    }
}

/// Does the work of a session, and waits to be killed.
async fn work(name: &str, folder: &Path) {
    let mut config = Config::default();
    config.store.data_dir = folder.join("data");
    config.store.cache_mb = 8;
    config.limits.min_free_disk_mb = 0;
    config.provider.vision_concurrency = NonZeroU32::new(8);
    config.provider.embedding_concurrency = Some(NonZeroU32::MIN.saturating_add(7));
    config.workers.concurrency = NonZeroU32::new(if name == "third" { 6 } else { 3 });
    let provider = Arc::new(Recorded::default());
    provider.long.store(name == "second", Ordering::Relaxed);
    if name != "third" {
        provider.scripted.describing("night.png", &[Act::Hang]);
    }

    // The first hours of 2026, which are earlier than every opening of the recording.
    let hours = ["first", "second", "third"].iter().position(|it| *it == name).expect("a session") as u64;
    tokio::time::pause();
    let clock = Clock::Tokio { start: tokio::time::Instant::now() };
    tokio::time::advance(Duration::from_secs((hours + 1) * 3600)).await;
    tokio::time::resume();
    let options = Options { clock, provider: Some(Arc::clone(&provider) as _), ..Options::default() };
    let pipeline = Pipeline::start_with(config, options).await.expect("the engine starts");
    let owner = |name| Owner::new(name).expect("a name");
    let session = Session { pipeline, provider, anna: owner("anna"), house: owner("haus/müller") };
    match name {
        "first" => {
            session.first().await;
            assert_eq!(session.pipeline.stop(Duration::ZERO).await, Stopped::Drained);
        }
        "second" => session.second().await,
        _ => fs::write(folder.join("dump.jsonl"), session.third().await).expect("written"),
    }
    println!("{READY}");
    std::future::pending().await
}

struct Session {
    pipeline: Pipeline,
    provider: Arc<Recorded>,
    anna: Owner,
    house: Owner,
}

impl Session {
    /// Batches that end in every way, and an attempt that is handed back.
    async fn first(&self) {
        let (anna, house, scripted) = (&self.anna, &self.house, &self.provider.scripted);
        // Completed; one file is refused, and one record is long.
        scripted.describing("long.png", &[Act::Say(long_text("long.png")), Act::Say(long_text("long.png"))]);
        let beach = photograph();
        let holiday = [
            place("holiday/beach.jpg", &beach),
            place("holiday/harbour.png", &drawing("harbour")),
            place("holiday/long.png", &drawing("long")),
            place("holiday/market.png", &drawing("market")),
            place("holiday/empty.png", &[]),
        ];
        let (batch, _) = self.submit(anna, holiday).await;
        self.ended(anna, batch).await;

        // The same bytes at other paths, and other bytes at a known path.
        let files = vec![place("backup/beach.jpg", &beach), place("backup/long.png", &drawing("long"))];
        let copies = self.tell(SubmitBatch { owner: anna.clone(), files, force: false }).await;
        assert!(matches!(copies.files[..], [Admission::Done(_), Admission::Done(_)]));
        let (batch, _) = self.submit(anna, [place("holiday/harbour.png", &drawing("harbour at dusk"))]).await;
        self.ended(anna, batch).await;

        // Failed twice, retried, failed twice again; beside it one that completes at its second attempt.
        scripted.embedding("second.png", &[Act::Fail]);
        let files =
            [place("trouble/bad.png", &drawing("bad")), place("trouble/second.png", &drawing("second"))];
        let (batch, _) = self.submit(anna, files).await;
        self.ended(anna, batch).await;
        self.tell(RetryFailed { owner: anna.clone(), batch }).await;
        self.ended(anna, batch).await;

        // Received, completed, and one of them deleted.
        let files = [self.receive("straße.png").await, self.receive("brücke.png").await];
        let (batch, uploads) = self.submit(house, files).await;
        self.ended(house, batch).await;
        self.tell(DeleteUpload { owner: house.clone(), upload: uploads[1] }).await;

        // Cancelled with uploads completed, in flight and waiting.
        for name in ["zwei.png", "drei.png", "vier.png"] {
            scripted.describing(name, &[Act::Hang]);
        }
        let mut files = Vec::new();
        for name in ["eins.png", "zwei.png", "drei.png", "vier.png", "fünf.png"] {
            files.push(self.receive(name).await);
        }
        let (batch, uploads) = self.submit(house, files).await;
        for upload in &uploads[1..4] {
            self.when(house, *upload, is_asked_about).await;
        }
        self.tell(CancelBatch { owner: house.clone(), batch }).await;

        // The provider goes away and comes back.
        scripted.is_there(false);
        let (batch, uploads) = self.submit(anna, [place("holiday/fog.png", &drawing("fog"))]).await;
        self.when(anna, uploads[0], |it| it.provider_away == 1).await;
        scripted.is_there(true);
        self.ended(anna, batch).await;

        // In flight when the process stops in good order.
        let (batch, uploads) = self.submit(anna, [place("night/night.png", &drawing("night"))]).await;
        self.when(anna, uploads[0], is_asked_about).await;
        self.tell(PauseBatch { owner: anna.clone(), batch }).await;
        self.tell(ResumeBatch { owner: anna.clone(), batch }).await;
    }

    /// A description that is only embedded again, and an attempt that is interrupted.
    async fn second(&self) {
        let (batch, _) = self.submit(&self.anna, [place("holiday/beach.jpg", &photograph())]).await;
        self.ended(&self.anna, batch).await;
        let again = |it: &Upload| it.file_name == "night.png" && is_asked_about(it);
        let night = self.named(&self.anna, "night.png").await;
        self.when(&self.anna, night, again).await;
    }

    /// Uploads in flight at every stage, waiting, and paused. Answers with the dump.
    async fn third(&self) -> Vec<u8> {
        let (anna, house, scripted) = (&self.anna, &self.house, &self.provider.scripted);
        let night = self.named(anna, "night.png").await;
        self.when(anna, night, |it| it.status == Status::Completed).await;

        // Deleted, but its files are still there.
        let (batch, uploads) = self.submit(house, [self.receive("abriss.png").await]).await;
        self.ended(house, batch).await;
        self.keep_from_removal(uploads[0]);
        self.tell(DeleteUpload { owner: house.clone(), upload: uploads[0] }).await;

        let long = long_text("garten.png");
        scripted.describing("dusk.png", &[Act::Hang]);
        scripted.embedding("dawn.png", &[Act::Hang]);
        scripted.describing("küche.png", &[Act::Hang]);
        scripted.describing("garten.png", &[Act::Say(long.clone()), Act::Say(long)]);
        scripted.embedding("garten.png", &[Act::Hang]);
        scripted.describing("garage.png", &[Act::Fail, Act::Hang]);
        let files = [place("night/dusk.png", &drawing("dusk")), place("night/dawn.png", &drawing("dawn"))];
        let (_, uploads) = self.submit(anna, files).await;
        self.when(anna, uploads[0], is_asked_about).await;
        self.when(anna, uploads[1], |it| it.status == Status::Embedding).await;
        let files = [
            self.receive("küche.png").await,
            self.receive("garten.png").await,
            self.receive("garage.png").await,
        ];
        let (_, uploads) = self.submit(house, files).await;
        self.when(house, uploads[0], is_asked_about).await;
        self.when(house, uploads[1], |it| it.status == Status::Embedding).await;
        self.when(house, uploads[2], |it| it.attempt == 2 && is_asked_about(it)).await;
        // Only the beginning of this attempt is recorded: its thumbnail waits for a reader.
        let keller = self.receive("keller.png").await;
        if let Source::Received(received) = &keller {
            let thumbnail =
                self.pipeline.files.local_path(&FileKey::thumbnail(received.id())).with_extension("tmp");
            fs::create_dir_all(thumbnail.parent().expect("a folder")).expect("made");
            assert!(Command::new("mkfifo").arg(thumbnail).status().expect("mkfifo runs").success());
        }
        let (_, uploads) = self.submit(house, [keller]).await;
        self.when(house, uploads[0], |it| it.status == Status::Analyzing).await;

        // All workers are taken, so the others wait. One of them replaces an upload that is completed.
        self.submit(anna, [place("night/moon.png", &drawing("moon"))]).await;
        let submit = SubmitBatch {
            owner: anna.clone(),
            files: vec![place("holiday/market.png", &drawing("market"))],
            force: true,
        };
        self.tell(submit).await;
        self.submit(house, [self.receive("dach.png").await]).await;
        // A name that is not UTF-8, in Latin-1.
        let latin = Path::new("later").join(std::ffi::OsStr::from_bytes(b"caf\xe9.png"));
        let files = [self.receive("speicher.png").await, place(latin, &drawing("café"))];
        let (batch, _) = self.submit(house, files).await;
        self.tell(PauseBatch { owner: house.clone(), batch }).await;
        // The last command writes several events.
        let files = [self.receive("tor.png").await, self.receive("zaun.png").await];
        let (batch, _) = self.submit(house, files).await;
        self.tell(CancelBatch { owner: house.clone(), batch }).await;
        self.dump().await
    }

    /// Sends a command that succeeds.
    async fn tell<M, T>(&self, command: M) -> T
    where
        M: actix::Message<Result = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
        BatchSupervisor: actix::Handler<M>,
    {
        self.pipeline.supervisor.send(command).await.expect("the supervisor is alive").expect("done")
    }

    /// Submits a batch. Answers with its uploads.
    async fn submit(
        &self,
        owner: &Owner,
        files: impl IntoIterator<Item = Source>,
    ) -> (BatchId, Vec<UploadId>) {
        let files = files.into_iter().collect();
        let submitted = self.tell(SubmitBatch { owner: owner.clone(), files, force: false }).await;
        let accepted = submitted.files.iter().filter_map(|it| match it {
            Admission::Accepted(id) => Some(*id),
            _ => None,
        });
        (submitted.batch_id.expect("a batch"), accepted.collect())
    }

    /// Receives the bytes of a picture.
    async fn receive(&self, name: &str) -> Source {
        let mut receiving = self.pipeline.intake.receive(name).await.expect("there is room");
        receiving.write(&drawing(name)).await.expect("written");
        Source::Received(receiving.finish().await.expect("a picture"))
    }

    /// Waits until an upload has this state.
    async fn when(&self, owner: &Owner, upload: UploadId, so: impl Fn(&Upload) -> bool) {
        let get = || GetUpload { owner: owner.clone(), upload };
        while !so(&self.pipeline.query_service.send(get()).await.expect("alive").expect("the upload")) {
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until a batch has ended.
    async fn ended(&self, owner: &Owner, batch: BatchId) {
        let get = || GetBatch { owner: owner.clone(), batch };
        while !self
            .pipeline
            .query_service
            .send(get())
            .await
            .expect("alive")
            .expect("the batch")
            .status
            .is_terminal()
        {
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The only upload of this name.
    async fn named(&self, owner: &Owner, name: &str) -> UploadId {
        let dump = String::from_utf8(self.dump().await).expect("text");
        let lines = dump.lines().map(|it| serde_json::from_str::<serde_json::Value>(it).expect("JSON"));
        let uploads = lines.filter(|it| it["tree"] == "uploads").map(|it| it["value"].clone());
        let mut named = uploads.filter(|it| it["owner"] == owner.as_str() && it["file_name"] == name);
        named.next().and_then(|it| it["id"].as_str()?.parse().ok()).expect("an upload of this name")
    }

    async fn dump(&self) -> Vec<u8> {
        self.pipeline.query_service.send(DumpStore(Vec::new())).await.expect("alive").expect("a dump")
    }

    /// Puts a folder where the thumbnail of an upload is, which cannot be removed as a file.
    fn keep_from_removal(&self, upload: UploadId) {
        let thumbnail = self.pipeline.files.local_path(&FileKey::thumbnail(upload));
        fs::rename(&thumbnail, thumbnail.with_extension("kept")).expect("moved");
        fs::create_dir(thumbnail).expect("made");
    }
}

/// Whether the provider is describing the upload.
fn is_asked_about(upload: &Upload) -> bool {
    upload.stage == Stage::VisionAnalysis
}

/// Writes a file in place, unless it has these bytes already.
fn place(path: impl AsRef<Path>, bytes: &[u8]) -> Source {
    let path = Path::new(PHOTOS).join(path);
    if fs::read(&path).ok().as_deref() != Some(bytes) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, bytes).expect("written");
    }
    Source::InPlace(path)
}

/// A small picture for each name.
fn drawing(name: &str) -> Vec<u8> {
    let seed = name.bytes().fold(7_u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let [r, g, b, _] = seed.to_le_bytes();
    let picture =
        RgbImage::from_fn(32, 24, |x, _| if x / 8 % 2 == 0 { Rgb([r, g, b]) } else { Rgb([b, r, g]) });
    pictures::encoded(picture, ImageFormat::Png)
}

/// A small JPEG that names its camera.
fn photograph() -> Vec<u8> {
    // Offsets count from the TIFF header: 8 + 2 + 2 entries of 12 + 4 = 38.
    let entries = [(0x010f, 2, 6, 38), (0x0110, 2, 13, 44)];
    let exif = pictures::exif(&entries, b"Canon\0Canon EOS R6\0");
    pictures::with_segment(&pictures::jpeg(&pictures::quarters(32, 24)), 0xe1, &exif)
}

/// A description that is longer than a piece of a record.
fn long_text(name: &str) -> String {
    let stripes =
        (0..150).map(|n| format!("Stripe {n} of the pattern is blue and lies beside the next one. "));
    format!("The file is called {name}. {}", stripes.collect::<String>())
}
