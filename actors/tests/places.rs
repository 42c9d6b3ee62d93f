//! The upload of each path, while files are copied, moved, edited and deleted, on a paused clock.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use mediamill_actors::{
    batch_supervisor::{DeleteUpload, SubmitBatch, Submitted},
    id::UploadId,
    intake::{Admission, Source},
    query_service::SearchUploads,
    upload::{FileKey, Status},
};
use support::{World, scripted::Act};

/// Submits files, and waits until all uploads have ended. Answers with the upload of each file.
async fn process(world: &World, names: &[&str]) -> Vec<UploadId> {
    process_as(world, names, false).await
}

async fn process_as(world: &World, names: &[&str], force: bool) -> Vec<UploadId> {
    let files = names.iter().map(|name| Source::InPlace(world.path(name))).collect();
    let submit = SubmitBatch { owner: world.owner.clone(), files, force };
    let Submitted { batch_id, files } = world.tell(submit).await.expect("taken");
    if let Some(batch) = batch_id {
        world.ended(batch).await;
    }
    let store = world.pipeline.queries();
    let mut changes = store.watch();
    while !store.removals().await.expect("readable").is_empty() {
        changes.changed().await.expect("open");
    }
    let id = |admission| match admission {
        Admission::Accepted(id) => id,
        Admission::Done(upload) => upload.id,
        other => unreachable!("{other:?}"),
    };
    files.into_iter().map(id).collect()
}

/// The uploads that a search finds, by path. Asserts that the store is consistent and that
/// thumbnails exist.
async fn found(world: &World) -> BTreeMap<String, UploadId> {
    let search = SearchUploads { owner: world.owner.clone(), query: "a picture".into(), limit: 100 };
    let found = world.pipeline.query_service.send(search).await.expect("alive").expect("found");
    let verified = world.pipeline.queries().verify().await.expect("readable");
    assert_eq!(verified.faults, [""; 0]);
    let mut paths = BTreeMap::new();
    for it in found {
        assert!(
            world.pipeline.files.local_path(&FileKey::thumbnail(it.upload.id)).exists(),
            "{:?}",
            it.upload.place()
        );
        let path = it.upload.place().and_then(|it| it.file_name()).expect("in place");
        let name = path.to_string_lossy().into_owned();
        assert_eq!(it.upload.file_name, name);
        assert_eq!(paths.insert(name.clone(), it.upload.id), None, "{name} is found twice");
    }
    paths
}

fn paths<const N: usize>(expected: [(&str, UploadId); N]) -> BTreeMap<String, UploadId> {
    expected.map(|(name, id)| (name.to_owned(), id)).into()
}

/// A world with different files, and their uploads.
async fn world(names: &[&str]) -> (World, Vec<UploadId>) {
    let world = World::scripted().await;
    for name in names {
        edit(&world, name, name);
    }
    let uploads = process(&world, names).await;
    (world, uploads)
}

/// Writes a file with a distinct modification time: a coarse clock may give several files the
/// same time.
fn edit(world: &World, name: &str, into: &str) {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    fs::write(world.path(name), support::picture(into)).expect("written");
    let file = fs::File::options().write(true).open(world.path(name)).expect("there");
    let seconds = WRITTEN.fetch_add(1, Ordering::Relaxed);
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)).expect("set");
}

fn rename(world: &World, from: &str, to: &str) {
    fs::rename(world.path(from), world.path(to)).expect("renamed");
}

fn copy(world: &World, from: &str, to: &str) {
    fs::copy(world.path(from), world.path(to)).expect("copied");
}

#[actix_rt::test]
async fn a_copy_outlives_an_edit_of_the_file_that_was_described() {
    let (world, uploads) = world(&["a.png"]).await;
    copy(&world, "a.png", "b.png");
    assert_eq!(process(&world, &["b.png"]).await, uploads);
    edit(&world, "a.png", "edited");
    let after = process(&world, &["a.png", "b.png"]).await;
    assert_eq!(after[1], uploads[0]);
    assert_eq!(found(&world).await, paths([("a.png", after[0]), ("b.png", after[1])]));

    edit(&world, "b.png", "edited too");
    let last = process(&world, &["a.png", "b.png"]).await;
    assert_eq!(
        found(&world).await,
        paths([("a.png", after[0]), ("b.png", last[1])]),
        "nothing is left of it"
    );
}

#[actix_rt::test]
async fn copies_that_are_edited_together_lose_their_old_upload() {
    let (world, _) = world(&["a.png"]).await;
    copy(&world, "a.png", "b.png");
    process(&world, &["b.png"]).await;
    edit(&world, "a.png", "one");
    edit(&world, "b.png", "two");
    let after = process(&world, &["a.png", "b.png"]).await;
    assert_eq!(found(&world).await, paths([("a.png", after[0]), ("b.png", after[1])]));
}

async fn path_taken(order: [&str; 2]) {
    let (world, uploads) = world(&["a.png"]).await;
    rename(&world, "a.png", "c.png");
    edit(&world, "a.png", "new");
    let after: BTreeMap<_, _> = order.into_iter().zip(process(&world, &order).await).collect();
    assert_eq!(after["c.png"], uploads[0]);
    assert_eq!(found(&world).await, paths([("a.png", after["a.png"]), ("c.png", after["c.png"])]));
}

