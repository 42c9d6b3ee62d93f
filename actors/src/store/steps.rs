//! Steps of uploads, with which counts, queue and entries go.

use std::sync::{Arc, Weak};

use super::{
    WriteError,
    draft::{Active, Draft, InFlight, Work},
    keys::{self, Tree},
    queue::Entry,
};
use crate::{
    batch::{Counted, Pace},
    id::UploadId,
    upload::{IllegalStep, Step, Upload},
};

impl Draft<'_> {
    /// Lets a worker have an upload whose record has so many pieces. Answers with what is there for as long as the worker has it. The caller
    /// writes the event.
    pub(super) fn enter(
        &mut self,
        upload: &mut Upload,
        entry: Active,
        pieces: usize,
    ) -> Result<Weak<()>, WriteError> {
        let before = Counted::from(&*upload);
        upload.apply(Step::Begin, self.now).map_err(illegal)?;
        self.settle(before, upload)?;
        let hold = Arc::default();
        let held = Arc::downgrade(&hold);
        self.state.active.insert(upload.id, InFlight { upload: upload.clone(), entry, pieces, _hold: hold });
        // The record follows with what the attempt gives.
        self.touch_entry(upload.id);
        Ok(held)
    }

    /// Takes a step of an upload after which its worker still has it.
    pub(super) fn advance(&mut self, id: UploadId, step: Step) -> Result<(), WriteError> {
        let now = self.now;
        let Some(InFlight { upload, entry, .. }) = self.state.active.get_mut(&id) else {
            return Err(WriteError::Stale);
        };
        upload.apply(step, now).map_err(illegal)?;
        debug_assert!(upload.status.is_active(), "a step that ends the worker's hold is taken by `leave`");
        entry.stage = upload.stage;
        entry.since = now;
        self.touch(id);
        Ok(())
    }

    /// Takes a step that ends a worker's hold of an upload. The caller writes the event.
    pub(super) fn leave(&mut self, id: UploadId, step: Step) -> Result<Upload, WriteError> {
        let Some(mut held) = self.state.active.remove(&id) else { return Err(WriteError::Stale) };
        let before = Counted::from(&held.upload);
        if let Err(error) = held.upload.apply(step, self.now) {
            self.state.active.insert(id, held);
            return Err(illegal(error));
        }
        self.remove(Tree::Active, id.as_bytes());
        self.settle(before, &held.upload)?;
        self.put_record(&held.upload, held.pieces)?;
        Ok(held.upload)
    }

    /// Takes a step of an upload that no worker has, before or after it. The caller writes the event.
    pub(super) fn step(&mut self, upload: &mut Upload, step: Step) -> Result<(), WriteError> {
        let before = Counted::from(&*upload);
        upload.apply(step, self.now).map_err(illegal)?;
        self.settle(before, upload)?;
        self.put_upload(upload)
    }

    /// Brings counts and queue from what they were before a step to what they must be after it.
    fn settle(&mut self, before: Counted, after: &Upload) -> Result<(), WriteError> {
        let now = self.now;
        let Some(batch) = self.batch(after.batch_id)? else {
            return Err(WriteError::Unknown(format!(
                "batch {} of upload {} is missing",
                after.batch_id, after.id
            )));
        };
        batch.counts.remove(before);
        batch.counts.add(after);
        if after.status.is_active() && batch.started_at.is_none() {
            batch.started_at = Some(now);
        }
        if after.status.is_active() && batch.pace.is_none() {
            batch.pace = Some(Pace { since: now, processed: batch.counts.processed() });
        }
        let (number, open) = (batch.number, batch.is_open());
        match (before.waits(), Counted::from(after).waits()) {
            (false, true) => self.enqueue(after, number, open)?,
            (true, false) => {
                self.remove(Tree::Work, &keys::work(number, after.position));
                self.state.queue.remove(number, after.position);
            }
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    /// Puts an upload among those that wait.
    pub(super) fn enqueue(&mut self, upload: &Upload, number: u64, open: bool) -> Result<(), WriteError> {
        let work = Work {
            owner: upload.owner.clone(),
            batch_id: upload.batch_id,
            upload_id: upload.id,
            suspect: upload.suspect,
        };
        self.put_json(Tree::Work, &keys::work(number, upload.position), &work)?;
        let entry = Entry {
            owner: upload.owner.clone(),
            batch: upload.batch_id,
            batch_number: number,
            position: upload.position,
            upload: upload.id,
        };
        self.state.queue.push(entry, upload.suspect, open);
        Ok(())
    }
}

fn illegal(IllegalStep { from }: IllegalStep) -> WriteError {
    WriteError::refused(from)
}
