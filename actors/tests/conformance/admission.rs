//! Admission of batches.

use mediamill_actors::{
    event::EventKind,
    id::Owner,
    store::{AdmissionLimits, CommandError, NewBatch},
    upload::Status,
};

use super::{Backend, Bench, begin, changes_nothing, is_sound, kinds_from, owner};
use crate::support::bare_store::{Bare, admit, batch, files, submit};

pub async fn a_batch_is_admitted_in_order<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let new = NewBatch { refused: 2, ..batch(&ann, files(3)) };
    let submitted = admit(&store, new).await;
    let record = store.queries.batch(ann.clone(), submitted.batch_id).await.expect("the batch");
    assert_eq!((record.number, record.accepted, record.refused, record.counts.total), (1, 3, 2, 3));
    assert_eq!((record.status().as_str(), record.created_at), ("pending", store.queries.clock().now()));
    let uploads = store.queries.uploads(ann.clone(), submitted.batch_id, 0, 9).await.expect("its uploads");
    let positions: Vec<_> = uploads.iter().map(|it| (it.id, it.position, it.status)).collect();
    let expected: Vec<_> = (0..).zip(&submitted.uploads).map(|(at, id)| (*id, at, Status::Pending)).collect();
    assert_eq!(positions, expected);
    assert_eq!(kinds_from(&store, &ann, 1).await, [EventKind::BatchSubmitted], "one event for all");
    assert_eq!(store.queries.queue_depth().waiting, 3);
    let second = submit(&store, &owner("bob"), 1).await;
    let record = store.queries.batch(owner("bob"), second.batch_id).await.expect("the batch");
    assert_eq!(record.number, 2, "numbers rise over all owners");
    is_sound(&store).await;
}

pub async fn a_batch_without_uploads_has_ended<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    for (refused, status) in [(0, "completed"), (3, "failed")] {
        let submitted = admit(&store, NewBatch { refused, ..batch(&ann, Vec::new()) }).await;
        let record = store.queries.batch(ann.clone(), submitted.batch_id).await.expect("the batch");
        assert_eq!((record.status().as_str(), record.ended_round), (status, 1));
        assert!(record.completed_at.is_some());
    }
    assert!(begin(&store, 9).await.is_empty());
    is_sound(&store).await;
}

pub async fn the_id_of_anothers_batch_is_refused<B: Backend>(bench: &Bench<B>) {
    let store = bench.open().await;
    let ann = submit(&store, &owner("ann"), 1).await;
    let taken = NewBatch { id: Some(ann.batch_id), ..batch(&owner("bob"), files(1)) };
    let answer = changes_nothing!(&store, store.commands.admit(taken, 100)).await;
    assert!(matches!(answer, Err(CommandError::Conflict(_))), "{answer:?}");
}

pub async fn a_full_queue_refuses_and_takes_nothing<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    submit(&store, &ann, 3).await;
    let begun = begin(&store, 1).await;
    let too_many = batch(&owner("bob"), files(2));
    let answer = changes_nothing!(&store, store.commands.admit(too_many, 4)).await;
    assert_eq!(answer, Err(CommandError::Full { limit: 4 }), "those in flight count, of all owners");
    store.commands.admit(batch(&owner("bob"), files(1)), 4).await.expect("it is just not full");
    store.commands.admit(batch(&ann, Vec::new()), 4).await.expect("it needs no room");
    store.commands.delete(ann.clone(), begun[0].token.upload).await.expect("deleted");
    store.commands.admit(batch(&ann, files(1)), 4).await.expect("there is room again");
    is_sound(&store).await;
}

