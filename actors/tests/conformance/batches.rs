//! Batches: cancel, pause, retry; and the deletion of uploads.

use mediamill_actors::{
    event::EventKind,
    id::{BatchId, UploadId},
    store::CommandError,
    upload::{AttemptOutcome, Status},
};

use super::{
    Backend, Bench, begin, begin_one, changes_nothing, fail_twice, ids, is_refused, is_sound, kinds_from,
    log, owner, revoked, sent, upload,
};
use crate::support::bare_store::{complete, dump, submit};

pub async fn cancelling_ends_all_that_is_unfinished<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 5).await;
    let begun = begin(&store, 3).await;
    complete(&store, &begun[0]).await.expect("completed");
    let mut notices = store.commands.notices();
    let from = log(&store, &ann).await.len() as u64 + 1;
    store.commands.cancel(ann.clone(), batch.batch_id).await.expect("cancelled");
    let expected = [revoked(&begun[1].token), revoked(&begun[2].token)];
    assert_eq!(sent(&mut notices).await, expected.into());
    is_refused(&store, &store.commands, &begun[1]).await;
    let record = store.queries.batch(ann.clone(), batch.batch_id).await.expect("the batch");
    assert_eq!((record.counts.completed, record.counts.cancelled), (1, 4));
    assert_eq!(record.status().as_str(), "cancelled");
    let kinds = kinds_from(&store, &ann, from).await;
    assert_eq!((&kinds[0], kinds.len()), (&EventKind::BatchCancelled, 5));
    assert!(kinds[1..].iter().all(|it| *it == EventKind::UploadCancelled));
    let running = upload(&store, &ann, begun[1].token.upload).await;
    assert_eq!(running.attempts[0].outcome, Some(AttemptOutcome::GivenUp));
    assert_eq!(upload(&store, &ann, batch.uploads[4]).await.attempts, []);
    assert!(begin(&store, 9).await.is_empty());
    changes_nothing!(&store, store.commands.cancel(ann.clone(), batch.batch_id)).await.expect("it has ended");
    is_sound(&store).await;
}

pub async fn a_paused_batch_begins_nothing_until_it_is_resumed<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let (first, second) = (submit(&store, &ann, 2).await, submit(&store, &ann, 1).await);
    let begun = begin_one(&store).await;
    let pause = |paused| store.commands.set_paused(ann.clone(), first.batch_id, paused);
    pause(true).await.expect("paused");
    let next = begin(&store, 9).await;
    assert_eq!(ids(&next), second.uploads, "the other batch goes on");
    complete(&store, &begun).await.expect("running attempts go on");
    assert!(log(&store, &ann).await.last().expect("some").batch.expect("of a batch").paused);
    changes_nothing!(&store, pause(true)).await.expect("it is paused");
    store.close().await;

    let store = bench.open().await;
    let pause = |paused| store.commands.set_paused(ann.clone(), first.batch_id, paused);
    let suspect = begin(&store, 9).await;
    assert_eq!(ids(&suspect), second.uploads);
    complete(&store, &suspect[0]).await.expect("completed");
    assert!(begin(&store, 9).await.is_empty(), "it is still paused");
    pause(false).await.expect("resumed");
    changes_nothing!(&store, pause(false)).await.expect("it is not paused");
    let last = begin_one(&store).await;
    assert_eq!(last.token.upload, first.uploads[1]);
    complete(&store, &last).await.expect("completed");
    let kinds = kinds_from(&store, &ann, 1).await;
    for kind in [EventKind::BatchPaused, EventKind::BatchResumed] {
        assert_eq!(kinds.iter().filter(|it| **it == kind).count(), 1, "{kind:?}");
    }
    let ended = changes_nothing!(&store, pause(true)).await;
    assert!(matches!(ended, Err(CommandError::Conflict(_))), "{ended:?}");
    changes_nothing!(&store, pause(false)).await.expect("it is not paused");
    is_sound(&store).await;
}

