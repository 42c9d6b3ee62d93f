//! Random histories of commands, answers of the provider and deaths of the process: after each
//! step the store is consistent, and at the end all work has ended, counts add up, and each round
//! of a batch has ended once.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    num::NonZeroU32,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use mediamill_actors::{
    batch_supervisor::{CancelBatch, DeleteUpload, PauseBatch, ResumeBatch, RetryFailed, SubmitBatch},
    config::Config,
    error::Error,
    event::{Event, EventKind},
    id::{BatchId, Owner, UploadId},
    intake::{Admission, Source},
    upload::Status,
};
use proptest::prelude::*;
use support::{World, crash::Mortal, scripted::Act};

/// The provider's answers about a file.
#[derive(Debug, Clone, Copy)]
enum Sort {
    Good,
    Bad,
    Broken,
    Flaky,
    Panics,
    Kills,
    Hangs,
    HardToEmbed,
    Poor,
}

#[derive(Debug, Clone)]
enum Action {
    Submit {
        owner: usize,
        files: Vec<Sort>,
    },
    /// Submits a known file with `force`.
    Again(usize),
    /// Copies a known file and submits both.
    Copy(usize),
    /// Renames a known file, and submits it.
    Rename(usize),
    /// Writes other bytes into a known file and submits it.
    Edit(usize),
    /// Moves a known file over another, and submits it.
    PutOver(usize, usize),
    /// Submits all known files of an owner.
    Walk(usize),
    Cancel(usize),
    Pause(usize),
    Resume(usize),
    Retry(usize),
    Delete(usize),
    Wait(u64),
    Away(bool),
    Restart,
    Crash,
}

fn sorts() -> impl Strategy<Value = Sort> {
    use Sort::*;
    prop::sample::select(vec![
        Good,
        Good,
        Good,
        Good,
        Bad,
        Broken,
        Flaky,
        Panics,
        Kills,
        Hangs,
        HardToEmbed,
        Poor,
    ])
}

fn actions() -> impl Strategy<Value = Action> {
    let which = 0_usize..16;
    prop_oneof![
        4 => (0_usize..2, prop::collection::vec(sorts(), 0..5))
            .prop_map(|(owner, files)| Action::Submit { owner, files }),
        1 => which.clone().prop_map(Action::Again),
        1 => which.clone().prop_map(Action::Copy),
        1 => which.clone().prop_map(Action::Rename),
        1 => which.clone().prop_map(Action::Edit),
        1 => (which.clone(), which.clone()).prop_map(|(from, to)| Action::PutOver(from, to)),
        1 => (0_usize..2).prop_map(Action::Walk),
        1 => which.clone().prop_map(Action::Cancel),
        1 => which.clone().prop_map(Action::Pause),
        1 => which.clone().prop_map(Action::Resume),
        2 => which.clone().prop_map(Action::Retry),
        2 => which.prop_map(Action::Delete),
        4 => (0_u64..30_000).prop_map(Action::Wait),
        1 => any::<bool>().prop_map(Action::Away),
        1 => Just(Action::Restart),
        2 => Just(Action::Crash),
    ]
}

/// The acknowledged work.
#[derive(Default)]
struct Known {
    batches: Vec<(Owner, BatchId)>,
    uploads: Vec<(Owner, UploadId)>,
    deleted: HashSet<UploadId>,
    /// The existing files, with their owners.
    files: Vec<(Owner, String)>,
    written: u64,
}

impl Known {
    fn batch(&self, which: usize) -> Option<(Owner, BatchId)> {
        self.batches.get(which % self.batches.len().max(1)).cloned()
    }

    fn upload(&self, which: usize) -> Option<(Owner, UploadId)> {
        self.uploads.get(which % self.uploads.len().max(1)).cloned()
    }

    fn known_file(&self, which: usize) -> Option<(Owner, String)> {
        self.files.get(which % self.files.len().max(1)).cloned()
    }

