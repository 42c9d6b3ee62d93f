//! From what was read in one tick to what is forwarded.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    event::EventKind,
    id::{Owner, UploadId},
    progress::{Means, Step, Track},
    publisher::{Forward, Percentage, RenderedEvent},
    store::{Change, ChangeBatch, InFlight},
    upload::Upload,
    wire::{self, Live},
};

/// What is remembered between ticks.
#[derive(Default)]
pub(super) struct ProgressTracker {
    /// Uploads in flight of owners that somebody listens to.
    tracked: HashMap<UploadId, Tracked>,
    means: Means,
}

struct Tracked {
    track: Track,
    /// The record as it stood at the last event.
    upload: Upload,
}

impl ProgressTracker {
    /// Uploads whose records need not be read again.
    pub(super) fn known(&self) -> HashSet<UploadId> {
        self.tracked.keys().copied().collect()
    }

    /// Forgets the uploads: nobody listens any more.
    pub(super) fn clear(&mut self) {
        self.tracked.clear();
    }

    /// What is to be forwarded, one for each owner that something happened to.
    pub(super) fn digest(
        &mut self,
        news: ChangeBatch,
        waiting: Option<String>,
        now: Timestamp,
        tick: Duration,
    ) -> Vec<Forward> {
        let ChangeBatch { changes, paces, unfinished, in_flight, reached, more: _ } = news;
        let live = Live { waiting, paces };
        let mut forwards: HashMap<Owner, Forward> = HashMap::new();
        let mut forward = |owner: &Owner, event: Option<RenderedEvent>, percentage: Option<Percentage>| {
            let forward = forwards.entry(owner.clone()).or_insert_with(|| Forward {
                owner: owner.clone(),
                events: Vec::new(),
                percentages: Vec::new(),
                reached,
            });
            forward.events.extend(event);
            forward.percentages.extend(percentage);
        };
        for change in changes {
            let mut told = RenderedEvent::of(&change, &live);
            if change.event.kind == EventKind::ProviderChanged {
                let batches = unfinished.get(&change.owner).map(Vec::as_slice).unwrap_or_default();
                let message =
                    |batch| wire::batch_now(batch, told.seq, live.waiting.as_deref(), change.event.at);
                told.messages = batches.iter().map(|batch| message(batch).into()).collect();
            }
            forward(&change.owner, Some(told), None);
            self.note(change);
        }
        if let Some(in_flight) = &in_flight {
            let present: HashSet<UploadId> = in_flight.iter().map(|it| it.id).collect();
            self.tracked.retain(|id, _| present.contains(id));
        }
        for it in in_flight.into_iter().flatten() {
            let owner = it.entry.owner.clone();
            if let Some(percentage) = self.advance(it, now, tick) {
                forward(&owner, None, Some(percentage));
            }
        }
        forwards.into_values().collect()
    }

    /// Takes note of what an event says about times and percentages.
    fn note(&mut self, change: Change) {
        let Change { event, upload, .. } = change;
        if let Some(upload) = &upload {
            let kind = upload.format.kind();
            match event.kind {
                EventKind::UploadDescribed { took_ms, .. } => {
                    self.means.note(kind, Step::Describing, Duration::from_millis(took_ms));
                }
                EventKind::UploadCompleted { took_ms, .. } => {
                    self.means.note(kind, Step::Embedding, Duration::from_millis(took_ms));
                }
                _ => {}
            }
        }
        let Some(id) = event.upload_id else { return };
        let Some(upload) = upload.filter(|upload| upload.status.is_active()) else {
            self.tracked.remove(&id);
            return;
        };
        let tracked = self.track(upload);
        match event.kind {
            EventKind::UploadBegun { attempt } => tracked.track = Track::new(attempt),
            EventKind::UploadDescribed { attempt, .. } if attempt == tracked.track.attempt => {
                // It was told with the event.
                tracked.track.rise(Step::Embedding.range().0);
            }
            _ => {}
        }
    }

    fn track(&mut self, upload: Upload) -> &mut Tracked {
        match self.tracked.entry(upload.id) {
            Entry::Occupied(tracked) => {
                let tracked = tracked.into_mut();
                tracked.upload = upload;
                tracked
            }
            Entry::Vacant(place) => place.insert(Tracked { track: Track::new(upload.attempt), upload }),
        }
    }

    fn advance(&mut self, it: InFlight, now: Timestamp, tick: Duration) -> Option<Percentage> {
        let InFlight { id, entry, upload } = it;
        if let Some(upload) = upload {
            self.track(upload);
        }
        let tracked = self.tracked.get_mut(&id)?;
        if tracked.track.attempt != entry.attempt {
            tracked.track = Track::new(entry.attempt);
        }
        let kind = tracked.upload.format.kind();
        let percent = tracked.track.advance(entry.stage, entry.since, now, &self.means, kind, tick)?;
        Some(Percentage {
            upload: id,
            attempt: entry.attempt,
            percent,
            messages: wire::percent_now(&tracked.upload, entry.stage, percent, 0, now),
        })
    }
}
