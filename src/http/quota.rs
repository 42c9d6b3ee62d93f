//! Limits of concurrent streams and uploads, per owner and in total.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use mediamill_actors::id::Owner;

use super::{Inner, error::Problem};

/// Number of open items per owner; owners without any have no entry.
#[derive(Debug, Clone, Default)]
pub(super) struct Quota(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    by_owner: HashMap<Owner, u32>,
    total: u32,
}

/// One open item of an owner, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    quota: Quota,
    owner: Owner,
}

/// The limit that is reached.
enum Full {
    Owner,
    Total,
}

impl Quota {
    /// Number of open items of all owners.
    pub(super) fn total(&self) -> u32 {
        self.counts().total
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, owner: &Owner, max: u32, max_total: u32) -> Result<Share, Full> {
        let mut counts = self.counts();
        if counts.by_owner.get(owner).is_some_and(|count| *count >= max) {
            return Err(Full::Owner);
        }
        if counts.total >= max_total {
            return Err(Full::Total);
        }
        counts.total += 1;
        *counts.by_owner.entry(owner.clone()).or_default() += 1;
        Ok(Share { quota: self.clone(), owner: owner.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.quota.counts();
        counts.total -= 1;
        if let Some(count) = counts.by_owner.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                counts.by_owner.remove(&self.owner);
            }
        }
    }
}

impl Inner {
    /// Counts a WebSocket or event stream, unless its owner has too many open.
    pub(super) fn begin_stream(&self, owner: &Owner) -> Result<Share, Problem> {
        let max = self.server.max_streams_per_owner;
        self.streams.take(owner, max, u32::MAX).map_err(|_| {
            let limit = "streams of this owner are open, which is server.max_streams_per_owner; close some";
            Problem::too_many(format!("{max} {limit}"), 5)
        })
    }

    /// Counts a request that uploads files, unless there are too many.
    pub(super) fn begin_receiving(&self, owner: &Owner) -> Result<Share, Problem> {
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
            Full::Total => Problem::unavailable(
                "busy",
                "too many requests are uploading files; try again in a moment",
                2,
            ),
        })
    }
}
