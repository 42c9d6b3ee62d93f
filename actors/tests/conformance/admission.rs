//! Admission of batches.

use mediamill_actors::{
    event::EventKind,
    store::{CommandError, NewBatch},
    upload::Status,
};

use super::{Backend, Bench, begin, changes_nothing, is_sound, kinds_from, owner};
use crate::support::bare_store::{admit, batch, files, submit};

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
