//! The change feed, the log of events, and the notices.

use std::collections::HashSet;

use futures_util::future::join_all;
use mediamill_actors::{
    event::EventKind,
    id::{Owner, UploadId},
    store::{Change, Interest, Notice, Scope},
    upload::Status,
};

use super::{Backend, Bench, begin, begin_one, fail_twice, is_sound, log, owner, second_run, sent, upload};
use crate::support::bare_store::{Bare, complete, submit};

fn numbers(changes: &[Change]) -> Vec<u64> {
    changes.iter().map(|it| it.event.seq).collect()
}

/// Work of several owners, much of which is written together.
async fn work(store: &Bare, owners: &[Owner]) {
    join_all(owners.iter().chain(owners).chain(&owners[..1]).map(|owner| submit(store, owner, 4))).await;
    let begun = begin(store, 100).await;
    let (failing, rest) = begun.split_at(3);
    join_all(failing.iter().map(|it| fail_twice(store, it))).await;
    join_all(rest.iter().map(|begun| complete(store, begun))).await;
}

pub async fn numbers_have_no_gaps_and_each_round_ends_once<B: Backend>(bench: &Bench<B>) {
    let store = bench.open().await;
    let owners = [owner("ann"), owner("bob")];
    work(&store, &owners).await;
    for owner in &owners {
        let batches = store.queries.batches(owner.clone(), 0, 9).await.expect("read");
        for batch in &batches {
            store.commands.retry_failed(owner.clone(), batch.id).await.expect("retried");
        }
        let begun = begin(&store, 100).await;
        join_all(begun.iter().map(|begun| complete(&store, begun))).await;
        let events = log(&store, owner).await;
        let seqs: Vec<u64> = events.iter().map(|it| it.seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        assert!(events.is_sorted_by_key(|it| it.at));
        for batch in store.queries.batches(owner.clone(), 0, 9).await.expect("read") {
            let mut of_batch =
                events.iter().filter(|it| it.batch_id == Some(batch.id)).filter_map(|it| it.batch);
            let ends: Vec<u32> = of_batch.clone().filter_map(|it| it.ends_round).collect();
            assert_eq!(ends, (1..=batch.round).collect::<Vec<_>>());
            let last = of_batch.next_back().expect("some");
            assert_eq!((last.counts, last.status), (batch.counts, batch.status()), "the log says the same");
        }
    }
    is_sound(&store).await;
}

pub async fn the_feed_is_the_whole_log_in_pieces_of_any_size<B: Backend>(bench: &Bench<B>) {
    let store = bench.open().await;
    let owners = [owner("ann"), owner("bob"), owner("cid")];
    let start = store.queries.newest();
    work(&store, &owners).await;
    let whole = store.queries.changes_after(&start, Interest::Everyone, 10_000, None).await.expect("read");
    assert!(!whole.more && !store.queries.has_changes_after(&whole.reached));
    assert!(store.queries.has_changes_after(&start));
    let name = |it: &Change| (it.owner.clone(), it.event.seq);
    for owner in &owners {
        let of_owner: Vec<u64> =
            whole.changes.iter().filter(|it| it.owner == *owner).map(|it| it.event.seq).collect();
        assert_eq!(of_owner, (1..=log(&store, owner).await.len() as u64).collect::<Vec<_>>());
    }
    for wanted in [&owners[..], &owners[..1], &owners[1..], &[]] {
        let expected: Vec<_> =
            whole.changes.iter().filter(|it| wanted.contains(&it.owner)).map(name).collect();
        for most in [1, 2, 3, 5, 13, 100] {
            let (mut cursor, mut heard, mut more) = (start.clone(), Vec::new(), true);
            while more {
                let interest = || Interest::Owners(wanted.iter().cloned().collect());
                let news = store.queries.changes_after(&cursor, interest(), most, None).await;
                let news = news.expect("read");
                assert!(news.changes.len() <= most);
                // A replay from the same cursor is the same.
                let again = store.queries.changes_after(&cursor, interest(), most, None).await;
                assert_eq!(numbers(&again.expect("read").changes), numbers(&news.changes));
                heard.extend(news.changes.iter().map(name));
                (cursor, more) = (news.reached, news.more);
            }
            assert_eq!(heard, expected, "at most {most}");
            assert!(!store.queries.has_changes_after(&cursor), "at most {most}");
        }
    }
    let end = whole.reached;
    store.close().await;
    // A cursor outlives its process.
    let store = bench.open().await;
    assert!(!store.queries.has_changes_after(&end));
    submit(&store, &owners[0], 1).await;
    let news = store.queries.changes_after(&end, Interest::Everyone, 100, None).await.expect("read");
    assert_eq!(news.changes.len(), 1);
    assert_eq!(news.changes[0].event.kind, EventKind::BatchSubmitted);
}

pub async fn the_log_is_read_in_pages<B: Backend>(bench: &Bench<B>) {
    let store = bench.open().await;
    let (ann, bob) = (owner("ann"), owner("bob"));
    work(&store, &[ann.clone(), bob.clone()]).await;
    let unfinished = submit(&store, &ann, 1).await;
    let newest = log(&store, &ann).await.len() as u64;
    for most in [1, 4, 7, 100] {
        let (mut from, mut seen) = (0, Vec::new());
        loop {
            let page = store.queries.events_from(ann.clone(), from, most).await.expect("the log");
            assert_eq!((page.oldest, page.newest), (1, newest));
            assert_eq!(numbers(&page.changes), page.numbers.clone().collect::<Vec<_>>());
            assert!(
                page.changes
                    .iter()
                    .all(|it| it.owner == ann && it.upload.is_some() == it.event.upload_id.is_some())
            );
            seen.extend(page.numbers.clone());
            if page.unfinished.is_empty() {
                assert!(*page.numbers.end() < newest);
            } else {
                assert_eq!(*page.numbers.end(), newest, "with the last page");
                assert_eq!(page.unfinished[0].id, unfinished.batch_id);
                break;
            }
            from = page.numbers.end() + 1;
        }
        assert_eq!(seen, (1..=newest).collect::<Vec<_>>());
    }
    let beyond = store.queries.events_from(ann, newest + 1, 9).await.expect("the log");
    assert!(beyond.changes.is_empty() && beyond.numbers.is_empty());
    let nobody = store.queries.events_from(owner("nobody"), 1, 9).await.expect("the log");
    assert!(nobody.changes.is_empty() && nobody.numbers.is_empty());
    assert_eq!((nobody.oldest, nobody.newest), (1, 0));
    // The record of a deleted upload is gone, and its events are not.
    let id = log(&store, &bob).await.iter().find_map(|it| it.upload_id).expect("one");
    store.commands.delete(bob.clone(), id).await.expect("deleted");
    let page = store.queries.events_from(bob, 1, 1000).await.expect("the log");
    let of_upload = page.changes.iter().filter(|it| it.event.upload_id == Some(id));
    assert!(of_upload.clone().count() > 1 && of_upload.clone().all(|it| it.upload.is_none()));
}

pub async fn uploads_in_flight_come_with_the_last_piece<B: Backend>(bench: &Bench<B>) {
    let store = bench.open().await;
    let (ann, bob) = (owner("ann"), owner("bob"));
    let start = store.queries.newest();
    submit(&store, &ann, 2).await;
    submit(&store, &bob, 1).await;
    let begun = begin(&store, 9).await;
    let of_ann: HashSet<UploadId> =
        begun.iter().filter(|it| it.upload.owner == ann).map(|it| it.token.upload).collect();
    let wanted = || Interest::Owners([ann.clone()].into());
    let first = store.queries.changes_after(&start, wanted(), 1, Some(HashSet::new())).await.expect("read");
    assert!(first.more && first.in_flight.is_none());
    let known = *of_ann.iter().next().expect("two");
    let rest =
        store.queries.changes_after(&first.reached, wanted(), 9, Some([known].into())).await.expect("read");
    let in_flight = rest.in_flight.expect("there is no more");
    assert_eq!(in_flight.newest, [(ann.clone(), log(&store, &ann).await.len() as u64)].into());
    assert_eq!(in_flight.uploads.iter().map(|it| it.id).collect::<HashSet<_>>(), of_ann);
    for it in in_flight.uploads {
        assert_eq!(it.upload.is_none(), it.id == known, "a record that is known is not read");
        assert_eq!((it.entry.attempt, it.entry.alone, it.entry.run), (1, false, store.commands.run()));
    }
    let none = store.queries.changes_after(&rest.reached, wanted(), 9, None).await.expect("read");
    assert!(none.changes.is_empty() && none.in_flight.is_none());
}

pub async fn a_snapshot_is_of_one_moment<B: Backend>(bench: &Bench<B>) {
    let store = bench.open().await;
    let (ann, bob) = (owner("ann"), owner("bob"));
    let oldest = submit(&store, &ann, 1).await;
    let ended = submit(&store, &ann, 1).await;
    let newer = submit(&store, &ann, 1).await;
    let of_bob = submit(&store, &bob, 1).await;
    store.commands.cancel(ann.clone(), ended.batch_id).await.expect("cancelled");
    store.commands.cancel(ann.clone(), newer.batch_id).await.expect("cancelled");
    let begun = begin_one(&store).await;
    let asked = vec![newer.uploads[0], of_bob.uploads[0], UploadId::generate()];
    let present = store.queries.owner_snapshot(ann.clone(), 1, asked).await.expect("read");
    let batches: Vec<_> = present.batches.iter().map(|it| it.id).collect();
    assert_eq!(batches, [oldest.batch_id, newer.batch_id], "unfinished and the newest one, the oldest first");
    assert_eq!(present.in_flight, [begun.upload]);
    assert_eq!(present.uploads.iter().map(|it| it.id).collect::<Vec<_>>(), newer.uploads);
    assert_eq!(present.newest, log(&store, &ann).await.len() as u64);

    let position = store.queries.log_position(ann.clone(), Some(oldest.uploads[0])).await.expect("read");
    assert_eq!(position.newest, present.newest);
    assert_eq!(position.upload.map(|it| it.status), Some(Status::Analyzing));
    for (owner, upload) in [(&ann, Some(of_bob.uploads[0])), (&ann, None), (&bob, Some(oldest.uploads[0]))] {
        let position = store.queries.log_position(owner.clone(), upload).await.expect("read");
        assert!(position.upload.is_none());
    }
}

pub async fn notices_go_to_the_run_of_the_attempt_once_they_are_durable<B: Backend>(bench: &Bench<B>) {
    let (one, ann) = (bench.open().await, owner("ann"));
    let first = submit(&one, &ann, 1).await;
    let second = submit(&one, &ann, 3).await;
    let two = second_run(&one).await;
    let begun = (begin_one(&one).await, begin_one(&two).await);
    let (mut of_one, mut of_two) = (one.commands.notices(), two.commands.notices());
    // Nobody waits for the answer: whoever has the notice sees the change.
    let cancelled = two.commands.cancel(ann.clone(), first.batch_id);
    assert_eq!(of_one.next().await, Some(Notice::Revoked(begun.0.token.clone())));
    assert_eq!(upload(&one, &ann, first.uploads[0]).await.status, Status::Cancelled);
    cancelled.await.expect("cancelled");
    let deleted = one.commands.delete(ann.clone(), second.uploads[0]);
    assert_eq!(of_two.next().await, Some(Notice::Revoked(begun.1.token.clone())));
    assert!(two.queries.upload(ann.clone(), second.uploads[0]).await.is_err());
    deleted.await.expect("deleted");
    one.commands.delete(ann.clone(), second.uploads[1]).await.expect("deleted");
    // The files of deleted uploads are for whichever run has them.
    let files = [0, 1].map(|at| format!("files of {}", second.uploads[at]));
    assert_eq!(sent(&mut of_one).await, files.clone().into());
    assert_eq!(sent(&mut of_two).await, files.into());
    // They end with the store.
    drop(two);
    one.close().await;
    assert_eq!((of_one.next().await, of_two.next().await), (None, None));
}

pub async fn attempts_that_end_themselves_give_no_notice<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    submit(&store, &ann, 4).await;
    let mut notices = store.commands.notices();
    let begun = begin(&store, 4).await;
    complete(&store, &begun[0]).await.expect("completed");
    fail_twice(&store, &begun[1]).await;
    store.commands.hand_back(begun[2].token.clone(), None).await.expect("written");
    store.commands.end().await.expect("ended");
    assert!(sent(&mut notices).await.is_empty());
}

