//! The store from outside: what is acknowledged is there, attempts are counted, and a dump tells it all.

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use mediamill_actors::{
    analysis::Identity,
    error::Error,
    event::What,
    id::{Owner, UploadId},
    media::Format,
    store::{Accepted, AfterAttempt, Begun, Clock, NewBatch, NewUpload, OpenError, Scope, Store, WriteError},
    upload::{Description, Failure, FailureKind, FileRef, PlacePath, Stage, Status},
};

fn open(folder: &tempfile::TempDir) -> Store {
    Store::open(folder.path(), 8, 1000, Clock::System).expect("the store opens")
}

fn files(count: usize) -> Vec<NewUpload> {
    (0..count)
        .map(|number| NewUpload {
            id: UploadId::generate(),
            file: FileRef::Stored,
            file_name: format!("{number}.png"),
            file_size: 70,
            content_hash: format!("{number:064x}"),
            format: Format::Png,
            decode_bytes: 1 << 20,
            place: None,
            replaces: None,
            described_as: None,
        })
        .collect()
}

async fn submit(store: &Store, owner: &Owner, count: usize) -> Accepted {
    let new = NewBatch { owner: owner.clone(), refused: 0, uploads: files(count) };
    store.submit(new, 1000).await.expect("the batch is written")
}

fn identity() -> Identity {
    Identity {
        provider: "scripted".into(),
        vision_model: "v".into(),
        embedding_model: "e".into(),
        dimensions: 3,
        prompt_version: 1,
        ..Identity::default()
    }
}

fn failure(begun: &Begun) -> Failure {
    Failure::new(begun.token.attempt, Stage::VisionAnalysis, FailureKind::BadAnswer, "it said nothing")
}

async fn complete(store: &Store, begun: &Begun) -> Result<(), WriteError> {
    let description = Description {
        text: "A grey square.".into(),
        audit_score: 65,
        needs_review: false,
        audit_version: 1,
        by: identity(),
        asked: 1,
        changed: None,
        at: store.clock().now(),
    };
    store.keep_description(begun.token.clone(), description, Vec::new(), 5);
    store.complete(begun.token.clone(), vec![1.0, 0.5, -0.25], identity(), None, 5).await.map(drop)
}

async fn dump(store: &Store) -> String {
    String::from_utf8(store.dump(Vec::new()).await.expect("a dump")).expect("text")
}

#[actix_rt::test]
async fn an_upload_that_fails_twice_is_failed_and_its_neighbour_completes() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    let batch = submit(&store, &owner, 2).await;
    let begun = store.begin_next(9).await.expect("begun");
    let AfterAttempt::Again(second) =
        store.fail(begun[0].token.clone(), failure(&begun[0])).await.expect("written")
    else {
        unreachable!("the first failure is followed by another attempt");
    };
    assert_eq!((second.token.attempt, second.upload.failures.len()), (2, 1));
    let stale = store.fail(begun[0].token.clone(), failure(&begun[0])).await;
    assert!(matches!(stale, Err(WriteError::Stale)), "a late result is dropped");
    let after = store.fail(second.token.clone(), failure(&second)).await.expect("written");
    assert!(matches!(after, AfterAttempt::Ended));
    complete(&store, &begun[1]).await.expect("completed");

    let record = store.batch(owner.clone(), batch.batch_id).await.expect("the batch");
    assert_eq!((record.counts.failed, record.counts.completed, record.counts.unfinished()), (1, 1, 0));
    let page = store.events_from(owner, 1, 100).await.expect("the log");
    let ends = page.changes.iter().filter(|it| it.event.batch.is_some_and(|batch| batch.ends_run.is_some()));
    assert_eq!(ends.count(), 1, "one terminal event a run");
    let seqs: Vec<u64> = page.changes.iter().map(|it| it.event.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "without gaps");
}