pub async fn a_retry_gives_failed_uploads_a_round<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 3).await;
    let begun = begin(&store, 3).await;
    complete(&store, &begun[0]).await.expect("completed");
    fail_twice(&store, &begun[1]).await;
    let retry = || store.commands.retry_failed(ann.clone(), batch.batch_id);
    let record = async || store.queries.batch(ann.clone(), batch.batch_id).await.expect("the batch");
    retry().await.expect("retried while another upload is unfinished");
    assert_eq!((record().await.round, record().await.counts.failed), (1, 0), "its round goes on");
    changes_nothing!(&store, retry()).await.expect("none is failed");
    fail_twice(&store, &begin_one(&store).await).await;
    fail_twice(&store, &begun[2]).await;
    assert_eq!((record().await.ended_round, record().await.counts.failed), (1, 2));

    let from = log(&store, &ann).await.len() as u64 + 1;
    retry().await.expect("retried");
    assert_eq!(kinds_from(&store, &ann, from).await, [EventKind::BatchRetried { round: 2 }]);
    let retried = record().await;
    assert_eq!((retried.round, retried.completed_at, retried.status().as_str()), (2, None, "processing"));
    let again = upload(&store, &ann, batch.uploads[2]).await;
    assert_eq!((again.status, again.failures.len(), again.history.len()), (Status::Pending, 0, 1));
    for _ in 0..2 {
        complete(&store, &begin_one(&store).await).await.expect("completed");
    }
    let ends: Vec<u32> = log(&store, &ann).await.iter().filter_map(|it| it.batch?.ends_round).collect();
    assert_eq!(ends, [1, 2]);
    is_sound(&store).await;
}

pub async fn a_deleted_upload_leaves_nothing_behind<B: Backend>(bench: &Bench<B>) {
    let (store, ann, bob) = (bench.open().await, owner("ann"), owner("bob"));
    let batch = submit(&store, &ann, 4).await;
    let begun = begin(&store, 3).await;
    complete(&store, &begun[0]).await.expect("completed");
    fail_twice(&store, &begun[1]).await;
    let mut notices = store.commands.notices();
    for upload in &batch.uploads {
        changes_nothing!(&store, store.commands.delete(bob.clone(), *upload)).await.expect("not bob's");
        store.commands.delete(ann.clone(), *upload).await.expect("deleted");
        changes_nothing!(&store, store.commands.delete(ann.clone(), *upload)).await.expect("it is gone");
    }
    let mut expected: Vec<String> = batch.uploads.iter().map(|id| format!("files of {id}")).collect();
    expected.push(revoked(&begun[2].token));
    assert_eq!(sent(&mut notices).await, expected.into_iter().collect());
    is_refused(&store, &store.commands, &begun[2]).await;
    let unfinished: Vec<bool> = kinds_from(&store, &ann, 1)
        .await
        .into_iter()
        .filter_map(|it| match it {
            EventKind::UploadDeleted { unfinished } => Some(unfinished),
            _ => None,
        })
        .collect();
    assert_eq!(unfinished, [false, false, true, true]);

    let mut removals = store.queries.removals().await.expect("read");
    removals.sort_unstable();
    assert_eq!(removals, batch.uploads);
    store.commands.files_removed(batch.uploads.clone()).await.expect("written");
    assert!(store.queries.removals().await.expect("read").is_empty());
    changes_nothing!(&store, store.commands.files_removed(batch.uploads)).await.expect("they are gone");
    let record = store.queries.batch(ann, batch.batch_id).await.expect("the batch");
    assert_eq!((record.counts.total, record.status().as_str(), record.ended_round), (0, "completed", 1));
    let dump = dump(&store).await;
    for tree in ["active", "embeddings", "hashes", "removals", "upload_ids", "uploads", "work"] {
        assert!(!dump.contains(&format!("{{\"tree\":\"{tree}\"")), "{tree} is empty:\n{dump}");
    }
    is_sound(&store).await;
}

