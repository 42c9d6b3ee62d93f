//! Paths of files in place: each belongs to at most one upload of an owner.

use mediamill_actors::{
    event::EventKind,
    id::{Owner, UploadId},
    store::{CommandError, FileStamp, NewBatch, NewUpload, Relocation, Replaces},
    upload::{FileRef, PlacePath, Status, Upload},
};

use super::{Backend, Bench, begin_one, changes_nothing, fail_twice, is_sound, kinds_from, owner, upload};
use crate::support::bare_store::{Bare, admit, batch, complete, description, dump, files};

fn stamp(path: &str) -> FileStamp {
    FileStamp { path: PlacePath::new(path), size: 70, modified_ns: 1_767_225_600_000_000_001 }
}

/// Files in place.
fn at(paths: &[&str]) -> Vec<NewUpload> {
    let placed = |(new, path): (NewUpload, &&str)| NewUpload {
        file: FileRef::in_place(PlacePath::new(*path)),
        stamp: Some(stamp(path)),
        ..new
    };
    files(paths.len()).into_iter().zip(paths).map(placed).collect()
}

async fn place(store: &Bare, owner: &Owner, paths: &[&str]) -> Vec<UploadId> {
    admit(store, batch(owner, at(paths))).await.uploads
}

fn moved(upload: UploadId, path: &str) -> Relocation {
    Relocation { upload, stamp: stamp(path), moved: true }
}

fn copied(upload: UploadId, path: &str) -> Relocation {
    Relocation { moved: false, ..moved(upload, path) }
}

/// Paths alone.
fn only_paths(owner: &Owner, relocations: Vec<Relocation>, displaced: Vec<UploadId>) -> NewBatch {
    NewBatch { id: None, relocations, displaced, ..batch(owner, Vec::new()) }
}

/// The upload of each path.
async fn found(store: &Bare, owner: &Owner, paths: &[&str]) -> Vec<Option<UploadId>> {
    let stamps = paths.iter().map(|path| stamp(path)).collect();
    let found = store.queries.at_paths(owner.clone(), stamps).await.expect("read");
    found.into_iter().map(|it| it.map(|it| it.upload.id)).collect()
}

pub async fn files_that_changed_places_take_nothing_while_the_queue_is_full<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let uploads = place(&store, &ann, &["/a", "/b", "/c"]).await;
    let new = NewBatch {
        relocations: vec![moved(uploads[0], "/b"), moved(uploads[1], "/a"), copied(uploads[0], "/d")],
        displaced: vec![uploads[2]],
        ..batch(&ann, at(&["/c"]))
    };
    let answer = changes_nothing!(&store, store.commands.admit(new, 3)).await;
    assert_eq!(answer, Err(CommandError::Full { limit: 3 }));
}

pub async fn files_that_change_places_keep_their_uploads<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let uploads = place(&store, &ann, &["/a.png", "/b.png"]).await;
    // One in flight, one that waits.
    let begun = begin_one(&store).await;
    let swap = || {
        let relocations = vec![moved(uploads[0], "/b.png"), moved(uploads[1], "/a.png")];
        only_paths(&ann, relocations, uploads.clone())
    };
    store.commands.admit(swap(), 0).await.expect("written");
    assert_eq!(found(&store, &ann, &["/a.png", "/b.png"]).await, [Some(uploads[1]), Some(uploads[0])]);
    for (id, path) in [(uploads[0], "/b.png"), (uploads[1], "/a.png")] {
        let record = upload(&store, &ann, id).await;
        assert_eq!((record.place(), &record.file_name[..]), (Some(path.as_ref()), &path[1..]));
        assert_eq!(record.also_at, []);
    }
    changes_nothing!(&store, store.commands.admit(swap(), 0)).await.expect("the same");
    complete(&store, &begun).await.expect("its attempt still runs");
    is_sound(&store).await;
}

pub async fn paths_are_written_without_a_batch<B: Backend>(bench: &Bench<B>) {
    let (store, ann, bob) = (bench.open().await, owner("ann"), owner("bob"));
    let [a] = place(&store, &ann, &["/a"]).await[..] else { unreachable!("one") };
    let copy = || only_paths(&ann, vec![copied(a, "/copy")], Vec::new());
    // The queue is full for it, but it needs no room.
    store.commands.admit(copy(), 0).await.expect("written");
    assert_eq!(upload(&store, &ann, a).await.also_at, [PlacePath::new("/copy")]);
    assert_eq!(found(&store, &ann, &["/a", "/copy"]).await, [Some(a), Some(a)]);
    changes_nothing!(&store, store.commands.admit(copy(), 0)).await.expect("the same");
    let of_another = only_paths(&bob, vec![copied(a, "/mine")], vec![a]);
    changes_nothing!(&store, store.commands.admit(of_another, 0)).await.expect("nothing to do");
    let gone = only_paths(&ann, vec![copied(UploadId::generate(), "/gone")], vec![UploadId::generate()]);
    changes_nothing!(&store, store.commands.admit(gone, 0)).await.expect("nothing to do");
    assert_eq!(store.queries.batches(ann.clone(), 0, 9).await.expect("read").len(), 1);
    // More than a record remembers are not written.
    let many = (0..Upload::MAX_ALSO_AT + 5).map(|n| copied(a, &format!("/copy{n}"))).collect();
    store.commands.admit(only_paths(&ann, many, Vec::new()), 0).await.expect("written");
    assert_eq!(upload(&store, &ann, a).await.also_at.len(), Upload::MAX_ALSO_AT);
}