#[actix_rt::test]
async fn what_was_in_flight_when_the_process_died_runs_alone_and_fails_at_the_limit() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let batch = {
        let store = open(&folder);
        let batch = submit(&store, &owner, 3).await;
        assert_eq!(store.begin_next(2).await.expect("begun").len(), 2);
        store.close().await;
        batch
    };
    for interruptions in 0..2 {
        let store = open(&folder);
        store.recover(Scope::All, 2).await.expect("recovered");
        let begun = store.begin_next(9).await.expect("begun");
        assert_eq!(begun.len(), 1, "a suspect runs alone");
        assert!(begun[0].alone);
        assert_eq!(begun[0].upload.interruptions, interruptions);
        assert!(store.begin_next(9).await.expect("asked").is_empty(), "nothing beside it");
        store.close().await;
    }
    let store = open(&folder);
    store.recover(Scope::All, 2).await.expect("recovered");
    let failed = store.upload(owner, batch.uploads[0]).await.expect("the upload");
    assert_eq!((failed.status, failed.failures[0].kind), (Status::Failed, FailureKind::Interrupted));
}

#[actix_rt::test]
async fn cancelling_ends_what_waits_and_what_runs_and_a_second_time_changes_nothing() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    let batch = submit(&store, &owner, 5).await;
    let begun = store.begin_next(2).await.expect("begun");
    let ended = store.cancel(owner.clone(), batch.batch_id).await.expect("cancelled");
    assert_eq!(ended.in_flight.len(), 2);
    assert_eq!(complete(&store, &begun[0]).await, Err(WriteError::Stale));
    let before = dump(&store).await;
    store.cancel(owner.clone(), batch.batch_id).await.expect("nothing to do");
    assert_eq!(dump(&store).await, before);
    let stranger = Owner::new("stranger").expect("valid");
    assert!(matches!(store.cancel(stranger, batch.batch_id).await, Err(WriteError::NotFound(_))));
}

#[actix_rt::test]
async fn a_deleted_upload_leaves_nothing_behind_and_its_batch_adds_up() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    let batch = submit(&store, &owner, 2).await;
    let begun = store.begin_next(2).await.expect("begun");
    complete(&store, &begun[0]).await.expect("completed");
    for upload in &batch.uploads {
        store.delete(owner.clone(), *upload).await.expect("deleted");
    }
    store.files_removed(batch.uploads.clone()).await.expect("written");
    let record = store.batch(owner, batch.batch_id).await.expect("the batch");
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
    let store = open(&folder);
    submit(&store, &owner, 3).await;
    let begun = store.begin_next(2).await.expect("begun");
    complete(&store, &begun[0]).await.expect("completed");
    let before = dump(&store).await;
    let restored = open(&other);
    restored.restore(before.as_bytes()).expect("restored");
    assert_eq!(dump(&restored).await, before);
    restored.close().await;
    let reopened = open(&other);
    assert_eq!(reopened.recover(Scope::All, 3).await.expect("recovered").interrupted, 1);
}

#[actix_rt::test]
async fn a_second_process_and_a_store_cut_short_are_told_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder);
    submit(&store, &Owner::local(), 1).await;
    let second = Store::open(folder.path(), 8, 1000, Clock::System).err();
    assert!(matches!(second, Some(OpenError::Locked { .. })), "{second:?}");
    store.close().await;
    std::fs::write(folder.path().join("HIGHWATER"), "99\n").expect("written");
    let shorter = Store::open(folder.path(), 8, 1000, Clock::System).err();
    assert!(matches!(shorter, Some(OpenError::Shorter { found: 1, known: 99, .. })), "{shorter:?}");
}

#[actix_rt::test]
async fn a_store_whose_last_threads_still_end_is_waited_for_and_one_that_is_held_is_called_locked() {
    let folder = tempfile::tempdir().expect("a folder");
    open(&folder).close().await;
    // As sled's own threads do, for some milliseconds after the last handle is gone.
    let held = std::fs::File::open(folder.path().join("store/db")).expect("a store");
    held.lock().expect("locked");
    let locked = Store::open(folder.path(), 8, 1000, Clock::System).err();
    assert!(matches!(locked, Some(OpenError::Locked { .. })), "{locked:?}");
    let ends = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(held);
    });
    drop(open(&folder));
    ends.join().expect("it ends");
}

