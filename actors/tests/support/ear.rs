//! A subscriber that notes what it is told.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use mediamill_actors::{
    publisher::{Publication, SubscriberId},
    wire,
};
use tokio::sync::mpsc;

/// When a publication is answered.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    AtOnce,
    After(Duration),
    Never,
}

/// The actor that is told.
pub struct Listener {
    tell: mpsc::UnboundedSender<Vec<Arc<wire::Message>>>,
    answer: Answer,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Publication> for Listener {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Publication(messages): Publication, _: &mut Self::Context) -> Self::Result {
        let _ = self.tell.send(messages);
        match self.answer {
            Answer::AtOnce => Box::pin(std::future::ready(())),
            Answer::After(time) => Box::pin(tokio::time::sleep(time)),
            Answer::Never => Box::pin(std::future::pending()),
        }
    }
}

pub fn listener(answer: Answer) -> (Addr<Listener>, mpsc::UnboundedReceiver<Vec<Arc<wire::Message>>>) {
    let (tell, told) = mpsc::unbounded_channel();
    (Listener { tell, answer }.start(), told)
}

/// What a subscriber was told.
pub struct Ear {
    pub id: SubscriberId,
    pub listener: Addr<Listener>,
    told: mpsc::UnboundedReceiver<Vec<Arc<wire::Message>>>,
}

impl Ear {
    pub fn new(
        id: SubscriberId,
        listener: Addr<Listener>,
        told: mpsc::UnboundedReceiver<Vec<Arc<wire::Message>>>,
    ) -> Self {
        Self { id, listener, told }
    }

    /// The next publication.
    pub async fn publication(&mut self) -> Vec<wire::Message> {
        let next = tokio::time::timeout(Duration::from_secs(3600), self.told.recv());
        let messages = next.await.expect("it is told something").expect("the listener is alive");
        messages.iter().map(|it| (**it).clone()).collect()
    }

    /// All messages up to and including the first one that is so.
    pub async fn until(&mut self, so: impl Fn(&wire::Message) -> bool) -> Vec<wire::Message> {
        let mut heard: Vec<wire::Message> = Vec::new();
        loop {
            let publication = self.publication().await;
            let last = publication.iter().any(&so);
            heard.extend(publication);
            if last {
                return heard;
            }
        }
    }

    /// All messages until a batch's run has ended.
    pub async fn until_the_end(&mut self) -> Vec<wire::Message> {
        self.until(ends_run).await
    }

    /// What has been told and not been looked at.
    pub fn heard(&mut self) -> Vec<wire::Message> {
        let mut heard = Vec::new();
        while let Ok(messages) = self.told.try_recv() {
            heard.extend(messages.iter().map(|it| (**it).clone()));
        }
        heard
    }

    /// How many publications were told and not looked at.
    pub fn publications(&self) -> usize {
        self.told.len()
    }
}

/// Whether a message ends the run of a batch.
pub fn ends_run(message: &wire::Message) -> bool {
    matches!(message, wire::Message::BatchProgress { payload, .. } if payload.ends_run.is_some())
}

/// The messages that only events give, without what is known only while they are news: whoever was told of the same events has the same.
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

/// The numbers of the events that were told of, each once.
pub fn seqs(messages: &[wire::Message]) -> Vec<u64> {
    let mut seqs: Vec<u64> = of_events(messages.to_vec()).iter().filter_map(wire::Message::seq).collect();
    seqs.dedup();
    seqs
}

/// Stops a listener, as if its connection were gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Die;

impl Handler<Die> for Listener {
    type Result = ();

    fn handle(&mut self, Die: Die, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
