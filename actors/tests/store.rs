//! The store from outside: what is acknowledged is there, attempts are counted, and a dump tells it all.

mod support;

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use mediamill_actors::{
    error::Error,
    event::EventKind,
    id::{Owner, UploadId},
    store::{AfterAttempt, CommandError, Notice, OpenError, Scope, Store},
    upload::{FailureKind, FileRef, PlacePath, Status},
};
use support::bare_store::{
    Bare, admit, batch, complete, dump, failure, files, open, open_with, options, submit,
};

#[actix_rt::test]
async fn an_upload_that_fails_twice_is_failed_and_its_neighbour_completes() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    let batch = submit(&store, &owner, 2).await;
    let begun = store.commands.begin_next(9).await.expect("begun");
    let AfterAttempt::Retried(second) =
        store.commands.fail(begun[0].token.clone(), failure(&begun[0])).await.expect("written")
    else {
        unreachable!("the first failure is followed by another attempt");
    };
    assert_eq!((second.token.attempt, second.upload.failures.len()), (2, 1));
    let stale = complete(&store, &begun[0]).await;
    assert_eq!(stale, Err(CommandError::Stale), "a late result is dropped");
    let after = store.commands.fail(second.token.clone(), failure(&second)).await.expect("written");
    assert!(matches!(after, AfterAttempt::Ended));
    complete(&store, &begun[1]).await.expect("completed");

    let record = store.queries.batch(owner.clone(), batch.batch_id).await.expect("the batch");
    assert_eq!((record.counts.failed, record.counts.completed, record.counts.unfinished()), (1, 1, 0));
    let page = store.queries.events_from(owner, 1, 100).await.expect("the log");
    let ends =
        page.changes.iter().filter(|it| it.event.batch.is_some_and(|batch| batch.ends_round.is_some()));
    assert_eq!(ends.count(), 1, "one terminal event a run");
    let seqs: Vec<u64> = page.changes.iter().map(|it| it.event.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "without gaps");
}

#[actix_rt::test]
async fn what_was_in_flight_when_the_process_died_runs_alone_and_fails_at_the_limit() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let batch = {
        let store = open(&folder).await;
        let batch = submit(&store, &owner, 3).await;
        assert_eq!(store.commands.begin_next(2).await.expect("begun").len(), 2);
        store.close().await;
        batch
    };
    for interruptions in 0..2 {
        let store = open_with(&folder, options(), Scope::All, 2).await;
        let begun = store.commands.begin_next(9).await.expect("begun");
        assert_eq!(begun.len(), 1, "a suspect runs alone");
        assert!(begun[0].alone);
        assert_eq!(begun[0].upload.interruptions, interruptions);
        assert!(store.commands.begin_next(9).await.expect("asked").is_empty(), "nothing beside it");
        store.close().await;
    }
    let store = open_with(&folder, options(), Scope::All, 2).await;
    let failed = store.queries.upload(owner, batch.uploads[0]).await.expect("the upload");
    assert_eq!((failed.status, failed.failures[0].kind), (Status::Failed, FailureKind::Interrupted));
}

#[actix_rt::test]
async fn cancelling_ends_what_waits_and_what_runs_and_a_second_time_changes_nothing() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    let batch = submit(&store, &owner, 5).await;
    let begun = store.commands.begin_next(2).await.expect("begun");
    let mut notices = store.commands.notices();
    store.commands.cancel(owner.clone(), batch.batch_id).await.expect("cancelled");
    let mut revoked = [notices.next().await, notices.next().await];
    revoked.sort_by_key(|it| *it != Some(Notice::Revoked(begun[0].token.clone())));
    assert_eq!(revoked, [&begun[0], &begun[1]].map(|it| Some(Notice::Revoked(it.token.clone()))));
    assert_eq!(complete(&store, &begun[0]).await, Err(CommandError::Stale));
    let before = dump(&store).await;
    store.commands.cancel(owner.clone(), batch.batch_id).await.expect("nothing to do");
    assert_eq!(dump(&store).await, before);
    let stranger = Owner::new("stranger").expect("valid");
    assert!(matches!(store.commands.cancel(stranger, batch.batch_id).await, Err(CommandError::NotFound(_))));
}

