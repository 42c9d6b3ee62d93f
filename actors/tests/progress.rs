//! The messages that a subscriber receives while uploads are processed, and their times.

mod support;

use std::{collections::HashMap, time::Duration};

use mediamill_actors::{
    batch_supervisor::{CancelBatch, DeleteUpload, PauseBatch, ResumeBatch, RetryFailed},
    id::{Owner, UploadId},
    query_service::GetBatch,
    wire::{FileStatus, Message},
};
use support::{World, relay};

/// Rank of a message among those of one event.
fn rank(message: &Message) -> u8 {
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
    let mut relay = world.listen().await;
    world.submit(&["a.png", "bad.png", "broken.png"]).await;
    let received = relay.until_the_end().await;
    let seqs = relay::seqs(&received);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "without gaps, from the first on");
    for seq in seqs {
        let ranks: Vec<u8> = received.iter().filter(|it| it.seq() == Some(seq)).map(rank).collect();
        let event = ranks.iter().position(|it| *it == 4).expect("each event of a batch has its progress");
        assert!(matches!(ranks[..event], [] | [1, 2] | [1, 2, 3] | [2, 3]), "event {seq} has {ranks:?}");
        assert!(ranks[event + 1..].chunks(2).all(|pair| pair == [1, 2]), "then percentages: {ranks:?}");
    }
}

#[actix_rt::test]
async fn percentages_move_with_time_and_never_fall_within_an_attempt() {
    let world =
        World::scripted_with(|config| config.workers.concurrency = std::num::NonZeroU32::new(2)).await;
    world.provider.takes(Duration::from_secs(20), Duration::from_secs(2));
    let mut relay = world.listen().await;
    let (_, uploads) = world.submit(&["a.png", "bad.png", "c.png", "d.png"]).await;
    let received = relay.until_the_end().await;
    let mut shown: HashMap<UploadId, Vec<u8>> = HashMap::new();
    for (upload, percent) in received.iter().filter_map(percent) {
        shown.entry(upload).or_default().push(percent);
    }
    for upload in &uploads {
        let shown = &shown[upload];
        let attempts: Vec<&[u8]> = shown.split_inclusive(|it| *it == 100).collect();
        assert_eq!(attempts.len(), 1, "100 comes once: {shown:?}");
        let mut falls = shown.windows(2).filter(|pair| pair[1] < pair[0]);
        assert!(falls.all(|pair| pair[1] == 0), "only a new attempt begins again: {shown:?}");
        assert!(shown.len() > 25, "it moves: {shown:?}");
    }
    // Measured by the uploads before it, the last one moves evenly: 65 points of describing in 67 ticks.
    let describing: Vec<u8> = shown[&uploads[3]].iter().copied().filter(|it| (10..75).contains(it)).collect();
    assert_eq!(describing, (10..75).collect::<Vec<_>>());
}

#[actix_rt::test]
async fn one_event_ends_a_round_and_nothing_follows_the_end_of_an_upload_until_it_is_retried() {
    let world = World::scripted().await;
    let mut relay = world.listen().await;
    let (batch, uploads) = world.submit(&["a.png", "bad.png"]).await;
    let mut received = relay.until_the_end().await;
    world.tell(RetryFailed { owner: world.owner.clone(), batch }).await.expect("a second round");
    received.extend(relay.until_the_end().await);
    let rounds: Vec<u32> = received
        .iter()
        .filter_map(|it| match it {
            Message::BatchProgress { payload, .. } => payload.ends_run,
            _ => None,
        })
        .collect();
    assert_eq!(rounds, [1, 2]);
    let ends = |upload| {
        let about = received.iter().filter(move |it| it.upload_id() == Some(upload));
        about.map(Message::ends_upload).collect::<Vec<_>>()
    };
    let [good, bad] = [ends(uploads[0]), ends(uploads[1])];
    assert_eq!(good.iter().position(|it| *it), Some(good.len() - 1), "nothing follows: {good:?}");
    assert_eq!(
        (bad.iter().filter(|it| **it).count(), bad.last()),
        (2, Some(&true)),
        "one end for each round"
    );
}