#[actix_rt::test]
async fn what_was_in_flight_outside_the_scope_rests_and_holds_nobody_up() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    let mut uploads = files(3);
    for (upload, path) in uploads.iter_mut().zip(["/a/killer.png", "/b/1.png", "/b/2.png"]) {
        upload.file = FileRef::InPlace(PlacePath::new(path));
    }
    let new = NewBatch { owner: owner.clone(), refused: 0, uploads };
    let batch = store.submit(new, 1000).await.expect("written");
    assert_eq!(store.begin_next(2).await.expect("begun").len(), 2);
    store.close().await;

    let store = open(&folder);
    let recovered = store.recover(Scope::Below(vec!["/b".into()]), 3).await.expect("recovered");
    assert_eq!((recovered.interrupted, recovered.waiting, recovered.resting), (2, 2, 1));
    for upload in &batch.uploads[1..] {
        let begun = store.begin_next(9).await.expect("begun");
        let begun: Vec<UploadId> = begun.iter().map(|it| it.token.upload).collect();
        assert_eq!(begun, [*upload], "what was in flight goes first, alone");
        store.delete(owner.clone(), *upload).await.expect("deleted");
    }
}

/// The batch of an owner that has one.
async fn only_batch(store: &Store, owner: &Owner) -> mediamill_actors::batch::Batch {
    let batches = store.batches(owner.clone(), 0, 9).await.expect("the batches");
    assert_eq!(batches.len(), 1);
    batches.into_iter().next().expect("a batch")
}

/// Begins to write a batch of 2,500 uploads, and lets go when the first thousand are written.
async fn begin_to_submit(store: &Store, owner: &Owner) -> BoxFuture<'static, Result<Accepted, WriteError>> {
    let (store, owner) = (store.clone(), owner.clone());
    let mut changes = store.watch();
    let mut submitting = Box::pin(async move {
        let new = NewBatch { owner, refused: 0, uploads: files(2500) };
        store.submit(new, 3000).await
    });
    assert!((&mut submitting).now_or_never().is_none());
    changes.changed().await.expect("open");
    submitting
}

#[actix_rt::test]
async fn a_huge_batch_is_begun_when_all_of_it_is_written() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    let submitting = begin_to_submit(&store, &owner).await;
    assert_eq!(store.begin_next(9).await.expect("asked").len(), 0, "it is not whole");
    let batch = only_batch(&store, &owner).await;
    assert_eq!((batch.counts.total, batch.status().as_str()), (1000, "pending"));
    let other = NewBatch { owner: Owner::new("ann").expect("valid"), refused: 0, uploads: files(501) };
    assert_eq!(
        store.submit(other, 3000).await.err(),
        Some(WriteError::Full { limit: 3000 }),
        "the rest has its room"
    );
    // What is deleted meanwhile does not end it.
    let page = store.uploads(owner.clone(), batch.id, 0, 1000).await.expect("its uploads");
    for upload in page {
        store.delete(owner.clone(), upload.id).await.expect("deleted");
    }
    assert_eq!(only_batch(&store, &owner).await.status().as_str(), "pending");

    let accepted = submitting.await.expect("written");
    assert_eq!(accepted.uploads.len(), 2500);
    let begun = store.begin_next(2).await.expect("begun");
    let begun: Vec<UploadId> = begun.iter().map(|it| it.token.upload).collect();
    assert_eq!(begun, accepted.uploads[1000..1002], "in order");
    let page = store.events_from(owner.clone(), 1, 100_000).await.expect("the log");
    let submitted = page.changes.iter().filter(|it| matches!(it.event.what, What::BatchSubmitted));
    assert_eq!(
        submitted.map(|it| it.event.batch.expect("of a batch").counts.total).collect::<Vec<_>>(),
        [1500]
    );
    assert_eq!(store.verify().await.expect("readable").faults, [""; 0]);
}

