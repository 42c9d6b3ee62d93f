//! What is told of the work, and when: through a subscriber, on a paused clock.

mod support;

use std::{collections::HashMap, time::Duration};

use mediamill_actors::{
    batch_supervisor::{CancelBatch, DeleteUpload, PauseBatch, ResumeBatch, RetryFailed},
    error::Error,
    id::{BatchId, Owner, UploadId},
    progress_monitor::{DumpStore, GetBatch, GetHealth, GetUpload, ListBatches, ListUploads, SearchUploads},
    upload::{Stage, Status},
    wire::{FileStatus, Message},
};
use support::{World, ear};

/// The place of a message among those of one event.
fn place(message: &Message) -> u8 {
    match message {
        Message::UploadProgress { .. } => 1,
        Message::FileProgress { .. } => 2,
        Message::UploadCompleted { .. } | Message::UploadFailed { .. } => 3,
        Message::BatchProgress { .. } => 4,
        Message::Resumed { .. } | Message::AuthSuccess { .. } | Message::AuthError { .. } | Message::Ping => {
            0
        }
    }
}

fn percent(message: &Message) -> Option<(UploadId, u8)> {
    match message {
        Message::UploadProgress { payload, .. } => Some((payload.upload_id, payload.progress_percent)),
        _ => None,
    }
}

fn waiting(message: &Message) -> Option<&str> {
    match message {
        Message::BatchProgress { payload, .. } => payload.waiting.as_deref(),
        _ => None,
    }
}

#[actix_rt::test]
async fn the_messages_of_one_event_share_its_number_and_come_in_order() {
    let world = World::scripted().await;
    let mut ear = world.listen().await;
    world.submit(&["a.png", "bad.png", "broken.png"]).await;
    let heard = ear.until_the_end().await;
    let seqs = ear::seqs(&heard);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "without gaps, from the first on");
    for seq in seqs {
        let places: Vec<u8> = heard.iter().filter(|it| it.seq() == Some(seq)).map(place).collect();
        let event = places.iter().position(|it| *it == 4).expect("every event of a batch tells of the batch");
        assert!(
            matches!(places[..event], [] | [1, 2] | [1, 2, 3] | [2, 3]),
            "event {seq} is told as {places:?}"
        );
        assert!(places[event + 1..].chunks(2).all(|pair| pair == [1, 2]), "then percentages: {places:?}");
    }
}

#[actix_rt::test]
async fn percentages_move_with_time_and_never_fall_within_an_attempt() {
    let world =
        World::scripted_with(|config| config.workers.concurrency = std::num::NonZeroU32::new(2)).await;
    world.provider.takes(Duration::from_secs(20), Duration::from_secs(2));
    let mut ear = world.listen().await;
    let (_, uploads) = world.submit(&["a.png", "bad.png", "c.png", "d.png"]).await;
    let heard = ear.until_the_end().await;
    let mut told: HashMap<UploadId, Vec<u8>> = HashMap::new();
    for (upload, percent) in heard.iter().filter_map(percent) {
        told.entry(upload).or_default().push(percent);
    }
    for upload in &uploads {
        let told = &told[upload];
        let attempts: Vec<&[u8]> = told.split_inclusive(|it| *it == 100).collect();
        assert_eq!(attempts.len(), 1, "100 is told once: {told:?}");
        let mut falls = told.windows(2).filter(|pair| pair[1] < pair[0]);
        assert!(falls.all(|pair| pair[1] == 0), "only a new attempt begins force: {told:?}");
        assert!(told.len() > 25, "it moves: {told:?}");
    }
    // Measured by the uploads before it, the last one moves evenly: 65 points of describing in 67 ticks.
    let describing: Vec<u8> = told[&uploads[3]].iter().copied().filter(|it| (10..75).contains(it)).collect();
    assert_eq!(describing, (10..75).collect::<Vec<_>>());
}