    fn files_of(&self, owner: &Owner) -> Vec<String> {
        self.files.iter().filter(|it| it.0 == *owner).map(|it| it.1.clone()).collect()
    }

    /// Writes new bytes into a file, with a distinct modification time: a coarse clock may give
    /// two writes the same time.
    fn write(&mut self, world: &World, name: &str) {
        self.written += 1;
        std::fs::write(world.path(name), support::picture(&format!("{name} {}", self.written)))
            .expect("written");
        let file = std::fs::File::options().write(true).open(world.path(name)).expect("there");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_700_000_000 + self.written)).expect("set");
    }

    /// A new name.
    fn name(&mut self, sort: Sort) -> String {
        self.written += 1;
        format!("{}{}.png", if matches!(sort, Sort::Broken) { "broken" } else { "f" }, self.written)
    }

    /// Writes a file about which the provider answers as its sort says.
    fn file(&mut self, world: &World, owner: &Owner, sort: Sort) -> String {
        let name = self.name(sort);
        self.write(world, &name);
        self.files.push((owner.clone(), name.clone()));
        let provider = &world.provider;
        match sort {
            Sort::Good | Sort::Broken => {}
            Sort::Bad => provider.describing(&name, &vec![Act::Fail; 50]),
            Sort::Flaky => provider.describing(&name, &[Act::Fail]),
            Sort::Panics => provider.describing(&name, &[Act::Panic]),
            Sort::Kills => provider.describing(&name, &vec![Act::Kill(Duration::from_secs(9)); 50]),
            Sort::Hangs => provider.describing(&name, &[Act::Hang]),
            Sort::HardToEmbed => provider.embedding(&name, &[Act::Fail]),
            Sort::Poor => provider.describing(&name, &[Act::Say("cat cat cat cat cat".into())]),
        }
        name
    }

    async fn submit(
        &mut self,
        world: &World,
        owner: &Owner,
        names: Vec<String>,
        force: bool,
    ) -> Vec<Admission> {
        let files = names.iter().map(|name| Source::InPlace(world.path(name))).collect();
        let submitted = world.tell(SubmitBatch { owner: owner.clone(), files, force }).await.expect("taken");
        self.batches.extend(submitted.batch_id.map(|it| (owner.clone(), it)));
        for admission in &submitted.files {
            match admission {
                Admission::Accepted(id) => self.uploads.push((owner.clone(), *id)),
                Admission::Done(_) | Admission::Unfinished(_) if !force => {}
                other => unreachable!("{other:?}"),
            }
        }
        submitted.files
    }

    async fn perform(&mut self, world: &World, action: Action) {
        let owners = ["ann", "bob"].map(|it| Owner::new(it).expect("valid"));
        // A command may be refused if the status does not allow it or the record does not exist;
        // then nothing changes.
        let refusable = |answer: Result<(), Error>| {
            assert!(matches!(answer, Ok(()) | Err(Error::Conflict(_) | Error::NotFound(_))), "{answer:?}");
        };
        match action {
            Action::Submit { owner, files } => {
                let owner = &owners[owner];
                let names = files.into_iter().map(|sort| self.file(world, owner, sort)).collect();
                self.submit(world, owner, names, false).await;
            }
            Action::Again(which) => {
                if let Some((owner, name)) = self.known_file(which) {
                    self.submit(world, &owner, vec![name], true).await;
                }
            }
            Action::Copy(which) => {
                if let Some((owner, name)) = self.known_file(which) {
                    let copy = self.name(Sort::Good);
                    std::fs::copy(world.path(&name), world.path(&copy)).expect("copied");
                    self.files.push((owner.clone(), copy.clone()));
                    self.submit(world, &owner, vec![copy, name], false).await;
                }
            }
            Action::Rename(which) => {
                if let Some((owner, name)) = self.known_file(which) {
                    let to = self.name(Sort::Good);
                    std::fs::rename(world.path(&name), world.path(&to)).expect("renamed");
                    self.files.retain(|it| it.1 != name);
                    self.files.push((owner.clone(), to.clone()));
                    self.submit(world, &owner, vec![to], false).await;
                }
            }
            Action::Edit(which) => {
                if let Some((owner, name)) = self.known_file(which) {
                    self.write(world, &name);
                    self.submit(world, &owner, vec![name], false).await;
                }
            }
            Action::PutOver(from, to) => {
                if let (Some((_, from)), Some((owner, to))) = (self.known_file(from), self.known_file(to))
                    && from != to
                {
                    std::fs::rename(world.path(&from), world.path(&to)).expect("renamed");
                    self.files.retain(|it| it.1 != from);
                    self.submit(world, &owner, vec![to], false).await;
                }
            }
            Action::Walk(owner) => {
                let owner = &owners[owner];
                self.submit(world, owner, self.files_of(owner), false).await;
            }
            Action::Cancel(which) => {
                if let Some((owner, batch)) = self.batch(which) {
                    assert_eq!(world.tell(CancelBatch { owner, batch }).await, Ok(()));
                }
            }
            Action::Pause(which) => {
                if let Some((owner, batch)) = self.batch(which) {
                    refusable(world.tell(PauseBatch { owner, batch }).await);
                }
            }
            Action::Resume(which) => {
                if let Some((owner, batch)) = self.batch(which) {
                    refusable(world.tell(ResumeBatch { owner, batch }).await);
                }
            }
            Action::Retry(which) => {
                if let Some((owner, batch)) = self.batch(which) {
                    refusable(world.tell(RetryFailed { owner, batch }).await);
                }
            }
            Action::Delete(which) => {
                if let Some((owner, upload)) = self.upload(which) {
                    self.deleted.insert(upload);
                    refusable(world.tell(DeleteUpload { owner, upload }).await);
                }
            }
            Action::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Action::Away(away) => world.provider.is_there(!away),
            Action::Restart | Action::Crash => unreachable!("done from outside"),
        }
    }

    /// Resumes paused batches, and waits until all batches have ended.
    async fn end(&self, world: &World) {
        world.provider.is_there(true);
        for (owner, batch) in self.batches.clone() {
            // A batch that has ended refuses to be resumed.
            let _ = world.tell(ResumeBatch { owner, batch }).await;
        }
        let store = world.pipeline.queries();
        let mut changes = store.watch();
        let done = async {
            while !store.queue_depth().is_empty() {
                changes.changed().await.expect("open");
            }
        };
        tokio::time::timeout(Duration::from_secs(86_400), done).await.expect("all work ends");
    }

    /// A second submission of all existing files processes the new, changed and failed ones, and
    /// a third only those that the second did not complete.
    async fn submit_all_twice(&mut self, world: &World) {
        let owners: BTreeSet<Owner> = self.files.iter().map(|it| it.0.clone()).collect();
        for owner in owners {
            let names = self.files_of(&owner);
            let second = self.submit(world, &owner, names.clone(), false).await;
            self.end(world).await;
            let store = world.pipeline.queries();
            let mut completed = Vec::new();
            for admission in &second {
                completed.push(match admission {
                    Admission::Accepted(id) => {
                        store.upload(owner.clone(), *id).await.is_ok_and(|it| it.status == Status::Completed)
                    }
                    _ => true,
                });
            }
            let third = self.submit(world, &owner, names.clone(), false).await;
            self.end(world).await;
            for ((name, completed), admission) in names.iter().zip(completed).zip(third) {
                let Admission::Done(done) = admission else {
                    assert!(!completed, "{name} was completed and is done again");
                    continue;
                };
                let known = store.upload(owner.clone(), done.id).await.expect("a record");
                assert_eq!(known.status, Status::Completed);
                let at = known.place().expect("in place");
                let bytes = |path: &Path| std::fs::read(path).expect("there");
                assert_eq!(bytes(at), bytes(&world.path(name)), "the upload of {name} has its bytes");
            }
        }
    }

    /// Compares the records at the end with the acknowledged work and with the log.
    async fn compare(&self, world: &World) {
        let store = world.pipeline.queries();
        let mut events: HashMap<Owner, Vec<Event>> = HashMap::new();
        for (owner, batch) in &self.batches {
            if !events.contains_key(owner) {
                let page = store.events_from(owner.clone(), 1, 100_000).await.expect("the log");
                let all: Vec<Event> = page.changes.into_iter().map(|it| it.event).collect();
                let seqs: Vec<u64> = all.iter().map(|it| it.seq).collect();
                assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "without a gap");
                events.insert(owner.clone(), all);
            }
            let of_batch = events[owner].iter().filter(|it| it.batch_id == Some(*batch));
            let ends: Vec<u32> = of_batch.clone().filter_map(|it| it.batch?.ends_round).collect();
            let record = store.batch(owner.clone(), *batch).await.expect("the batch");
            assert!(record.status().is_terminal(), "{record:?}");
            assert_eq!(ends, (1..=record.round).collect::<Vec<_>>(), "one end for each round, in order");
            assert_eq!(record.counts.total, record.counts.processed());
            let last = of_batch.clone().next_back().and_then(|it| it.batch).expect("an event");
            assert_eq!((last.counts, last.status), (record.counts, record.status()), "the log says the same");
        }
        let mut completed: BTreeMap<UploadId, u32> = BTreeMap::new();
        for event in events.values().flatten() {
            if let (EventKind::UploadCompleted { .. }, Some(upload)) = (&event.kind, event.upload_id) {
                *completed.entry(upload).or_default() += 1;
            }
        }
        assert!(completed.values().all(|times| *times == 1), "done once");
        for (owner, id) in &self.uploads {
            let deleted = events[owner]
                .iter()
                .any(|it| it.upload_id == Some(*id) && matches!(it.kind, EventKind::UploadDeleted { .. }));
            match store.upload(owner.clone(), *id).await {
                Ok(upload) => {
                    assert!(!deleted && !self.deleted.contains(id));
                    assert!(upload.status.is_terminal() && upload.failures.len() <= 2, "{upload:?}");
                    assert_eq!(upload.status == Status::Completed, completed.contains_key(id));
                    assert!(upload.attempts.iter().all(|it| it.outcome.is_some()), "{upload:?}");
                }
                Err(error) => assert!(deleted, "{error}: nobody deleted it"),
            }
        }
    }
}

