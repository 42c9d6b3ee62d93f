//! Runs: start, recovery, end; what belongs to one of them alone.

use mediamill_actors::{
    analysis::ProviderState,
    event::EventKind,
    store::{CommandError, NewUpload, Scope},
    upload::{AttemptOutcome, FailureKind, FileRef, PlacePath, Status},
};

use super::{
    Backend, Bench, begin, begin_one, changes_nothing, fail, ids, is_refused, is_sound, kinds_from, log,
    owner, revoked, second_run, sent, upload,
};
use crate::support::bare_store::{Bare, admit, batch, complete, description, dump, files, submit};

/// A process that dies: the store is closed without an end of the run, and opened again.
async fn die<B: Backend>(bench: &Bench<B>, store: Bare) -> Bare {
    store.close().await;
    bench.open().await
}

pub async fn nothing_is_begun_before_a_start_or_after_an_end<B: Backend>(bench: &Bench<B>) {
    let ann = owner("ann");
    let store = bench.open().await;
    let batch = submit(&store, &ann, 3).await;
    begin(&store, 1).await;
    store.close().await;

    let store = bench.open_store(100_000).await;
    let (commands, queries) = (store.commands(), store.queries());
    let before = queries.dump(Vec::new()).await.expect("a dump");
    assert!(matches!(commands.begin_next(9).await, Err(CommandError::Stale)));
    assert_eq!(commands.cancel(ann.clone(), batch.batch_id).await, Err(CommandError::Stale));
    let new = crate::support::bare_store::batch(&ann, files(1));
    assert_eq!(commands.admit(new, 9).await, Err(CommandError::Stale));
    assert_eq!(commands.renew().await, Err(CommandError::Stale));
    assert!(queries.dump(Vec::new()).await.expect("a dump") == before);

    commands.start(Scope::All, 3).await.expect("started");
    assert_eq!(commands.begin_next(9).await.expect("begun").len(), 1, "the suspect");
    assert_eq!(commands.end().await, Ok(1));
    assert!(matches!(commands.begin_next(9).await, Err(CommandError::Stale)));
    assert_eq!(commands.set_provider_state(ProviderState::Ready).await, Err(CommandError::Stale));
    assert_eq!(commands.renew().await, Err(CommandError::Stale));
    // Commands about batches are no run's alone.
    commands.cancel(ann, batch.batch_id).await.expect("cancelled");
    assert_eq!(queries.verify().await.expect("readable").faults, [""; 0]);
}

pub async fn two_runs_share_the_queue<B: Backend>(bench: &Bench<B>) {
    let (one, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&one, &ann, 4).await;
    let first = begin(&one, 1).await;
    let two = second_run(&one).await;
    assert_eq!((two.recovered.interrupted, two.recovered.waiting), (0, 3), "the other run is alive");
    let second = begin(&two, 2).await;
    let third = begin(&one, 9).await;
    assert_eq!([ids(&first), ids(&second), ids(&third)].concat(), batch.uploads, "each is begun once");
    for (store, begun) in [(&two, &first), (&one, &second), (&two, &third)] {
        for begun in begun {
            complete(store, begun).await.expect("a token is good whoever shows it");
        }
    }
    assert_eq!((one.commands.renew().await, two.commands.renew().await), (Ok(()), Ok(())));
    is_sound(&one).await;
}

pub async fn a_recovered_run_is_refused_and_others_are_untouched<B: Backend>(bench: &Bench<B>) {
    let (one, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&one, &ann, 5).await;
    let two = second_run(&one).await;
    let (lost, kept) = (begin(&one, 2).await, begin(&two, 2).await);
    let (mut of_one, mut of_two) = (one.commands.notices(), two.commands.notices());
    let from = log(&one, &ann).await.len() as u64 + 1;
    let recovered = two.commands.recover(one.commands.run(), Scope::All, 3).await;
    assert_eq!(recovered, Ok((2, 0)));
    assert_eq!(sent(&mut of_one).await, lost.iter().map(|it| revoked(&it.token)).collect());
    assert!(sent(&mut of_two).await.is_empty());
    let kinds = kinds_from(&two, &ann, from).await;
    assert_eq!(kinds, vec![EventKind::UploadInterrupted { attempt: 1, last: false }; 2]);
    for begun in &lost {
        let record = upload(&two, &ann, begun.token.upload).await;
        assert_eq!((record.status, record.suspect), (Status::Pending, true));
        assert_eq!(record.interruptions, 0, "it was not alone");
        assert_eq!(record.attempts[0].outcome, Some(AttemptOutcome::Interrupted));
        is_refused(&two, &one.commands, begun).await;
    }
    assert_eq!(one.commands.renew().await, Err(CommandError::Stale));
    assert!(matches!(changes_nothing!(&one, one.commands.begin_next(9)).await, Err(CommandError::Stale)));
    assert_eq!(one.commands.set_provider_state(ProviderState::Ready).await, Err(CommandError::Stale));
    for begun in &kept {
        complete(&two, begun).await.expect("its run is alive");
    }
    assert!(begin(&two, 9).await[0].alone);
    assert_eq!(store_counts(&two, &batch).await, (2, 1));
    is_sound(&two).await;
}

