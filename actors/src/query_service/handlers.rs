//! One handler for each question.

use std::{io::Write, sync::Arc};

use actix::prelude::*;

use super::{
    BatchView, DumpStore, GetBatch, GetHealth, GetUpload, Health, ListBatches, ListUploads, QueryService,
    SearchHit, SearchUploads,
};
use crate::{
    batch::Batch,
    disk::free_bytes,
    error::Error,
    provider_gate::{CallError, ProviderGate},
    store::Queries,
    upload::Upload,
    wire,
};

impl Handler<GetBatch> for QueryService {
    type Result = ResponseFuture<Result<BatchView, Error>>;

    fn handle(&mut self, GetBatch { owner, batch }: GetBatch, _: &mut Self::Context) -> Self::Result {
        let (store, gate) = (self.store.clone(), Arc::clone(&self.gate));
        Box::pin(async move { Ok(BatchView::of(store.batch(owner, batch).await?, &store, &gate)) })
    }
}

impl Handler<GetUpload> for QueryService {
    type Result = ResponseFuture<Result<Upload, Error>>;

    fn handle(&mut self, GetUpload { owner, upload }: GetUpload, _: &mut Self::Context) -> Self::Result {
        let store = self.store.clone();
        Box::pin(async move { store.upload(owner, upload).await })
    }
}

impl Handler<ListBatches> for QueryService {
    type Result = ResponseFuture<Result<Vec<BatchView>, Error>>;

    fn handle(&mut self, list: ListBatches, _: &mut Self::Context) -> Self::Result {
        let (store, gate) = (self.store.clone(), Arc::clone(&self.gate));
        Box::pin(async move {
            within("limit", list.limit, ListBatches::MAX)?;
            let batches = store.batches(list.owner, list.offset, list.limit).await?;
            Ok(batches.into_iter().map(|batch| BatchView::of(batch, &store, &gate)).collect())
        })
    }
}

impl Handler<ListUploads> for QueryService {
    type Result = ResponseFuture<Result<Vec<Upload>, Error>>;

    fn handle(&mut self, list: ListUploads, _: &mut Self::Context) -> Self::Result {
        let store = self.store.clone();
        Box::pin(async move {
            within("limit", list.limit, ListUploads::MAX)?;
            store.uploads(list.owner, list.batch, list.offset, list.limit).await
        })
    }
}

impl Handler<SearchUploads> for QueryService {
    type Result = ResponseFuture<Result<Vec<SearchHit>, Error>>;

    fn handle(&mut self, search: SearchUploads, _: &mut Self::Context) -> Self::Result {
        let (store, gate) = (self.store.clone(), Arc::clone(&self.gate));
        Box::pin(async move {
            within("limit", search.limit, SearchUploads::MAX)?;
            within("the length of query", search.query.trim().chars().count(), SearchUploads::MAX_CHARS)?;
            let vector = gate
                .embed_query(&search.owner, search.query.trim().to_owned())
                .await
                .map_err(|error| unavailable(error, &gate))?;
            let hits = store.nearest(search.owner, gate.identity(), vector, search.limit).await?;
            Ok(hits.into_iter().map(|(upload, score)| SearchHit { upload, score }).collect())
        })
    }
}

impl Handler<GetHealth> for QueryService {
    type Result = ResponseFuture<Health>;

    fn handle(&mut self, GetHealth: GetHealth, _: &mut Self::Context) -> Self::Result {
        let (store, gate, listeners) = (self.store.clone(), Arc::clone(&self.gate), self.listeners.clone());
        Box::pin(async move {
            let folder = store.data_dir().to_owned();
            // A disk may be asleep, or at the other end of a network.
            let free_bytes = tokio::task::spawn_blocking(move || free_bytes(&folder).ok()).await;
            let depth = store.queue_depth();
            let provider = gate.state().borrow().clone();
            let subscribers = listeners.borrow().0.values().sum();
            Health {
                provider,
                identity: gate.identity(),
                waiting: depth.waiting,
                active: depth.in_flight,
                subscribers,
                free_bytes: free_bytes.ok().flatten(),
                store_broken: store.broken().map(str::to_owned),
            }
        })
    }
}

impl<W: Write + Send + 'static> Handler<DumpStore<W>> for QueryService {
    type Result = ResponseFuture<Result<W, Error>>;

    fn handle(&mut self, DumpStore(writer): DumpStore<W>, _: &mut Self::Context) -> Self::Result {
        let store = self.store.clone();
        Box::pin(async move { store.dump(writer).await })
    }
}

impl BatchView {
    fn of(batch: Batch, store: &Queries, gate: &ProviderGate) -> Self {
        let now = store.clock().now();
        let waiting =
            wire::waiting(&batch.counts, batch.paused_at.is_some(), || gate.state().borrow().waiting());
        Self {
            status: batch.status(),
            percent: batch.counts.percent(),
            eta_seconds: batch.eta_seconds(now),
            waiting,
            batch,
        }
    }
}

/// Checks that a value is from 1 to `most`.
fn within(what: &str, value: usize, most: usize) -> Result<(), Error> {
    if (1..=most).contains(&value) {
        Ok(())
    } else {
        Err(Error::Invalid(format!("{what} is {value}, but must be 1 to {most}")))
    }
}

fn unavailable(error: CallError, gate: &ProviderGate) -> Error {
    let why = match error {
        CallError::Failed { message, .. } | CallError::WentAway { message } => message,
        CallError::NotReady => {
            let waiting = gate.state().borrow().waiting();
            waiting.unwrap_or_else(|| "the provider was not reached yet; try again".into())
        }
    };
    Error::ProviderUnavailable(format!("the query cannot be embedded: {why}"))
}
