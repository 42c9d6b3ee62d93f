//! The messages that each subscriber receives, however slow it is and wherever it resumes.

mod support;

use std::{collections::HashMap, time::Duration};

use mediamill_actors::{
    batch_supervisor::{DeleteUpload, Drain, RetryFailed},
    error::Error,
    event::EventKind,
    id::{BatchId, UploadId},
    publisher::{Resume, Unsubscribe, UnwatchUpload, Uploads, WatchUpload},
    query_service::GetHealth,
    upload::Status,
    wire::Message,
};
use support::{World, all, relay};

fn resumed(message: &Message) -> Option<(u64, bool)> {
    match message {
        Message::Resumed { seq, snapshot, .. } => Some((*seq, *snapshot)),
        _ => None,
    }
}

async fn submit(world: &World, count: usize) -> BatchId {
    let names: Vec<String> = (0..count).map(|number| format!("{number}.png")).collect();
    world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await.0
}

/// Processes three uploads. Returns the messages of their events.
async fn history(world: &World) -> Vec<Message> {
    let mut relay = world.listen().await;
    world.submit(&["a.png", "bad.png", "c.png"]).await;
    relay::of_events(relay.until_the_end().await)
}

/// Resumes after each of several events, and checks what follows.
async fn check_replays(world: &World, all: &[Message]) {
    let last = all.last().and_then(Message::seq).expect("a number");
    for after in [0, 1, 4, last] {
        let mut late = world.listen_to(Uploads::All, Some(after)).await;
        let received = late.until_the_end().await;
        assert_eq!(received.first().and_then(resumed), Some((after, false)));
        let expected: Vec<_> = all.iter().filter(|it| it.seq() >= Some(after)).cloned().collect();
        assert_eq!(relay::of_events(received), expected, "after {after}");
    }
}

#[actix_rt::test]
async fn a_resume_replays_its_event_and_all_later_ones() {
    let world = World::scripted().await;
    let all = history(&world).await;
    check_replays(&world, &all).await;
}

#[actix_rt::test]
async fn a_restarted_engine_replays_the_events_of_the_earlier_one() {
    let world = World::scripted().await;
    let all = history(&world).await;
    let world = world.restart().await;
    check_replays(&world, &all).await;
}

#[actix_rt::test]
async fn live_events_follow_a_replay_without_a_gap() {
    let world = World::scripted().await;
    let last = history(&world).await.last().and_then(Message::seq).expect("a number");
    let mut live = world.listen().await;
    let mut late = world.listen_to(Uploads::All, Some(last)).await;
    late.until_the_end().await;
    world.submit(&["d.png"]).await;
    let received = late.until_the_end().await;
    assert_eq!(relay::seqs(&received).first(), Some(&(last + 1)));
    assert_eq!(relay::of_events(live.until_the_end().await), relay::of_events(received));
}

/// Everything from the first event to event `last`, as replayed now.
async fn replay(world: &World, last: Option<u64>) -> Vec<Message> {
    let mut late = world.listen_to(Uploads::All, Some(0)).await;
    let mut received = Vec::new();
    while relay::seqs(&received).last() < last.as_ref() {
        received.extend(late.publication().await);
    }
    relay::of_events(received)
}

#[actix_rt::test]
async fn a_replay_shows_an_upload_as_it_was_before_its_retry() {
    let world = World::scripted().await;
    let mut relay = world.listen().await;
    let (batch, _) = world.submit(&["bad.png", "b.png"]).await;
    let mut live = relay.until_the_end().await;
    world.provider.is_forgiving();
    world.tell(RetryFailed { owner: world.owner.clone(), batch }).await.expect("a second round");
    live.extend(relay.until_the_end().await);
    let live = relay::of_events(live);
    assert!(live.iter().any(|it| matches!(it, Message::UploadFailed { error_message, .. }
            if error_message == "bad.png has no description at request 2")));
    assert_eq!(replay(&world, live.last().and_then(Message::seq)).await, live);
}

#[actix_rt::test]
async fn a_replay_lacks_the_description_of_a_deleted_upload() {
    let world = World::scripted().await;
    let mut relay = world.listen().await;
    let (_, uploads) = world.submit(&["a.png", "b.png"]).await;
    let mut live = relay.until_the_end().await;
    world.tell(DeleteUpload { owner: world.owner.clone(), upload: uploads[1] }).await.expect("deleted");
    live.extend(relay.publication().await);
    let mut expected = relay::of_events(live);
    for message in &mut expected {
        if let Message::UploadCompleted { upload_id, description, .. } = message
            && *upload_id == uploads[1]
        {
            description.clear();
        }
    }
    assert_eq!(replay(&world, expected.last().and_then(Message::seq)).await, expected);
}

