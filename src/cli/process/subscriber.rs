//! The subscriber of a run: hands on what the Publisher tells, and answers only when it was taken, so that a slow run is fed from the log.

use std::sync::Arc;

use actix::prelude::*;
use mediamill_actors::{publisher::Publication, wire::Message};
use tokio::sync::mpsc;

pub(super) struct Subscriber(mpsc::Sender<Vec<Arc<Message>>>);

impl Subscriber {
    /// Its address, and what it is told.
    pub(super) fn listen() -> (Addr<Self>, mpsc::Receiver<Vec<Arc<Message>>>) {
        let (tell, told) = mpsc::channel(1);
        (Self(tell).start(), told)
    }
}

impl Actor for Subscriber {
    type Context = Context<Self>;
}

impl Handler<Publication> for Subscriber {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Publication(messages): Publication, _: &mut Self::Context) -> Self::Result {
        let tell = self.0.clone();
        Box::pin(async move {
            // A run that has ended wants nothing more.
            let _ = tell.send(messages).await;
        })
    }
}
