//! The outcome of one file in the hands of a worker.

mod support;

use mediamill_actors::{
    batch_supervisor::DeleteUpload,
    upload::{FailureKind, FileKey, Status, Thumbnail},
};
use support::World;

/// Writes a picture whose decode takes some time and more than 16 MiB.
fn large(path: &std::path::Path) {
    image::GrayImage::from_fn(4000, 4000, |x, _| image::Luma([(x >> 6) as u8])).save(path).expect("written");
}

#[cfg(feature = "builtin")]
#[actix_rt::test]
async fn a_photo_is_described_and_embedded_and_has_a_thumbnail() {
    let world = World::builtin().await;
    let (batch, uploads) = world.submit(&["cat.jpg"]).await;
    world.ended(batch).await;
    let upload = world.upload(uploads[0]).await;
    assert_eq!((upload.status, upload.attempt, &upload.thumbnail), (Status::Completed, 1, &Thumbnail::Made));
    assert!(world.pipeline.files.local_path(&FileKey::thumbnail(upload.id)).exists(), "it is on disk");
    let description = upload.description.expect("a description");
    assert!(description.text.contains("cat") && !description.needs_review, "{description:?}");
}

#[actix_rt::test]
async fn a_changed_or_missing_file_is_tried_twice_and_fails_with_a_sentence_about_it() {
    let world = World::scripted().await;
    // The provider was not probed yet, so no upload begins before it answers.
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

#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn a_picture_that_cannot_be_decoded_fails_twice_and_is_read_once() {
    use rustix::fs::inotify;
    let world = World::scripted().await;
    // The provider was not probed yet, so no upload begins before it answers.
    world.provider.is_there(false);
    large(&world.path("broken.png"));
    let bytes = std::fs::read(world.path("broken.png")).expect("written");
    std::fs::write(world.path("broken.png"), &bytes[..60]).expect("cut");
    let (batch, uploads) = world.submit(&["broken.png"]).await;
    let opened = inotify::init(inotify::CreateFlags::NONBLOCK).expect("inotify");
    inotify::add_watch(&opened, world.path("broken.png"), inotify::WatchFlags::OPEN).expect("watched");
    world.provider.is_there(true);
    world.ended(batch).await;
    let upload = world.upload(uploads[0]).await;
    let failures: Vec<_> = upload.failures.iter().map(|it| (it.attempt, it.kind, &it.message)).collect();
    let undecodable = FailureKind::Undecodable;
    let message = &upload.failures[0].message;
    assert_eq!(failures, [(1, undecodable, message), (2, undecodable, message)]);
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&opened, &mut buffer);
    let count = std::iter::from_fn(|| events.next().ok().map(drop)).count();
    assert_eq!(count, 1);
}

#[actix_rt::test]
async fn an_upload_beyond_a_lowered_memory_limit_fails_and_delays_no_other() {
    let mut world = World::scripted().await;
    world.provider.is_there(false);
    large(&world.path("large.png"));
    let (batch, uploads) = world.submit(&["large.png", "small.png"]).await;
    world.config.limits.decode_memory_mb = 16;
    let world = world.restart().await;
    world.provider.is_there(true);
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (1, 1));
    let upload = world.upload(uploads[0]).await;
    let failure = &upload.failures[1];
    assert!(failure.message.ends_with("MiB, limits.decode_memory_mb is 16"), "{failure:?}");
    assert_eq!(failure.kind, FailureKind::Refused);
}

#[actix_rt::test]
async fn an_upload_deleted_during_its_decode_leaves_no_thumbnail() {
    // Only one of the large ones is decoded at a time.
    let world = World::scripted_with(|config| config.limits.decode_memory_mb = 60).await;
    large(&world.path("large.png"));
    let (batch, uploads) = world.submit(&["large.png"]).await;
    world.batch_when(batch, |it| it.counts.active == 1).await;
    let delete = DeleteUpload { owner: world.owner.clone(), upload: uploads[0] };
    world.tell(delete).await.expect("deleted");
    let store = world.pipeline.queries();
    let mut changes = store.watch();
    while !store.removals().await.expect("readable").is_empty() {
        changes.changed().await.expect("open");
    }
    // A decode cannot be aborted; the next one waits for its memory.
    let (next, _) = world.submit(&["large.png"]).await;
    assert_eq!(world.ended(next).await.counts.completed, 1);
    assert!(
        !world.pipeline.files.local_path(&FileKey::thumbnail(uploads[0])).exists(),
        "nothing is left of it"
    );
}

#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn a_thumbnail_for_which_the_disk_had_no_room_is_made_later() {
    let world = World::scripted().await;
    world.provider.is_there(false);
    let (batch, uploads) = world.submit(&["a.png"]).await;
    let path = world.pipeline.files.local_path(&FileKey::thumbnail(uploads[0]));
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::os::unix::fs::symlink("/dev/full", path.with_extension("tmp")).expect("linked");
    world.provider.is_there(true);
    assert_eq!(world.ended(batch).await.counts.completed, 1);
    assert_eq!(world.upload(uploads[0]).await.thumbnail, Thumbnail::Pending);
    let (batch, uploads) = world.submit(&["a.png"]).await;
    world.ended(batch).await;
    assert_eq!(world.upload(uploads[0]).await.thumbnail, Thumbnail::Made);
}