pub async fn a_batch_whose_uploads_are_all_deleted_has_ended<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 2).await;
    for upload in batch.uploads {
        store.commands.delete(ann.clone(), upload).await.expect("deleted");
    }
    let ends: Vec<_> = log(&store, &ann).await.iter().filter_map(|it| it.batch?.ends_round).collect();
    assert_eq!(ends, [1], "the last deletion ends it");
    assert!(store.queries.queue_depth().is_empty());
    is_sound(&store).await;
}

pub async fn batches_of_others_are_not_found<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 2).await.batch_id;
    for (owner, batch) in [(owner("bob"), batch), (ann, BatchId::generate())] {
        let commands = &store.commands;
        let answers = async {
            [
                commands.cancel(owner.clone(), batch).await,
                commands.set_paused(owner.clone(), batch, true).await,
                commands.set_paused(owner.clone(), batch, false).await,
                commands.retry_failed(owner.clone(), batch).await,
            ]
        };
        assert_eq!(
            changes_nothing!(&store, answers).await,
            [const { Err(CommandError::NotFound("batch")) }; 4]
        );
        let unknown = store.commands.delete(owner, UploadId::generate());
        changes_nothing!(&store, unknown).await.expect("it is gone already");
    }
}

pub async fn a_deleted_batch_leaves_nothing_behind<B: Backend>(bench: &Bench<B>) {
    let (store, ann, bob) = (bench.open().await, owner("ann"), owner("bob"));
    let batch = submit(&store, &ann, 4).await;
    let begun = begin(&store, 3).await;
    complete(&store, &begun[0]).await.expect("completed");
    fail_twice(&store, &begun[1]).await;
    let mut notices = store.commands.notices();
    let id = batch.batch_id;
    changes_nothing!(&store, store.commands.delete_batch(bob, id)).await.expect("not bob's");
    store.commands.delete_batch(ann.clone(), id).await.expect("deleted");
    changes_nothing!(&store, store.commands.delete_batch(ann.clone(), id)).await.expect("it is gone");
    let mut expected: Vec<String> = batch.uploads.iter().map(|id| format!("files of {id}")).collect();
    expected.push(revoked(&begun[2].token));
    assert_eq!(sent(&mut notices).await, expected.into_iter().collect());
    is_refused(&store, &store.commands, &begun[2]).await;
    let last = log(&store, &ann).await.pop().expect("an event");
    assert_eq!((last.kind, last.batch_id), (EventKind::BatchDeleted, Some(id)));
    assert!(store.queries.batch(ann.clone(), id).await.is_err());
    assert!(store.queries.batches(ann.clone(), 0, 9).await.expect("read").is_empty());
    store.commands.files_removed(batch.uploads).await.expect("written");
    let dump = dump(&store).await;
    for tree in
        ["active", "batches", "embeddings", "hashes", "owner_batches", "removals", "upload_ids", "uploads"]
    {
        assert!(!dump.contains(&format!("{{\"tree\":\"{tree}\"")), "{tree} is empty:\n{dump}");
    }
    assert_eq!(store.queries.queue_depth().total(), 0);
    is_sound(&store).await;
    submit(&store, &ann, 1).await;
    assert_eq!(begin(&store, 9).await.len(), 1);
}

pub async fn a_huge_batch_is_deleted_whole<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 2500).await.batch_id;
    let deleted = store.commands.delete_batch(ann.clone(), batch);
    let between = store.commands.begin_next(9);
    assert!(between.await.expect("asked").is_empty(), "none is begun between two pieces");
    deleted.await.expect("deleted");
    assert!(store.queries.batches(ann.clone(), 0, 9).await.expect("read").is_empty());
    assert_eq!(store.queries.queue_depth().total(), 0);
    is_sound(&store).await;
}