#[actix_rt::test]
async fn a_live_subscriber_may_resume_at_an_earlier_event() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(3), Duration::from_secs(1));
    let mut relay = world.listen().await;
    let mut other = world.listen().await;
    let batch = submit(&world, 8).await;
    world.batch_when(batch, |batch| batch.counts.completed >= 4).await;
    world
        .pipeline
        .publisher
        .send(Resume { subscriber: relay.id, after_seq: 3 })
        .await
        .expect("alive")
        .expect("known");
    let received = relay.until_the_end().await;
    let again = received.iter().position(|it| resumed(it) == Some((3, false))).expect("resumed");
    let whole = other.until_the_end().await;
    let expected: Vec<_> = relay::of_events(whole).into_iter().filter(|it| it.seq() >= Some(3)).collect();
    assert_eq!(relay::of_events(received[again..].to_vec()), expected);
}

#[actix_rt::test]
async fn a_resume_before_the_oldest_kept_event_gets_a_snapshot() {
    let world = World::scripted_with(|config| config.events.keep = 100).await;
    let ended = submit(&world, 60).await;
    world.ended(ended).await;
    world.provider.takes(Duration::from_secs(3600), Duration::ZERO);
    let (unfinished, uploads) = world.submit(&["x.png"]).await;
    world.batch_when(unfinished, |batch| batch.counts.active == 1).await;
    for after in [1, 1_000_000] {
        let mut relay = world.listen_to(Uploads::All, Some(after)).await;
        let received = relay.publication().await;
        assert!(matches!(received.first().and_then(resumed), Some((_, true))), "{received:?}");
        let batches: Vec<_> = received
            .iter()
            .filter_map(|it| match it {
                Message::BatchProgress { payload, .. } => {
                    Some((payload.batch_id, payload.status.as_str(), payload.successful))
                }
                _ => None,
            })
            .collect();
        assert_eq!(batches, [(ended, "completed", 60), (unfinished, "processing", 0)]);
        assert!(
            received.iter().any(|it| it.upload_id() == Some(uploads[0])),
            "the upload in flight: {received:?}"
        );
    }
}

#[actix_rt::test]
async fn a_subscriber_that_never_answers_has_one_publication_outstanding_and_delays_no_other() {
    let world = World::scripted().await;
    let mut deaf = world.listen_as(world.owner.clone(), all(), None, relay::Answer::Never).await;
    let mut relay = world.listen().await;
    let batch = submit(&world, 80).await;
    let received = relay.until_the_end().await;
    let seqs = relay::seqs(&received);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!(seqs.len() > 200, "{} events", seqs.len());
    world.ended(batch).await;
    assert_eq!(deaf.publications(), 1);
    assert!(deaf.received().len() <= 256);
}

#[actix_rt::test]
async fn a_slow_subscriber_gets_every_event_once_and_in_order_but_not_every_percentage() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_millis(1500), Duration::ZERO);
    let mut relay = world.listen().await;
    let slow = relay::Answer::After(Duration::from_secs(7));
    let mut slow = world.listen_as(world.owner.clone(), all(), None, slow).await;
    submit(&world, 80).await;
    let quick = relay.until_the_end().await;
    let late = slow.until_the_end().await;
    assert!(late.len() < quick.len(), "percentages are for those that keep up");
    assert_eq!(relay::of_events(late), relay::of_events(quick));
}

#[actix_rt::test]
async fn a_publication_holds_at_most_256_messages() {
    let world = World::scripted().await;
    submit(&world, 80).await;
    let mut relay = world.listen_to(Uploads::All, Some(0)).await;
    let mut received = Vec::new();
    while !received.iter().any(relay::ends_round) {
        let publication = relay.publication().await;
        assert!((1..=256).contains(&publication.len()));
        received.extend(publication);
    }
    let seqs = relay::seqs(&received);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[actix_rt::test]
async fn a_subscriber_to_chosen_uploads_gets_those_it_watches_and_all_files_and_batches() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(10), Duration::ZERO);
    let mut relay = world.listen_to(Uploads::Chosen, None).await;
    let (_, uploads) = world.submit(&["a.png", "b.png", "c.png"]).await;
    let publisher = &world.pipeline.publisher;
    for upload in [uploads[0], uploads[1]] {
        let watch = WatchUpload { subscriber: relay.id, upload };
        publisher.send(watch).await.expect("alive").expect("the upload");
    }
    let unwatch = UnwatchUpload { subscriber: relay.id, upload: uploads[1] };
    publisher.send(unwatch).await.expect("alive");
    let received = relay.until_the_end().await;
    let mut chosen: Vec<_> = received.iter().filter_map(Message::chosen_by).collect();
    chosen.dedup();
    assert_eq!(chosen, [uploads[0]]);
    assert!(received.iter().any(|it| it.ends_upload()));
    let has_file = |upload| received.iter().any(|it| it.upload_id() == Some(upload));
    assert!(uploads.into_iter().all(has_file), "files of all uploads: {received:?}");
}

