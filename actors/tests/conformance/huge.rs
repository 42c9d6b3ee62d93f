//! Batches of more uploads than one unit of work writes.

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use mediamill_actors::{
    batch::Batch,
    event::EventKind,
    id::{Owner, UploadId},
    store::{AfterAttempt, CommandError, FaultPoint},
};

use super::{Backend, Bench, begin, fail, ids, is_sound, log, owner};
use crate::support::bare_store::{Bare, batch, complete, files, submit};

/// The batch of an owner that has one.
async fn only_batch(store: &Bare, owner: &Owner) -> Batch {
    let batches = store.queries.batches(owner.clone(), 0, 9).await.expect("the batches");
    assert_eq!(batches.len(), 1);
    batches.into_iter().next().expect("a batch")
}

/// Begins to write a batch of 1,500 uploads, and lets go when the first thousand are written.
async fn begin_to_submit(
    store: &Bare,
    owner: &Owner,
) -> (Vec<UploadId>, BoxFuture<'static, Result<(), CommandError>>) {
    let new = batch(owner, files(1500));
    let uploads = new.uploads.iter().map(|it| it.id).collect();
    let mut changes = store.queries.watch();
    let mut submitting = Box::pin(store.commands.admit(new, 2000));
    assert!((&mut submitting).now_or_never().is_none());
    changes.changed().await.expect("open");
    (uploads, submitting)
}

pub async fn a_huge_batch_is_begun_when_all_of_it_is_written<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let (uploads, submitting) = begin_to_submit(&store, &ann).await;
    assert!(begin(&store, 9).await.is_empty(), "it is not whole");
    let arriving = only_batch(&store, &ann).await;
    assert_eq!((arriving.counts.total, arriving.status().as_str()), (1000, "pending"));
    let full = store.commands.admit(batch(&owner("bob"), files(501)), 2000).await;
    assert_eq!(full, Err(CommandError::Full { limit: 2000 }), "the rest has its room");
    // A second run does not end the writing of the first.
    super::second_run(&store).await;
    // Uploads that are deleted meanwhile do not end it.
    for upload in &uploads[..1000] {
        drop(store.commands.delete(ann.clone(), *upload));
    }
    store.commands.delete(ann.clone(), uploads[0]).await.expect("gone already");
    assert_eq!(only_batch(&store, &ann).await.status().as_str(), "pending");

    submitting.await.expect("written");
    assert_eq!(ids(&begin(&store, 2).await), uploads[1000..1002], "in order");
    let events = log(&store, &ann).await;
    let submitted = events.iter().filter(|it| it.kind == EventKind::BatchSubmitted);
    let totals: Vec<_> = submitted.map(|it| it.batch.expect("of a batch").counts.total).collect();
    assert_eq!(totals, [500]);
    is_sound(&store).await;
}

pub async fn a_huge_batch_whose_writing_is_cut_short_has_what_was_written<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    bench.fail_after(1, FaultPoint::BeforeCommit);
    let cut = store.commands.admit(batch(&ann, files(1500)), 2000).await;
    assert!(matches!(cut, Err(CommandError::Unknown(_))), "{cut:?}");
    store.close().await;

    let store = bench.open().await;
    assert_eq!((store.recovered.waiting, store.recovered.interrupted), (1000, 0));
    let batch = only_batch(&store, &ann).await;
    assert_eq!((batch.counts.total, batch.accepted), (1000, 1000));
    assert_eq!(begin(&store, 9).await.len(), 9);
    is_sound(&store).await;
}

pub async fn a_huge_batch_that_is_cancelled_while_it_is_written_is_cancelled_whole<B: Backend>(
    bench: &Bench<B>,
) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let (_, submitting) = begin_to_submit(&store, &ann).await;
    let batch = only_batch(&store, &ann).await.id;
    store.commands.cancel(ann.clone(), batch).await.expect("cancelled");
    submitting.await.expect("written");

    let batch = only_batch(&store, &ann).await;
    assert_eq!((batch.counts.cancelled, batch.status().as_str()), (1500, "cancelled"));
    assert!(begin(&store, 9).await.is_empty());
    let events = log(&store, &ann).await;
    assert_eq!(events.iter().filter_map(|it| it.batch?.ends_round).collect::<Vec<_>>(), [1]);
    is_sound(&store).await;
}

pub async fn a_retry_of_a_huge_batch_is_one_round<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 1500).await.batch_id;
    let begun = begin(&store, 1500).await;
    let (first, rest) = begun.split_at(500);
    join_all(first.iter().map(async |it| complete(&store, it).await.expect("completed"))).await;
    join_all(rest.iter().map(async |it| {
        if let AfterAttempt::Retried(again) = fail(&store, it).await {
            fail(&store, &again).await;
        }
    }))
    .await;
    let record = async || store.queries.batch(ann.clone(), batch).await.expect("the batch");
    assert_eq!((record().await.counts.failed, record().await.ended_round), (1000, 1));
    let retried = store.commands.retry_failed(ann.clone(), batch);
    let between = begin(&store, 1).await;
    retried.await.expect("retried");
    let record = record().await;
    assert_eq!((record.round, record.counts.failed, record.counts.unfinished()), (2, 0, 1000));
    let events = log(&store, &ann).await;
    let retried = events.iter().filter(|it| matches!(it.kind, EventKind::BatchRetried { .. }));
    assert_eq!(retried.count(), 1);
    let begun = events.iter().rfind(|it| it.upload_id == Some(between[0].token.upload));
    let counts = begun.and_then(|it| it.batch).expect("of the batch").counts;
    assert_eq!((counts.failed, counts.active), (500, 1), "others are let in between");
    assert_eq!(begin(&store, 9).await.len(), 9);
    is_sound(&store).await;
}