#[actix_rt::test]
async fn a_deleted_upload_leaves_nothing_behind_and_its_batch_adds_up() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    let batch = submit(&store, &owner, 2).await;
    let begun = store.commands.begin_next(2).await.expect("begun");
    complete(&store, &begun[0]).await.expect("completed");
    for upload in &batch.uploads {
        store.commands.delete(owner.clone(), *upload).await.expect("deleted");
    }
    store.commands.files_removed(batch.uploads.clone()).await.expect("written");
    let record = store.queries.batch(owner, batch.batch_id).await.expect("the batch");
    assert_eq!((record.counts.total, record.status().as_str()), (0, "completed"));
    let dump = dump(&store).await;
    for tree in ["active", "embeddings", "hashes", "removals", "upload_ids", "uploads", "work"] {
        assert!(!dump.contains(&format!("{{\"tree\":\"{tree}\"")), "{tree} is empty:\n{dump}");
    }
}

#[actix_rt::test]
async fn a_restored_dump_gives_the_same_dump() {
    let (folder, other, owner) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    submit(&store, &owner, 3).await;
    let begun = store.commands.begin_next(2).await.expect("begun");
    complete(&store, &begun[0]).await.expect("completed");
    let before = dump(&store).await;
    let restored = open(&other).await;
    restored.store.restore(before.as_bytes()).expect("restored");
    assert_eq!(dump(&restored).await, before);
    restored.close().await;
    let reopened = open(&other).await;
    assert_eq!(reopened.recovered.interrupted, 1);
}

#[actix_rt::test]
async fn a_second_process_and_a_store_cut_short_are_told_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).await;
    submit(&store, &Owner::local(), 1).await;
    let second = Store::open(folder.path(), options()).err();
    assert!(matches!(second, Some(OpenError::Locked { .. })), "{second:?}");
    store.close().await;
    std::fs::write(folder.path().join("HIGHWATER"), "99\n").expect("written");
    let shorter = Store::open(folder.path(), options()).err();
    assert!(matches!(shorter, Some(OpenError::Shorter { found: 1, known: 99, .. })), "{shorter:?}");
}

#[actix_rt::test]
async fn a_store_whose_last_threads_still_end_is_waited_for_and_one_that_is_held_is_called_locked() {
    let folder = tempfile::tempdir().expect("a folder");
    open(&folder).await.close().await;
    // As sled's own threads do, for some milliseconds after the last handle is gone.
    let held = std::fs::File::open(folder.path().join("store/db")).expect("a store");
    held.lock().expect("locked");
    let locked = Store::open(folder.path(), options()).err();
    assert!(matches!(locked, Some(OpenError::Locked { .. })), "{locked:?}");
    let ends = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(held);
    });
    drop(open(&folder).await);
    ends.join().expect("it ends");
}

#[actix_rt::test]
async fn what_was_in_flight_outside_the_scope_rests_and_holds_nobody_up() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    let mut uploads = files(3);
    for (upload, path) in uploads.iter_mut().zip(["/a/killer.png", "/b/1.png", "/b/2.png"]) {
        upload.file = FileRef::in_place(PlacePath::new(path));
    }
    let batch = admit(&store, batch(&owner, uploads)).await;
    assert_eq!(store.commands.begin_next(2).await.expect("begun").len(), 2);
    store.close().await;

    let store = open_with(&folder, options(), Scope::Below(vec!["/b".into()]), 3).await;
    let recovered = store.recovered;
    assert_eq!((recovered.interrupted, recovered.waiting, recovered.resting), (2, 2, 1));
    for upload in &batch.uploads[1..] {
        let begun = store.commands.begin_next(9).await.expect("begun");
        let begun: Vec<UploadId> = begun.iter().map(|it| it.token.upload).collect();
        assert_eq!(begun, [*upload], "what was in flight goes first, alone");
        store.commands.delete(owner.clone(), *upload).await.expect("deleted");
    }
}