pub async fn each_owner_has_a_share_of_a_full_queue<B: Backend>(bench: &Bench<B>) {
    let (store, ann, bob) = (bench.open().await, owner("ann"), owner("bob"));
    let limit = AdmissionLimits { of_each_owner: 2, ..AdmissionLimits::from(4) };
    let admits = async |owner: &Owner, count| {
        store.commands.admit(batch(owner, files(count)), limit).await.map_err(|error| {
            assert_eq!(error, CommandError::Full { limit: 4 });
        })
    };
    let full = submit(&store, &ann, 4).await;
    assert_eq!(admits(&ann, 1).await, Err(()), "more than the share of ann");
    assert_eq!(admits(&bob, 3).await, Err(()), "more than the share of bob");
    assert_eq!(admits(&bob, 2).await, Ok(()), "the share of bob");
    assert_eq!(store.commands.check_room(bob.clone(), limit).await, Err(CommandError::Full { limit: 4 }));
    assert_eq!(store.commands.check_room(owner("cid"), limit).await, Ok(()));
    // Uploads of a paused batch count against their owner alone.
    store.commands.set_paused(ann.clone(), full.batch_id, true).await.expect("paused");
    assert_eq!(admits(&ann, 1).await, Err(()));
    assert_eq!(admits(&bob, 2).await, Ok(()));
    assert_eq!(admits(&bob, 1).await, Err(()));
    is_sound(&store).await;
}

pub async fn quotas_hold_for_each_owner<B: Backend>(bench: &Bench<B>) {
    let (mut store, ann, bob) = (bench.open().await, owner("ann"), owner("bob"));
    // A file has 70 bytes.
    let limits = AdmissionLimits { batches: Some(3), bytes: Some(4 * 70), ..AdmissionLimits::from(99) };
    let over = |quota, most| Err(CommandError::OverQuota { quota, most });
    let admits = async |store: &Bare, owner: &Owner, count| {
        store.commands.admit(batch(owner, files(count)), limits).await
    };
    let first = submit(&store, &ann, 3).await;
    assert_eq!(admits(&store, &ann, 2).await, over("bytes", 280));
    assert_eq!(admits(&store, &ann, 1).await, Ok(()));
    assert_eq!(store.commands.check_room(ann.clone(), limits).await, over("bytes", 280));
    assert_eq!(admits(&store, &bob, 4).await, Ok(()), "owners share nothing");
    store.commands.delete(ann.clone(), first.uploads[0]).await.expect("deleted");
    assert_eq!(admits(&store, &ann, 1).await, Ok(()));
    // What is in the store is counted again at a start.
    store.close().await;
    store = bench.open().await;
    store.commands.delete(ann.clone(), first.uploads[1]).await.expect("deleted");
    assert_eq!(admits(&store, &ann, 1).await, over("batches", 3));
    store.commands.delete_batch(ann.clone(), first.batch_id).await.expect("deleted");
    assert_eq!(admits(&store, &ann, 3).await, over("bytes", 280));
    assert_eq!(admits(&store, &ann, 2).await, Ok(()));
    is_sound(&store).await;
}

pub async fn batches_without_uploads_do_not_pile_up<B: Backend>(bench: &Bench<B>) {
    let (mut store, ann) = (bench.open().await, owner("ann"));
    let kept = submit(&store, &ann, 1).await.batch_id;
    let refused = async |store: &Bare| {
        let new = NewBatch { refused: 1, ..batch(&ann, Vec::new()) };
        admit(store, new).await.batch_id
    };
    let first = refused(&store).await;
    for _ in 0..99 {
        refused(&store).await;
    }
    let batches = async |store: &Bare| {
        let batches = store.queries.batches(ann.clone(), 0, 999).await.expect("the batches");
        batches.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert!(batches(&store).await.contains(&first) && batches(&store).await.len() == 101);
    let second = refused(&store).await;
    assert!(!batches(&store).await.contains(&first) && batches(&store).await.len() == 101, "the oldest goes");
    store.close().await;
    store = bench.open().await;
    for _ in 0..100 {
        refused(&store).await;
    }
    let left = batches(&store).await;
    assert!(left.contains(&kept) && !left.contains(&second) && left.len() == 101);
    is_sound(&store).await;
}