#[actix_rt::test]
async fn a_watch_answers_with_the_present_state() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(10), Duration::ZERO);
    let mut relay = world.listen_to(Uploads::Chosen, None).await;
    let (_, uploads) = world.submit(&["a.png"]).await;
    let watch = async |upload| {
        let watch = WatchUpload { subscriber: relay.id, upload };
        match world.pipeline.publisher.send(watch).await.expect("alive")? {
            Message::UploadProgress { payload, .. } => Ok((payload.upload_id, payload.status)),
            other => unreachable!("{other:?}"),
        }
    };
    let answer = watch(uploads[0]).await;
    assert!(
        matches!(answer, Ok((id, Status::Pending | Status::Analyzing)) if id == uploads[0]),
        "{answer:?}"
    );
    assert_eq!(watch(UploadId::generate()).await, Err(Error::NotFound("upload")));
    relay.until_the_end().await;
    let watch = WatchUpload { subscriber: relay.id, upload: uploads[0] };
    let answer = world.pipeline.publisher.send(watch).await.expect("alive");
    assert!(
        matches!(&answer, Ok(Message::UploadProgress { payload, .. })
            if (payload.status, payload.progress_percent) == (Status::Completed, 100)),
        "{answer:?}"
    );
}

async fn subscribers(world: &World) -> usize {
    world.pipeline.query_service.send(GetHealth).await.expect("alive").subscribers
}

#[actix_rt::test]
async fn a_subscriber_that_unsubscribed_is_forgotten() {
    let world = World::scripted().await;
    let (_stays, leaves) = (world.listen().await, world.listen().await);
    assert_eq!(subscribers(&world).await, 2);
    world.pipeline.publisher.send(Unsubscribe(leaves.id)).await.expect("alive");
    assert_eq!(subscribers(&world).await, 1);
    let resume = Resume { subscriber: leaves.id, after_seq: 0 };
    let answer = world.pipeline.publisher.send(resume).await.expect("alive");
    assert_eq!(answer, Err(Error::NotFound("subscriber")));
}

#[actix_rt::test]
async fn a_subscriber_whose_actor_is_gone_is_forgotten_within_ten_seconds() {
    let world = World::scripted().await;
    let (_stays, dies) = (world.listen().await, world.listen().await);
    dies.listener.send(relay::Die).await.expect("alive");
    tokio::time::sleep(Duration::from_millis(10_001)).await;
    assert_eq!(subscribers(&world).await, 1);
}

#[actix_rt::test]
async fn a_subscriber_whose_actor_is_gone_is_forgotten_at_its_next_publication() {
    let world = World::scripted().await;
    let dies = world.listen().await;
    dies.listener.send(relay::Die).await.expect("alive");
    submit(&world, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(subscribers(&world).await, 0);
}

#[actix_rt::test]
async fn the_last_events_are_sent_before_the_engine_stops() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(60), Duration::ZERO);
    let mut relay = world.listen().await;
    let batch = submit(&world, 3).await;
    world.batch_when(batch, |batch| batch.counts.active == 3).await;
    let stopped = world.pipeline.stopped();
    world.tell(Drain(Duration::ZERO)).await.expect("drained");
    stopped.await;
    let handed_back = |it: &Message| match it {
        Message::UploadProgress { payload, .. } => payload.status == Status::Pending,
        _ => false,
    };
    assert_eq!(relay.received().iter().filter(|it| handed_back(it)).count(), 3);
    assert!(!world.pipeline.publisher.connected() && !world.pipeline.monitor.connected());
    assert!(!world.pipeline.query_service.connected());
}

#[actix_rt::test]
async fn a_replay_ends_with_the_present_reason_for_waiting() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(5), Duration::ZERO);
    let (batch, _) = world.submit(&["a.png"]).await;
    world.batch_when(batch, |batch| batch.counts.active == 1).await;
    world.provider.is_there(false);
    let mut state = world.pipeline.provider();
    state.wait_for(|it| it.waiting().is_some()).await.expect("away");
    world.batch_when(batch, |batch| batch.counts.active == 0).await;
    let mut relay = world.listen_to(Uploads::All, Some(1)).await;
    let received = relay.publication().await;
    let Some(Message::BatchProgress { payload, .. }) = received.last() else { unreachable!("{received:?}") };
    assert!(payload.waiting.as_deref().is_some_and(|it| it.contains("away since")), "{received:?}");
}