pub async fn a_displaced_upload_goes_on_at_another_path_or_is_deleted<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let [a, b, c] = place(&store, &ann, &["/a", "/b", "/c"]).await[..] else { unreachable!("three") };
    let begun = begin_one(&store).await;
    store.commands.admit(only_paths(&ann, vec![copied(b, "/b2")], Vec::new()), 0).await.expect("written");
    let mut notices = store.commands.notices();
    // The file of `c` is now at all three paths.
    let taken = vec![copied(c, "/a"), copied(c, "/b")];
    store.commands.admit(only_paths(&ann, taken, vec![a, b]), 0).await.expect("written");
    assert!(store.queries.upload(ann.clone(), a).await.is_err(), "it has no path left");
    let record = upload(&store, &ann, b).await;
    assert_eq!((record.place(), record.also_at.len()), (Some("/b2".as_ref()), 0));
    assert_eq!(found(&store, &ann, &["/a", "/b", "/b2", "/c"]).await, [Some(c), Some(c), Some(b), Some(c)]);
    let expected = [super::revoked(&begun.token), format!("files of {a}")];
    assert_eq!(super::sent(&mut notices).await, expected.into(), "its attempt was running");
    super::is_refused(&store, &store.commands, &begun).await;
    // One that still has its path is not displaced.
    changes_nothing!(&store, store.commands.admit(only_paths(&ann, Vec::new(), vec![b, c]), 0))
        .await
        .expect("nothing to do");
    is_sound(&store).await;
}

/// A new upload of the file of an older one.
fn replacing(older: UploadId, path: &str) -> Vec<NewUpload> {
    let mut new = at(&[path]);
    new[0].replaces = Some(Replaces { upload: older, at: PlacePath::new(path) });
    new
}

pub async fn a_completed_upload_is_replaced_once_the_new_one_completes<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let older = place(&store, &ann, &["/a"]).await[0];
    complete(&store, &begin_one(&store).await).await.expect("completed");
    let new = admit(&store, batch(&ann, replacing(older, "/a"))).await.uploads[0];
    assert_eq!(found(&store, &ann, &["/a"]).await, [Some(new)]);
    assert_eq!(upload(&store, &ann, older).await.status, Status::Completed, "until the new one completes");
    complete(&store, &begin_one(&store).await).await.expect("completed");
    assert!(store.queries.upload(ann.clone(), older).await.is_err());
    assert_eq!(store.queries.removals().await.expect("read"), [older]);
    is_sound(&store).await;
}

pub async fn an_unfinished_upload_is_replaced_at_once<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let oldest = place(&store, &ann, &["/a"]).await[0];
    complete(&store, &begin_one(&store).await).await.expect("completed");
    let older = admit(&store, batch(&ann, replacing(oldest, "/a"))).await.uploads[0];
    let begun = begin_one(&store).await;
    let newest = admit(&store, batch(&ann, replacing(older, "/a"))).await.uploads[0];
    assert!(store.queries.upload(ann.clone(), older).await.is_err(), "it had not completed");
    assert_eq!(complete(&store, &begun).await, Err(CommandError::Stale));
    assert_eq!(upload(&store, &ann, newest).await.replaces, Some(oldest), "as the older one was to");
    fail_twice(&store, &begin_one(&store).await).await;
    assert_eq!(upload(&store, &ann, oldest).await.status, Status::Completed, "the new one failed");
    is_sound(&store).await;
}

pub async fn a_moved_upload_is_not_replaced<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let older = place(&store, &ann, &["/a"]).await[0];
    let new = NewBatch { relocations: vec![moved(older, "/b")], ..batch(&ann, replacing(older, "/a")) };
    let new = admit(&store, new).await.uploads[0];
    assert_eq!(found(&store, &ann, &["/a", "/b"]).await, [Some(new), Some(older)]);
    assert_eq!(upload(&store, &ann, new).await.replaces, None);
    is_sound(&store).await;
}

pub async fn an_upload_of_known_bytes_begins_with_their_description<B: Backend>(bench: &Bench<B>) {
    let (store, ann, bob) = (bench.open().await, owner("ann"), owner("bob"));
    let older = place(&store, &ann, &["/a"]).await[0];
    complete(&store, &begin_one(&store).await).await.expect("completed");
    let described_as = |older| {
        let mut new = at(&["/b"]);
        new[0].described_as = Some(older);
        new
    };
    let of_another = admit(&store, batch(&bob, described_as(older))).await.uploads[0];
    let record = upload(&store, &bob, of_another).await;
    assert_eq!((record.same_as, record.description), (None, None), "it is another's");
    store.commands.delete(bob, of_another).await.expect("deleted");

    let new = admit(&store, batch(&ann, described_as(older))).await.uploads[0];
    let record = upload(&store, &ann, new).await;
    assert_eq!((record.same_as, record.status), (Some(older), Status::Pending));
    assert_eq!(record.description.map(|it| it.text), Some(description(&store).text));
    let begun = begin_one(&store).await;
    store.commands.resume_embedding(begun.token.clone()).await.expect("it has a description");
    assert_eq!(upload(&store, &ann, new).await.status, Status::Embedding);
    let seen = kinds_from(&store, &ann, 5).await;
    assert!(!seen.iter().any(|it| matches!(it, EventKind::UploadDescribed { .. })), "{seen:?}");
    assert!(dump(&store).await.contains("same_as"));
}
