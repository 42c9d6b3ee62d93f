//! The rules of an attempt, on a paused clock, with a scripted provider.

mod support;

use std::{num::NonZeroU32, sync::atomic::Ordering, time::Duration};

use mediamill_actors::{
    batch_supervisor::{CancelBatch, DeleteUpload, Drain, RetryFailed},
    config::Config,
    error::Error,
    id::UploadId,
    upload::{AttemptOutcome, FailureKind, FileKey, Stage, Status, Thumbnail, Upload},
};
use support::{World, crash::Mortal, scripted::Act};

const SECOND: Duration = Duration::from_secs(1);

/// A number of workers, and of calls in flight.
fn at_once(count: u32) -> impl FnOnce(&mut Config) {
    move |config| {
        config.workers.concurrency = NonZeroU32::new(count);
        config.provider.vision_concurrency = NonZeroU32::new(count);
    }
}

fn outcomes(upload: &Upload) -> Vec<Option<AttemptOutcome>> {
    upload.attempts.iter().map(|it| it.outcome).collect()
}

fn kinds(upload: &Upload) -> Vec<FailureKind> {
    upload.failures.iter().map(|it| it.kind).collect()
}

#[actix_rt::test]
async fn an_upload_fails_after_two_failed_attempts() {
    let world = World::scripted().await;
    let (batch, uploads) = world.submit(&["bad.png"]).await;
    world.ended(batch).await;
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(world.provider.described.load(Ordering::Relaxed), 2);
    let upload = world.upload(uploads[0]).await;
    assert_eq!((upload.status, upload.attempt), (Status::Failed, 2));
    assert_eq!(outcomes(&upload), [Some(AttemptOutcome::Failed); 2]);
    let failures: Vec<_> = upload.failures.iter().map(|it| (it.attempt, it.stage, it.kind)).collect();
    let bad = |attempt| (attempt, Stage::VisionAnalysis, FailureKind::BadAnswer);
    assert_eq!(failures, [bad(1), bad(2)]);
}

#[actix_rt::test]
async fn an_attempt_that_fails_is_followed_by_another_at_once() {
    let world = World::scripted().await;
    world.provider.describing("a.png", &[Act::Fail]);
    world.provider.takes(10 * SECOND, Duration::ZERO);
    let (batch, uploads) = world.submit(&["a.png"]).await;
    assert_eq!(world.ended(batch).await.counts.completed, 1);
    let at = world.provider.asked_at("a.png");
    assert_eq!((at.len(), (at[1] - at[0]).as_secs()), (2, 10));
    let upload = world.upload(uploads[0]).await;
    assert_eq!(outcomes(&upload), [Some(AttemptOutcome::Failed), Some(AttemptOutcome::Completed)]);
}

#[actix_rt::test]
async fn an_attempt_is_recorded_before_the_provider_is_called() {
    let world = World::scripted().await;
    world.provider.describing("a.png", &[Act::Fail, Act::Hang]);
    world.provider.takes(5 * SECOND, Duration::ZERO);
    let (_, uploads) = world.submit(&["a.png"]).await;
    for attempt in 1..=2 {
        while world.provider.asked().len() < attempt as usize {
            tokio::time::sleep(SECOND / 10).await;
        }
        let upload = world.upload(uploads[0]).await;
        let running = upload.attempts.last().expect("it is counted");
        assert_eq!((upload.attempt, running.number, running.outcome), (attempt, attempt, None));
    }
}

