//! One worker with the provider `builtin`'s interface and a real file.

use std::sync::Arc;

use actix::prelude::*;
use mediamill_actors::{
    analysis::builtin,
    config::Config,
    files::{self, Files},
    id::{Owner, UploadId},
    media::{Format, Limits, VisionSpec},
    provider_gate::ProviderGate,
    store::{Clock, NewBatch, NewUpload, Store},
    upload::{FailureKind, FileRef, PlacePath, Status, Thumbnail, Upload},
    upload_worker::{Tools, UploadFinished, UploadWorker},
};
use tokio::sync::{Semaphore, mpsc};

struct Ear(mpsc::UnboundedSender<UploadFinished>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<UploadFinished> for Ear {
    type Result = ();

    fn handle(&mut self, finished: UploadFinished, _: &mut Self::Context) {
        let _ = self.0.send(finished);
    }
}

/// Submits the fixture, lets `meanwhile` happen to it, and has a worker work on it to its end.
async fn worked_on(meanwhile: impl FnOnce(&std::path::Path)) -> (Upload, bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let photo = folder.path().join("cat.jpg");
    let bytes = include_bytes!("fixtures/cat.jpg");
    std::fs::write(&photo, bytes).expect("written");
    let store = Store::open(&folder.path().join("data"), 8, 1000, Clock::System).expect("the store opens");
    let gate = ProviderGate::new(
        Arc::new(builtin::Builtin::new(512).expect("valid")),
        &Config::default(),
        Clock::System,
    );
    gate.start().await;
    let tools = Arc::new(Tools {
        store: store.clone(),
        gate,
        files: Files::new(store.data_dir()),
        limits: Limits {
            max_image_bytes: 1 << 20,
            max_video_bytes: 1 << 20,
            max_pixels: 1 << 24,
            max_side_px: 4096,
            decode_memory: 64 << 20,
        },
        vision: VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: false },
        decode_memory: Arc::new(Semaphore::new(64)),
        decoders: Arc::new(Semaphore::new(1)),
    });
    let owner = Owner::local();
    let upload = NewUpload {
        id: UploadId::generate(),
        file: FileRef::InPlace(PlacePath::new(&photo)),
        file_name: "cat.jpg".into(),
        file_size: bytes.len() as u64,
        content_hash: files::hash(bytes),
        format: Format::Jpeg,
        decode_bytes: 16 << 20,
        place: None,
        replaces: None,
    };
    let id = upload.id;
    store
        .submit(NewBatch { owner: owner.clone(), refused: 0, uploads: vec![upload] }, 10)
        .await
        .expect("written");
    meanwhile(&photo);
    let begun = store.begin_next(1).await.expect("begun").remove(0);
    let (tell, mut told) = mpsc::unbounded_channel();
    UploadWorker::new(Arc::clone(&tools), begun, Ear(tell).start().recipient()).start();
    told.recv().await.expect("the worker stops");
    let thumbnail = tools.files.thumbnail(id).exists();
    (store.upload(owner, id).await.expect("the upload"), thumbnail)
}

#[actix_rt::test]
async fn a_photo_is_described_and_embedded_and_has_a_thumbnail() {
    let (upload, thumbnail) = worked_on(|_| {}).await;
    assert_eq!((upload.status, upload.attempt, &upload.thumbnail), (Status::Completed, 1, &Thumbnail::Made));
    assert!(thumbnail, "it lies on disk");
    let description = upload.description.expect("a description");
    assert!(description.text.contains("cat") && !description.needs_review, "{description:?}");
}

#[actix_rt::test]
async fn a_file_that_changed_or_vanished_is_tried_twice_and_failed_with_that_sentence() {
    let (changed, _) = worked_on(|photo| std::fs::write(photo, b"other").expect("written")).await;
    let kinds: Vec<_> = changed.failures.iter().map(|it| (it.attempt, it.kind)).collect();
    assert_eq!(kinds, [(1, FailureKind::FileChanged), (2, FailureKind::FileChanged)]);
    assert_eq!(changed.status, Status::Failed);
    let (missing, _) = worked_on(|photo| std::fs::remove_file(photo).expect("removed")).await;
    assert_eq!(missing.failures[1].kind, FailureKind::FileMissing);
}
