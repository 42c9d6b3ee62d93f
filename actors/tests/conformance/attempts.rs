//! Attempts: what they record, and how they end.

use std::time::Duration;

use mediamill_actors::{
    analysis::Object,
    event::EventKind,
    media::Facts,
    store::{AfterAttempt, CommandError},
    upload::{AttemptOutcome, Description, Failure, FailureKind, Stage, Status, Thumbnail},
};

use super::{
    Backend, Bench, answers, begin, begin_one, changes_nothing, fail, is_refused, is_sound, kinds_from, log,
    owner, upload,
};
use crate::support::bare_store::{complete, description, failure, identity, submit};

pub async fn an_attempt_records_what_it_gives_and_completes<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let id = submit(&store, &ann, 1).await.uploads[0];
    let began_at = store.queries.clock().now();
    let begun = begin_one(&store).await;
    assert_eq!((begun.token.upload, begun.token.attempt, begun.alone), (id, 1, false));
    let record = upload(&store, &ann, id).await;
    assert_eq!(record, begun.upload);
    assert_eq!((record.status, record.stage), (Status::Analyzing, Stage::ExtractingFrames));
    assert_eq!(record.attempts[0].started_at, began_at);

    let (commands, token) = (&store.commands, || begun.token.clone());
    let facts = Facts { width: 40, height: 30, ..Facts::default() };
    commands.record_media(token(), Thumbnail::Made, facts.clone()).await.expect("recorded");
    let record = upload(&store, &ann, id).await;
    assert_eq!((record.thumbnail, record.facts), (Thumbnail::Made, Some(facts)));
    assert_eq!(record.stage, Stage::VisionAnalysis);

    tokio::time::advance(Duration::from_secs(3)).await;
    commands.record_stage(token(), Stage::DescriptionAudit).await.expect("recorded");
    assert_eq!(upload(&store, &ann, id).await.stage, Stage::DescriptionAudit);

    let objects = vec![Object { label: "dog".into(), count: 2, confidence: 90 }];
    let text = description(&store);
    commands.record_description(token(), text.clone(), objects.clone(), 3000).await.expect("recorded");
    let record = upload(&store, &ann, id).await;
    assert_eq!((record.status, record.stage), (Status::Embedding, Stage::EmbeddingGeneration));
    assert_eq!((record.description, record.objects), (Some(text), objects));

    let changed = Some("the first half".to_owned());
    let completes = commands.complete(token(), vec![0.5, 0.0, 1.0], identity(), changed.clone(), 20);
    completes.await.expect("completed");
    let record = upload(&store, &ann, id).await;
    assert_eq!((record.status, record.stage), (Status::Completed, Stage::Completed));
    assert_eq!((record.embedded_by, record.embedding_changed), (Some(identity()), changed));
    let attempt = &record.attempts[0];
    assert_eq!(attempt.outcome, Some(AttemptOutcome::Completed));
    assert_eq!(attempt.ended_at, Some(store.queries.clock().now()));
    let kinds = kinds_from(&store, &ann, 2).await;
    let (audit_score, needs_review) = (65, false);
    assert_eq!(
        kinds,
        [
            EventKind::UploadBegun { attempt: 1 },
            EventKind::UploadDescribed { attempt: 1, audit_score, needs_review, took_ms: 3000 },
            EventKind::UploadCompleted { attempt: 1, audit_score, needs_review, took_ms: 20 },
        ]
    );
    // It answers its completion again, and nothing else.
    let answers = answers(commands, &begun, description(&store));
    for (name, error) in changes_nothing!(&store, answers).await {
        assert_eq!(error, (name != "complete").then_some(CommandError::Stale), "{name}");
    }
    is_sound(&store).await;
}

pub async fn an_upload_that_fails_twice_is_failed_and_its_neighbour_completes<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let batch = submit(&store, &ann, 2).await;
    let begun = begin(&store, 9).await;
    let AfterAttempt::Retried(second) = fail(&store, &begun[0]).await else {
        unreachable!("the first failure is followed by another attempt");
    };
    assert_eq!((second.token.attempt, second.upload.failures.len()), (2, 1));
    assert_eq!(complete(&store, &begun[0]).await, Err(CommandError::Stale), "a late result is dropped");
    let after = fail(&store, &second).await;
    assert!(matches!(after, AfterAttempt::Ended), "{after:?}");
    complete(&store, &begun[1]).await.expect("completed");

    let record = upload(&store, &ann, batch.uploads[0]).await;
    assert_eq!((record.status, record.stage), (Status::Failed, Stage::Failed));
    assert_eq!(record.failures, [failure(&begun[0]), failure(&second)]);
    let record = store.queries.batch(ann.clone(), batch.batch_id).await.expect("the batch");
    assert_eq!(
        (record.counts.failed, record.counts.completed, record.status().as_str()),
        (1, 1, "completed")
    );
    let failed: Vec<bool> = kinds_from(&store, &ann, 1)
        .await
        .into_iter()
        .filter_map(|it| match it {
            EventKind::UploadFailed { last, .. } => Some(last),
            _ => None,
        })
        .collect();
    assert_eq!(failed, [false, true]);
    is_sound(&store).await;
}