#[actix_rt::test]
async fn a_moved_file_whose_path_was_taken_keeps_its_upload_at_the_new_path() {
    path_taken(["a.png", "c.png"]).await;
}

#[actix_rt::test]
async fn a_moved_file_whose_path_was_taken_keeps_its_upload_in_either_order() {
    path_taken(["c.png", "a.png"]).await;
}

#[actix_rt::test]
async fn a_file_that_is_found_after_its_path_was_taken_keeps_its_upload() {
    let (world, uploads) = world(&["a.png"]).await;
    rename(&world, "a.png", "c.png");
    edit(&world, "a.png", "new");
    // The new upload waits while the old file is found.
    world.provider.is_there(false);
    let (batch, new) = world.submit(&["a.png"]).await;
    assert_eq!(process(&world, &["c.png"]).await, uploads);
    world.provider.is_there(true);
    world.ended(batch).await;
    assert_eq!(found(&world).await, paths([("a.png", new[0]), ("c.png", uploads[0])]));
}

#[actix_rt::test]
async fn files_that_swap_names_swap_paths() {
    let (world, uploads) = world(&["a.png", "b.png", "c.png"]).await;
    rename(&world, "a.png", "t.png");
    rename(&world, "b.png", "a.png");
    rename(&world, "c.png", "b.png");
    rename(&world, "t.png", "c.png");
    let after = process(&world, &["a.png", "b.png", "c.png"]).await;
    assert_eq!(after, [uploads[1], uploads[2], uploads[0]]);
    assert_eq!(found(&world).await, paths([("a.png", after[0]), ("b.png", after[1]), ("c.png", after[2])]));
}

#[actix_rt::test]
async fn a_file_that_another_was_moved_over_loses_its_upload() {
    let (world, uploads) = world(&["a.png", "b.png"]).await;
    rename(&world, "b.png", "a.png");
    assert_eq!(process(&world, &["a.png"]).await, [uploads[1]]);
    assert_eq!(found(&world).await, paths([("a.png", uploads[1])]));
}

#[actix_rt::test]
async fn a_copy_keeps_the_upload_of_a_deleted_file() {
    let (world, uploads) = world(&["a.png"]).await;
    copy(&world, "a.png", "b.png");
    process(&world, &["b.png"]).await;
    fs::remove_file(world.path("a.png")).expect("removed");
    process(&world, &["b.png"]).await;
    assert_eq!(found(&world).await, paths([("b.png", uploads[0])]));
}

#[actix_rt::test]
async fn a_renamed_file_can_be_edited_forced_or_deleted_without_left_overs() {
    let (world, _) = world(&["a.png", "b.png", "c.png"]).await;
    for (from, to) in [("a.png", "x.png"), ("b.png", "y.png"), ("c.png", "z.png")] {
        rename(&world, from, to);
    }
    let moved = process(&world, &["x.png", "y.png", "z.png"]).await;
    edit(&world, "x.png", "edited");
    let edited = process(&world, &["x.png"]).await;
    let force = process_as(&world, &["y.png"], true).await;
    let delete = DeleteUpload { owner: world.owner.clone(), upload: moved[2] };
    world.tell(delete).await.expect("deleted");
    assert_eq!(found(&world).await, paths([("x.png", edited[0]), ("y.png", force[0])]));
}

#[actix_rt::test]
async fn another_embedding_model_describes_nothing_again() {
    let (world, uploads) = world(&["a.png", "b.png", "c.png"]).await;
    fs::remove_file(world.pipeline.files.local_path(&FileKey::thumbnail(uploads[1]))).expect("removed");
    copy(&world, "c.png", "d.png");
    process(&world, &["d.png"]).await;
    let (described, text) = (world.provider.asked(), world.upload(uploads[0]).await.description);
    world.provider.changes_embedding_model();
    let names = ["a.png", "b.png", "c.png", "d.png"];
    let after = process(&world, &names).await;
    assert!(after.iter().all(|it| !uploads.contains(it)));
    assert_eq!(world.provider.asked(), described);
    assert_eq!(found(&world).await, names.map(str::to_owned).into_iter().zip(after.clone()).collect());
    assert_eq!(world.upload(after[0]).await.description, text);
    assert_eq!(process(&world, &names).await, after, "all is done");
}

#[actix_rt::test]
async fn the_older_result_stays_until_another_embedding_model_has_given_the_new_one() {
    let (world, uploads) = world(&["a.png"]).await;
    world.provider.changes_embedding_model();
    // The second time the text is shorter.
    world.provider.embedding("A small picture", &[Act::Fail, Act::Fail]);
    let failed = process(&world, &["a.png"]).await;
    assert_eq!(world.upload(failed[0]).await.status, Status::Failed);
    assert_eq!(world.upload(uploads[0]).await.status, Status::Completed);
    let after = process(&world, &["a.png"]).await;
    assert_eq!(found(&world).await, paths([("a.png", after[0])]));
    assert!(world.pipeline.queries().upload(world.owner.clone(), uploads[0]).await.is_err());
    assert_eq!(world.provider.asked(), ["a.png"]);
}