#[actix_rt::test]
async fn one_event_ends_a_run_and_nothing_follows_the_end_of_an_upload_until_it_is_retried() {
    let world = World::scripted().await;
    let mut ear = world.listen().await;
    let (batch, uploads) = world.submit(&["a.png", "bad.png"]).await;
    let mut heard = ear.until_the_end().await;
    world.tell(RetryFailed { owner: world.owner.clone(), batch }).await.expect("a second run");
    heard.extend(ear.until_the_end().await);
    let runs: Vec<u32> = heard
        .iter()
        .filter_map(|it| match it {
            Message::BatchProgress { payload, .. } => payload.ends_run,
            _ => None,
        })
        .collect();
    assert_eq!(runs, [1, 2]);
    let ends = |upload| {
        let about = heard.iter().filter(move |it| it.upload_id() == Some(upload));
        about.map(Message::ends_upload).collect::<Vec<_>>()
    };
    let [good, bad] = [ends(uploads[0]), ends(uploads[1])];
    assert_eq!(good.iter().position(|it| *it), Some(good.len() - 1), "nothing follows: {good:?}");
    assert_eq!((bad.iter().filter(|it| **it).count(), bad.last()), (2, Some(&true)), "one end for each run");
}

#[actix_rt::test]
async fn completed_and_failed_uploads_are_told_with_what_came_of_them() {
    let world = World::scripted().await;
    let mut ear = world.listen().await;
    let (_, uploads) = world.submit(&["a.png", "bad.png"]).await;
    let heard = ear.until_the_end().await;
    let end =
        |upload| heard.iter().find(|it| it.ends_upload() && it.upload_id() == Some(upload)).expect("an end");
    let Message::UploadCompleted { description, audit_score: 60.., needs_review: false, .. } =
        end(uploads[0])
    else {
        unreachable!("{:?}", end(uploads[0]));
    };
    assert!(description.contains("a.png"));
    let Message::UploadFailed { error_message, cancelled: false, .. } = end(uploads[1]) else {
        unreachable!("{:?}", end(uploads[1]));
    };
    assert_eq!(error_message, "nothing was said of bad.png at look 2");
    let files: Vec<_> = heard
        .iter()
        .filter_map(|it| match it {
            Message::FileProgress { payload, .. } if payload.progress_percentage == 100 => {
                Some((payload.file_name.as_str(), payload.status))
            }
            _ => None,
        })
        .collect();
    assert!(
        files.contains(&("a.png", FileStatus::Completed)) && files.contains(&("bad.png", FileStatus::Failed))
    );
}

#[actix_rt::test]
async fn cancelled_and_deleted_uploads_end_as_failed_files() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(60), Duration::ZERO);
    let mut ear = world.listen().await;
    let (batch, uploads) = world.submit(&["a.png", "b.png", "c.png"]).await;
    world.batch_when(batch, |batch| batch.counts.active == 3).await;
    world.tell(DeleteUpload { owner: world.owner.clone(), upload: uploads[0] }).await.expect("deleted");
    world.tell(CancelBatch { owner: world.owner.clone(), batch }).await.expect("cancelled");
    let heard = ear.until_the_end().await;
    for upload in uploads {
        let about: Vec<&Message> = heard.iter().filter(|it| it.upload_id() == Some(upload)).collect();
        let [.., file, end] = about[..] else { unreachable!("{about:?}") };
        assert!(
            matches!(file, Message::FileProgress { payload, .. } if payload.cancelled
                && (payload.status, payload.progress_percentage) == (FileStatus::Failed, 100)),
            "{file:?}"
        );
        assert!(matches!(end, Message::UploadFailed { cancelled: true, .. }), "{end:?}");
    }
    let Some(Message::BatchProgress { payload, .. }) = heard.iter().rfind(|it| ear::ends_run(it)) else {
        unreachable!("the run ends");
    };
    assert_eq!((payload.status.as_str(), payload.total, payload.processed), ("cancelled", 2, 2));
}