pub async fn an_attempt_that_is_handed_back_does_not_count<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let id = submit(&store, &ann, 1).await.uploads[0];
    for attempt in 1..=12 {
        let begun = begin_one(&store).await;
        assert_eq!(begun.token.attempt, attempt);
        let after = store.commands.hand_back(begun.token.clone(), None).await.expect("written");
        assert!(matches!(after, AfterAttempt::Waits), "{after:?}");
        let record = upload(&store, &ann, id).await;
        assert_eq!((record.status, record.stage), (Status::Pending, Stage::Queued));
    }
    let record = upload(&store, &ann, id).await;
    assert_eq!((record.failures.len(), record.attempts.len()), (0, 8), "a record remembers the newest");
    assert!(record.attempts.iter().all(|it| it.outcome == Some(AttemptOutcome::HandedBack)));
    complete(&store, &begin_one(&store).await).await.expect("completed");
    is_sound(&store).await;
}

pub async fn an_upload_under_which_the_provider_goes_away_twice_has_a_failure<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let id = submit(&store, &ann, 1).await.uploads[0];
    let begun = begin_one(&store).await;
    let away = Some(failure(&begun));
    let after = store.commands.hand_back(begun.token.clone(), away).await.expect("written");
    assert!(matches!(after, AfterAttempt::Waits), "{after:?}");
    assert_eq!(upload(&store, &ann, id).await.provider_away, 1);
    let begun = begin_one(&store).await;
    let away = Some(failure(&begun));
    let after = store.commands.hand_back(begun.token.clone(), away).await.expect("written");
    let AfterAttempt::Retried(third) = after else {
        unreachable!("it counts, as the first failure: {after:?}")
    };
    assert_eq!((third.token.attempt, third.upload.failures.len()), (3, 1));
    let away = Some(failure(&third));
    let after = store.commands.hand_back(third.token.clone(), away).await.expect("written");
    assert!(matches!(after, AfterAttempt::Ended), "{after:?}");
    assert_eq!(upload(&store, &ann, id).await.status, Status::Failed);
    is_sound(&store).await;
}

pub async fn a_description_of_an_earlier_attempt_is_resumed<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let id = submit(&store, &ann, 1).await.uploads[0];
    let begun = begin_one(&store).await;
    let text = description(&store);
    store
        .commands
        .record_description(begun.token.clone(), text.clone(), Vec::new(), 5)
        .await
        .expect("recorded");
    let AfterAttempt::Retried(second) = fail(&store, &begun).await else { unreachable!("it is tried again") };
    assert_eq!(second.upload.description, Some(text));
    store.commands.resume_embedding(second.token.clone()).await.expect("it has a description");
    store
        .commands
        .complete(second.token.clone(), vec![1.0, 0.0, 0.0], identity(), None, 5)
        .await
        .expect("completed");
    let events = log(&store, &ann).await;
    let described = events.iter().filter(|it| matches!(it.kind, EventKind::UploadDescribed { .. }));
    assert_eq!(described.count(), 1);
    assert_eq!(upload(&store, &ann, id).await.status, Status::Completed);
    is_sound(&store).await;
}

pub async fn steps_out_of_order_are_refused<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    submit(&store, &ann, 1).await;
    let begun = begin_one(&store).await;
    let (commands, token) = (&store.commands, || begun.token.clone());
    let is_conflict = |answer: Result<(), CommandError>| {
        assert!(matches!(answer, Err(CommandError::Conflict(_))), "{answer:?}");
    };
    is_conflict(changes_nothing!(&store, commands.resume_embedding(token())).await);
    let complete = commands.complete(token(), vec![1.0, 0.0, 0.0], identity(), None, 5);
    is_conflict(changes_nothing!(&store, complete).await);
    let first = commands.record_description(token(), description(&store), Vec::new(), 5);
    first.await.expect("recorded");
    let other = Description { text: "Another.".into(), ..description(&store) };
    let second = commands.record_description(token(), other, Vec::new(), 5);
    is_conflict(changes_nothing!(&store, second).await);
    let complete = commands.complete(token(), vec![1.0, 0.0, 0.0], identity(), None, 5);
    complete.await.expect("a refusal leaves the attempt as it was");
    is_sound(&store).await;
}

pub async fn a_refusal_costs_the_commands_beside_it_nothing<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let id = submit(&store, &ann, 1).await.uploads[0];
    let begun = begin_one(&store).await;
    let token = || begun.token.clone();
    let facts = Facts { width: 40, ..Facts::default() };
    // They are queued at once, so that they are written together.
    let recorded = store.commands.record_media(token(), Thumbnail::Made, facts.clone());
    let refused = store.commands.complete(token(), vec![1.0, 0.0, 0.0], identity(), None, 5);
    assert_eq!(recorded.await, Ok(()));
    assert!(matches!(refused.await, Err(CommandError::Conflict(_))));
    let record = upload(&store, &ann, id).await;
    assert_eq!((record.facts, record.thumbnail), (Some(facts), Thumbnail::Made));
    is_sound(&store).await;
}

pub async fn a_panicked_attempt_failed_in_its_stage<B: Backend>(bench: &Bench<B>) {
    let (store, ann) = (bench.open().await, owner("ann"));
    let id = submit(&store, &ann, 1).await.uploads[0];
    let begun = begin_one(&store).await;
    store.commands.record_stage(begun.token.clone(), Stage::DescriptionAudit).await.expect("recorded");
    let panicked = Failure::new(1, Stage::Queued, FailureKind::Panicked, "the worker panicked");
    store.commands.fail(begun.token.clone(), panicked).await.expect("written");
    assert_eq!(upload(&store, &ann, id).await.failures[0].stage, Stage::DescriptionAudit);
    let mut never = begun.clone();
    never.token.attempt = 7;
    is_refused(&store, &store.commands, &never).await;
}
