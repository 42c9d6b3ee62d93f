//! Commands that are repeated, and commands that are given at once.

use std::collections::HashSet;

use mediamill_actors::{
    analysis::ProviderState,
    media::Facts,
    store::{AfterAttempt, Begun, CommandError, FaultPoint, NewBatch, NewUpload, Scope},
    upload::{Stage, Status, Thumbnail},
};

use super::{
    Backend, Bench, begin, begin_one, changes_nothing, fail, fail_twice, is_sound, owner, second_run, upload,
};
use crate::support::bare_store::{Bare, batch, complete, description, failure, files, identity, submit};

/// Gives a command, and gives it again: the answer is the same, and nothing more is changed.
macro_rules! twice {
    ($store:expr, $command:expr) => {{
        let first = $command.await;
        let again = changes_nothing!($store, $command).await;
        assert_eq!(format!("{first:?}"), format!("{again:?}"), stringify!($command));
        first
    }};
}

pub async fn a_repeated_command_changes_nothing<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let commands = &store.commands;
    let (uploads, template) = (files(5), batch(&ann, Vec::new()));
    let copy = |it: &NewUpload| NewUpload {
        file: it.file.clone(),
        file_name: it.file_name.clone(),
        content_hash: it.content_hash.clone(),
        stamp: None,
        replaces: None,
        ..*it
    };
    let new = || NewBatch { uploads: uploads.iter().map(copy).collect(), ..batch(&ann, Vec::new()) };
    let new = || NewBatch { id: template.id, ..new() };
    twice!(&store, commands.admit(new(), 5)).expect("admitted");
    let id = template.id.expect("it has one");

    let begun = begin(&store, 3).await;
    let token = || begun[0].token.clone();
    twice!(&store, commands.record_stage(token(), Stage::VisionAnalysis)).expect("recorded");
    let facts = || Facts { width: 40, ..Facts::default() };
    twice!(&store, commands.record_media(token(), Thumbnail::Made, facts())).expect("recorded");
    let text = description(&store);
    twice!(&store, commands.record_description(token(), text.clone(), Vec::new(), 5)).expect("recorded");
    // Nor does one that is late take the attempt back.
    changes_nothing!(&store, commands.record_media(token(), Thumbnail::Made, facts()))
        .await
        .expect("recorded");
    twice!(&store, commands.resume_embedding(token())).expect("it embeds");
    twice!(&store, commands.complete(token(), vec![1.0, 0.0, 0.0], identity(), None, 5)).expect("completed");

    let token = || begun[1].token.clone();
    twice!(&store, commands.fail(token(), failure(&begun[1]))).expect("failed");
    let second = begun[1].token.attempt + 1;
    let mut last = begun[1].clone();
    last.token.attempt = second;
    twice!(&store, commands.fail(last.token.clone(), failure(&last))).expect("failed");

    twice!(&store, commands.hand_back(begun[2].token.clone(), None)).expect("handed back");
    let away = begin_one(&store).await;
    twice!(&store, commands.hand_back(away.token.clone(), Some(failure(&away)))).expect("handed back");
    let away = begin_one(&store).await;
    twice!(&store, commands.hand_back(away.token.clone(), Some(failure(&away)))).expect("it counts");

    twice!(&store, commands.set_paused(ann.clone(), id, true)).expect("paused");
    twice!(&store, commands.set_paused(ann.clone(), id, false)).expect("resumed");
    twice!(&store, commands.delete(ann.clone(), begun[0].token.upload)).expect("deleted");
    twice!(&store, commands.files_removed(vec![begun[0].token.upload])).expect("written");
    let since = store.queries.clock().now();
    let state = || ProviderState::Away { since, message: "it is away".into() };
    twice!(&store, commands.set_provider_state(state())).expect("recorded");
    twice!(&store, commands.cancel(ann.clone(), id)).expect("cancelled");
    twice!(&store, commands.retry_failed(ann.clone(), id)).expect("retried");
    twice!(&store, commands.renew()).expect("it is alive");
    let again = changes_nothing!(&store, commands.start(Scope::All, 3)).await;
    assert_eq!(again, Ok(store.recovered), "the counts of the start");

    let other = second_run(&store).await;
    begin(&other, 1).await;
    assert_eq!(commands.recover(other.commands.run(), Scope::All, 3).await, Ok((1, 0)));
    let again = changes_nothing!(&store, commands.recover(other.commands.run(), Scope::All, 3)).await;
    assert_eq!(again, Ok((1, 0)), "the counts of the recovery");
    begin(&store, 1).await;
    assert_eq!(commands.end().await, Ok(1));
    assert_eq!(changes_nothing!(&store, commands.end()).await, Ok(1), "the count of the end");
    let again = changes_nothing!(&store, commands.start(Scope::All, 3)).await;
    assert_eq!(again, Err(CommandError::Stale), "the run has ended");
    is_sound(&store).await;
}