#[actix_rt::test]
async fn a_replay_has_messages_of_every_event_also_of_those_of_the_provider() {
    let world = World::scripted().await;
    world.provider.is_there(false);
    let (batch, _) = world.submit(&["a.png"]).await;
    let mut state = world.pipeline.provider();
    state.wait_for(|it| it.waiting().is_some()).await.expect("away");
    world.provider.is_there(true);
    world.ended(batch).await;
    let log = world.pipeline.queries().events_from(world.owner.clone(), 1, 99).await.expect("the log");
    assert!(log.changes.iter().any(|it| it.event.kind == EventKind::ProviderChanged));
    let mut relay = world.listen_to(Uploads::All, Some(0)).await;
    let seqs = relay::seqs(&relay.until_the_end().await);
    assert_eq!(seqs, (1..=log.newest).collect::<Vec<_>>());
}

/// A pseudorandom generator with a fixed seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[actix_rt::test]
async fn subscribers_that_resume_at_random_get_the_log_without_gaps_and_percentages_that_never_fall() {
    let world = World::scripted_with(|config| config.events.keep = 150).await;
    world.provider.takes(Duration::from_millis(900), Duration::from_millis(200));
    let mut dice = Dice(5);
    let mut relays = Vec::new();
    for number in 0..12 {
        let answer = match number % 4 {
            0 => relay::Answer::AtOnce,
            more => relay::Answer::After(Duration::from_millis(more * more * 150)),
        };
        let after = (number % 2 == 1).then(|| dice.below(20));
        relays.push(world.listen_as(world.owner.clone(), all(), after, answer).await);
    }
    let mut batches = Vec::new();
    for round in 0..40 {
        if round % 8 == 0 {
            let names: Vec<String> = (0..12).map(|number| format!("{round}-{number}.png")).collect();
            batches.push(world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await.0);
        }
        tokio::time::sleep(Duration::from_millis(dice.below(400))).await;
        let log = world.pipeline.queries().events_from(world.owner.clone(), 0, 1).await.expect("the log");
        let relay = &relays[dice.below(12) as usize];
        let resume = Resume { subscriber: relay.id, after_seq: dice.below(log.newest + 1) };
        world.pipeline.publisher.send(resume).await.expect("alive").expect("known");
    }
    for batch in batches {
        world.ended(batch).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let newest =
        world.pipeline.queries().events_from(world.owner.clone(), 0, 1).await.expect("the log").newest;
    for mut relay in relays {
        let received = relay.received();
        let mut last: Option<(u64, bool)> = None;
        for stretch in received.split_inclusive(|it| resumed(it).is_some()) {
            // `resumed` belongs to the stretch after it.
            let messages: Vec<Message> = stretch.iter().filter(|it| resumed(it).is_none()).cloned().collect();
            check_stretch(&messages, last);
            last = stretch.last().and_then(resumed);
        }
        assert_eq!(relay::seqs(&received).last(), Some(&newest), "to the end");
    }
}

/// Checks the messages between two resumes, of which the first was as given.
fn check_stretch(messages: &[Message], resumed: Option<(u64, bool)>) {
    let seqs = relay::seqs(messages);
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "without gaps: {seqs:?}");
    if let (Some((from, snapshot)), Some(first)) = (resumed, seqs.first()) {
        assert!(snapshot || *first == from.max(1), "from {from} on: {seqs:?}");
    }
    let mut uploads: HashMap<UploadId, (u8, bool)> = HashMap::new();
    for message in messages {
        let Some(upload) = message.upload_id() else { continue };
        let (percent, ended) = uploads.entry(upload).or_default();
        assert!(!*ended, "nothing follows the end of an upload: {message:?}");
        *ended = message.ends_upload();
        if let Message::UploadProgress { payload, .. } = message {
            let now = payload.progress_percent;
            assert!(now >= *percent || now == 0, "from {percent} to {now}: {message:?}");
            *percent = now;
        }
    }
}

#[actix_rt::test]
async fn a_watch_answers_with_the_percentage_that_other_subscribers_have_seen() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(10), Duration::ZERO);
    let mut relay = world.listen().await;
    let mut late = world.listen_to(Uploads::Chosen, None).await;
    let (_, uploads) = world.submit(&["a.png"]).await;
    let percent = |it: &Message| match it {
        Message::UploadProgress { payload, .. } => Some(payload.progress_percent),
        _ => None,
    };
    let known = relay.until(|it| percent(it).is_some_and(|it| it > 40)).await;
    let watch = WatchUpload { subscriber: late.id, upload: uploads[0] };
    let answer = world.pipeline.publisher.send(watch).await.expect("alive").expect("the upload");
    assert_eq!(percent(&answer), known.iter().filter_map(percent).next_back());
    let shown: Vec<u8> = late.until_the_end().await.iter().filter_map(percent).collect();
    assert!(
        shown.first() >= percent(&answer).as_ref() && shown.is_sorted() && shown.last() == Some(&100),
        "{shown:?}"
    );
    assert!(shown.iter().filter(|it| **it < 75).count() > 4, "and those in between: {shown:?}");
}
