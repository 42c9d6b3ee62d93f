//! What owners have open at once, each its share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use mediamill_actors::id::Owner;

use super::{Inner, error::Problem};

/// How many of something each owner has open; those that have none are not known.
#[derive(Debug, Clone, Default)]
pub(super) struct Quota(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    of: HashMap<Owner, u32>,
    all: u32,
}

/// One of them, counted as its owner's until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    quota: Quota,
    owner: Owner,
}

/// Which limit is reached.
enum Full {
    Owner,
    All,
}

impl Quota {
    /// How many there are of all owners.
    pub(super) fn all(&self) -> u32 {
        self.counts().all
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, owner: &Owner, most: u32, most_of_all: u32) -> Result<Share, Full> {
        let mut counts = self.counts();
        if counts.of.get(owner).is_some_and(|count| *count >= most) {
            return Err(Full::Owner);
        }
        if counts.all >= most_of_all {
            return Err(Full::All);
        }
        counts.all += 1;
        *counts.of.entry(owner.clone()).or_default() += 1;
        Ok(Share { quota: self.clone(), owner: owner.clone() })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.quota.counts();
        counts.all -= 1;
        if let Some(count) = counts.of.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                counts.of.remove(&self.owner);
            }
        }
    }
}

impl Inner {
    /// Counts a socket or event stream, unless its owner has too many open.
    pub(super) fn begin_stream(&self, owner: &Owner) -> Result<Share, Problem> {
        let most = self.server.max_streams_per_owner;
        self.streams.take(owner, most, u32::MAX).map_err(|_| {
            let said = "streams of this owner are open, which is server.max_streams_per_owner; close some";
            Problem::too_many(format!("{most} {said}"), 5)
        })
    }

    /// Counts a request that brings files in, unless too many do.
    pub(super) fn begin_receiving(&self, owner: &Owner) -> Result<Share, Problem> {
        let (most, most_of_all) = (self.server.max_receiving_per_owner, self.server.max_receiving);
        self.receiving.take(owner, most, most_of_all).map_err(|full| match full {
            Full::Owner => Problem::too_many(
                format!(
                    "{most} requests of this owner bring files in, which is server.max_receiving_per_owner; wait until one is done"
                ),
                2,
            ),
            Full::All => Problem::unavailable(
                "busy",
                "too many uploads come in at the moment; try again in a moment",
                2,
            ),
        })
    }
}