#[actix_rt::test]
async fn a_huge_batch_whose_writing_is_cut_short_goes_on_with_what_was_written() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    drop(begin_to_submit(&store, &owner).await);
    store.close().await;

    let store = open(&folder);
    let recovered = store.recover(Scope::All, 3).await.expect("recovered");
    assert_eq!((recovered.waiting, recovered.interrupted), (1000, 0));
    let batch = only_batch(&store, &owner).await;
    assert_eq!((batch.counts.total, batch.accepted), (1000, 1000));
    assert_eq!(store.begin_next(9).await.expect("begun").len(), 9);
    assert_eq!(store.verify().await.expect("readable").faults, [""; 0]);
}

#[actix_rt::test]
async fn a_huge_batch_that_is_cancelled_while_it_is_written_is_cancelled_whole() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    let submitting = begin_to_submit(&store, &owner).await;
    let batch = only_batch(&store, &owner).await.id;
    store.cancel(owner.clone(), batch).await.expect("cancelled");
    submitting.await.expect("written");

    let batch = only_batch(&store, &owner).await;
    assert_eq!((batch.counts.cancelled, batch.status().as_str()), (2500, "cancelled"));
    assert_eq!(store.begin_next(9).await.expect("asked").len(), 0);
    let page = store.events_from(owner.clone(), 1, 100_000).await.expect("the log");
    let ends = page.changes.iter().filter(|it| it.event.batch.is_some_and(|batch| batch.ends_run.is_some()));
    assert_eq!(ends.count(), 1);
    assert_eq!(store.verify().await.expect("readable").faults, [""; 0]);
}

#[actix_rt::test]
async fn a_retry_of_a_huge_batch_is_one_run_though_it_is_written_in_parts() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    let new = NewBatch { owner: owner.clone(), refused: 0, uploads: files(2500) };
    let batch = store.submit(new, 2500).await.expect("written").batch_id;
    let mut begun = store.begin_next(2500).await.expect("begun");
    // The first thousand complete.
    join_all(begun.drain(..1000).collect::<Vec<_>>().iter().map(async |it| {
        complete(&store, it).await.expect("completed");
    }))
    .await;
    join_all(begun.iter().map(async |it| {
        let AfterAttempt::Again(again) = store.fail(it.token.clone(), failure(it)).await.expect("written")
        else {
            unreachable!("the first failure is followed by another attempt");
        };
        store.fail(again.token.clone(), failure(&again)).await.expect("written");
    }))
    .await;
    let record = async || store.batch(owner.clone(), batch).await.expect("the batch");
    assert_eq!((record().await.counts.failed, record().await.ended_run), (1500, 1));
    let (flushes, _) = store.flushes();
    assert_eq!(store.retry_failed(owner.clone(), batch).await, Ok(1500));
    assert!(store.flushes().0 > flushes + 1, "others are let in between");
    let record = record().await;
    assert_eq!((record.run, record.counts.failed, record.counts.unfinished()), (2, 0, 1500));
    let page = store.events_from(owner, 1, 100_000).await.expect("the log");
    let retried = page.changes.iter().filter(|it| matches!(it.event.what, What::BatchRetried { .. }));
    assert_eq!(retried.count(), 1);
    assert_eq!(store.verify().await.expect("readable").faults, [""; 0]);
    assert_eq!(store.begin_next(9).await.expect("begun").len(), 9);
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
    let store = open(&folder);
    submit(&store, &Owner::local(), 3).await;
    let whole = dump(&store).await;

    let restored = open(&other);
    let empty = dump(&restored).await;
    let broken = format!("{whole}{{\"tree\":\"uploads\"}}\n");
    let answer = restored.restore(broken.as_bytes());
    let last = whole.lines().count() + 1;
    assert_eq!(answer, Err(Error::Invalid(format!("line {last} is not of a dump"))));
    assert_eq!(dump(&restored).await, empty);

    let dies = std::panic::AssertUnwindSafe(|| {
        restored.restore(std::io::BufReader::new(CutShort(whole.as_bytes())))
    });
    std::panic::catch_unwind(dies).expect_err("it dies");
    restored.close().await;
    let refused = Store::open(other.path(), 8, 1000, Clock::System).err();
    assert!(matches!(refused, Some(OpenError::HalfRestored { .. })), "{refused:?}");

    std::fs::remove_dir_all(other.path().join("store")).expect("removed");
    let restored = open(&other);
    restored.restore(whole.as_bytes()).expect("restored");
    assert_eq!(dump(&restored).await, whole);
}