/// The longest time from before a submission to its being told.
async fn longest(nudge: bool) -> Duration {
    let world = World::scripted_with(|config| config.monitor.nudge = nudge).await;
    world.provider.is_there(false);
    let mut ear = world.listen().await;
    let mut longest = Duration::ZERO;
    for number in 0..20 {
        tokio::time::sleep(Duration::from_millis(37)).await;
        let before = tokio::time::Instant::now();
        world.submit(&[&format!("{number}.png")]).await;
        ear.publication().await;
        longest = longest.max(before.elapsed());
    }
    longest
}

#[actix_rt::test]
async fn a_change_is_told_at_the_next_nudge() {
    let longest = longest(true).await;
    assert!(longest <= Duration::from_millis(21), "{longest:?}");
}

#[actix_rt::test]
async fn without_nudges_a_change_is_told_at_the_next_tick() {
    let longest = longest(false).await;
    assert!(longest > Duration::from_millis(100) && longest <= Duration::from_millis(301), "{longest:?}");
}

#[actix_rt::test]
async fn what_is_waited_for_is_told_when_it_begins_and_when_it_ends() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(5), Duration::ZERO);
    let mut ear = world.listen().await;
    let (batch, _) = world.submit(&["a.png"]).await;
    world.batch_when(batch, |batch| batch.counts.active == 1).await;
    let view = async || {
        let get = GetBatch { owner: world.owner.clone(), batch };
        world.pipeline.monitor.send(get).await.expect("alive").expect("the batch")
    };
    assert_eq!(view().await.waiting, None);
    world.provider.is_there(false);
    ear.until(|it| waiting(it).is_some_and(|it| it.contains("away since") && it.contains("refused"))).await;
    assert!(view().await.waiting.is_some_and(|it| it.contains("away since")));
    world.tell(PauseBatch { owner: world.owner.clone(), batch }).await.expect("paused");
    ear.until(|it| waiting(it).is_some_and(|it| it.contains("paused"))).await;
    world.tell(ResumeBatch { owner: world.owner.clone(), batch }).await.expect("resumed");
    ear.until(|it| waiting(it).is_some_and(|it| it.contains("away since"))).await;
    world.provider.is_misconfigured();
    ear.until(|it| waiting(it).is_some_and(|it| it.contains("the key is wrong"))).await;
}

#[actix_rt::test]
async fn a_batch_whose_provider_came_back_waits_for_nothing() {
    let world = World::scripted().await;
    let mut ear = world.listen().await;
    // It was not asked yet whether it is there.
    world.provider.is_there(false);
    world.submit(&["a.png", "b.png"]).await;
    ear.until(|it| waiting(it).is_some()).await;
    world.provider.is_there(true);
    let heard = ear.until_the_end().await;
    assert_eq!(heard.iter().find_map(waiting), None);
}

#[actix_rt::test]
async fn the_time_left_is_told_once_three_uploads_are_done() {
    let world =
        World::scripted_with(|config| config.workers.concurrency = Some(std::num::NonZeroU32::MIN)).await;
    world.provider.takes(Duration::from_secs(10), Duration::ZERO);
    let mut ear = world.listen().await;
    world.submit(&["a.png", "b.png", "c.png", "d.png", "e.png"]).await;
    let heard = ear.until_the_end().await;
    let mut etas: Vec<(u32, Option<u64>)> = heard
        .iter()
        .filter_map(|it| match it {
            Message::BatchProgress { payload, .. } => Some((payload.processed, payload.eta_seconds)),
            _ => None,
        })
        .collect();
    etas.dedup_by_key(|it| it.0);
    // Milliseconds of decoding are rounded up.
    assert!(
        matches!(
            etas[..],
            [(0, None), (1, None), (2, None), (3, Some(20 | 21)), (4, Some(10 | 11)), (5, None)]
        ),
        "{etas:?}"
    );
}