#[actix_rt::test]
async fn completed_uploads_end_with_their_description_and_failed_ones_with_their_error() {
    let world = World::scripted().await;
    let mut relay = world.listen().await;
    let (_, uploads) = world.submit(&["a.png", "bad.png"]).await;
    let received = relay.until_the_end().await;
    let end = |upload| {
        received.iter().find(|it| it.ends_upload() && it.upload_id() == Some(upload)).expect("an end")
    };
    let Message::UploadCompleted { description, audit_score: 60.., needs_review: false, .. } =
        end(uploads[0])
    else {
        unreachable!("{:?}", end(uploads[0]));
    };
    assert!(description.contains("a.png"));
    let Message::UploadFailed { error_message, cancelled: false, .. } = end(uploads[1]) else {
        unreachable!("{:?}", end(uploads[1]));
    };
    assert_eq!(error_message, "bad.png has no description at request 2");
    let files: Vec<_> = received
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
    let mut relay = world.listen().await;
    let (batch, uploads) = world.submit(&["a.png", "b.png", "c.png"]).await;
    world.batch_when(batch, |batch| batch.counts.active == 3).await;
    world.tell(DeleteUpload { owner: world.owner.clone(), upload: uploads[0] }).await.expect("deleted");
    world.tell(CancelBatch { owner: world.owner.clone(), batch }).await.expect("cancelled");
    let received = relay.until_the_end().await;
    for upload in uploads {
        let about: Vec<&Message> = received.iter().filter(|it| it.upload_id() == Some(upload)).collect();
        let [.., file, end] = about[..] else { unreachable!("{about:?}") };
        assert!(
            matches!(file, Message::FileProgress { payload, .. } if payload.cancelled
                && (payload.status, payload.progress_percentage) == (FileStatus::Failed, 100)),
            "{file:?}"
        );
        assert!(matches!(end, Message::UploadFailed { cancelled: true, .. }), "{end:?}");
    }
    let Some(Message::BatchProgress { payload, .. }) = received.iter().rfind(|it| relay::ends_round(it))
    else {
        unreachable!("the round ends");
    };
    assert_eq!((payload.status.as_str(), payload.total, payload.processed), ("cancelled", 2, 2));
}

/// The longest time from before a submission until its message arrives.
async fn longest(nudge: bool) -> Duration {
    let world = World::scripted_with(|config| config.monitor.nudge = nudge).await;
    world.provider.is_there(false);
    let mut relay = world.listen().await;
    let mut longest = Duration::ZERO;
    for number in 0..20 {
        tokio::time::sleep(Duration::from_millis(37)).await;
        let before = tokio::time::Instant::now();
        world.submit(&[&format!("{number}.png")]).await;
        relay.publication().await;
        longest = longest.max(before.elapsed());
    }
    longest
}

#[actix_rt::test]
async fn a_change_is_sent_at_the_next_nudge() {
    let longest = longest(true).await;
    assert!(longest <= Duration::from_millis(21), "{longest:?}");
}

#[actix_rt::test]
async fn without_nudges_a_change_is_sent_at_the_next_tick() {
    let longest = longest(false).await;
    assert!(longest > Duration::from_millis(100) && longest <= Duration::from_millis(301), "{longest:?}");
}

#[actix_rt::test]
async fn the_reason_for_waiting_is_sent_whenever_it_changes() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(5), Duration::ZERO);
    let mut relay = world.listen().await;
    let (batch, _) = world.submit(&["a.png"]).await;
    world.batch_when(batch, |batch| batch.counts.active == 1).await;
    let view = async || {
        let get = GetBatch { owner: world.owner.clone(), batch };
        world.pipeline.query_service.send(get).await.expect("alive").expect("the batch")
    };
    assert_eq!(view().await.waiting, None);
    world.provider.is_there(false);
    relay.until(|it| waiting(it).is_some_and(|it| it.contains("away since") && it.contains("refused"))).await;
    assert!(view().await.waiting.is_some_and(|it| it.contains("away since")));
    world.tell(PauseBatch { owner: world.owner.clone(), batch }).await.expect("paused");
    relay.until(|it| waiting(it).is_some_and(|it| it.contains("paused"))).await;
    world.tell(ResumeBatch { owner: world.owner.clone(), batch }).await.expect("resumed");
    relay.until(|it| waiting(it).is_some_and(|it| it.contains("away since"))).await;
    world.provider.is_misconfigured();
    relay.until(|it| waiting(it).is_some_and(|it| it.contains("the key is wrong"))).await;
}

#[actix_rt::test]
async fn a_batch_whose_provider_came_back_waits_for_nothing() {
    let world = World::scripted().await;
    let mut relay = world.listen().await;
    // The provider has not been probed yet.
    world.provider.is_there(false);
    world.submit(&["a.png", "b.png"]).await;
    relay.until(|it| waiting(it).is_some()).await;
    world.provider.is_there(true);
    let received = relay.until_the_end().await;
    assert_eq!(received.iter().find_map(waiting), None);
}

#[actix_rt::test]
async fn the_time_left_is_estimated_once_three_uploads_have_ended() {
    let world =
        World::scripted_with(|config| config.workers.concurrency = Some(std::num::NonZeroU32::MIN)).await;
    world.provider.takes(Duration::from_secs(10), Duration::ZERO);
    let mut relay = world.listen().await;
    world.submit(&["a.png", "b.png", "c.png", "d.png", "e.png"]).await;
    let received = relay.until_the_end().await;
    let mut etas: Vec<(u32, Option<u64>)> = received
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
async fn another_owner_receives_nothing() {
    let world = World::scripted().await;
    let stranger = Owner::new("stranger").expect("valid");
    let mut relay = world.listen_as(stranger.clone(), support::all(), None, relay::Answer::AtOnce).await;
    let (batch, _) = world.submit(&["a.png"]).await;
    world.ended(batch).await;
    let (theirs, _) = world.submit_as(&stranger, &["b.png"]).await;
    let received = relay.until_the_end().await;
    assert!(received.iter().all(|it| it.batch_id() == Some(theirs)), "{received:?}");
}