/// The batch of an owner that has one.
async fn only_batch(store: &Bare, owner: &Owner) -> mediamill_actors::batch::Batch {
    let batches = store.queries.batches(owner.clone(), 0, 9).await.expect("the batches");
    assert_eq!(batches.len(), 1);
    batches.into_iter().next().expect("a batch")
}

/// Begins to write a batch of 2,500 uploads, and lets go when the first thousand are written.
async fn begin_to_submit(
    store: &Bare,
    owner: &Owner,
) -> (Vec<UploadId>, BoxFuture<'static, Result<(), CommandError>>) {
    let (commands, new) = (store.commands.clone(), batch(owner, files(2500)));
    let uploads = new.uploads.iter().map(|it| it.id).collect();
    let mut changes = store.queries.watch();
    let mut submitting = Box::pin(async move { commands.admit(new, 3000).await });
    assert!((&mut submitting).now_or_never().is_none());
    changes.changed().await.expect("open");
    (uploads, submitting)
}

#[actix_rt::test]
async fn a_huge_batch_is_begun_when_all_of_it_is_written() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    let (uploads, submitting) = begin_to_submit(&store, &owner).await;
    assert_eq!(store.commands.begin_next(9).await.expect("asked").len(), 0, "it is not whole");
    let batch = only_batch(&store, &owner).await;
    assert_eq!((batch.counts.total, batch.status().as_str()), (1000, "pending"));
    let other = support::bare_store::batch(&Owner::new("ann").expect("valid"), files(501));
    assert_eq!(
        store.commands.admit(other, 3000).await.err(),
        Some(CommandError::Full { limit: 3000 }),
        "the rest has its room"
    );
    // What is deleted meanwhile does not end it.
    let page = store.queries.uploads(owner.clone(), batch.id, 0, 1000).await.expect("its uploads");
    for upload in page {
        store.commands.delete(owner.clone(), upload.id).await.expect("deleted");
    }
    assert_eq!(only_batch(&store, &owner).await.status().as_str(), "pending");

    submitting.await.expect("written");
    let begun = store.commands.begin_next(2).await.expect("begun");
    let begun: Vec<UploadId> = begun.iter().map(|it| it.token.upload).collect();
    assert_eq!(begun, uploads[1000..1002], "in order");
    let page = store.queries.events_from(owner.clone(), 1, 100_000).await.expect("the log");
    let submitted = page.changes.iter().filter(|it| matches!(it.event.kind, EventKind::BatchSubmitted));
    assert_eq!(
        submitted.map(|it| it.event.batch.expect("of a batch").counts.total).collect::<Vec<_>>(),
        [1500]
    );
    assert_eq!(store.queries.verify().await.expect("readable").faults, [""; 0]);
}

#[actix_rt::test]
async fn a_huge_batch_whose_writing_is_cut_short_goes_on_with_what_was_written() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    drop(begin_to_submit(&store, &owner).await);
    store.close().await;

    let store = open(&folder).await;
    let recovered = store.recovered;
    assert_eq!((recovered.waiting, recovered.interrupted), (1000, 0));
    let batch = only_batch(&store, &owner).await;
    assert_eq!((batch.counts.total, batch.accepted), (1000, 1000));
    assert_eq!(store.commands.begin_next(9).await.expect("begun").len(), 9);
    assert_eq!(store.queries.verify().await.expect("readable").faults, [""; 0]);
}

#[actix_rt::test]
async fn a_huge_batch_that_is_cancelled_while_it_is_written_is_cancelled_whole() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    let (_, submitting) = begin_to_submit(&store, &owner).await;
    let batch = only_batch(&store, &owner).await.id;
    store.commands.cancel(owner.clone(), batch).await.expect("cancelled");
    submitting.await.expect("written");

    let batch = only_batch(&store, &owner).await;
    assert_eq!((batch.counts.cancelled, batch.status().as_str()), (2500, "cancelled"));
    assert_eq!(store.commands.begin_next(9).await.expect("asked").len(), 0);
    let page = store.queries.events_from(owner.clone(), 1, 100_000).await.expect("the log");
    let ends =
        page.changes.iter().filter(|it| it.event.batch.is_some_and(|batch| batch.ends_round.is_some()));
    assert_eq!(ends.count(), 1);
    assert_eq!(store.queries.verify().await.expect("readable").faults, [""; 0]);
}

