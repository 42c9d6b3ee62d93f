//! What holds when the storage fails at a named place.

use mediamill_actors::{
    error::Error,
    store::{AfterAttempt, CommandError, FaultPoint, NewBatch},
    upload::Status,
};

use super::{
    Backend, Bench, INJECTED, answers, begin, begin_one, changes_nothing, fail, ids, is_sound, log, owner,
    sent, upload,
};
use crate::support::bare_store::{
    Bare, batch, complete, description, dump, failure, files, identity, submit,
};

fn unknown<T>() -> Result<T, CommandError> {
    Err(CommandError::Unknown(INJECTED.into()))
}

/// Every command of a broken store is unknown, and says why.
async fn is_broken(store: &Bare) {
    assert_eq!(store.queries.broken(), Some(INJECTED));
    let (commands, ann) = (&store.commands, owner("ann"));
    let new = batch(&ann, files(1));
    let id = new.id.expect("it has one");
    let upload = new.uploads[0].id;
    assert_eq!(commands.admit(new, 100).await, unknown());
    assert_eq!(commands.cancel(ann.clone(), id).await, unknown());
    assert_eq!(commands.set_paused(ann.clone(), id, true).await, unknown());
    assert_eq!(commands.retry_failed(ann.clone(), id).await, unknown());
    assert_eq!(commands.delete(ann, upload).await, unknown());
    assert_eq!(commands.files_removed(vec![upload]).await, unknown());
    assert_eq!(commands.begin_next(1).await.err(), unknown::<()>().err());
    assert_eq!(commands.renew().await, unknown());
    assert_eq!(commands.end().await, unknown());
}

pub async fn a_failure_before_the_commit_keeps_nothing<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch_before = submit(&store, &ann, 2).await;
    let begun = begin_one(&store).await;
    let mut notices = store.commands.notices();
    let before = dump(&store).await;
    let mut changes = store.queries.watch();
    bench.fail_at(FaultPoint::BeforeCommit);
    // Both are in one group, or the second one finds the store broken.
    let cancelled = store.commands.cancel(ann.clone(), batch_before.batch_id);
    let admitted = store.commands.admit(batch(&ann, files(1)), 100);
    assert_eq!(cancelled.await, unknown());
    assert!(matches!(admitted.await, Err(CommandError::Unknown(_))));
    changes.changed().await.expect("whoever waits for changes hears of it");
    is_broken(&store).await;
    for (name, error) in answers(&store.commands, &begun, description(&store)).await {
        assert_eq!(error, unknown::<()>().err(), "{name}");
    }
    assert!(dump(&store).await == before);
    assert!(sent(&mut notices).await.is_empty(), "nothing was revoked");
    // Whatever is read is what is durable.
    let unfinished = store.queries.unfinished(ann.clone()).await.expect("read");
    assert_eq!(
        unfinished.iter().map(|it| it.1).collect::<Vec<_>>(),
        [batch_before.uploads[1], batch_before.uploads[0]]
    );
    let depth = store.queries.queue_depth();
    assert_eq!((depth.waiting, depth.in_flight), (1, 1));
    let present = store.queries.owner_snapshot(ann.clone(), 9, Vec::new()).await.expect("read");
    assert_eq!(
        present.batches.iter().map(|it| (it.id, it.counts.active)).collect::<Vec<_>>(),
        [(batch_before.batch_id, 1)]
    );
    is_sound(&store).await;
    store.close().await;
    let store = bench.open().await;
    assert_eq!((store.recovered.interrupted, store.recovered.waiting), (1, 2));
    is_sound(&store).await;
}

pub async fn a_failure_after_the_commit_keeps_all<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let new = batch(&ann, files(2));
    let id = new.id.expect("it has one");
    bench.fail_at(FaultPoint::AfterCommit);
    assert_eq!(store.commands.admit(new, 100).await, unknown());
    is_broken(&store).await;
    store.close().await;
    let store = bench.open().await;
    assert_eq!(store.recovered.waiting, 2);
    assert_eq!(store.queries.batch(ann.clone(), id).await.expect("it is there").counts.total, 2);
    assert_eq!(log(&store, &ann).await.len(), 1);
    is_sound(&store).await;
}

