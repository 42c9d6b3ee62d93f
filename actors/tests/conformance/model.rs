//! What a store with one run should say after a history.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use mediamill_actors::{
    id::{BatchId, Owner, UploadId},
    store::Begun,
    upload::Status,
};

use super::{ids, revoked};

#[derive(Debug)]
pub struct ModelUpload {
    pub id: UploadId,
    /// Its path, then the others that are its own.
    pub paths: Vec<String>,
    pub status: Status,
    pub attempt: u32,
    pub alone: bool,
    pub failures: usize,
    pub interruptions: u32,
    pub provider_away: u32,
    pub suspect: bool,
}

#[derive(Debug)]
pub struct ModelBatch {
    pub id: BatchId,
    pub owner: Owner,
    pub uploads: Vec<ModelUpload>,
    pub started: bool,
    pub paused: bool,
    pub cancelled: bool,
    pub round: u32,
    pub ended_round: u32,
}

impl ModelBatch {
    pub fn count(&self, is_counted: impl Fn(Status) -> bool) -> u32 {
        self.uploads.iter().filter(|it| is_counted(it.status)).count() as u32
    }

    pub fn unfinished(&self) -> u32 {
        self.count(|it| !it.is_terminal())
    }

    pub fn status(&self) -> &'static str {
        let total = self.uploads.len() as u32;
        if self.unfinished() > 0 {
            let begun = self.started || self.unfinished() < total;
            return if begun { "processing" } else { "pending" };
        }
        match () {
            () if self.cancelled => "cancelled",
            () if total > 0 && self.count(|it| it == Status::Failed) == total => "failed",
            () => "completed",
        }
    }

    pub fn is_open(&self) -> bool {
        !self.paused && !self.cancelled
    }
}

/// Where an upload is: its batch and its place there.
pub type At = (usize, usize);

/// What the store should say.
#[derive(Default)]
pub struct Model {
    pub batches: Vec<ModelBatch>,
    /// Tokens of running attempts, in no order.
    pub held: Vec<Begun>,
    /// Events of the present step.
    pub events: Vec<(Owner, String)>,
    /// Notices of the present step.
    pub notices: BTreeSet<String>,
    /// Last numbers of the owners' events.
    pub newest: BTreeMap<Owner, u64>,
    /// Pairs of owners: the second could begin since the first one's last turn, and had none.
    pub owed: HashSet<(Owner, Owner)>,
    pub paths: usize,
}

impl Model {
    pub fn emit(&mut self, batch: usize, event: String) {
        let batch = &mut self.batches[batch];
        self.events.push((batch.owner.clone(), event));
        if batch.unfinished() == 0 && batch.ended_round < batch.round {
            batch.ended_round = batch.round;
            self.events.push((batch.owner.clone(), format!("end of {} {}", batch.id, batch.round)));
        }
    }

    pub fn find(&self, id: UploadId) -> At {
        let at =
            |(n, batch): (usize, &ModelBatch)| Some((n, batch.uploads.iter().position(|it| it.id == id)?));
        self.batches.iter().enumerate().find_map(at).expect("the model has it")
    }

    pub fn get(&mut self, (batch, at): At) -> &mut ModelUpload {
        &mut self.batches[batch].uploads[at]
    }

    /// One of the uploads that there are.
    pub fn any(&self, which: usize) -> Option<UploadId> {
        let all: Vec<_> = self.batches.iter().flat_map(|it| it.uploads.iter().map(|it| it.id)).collect();
        all.get(which % all.len().max(1)).copied()
    }

    /// Waiting uploads of open batches in the order in which an owner's are begun.
    pub fn beginnable(&self) -> impl Iterator<Item = (&Owner, &ModelUpload)> {
        let open = self.batches.iter().filter(|it| it.is_open());
        let uploads = open.flat_map(|batch| batch.uploads.iter().map(|it| (&batch.owner, it)));
        uploads.filter(|(_, it)| it.status == Status::Pending)
    }

    pub fn can_begin(&self) -> HashSet<Owner> {
        self.beginnable().map(|it| it.0.clone()).collect()
    }

    /// Begins an attempt.
    pub fn begins(&mut self, begun: &Begun, alone: bool) {
        let id = begun.token.upload;
        let at = self.find(id);
        self.batches[at.0].started = true;
        let upload = self.get(at);
        upload.status = Status::Analyzing;
        upload.attempt += 1;
        upload.alone = alone;
        assert_eq!((begun.token.attempt, begun.alone), (upload.attempt, alone));
        let event = format!("UploadBegun {id}");
        self.emit(at.0, event);
        self.held.push(begun.clone());
    }