#[actix_rt::test]
async fn a_retry_of_a_huge_batch_is_one_run_though_it_is_written_in_parts() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    let batch = submit(&store, &owner, 2500).await.batch_id;
    let mut begun = store.commands.begin_next(2500).await.expect("begun");
    // The first thousand complete.
    join_all(begun.drain(..1000).collect::<Vec<_>>().iter().map(async |it| {
        complete(&store, it).await.expect("completed");
    }))
    .await;
    join_all(begun.iter().map(async |it| {
        let AfterAttempt::Retried(again) =
            store.commands.fail(it.token.clone(), failure(it)).await.expect("written")
        else {
            unreachable!("the first failure is followed by another attempt");
        };
        store.commands.fail(again.token.clone(), failure(&again)).await.expect("written");
    }))
    .await;
    let record = async || store.queries.batch(owner.clone(), batch).await.expect("the batch");
    assert_eq!((record().await.counts.failed, record().await.ended_round), (1500, 1));
    let (flushes, _) = store.queries.flushes();
    store.commands.retry_failed(owner.clone(), batch).await.expect("retried");
    assert!(store.queries.flushes().0 > flushes + 1, "others are let in between");
    let record = record().await;
    assert_eq!((record.round, record.counts.failed, record.counts.unfinished()), (2, 0, 1500));
    let page = store.queries.events_from(owner, 1, 100_000).await.expect("the log");
    let retried = page.changes.iter().filter(|it| matches!(it.event.kind, EventKind::BatchRetried { .. }));
    assert_eq!(retried.count(), 1);
    assert_eq!(store.queries.verify().await.expect("readable").faults, [""; 0]);
    assert_eq!(store.commands.begin_next(9).await.expect("begun").len(), 9);
}

/// A dump that ends the process in its middle.
struct CutShort<'a>(&'a [u8]);

impl std::io::Read for CutShort<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => unreachable!("it was told to panic"),
            read => Ok(read),
        }
    }
}

#[actix_rt::test]
async fn a_dump_is_restored_wholly_or_not_at_all() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = open(&folder).await;
    submit(&store, &Owner::local(), 3).await;
    let whole = dump(&store).await;

    let restored = open(&other).await;
    let empty = dump(&restored).await;
    let broken = format!("{whole}{{\"tree\":\"uploads\"}}\n");
    let answer = restored.store.restore(broken.as_bytes());
    let last = whole.lines().count() + 1;
    assert_eq!(answer, Err(Error::Invalid(format!("line {last} is not of a dump"))));
    assert_eq!(dump(&restored).await, empty);

    let dies = std::panic::AssertUnwindSafe(|| {
        restored.store.restore(std::io::BufReader::new(CutShort(whole.as_bytes())))
    });
    std::panic::catch_unwind(dies).expect_err("it dies");
    restored.close().await;
    let refused = Store::open(other.path(), options()).err();
    assert!(matches!(refused, Some(OpenError::HalfRestored { .. })), "{refused:?}");

    std::fs::remove_dir_all(other.path().join("store")).expect("removed");
    let restored = open(&other).await;
    restored.store.restore(whole.as_bytes()).expect("restored");
    assert_eq!(dump(&restored).await, whole);
}

#[actix_rt::test]
async fn nothing_is_begun_after_everything_was_handed_back() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder).await;
    submit(&store, &owner, 3).await;
    store.commands.begin_next(1).await.expect("begun");
    // As a supervisor that asks for the next ones while it is told to stop.
    let (handed_back, begun) = tokio::join!(store.commands.end(), store.commands.begin_next(9));
    assert_eq!(handed_back, Ok(1));
    assert!(matches!(begun, Err(CommandError::Stale)), "{begun:?}");
    store.close().await;
    assert_eq!(open(&folder).await.recovered.interrupted, 0);
}
