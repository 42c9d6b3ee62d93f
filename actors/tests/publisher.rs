//! Who is told what, however slowly it listens and whenever it comes back.

mod support;

use std::{collections::HashMap, time::Duration};

use mediamill_actors::{
    batch_supervisor::{DeleteUpload, Drain, RetryFailed},
    error::Error,
    id::{BatchId, UploadId},
    progress_monitor::GetHealth,
    publisher::{Resume, Unsubscribe, UnwatchUpload, Uploads, WatchUpload},
    upload::Status,
    wire::Message,
};
use support::{World, all, ear};

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

#[actix_rt::test]
async fn whoever_goes_back_to_an_event_is_told_it_and_all_after_it_also_by_the_next_engine() {
    let mut world = World::scripted().await;
    let mut ear = world.listen().await;
    world.submit(&["a.png", "bad.png", "c.png"]).await;
    let all = ear::of_events(ear.until_the_end().await);
    let last = all.last().and_then(Message::seq).expect("a number");
    for reopened in [false, true] {
        if reopened {
            drop(ear);
            world = world.restart().await;
        }
        for after in [0, 1, 4, last] {
            let mut late = world.listen_to(Uploads::All, Some(after)).await;
            let heard = late.until_the_end().await;
            assert_eq!(heard.first().and_then(resumed), Some((after, false)));
            let expected: Vec<_> = all.iter().filter(|it| it.seq() >= Some(after)).cloned().collect();
            assert_eq!(ear::of_events(heard), expected, "after {after}, reopened: {reopened}");
        }
        ear = world.listen().await;
    }
    // Numbering goes on, and whoever went back is told what comes now.
    let mut late = world.listen_to(Uploads::All, Some(last)).await;
    late.until_the_end().await;
    world.submit(&["d.png"]).await;
    let heard = late.until_the_end().await;
    assert_eq!(ear::seqs(&heard).first(), Some(&(last + 1)));
    assert_eq!(ear::of_events(ear.until_the_end().await), ear::of_events(heard));
}

#[actix_rt::test]
async fn the_past_is_told_as_it_was_also_after_an_upload_went_on() {
    let world = World::scripted().await;
    let mut ear = world.listen().await;
    let (batch, uploads) = world.submit(&["bad.png", "b.png"]).await;
    let mut heard = ear.until_the_end().await;
    world.provider.is_forgiving();
    world.tell(RetryFailed { owner: world.owner.clone(), batch }).await.expect("a second run");
    heard.extend(ear.until_the_end().await);
    world.tell(DeleteUpload { owner: world.owner.clone(), upload: uploads[1] }).await.expect("deleted");
    heard.extend(ear.publication().await);
    let mut late = world.listen_to(Uploads::All, Some(0)).await;
    let mut again = late.until_the_end().await;
    while ear::seqs(&again).last() < ear::seqs(&heard).last() {
        again.extend(late.publication().await);
    }
    let mut expected = ear::of_events(heard);
    for message in &mut expected {
        if let Message::UploadCompleted { upload_id, description, .. } = message
            && *upload_id == uploads[1]
        {
            description.clear();
        }
    }
    assert!(expected.iter().any(|it| matches!(it, Message::UploadFailed { error_message, .. }
            if error_message == "nothing was said of bad.png at look 2")));
    assert_eq!(ear::of_events(again), expected, "but for the description of an upload that is gone");
}

#[actix_rt::test]
async fn a_subscriber_may_go_back_while_it_is_told_what_happens() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(3), Duration::from_secs(1));
    let mut ear = world.listen().await;
    let mut other = world.listen().await;
    let batch = submit(&world, 8).await;
    world.batch_when(batch, |batch| batch.counts.completed >= 4).await;
    world
        .pipeline
        .publisher
        .send(Resume { subscriber: ear.id, after_seq: 3 })
        .await
        .expect("alive")
        .expect("known");
    let heard = ear.until_the_end().await;
    let again = heard.iter().position(|it| resumed(it) == Some((3, false))).expect("resumed");
    let whole = other.until_the_end().await;
    let expected: Vec<_> = ear::of_events(whole).into_iter().filter(|it| it.seq() >= Some(3)).collect();
    assert_eq!(ear::of_events(heard[again..].to_vec()), expected);
}

#[actix_rt::test]
async fn to_whom_the_log_no_longer_goes_back_the_present_state_is_told() {
    let world = World::scripted_with(|config| config.events.keep = 100).await;
    let ended = submit(&world, 60).await;
    world.ended(ended).await;
    world.provider.takes(Duration::from_secs(3600), Duration::ZERO);
    let (unfinished, uploads) = world.submit(&["x.png"]).await;
    world.batch_when(unfinished, |batch| batch.counts.active == 1).await;
    for after in [1, 1_000_000] {
        let mut ear = world.listen_to(Uploads::All, Some(after)).await;
        let heard = ear.publication().await;
        assert!(matches!(heard.first().and_then(resumed), Some((_, true))), "{heard:?}");
        let batches: Vec<_> = heard
            .iter()
            .filter_map(|it| match it {
                Message::BatchProgress { payload, .. } => {
                    Some((payload.batch_id, payload.status.as_str(), payload.successful))
                }
                _ => None,
            })
            .collect();
        assert_eq!(batches, [(ended, "completed", 60), (unfinished, "processing", 0)]);
        assert!(heard.iter().any(|it| it.upload_id() == Some(uploads[0])), "what is in flight: {heard:?}");
    }
}