#[actix_rt::test]
async fn another_owner_is_told_nothing_and_finds_nothing() {
    let world = World::scripted().await;
    let stranger = Owner::new("stranger").expect("valid");
    let mut strange = world.listen_as(stranger.clone(), support::all(), None, ear::Answer::AtOnce).await;
    let (batch, uploads) = world.submit(&["a.png"]).await;
    world.ended(batch).await;
    let (theirs, _) = world.submit_as(&stranger, &["b.png"]).await;
    let heard = strange.until_the_end().await;
    assert!(heard.iter().all(|it| it.batch_id() == Some(theirs)), "{heard:?}");
    let monitor = &world.pipeline.monitor;
    let not = |what| Err(Error::NotFound(what));
    let get = GetBatch { owner: stranger.clone(), batch };
    assert_eq!(monitor.send(get).await.expect("alive").map(drop), not("batch"));
    let get = GetUpload { owner: stranger.clone(), upload: uploads[0] };
    assert_eq!(monitor.send(get).await.expect("alive").map(drop), not("upload"));
    let list = ListUploads { owner: stranger.clone(), batch, offset: 0, limit: 10 };
    assert_eq!(monitor.send(list).await.expect("alive").map(drop), not("batch"));
    let search = SearchUploads { owner: stranger, query: "stripes".into(), limit: 10 };
    let found = monitor.send(search).await.expect("alive").expect("searched");
    assert!(found.iter().all(|it| it.upload.batch_id == theirs));
}

#[actix_rt::test]
async fn what_is_asked_is_answered() {
    let world = World::scripted().await;
    let monitor = &world.pipeline.monitor;
    let owner = || world.owner.clone();
    let (first, uploads) = world.submit(&["a.png", "bad.png", "c.png"]).await;
    world.ended(first).await;
    let (second, _) = world.submit(&["d.png"]).await;
    world.ended(second).await;

    let list = |offset, limit| monitor.send(ListBatches { owner: owner(), offset, limit });
    let batches = list(0, 100).await.expect("alive").expect("listed");
    let seen: Vec<_> = batches.iter().map(|it| (it.batch.id, it.status.as_str(), it.percent)).collect();
    assert_eq!(seen, [(second, "completed", 100), (first, "completed", 100)]);
    assert_eq!(list(1, 1).await.expect("alive").expect("listed")[0].batch.id, first);
    for limit in [0, 101] {
        let refused = list(0, limit).await.expect("alive");
        assert!(matches!(&refused, Err(Error::Invalid(text)) if text.contains("1 to 100")), "{refused:?}");
    }

    let list = ListUploads { owner: owner(), batch: first, offset: 1, limit: 1000 };
    let listed = monitor.send(list).await.expect("alive").expect("listed");
    assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), uploads[1..]);
    assert_eq!((listed[0].status, listed[0].stage), (Status::Failed, Stage::Failed));
    let unknown = GetBatch { owner: owner(), batch: BatchId::generate() };
    assert_eq!(monitor.send(unknown).await.expect("alive").map(drop), Err(Error::NotFound("batch")));

    let search =
        |query: &str, limit| monitor.send(SearchUploads { owner: owner(), query: query.into(), limit });
    let found = search("stripes", 2).await.expect("alive").expect("searched");
    assert_eq!(found.len(), 2);
    assert!(found[0].score >= found[1].score);
    for (query, limit) in [("  ", 5), ("x", 0), (&*"x".repeat(1001), 5)] {
        assert!(matches!(search(query, limit).await.expect("alive"), Err(Error::Invalid(_))), "{query}");
    }
    world.provider.is_there(false);
    let answer = search("stripes", 2).await.expect("alive");
    assert!(
        matches!(&answer, Err(Error::ProviderUnavailable(text)) if text.contains("connection refused")),
        "{answer:?}"
    );

    let _ear = world.listen().await;
    let health = monitor.send(GetHealth).await.expect("alive");
    assert_eq!((health.waiting, health.active, health.subscribers, health.store_broken), (0, 0, 1, None));
    assert!(health.free_bytes.is_some_and(|it| it > 0), "{:?}", health.free_bytes);
    let dump = monitor.send(DumpStore(Vec::new())).await.expect("alive").expect("dumped");
    let dump = String::from_utf8(dump).expect("text");
    assert!(uploads.iter().all(|id| dump.contains(&id.to_string())));
}
