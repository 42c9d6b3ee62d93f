//! Random histories of one run after the other, held against a model.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use mediamill_actors::{
    id::{BatchId, Owner, UploadId},
    store::{AfterAttempt, Begun, CommandError, FileStamp, NewBatch, NewUpload, Notices, Relocation},
    upload::{FileRef, PlacePath, Status},
};
use proptest::{prelude::*, test_runner::TestRunner};

use super::{Backend, Bench, begin, is_sound, owner, revoked, sent};
use crate::support::bare_store::{Bare, admit, batch, complete, failure, files};

/// What is done. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Deed {
    Admit {
        owner: usize,
        uploads: usize,
    },
    Begin(usize),
    Describe(usize),
    Complete(usize),
    Fail(usize),
    HandBack {
        which: usize,
        away: bool,
    },
    Cancel(usize),
    Pause(usize),
    Resume(usize),
    Retry(usize),
    Delete(usize),
    /// The bytes of an upload are found at another path, too, or instead.
    Relocate {
        which: usize,
        moved: bool,
    },
    /// The file of an upload is moved over that of another.
    MoveOver {
        from: usize,
        to: usize,
    },
    /// The process dies, and another one starts.
    Die,
    /// The process stops in good order, and another one starts.
    Restart,
}

fn deeds() -> impl Strategy<Value = Deed> {
    let which = || 0_usize..12;
    prop_oneof![
        4 => (0_usize..3, 0_usize..4).prop_map(|(owner, uploads)| Deed::Admit { owner, uploads }),
        6 => (1_usize..4).prop_map(Deed::Begin),
        2 => which().prop_map(Deed::Describe),
        4 => which().prop_map(Deed::Complete),
        4 => which().prop_map(Deed::Fail),
        2 => (which(), any::<bool>()).prop_map(|(which, away)| Deed::HandBack { which, away }),
        1 => which().prop_map(Deed::Cancel),
        1 => which().prop_map(Deed::Pause),
        2 => which().prop_map(Deed::Resume),
        2 => which().prop_map(Deed::Retry),
        1 => which().prop_map(Deed::Delete),
        1 => (which(), any::<bool>()).prop_map(|(which, moved)| Deed::Relocate { which, moved }),
        1 => (which(), which()).prop_map(|(from, to)| Deed::MoveOver { from, to }),
        1 => Just(Deed::Die),
        1 => Just(Deed::Restart),
    ]
}

#[derive(Debug)]
struct ModelUpload {
    id: UploadId,
    /// Its path, then the others that are its own.
    paths: Vec<String>,
    status: Status,
    attempt: u32,
    alone: bool,
    failures: usize,
    interruptions: u32,
    provider_away: u32,
    suspect: bool,
}

#[derive(Debug)]
struct ModelBatch {
    id: BatchId,
    owner: Owner,
    uploads: Vec<ModelUpload>,
    started: bool,
    paused: bool,
    cancelled: bool,
    round: u32,
    ended_round: u32,
}

impl ModelBatch {
    fn count(&self, is_counted: impl Fn(Status) -> bool) -> u32 {
        self.uploads.iter().filter(|it| is_counted(it.status)).count() as u32
    }

    fn unfinished(&self) -> u32 {
        self.count(|it| !it.is_terminal())
    }

    fn status(&self) -> &'static str {
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

    fn is_open(&self) -> bool {
        !self.paused && !self.cancelled
    }
}

/// Where an upload is: its batch and its place there.
type At = (usize, usize);

/// What the store should say.
#[derive(Default)]
struct Model {
    batches: Vec<ModelBatch>,
    /// Tokens of running attempts, in no order.
    held: Vec<Begun>,
    /// Events of the present step.
    events: Vec<(Owner, String)>,
    /// Notices of the present step.
    notices: BTreeSet<String>,
    /// Last numbers of the owners' events.
    newest: BTreeMap<Owner, u64>,
    /// Pairs of owners: the second could begin since the first one's last turn, and had none.
    owed: HashSet<(Owner, Owner)>,
    paths: usize,
}

