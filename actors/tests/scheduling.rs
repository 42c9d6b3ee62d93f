//! The order of uploads, and the ends of a batch's rounds, on a paused clock.

mod support;

use std::{num::NonZeroU32, time::Duration};

use mediamill_actors::{
    batch_supervisor::{CancelBatch, DeleteUpload, PauseBatch, ResumeBatch, RetryFailed},
    config::Config,
    error::Error,
    id::{BatchId, Owner},
    upload::{FailureKind, Status},
};
use support::{World, scripted::Act};

const SECOND: Duration = Duration::from_secs(1);

fn one_at_a_time(config: &mut Config) {
    config.workers.concurrency = NonZeroU32::new(1);
    config.provider.vision_concurrency = NonZeroU32::new(1);
}

/// The rounds of a batch whose ends are in the log.
async fn ends(world: &World, batch: BatchId) -> Vec<u32> {
    let page = world.pipeline.queries().events_from(world.owner.clone(), 1, 10_000).await.expect("the log");
    let of_batch = page.changes.iter().filter(|it| it.event.batch_id == Some(batch));
    of_batch.filter_map(|it| it.event.batch?.ends_round).collect()
}

#[actix_rt::test]
async fn owners_alternate_and_the_batches_of_an_owner_follow_one_another() {
    let world = World::scripted_with(one_at_a_time).await;
    world.provider.is_there(false);
    let [ann, bob] = ["ann", "bob"].map(|it| Owner::new(it).expect("valid"));
    world.submit_as(&ann, &["a1.png", "a2.png", "a3.png"]).await;
    world.submit_as(&ann, &["a4.png"]).await;
    world.submit_as(&bob, &["b1.png"]).await;
    let (last, _) = world.submit(&["l1.png", "l2.png"]).await;
    world.provider.is_there(true);
    world.ended(last).await;
    while world.provider.asked().len() < 7 {
        tokio::time::sleep(SECOND).await;
    }
    let order = ["a1.png", "b1.png", "l1.png", "a2.png", "l2.png", "a3.png", "a4.png"];
    assert_eq!(world.provider.asked(), order);
}

#[actix_rt::test]
async fn a_paused_batch_finishes_its_running_attempts_and_is_passed_over() {
    let world = World::scripted_with(one_at_a_time).await;
    world.provider.takes(10 * SECOND, Duration::ZERO);
    let (batch, uploads) = world.submit(&["a.png", "b.png"]).await;
    let (other, _) = world.submit(&["c.png"]).await;
    world.batch_when(batch, |it| it.counts.active == 1).await;
    let pause = || PauseBatch { owner: world.owner.clone(), batch };
    world.tell(pause()).await.expect("paused");
    world.tell(pause()).await.expect("paused already");
    world.ended(other).await;
    tokio::time::sleep(600 * SECOND).await;
    let record = world.pipeline.queries().batch(world.owner.clone(), batch).await.expect("the batch");
    assert_eq!(
        (record.counts.completed, record.counts.active, record.status().as_str()),
        (1, 0, "processing")
    );
    assert!(record.paused_at.is_some());
    assert_eq!(world.upload(uploads[1]).await.attempt, 0);
    world.tell(ResumeBatch { owner: world.owner.clone(), batch }).await.expect("resumed");
    assert_eq!(world.ended(batch).await.counts.completed, 2);
    assert_eq!(world.provider.asked(), ["a.png", "c.png", "b.png"]);
    let refused = world.tell(pause()).await;
    assert!(matches!(&refused, Err(Error::Conflict(why)) if why.contains("completed")), "{refused:?}");
}

#[actix_rt::test]
async fn failed_uploads_get_two_fresh_attempts_and_their_failures_move_to_history() {
    let world = World::scripted().await;
    world.provider.describing("a.png", &[Act::Fail, Act::Fail, Act::Fail]);
    let (batch, uploads) = world.submit(&["a.png", "b.png", "bad.png"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (1, 2));
    let retry = || RetryFailed { owner: world.owner.clone(), batch };
    world.tell(retry()).await.expect("a second round");
    let record = world.ended(batch).await;
    assert_eq!((record.round, record.counts.completed, record.counts.failed), (2, 2, 1));
    let upload = world.upload(uploads[0]).await;
    assert_eq!((upload.status, upload.attempt, upload.round), (Status::Completed, 4, 2));
    assert_eq!((upload.failures.len(), upload.history[0].failures.len()), (1, 2));
    assert_eq!(world.upload(uploads[1]).await.attempt, 1, "a completed upload is not done again");
    let bad = world.upload(uploads[2]).await;
    assert!(bad.failures.iter().all(|it| it.kind == FailureKind::BadAnswer && it.attempt > 2), "{bad:?}");
    assert_eq!(ends(&world, batch).await, [1, 2]);
    // Nothing is left to retry after the last failure is deleted.
    world.tell(DeleteUpload { owner: world.owner.clone(), upload: uploads[2] }).await.expect("deleted");
    world.tell(retry()).await.expect("it changes nothing");
    assert_eq!(ends(&world, batch).await, [1, 2]);
}

#[actix_rt::test]
async fn each_round_ends_once_however_it_ends() {
    let world = World::scripted().await;
    let owner = || world.owner.clone();
    let (completed, _) = world.submit(&["a.png", "bad.png"]).await;
    world.ended(completed).await;

    world.provider.describing("hangs.png", &vec![Act::Hang; 9]);
    let (cancelled, _) = world.submit(&["b.png", "hangs.png", "c.png"]).await;
    world.batch_when(cancelled, |it| it.counts.completed == 2).await;
    for _ in 0..2 {
        world.tell(CancelBatch { owner: owner(), batch: cancelled }).await.expect("cancelled");
    }
    world.ended(cancelled).await;

    world.provider.is_there(false);
    let (deleted, uploads) = world.submit(&["d.png", "e.png"]).await;
    for upload in uploads {
        world.tell(DeleteUpload { owner: owner(), upload }).await.expect("deleted");
    }
    world.ended(deleted).await;

    std::fs::write(world.path("no.png"), b"").expect("written");
    let files = vec![mediamill_actors::intake::Source::InPlace(world.path("no.png"))];
    let submit = mediamill_actors::batch_supervisor::SubmitBatch { owner: owner(), files, force: false };
    let refused = world.tell(submit).await.expect("accepted").batch_id.expect("a batch");

    for (batch, status) in
        [(completed, "completed"), (cancelled, "cancelled"), (deleted, "completed"), (refused, "failed")]
    {
        let record = world.pipeline.queries().batch(owner(), batch).await.expect("the batch");
        assert_eq!((record.status().as_str(), ends(&world, batch).await), (status, vec![1]));
    }
}
