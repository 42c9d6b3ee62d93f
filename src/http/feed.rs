//! What an owner's connection is told: one publication at a time, and the next when that was passed on. A connection that does not read
//! holds one publication and delays nobody.

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

/// A connection's subscription and what comes of it.
pub(super) struct Feed {
    subscription: Subscription,
    publications: mpsc::Receiver<Delivery>,
    /// Keeps the actor alive.
    _ear: Addr<Ear>,
    _counted: Share,
}

/// One publication on its way.
pub(super) struct Delivery {
    pub(super) messages: Vec<Arc<wire::Message>>,
    /// Dropped or told when it was passed on.
    done: Option<oneshot::Sender<()>>,
}

impl Delivery {
    /// The connection took it: the next one may come.
    pub(super) fn passed_on(mut self) {
        if let Some(done) = self.done.take() {
            let _ = done.send(());
        }
    }
}

impl Feed {
    /// Subscribes a connection to what happens to an owner's batches, from now on or from an event on that it knew.
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
        // The publisher has one publication outstanding, so there is always room.
        let (to, publications) = mpsc::channel(1);
        let ear = Ear { to }.start();
        let publisher = inner.publisher.clone();
        let subscribe = Subscribe { owner, to: ear.clone().recipient(), uploads, after_seq };
        let subscription = subscribed(publisher, subscribe).await?;
        Ok(Self { subscription, publications, _ear: ear, _counted: counted })
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

/// Subscribes. A connection that ends meanwhile, and so drops this, leaves no subscriber behind: also not if the answer was given and not
/// taken yet.
async fn subscribed(publisher: Addr<Publisher>, subscribe: Subscribe) -> Result<Subscription, Problem> {
    let (tell, told) = oneshot::channel();
    actix_rt::spawn(async move {
        let answer = publisher.send(subscribe).await;
        let _ = tell.send(answer.map(|subscribed| subscribed.map(|id| Subscription { id, publisher })));
    });
    Ok(told.await.map_err(|_| Error::Stopping)???)
}

/// Stands for a connection before the publisher.
struct Ear {
    to: mpsc::Sender<Delivery>,
}

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<Publication> for Ear {
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