impl Model {
    fn emit(&mut self, batch: usize, event: String) {
        let batch = &mut self.batches[batch];
        self.events.push((batch.owner.clone(), event));
        if batch.unfinished() == 0 && batch.ended_round < batch.round {
            batch.ended_round = batch.round;
            self.events.push((batch.owner.clone(), format!("end of {} {}", batch.id, batch.round)));
        }
    }

    fn find(&self, id: UploadId) -> At {
        let at =
            |(n, batch): (usize, &ModelBatch)| Some((n, batch.uploads.iter().position(|it| it.id == id)?));
        self.batches.iter().enumerate().find_map(at).expect("the model has it")
    }

    fn get(&mut self, (batch, at): At) -> &mut ModelUpload {
        &mut self.batches[batch].uploads[at]
    }

    /// One of the uploads that there are.
    fn any(&self, which: usize) -> Option<UploadId> {
        let all: Vec<_> = self.batches.iter().flat_map(|it| it.uploads.iter().map(|it| it.id)).collect();
        all.get(which % all.len().max(1)).copied()
    }

    /// Waiting uploads of open batches in the order in which an owner's are begun.
    fn beginnable(&self) -> impl Iterator<Item = (&Owner, &ModelUpload)> {
        let open = self.batches.iter().filter(|it| it.is_open());
        let uploads = open.flat_map(|batch| batch.uploads.iter().map(|it| (&batch.owner, it)));
        uploads.filter(|(_, it)| it.status == Status::Pending)
    }

    fn can_begin(&self) -> HashSet<Owner> {
        self.beginnable().map(|it| it.0.clone()).collect()
    }