async fn assert_consistent(world: &World, after: &str) {
    let found = world.pipeline.queries().verify().await.expect("readable");
    assert_eq!(found.faults, [""; 0], "after {after}");
}

async fn history(actions: Vec<Action>) {
    let configure = |config: &mut Config| {
        config.workers.concurrency = NonZeroU32::new(3);
        config.provider.vision_concurrency = NonZeroU32::new(2);
    };
    let mut mortal = Mortal::scripted_with(configure).await;
    mortal.world.provider.takes(Duration::from_secs(3), Duration::from_secs(1));
    let mut known = Known::default();
    for action in actions {
        let after = format!("{action:?}");
        match action {
            Action::Restart => mortal = mortal.restart().await,
            Action::Crash => mortal = mortal.crash().await,
            action => mortal.live(async |world: &World| known.perform(world, action).await).await,
        }
        mortal.live(async |world: &World| assert_consistent(world, &after).await).await;
    }
    mortal
        .live(async |world: &World| {
            known.end(world).await;
            assert_consistent(world, "the end").await;
            known.submit_all_twice(world).await;
            assert_consistent(world, "two more submissions").await;
            known.compare(world).await;
        })
        .await;
}

proptest! {
    #![proptest_config(ProptestConfig {
        // `PROPTEST_CASES` raises the number.
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(32),
        max_shrink_iters: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_store_stays_consistent_and_all_work_ends_once(actions in prop::collection::vec(actions(), 1..24)) {
        actix_rt::System::new().block_on(history(actions));
    }
}
