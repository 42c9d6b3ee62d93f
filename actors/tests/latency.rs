//! How long a change takes to reach a subscriber, in real time:
//! `cargo test --release -p mediamill-actors --test latency -- --ignored --nocapture`.

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix::prelude::*;
use mediamill_actors::{
    batch_supervisor::{PauseBatch, ResumeBatch},
    id::{BatchId, Owner},
    publisher::{Publication, Subscribe, Uploads},
    wire::Message as Wire,
};
use support::World;

const CHANGES: u64 = 3000;

/// Notes when each event of a batch arrives, by number.
struct Watch {
    batch: BatchId,
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
            if let Wire::BatchProgress { seq, payload, .. } = &*message
                && payload.batch_id == self.batch
            {
                arrived.entry(*seq).or_default().push(now);
            }
        }
    }
}

fn quantile(sorted: &[Duration], of_thousand: usize) -> f64 {
    sorted[(sorted.len() - 1) * of_thousand / 1000].as_secs_f64() * 1000.0
}

/// Makes changes one after another with uneven pauses and prints how long they took to reach `subscribers`.
async fn measure(world: &World, what: &str, owner: &Owner, batch: BatchId, subscribers: usize) {
    let arrived = Arc::new(Mutex::new(HashMap::new()));
    let mut ids = Vec::new();
    for _ in 0..subscribers {
        let to = Watch { batch, arrived: Arc::clone(&arrived) }.start().recipient();
        let subscribe = Subscribe { owner: owner.clone(), to, uploads: Uploads::All, after_seq: None };
        ids.push(world.pipeline.publisher.send(subscribe).await.expect("alive").expect("subscribed"));
    }
    let mut made = Vec::new();
    for number in 0..CHANGES {
        tokio::time::sleep(Duration::from_millis(1 + number * 7 % 13)).await;
        let (owner, batch) = (owner.clone(), batch);
        if number % 2 == 0 {
            world.tell(PauseBatch { owner, batch }).await.expect("paused");
        } else {
            world.tell(ResumeBatch { owner, batch }).await.expect("resumed");
        }
        made.push(Instant::now());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for id in ids {
        world.pipeline.publisher.do_send(mediamill_actors::publisher::Unsubscribe(id));
    }
    let arrived = arrived.lock().expect("not poisoned");
    let mut events: Vec<(&u64, &Vec<Instant>)> = arrived.iter().collect();
    events.sort();
    assert_eq!(events.len(), made.len(), "every change was told");
    let mut took: Vec<Duration> = Vec::new();
    for ((_, arrivals), made) in events.into_iter().zip(&made) {
        assert_eq!(arrivals.len(), subscribers, "to every subscriber");
        took.extend(arrivals.iter().map(|arrival| arrival.saturating_duration_since(*made)));
    }
    took.sort_unstable();
    println!(
        "{what}: {} changes to {subscribers} subscribers, ms after the change was acknowledged: p50 {:.1}, p99 {:.1}, longest {:.1}",
        made.len(),
        quantile(&took, 500),
        quantile(&took, 990),
        quantile(&took, 1000),
    );
}

#[actix_rt::test]
#[ignore = "measures for three minutes"]
async fn latency() {
    let world = World::real_time(|_| {}).await;
    world.provider.takes(Duration::from_millis(20), Duration::from_millis(5));
    // A batch that never ends, since nothing of it is begun: it is changed while it is paused or the workers have others to do.
    let owner = Owner::new("watched").expect("valid");
    world.provider.is_there(false);
    let (batch, _) = world.submit_as(&owner, &["watched.png"]).await;
    let mut state = world.pipeline.provider();
    state.wait_for(|it| it.waiting().is_some()).await.expect("away");
    measure(&world, "idle engine", &owner, batch, 1).await;
    measure(&world, "idle engine", &owner, batch, 1000).await;
}