pub async fn a_repeated_failure_gives_the_same_next_attempt<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let id = submit(&store, &ann, 1).await.uploads[0];
    let begun = begin_one(&store).await;
    let AfterAttempt::Retried(second) = fail(&store, &begun).await else { unreachable!("it is tried again") };
    let again = changes_nothing!(&store, fail(&store, &begun)).await;
    let AfterAttempt::Retried(again) = again else { unreachable!("the same answer: {again:?}") };
    assert_eq!((&again.token, &again.upload), (&second.token, &second.upload));
    // Once the next attempt has ended, the answer is the same, and the token is refused.
    let is_the_same = async |store: &Bare| {
        let again = changes_nothing!(store, fail(store, &begun)).await;
        let AfterAttempt::Retried(again) = again else { unreachable!("the same answer: {again:?}") };
        assert_eq!(again.token, second.token);
        super::is_refused(store, &store.commands, &again).await;
    };
    store.close().await;
    let store = bench.open().await;
    is_the_same(&store).await;
    complete(&store, &begin_one(&store).await).await.expect("completed");
    is_the_same(&store).await;
    assert_eq!(upload(&store, &ann, id).await.status, Status::Completed);

    submit(&store, &ann, 1).await;
    let begun = begin_one(&store).await;
    fail_twice(&store, &begun).await;
    let again = changes_nothing!(&store, fail(&store, &begun)).await;
    let AfterAttempt::Retried(second) = again else { unreachable!("the same answer: {again:?}") };
    let again = changes_nothing!(&store, fail(&store, &second)).await;
    assert!(matches!(again, AfterAttempt::Ended), "{again:?}");
}

pub async fn a_huge_admission_that_is_repeated_is_written_once<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let (uploads, template) = (files(2500), batch(&ann, Vec::new()));
    let copy = |it: &NewUpload| NewUpload {
        file: it.file.clone(),
        file_name: it.file_name.clone(),
        content_hash: it.content_hash.clone(),
        stamp: None,
        replaces: None,
        ..*it
    };
    let new = || NewBatch {
        id: template.id,
        uploads: uploads.iter().map(copy).collect(),
        ..batch(&ann, Vec::new())
    };
    // Both write at once.
    let (first, second) = tokio::join!(store.commands.admit(new(), 2500), store.commands.admit(new(), 2500));
    assert_eq!((first, second), (Ok(()), Ok(())));
    let id = template.id.expect("it has one");
    let counts = async |store: &Bare| store.queries.batch(ann.clone(), id).await.expect("the batch").counts;
    assert_eq!(counts(&store).await.total, 2500);
    assert_eq!(changes_nothing!(&store, store.commands.admit(new(), 2500)).await, Ok(()));
    is_sound(&store).await;

    // Without those who wait for it, it is written nevertheless.
    let bench = bench.another();
    let store = bench.open().await;
    let mut changes = store.queries.watch();
    drop(store.commands.admit(new(), 2500));
    while store.queries.queue_depth().waiting < 2500 {
        changes.changed().await.expect("open");
    }
    assert_eq!(begin(&store, 1).await.len(), 1, "it does not arrive any more");
    is_sound(&store).await;

    // An admission that was cut short says so.
    let bench = bench.another();
    let store = bench.open().await;
    bench.fail_after(1, FaultPoint::BeforeCommit);
    let cut = store.commands.admit(new(), 2500).await;
    assert!(matches!(cut, Err(CommandError::Unknown(_))), "{cut:?}");
    store.close().await;
    let store = bench.open().await;
    assert_eq!(counts(&store).await.total, 1000);
    let again = changes_nothing!(&store, store.commands.admit(new(), 2500)).await;
    let Err(CommandError::Conflict(sentence)) = again else { unreachable!("{again:?}") };
    assert!(sentence.contains("1000 of 2500"), "{sentence}");
    is_sound(&store).await;
}

