//! The feed of a connection: one publication at a time. A connection that does not read holds one
//! publication, and delays no other connection.

use std::sync::Arc;

use actix::prelude::*;
use actix_web::web::Data;
use mediamill_actors::{
    error::Error,
    id::Owner,
    publisher::{Publication, Publisher, Subscribe, SubscriberId, Unsubscribe, Uploads},
    wire,
};
use tokio::sync::{mpsc, oneshot};

use super::{Inner, error::Problem, quota::Share};

/// The subscription of a connection, with its publications.
pub(super) struct Feed {
    subscription: Subscription,
    publications: mpsc::Receiver<Delivery>,
    /// Keeps the actor alive.
    _relay: Addr<Relay>,
    _counted: Share,
}

/// One publication on its way to a connection.
pub(super) struct Delivery {
    pub(super) messages: Vec<Arc<wire::Message>>,
    /// Completes when the publication was sent or dropped.
    done: Option<oneshot::Sender<()>>,
}

impl Delivery {
    /// Reports that the connection has sent it, which requests the next publication.
    pub(super) fn passed_on(mut self) {
        if let Some(done) = self.done.take() {
            let _ = done.send(());
        }
    }
}

impl Feed {
    /// Subscribes a connection to the events of an owner, from now on or after a given event.
    pub(super) async fn subscribe(
        inner: &Data<Inner>,
        owner: Owner,
        uploads: Uploads,
        after_seq: Option<u64>,
    ) -> Result<Self, Problem> {
        if *inner.closing.borrow() {
            return Err(Error::Stopping.into());
        }
        let counted = inner.begin_stream(&owner)?;
        // The publisher has one publication outstanding, so one place is enough.
        let (to, publications) = mpsc::channel(1);
        let relay = Relay { to }.start();
        let publisher = inner.publisher.clone();
        let subscribe = Subscribe { owner, to: relay.clone().recipient(), uploads, after_seq };
        let subscription = subscribed(publisher, subscribe).await?;
        Ok(Self { subscription, publications, _relay: relay, _counted: counted })
    }

    /// The next publication; `None` once the publisher has stopped.
    pub(super) async fn next(&mut self) -> Option<Delivery> {
        self.publications.recv().await
    }

    pub(super) fn publisher(&self) -> &Addr<Publisher> {
        &self.subscription.publisher
    }

    pub(super) fn subscriber(&self) -> SubscriberId {
        self.subscription.id
    }
}

/// A subscription that ends when this is dropped.
struct Subscription {
    id: SubscriberId,
    publisher: Addr<Publisher>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.publisher.do_send(Unsubscribe(self.id));
    }
}

/// Subscribes in a task of its own. If the connection ends before the answer, the task drops the
/// [`Subscription`], so that no subscriber is left behind.
async fn subscribed(publisher: Addr<Publisher>, subscribe: Subscribe) -> Result<Subscription, Problem> {
    let (answer, answered) = oneshot::channel();
    actix_rt::spawn(async move {
        let subscribed = publisher.send(subscribe).await;
        let _ = answer.send(subscribed.map(|subscribed| subscribed.map(|id| Subscription { id, publisher })));
    });
    Ok(answered.await.map_err(|_| Error::Stopping)???)
}

/// Passes publications on to a connection.
struct Relay {
    to: mpsc::Sender<Delivery>,
}

impl Actor for Relay {
    type Context = Context<Self>;
}

impl Handler<Publication> for Relay {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, Publication(messages): Publication, _: &mut Self::Context) -> Self::Result {
        let to = self.to.clone();
        Box::pin(async move {
            let (done, passed_on) = oneshot::channel();
            if to.send(Delivery { messages, done: Some(done) }).await.is_ok() {
                let _ = passed_on.await;
            }
        })
    }
}
