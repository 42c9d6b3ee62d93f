//! The subscriber of a run. It acknowledges a publication when the run has taken it, so that a slow run is
//! served from the log.

use std::sync::Arc;

use actix::prelude::*;
use mediamill_actors::{publisher::Publication, wire::Message};
use tokio::sync::mpsc;

pub(super) struct Subscriber(mpsc::Sender<Vec<Arc<Message>>>);

impl Subscriber {
    /// A started subscriber, and the messages that it receives.
    pub(super) fn listen() -> (Addr<Self>, mpsc::Receiver<Vec<Arc<Message>>>) {
        let (to, messages) = mpsc::channel(1);
        (Self(to).start(), messages)
    }
}

impl Actor for Subscriber {
    type Context = Context<Self>;
}

impl Handler<Publication> for Subscriber {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Publication(messages): Publication, _: &mut Self::Context) -> Self::Result {
        let to = self.0.clone();
        Box::pin(async move {
            // The run may have ended.
            let _ = to.send(messages).await;
        })
    }
}
