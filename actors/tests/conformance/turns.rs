//! Whose turn it is.

use mediamill_actors::id::UploadId;

use super::{Backend, Bench, begin, begin_one, ids, owner};
use crate::support::bare_store::{Submitted, submit};

pub async fn owners_take_turns_and_batches_go_first_in_first_out<B: Backend>(bench: &Bench<B>) {
    let store = bench.open().await;
    let (ann, bob) = (owner("ann"), owner("bob"));
    let first = submit(&store, &ann, 2).await.uploads;
    let second = submit(&store, &ann, 2).await.uploads;
    let other = submit(&store, &bob, 2).await.uploads;
    let mut begun = Vec::new();
    for most in [1, 2, 9] {
        begun.extend(ids(&begin(&store, most).await));
    }
    let of =
        |uploads: &[UploadId]| begun.iter().filter(|it| uploads.contains(it)).copied().collect::<Vec<_>>();
    assert_eq!(of(&[first.clone(), second.clone()].concat()), [first, second].concat());
    assert_eq!(of(&other), other);
    let bobs: Vec<bool> = begun.iter().map(|it| other.contains(it)).collect();
    assert_ne!(bobs[0], bobs[1], "each has a turn: {bobs:?}");
    assert_ne!(bobs[2], bobs[3], "each has a turn: {bobs:?}");
}

pub async fn an_upload_that_waits_again_goes_before_later_ones<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let Submitted { uploads, .. } = submit(&store, &ann, 3).await;
    let begun = begin(&store, 2).await;
    for begun in begun.iter().rev() {
        store.commands.hand_back(begun.token.clone(), None).await.expect("written");
    }
    let mut again = Vec::new();
    for _ in 0..3 {
        again.push(begin_one(&store).await.token.upload);
    }
    assert_eq!(again, uploads);
    assert!(begin(&store, 0).await.is_empty());
}
