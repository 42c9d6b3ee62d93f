//! What a worker makes of one file.

mod support;

use mediamill_actors::upload::{FailureKind, Status, Thumbnail};
use support::World;

#[actix_rt::test]
async fn a_photo_is_described_and_embedded_and_has_a_thumbnail() {
    let world = World::builtin().await;
    let (batch, uploads) = world.submit(&["cat.jpg"]).await;
    world.ended(batch).await;
    let upload = world.upload(uploads[0]).await;
    assert_eq!((upload.status, upload.attempt, &upload.thumbnail), (Status::Completed, 1, &Thumbnail::Made));
    assert!(world.pipeline.files.thumbnail(upload.id).exists(), "it lies on disk");
    let description = upload.description.expect("a description");
    assert!(description.text.contains("cat") && !description.needs_review, "{description:?}");
}

#[actix_rt::test]
async fn a_file_that_changed_or_vanished_is_tried_twice_and_failed_with_that_sentence() {
    let world = World::scripted().await;
    // It was not asked yet whether it is there, so nothing is begun before it answers.
    world.provider.is_there(false);
    let (batch, uploads) = world.submit(&["changed.png", "missing.png"]).await;
    std::fs::write(world.path("changed.png"), b"other").expect("written");
    std::fs::remove_file(world.path("missing.png")).expect("removed");
    world.provider.is_there(true);
    world.ended(batch).await;
    for (upload, kind) in uploads.into_iter().zip([FailureKind::FileChanged, FailureKind::FileMissing]) {
        let upload = world.upload(upload).await;
        let failures: Vec<_> = upload.failures.iter().map(|it| (it.attempt, it.kind)).collect();
        assert_eq!((upload.status, failures), (Status::Failed, vec![(1, kind), (2, kind)]));
    }
}