/// Completed uploads of a batch of `ann`, and those in flight.
async fn store_counts(store: &Bare, batch: &crate::support::bare_store::Submitted) -> (u32, u32) {
    let record = store.queries.batch(owner("ann"), batch.batch_id).await.expect("the batch");
    (record.counts.completed, record.counts.active)
}

pub async fn tokens_of_earlier_runs_are_stale<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    submit(&store, &ann, 2).await;
    let begun = begin(&store, 2).await;
    let text = description(&store);
    store.commands.record_description(begun[1].token.clone(), text, Vec::new(), 5).await.expect("recorded");
    let store = die(bench, store).await;
    assert_eq!(store.recovered.interrupted, 2);
    for begun in &begun {
        is_refused(&store, &store.commands, begun).await;
    }
    let again = begin_one(&store).await;
    for begun in &begun {
        is_refused(&store, &store.commands, begun).await;
    }
    complete(&store, &again).await.expect("completed");
    let kept = upload(&store, &ann, begun[1].token.upload).await;
    assert!(kept.description.is_some(), "the description of the interrupted attempt is kept");
}

pub async fn interrupted_uploads_run_alone_and_fail_at_the_limit<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 3).await;
    assert_eq!(begin(&store, 2).await.len(), 2);
    store.close().await;
    for interruptions in 0..2 {
        let store = bench.open_within(Scope::All, 2).await;
        let begun = begin(&store, 9).await;
        assert_eq!(ids(&begun), batch.uploads[..1], "a suspect runs before others, and alone");
        assert!(begun[0].alone);
        assert_eq!(begun[0].upload.interruptions, interruptions);
        assert!(begin(&store, 9).await.is_empty(), "nothing beside it");
        store.close().await;
    }
    let store = bench.open_within(Scope::All, 2).await;
    let failed = upload(&store, &ann, batch.uploads[0]).await;
    assert_eq!((failed.status, failed.failures[0].kind), (Status::Failed, FailureKind::Interrupted));
    let last = kinds_from(&store, &ann, 1).await.pop();
    assert_eq!(last, Some(EventKind::UploadInterrupted { attempt: 3, last: true }));
    is_sound(&store).await;
    store.close().await;

    // Without a limit it goes on.
    for interruptions in 0..4 {
        let store = bench.open_within(Scope::All, 0).await;
        let begun = begin_one(&store).await;
        assert_eq!(begun.token.upload, batch.uploads[1]);
        assert_eq!((begun.alone, begun.upload.interruptions), (true, interruptions));
        store.close().await;
    }
    let store = bench.open().await;
    let failed = upload(&store, &ann, batch.uploads[1]).await;
    assert_eq!(failed.status, Status::Failed, "the limit holds for those before, too");
    for _ in 0..1 {
        complete(&store, &begin_one(&store).await).await.expect("the last one is no suspect");
    }
    is_sound(&store).await;
}

pub async fn a_run_is_alone_by_itself<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    submit(&store, &ann, 4).await;
    begin(&store, 2).await;
    let one = die(bench, store).await;
    let two = second_run(&one).await;
    let first = begin(&one, 9).await;
    assert_eq!((first.len(), first[0].alone), (1, true));
    let second = begin(&two, 9).await;
    assert_eq!((second.len(), second[0].alone), (1, true), "the other run has its own");
    assert!(begin(&one, 9).await.is_empty() && begin(&two, 9).await.is_empty(), "nothing beside a suspect");
    complete(&one, &first[0]).await.expect("completed");
    let rest = begin(&one, 9).await;
    assert_eq!((rest.len(), rest[0].alone), (2, false), "its own suspect has ended");
    assert!(begin(&two, 9).await.is_empty(), "and that of the other run has not");
    // A suspect that fails is alone in its next attempt, too.
    let mediamill_actors::store::AfterAttempt::Retried(again) = fail(&two, &second[0]).await else {
        unreachable!("it is tried again")
    };
    assert!(again.alone);
    assert!(begin(&two, 9).await.is_empty());
    is_sound(&one).await;
}