#[actix_rt::test]
async fn a_failed_attempt_delays_no_other_upload() {
    let world = World::scripted_with(at_once(2)).await;
    world.provider.takes(10 * SECOND, Duration::ZERO);
    let (batch, uploads) = world.submit(&["bad.png", "a.png", "b.png", "c.png"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (3, 1));
    let first = world.provider.asked_at("a.png")[0];
    // Two calls at once: the failing one has its second call while the next picture is described.
    for (name, seconds) in [("bad.png", vec![0, 10]), ("b.png", vec![10]), ("c.png", vec![20])] {
        let at: Vec<u64> =
            world.provider.asked_at(name).iter().map(|it| (*it - first).as_millis() as u64 / 1000).collect();
        assert_eq!(at, seconds, "{name}");
    }
    for upload in &uploads[1..] {
        assert_eq!(world.upload(*upload).await.attempt, 1);
    }
}

#[actix_rt::test]
async fn a_thumbnail_that_cannot_be_written_is_made_later_without_another_submission() {
    let world = World::scripted().await;
    let thumbnails = world.folder.path().join("data/thumbnails");
    std::fs::write(&thumbnails, b"in the way").expect("written");
    world.provider.describing("a.png", &[Act::Fail, Act::Fail]);
    let (batch, uploads) = world.submit(&["a.png", "b.png"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (1, 1));
    let other = world.upload(uploads[1]).await;
    assert!(other.failures.is_empty() && other.description.is_some(), "{other:?}");
    assert_eq!(other.thumbnail, Thumbnail::Pending);
    // Neither a restart nor waiting helps while the disk takes none.
    let world = world.restart().await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(world.upload(uploads[1]).await.thumbnail, Thumbnail::Pending);
    std::fs::remove_file(&thumbnails).expect("removed");
    let mut changes = world.pipeline.queries().watch();
    while world.upload(uploads[1]).await.thumbnail != Thumbnail::Made {
        changes.changed().await.expect("open");
    }
    assert!(world.pipeline.files.local_path(&FileKey::thumbnail(uploads[1])).exists());
    assert!(world.pipeline.queries().late_thumbnails(None, 9).await.expect("read").is_empty());
    world.tell(RetryFailed { owner: world.owner.clone(), batch }).await.expect("a new round");
    world.ended(batch).await;
    let retried = world.upload(uploads[0]).await;
    assert_eq!((retried.status, retried.thumbnail), (Status::Completed, Thumbnail::Made));
}

#[actix_rt::test]
async fn a_description_that_failed_the_audit_is_kept_if_the_provider_goes_away_before_the_second() {
    let world = World::scripted().await;
    world.provider.describing("a.png", &[Act::Say("stripes ".repeat(6)), Act::Kill(20 * SECOND)]);
    let (batch, uploads) = world.submit(&["a.png"]).await;
    assert_eq!(world.ended(batch).await.counts.completed, 1);
    assert_eq!(world.provider.asked(), ["a.png"; 2], "the first question is not repeated");
    let upload = world.upload(uploads[0]).await;
    assert_eq!(outcomes(&upload), [Some(AttemptOutcome::HandedBack), Some(AttemptOutcome::Completed)]);
    let description = upload.description.expect("kept");
    assert_eq!((description.needs_review, description.asked), (true, 2));
}

#[actix_rt::test]
async fn a_recorded_description_is_not_requested_again() {
    let world = World::scripted().await;
    world.provider.embedding("a.png", &[Act::Fail]);
    let (batch, uploads) = world.submit(&["a.png"]).await;
    assert_eq!(world.ended(batch).await.counts.completed, 1);
    assert_eq!(world.provider.asked(), ["a.png"]);
    let upload = world.upload(uploads[0]).await;
    assert_eq!((upload.attempt, upload.failures[0].stage), (2, Stage::EmbeddingGeneration));
}

#[actix_rt::test]
async fn a_description_that_fails_the_audit_is_requested_once_more_in_the_same_attempt() {
    let world = World::scripted().await;
    let poor = |text: &str| Act::Say(text.into());
    world.provider.describing("a.png", &[poor("cat cat cat cat cat cat")]);
    world.provider.describing("b.png", &[poor("cat cat cat cat cat cat"), poor("cat cat cat cat")]);
    world.provider.describing("c.png", &[poor("cat cat cat cat cat cat"), Act::Fail]);
    let (batch, uploads) = world.submit(&["a.png", "b.png", "c.png"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.needs_review), (3, 2));
    for (upload, review) in uploads.into_iter().zip([false, true, true]) {
        let upload = world.upload(upload).await;
        let description = upload.description.expect("a description");
        assert_eq!((upload.attempt, description.asked, description.needs_review), (1, 2, review));
    }
}

#[actix_rt::test]
async fn an_empty_answer_fails_the_attempt() {
    let world = World::scripted().await;
    world.provider.describing("a.png", &[Act::Say(" \n".into()), Act::Say(String::new())]);
    let (batch, uploads) = world.submit(&["a.png"]).await;
    world.ended(batch).await;
    assert_eq!(kinds(&world.upload(uploads[0]).await), [FailureKind::BadAnswer; 2]);
}

#[actix_rt::test]
async fn a_panic_fails_its_attempt_and_no_other() {
    let world = World::scripted().await;
    world.provider.describing("a.png", &[Act::Panic]);
    world.provider.describing("b.png", &[Act::Panic, Act::Panic]);
    world.provider.embedding("c.png", &[Act::Panic]);
    let (batch, uploads) = world.submit(&["a.png", "b.png", "c.png", "d.png"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (3, 1));
    let panicked = |stage| (FailureKind::Panicked, stage);
    let (described, embedded) = (panicked(Stage::VisionAnalysis), panicked(Stage::EmbeddingGeneration));
    for (upload, expected) in uploads.iter().zip([&[described][..], &[described; 2], &[embedded], &[]]) {
        let upload = world.upload(*upload).await;
        let failures: Vec<_> = upload.failures.iter().map(|it| (it.kind, it.stage)).collect();
        assert_eq!(failures, expected);
    }
    let (next, _) = world.submit(&["e.png"]).await;
    assert_eq!(world.ended(next).await.counts.completed, 1, "the engine continues");
}

#[actix_rt::test]
async fn a_provider_that_is_away_costs_no_attempt_and_is_probed_at_growing_intervals() {
    let world = World::scripted().await;
    world.provider.takes(SECOND, Duration::ZERO);
    let (batch, uploads) = world.submit(&["a.png", "b.png", "c.png"]).await;
    world.batch_when(batch, |it| it.counts.active > 0).await;
    let before = world.provider.probed().len();
    world.provider.is_there(false);
    tokio::time::sleep(300 * SECOND).await;
    let record = world.pipeline.queries().batch(world.owner.clone(), batch).await.expect("the batch");
    assert_eq!((record.counts.active, record.counts.failed, record.counts.processed()), (0, 0, 0));
    let called = world.provider.described.load(Ordering::Relaxed);
    let probed = world.provider.probed().split_off(before);
    let pauses: Vec<u64> =
        probed.windows(2).map(|it| (it[1] - it[0]).as_secs()).filter(|it| *it > 0).take(6).collect();
    // 2, 4, 8, 16, 30, 30 s, each up to a quarter longer.
    for (pause, at_least) in pauses.iter().zip([2, 4, 8, 16, 30, 30]) {
        assert!((at_least..=at_least * 5 / 4 + 1).contains(pause), "{pauses:?}");
    }
    assert_eq!(pauses.len(), 6);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(world.provider.described.load(Ordering::Relaxed), called, "no call is made meanwhile");
    world.provider.is_there(true);
    assert_eq!(world.ended(batch).await.counts.completed, 3);
    for upload in uploads {
        let upload = world.upload(upload).await;
        assert!(upload.failures.is_empty(), "{upload:?}");
        let (last, before) = upload.attempts.split_last().expect("attempts");
        assert_eq!(last.outcome, Some(AttemptOutcome::Completed));
        assert!(
            before.iter().all(|it| it.outcome == Some(AttemptOutcome::HandedBack)),
            "{:?}",
            upload.attempts
        );
    }
}

#[actix_rt::test]
async fn a_picture_that_kills_the_provider_fails_and_no_other_upload_does() {
    let world = World::scripted_with(at_once(3)).await;
    world.provider.takes(SECOND, Duration::ZERO);
    world.provider.describing("killer.png", &vec![Act::Kill(20 * SECOND); 20]);
    let (batch, uploads) = world.submit(&["a.png", "killer.png", "b.png", "c.png", "d.png"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (4, 1));
    let killer = world.upload(uploads[1]).await;
    assert_eq!(kinds(&killer), [FailureKind::ProviderAway; 2]);
    assert_eq!(
        world.provider.asked_at("killer.png").len(),
        3,
        "one call that was handed back, and two failed attempts"
    );
    for upload in [0, 2, 3, 4] {
        assert_eq!(kinds(&world.upload(uploads[upload]).await), [], "no other upload is affected");
    }
}

#[actix_rt::test]
async fn a_provider_that_asks_to_be_called_later_fails_no_upload() {
    let world = World::scripted().await;
    world.provider.describing("a.png", &vec![Act::Later(2 * SECOND); 5]);
    let (batch, uploads) = world.submit(&["a.png", "b.png"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (2, 0));
    let a = world.upload(uploads[0]).await;
    assert_eq!((kinds(&a), a.provider_away), (vec![], 0));
}

#[actix_rt::test]
async fn uploads_wait_for_a_misconfigured_provider() {
    let world = World::scripted().await;
    world.provider.takes(SECOND, Duration::ZERO);
    let (batch, uploads) = world.submit(&["a.png", "b.png"]).await;
    world.batch_when(batch, |it| it.counts.active > 0).await;
    world.provider.is_misconfigured();
    tokio::time::sleep(3600 * SECOND).await;
    let record = world.pipeline.queries().batch(world.owner.clone(), batch).await.expect("the batch");
    assert_eq!((record.counts.active, record.counts.processed()), (0, 0), "an hour later it waits");
    let waiting = world.pipeline.provider().borrow().waiting();
    assert!(waiting.as_deref().is_some_and(|it| it.contains("the key is wrong")), "{waiting:?}");
    world.provider.is_set_up();
    assert_eq!(world.ended(batch).await.counts.completed, 2);
    for upload in uploads {
        assert_eq!(kinds(&world.upload(upload).await), []);
    }
}

#[actix_rt::test]
async fn a_provider_whose_probe_panics_is_probed_again() {
    let world = World::scripted().await;
    world.provider.is_there(false);
    world.provider.probe_panics(true);
    let (batch, _) = world.submit(&["a.png"]).await;
    tokio::time::sleep(60 * SECOND).await;
    let waiting = world.pipeline.provider().borrow().waiting();
    assert!(waiting.as_deref().is_some_and(|it| it.contains("panicked")), "{waiting:?}");
    world.provider.probe_panics(false);
    world.provider.is_there(true);
    assert_eq!(world.ended(batch).await.counts.completed, 1);
}

#[actix_rt::test]
async fn a_provider_that_does_not_answer_in_time_fails_the_attempt() {
    let world = World::scripted().await;
    world.provider.describing("a.png", &[Act::Hang, Act::Hang]);
    let (batch, uploads) = world.submit(&["a.png", "b.png"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (1, 1));
    assert_eq!(kinds(&world.upload(uploads[0]).await), [FailureKind::TimedOut; 2]);
    assert_eq!(world.provider.running(), 0, "the hanging call is dropped");
}

#[actix_rt::test]
async fn a_drain_hands_back_unfinished_attempts_which_do_not_count() {
    let world = World::scripted_with(at_once(2)).await;
    world.provider.takes(10 * SECOND, Duration::ZERO);
    world.provider.describing("b.png", &[Act::Hang]);
    let (batch, uploads) = world.submit(&["a.png", "b.png", "c.png"]).await;
    world.batch_when(batch, |it| it.counts.active == 2).await;
    let began = tokio::time::Instant::now();
    assert_eq!(world.tell(Drain(30 * SECOND)).await, Ok(1), "one was handed back");
    assert_eq!(began.elapsed().as_secs(), 30);
    assert_eq!(world.provider.running(), 0, "its call was aborted");
    let statuses = [Status::Completed, Status::Pending, Status::Pending];
    for (upload, status) in uploads.iter().zip(statuses) {
        let upload = world.upload(*upload).await;
        assert_eq!((upload.status, upload.failures.len()), (status, 0));
    }
    assert_eq!(outcomes(&world.upload(uploads[1]).await), [Some(AttemptOutcome::HandedBack)]);
    assert!(world.provider.asked_at("c.png").is_empty(), "nothing was begun meanwhile");
}

#[actix_rt::test]
async fn a_drain_ends_with_the_last_running_attempt_even_if_it_panics() {
    let world = World::scripted_with(at_once(2)).await;
    world.provider.takes(10 * SECOND, Duration::ZERO);
    world.provider.describing("a.png", &[Act::Panic]);
    let (batch, uploads) = world.submit(&["a.png", "b.png", "c.png"]).await;
    // They are begun, but their workers may not have been spawned.
    world.batch_when(batch, |it| it.counts.active == 2).await;
    let began = tokio::time::Instant::now();
    assert_eq!(world.tell(Drain(3600 * SECOND)).await, Ok(0));
    assert_eq!(began.elapsed().as_secs(), 20);
    for (upload, attempts) in uploads.into_iter().zip([2, 1, 0]) {
        let upload = world.upload(upload).await;
        assert_eq!((upload.attempt, upload.status == Status::Completed), (attempts, attempts > 0));
    }
}

#[actix_rt::test]
async fn a_submission_while_the_engine_stops_is_refused() {
    let world = World::scripted().await;
    world.provider.takes(10 * SECOND, Duration::ZERO);
    let (batch, _) = world.submit(&["a.png"]).await;
    world.batch_when(batch, |it| it.counts.active == 1).await;
    let drain = world.pipeline.supervisor.send(Drain(30 * SECOND));
    let submit = mediamill_actors::batch_supervisor::SubmitBatch {
        owner: world.owner.clone(),
        files: vec![mediamill_actors::intake::Source::InPlace(world.path("a.png"))],
        force: true,
    };
    let (drained, submitted) = tokio::join!(drain, world.tell(submit));
    assert_eq!(drained.expect("alive"), Ok(0));
    assert_eq!(submitted.map(drop), Err(Error::Stopping));
}

#[actix_rt::test]
async fn interrupted_uploads_run_alone_and_fail_at_the_limit_while_their_neighbours_do_not() {
    let mut mortal = Mortal::scripted_with(at_once(4)).await;
    let (batch, uploads) = mortal
        .live(async |world: &World| {
            world.provider.describing("a.png", &vec![Act::Hang; 9]);
            world.provider.describing("b.png", &[Act::Hang]);
            let submitted = world.submit(&["a.png", "b.png", "c.png", "d.png"]).await;
            world.batch_when(submitted.0, |it| it.counts.completed == 2 && it.counts.active == 2).await;
            submitted
        })
        .await;
    // The first interruption had neighbours and does not count. The next three were alone.
    for interruptions in 0..3 {
        mortal = mortal.crash().await;
        mortal
            .live(async |world: &World| {
                world.batch_when(batch, |it| it.counts.active > 0).await;
                tokio::time::sleep(SECOND).await;
                let (a, b) = (world.upload(uploads[0]).await, world.upload(uploads[1]).await);
                assert_eq!((a.status, a.interruptions), (Status::Analyzing, interruptions));
                assert_eq!((b.status, b.interruptions), (Status::Pending, 0), "it waits for its turn alone");
            })
            .await;
    }
    let mortal = mortal.crash().await;
    mortal
        .live(async |world: &World| {
            let record = world.ended(batch).await;
            assert_eq!((record.counts.completed, record.counts.failed), (3, 1));
            let a = world.upload(uploads[0]).await;
            assert_eq!((kinds(&a), a.interruptions), (vec![FailureKind::Interrupted], 3));
            let b = world.upload(uploads[1]).await;
            assert_eq!((b.status, b.interruptions, b.failures.len()), (Status::Completed, 0, 0));
            for upload in &uploads[2..] {
                assert_eq!(
                    world.upload(*upload).await.attempt,
                    1,
                    "a completed upload is not processed again"
                );
            }
        })
        .await;
}

#[actix_rt::test]
async fn a_cancel_aborts_the_running_call() {
    let world = World::scripted_with(at_once(2)).await;
    world.provider.describing("a.png", &[Act::Hang]);
    world.provider.embedding("b.png", &[Act::Hang]);
    let (batch, uploads) = world.submit(&["a.png", "b.png", "c.png"]).await;
    while world.provider.running() < 2 {
        tokio::time::sleep(SECOND).await;
    }
    let cancel = || CancelBatch { owner: world.owner.clone(), batch };
    world.tell(cancel()).await.expect("cancelled");
    let record = world.ended(batch).await;
    assert_eq!((record.status().as_str(), record.counts.cancelled), ("cancelled", 3));
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.provider.running(), 0);
    assert_eq!(outcomes(&world.upload(uploads[0]).await), [Some(AttemptOutcome::GivenUp)]);
    world.tell(cancel()).await.expect("it changes nothing");
    let (next, _) = world.submit(&["d.png"]).await;
    assert_eq!(world.ended(next).await.counts.completed, 1, "the workers are free");
}

#[actix_rt::test]
async fn an_upload_in_flight_can_be_deleted() {
    let world = World::scripted_with(at_once(2)).await;
    world.provider.describing("a.png", &[Act::Hang]);
    world.provider.embedding("b.png", &[Act::Hang]);
    let (batch, uploads) = world.submit(&["a.png", "b.png", "c.png"]).await;
    while world.provider.running() < 2 {
        tokio::time::sleep(SECOND).await;
    }
    let delete = |upload: UploadId| DeleteUpload { owner: world.owner.clone(), upload };
    for upload in &uploads[..2] {
        world.tell(delete(*upload)).await.expect("deleted");
        let gone = world.pipeline.queries().upload(world.owner.clone(), *upload).await;
        assert_eq!(gone.map(drop), Err(Error::NotFound("upload")));
        assert!(world.tell(delete(*upload)).await.is_err(), "once");
    }
    let record = world.ended(batch).await;
    assert_eq!((record.counts.total, record.counts.completed), (1, 1));
    tokio::time::sleep(SECOND).await;
    assert_eq!(world.provider.running(), 0);
    for upload in &uploads[..2] {
        assert!(
            !world.pipeline.files.local_path(&FileKey::thumbnail(*upload)).exists(),
            "nothing is left of it"
        );
    }
    let found = world.pipeline.queries().verify().await.expect("readable");
    assert_eq!(found.faults, [""; 0]);
}