pub async fn the_id_of_another_upload_is_refused<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let known = submit(&store, &ann, 1).await.uploads[0];
    let with = |ids: &[mediamill_actors::id::UploadId]| {
        let mut uploads = files(1002);
        uploads.iter_mut().rev().zip(ids).for_each(|(upload, id)| upload.id = *id);
        uploads
    };
    let new = mediamill_actors::id::UploadId::generate();
    for ids in [&[known][..], &[new, new]] {
        for owner in [&ann, &owner("bob")] {
            let refused = store.commands.admit(batch(owner, with(ids)), 9999);
            let refused = changes_nothing!(&store, refused).await;
            assert!(matches!(refused, Err(CommandError::Conflict(_))), "{refused:?}");
        }
    }
    store.commands.admit(batch(&ann, with(&[new])), 9999).await.expect("a new id");
    is_sound(&store).await;
}

pub async fn a_repeated_take_gives_the_same_attempts<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    submit(&store, &ann, 5).await;
    let tokens = |begun: Vec<Begun>| begun.into_iter().map(|it| it.token).collect::<HashSet<_>>();
    let first = store.commands.begin_take(1, 3).await.expect("begun");
    let second = tokens(store.commands.begin_take(2, 1).await.expect("begun"));
    assert_eq!((first.len(), second.len()), (3, 1));
    let again = changes_nothing!(&store, store.commands.begin_take(1, 3)).await.expect("again");
    assert_eq!(tokens(again), tokens(first.clone()));
    let again = changes_nothing!(&store, store.commands.begin_take(2, 9)).await.expect("again");
    assert_eq!(tokens(again), second);
    // An attempt that follows a failure belongs to the take; one that ended does not.
    complete(&store, &first[0]).await.expect("completed");
    let AfterAttempt::Retried(next) = fail(&store, &first[1]).await else {
        unreachable!("it is tried again")
    };
    let again = changes_nothing!(&store, store.commands.begin_take(1, 3)).await.expect("again");
    assert_eq!(tokens(again), HashSet::from([next.token, first[2].token.clone()]));
    is_sound(&store).await;
}

pub async fn commands_take_effect_in_the_order_of_the_calls<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let commands = &store.commands;
    let new = batch(&ann, files(3));
    let (id, uploads) = (new.id.expect("it has one"), new.uploads.iter().map(|it| it.id).collect::<Vec<_>>());
    // Nobody waits for an answer before the last call.
    let admitted = commands.admit(new, 9);
    let deleted = commands.delete(ann.clone(), uploads[0]);
    let first = commands.begin_next(1);
    let paused = commands.set_paused(ann.clone(), id, true);
    let none = commands.begin_next(1);
    let resumed = commands.set_paused(ann.clone(), id, false);
    let away = commands.set_provider_state(ProviderState::Ready);
    let ended = commands.end();
    let stale = commands.begin_next(1);
    let cancelled = commands.cancel(ann.clone(), id);
    // Answers are waited for in another order.
    cancelled.await.expect("cancelled");
    assert!(matches!(stale.await, Err(CommandError::Stale)));
    assert_eq!(ended.await, Ok(1));
    assert_eq!((away.await, resumed.await, paused.await), (Ok(()), Ok(()), Ok(())));
    assert!(none.await.expect("asked").is_empty(), "it was paused");
    assert_eq!(super::ids(&first.await.expect("begun")), uploads[1..2]);
    assert_eq!((deleted.await, admitted.await), (Ok(()), Ok(())));
    let counts = store.queries.batch(ann, id).await.expect("the batch").counts;
    assert_eq!((counts.total, counts.cancelled), (2, 2));
    is_sound(&store).await;
}