pub async fn old_events_are_forgotten_when_there_is_time<B: Backend>(bench: &Bench<B>) {
    let ann = owner("ann");
    let store = Bare::start(bench.open_store(100).await, Scope::All, 3).await;
    let kept = async || {
        let log = store.queries.events_from(ann.clone(), 0, 1).await.expect("the log");
        log.newest + 1 - log.oldest
    };
    submit(&store, &ann, 60).await;
    let mut last = begin_one(&store).await;
    let mut most = 0;
    for _ in 1..60 {
        let next = begin_one(&store).await;
        complete(&store, &last).await.expect("written");
        most = most.max(kept().await);
        last = next;
    }
    // Events that were written together may go together.
    assert!((105..=115).contains(&most), "a tenth more while there is work: {most}");
    let mut changes = store.queries.watch();
    complete(&store, &last).await.expect("written");
    while kept().await > 105 {
        changes.changed().await.expect("open");
    }
    assert!(kept().await >= 100);
    let page = store.queries.events_from(ann, 1, 1000).await.expect("the log");
    assert_eq!((*page.numbers.start(), page.newest), (page.oldest, 1 + 60 * 3));
    assert_eq!(numbers(&page.changes), (page.oldest..=page.newest).collect::<Vec<_>>());
    is_sound(&store).await;
}
