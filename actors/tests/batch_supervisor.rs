//! The supervisor with real workers, the provider `builtin` and a real photo.

use std::time::Duration;

use mediamill_actors::{
    batch_supervisor::{CancelBatch, DeleteUpload, Drain, RetryFailed, SubmitBatch},
    config::Config,
    error::Error,
    id::{BatchId, Owner, UploadId},
    intake::{Admission, Source},
    pipeline::{self, Pipeline, Stopped},
    store::{Clock, Store},
    upload::Status,
};

struct World {
    folder: tempfile::TempDir,
    pipeline: Pipeline,
    store: Store,
    owner: Owner,
}

fn config(folder: &std::path::Path) -> Config {
    let mut config = Config::default();
    config.store.data_dir = folder.join("data");
    config.provider.embedding_dimensions = Some(64);
    config.limits.min_free_disk_mb = 0;
    config
}

async fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let cat = include_bytes!("fixtures/cat.jpg");
    std::fs::write(folder.path().join("cat.jpg"), cat).expect("written");
    std::fs::write(folder.path().join("broken.jpg"), broken_png()).expect("written");
    let pipeline = Pipeline::start(config(folder.path())).await.expect("it starts");
    World { folder, store: pipeline.store().clone(), pipeline, owner: Owner::local() }
}

/// A PNG whose header is sound and whose pixels are not.
fn broken_png() -> Vec<u8> {
    let mut png = Vec::new();
    let picture = image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8 * 3, y as u8 * 2, 7]));
    picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).expect("encoded");
    let from = png.len() / 4;
    let to = png.len() - 20;
    png[from..to].fill(0xff);
    png
}

impl World {
    async fn submit(&self, names: &[&str]) -> (BatchId, Vec<UploadId>) {
        let files = names.iter().map(|name| Source::InPlace(self.folder.path().join(name))).collect();
        let submit = SubmitBatch { owner: self.owner.clone(), files, anew: false };
        let submitted = self.pipeline.supervisor.send(submit).await.expect("alive").expect("accepted");
        let id = |admission| match admission {
            Admission::Accepted(id) => Some(id),
            _ => None,
        };
        (
            submitted.batch_id.expect("a batch"),
            submitted.files.into_iter().map(|it| id(it).expect("accepted")).collect(),
        )
    }

