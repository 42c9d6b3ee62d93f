//! Limits of concurrent streams, searches and uploads of an owner.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use mediamill_actors::id::Owner;

use super::{
    Inner,
    error::Problem,
    receiving::{Full, Place},
};

/// Number of open items per owner; owners without any have no entry.
#[derive(Debug, Clone, Default)]
pub(super) struct Quota(Arc<Mutex<HashMap<Owner, u32>>>);

/// One open item of an owner, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    quota: Quota,
    owner: Owner,
}

impl Quota {
    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<Owner, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an item, unless the owner has `max` of them.
    fn take(&self, owner: &Owner, max: u32) -> Option<Share> {
        let mut counts = self.counts();
        if counts.get(owner).is_some_and(|count| *count >= max) {
            return None;
        }
        *counts.entry(owner.clone()).or_default() += 1;
        Some(Share { quota: self.clone(), owner: owner.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.quota.counts();
        if let Some(count) = counts.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.owner);
            }
        }
    }
}

impl Inner {
    /// Counts a WebSocket or event stream, unless its owner has too many open.
    pub(super) fn begin_stream(&self, owner: &Owner) -> Result<Share, Problem> {
        let max = self.server.max_streams_per_owner;
        self.streams.take(owner, max).ok_or_else(|| {
            let limit = "streams of this owner are open, which is server.max_streams_per_owner; close some";
            Problem::too_many(format!("{max} {limit}"), 5)
        })
    }

    /// Counts a search, unless too many of its owner wait for their embeddings.
    pub(super) fn begin_search(&self, owner: &Owner) -> Result<Share, Problem> {
        let max = self.server.max_searches_per_owner;
        self.searches.take(owner, max).ok_or_else(|| {
            Problem::too_many(
                format!(
                    "{max} searches of this owner are waiting, which is server.max_searches_per_owner; wait until \
                     one is done"
                ),
                1,
            )
        })
    }

    /// Counts a request that uploads files, unless there are too many.
    pub(super) fn begin_receiving(&self, owner: &Owner) -> Result<Place, Problem> {
        let (max, max_total) = (self.server.max_receiving_per_owner, self.server.max_receiving);
        self.receiving.take(owner, max, max_total).map_err(|full| match full {
            Full::Owner => Problem::too_many(
                format!(
                    "{max} requests of this owner are uploading files, which is \
                     server.max_receiving_per_owner; wait \
                     until one is done"
                ),
                2,
            ),
            Full::Total => Problem::busy("too many requests are uploading files; try again in a moment"),
        })
    }
}