#[actix_rt::test]
async fn an_event_that_is_damaged_is_passed_over() {
    let (folder, other, owner) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    let before = store.newest();
    for _ in 0..3 {
        submit(&store, &owner, 1).await;
    }
    let damaged: String = dump(&store)
        .await
        .lines()
        .map(|line| match line.contains("\"tree\":\"events\"") && line.contains("\"seq\":2") {
            true => line.replace("batch_submitted", "nonsense") + "\n",
            false => line.to_owned() + "\n",
        })
        .collect();
    let restored = open(&other);
    restored.restore(damaged.as_bytes()).expect("restored");
    let news = restored.news(before, |_| true, 100, None).await.expect("read");
    let seqs: Vec<u64> = news.changes.iter().map(|it| it.event.seq).collect();
    assert_eq!((seqs, news.reached), (vec![1, 3], restored.newest()));
    let page = restored.events_from(owner.clone(), 1, 100).await.expect("read");
    assert_eq!((page.changes.len(), page.numbers), (2, 1..=3));
    restored.close().await;
    // Nor does it hold anything up when it is forgotten.
    let restored = Store::open(other.path(), 8, 100, Clock::System).expect("the store opens");
    for _ in 0..120 {
        submit(&restored, &owner, 1).await;
    }
    let mut changes = restored.watch();
    while kept(&restored, &owner).await > 100 {
        changes.changed().await.expect("open");
    }
    assert_eq!(restored.broken(), None);
}

#[actix_rt::test]
async fn nothing_is_begun_after_everything_was_handed_back() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    submit(&store, &owner, 3).await;
    store.begin_next(1).await.expect("begun");
    // As a supervisor that asks for the next ones while it is told to stop.
    let (handed_back, begun) = tokio::join!(store.hand_back_all(), store.begin_next(9));
    assert_eq!((handed_back, begun.expect("asked").len()), (Ok(1), 0));
    store.close().await;
    assert_eq!(open(&folder).recover(Scope::All, 3).await.expect("recovered").interrupted, 0);
}

/// How many events of an owner are kept.
async fn kept(store: &Store, owner: &Owner) -> u64 {
    let log = store.events_from(owner.clone(), 0, 1).await.expect("the log");
    log.newest + 1 - log.oldest
}

#[actix_rt::test]
async fn old_events_are_forgotten_once_there_is_time_for_it() {
    let (folder, owner) = (tempfile::tempdir().expect("a folder"), Owner::local());
    let store = Store::open(folder.path(), 8, 100, Clock::System).expect("the store opens");
    submit(&store, &owner, 60).await;
    let mut kept_at_work = Vec::new();
    let begun = store.begin_next(1).await.expect("begun");
    let mut last = begun.into_iter().next().expect("one");
    for _ in 1..60 {
        let next = store.begin_next(1).await.expect("begun").into_iter().next().expect("one");
        complete(&store, &last).await.expect("written");
        kept_at_work.push(kept(&store, &owner).await);
        last = next;
    }
    assert_eq!(kept_at_work.iter().max(), Some(&110), "a tenth more while there is work: {kept_at_work:?}");
    let mut changes = store.watch();
    complete(&store, &last).await.expect("written");
    while kept(&store, &owner).await > 100 {
        changes.changed().await.expect("open");
    }
    assert_eq!(kept(&store, &owner).await, 100);
    assert_eq!(store.verify().await.expect("readable").faults, [""; 0]);
}