    async fn ended(&self, batch: BatchId) -> mediamill_actors::batch::Batch {
        let mut changes = self.store.watch();
        let wait = async {
            loop {
                let batch = self.store.batch(self.owner.clone(), batch).await.expect("the batch");
                if batch.status().is_terminal() {
                    return batch;
                }
                changes.changed().await.expect("the store is open");
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the batch ends within a minute")
    }
}

#[actix_rt::test]
async fn a_failure_stops_nothing_and_a_retry_begins_another_run() {
    let world = world().await;
    let (batch, uploads) = world.submit(&["cat.jpg", "broken.jpg", "cat.jpg"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (2, 1));
    let retry = RetryFailed { owner: world.owner.clone(), batch };
    world.pipeline.supervisor.send(retry).await.expect("alive").expect("a new run");
    let record = world.ended(batch).await;
    assert_eq!((record.run, record.counts.completed, record.counts.failed), (2, 2, 1));
    let retried = world.store.upload(world.owner.clone(), uploads[1]).await.expect("the upload");
    assert_eq!((retried.attempt, retried.failures.len(), retried.history[0].failures.len()), (4, 2, 2));
}

#[actix_rt::test]
async fn a_drain_hands_back_and_stops_the_engine() {
    let world = world().await;
    let (batch, uploads) = world.submit(&["cat.jpg"; 8]).await;
    let stopped = world.pipeline.stopped();
    world.pipeline.supervisor.send(Drain(Duration::ZERO)).await.expect("alive").expect("drained");
    assert_eq!(stopped.await, Stopped::Drained);
    assert!(!world.pipeline.supervisor.connected());
    let record = world.store.batch(world.owner.clone(), batch).await.expect("the batch");
    assert_eq!((record.counts.active, record.counts.failed), (0, 0));
    for id in uploads {
        let upload = world.store.upload(world.owner.clone(), id).await.expect("the upload");
        assert!(matches!(upload.status, Status::Pending | Status::Completed) && upload.failures.is_empty());
    }
}

#[actix_rt::test]
async fn cancelled_and_deleted_uploads_end_while_they_are_worked_on() {
    let world = world().await;
    let (batch, uploads) = world.submit(&["cat.jpg"; 8]).await;
    let delete = DeleteUpload { owner: world.owner.clone(), upload: uploads[0] };
    world.pipeline.supervisor.send(delete).await.expect("alive").expect("deleted");
    let cancel = CancelBatch { owner: world.owner.clone(), batch };
    world.pipeline.supervisor.send(cancel).await.expect("alive").expect("cancelled");
    let record = world.ended(batch).await;
    assert_eq!(
        (record.counts.total, record.counts.unfinished(), record.status().as_str()),
        (7, 0, "cancelled")
    );
    let gone = world.store.upload(world.owner.clone(), uploads[0]).await;
    assert_eq!(gone.map(drop), Err(Error::NotFound("upload")));
}

#[actix_rt::test]
async fn a_second_look_does_again_only_what_would_come_out_differently() {
    let world = world().await;
    let (batch, uploads) = world.submit(&["cat.jpg"]).await;
    world.ended(batch).await;
    let folder = world.folder.path();
    let look = async |name: &str, anew| {
        let files = vec![Source::InPlace(folder.join(name))];
        let submit = SubmitBatch { owner: world.owner.clone(), files, anew };
        world.pipeline.supervisor.send(submit).await.expect("alive").expect("taken").files.remove(0)
    };
    assert!(matches!(look("cat.jpg", false).await, Admission::Done(upload) if upload.id == uploads[0]));
    std::fs::rename(folder.join("cat.jpg"), folder.join("tom.jpg")).expect("renamed");
    assert!(matches!(look("tom.jpg", false).await, Admission::Done(upload) if upload.id == uploads[0]));
    let moved = world.store.upload(world.owner.clone(), uploads[0]).await.expect("the upload");
    assert_eq!(moved.place(), Some(folder.join("tom.jpg").as_path()));
    assert!(matches!(look("cat.jpg", false).await, Admission::Refused(_)));
    assert!(matches!(look("tom.jpg", true).await, Admission::Accepted(_)));
}

#[actix_rt::test]
async fn bytes_that_were_handed_over_stay_only_if_they_are_submitted() {
    let world = world().await;
    let receive = async |bytes: &[u8]| {
        let mut receiving = world.pipeline.intake.receive("../a/cat.jpg").await.expect("room");
        receiving.write(bytes).await.expect("written");
        receiving.finish().await
    };
    drop(receive(include_bytes!("fixtures/cat.jpg")).await.expect("a picture"));
    assert!(receive(b"no picture").await.is_err());
    let incoming = world.folder.path().join("data/incoming");
    assert_eq!(std::fs::read_dir(&incoming).expect("a folder").count(), 0);

    let received = receive(include_bytes!("fixtures/cat.jpg")).await.expect("a picture");
    let id = received.id();
    let files = vec![Source::Received(received)];
    let submit = SubmitBatch { owner: world.owner.clone(), files, anew: false };
    let submitted = world.pipeline.supervisor.send(submit).await.expect("alive").expect("taken");
    let batch = world.ended(submitted.batch_id.expect("a batch")).await;
    assert_eq!(batch.counts.completed, 1);
    let upload = world.store.upload(world.owner.clone(), id).await.expect("the upload");
    assert_eq!(upload.file_name, "cat.jpg");
    assert!(world.pipeline.files.original(id).exists() && world.pipeline.files.thumbnail(id).exists());
    let delete = DeleteUpload { owner: world.owner.clone(), upload: id };
    world.pipeline.supervisor.send(delete).await.expect("alive").expect("deleted");
    let mut changes = world.store.watch();
    while !world.store.removals().await.expect("readable").is_empty() {
        changes.changed().await.expect("open");
    }
    assert!(!world.pipeline.files.original(id).exists() && !world.pipeline.files.thumbnail(id).exists());
}

#[actix_rt::test]
async fn what_was_unfinished_goes_on_with_the_next_start() {
    let world = world().await;
    let (batch, _) = world.submit(&["cat.jpg"; 6]).await;
    let World { folder, pipeline, store, owner } = world;
    drop(store);
    assert_eq!(pipeline.stop(Duration::ZERO).await, Stopped::Drained);
    let store = pipeline::open(&config(folder.path()), Clock::System).await.expect("the folder is free");
    store.close().await;
    let pipeline = Pipeline::start(config(folder.path())).await.expect("it starts");
    let world = World { folder, store: pipeline.store().clone(), pipeline, owner };
    assert_eq!(world.ended(batch).await.counts.completed, 6);
}