#[actix_rt::test]
async fn whoever_never_answers_has_one_publication_outstanding_and_delays_nobody() {
    let world = World::scripted().await;
    let mut deaf = world.listen_as(world.owner.clone(), all(), None, ear::Answer::Never).await;
    let mut ear = world.listen().await;
    let batch = submit(&world, 80).await;
    let heard = ear.until_the_end().await;
    let seqs = ear::seqs(&heard);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    assert!(seqs.len() > 200, "{} events", seqs.len());
    world.ended(batch).await;
    assert_eq!(deaf.publications(), 1);
    assert!(deaf.heard().len() <= 256);
}

#[actix_rt::test]
async fn whoever_is_slow_is_told_every_event_once_and_in_order_but_not_every_percentage() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_millis(1500), Duration::ZERO);
    let mut ear = world.listen().await;
    let slow = ear::Answer::After(Duration::from_secs(7));
    let mut slow = world.listen_as(world.owner.clone(), all(), None, slow).await;
    submit(&world, 80).await;
    let quick = ear.until_the_end().await;
    let late = slow.until_the_end().await;
    assert!(late.len() < quick.len(), "percentages are for those that keep up");
    assert_eq!(ear::of_events(late), ear::of_events(quick));
}

#[actix_rt::test]
async fn a_publication_holds_at_most_256_messages() {
    let world = World::scripted().await;
    submit(&world, 80).await;
    let mut ear = world.listen_to(Uploads::All, Some(0)).await;
    let mut heard = Vec::new();
    while !heard.iter().any(ear::ends_run) {
        let publication = ear.publication().await;
        assert!((1..=256).contains(&publication.len()));
        heard.extend(publication);
    }
    let seqs = ear::seqs(&heard);
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
}

#[actix_rt::test]
async fn whoever_chooses_uploads_is_told_of_those_and_of_all_batches_and_files() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(10), Duration::ZERO);
    let mut ear = world.listen_to(Uploads::Chosen, None).await;
    let (_, uploads) = world.submit(&["a.png", "b.png", "c.png"]).await;
    let publisher = &world.pipeline.publisher;
    let watch = |upload| publisher.send(WatchUpload { subscriber: ear.id, upload });
    let answer = watch(uploads[0]).await.expect("alive").expect("the present state");
    assert!(
        matches!(&answer, Message::UploadProgress { payload, .. }
            if payload.upload_id == uploads[0] && matches!(payload.status, Status::Pending | Status::Analyzing)),
        "{answer:?}"
    );
    watch(uploads[1]).await.expect("alive").expect("the present state");
    let unwatch = UnwatchUpload { subscriber: ear.id, upload: uploads[1] };
    publisher.send(unwatch).await.expect("alive");
    let unknown = watch(UploadId::generate()).await.expect("alive");
    assert_eq!(unknown, Err(Error::NotFound("upload")));

    let heard = ear.until_the_end().await;
    let mut chosen: Vec<_> = heard.iter().filter_map(Message::chosen_by).collect();
    chosen.dedup();
    assert_eq!(chosen, [uploads[0]]);
    assert!(heard.iter().any(|it| it.ends_upload()));
    let files = |upload| heard.iter().any(|it| it.upload_id() == Some(upload));
    assert!(uploads.into_iter().all(files), "files of all uploads");
    let answer = publisher.send(WatchUpload { subscriber: ear.id, upload: chosen[0] }).await.expect("alive");
    assert!(
        matches!(&answer, Ok(Message::UploadProgress { payload, .. })
            if (payload.status, payload.progress_percent) == (Status::Completed, 100)),
        "{answer:?}"
    );
}

#[actix_rt::test]
async fn whoever_is_gone_is_forgotten() {
    let world = World::scripted().await;
    let subscribers = async || world.pipeline.monitor.send(GetHealth).await.expect("alive").subscribers;
    let (ear, gone, left) = (world.listen().await, world.listen().await, world.listen().await);
    assert_eq!(subscribers().await, 3);
    gone.listener.send(ear::Die).await.expect("alive");
    world.pipeline.publisher.send(Unsubscribe(left.id)).await.expect("alive");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(subscribers().await, 1);
    ear.listener.send(ear::Die).await.expect("alive");
    submit(&world, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(subscribers().await, 0);
    let resume = Resume { subscriber: ear.id, after_seq: 0 };
    let answer = world.pipeline.publisher.send(resume).await.expect("alive");
    assert_eq!(answer, Err(Error::NotFound("subscriber")));
}

#[actix_rt::test]
async fn the_last_events_are_told_before_the_engine_stops() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(60), Duration::ZERO);
    let mut ear = world.listen().await;
    let batch = submit(&world, 3).await;
    world.batch_when(batch, |batch| batch.counts.active == 3).await;
    let stopped = world.pipeline.stopped();
    world.tell(Drain(Duration::ZERO)).await.expect("drained");
    stopped.await;
    let handed_back = |it: &Message| matches!(it, Message::UploadProgress { payload, .. } if payload.status == Status::Pending);
    assert_eq!(ear.heard().iter().filter(|it| handed_back(it)).count(), 3);
    assert!(!world.pipeline.publisher.connected() && !world.pipeline.monitor.connected());
}