#[actix_rt::test]
async fn the_news_are_the_whole_log_in_pieces_of_any_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, other) = (Owner::local(), Owner::new("other").expect("valid"));
    let store = open(&folder);
    let before = store.newest();
    // Written together, as they are asked for at once.
    join_all([&one, &one, &other, &one, &other, &other, &one].map(|owner| submit(&store, owner, 1))).await;
    let submitted = store.begin_next(7).await.expect("begun");
    join_all(submitted.iter().map(|begun| complete(&store, begun))).await;
    let whole = store.news(before, |_| true, 1000, None).await.expect("read").changes;
    assert_eq!(whole.len(), 7 * 4, "each is submitted, begun, described and completed");
    let told = |owner: &Owner, seq: u64| (owner.clone(), seq);
    for wanted in [None, Some(&one), Some(&other)] {
        let expected: Vec<_> = whole
            .iter()
            .filter(|it| wanted.is_none_or(|owner| it.owner == *owner))
            .map(|it| told(&it.owner, it.event.seq))
            .collect();
        for most in 1..9 {
            let (mut cursor, mut heard, mut more) = (before, Vec::new(), true);
            while more {
                let only = wanted.cloned();
                let is_wanted = move |owner: &Owner| only.as_ref().is_none_or(|only| only == owner);
                let news = store.news(cursor, is_wanted, most, None).await.expect("read");
                assert!(news.changes.len() <= most);
                heard.extend(news.changes.iter().map(|it| told(&it.owner, it.event.seq)));
                (cursor, more) = (news.reached, news.more);
            }
            assert_eq!((heard, cursor), (expected.clone(), store.newest()), "at most {most}");
        }
    }
}

#[actix_rt::test]
async fn a_store_of_the_format_before_goes_on() {
    let (folder, other, owner) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"), Owner::local());
    let store = open(&folder);
    submit(&store, &owner, 3).await;
    let begun = store.begin_next(2).await.expect("begun");
    complete(&store, &begun[0]).await.expect("written");
    let now = dump(&store).await;
    // It had an entry for each event, and in flight it was the record that told how far an upload was.
    let mut before = String::new();
    for line in now.lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let first: u64 = line["key"].as_str().expect("text").parse().unwrap_or_default();
        match line["tree"].as_str().expect("text") {
            "changes" => {
                for n in 0..line["value"]["count"].as_u64().unwrap_or(1) {
                    let seq = line["value"]["seq"].as_u64().expect("a number") + n;
                    let value = serde_json::json!({ "owner": "local", "seq": seq });
                    let key = format!("{:020}", first + n);
                    before += &format!(
                        "{}\n",
                        serde_json::json!({ "tree": "changes", "key": key, "value": value })
                    );
                }
                continue;
            }
            "meta" if line["key"] == "format" => line["value"] = 1.into(),
            "active" => drop(line["value"].as_object_mut().expect("an entry").remove("began_at")),
            "uploads" if line["value"]["position"] == 1 => {
                let record = &mut line["value"];
                record["status"] = "analyzing".into();
                record["attempt"] = 1.into();
                record["attempts"] =
                    serde_json::json!([{ "number": 1, "started_at": record["updated_at"].clone() }]);
            }
            _ => {}
        }
        before += &format!("{line}\n");
    }
    let restored = open(&other);
    restored.restore(before.as_bytes()).expect("restored");
    assert_eq!(restored.verify().await.expect("readable").faults, [""; 0]);
    restored.close().await;
    let restored = open(&other);
    let recovered = restored.recover(Scope::All, 3).await.expect("recovered");
    assert_eq!((recovered.interrupted, recovered.waiting), (1, 2));
    for _ in 0..2 {
        let begun = restored.begin_next(1).await.expect("begun").into_iter().next().expect("one");
        assert_eq!(begun.token.attempt, if begun.upload.position == 1 { 2 } else { 1 });
        complete(&restored, &begun).await.expect("written");
    }
    let verified = restored.verify().await.expect("readable");
    assert_eq!(verified.faults, [""; 0]);
    let log = restored.events_from(owner, 1, 1000).await.expect("the log");
    let seqs: Vec<u64> = log.changes.iter().map(|it| it.event.seq).collect();
    assert_eq!(seqs, (1..=log.newest).collect::<Vec<_>>());
    assert!(dump(&restored).await.contains(r#""key":"format","value":2"#));
}