    /// Begins an attempt.
    fn begins(&mut self, begun: &Begun, alone: bool) {
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
    fn has_begun(&mut self, begun: &[Begun], most: usize) {
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
            assert_eq!(super::ids(begun), expected, "the oldest suspect, alone");
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
    fn release(&mut self, which: usize) -> Option<(Begun, At)> {
        if self.held.is_empty() {
            return None;
        }
        let begun = self.held.swap_remove(which % self.held.len());
        let at = self.find(begun.token.upload);
        Some((begun, at))
    }

    /// An attempt fails. Answers with whether the next one begins.
    fn fails(&mut self, at: At) -> bool {
        let upload = self.get(at);
        upload.failures += 1;
        upload.suspect = false;
        let last = upload.failures == 2;
        upload.status = if last { Status::Failed } else { Status::Pending };
        let event = format!("UploadFailed {}", upload.id);
        self.emit(at.0, event);
        !last
    }

    fn hands_back(&mut self, at: At) {
        self.get(at).status = Status::Pending;
        let event = format!("UploadHandedBack {}", self.get(at).id);
        self.emit(at.0, event);
    }

    /// Somebody else ends the attempt of an upload, if one runs.
    fn revokes(&mut self, id: UploadId) {
        if let Some(at) = self.held.iter().position(|it| it.token.upload == id) {
            self.notices.insert(revoked(&self.held.swap_remove(at).token));
        }
    }

    fn cancels(&mut self, batch: usize) {
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

    fn retries(&mut self, batch: usize) {
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

    fn deletes(&mut self, id: UploadId) {
        let (batch, at) = self.find(id);
        self.revokes(id);
        self.notices.insert(format!("files of {id}"));
        self.batches[batch].uploads.remove(at);
        self.emit(batch, format!("UploadDeleted {id}"));
    }

    fn interrupts_all(&mut self) {
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

fn stamp(path: &str) -> FileStamp {
    FileStamp { path: PlacePath::new(path), size: 70, modified_ns: 1 }
}

/// A history: the store, and what it should say.
struct History<B> {
    bench: Bench<B>,
    store: Bare,
    notices: Notices,
    model: Model,
}

impl<B: Backend> History<B> {
    async fn reopen(self) -> Self {
        let Self { bench, store, model, .. } = self;
        store.close().await;
        let store = bench.open().await;
        let notices = store.commands.notices();
        Self { bench, store, notices, model }
    }

    fn batch(&self, which: usize) -> Option<(usize, Owner, BatchId)> {
        let at = which % self.model.batches.len().max(1);
        self.model.batches.get(at).map(|it| (at, it.owner.clone(), it.id))
    }

    async fn admits(&mut self, owner: Owner, count: usize) {
        let place = |mut new: NewUpload| {
            self.model.paths += 1;
            let path = format!("/{}", self.model.paths);
            new.file = FileRef::in_place(PlacePath::new(&path));
            new.stamp = Some(stamp(&path));
            (new, path)
        };
        let (uploads, paths): (Vec<_>, Vec<_>) = files(count).into_iter().map(place).unzip();
        let submitted = admit(&self.store, batch(&owner, uploads)).await;
        let upload = |(id, path): (UploadId, String)| ModelUpload {
            id,
            paths: vec![path],
            status: Status::Pending,
            attempt: 0,
            alone: false,
            failures: 0,
            interruptions: 0,
            provider_away: 0,
            suspect: false,
        };
        self.model.batches.push(ModelBatch {
            id: submitted.batch_id,
            owner,
            uploads: submitted.uploads.into_iter().zip(paths).map(upload).collect(),
            started: false,
            paused: false,
            cancelled: false,
            round: 1,
            ended_round: 0,
        });
        self.model.emit(self.model.batches.len() - 1, "BatchSubmitted".into());
    }

    /// Writes paths alone.
    async fn relocates(&mut self, owner: &Owner, relocation: Relocation, displaced: Vec<UploadId>) {
        let (id, relocations) = (None, vec![relocation]);
        let new = NewBatch { id, relocations, displaced, ..batch(owner, Vec::new()) };
        self.store.commands.admit(new, 0).await.expect("written");
    }

    fn next(&mut self, after: AfterAttempt, goes_on: bool, alone: bool) {
        match after {
            AfterAttempt::Retried(next) => {
                assert!(goes_on);
                self.model.begins(&next, alone);
            }
            AfterAttempt::Ended => assert!(!goes_on),
            AfterAttempt::Waits => unreachable!("it counts"),
        }
    }

    async fn doing(&mut self, deed: &Deed) {
        let commands = self.store.commands.clone();
        match *deed {
            Deed::Admit { owner: which, uploads } => {
                self.admits(owner(["ann", "bob", "cid"][which]), uploads).await;
            }
            Deed::Begin(most) => {
                let begun = begin(&self.store, most).await;
                self.model.has_begun(&begun, most);
            }
            Deed::Describe(which) => {
                let Some(begun) = self.model.held.get(which % self.model.held.len().max(1)).cloned() else {
                    return;
                };
                let at = self.model.find(begun.token.upload);
                if self.model.get(at).status == Status::Analyzing {
                    self.model.get(at).status = Status::Embedding;
                    self.model.emit(at.0, format!("UploadDescribed {}", begun.token.upload));
                }
                let description = described(&begun);
                commands.record_description(begun.token, description, Vec::new(), 5).await.expect("recorded");
            }
            Deed::Complete(which) => {
                let Some((begun, at)) = self.model.release(which) else { return };
                let id = begun.token.upload;
                if self.model.get(at).status == Status::Analyzing {
                    self.model.emit(at.0, format!("UploadDescribed {id}"));
                    complete(&self.store, &begun).await.expect("completed");
                } else {
                    let by = crate::support::bare_store::identity();
                    let completed = commands.complete(begun.token, vec![1.0, 0.0, 0.0], by, None, 5);
                    completed.await.expect("completed");
                }
                let upload = self.model.get(at);
                (upload.status, upload.suspect) = (Status::Completed, false);
                self.model.emit(at.0, format!("UploadCompleted {id}"));
            }
            Deed::Fail(which) => {
                let Some((begun, at)) = self.model.release(which) else { return };
                let after = commands.fail(begun.token.clone(), failure(&begun)).await.expect("written");
                let goes_on = self.model.fails(at);
                self.next(after, goes_on, begun.alone);
            }
            Deed::HandBack { which, away } => {
                let Some((begun, at)) = self.model.release(which) else { return };
                let reason = away.then(|| failure(&begun));
                let after = commands.hand_back(begun.token.clone(), reason).await.expect("written");
                if away && self.model.get(at).provider_away > 0 {
                    let goes_on = self.model.fails(at);
                    self.next(after, goes_on, begun.alone);
                } else {
                    self.model.get(at).provider_away += u32::from(away);
                    self.model.hands_back(at);
                    assert!(matches!(after, AfterAttempt::Waits));
                }
            }
            Deed::Cancel(which) => {
                let Some((at, owner, id)) = self.batch(which) else { return };
                commands.cancel(owner, id).await.expect("cancelled");
                self.model.cancels(at);
            }
            Deed::Pause(which) | Deed::Resume(which) => {
                let Some((at, owner, id)) = self.batch(which) else { return };
                let paused = matches!(deed, Deed::Pause(_));
                let answer = commands.set_paused(owner, id, paused).await;
                let batch = &mut self.model.batches[at];
                if batch.paused == paused {
                    assert_eq!(answer, Ok(()));
                } else if batch.unfinished() == 0 {
                    assert!(matches!(answer, Err(CommandError::Conflict(_))), "{answer:?}");
                } else {
                    batch.paused = paused;
                    self.model.emit(at, if paused { "BatchPaused" } else { "BatchResumed" }.into());
                }
            }
            Deed::Retry(which) => {
                let Some((at, owner, id)) = self.batch(which) else { return };
                commands.retry_failed(owner, id).await.expect("retried");
                self.model.retries(at);
            }
            Deed::Delete(which) => {
                let Some(id) = self.model.any(which) else { return };
                let owner = self.model.batches[self.model.find(id).0].owner.clone();
                commands.delete(owner, id).await.expect("deleted");
                self.model.deletes(id);
            }
            Deed::Relocate { which, moved } => {
                let Some(id) = self.model.any(which) else { return };
                let at = self.model.find(id);
                let owner = self.model.batches[at.0].owner.clone();
                self.model.paths += 1;
                let path = format!("/{}", self.model.paths);
                let relocation = Relocation { upload: id, stamp: stamp(&path), moved };
                self.relocates(&owner, relocation, Vec::new()).await;
                let paths = &mut self.model.get(at).paths;
                match moved {
                    true => paths[0] = path,
                    false => paths.push(path),
                }
            }
            Deed::MoveOver { from, to } => {
                let (Some(from), Some(to)) = (self.model.any(from), self.model.any(to)) else { return };
                let (from_at, to_at) = (self.model.find(from), self.model.find(to));
                let owner = self.model.batches[from_at.0].owner.clone();
                if from == to || self.model.batches[to_at.0].owner != owner {
                    return;
                }
                let path = self.model.get(to_at).paths.remove(0);
                let relocation = Relocation { upload: from, stamp: stamp(&path), moved: true };
                self.relocates(&owner, relocation, vec![to]).await;
                self.model.get(from_at).paths[0] = path;
                if self.model.get(to_at).paths.is_empty() {
                    self.model.deletes(to);
                }
            }
            Deed::Die | Deed::Restart => unreachable!("done from outside"),
        }
    }

    async fn is_as_modelled(&mut self) {
        assert_eq!(sent(&mut self.notices).await, std::mem::take(&mut self.model.notices));
        let queries = &self.store.queries;
        for batch in &self.model.batches {
            let record = queries.batch(batch.owner.clone(), batch.id).await.expect("the batch");
            let counts = record.counts;
            let counted = [counts.total, counts.active, counts.completed, counts.failed, counts.cancelled];
            let expected = [
                batch.uploads.len() as u32,
                batch.count(Status::is_active),
                batch.count(|it| it == Status::Completed),
                batch.count(|it| it == Status::Failed),
                batch.count(|it| it == Status::Cancelled),
            ];
            assert_eq!((counted, record.status().as_str()), (expected, batch.status()), "{batch:?}");
            assert_eq!((record.round, record.ended_round), (batch.round, batch.ended_round));
            let uploads = queries.uploads(batch.owner.clone(), batch.id, 0, 99).await.expect("its uploads");
            assert_eq!(uploads.len(), batch.uploads.len());
            for (upload, of_model) in uploads.iter().zip(&batch.uploads) {
                let is = (upload.id, upload.status, upload.attempt, upload.failures.len(), upload.suspect);
                let ModelUpload { id, status, attempt, failures, suspect, .. } = of_model;
                assert_eq!(is, (*id, *status, *attempt, *failures, *suspect), "{of_model:?}");
                let place = upload.place().expect("in place").to_owned();
                let also = upload.also_at.iter().map(|it| it.as_path().to_owned());
                let paths: Vec<_> = std::iter::once(place).chain(also).collect();
                assert_eq!(paths, of_model.paths.iter().map(Into::into).collect::<Vec<std::path::PathBuf>>());
            }
        }
        let depth = queries.queue_depth();
        let unfinished: u32 = self.model.batches.iter().map(ModelBatch::unfinished).sum();
        assert_eq!((depth.total(), depth.in_flight), (unfinished as usize, self.model.held.len()));
        self.events_are_as_modelled().await;
        let can_begin = self.model.can_begin();
        self.model.owed.retain(|(_, other)| can_begin.contains(other));
        is_sound(&self.store).await;
    }

    /// The events since the last step, in any order, since some are about several uploads at once.
    async fn events_are_as_modelled(&mut self) {
        let mut expected: BTreeMap<Owner, Vec<String>> = BTreeMap::new();
        for (owner, event) in std::mem::take(&mut self.model.events) {
            expected.entry(owner).or_default().push(event);
        }
        for owner in ["ann", "bob", "cid"].map(owner) {
            let newest = self.model.newest.entry(owner.clone()).or_default();
            let page =
                self.store.queries.events_from(owner.clone(), *newest + 1, 1000).await.expect("the log");
            let mut events = Vec::new();
            for event in page.changes.into_iter().map(|it| it.event) {
                *newest += 1;
                assert_eq!(event.seq, *newest, "without a gap");
                let kind = format!("{:?}", event.kind);
                let kind = kind.split([' ', '{']).next().unwrap_or_default();
                events.push(match event.upload_id {
                    Some(id) => format!("{kind} {id}"),
                    None => kind.to_owned(),
                });
                if let (Some(batch), Some(round)) = (event.batch_id, event.batch.and_then(|it| it.ends_round))
                {
                    events.push(format!("end of {batch} {round}"));
                }
            }
            let mut expected = expected.remove(&owner).unwrap_or_default();
            events.sort();
            expected.sort();
            assert_eq!(events, expected, "events of {owner}");
        }
    }
}

fn described(begun: &Begun) -> mediamill_actors::upload::Description {
    mediamill_actors::upload::Description {
        text: "A grey square.".into(),
        audit_score: 65,
        needs_review: false,
        audit_version: 1,
        by: crate::support::bare_store::identity(),
        asked: 1,
        changed: None,
        at: begun.upload.created_at,
    }
}

async fn history<B: Backend>(deeds: Vec<Deed>) {
    let bench = Bench::<B>::new();
    let store = bench.open().await;
    let notices = store.commands.notices();
    let mut history = History { bench, store, notices, model: Model::default() };
    for deed in deeds {
        tokio::time::advance(Duration::from_secs(1)).await;
        match deed {
            Deed::Die => {
                history.model.interrupts_all();
                history = history.reopen().await;
            }
            Deed::Restart => {
                history.store.commands.end().await.expect("ended");
                for begun in std::mem::take(&mut history.model.held) {
                    let at = history.model.find(begun.token.upload);
                    history.model.hands_back(at);
                }
                history.model.owed.clear();
                history = history.reopen().await;
            }
            deed => history.doing(&deed).await,
        }
        history.is_as_modelled().await;
    }
}

pub async fn a_random_history_is_as_the_model_says<B: Backend + 'static>(_: &Bench<B>) {
    // Each case has a runtime of its own, so that proptest can look for the smallest history that fails.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(16);
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let run = move || {
        TestRunner::new(config).run(&prop::collection::vec(deeds(), 1..40), |deeds| {
            actix_rt::System::new().block_on(history::<B>(deeds));
            Ok(())
        })
    };
    let answer = std::thread::spawn(run).join().expect("it ends");
    assert!(answer.is_ok(), "{}", answer.expect_err("it failed"));
}