    /// Holds what was begun against whose turn it was.
    pub fn has_begun(&mut self, begun: &[Begun], most: usize) {
        let alone = self.held.iter().any(|it| {
            let (batch, at) = self.find(it.token.upload);
            self.batches[batch].uploads[at].alone
        });
        if alone {
            assert!(begun.is_empty(), "nothing is begun beside a suspect");
            return;
        }
        let suspect = self.beginnable().find(|it| it.1.suspect).map(|it| it.1.id);
        if let Some(suspect) = suspect {
            let expected = if self.held.is_empty() { vec![suspect] } else { Vec::new() };
            assert_eq!(ids(begun), expected, "the oldest suspect, alone");
            begun.iter().for_each(|begun| self.begins(begun, true));
            return;
        }
        for begun in begun {
            let owner = &begun.upload.owner;
            let first = self.beginnable().find(|it| it.0 == owner).map(|it| it.1.id);
            assert_eq!(first, Some(begun.token.upload), "an owner's uploads go in their order");
            self.begins(begun, false);
            let others = self.can_begin();
            for other in others.iter().filter(|it| *it != owner) {
                let fair = self.owed.insert((owner.clone(), other.clone()));
                assert!(fair, "{owner} has two turns while {other} waits");
            }
            self.owed.retain(|(_, other)| other != owner);
        }
        assert!(begun.len() == most || self.can_begin().is_empty(), "there was more to begin");
    }

    /// Takes the token of an attempt that ends.
    pub fn release(&mut self, which: usize) -> Option<(Begun, At)> {
        if self.held.is_empty() {
            return None;
        }
        let begun = self.held.swap_remove(which % self.held.len());
        let at = self.find(begun.token.upload);
        Some((begun, at))
    }

    /// An attempt fails. Answers with whether the next one begins.
    pub fn fails(&mut self, at: At) -> bool {
        let upload = self.get(at);
        upload.failures += 1;
        upload.suspect = false;
        let last = upload.failures == 2;
        upload.status = if last { Status::Failed } else { Status::Pending };
        let event = format!("UploadFailed {}", upload.id);
        self.emit(at.0, event);
        !last
    }

    pub fn hands_back(&mut self, at: At) {
        self.get(at).status = Status::Pending;
        let event = format!("UploadHandedBack {}", self.get(at).id);
        self.emit(at.0, event);
    }

    /// Somebody else ends the attempt of an upload, if one runs.
    pub fn revokes(&mut self, id: UploadId) {
        if let Some(at) = self.held.iter().position(|it| it.token.upload == id) {
            self.notices.insert(revoked(&self.held.swap_remove(at).token));
        }
    }

    pub fn cancels(&mut self, batch: usize) {
        if self.batches[batch].unfinished() == 0 {
            return;
        }
        if !std::mem::replace(&mut self.batches[batch].cancelled, true) {
            self.emit(batch, "BatchCancelled".into());
        }
        for at in 0..self.batches[batch].uploads.len() {
            let upload = self.get((batch, at));
            if upload.status.is_terminal() {
                continue;
            }
            upload.status = Status::Cancelled;
            upload.suspect = false;
            let id = upload.id;
            self.revokes(id);
            self.emit(batch, format!("UploadCancelled {id}"));
        }
    }

    pub fn retries(&mut self, batch: usize) {
        let it = &mut self.batches[batch];
        if it.count(|it| it == Status::Failed) == 0 {
            return;
        }
        if it.unfinished() == 0 {
            it.round += 1;
            (it.started, it.paused, it.cancelled) = (false, false, false);
        }
        for upload in it.uploads.iter_mut().filter(|it| it.status == Status::Failed) {
            upload.status = Status::Pending;
            (upload.failures, upload.interruptions, upload.provider_away) = (0, 0, 0);
        }
        self.emit(batch, "BatchRetried".into());
    }

    pub fn deletes(&mut self, id: UploadId) {
        let (batch, at) = self.find(id);
        self.revokes(id);
        self.notices.insert(format!("files of {id}"));
        self.batches[batch].uploads.remove(at);
        self.emit(batch, format!("UploadDeleted {id}"));
    }

    pub fn interrupts_all(&mut self) {
        for begun in std::mem::take(&mut self.held) {
            let at = self.find(begun.token.upload);
            let upload = self.get(at);
            upload.interruptions += u32::from(upload.alone);
            let last = upload.interruptions >= 3;
            upload.suspect = !last;
            upload.failures += usize::from(last);
            upload.status = if last { Status::Failed } else { Status::Pending };
            let event = format!("UploadInterrupted {}", upload.id);
            self.emit(at.0, event);
        }
        self.owed.clear();
    }
}
