//! A subscriber that hands every publication on to the test.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use mediamill_actors::{
    publisher::{Publication, SubscriberId},
    wire,
};
use tokio::sync::mpsc;

/// When the subscriber has handled a publication.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    AtOnce,
    After(Duration),
    Never,
}

/// The subscribed actor.
pub struct Listener {
    sender: mpsc::UnboundedSender<Vec<Arc<wire::Message>>>,
    answer: Answer,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Publication> for Listener {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Publication(messages): Publication, _: &mut Self::Context) -> Self::Result {
        let _ = self.sender.send(messages);
        match self.answer {
            Answer::AtOnce => Box::pin(std::future::ready(())),
            Answer::After(time) => Box::pin(tokio::time::sleep(time)),
            Answer::Never => Box::pin(std::future::pending()),
        }
    }
}

pub fn listener(answer: Answer) -> (Addr<Listener>, mpsc::UnboundedReceiver<Vec<Arc<wire::Message>>>) {
    let (sender, publications) = mpsc::unbounded_channel();
    (Listener { sender, answer }.start(), publications)
}

/// The test's end of a subscriber.
pub struct Relay {
    pub id: SubscriberId,
    pub listener: Addr<Listener>,
    publications: mpsc::UnboundedReceiver<Vec<Arc<wire::Message>>>,
}

impl Relay {
    pub fn new(
        id: SubscriberId,
        listener: Addr<Listener>,
        publications: mpsc::UnboundedReceiver<Vec<Arc<wire::Message>>>,
    ) -> Self {
        Self { id, listener, publications }
    }

    /// Waits for the next publication.
    pub async fn publication(&mut self) -> Vec<wire::Message> {
        let next = tokio::time::timeout(Duration::from_secs(3600), self.publications.recv());
        let messages = next.await.expect("a publication comes").expect("the listener is alive");
        messages.iter().map(|it| (**it).clone()).collect()
    }

    /// Receives publications up to and including the first that has such a message.
    pub async fn until(&mut self, is_last: impl Fn(&wire::Message) -> bool) -> Vec<wire::Message> {
        let mut received: Vec<wire::Message> = Vec::new();
        loop {
            let publication = self.publication().await;
            let last = publication.iter().any(&is_last);
            received.extend(publication);
            if last {
                return received;
            }
        }
    }

    /// Receives publications until a batch's round has ended.
    pub async fn until_the_end(&mut self) -> Vec<wire::Message> {
        self.until(ends_round).await
    }

    /// Takes the messages that have arrived, without waiting.
    pub fn received(&mut self) -> Vec<wire::Message> {
        let mut received = Vec::new();
        while let Ok(messages) = self.publications.try_recv() {
            received.extend(messages.iter().map(|it| (**it).clone()));
        }
        received
    }

    /// Number of publications that have arrived and were not taken.
    pub fn publications(&self) -> usize {
        self.publications.len()
    }
}

/// Whether a message ends a round of a batch.
pub fn ends_round(message: &wire::Message) -> bool {
    matches!(message, wire::Message::BatchProgress { payload, .. } if payload.ends_run.is_some())
}

/// The messages that only events have, without the values that only live events carry. Subscribers that got
/// the same events, live or from the log, have the same messages here.
pub fn of_events(messages: Vec<wire::Message>) -> Vec<wire::Message> {
    let mut messages = messages;
    messages.retain(|it| {
        matches!(
            it,
            wire::Message::UploadCompleted { .. }
                | wire::Message::UploadFailed { .. }
                | wire::Message::BatchProgress { .. }
        )
    });
    for message in &mut messages {
        if let wire::Message::BatchProgress { payload, .. } = message {
            payload.eta_seconds = None;
            payload.waiting = None;
        }
    }
    messages
}

/// Numbers of the events in these messages, each once.
pub fn seqs(messages: &[wire::Message]) -> Vec<u64> {
    let mut seqs: Vec<u64> = of_events(messages.to_vec()).iter().filter_map(wire::Message::seq).collect();
    seqs.dedup();
    seqs
}

/// Stops a listener, as when its connection is lost.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Die;

impl Handler<Die> for Listener {
    type Result = ();

    fn handle(&mut self, Die: Die, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
