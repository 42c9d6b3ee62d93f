//! The time from a change to its arrival at a subscriber, in real time:
//! `cargo test --release -p mediamill-actors --test latency -- --ignored --nocapture`.

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix::prelude::*;
use mediamill_actors::{
    batch_supervisor::SubmitBatch,
    id::Owner,
    intake::Source,
    publisher::{Publication, Subscribe, Unsubscribe, Uploads},
    wire::Message as Wire,
};
use support::World;

const CHANGES: u64 = 3000;

/// Records the arrival time of each event, by number.
struct Watch {
    arrived: Arc<Mutex<HashMap<u64, Vec<Instant>>>>,
}

impl Actor for Watch {
    type Context = Context<Self>;
}

impl Handler<Publication> for Watch {
    type Result = ();

    fn handle(&mut self, Publication(messages): Publication, _: &mut Self::Context) {
        let now = Instant::now();
        let mut arrived = self.arrived.lock().expect("not poisoned");
        for message in messages {
            if let Wire::BatchProgress { seq, .. } = &*message {
                arrived.entry(*seq).or_default().push(now);
            }
        }
    }
}

fn quantile(sorted: &[Duration], of_thousand: usize) -> f64 {
    sorted[(sorted.len() - 1) * of_thousand / 1000].as_secs_f64() * 1000.0
}

/// Makes changes one after another with uneven pauses and prints the time until they reached
/// `subscribers`.
async fn measure(world: &World, what: &str, subscribers: usize) {
    let owner = Owner::new(what).expect("valid");
    let arrived = Arc::new(Mutex::new(HashMap::new()));
    let mut ids = Vec::new();
    for _ in 0..subscribers {
        let to = Watch { arrived: Arc::clone(&arrived) }.start().recipient();
        let subscribe = Subscribe { owner: owner.clone(), to, uploads: Uploads::All, after_seq: None };
        ids.push(world.pipeline.publisher.send(subscribe).await.expect("alive").expect("subscribed"));
    }
    let mut made = Vec::new();
    for number in 0..CHANGES {
        tokio::time::sleep(Duration::from_millis(1 + number * 7 % 13)).await;
        // A batch whose only file is refused is one event.
        let files = vec![Source::InPlace(world.path("missing.png"))];
        world.tell(SubmitBatch { owner: owner.clone(), files, force: false }).await.expect("a batch");
        made.push(Instant::now());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for id in ids {
        world.pipeline.publisher.send(Unsubscribe(id)).await.expect("alive");
    }
    let arrived = arrived.lock().expect("not poisoned");
    let mut events: Vec<(&u64, &Vec<Instant>)> = arrived.iter().collect();
    events.sort();
    assert_eq!(events.len(), made.len(), "every change arrives");
    let mut took: Vec<Duration> = Vec::new();
    for ((_, arrivals), made) in events.into_iter().zip(&made) {
        assert_eq!(arrivals.len(), subscribers, "to every subscriber");
        took.extend(arrivals.iter().map(|arrival| arrival.saturating_duration_since(*made)));
    }
    took.sort_unstable();
    println!(
        "{what}: {} changes to {subscribers} subscribers, ms after the acknowledgement: \
         p50 {:.1}, p99 {:.1}, longest {:.1}",
        made.len(),
        quantile(&took, 500),
        quantile(&took, 990),
        quantile(&took, 1000),
    );
}

#[actix_rt::test]
#[ignore = "measures for two minutes"]
async fn latency() {
    let world = World::real_time(|_| {}).await;
    measure(&world, "idle engine", 1).await;
    measure(&world, "idle engine, many subscribers", 1000).await;
    let busy = async {
        let mut relay = world.listen().await;
        for round in 0.. {
            let names: Vec<String> = (0..200).map(|number| format!("{round}-{number}.png")).collect();
            world.submit(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
            relay.until_the_end().await;
        }
    };
    tokio::select! {
        () = busy => {}
        () = measure(&world, "busy engine", 1) => {}
    }
}
