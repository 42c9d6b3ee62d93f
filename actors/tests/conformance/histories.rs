//! Random histories of one run after the other, held against a model.

use std::{collections::BTreeMap, time::Duration};

use mediamill_actors::{
    id::{BatchId, Owner, UploadId},
    store::{AfterAttempt, Begun, CommandError, FileStamp, NewBatch, NewUpload, Notices, Relocation},
    upload::{FileRef, PlacePath, Status},
};
use proptest::{prelude::*, test_runner::TestRunner};

use super::{
    Backend, Bench, begin, is_sound,
    model::{Model, ModelBatch, ModelUpload},
    owner, sent,
};
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
