//! The supervisor with real workers, the provider `builtin` and a real photo.

use std::{path::Path, sync::Arc, time::Duration};

use actix::prelude::*;
use mediamill_actors::{
    analysis::builtin::Builtin,
    batch_supervisor::{BatchSupervisor, Change, ChangeBatch, DeleteUpload, Drain, SubmitBatch},
    config::Config,
    error::Error,
    files::{self, Files},
    id::{BatchId, Owner, UploadId},
    media::{Format, Limits, VisionSpec},
    provider_gate::ProviderGate,
    store::{Clock, NewBatch, NewUpload, Store},
    upload::{FileRef, PlacePath, Status},
    upload_worker::Tools,
};
use tokio::sync::Semaphore;

struct World {
    folder: tempfile::TempDir,
    store: Store,
    supervisor: Addr<BatchSupervisor>,
    owner: Owner,
}

async fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("cat.jpg"), include_bytes!("fixtures/cat.jpg")).expect("written");
    let store = Store::open(&folder.path().join("data"), 8, 1000, Clock::System).expect("the store opens");
    let gate =
        ProviderGate::new(Arc::new(Builtin::new(64).expect("valid")), &Config::default(), Clock::System);
    gate.start().await;
    let limits = Limits {
        max_image_bytes: 1 << 20,
        max_video_bytes: 1 << 20,
        max_pixels: 1 << 24,
        max_side_px: 4096,
        decode_memory: 64 << 20,
    };
    let tools = Arc::new(Tools {
        store: store.clone(),
        gate,
        files: Files::new(store.data_dir()),
        limits,
        vision: VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: false },
        decode_memory: Arc::new(Semaphore::new(64)),
        decoders: Arc::new(Semaphore::new(2)),
    });
    World { folder, store, supervisor: BatchSupervisor::new(tools, 4, 100).start(), owner: Owner::local() }
}

fn upload(path: &Path) -> NewUpload {
    let bytes = include_bytes!("fixtures/cat.jpg");
    NewUpload {
        id: UploadId::generate(),
        file: FileRef::InPlace(PlacePath::new(path)),
        file_name: "cat.jpg".into(),
        file_size: bytes.len() as u64,
        content_hash: files::hash(bytes),
        format: Format::Jpeg,
        decode_bytes: 16 << 20,
        place: None,
        replaces: None,
    }
}

impl World {
    async fn submit(&self, names: &[&str]) -> (BatchId, Vec<UploadId>) {
        let uploads = names.iter().map(|name| upload(&self.folder.path().join(name))).collect();
        let new = NewBatch { owner: self.owner.clone(), refused: 0, uploads };
        let accepted = self.supervisor.send(SubmitBatch(new)).await.expect("alive").expect("accepted");
        (accepted.batch_id, accepted.uploads)
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

    async fn change(&self, batch: BatchId, change: Change) -> Result<(), Error> {
        self.supervisor.send(ChangeBatch { owner: self.owner.clone(), batch, change }).await.expect("alive")
    }
}

#[actix_rt::test]
async fn a_failure_stops_nothing_and_a_retry_begins_another_run() {
    let world = world().await;
    let (batch, uploads) = world.submit(&["cat.jpg", "missing.jpg", "cat.jpg"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (2, 1));
    std::fs::copy(world.folder.path().join("cat.jpg"), world.folder.path().join("missing.jpg"))
        .expect("put back");
    world.change(batch, Change::RetryFailed).await.expect("a new run");
    let record = world.ended(batch).await;
    assert_eq!((record.run, record.counts.completed, record.counts.failed), (2, 3, 0));
    let retried = world.store.upload(world.owner.clone(), uploads[1]).await.expect("the upload");
    assert_eq!((retried.attempt, retried.history[0].failures.len()), (3, 2));
}

#[actix_rt::test]
async fn a_drained_supervisor_hands_back_and_takes_no_more() {
    let world = world().await;
    let (batch, uploads) = world.submit(&["cat.jpg"; 8]).await;
    world.supervisor.send(Drain(Duration::ZERO)).await.expect("alive").expect("drained");
    let new = NewBatch { owner: world.owner.clone(), refused: 0, uploads: Vec::new() };
    assert!(matches!(world.supervisor.send(SubmitBatch(new)).await.expect("alive"), Err(Error::Stopping)));
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
    world.supervisor.send(delete).await.expect("alive").expect("deleted");
    world.change(batch, Change::Cancel).await.expect("cancelled");
    let record = world.ended(batch).await;
    assert_eq!(
        (record.counts.total, record.counts.unfinished(), record.status().as_str()),
        (7, 0, "cancelled")
    );
    let gone = world.store.upload(world.owner.clone(), uploads[0]).await;
    assert_eq!(gone.map(drop), Err(Error::NotFound("upload")));
}
