//! Questions about batches, uploads and the engine, and their answers.

mod support;

use std::time::Duration;

use mediamill_actors::{
    error::Error,
    id::{BatchId, Owner, UploadId},
    pipeline::Stopped,
    query_service::{
        DumpStore, GetBatch, GetHealth, GetUpload, ListBatches, ListUploads, SearchHit, SearchUploads,
    },
    upload::{Stage, Status},
};
use support::World;

async fn list(world: &World, offset: usize, limit: usize) -> Result<Vec<BatchId>, Error> {
    let list = ListBatches { owner: world.owner.clone(), offset, limit };
    let views = world.pipeline.query_service.send(list).await.expect("alive")?;
    Ok(views.into_iter().map(|it| it.batch.id).collect())
}

async fn search(world: &World, owner: &Owner, query: &str, limit: usize) -> Result<Vec<SearchHit>, Error> {
    let search = SearchUploads { owner: owner.clone(), query: query.into(), limit };
    world.pipeline.query_service.send(search).await.expect("alive")
}

#[actix_rt::test]
async fn batches_are_listed_newest_first_and_in_pages() {
    let world = World::scripted().await;
    let (first, _) = world.submit(&["a.png"]).await;
    world.ended(first).await;
    let (second, _) = world.submit(&["b.png"]).await;
    assert_eq!(list(&world, 0, 100).await, Ok(vec![second, first]));
    assert_eq!(list(&world, 1, 1).await, Ok(vec![first]));
    assert_eq!(list(&world, 2, 1).await, Ok(vec![]));
}

#[actix_rt::test]
async fn a_batch_is_seen_with_its_status_and_percentage() {
    let world = World::scripted().await;
    let (batch, _) = world.submit(&["a.png", "bad.png"]).await;
    world.ended(batch).await;
    let get = GetBatch { owner: world.owner.clone(), batch };
    let view = world.pipeline.query_service.send(get).await.expect("alive").expect("the batch");
    assert_eq!((view.status.as_str(), view.percent), ("completed", 100));
    assert_eq!((view.eta_seconds, view.waiting), (None, None));
}

#[actix_rt::test]
async fn uploads_are_listed_in_the_order_of_their_submission() {
    let world = World::scripted().await;
    let (batch, uploads) = world.submit(&["a.png", "bad.png", "c.png"]).await;
    world.ended(batch).await;
    let list = ListUploads { owner: world.owner.clone(), batch, offset: 1, limit: 1000 };
    let listed = world.pipeline.query_service.send(list).await.expect("alive").expect("listed");
    assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), uploads[1..]);
    assert_eq!((listed[0].status, listed[0].stage), (Status::Failed, Stage::Failed));
}

#[actix_rt::test]
async fn an_unknown_batch_or_upload_is_not_found() {
    let world = World::scripted().await;
    let questions = &world.pipeline.query_service;
    let get = GetBatch { owner: world.owner.clone(), batch: BatchId::generate() };
    assert_eq!(questions.send(get).await.expect("alive"), Err(Error::NotFound("batch")));
    let get = GetUpload { owner: world.owner.clone(), upload: UploadId::generate() };
    assert_eq!(questions.send(get).await.expect("alive"), Err(Error::NotFound("upload")));
}

#[actix_rt::test]
async fn another_owner_finds_nothing() {
    let world = World::scripted().await;
    let (batch, uploads) = world.submit(&["a.png"]).await;
    world.ended(batch).await;
    let stranger = Owner::new("stranger").expect("valid");
    let questions = &world.pipeline.query_service;
    let get = GetBatch { owner: stranger.clone(), batch };
    assert_eq!(questions.send(get).await.expect("alive"), Err(Error::NotFound("batch")));
    let get = GetUpload { owner: stranger.clone(), upload: uploads[0] };
    assert_eq!(questions.send(get).await.expect("alive"), Err(Error::NotFound("upload")));
    let list = ListUploads { owner: stranger.clone(), batch, offset: 0, limit: 10 };
    assert_eq!(questions.send(list).await.expect("alive"), Err(Error::NotFound("batch")));
    assert_eq!(search(&world, &stranger, "stripes", 10).await, Ok(vec![]));
    assert_eq!(search(&world, &world.owner, "stripes", 10).await.map(|it| it.len()), Ok(1));
}