#[actix_rt::test]
async fn a_replay_ends_with_what_is_waited_for_now() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(5), Duration::ZERO);
    let (batch, _) = world.submit(&["a.png"]).await;
    world.batch_when(batch, |batch| batch.counts.active == 1).await;
    world.provider.is_there(false);
    let mut state = world.pipeline.provider();
    state.wait_for(|it| it.waiting().is_some()).await.expect("away");
    world.batch_when(batch, |batch| batch.counts.active == 0).await;
    let mut ear = world.listen_to(Uploads::All, Some(1)).await;
    let heard = ear.publication().await;
    let Some(Message::BatchProgress { payload, .. }) = heard.last() else { unreachable!("{heard:?}") };
    assert!(payload.waiting.as_deref().is_some_and(|it| it.contains("away since")), "{heard:?}");
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

#[actix_rt::test]
async fn whatever_subscribers_do_each_is_told_whole_stretches_of_the_log() {
    let world = World::scripted_with(|config| config.events.keep = 150).await;
    world.provider.takes(Duration::from_millis(900), Duration::from_millis(200));
    let mut dice = Dice(5);
    let mut ears = Vec::new();
    for number in 0..12 {
        let answer = match number % 4 {
            0 => ear::Answer::AtOnce,
            more => ear::Answer::After(Duration::from_millis(more * more * 150)),
        };
        let after = (number % 2 == 1).then(|| dice.throw(20));
        ears.push(world.listen_as(world.owner.clone(), all(), after, answer).await);
    }
    let mut batches = Vec::new();
    for round in 0..40 {
        if round % 8 == 0 {
            let names: Vec<String> = (0..12).map(|number| format!("{round}-{number}.png")).collect();
            batches.push(world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await.0);
        }
        tokio::time::sleep(Duration::from_millis(dice.throw(400))).await;
        let log = world.pipeline.queries().events_from(world.owner.clone(), 0, 1).await.expect("the log");
        let ear = &ears[dice.throw(12) as usize];
        let resume = Resume { subscriber: ear.id, after_seq: dice.throw(log.newest + 1) };
        world.pipeline.publisher.send(resume).await.expect("alive").expect("known");
    }
    for batch in batches {
        world.ended(batch).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let newest =
        world.pipeline.queries().events_from(world.owner.clone(), 0, 1).await.expect("the log").newest;
    for mut ear in ears {
        let heard = ear.heard();
        let mut last: Option<(u64, bool)> = None;
        for stretch in heard.split_inclusive(|it| resumed(it).is_some()) {
            // `resumed` belongs to what follows it.
            let told: Vec<Message> = stretch.iter().filter(|it| resumed(it).is_none()).cloned().collect();
            let seqs = ear::seqs(&told);
            assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "without gaps: {seqs:?}");
            if let (Some((from, snapshot)), Some(first)) = (last, seqs.first()) {
                assert!(snapshot || *first == from.max(1), "from {from} on: {seqs:?}");
            }
            last = stretch.last().and_then(resumed);
            let mut uploads: HashMap<UploadId, (u8, bool)> = HashMap::new();
            for message in &told {
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
        assert_eq!(ear::seqs(&heard).last(), Some(&newest), "to the end");
    }
}

#[actix_rt::test]
async fn whoever_begins_to_watch_an_upload_half_way_is_told_the_percent_that_others_know() {
    let world = World::scripted().await;
    world.provider.takes(Duration::from_secs(10), Duration::ZERO);
    let mut ear = world.listen().await;
    let mut late = world.listen_to(Uploads::Chosen, None).await;
    let (_, uploads) = world.submit(&["a.png"]).await;
    let percent = |it: &Message| match it {
        Message::UploadProgress { payload, .. } => Some(payload.progress_percent),
        _ => None,
    };
    let known = ear.until(|it| percent(it).is_some_and(|it| it > 40)).await;
    let watch = WatchUpload { subscriber: late.id, upload: uploads[0] };
    let answer = world.pipeline.publisher.send(watch).await.expect("alive").expect("the present state");
    assert_eq!(percent(&answer), known.iter().filter_map(percent).next_back());
    let told: Vec<u8> = late.until_the_end().await.iter().filter_map(percent).collect();
    assert!(
        told.first() >= percent(&answer).as_ref() && told.is_sorted() && told.last() == Some(&100),
        "{told:?}"
    );
    assert!(told.iter().filter(|it| **it < 75).count() > 4, "and of what comes between: {told:?}");
}
