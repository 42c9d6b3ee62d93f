//! Turns one read of the change feed into messages to the Publisher, and tracks the percentages of uploads in
//! flight.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    event::EventKind,
    id::{Owner, UploadId},
    media::Kind,
    progress::{Means, Step, Track},
    publisher::{Forward, Percentage, RenderedEvent},
    store::{Change, ChangeBatch, InFlight, InFlightSnapshot},
    upload::Upload,
    wire::{self, Live},
};

/// State between two ticks.
#[derive(Default)]
pub(super) struct ProgressTracker {
    /// Uploads in flight of owners that have subscribers.
    tracked: HashMap<UploadId, Tracked>,
    means: Means,
}

struct Tracked {
    track: Track,
    /// The record as of the upload's last event.
    upload: Upload,
}

impl ProgressTracker {
    /// Uploads whose records are known, so that the next read can leave them out.
    pub(super) fn ids(&self) -> HashSet<UploadId> {
        self.tracked.keys().copied().collect()
    }

    /// Forgets all uploads, since no owner has subscribers.
    pub(super) fn clear(&mut self) {
        self.tracked.clear();
    }

    /// Renders events and computes percentages: at most one forward for each owner.
    pub(super) fn update(
        &mut self,
        changes: ChangeBatch,
        waiting: Option<String>,
        now: Timestamp,
        tick: Duration,
    ) -> Vec<Forward> {
        let ChangeBatch { changes, paces, unfinished, in_flight, reached: _, more: _ } = changes;
        let live = Live { waiting, paces };
        let mut forwards = HashMap::new();
        for change in changes {
            let mut rendered = RenderedEvent::of(&change, &live);
            if change.event.kind == EventKind::ProviderChanged {
                let batches = unfinished.get(&change.owner).map(Vec::as_slice).unwrap_or_default();
                let message =
                    |batch| wire::batch_now(batch, rendered.seq, live.waiting.as_deref(), change.event.at);
                if !batches.is_empty() {
                    rendered.messages = batches.iter().map(|batch| message(batch).into()).collect();
                }
            }
            let forward = forward_to(&mut forwards, &change.owner);
            forward.newest = rendered.seq;
            forward.events.push(rendered);
            self.record(change);
        }
        if let Some(InFlightSnapshot { uploads, newest }) = in_flight {
            let ids: HashSet<UploadId> = uploads.iter().map(|it| it.id).collect();
            self.tracked.retain(|id, _| ids.contains(id));
            for it in uploads {
                let owner = it.entry.owner.clone();
                let Some(newest) = newest.get(&owner).copied() else { continue };
                if let Some(percentage) = self.advance(it, newest, now, tick) {
                    let forward = forward_to(&mut forwards, &owner);
                    forward.newest = newest;
                    forward.percentages.push(percentage);
                }
            }
        }
        forwards.into_values().collect()
    }

    /// Updates the tracked upload of an event, and the mean durations.
    fn record(&mut self, change: Change) {
        let Change { owner: _, event, upload } = change;
        if let Some(upload) = &upload {
            self.record_duration(&event.kind, upload.format.kind());
        }
        let Some(id) = event.upload_id else { return };
        let Some(upload) = upload.filter(|upload| upload.status.is_active()) else {
            self.tracked.remove(&id);
            return;
        };
        let tracked = self.track(upload);
        match event.kind {
            EventKind::UploadBegun { attempt } => tracked.track = Track::new(attempt),
            EventKind::UploadDescribed { attempt, .. } => {
                if attempt == tracked.track.attempt {
                    // The messages of the event carry this percentage.
                    tracked.track.rise(Step::Embedding.range().0);
                }
            }
            EventKind::BatchSubmitted
            | EventKind::BatchPaused
            | EventKind::BatchResumed
            | EventKind::BatchCancelled
            | EventKind::BatchRetried { .. }
            | EventKind::UploadCompleted { .. }
            | EventKind::UploadFailed { .. }
            | EventKind::UploadHandedBack { .. }
            | EventKind::UploadInterrupted { .. }
            | EventKind::UploadCancelled
            | EventKind::BatchDeleted
            | EventKind::UploadDeleted { .. }
            | EventKind::ProviderChanged => {}
        }
    }

    fn record_duration(&mut self, event: &EventKind, media: Kind) {
        match event {
            EventKind::UploadDescribed { took_ms, .. } => {
                self.means.note(media, Step::Describing, Duration::from_millis(*took_ms));
            }
            EventKind::UploadCompleted { took_ms, .. } => {
                self.means.note(media, Step::Embedding, Duration::from_millis(*took_ms));
            }
            EventKind::BatchSubmitted
            | EventKind::BatchPaused
            | EventKind::BatchResumed
            | EventKind::BatchCancelled
            | EventKind::BatchRetried { .. }
            | EventKind::UploadBegun { .. }
            | EventKind::UploadFailed { .. }
            | EventKind::UploadHandedBack { .. }
            | EventKind::UploadInterrupted { .. }
            | EventKind::UploadCancelled
            | EventKind::BatchDeleted
            | EventKind::UploadDeleted { .. }
            | EventKind::ProviderChanged => {}
        }
    }

    fn track(&mut self, upload: Upload) -> &mut Tracked {
        match self.tracked.entry(upload.id) {
            Entry::Occupied(tracked) => {
                let tracked = tracked.into_mut();
                tracked.upload = upload;
                tracked
            }
            Entry::Vacant(entry) => entry.insert(Tracked { track: Track::new(upload.attempt), upload }),
        }
    }

    /// Computes the percentage of an upload in flight. Returns it if it rose since the last tick.
    fn advance(
        &mut self,
        in_flight: InFlight,
        newest: u64,
        now: Timestamp,
        tick: Duration,
    ) -> Option<Percentage> {
        let InFlight { id, entry, upload } = in_flight;
        if let Some(upload) = upload {
            self.track(upload);
        }
        let tracked = self.tracked.get_mut(&id)?;
        if tracked.track.attempt != entry.attempt {
            tracked.track = Track::new(entry.attempt);
        }
        let kind = tracked.upload.format.kind();
        let percent = tracked.track.advance(entry.stage, entry.since, now, &self.means, kind, tick)?;
        let messages = wire::percent_now(&tracked.upload, entry.stage, percent, newest, now);
        Some(Percentage { upload: id, attempt: entry.attempt, percent, messages: messages.map(Arc::new) })
    }
}

fn forward_to<'a>(forwards: &'a mut HashMap<Owner, Forward>, owner: &Owner) -> &'a mut Forward {
    forwards.entry(owner.clone()).or_insert_with(|| Forward::up_to(owner.clone(), 0))
}