#[actix_rt::test]
async fn a_search_returns_the_nearest_uploads_first() {
    let world = World::scripted().await;
    let (batch, _) = world.submit(&["a.png", "b.png", "c.png"]).await;
    world.ended(batch).await;
    let hits = search(&world, &world.owner, "stripes", 2).await.expect("searched");
    assert_eq!(hits.len(), 2);
    assert!(hits[0].score >= hits[1].score, "{hits:?}");
}

#[actix_rt::test]
async fn limits_and_queries_out_of_range_are_invalid() {
    let world = World::scripted().await;
    for limit in [0, ListBatches::MAX + 1] {
        let refused = list(&world, 0, limit).await;
        assert!(matches!(&refused, Err(Error::Invalid(text)) if text.contains("1 to 100")), "{refused:?}");
    }
    let long = "x".repeat(SearchUploads::MAX_CHARS + 1);
    for (query, limit) in [("  ", 5), ("x", 0), ("x", SearchUploads::MAX + 1), (&*long, 5)] {
        let refused = search(&world, &world.owner, query, limit).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{query} {limit}: {refused:?}");
    }
}

#[actix_rt::test]
async fn a_search_without_a_provider_says_why_it_is_away() {
    let world = World::scripted().await;
    world.provider.is_there(false);
    let refused = search(&world, &world.owner, "stripes", 2).await;
    assert!(
        matches!(&refused, Err(Error::ProviderUnavailable(text)) if text.contains("connection refused")),
        "{refused:?}"
    );
}

#[actix_rt::test]
async fn health_counts_uploads_and_subscribers() {
    let world =
        World::scripted_with(|config| config.workers.concurrency = std::num::NonZeroU32::new(2)).await;
    world.provider.takes(Duration::from_secs(3600), Duration::ZERO);
    let _relay = world.listen().await;
    let (batch, _) = world.submit(&["a.png", "b.png", "c.png"]).await;
    world.batch_when(batch, |batch| batch.counts.active == 2).await;
    let health = world.pipeline.query_service.send(GetHealth).await.expect("alive");
    assert_eq!((health.waiting, health.active, health.subscribers), (1, 2, 1));
    assert_eq!(health.store_broken, None);
    assert!(health.free_bytes.is_some_and(|it| it > 0), "{:?}", health.free_bytes);
}

#[actix_rt::test]
async fn a_dump_holds_every_upload() {
    let world = World::scripted().await;
    let (batch, uploads) = world.submit(&["a.png", "b.png"]).await;
    world.ended(batch).await;
    let dump = world.pipeline.query_service.send(DumpStore(Vec::new())).await.expect("alive");
    let dump = String::from_utf8(dump.expect("dumped")).expect("text");
    assert!(uploads.iter().all(|id| dump.contains(&id.to_string())));
}

#[actix_rt::test]
async fn questions_are_answered_until_the_last_events_are_sent() {
    let world = World::scripted().await;
    let _deaf =
        world.listen_as(world.owner.clone(), support::all(), None, support::relay::Answer::Never).await;
    let (batch, _) = world.submit(&["a.png"]).await;
    world.ended(batch).await;
    let (questions, publisher) = (world.pipeline.query_service.clone(), world.pipeline.publisher.clone());
    let stopped = world.pipeline.stopped();
    let drain = mediamill_actors::batch_supervisor::Drain(Duration::ZERO);
    world.tell(drain).await.expect("drained");
    while publisher.connected() {
        let get = GetBatch { owner: world.owner.clone(), batch };
        assert!(questions.send(get).await.is_ok_and(|it| it.is_ok()));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stopped.await, Stopped::Drained);
    assert!(!questions.connected());
}

#[actix_rt::test]
async fn a_panic_leaves_its_question_without_an_answer_and_no_other() {
    let world = World::scripted().await;
    world.provider.identity_panics_once();
    assert!(world.pipeline.query_service.send(GetHealth).await.is_err());
    assert!(world.pipeline.query_service.send(GetHealth).await.is_ok());
}