pub async fn uploads_outside_the_scope_rest<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let place =
        |(new, path): (NewUpload, &str)| NewUpload { file: FileRef::in_place(PlacePath::new(path)), ..new };
    let paths = ["/a/killer.png", "/b/1.png", "/b/2.png", "/a/waits.png"];
    let uploads = admit(&store, batch(&ann, files(4).into_iter().zip(paths).map(place).collect())).await;
    let managed = submit(&store, &ann, 1).await;
    assert_eq!(begin(&store, 2).await.len(), 2);
    store.close().await;

    let within = || Scope::Below(vec!["/b".into()]);
    let store = bench.open_within(within(), 3).await;
    let recovered = store.recovered;
    assert_eq!((recovered.interrupted, recovered.waiting, recovered.resting), (2, 2, 3));
    let unfinished = store.queries.unfinished(ann.clone()).await.expect("read");
    assert_eq!(unfinished.iter().map(|it| it.1).collect::<Vec<_>>(), uploads.uploads[1..3]);
    for upload in &uploads.uploads[1..3] {
        let begun = begin(&store, 9).await;
        assert_eq!(ids(&begun), [*upload], "an interrupted upload outside the scope holds nobody up");
        complete(&store, &begun[0]).await.expect("completed");
    }
    assert!(begin(&store, 9).await.is_empty());
    assert!(store.queries.queue_depth().is_empty());
    store.commands.cancel(ann.clone(), managed.batch_id).await.expect("cancelled though it rests");
    is_sound(&store).await;
    store.close().await;

    let store = bench.open().await;
    assert_eq!((store.recovered.waiting, store.recovered.resting), (2, 0), "the next run has them");
    assert_eq!(ids(&begin(&store, 9).await), uploads.uploads[..1]);
}

pub async fn a_batch_stays_cancelled_over_a_restart<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 3).await;
    begin(&store, 1).await;
    store.commands.cancel(ann.clone(), batch.batch_id).await.expect("cancelled");
    let store = die(bench, store).await;
    let recovered = store.recovered;
    assert_eq!((recovered.waiting, recovered.interrupted, recovered.resting), (0, 0, 0));
    assert!(begin(&store, 9).await.is_empty());
    is_sound(&store).await;
}

pub async fn the_state_of_the_provider_belongs_to_the_run<B: Backend>(bench: &Bench<B>) {
    let (store, ann, bob) = (bench.open().await, owner("ann"), owner("bob"));
    let first = submit(&store, &ann, 1).await.batch_id;
    submit(&store, &ann, 2).await;
    submit(&store, &bob, 1).await;
    let done = submit(&store, &owner("cid"), 1).await;
    store.commands.cancel(owner("cid"), done.batch_id).await.expect("cancelled");
    let since = store.queries.clock().now();
    let away = || ProviderState::Away { since, message: "it is away".into() };
    let changes = async || {
        let mut changes = Vec::new();
        for owner in [&ann, &bob, &owner("cid")] {
            let kinds = kinds_from(&store, owner, 1).await;
            changes.push(kinds.iter().filter(|it| **it == EventKind::ProviderChanged).count());
        }
        changes
    };
    let set = |state| store.commands.set_provider_state(state);
    set(ProviderState::Ready).await.expect("recorded");
    assert_eq!(changes().await, [0, 0, 0], "nobody waits for it");
    set(away()).await.expect("recorded");
    assert_eq!(changes().await, [1, 1, 0], "all with unfinished uploads wait for it");
    changes_nothing!(&store, set(away())).await.expect("it is so");
    set(ProviderState::Ready).await.expect("recorded");
    assert_eq!(changes().await, [2, 2, 0]);
    let event = log(&store, &ann).await.pop().expect("one");
    assert_eq!((event.batch_id, event.upload_id), (Some(first), None), "of the first batch that waits");
    assert_eq!(event.batch.map(|it| it.counts.total), Some(1));

    let two = second_run(&store).await;
    two.commands.set_provider_state(away()).await.expect("recorded");
    let runs = async || dump(&store).await.matches("{\"tree\":\"runs\"").count();
    assert_eq!((runs().await, dump(&store).await.matches("\"state\":\"away\"").count()), (2, 1));
    two.commands.end().await.expect("ended");
    assert_eq!((runs().await, dump(&store).await.matches("\"state\":\"away\"").count()), (2, 0));
    is_sound(&store).await;
}

pub async fn the_end_of_a_run_hands_its_attempts_back<B: Backend>(bench: &Bench<B>) {
    let (one, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&one, &ann, 4).await;
    let two = second_run(&one).await;
    let (back, kept) = (begin(&one, 2).await, begin(&two, 1).await);
    let mut notices = one.commands.notices();
    assert_eq!(one.commands.end().await, Ok(2));
    assert!(sent(&mut notices).await.is_empty(), "the run ended them itself");
    for begun in &back {
        let record = upload(&one, &ann, begun.token.upload).await;
        assert_eq!((record.status, record.suspect, record.failures.len()), (Status::Pending, false, 0));
        assert_eq!(complete(&one, begun).await, Err(CommandError::Stale));
    }
    complete(&two, &kept[0]).await.expect("the other run is alive");
    assert_eq!(begin(&two, 9).await.len(), 3);
    assert_eq!(two.commands.end().await, Ok(3));
    drop(one);
    let store = die(bench, two).await;
    assert_eq!((store.recovered.interrupted, store.recovered.waiting), (0, 3));
    assert_eq!(ids(&begin(&store, 9).await).len(), batch.uploads.len() - 1);
    is_sound(&store).await;
}