pub async fn a_lost_answer_is_given_again_after_a_restart<B: Backend>(bench: &Bench<B>) {
    let ann = owner("ann");
    // Each command is lost, and given again by the next run.
    macro_rules! lost {
        ($store:ident => $command:expr) => {{
            bench.fail_at(FaultPoint::AfterCommit);
            assert_eq!($command.await.map(drop), unknown(), stringify!($command));
            $store.close().await;
            $store = bench.open().await;
            let again = changes_nothing!(&$store, $command).await;
            is_sound(&$store).await;
            again.expect(stringify!($command))
        }};
    }
    let mut store = bench.open().await;
    let id = mediamill_actors::id::BatchId::generate();
    let new = || NewBatch { id: Some(id), ..batch(&ann, files(4)) };
    lost!(store => store.commands.admit(new(), 100));
    let counts = async |store: &Bare| store.queries.batch(ann.clone(), id).await.expect("the batch").counts;
    assert_eq!(counts(&store).await.total, 4);
    lost!(store => store.commands.set_paused(ann.clone(), id, true));
    lost!(store => store.commands.set_paused(ann.clone(), id, false));

    let completing = begin_one(&store).await;
    let described =
        store.commands.record_description(completing.token.clone(), description(&store), Vec::new(), 5);
    described.await.expect("recorded");
    let vector = || vec![1.0, 0.0, 0.0];
    lost!(store => store.commands.complete(completing.token.clone(), vector(), identity(), None, 5));
    assert_eq!(counts(&store).await.completed, 1);

    let failing = begin_one(&store).await;
    let AfterAttempt::Retried(second) = fail(&store, &failing).await else {
        unreachable!("it is tried again")
    };
    let after = lost!(store => store.commands.fail(second.token.clone(), failure(&second)));
    assert!(matches!(after, AfterAttempt::Ended), "{after:?}");
    lost!(store => store.commands.retry_failed(ann.clone(), id));

    let back = begin_one(&store).await;
    let after = lost!(store => store.commands.hand_back(back.token.clone(), None));
    assert!(matches!(after, AfterAttempt::Waits), "{after:?}");
    lost!(store => store.commands.delete(ann.clone(), back.token.upload));
    lost!(store => store.commands.files_removed(vec![back.token.upload]));
    begin(&store, 2).await;
    lost!(store => store.commands.cancel(ann.clone(), id));
    assert_eq!((counts(&store).await.total, counts(&store).await.unfinished()), (3, 0));
}

pub async fn a_lost_attempt_ends_as_interrupted<B: Backend>(bench: &Bench<B>) {
    let (mut store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 3).await;
    bench.fail_at(FaultPoint::AfterCommit);
    assert_eq!(store.commands.begin_next(1).await.err(), unknown::<()>().err());
    store.close().await;
    store = bench.open().await;
    assert_eq!(store.recovered.interrupted, 1, "nobody has its token");

    // What an attempt recorded is kept, and its token is stale with its run.
    let begun = begin_one(&store).await;
    bench.fail_at(FaultPoint::AfterCommit);
    let recorded = store.commands.record_description(begun.token.clone(), description(&store), Vec::new(), 5);
    assert_eq!(recorded.await, unknown());
    store.close().await;
    store = bench.open().await;
    super::is_refused(&store, &store.commands, &begun).await;
    assert!(upload(&store, &ann, batch.uploads[0]).await.description.is_some());

    // A first failure began the next attempt, which ended with its run: the upload waits.
    let begun = begin_one(&store).await;
    bench.fail_at(FaultPoint::AfterCommit);
    let failed = store.commands.fail(begun.token.clone(), failure(&begun)).await;
    assert_eq!(failed.map(drop), unknown());
    store.close().await;
    store = bench.open_within(mediamill_actors::store::Scope::All, 0).await;
    let after = changes_nothing!(&store, fail(&store, &begun)).await;
    assert!(matches!(after, AfterAttempt::Retried(_)), "{after:?}");
    let record = upload(&store, &ann, batch.uploads[0]).await;
    assert_eq!((record.status, record.failures.len()), (Status::Pending, 1));

    // The end of a run is the end of it, whether or not it is heard of.
    let begun = begin(&store, 1).await;
    bench.fail_at(FaultPoint::AfterCommit);
    assert_eq!(store.commands.end().await, unknown());
    store.close().await;
    store = bench.open().await;
    assert_eq!((store.recovered.interrupted, store.recovered.waiting), (0, 3));
    let again = begin(&store, 1).await;
    assert_eq!(ids(&again), ids(&begun), "a suspect that was handed back is still one");
    assert!(again[0].alone);
    complete(&store, &again[0]).await.expect("completed");
    is_sound(&store).await;
}

pub async fn a_read_that_fails_leaves_the_store_sound<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 1).await;
    bench.fail_at(FaultPoint::Read);
    let read = store.queries.batch(ann.clone(), batch.batch_id).await;
    assert_eq!(read, Err(Error::Store(INJECTED.into())));
    store.queries.batch(ann.clone(), batch.batch_id).await.expect("the next read works");
    bench.fail_at(FaultPoint::Read);
    assert_eq!(store.commands.renew().await, unknown());
    assert_eq!(store.commands.renew().await, Ok(()));
    assert_eq!(store.queries.broken(), None);
    complete(&store, &begin_one(&store).await).await.expect("completed");
    is_sound(&store).await;
}
