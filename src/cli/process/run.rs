//! A run of `process` or `resume` in the program that holds the data folder: it submits the files, follows
//! their uploads, and says by events how each ended. The command shows the events, in the same process or at
//! the other end of the private socket.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use jiff::Timestamp;
use mediamill_actors::{
    analysis::ProviderState,
    batch_supervisor::{BatchSupervisor, ResumeBatch, SubmitBatch, Submitted},
    error::Error,
    id::{BatchId, Owner, UploadId},
    intake::{Admission, Source},
    publisher::{Subscribe, Uploads},
    store::Clock,
    upload::{Failure, FailureKind, Stage, Status},
    wire::Message,
};
use tokio::sync::{mpsc, watch};

use super::{
    events::{End, Event},
    outcome::{Outcome, OutcomeStatus},
    subscriber::Subscriber,
    walk::{self, Found, Unreadable},
};
use crate::cli::{Interrupt, engine::Engine, terminal};

/// Files of the first and of the largest batch. Each batch is twice as large as the one before, so that work
/// begins at once.
const BATCH_FILES: (usize, usize) = (32, 512);
/// How long the provider must answer before the run reports that.
const STEADY: Duration = Duration::from_secs(2);
/// How often the run looks whether the provider has answered for that long.
const LOOK: Duration = Duration::from_millis(200);
/// Events that wait for a slow reader before no more files are submitted.
const MAX_WAITING: usize = 1024;
/// Events on their way to the reader.
pub(in crate::cli) const AHEAD: usize = 64;

/// What a run works on.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Task {
    pub(in crate::cli) owner: Owner,
    /// Files and folders, absolute and without links. None: all unfinished uploads of the owner.
    pub(in crate::cli) roots: Vec<PathBuf>,
    /// Files that an earlier run has completed are processed again.
    pub(in crate::cli) force: bool,
    /// Links that lead out of the folders are followed.
    pub(in crate::cli) follow: bool,
    /// The engine works for others too, and goes on when the command ends.
    pub(in crate::cli) is_guest: bool,
}

pub(in crate::cli) struct Run {
    engine: Engine,
    task: Task,
    began: Timestamp,
    /// Events that wait for the reader.
    events: VecDeque<Event>,
    reader: mpsc::Sender<Event>,
    queue: VecDeque<Found>,
    /// Files of the batch that is being submitted.
    submitting: Vec<Found>,
    batch_files: usize,
    /// Uploads that the run waits for, with their paths.
    outstanding: HashMap<UploadId, Option<PathBuf>>,
    /// Outcomes of uploads that ended before their submission was answered.
    early: HashMap<UploadId, Outcome>,
    /// Uploads whose outcome was reported: the path, and whether an earlier run completed it.
    reported: HashMap<UploadId, (PathBuf, bool)>,
    /// The status of uploads whose outcome was reported, and whether an earlier run completed them.
    ends: HashMap<UploadId, (OutcomeStatus, bool)>,
    /// Companions of uploads without an outcome yet: the companion's path and that of the upload's file.
    companions: HashMap<UploadId, Vec<(PathBuf, PathBuf)>>,
    /// Batches that this run resumed.
    resumed: HashSet<BatchId>,
    /// Unfinished uploads of others that this run waits for now, and whose batch may be paused.
    joined: Vec<UploadId>,
    /// Number of uploads of an earlier run on which the holder of the folder does not work.
    resting: usize,
    /// Number of waiting uploads when the queue was full. The remaining files wait until there are fewer.
    full: Option<usize>,
    /// Why no more files are submitted.
    left: Option<String>,
    /// The last reported trouble with the provider.
    trouble: Option<String>,
    /// When the provider answered again, until that is reported.
    back: Option<Instant>,
}

impl Run {
    pub(in crate::cli) fn new(engine: Engine, task: Task, reader: mpsc::Sender<Event>) -> Self {
        Self {
            engine,
            task,
            // Uploads that fail after this, also those of earlier runs, have used their attempts in this run.
            began: Clock::default().now(),
            events: VecDeque::new(),
            reader,
            queue: VecDeque::new(),
            submitting: Vec::new(),
            batch_files: BATCH_FILES.0,
            outstanding: HashMap::new(),
            early: HashMap::new(),
            reported: HashMap::new(),
            ends: HashMap::new(),
            companions: HashMap::new(),
            resumed: HashSet::new(),
            joined: Vec::new(),
            resting: 0,
            full: None,
            left: None,
            trouble: None,
            back: None,
        }
    }

    /// Works until all files have their outcomes, the engine stops or the command is interrupted. Events of
    /// files that are left, and the last event, come from [`Run::close`].
    pub(in crate::cli) async fn work(&mut self, mut interrupt: Interrupt) -> End {
        tokio::select! {
            end = self.steps() => end,
            () = interrupt.wait() => End::Interrupted,
        }
    }

    /// Waits for the runs of other commands, which need the engine of this one.
    pub(in crate::cli) async fn wait_for(&mut self, guests: Option<watch::Receiver<usize>>) {
        let Some(mut guests) = guests else { return };
        if *guests.borrow_and_update() > 0 {
            self.say("waiting for other commands that work through this one; Ctrl-C ends them too");
            while let Some(event) = self.events.pop_front() {
                let _ = self.reader.send(event).await;
            }
        }
        let mut stopped = self.engine.stopped.clone();
        tokio::select! {
            _ = guests.wait_for(|count| *count == 0) => {}
            _ = &mut stopped => {}
        }
    }

    async fn steps(&mut self) -> End {
        let mut messages = match self.begin().await {
            Ok(messages) => messages,
            Err(end) => return end,
        };
        let mut provider = self.engine.provider.clone();
        let state = provider.borrow_and_update().clone();
        self.report_provider(&state);
        let mut stopped = self.engine.stopped.clone();
        let mut looks = tokio::time::interval(LOOK);
        let mut changes = self.engine.queries.watch();
        let mut submission = None;
        loop {
            let has_room = self.events.len() < MAX_WAITING;
            if submission.is_none() && has_room {
                submission = self.next_batch().map(Box::pin);
            }
            let all_submitted = self.queue.is_empty() || self.left.is_some();
            let is_heard = !self.reader.is_closed();
            if submission.is_none() && all_submitted && (self.outstanding.is_empty() || !is_heard) {
                return self.done();
            }
            tokio::select! {
                why = &mut stopped => return End::Stopped(why.to_string()),
                answer = async {
                    match submission.as_mut() {
                        Some(sent) => sent.await,
                        None => std::future::pending().await,
                    }
                } => {
                    submission = None;
                    match answer {
                        Ok(Ok(submitted)) => {
                            self.submitted(submitted);
                            self.resume_joined().await;
                        }
                        Ok(Err(error)) => self.refused(error),
                        // The supervisor is gone; `stopped` has the reason.
                        Err(_) => self.left = Some("the engine stopped".into()),
                    }
                }
                // A reader that does not keep up stops this stream; the log keeps the messages.
                Some(messages) = messages.recv(), if has_room => {
                    for message in messages {
                        self.handle(&message).await;
                    }
                }
                handed_over = hand_over(&self.reader, &mut self.events) => if !handed_over {
                    // Nobody reads any more. What is on the way is submitted all the same.
                    self.events.clear();
                },
                Ok(()) = changes.changed(), if self.full.is_some() => {
                    let waiting = self.engine.queries.queue_depth().waiting;
                    if self.full.is_some_and(|full| waiting == 0 || waiting + self.batch_files <= full) {
                        self.full = None;
                    }
                }
                Ok(()) = provider.changed() => {
                    let state = provider.borrow_and_update().clone();
                    self.report_provider(&state);
                }
                _ = looks.tick() => self.report_recovery(STEADY),
            }
        }
    }

    /// Subscribes to the owner's messages, waits for the provider, and looks for files.
    async fn begin(&mut self) -> Result<mpsc::Receiver<Vec<Arc<Message>>>, End> {
        let failed = |error: Error| End::Left(error.to_string());
        let owner = self.task.owner.clone();
        let all = self.task.roots.is_empty();
        let taken_up = if all || !self.task.is_guest {
            self.engine.queries.unfinished(owner.clone()).await.map_err(failed)?
        } else {
            // The files themselves lead to those below the roots.
            Vec::new()
        };
        let (subscriber, messages) = Subscriber::listen();
        let to = subscriber.recipient();
        let subscribe = Subscribe { owner, to, uploads: Uploads::All, after_seq: None };
        match self.engine.publisher.send(subscribe).await {
            Ok(subscribed) => drop(subscribed.map_err(failed)?),
            Err(_) => return Err(End::Stopped(self.engine.stopped.clone().await.to_string())),
        }
        let mut state = self.engine.provider.clone();
        if let Ok(ProviderState::Misconfigured { message, .. }) =
            state.wait_for(|state| *state != ProviderState::Starting).await.as_deref()
        {
            return Err(End::Refused(message.clone()));
        }
        let (roots, data_dir) = (self.task.roots.clone(), self.engine.data_dir.clone());
        let follow = self.task.follow;
        let walked = tokio::task::spawn_blocking(move || walk::walk(&roots, &data_dir, follow)).await;
        let walked = walked.map_err(|error| End::Left(format!("cannot walk the folders: {error}")))?;
        let files = if all { taken_up.len() } else { walked.files.len() + walked.unreadable.len() };
        self.tell(Event::Found { files });
        self.tell(Event::PassedOver { entries: walked.special });
        self.queue = walked.files.into();
        for Unreadable { path, message, hides } in walked.unreadable {
            let failure = Failure::new(0, Stage::Queued, FailureKind::FileUnreadable, message);
            let outcome = Box::new(Outcome::refused(path, failure));
            self.tell(Event::Unreadable { outcome, hides });
        }
        for (batch, upload) in taken_up {
            self.resume(batch);
            self.outstanding.insert(upload, None);
        }
        // Some may have ended before the subscription.
        self.report_missed().await;
        Ok(messages)
    }

    fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    fn say(&mut self, sentence: impl Into<String>) {
        self.tell(Event::Say { sentence: sentence.into() });
    }

    /// Reports the state of the provider, if it is new to the person.
    fn report_provider(&mut self, state: &ProviderState) {
        let after = if self.task.is_guest {
            "Ctrl-C ends this display; the program goes on"
        } else {
            "Ctrl-C stops; the next run goes on"
        };
        let waiting = match state {
            ProviderState::Away { since, .. } => {
                Some(format!("waiting for the model server since {} ({after})", terminal::moment(*since)))
            }
            state => state.waiting(),
        };
        let trouble = match (&waiting, state) {
            (Some(waiting), ProviderState::Away { message, .. }) => Some(format!("{waiting}: {message}")),
            (waiting, _) => waiting.clone().or_else(|| state.gave_up()),
        };
        self.tell(Event::Waiting { sentence: waiting });
        self.report_trouble(trouble);
    }

    /// Reports trouble with the provider once, even if the provider recovers for short times.
    fn report_trouble(&mut self, trouble: Option<String>) {
        self.back = (trouble.is_none() && self.trouble.is_some()).then(Instant::now);
        if let Some(sentence) = trouble
            && self.trouble.as_ref() != Some(&sentence)
        {
            self.say(sentence.clone());
            self.trouble = Some(sentence);
        }
    }

    /// Reports that the provider has been answering again for `since`.
    fn report_recovery(&mut self, since: Duration) {
        if self.back.is_some_and(|it| it.elapsed() >= since) {
            (self.trouble, self.back) = (None, None);
            self.say("the provider answers");
        }
    }

    /// Submits the next files, if there are any.
    fn next_batch(&mut self) -> Option<Request<BatchSupervisor, SubmitBatch>> {
        if self.left.is_some() || self.full.is_some() || self.queue.is_empty() {
            return None;
        }
        let mut files = self.batch_files.min(self.queue.len());
        // The files of one shot go together.
        while let (Some(last), Some(next)) = (self.queue.get(files - 1), self.queue.get(files)) {
            if last.path.with_extension("") != next.path.with_extension("") {
                break;
            }
            files += 1;
        }
        self.submitting = self.queue.drain(..files).collect();
        self.batch_files = (self.batch_files * 2).min(BATCH_FILES.1);
        let began = self.began;
        let files = self
            .submitting
            .iter()
            .map(|found| Source::InSubmission { path: found.path.clone(), began })
            .collect();
        let submit = SubmitBatch { owner: self.task.owner.clone(), files, force: self.task.force };
        Some(self.engine.supervisor.send(submit))
    }

    /// Handles the answer to a submission.
    fn submitted(&mut self, submitted: Submitted) {
        let files = self.engine.files.clone();
        let mut companions = Vec::new();
        for (found, admission) in std::mem::take(&mut self.submitting).into_iter().zip(submitted.files) {
            match admission {
                Admission::Accepted(id) => match self.early.remove(&id) {
                    Some(outcome) => self.report_end(id, outcome),
                    None => {
                        self.outstanding.insert(id, Some(found.path));
                    }
                },
                // It was resumed when the run began, or another path of this run has the same bytes.
                Admission::Unfinished(id) => match self.early.remove(&id) {
                    Some(outcome) => self.report_end(id, outcome),
                    // It ended between its classification and this answer.
                    None if self.reported.contains_key(&id) => {}
                    None => {
                        if self.outstanding.insert(id, Some(found.path)).is_none() {
                            self.joined.push(id);
                        }
                    }
                },
                // It was resumed, and ended before its file was classified.
                Admission::Done(upload) | Admission::Failed(upload)
                    if self.reported.get(&upload.id).is_some_and(|(path, _)| *path == found.path) => {}
                Admission::Done(upload) | Admission::Failed(upload) => {
                    // Or the message of its end is still on the way.
                    let taken_up = upload.place() == Some(found.path.as_path())
                        && self.outstanding.remove(&upload.id).is_some();
                    let earlier = upload.status == Status::Completed && !taken_up;
                    // A copy of a file is reported like the file.
                    let reported = self.reported.entry(upload.id);
                    let (_, earlier) = *reported.or_insert_with(|| (found.path.clone(), earlier));
                    let outcome = Outcome::of(&upload, &files, Some(&found.path), earlier);
                    self.report_end(upload.id, outcome);
                }
                Admission::Companion { upload, of, ended } => {
                    companions.push((upload, found.path, of, ended));
                }
                Admission::Refused(failure) => {
                    self.tell(Event::ended(None, Outcome::refused(found.path, failure)));
                }
                Admission::NotMedia(failure) if found.is_meant() => {
                    self.tell(Event::ended(None, Outcome::refused(found.path, failure)));
                }
                Admission::NotMedia(_) => self.tell(Event::NotMedia),
            }
        }
        // The others are of other runs.
        self.early.clear();
        for (upload, path, of, ended) in companions {
            let earlier = ended.map(|status| (status.into(), true));
            match self.ends.get(&upload).copied().or(earlier) {
                Some(end) => self.report_companion(path, of, end),
                None => {
                    self.outstanding.entry(upload).or_insert(None);
                    self.companions.entry(upload).or_default().push((path, of));
                }
            }
        }
    }

    /// Reports the outcome of an upload, and its companions.
    fn report_end(&mut self, id: UploadId, outcome: Outcome) {
        let end = (outcome.status, outcome.skipped);
        self.tell(Event::ended(Some(id), outcome));
        self.ends.insert(id, end);
        for (path, of) in self.companions.remove(&id).unwrap_or_default() {
            self.report_companion(path, of, end);
        }
    }

    fn report_companion(&mut self, path: PathBuf, of: PathBuf, end: (OutcomeStatus, bool)) {
        let outcome = Box::new(Outcome::companion(path, of, end));
        self.tell(Event::Companion { outcome });
    }

    /// Handles a refused submission: its files wait for later in this run, or for the next run.
    fn refused(&mut self, error: Error) {
        for found in std::mem::take(&mut self.submitting).into_iter().rev() {
            self.queue.push_front(found);
        }
        match error {
            Error::QueueFull { .. } if !self.engine.queries.queue_depth().is_empty() => {
                self.full = Some(self.engine.queries.queue_depth().waiting);
            }
            error => self.left = Some(error.to_string()),
        }
    }

    async fn handle(&mut self, message: &Message) {
        match message {
            Message::UploadProgress { payload, .. } if !payload.status.is_terminal() => {
                let id = payload.upload_id;
                match self.outstanding.get(&id) {
                    Some(Some(path)) if payload.status != Status::Pending => {
                        let (path, stage) = (path.clone(), payload.stage);
                        self.tell(Event::Moves { upload: id, path, stage });
                    }
                    _ => self.tell(Event::Rests { upload: id }),
                }
            }
            Message::UploadCompleted { upload_id, .. } | Message::UploadFailed { upload_id, .. } => {
                self.ended(*upload_id).await;
            }
            // This run fell behind the retention of the log.
            Message::Resumed { snapshot: true, .. } => self.report_missed().await,
            Message::UploadProgress { .. }
            | Message::BatchProgress { .. }
            | Message::FileProgress { .. }
            | Message::Resumed { .. }
            | Message::AuthSuccess { .. }
            | Message::AuthError { .. }
            | Message::Ping => {}
        }
    }

    /// Reports uploads that ended without a message.
    async fn report_missed(&mut self) {
        let Ok(unfinished) = self.engine.queries.unfinished(self.task.owner.clone()).await else {
            // The store broke, which is reported next.
            return;
        };
        let unfinished: HashSet<UploadId> = unfinished.into_iter().map(|(_, upload)| upload).collect();
        let ended: Vec<UploadId> =
            self.outstanding.keys().filter(|id| !unfinished.contains(id)).copied().collect();
        for id in ended {
            self.ended(id).await;
        }
    }

    /// Reports the outcome of an upload that ended.
    async fn ended(&mut self, id: UploadId) {
        let Ok(upload) = self.engine.queries.upload(self.task.owner.clone(), id).await else {
            // A newer upload of the same file replaced it, or the store failed, which ends the run.
            self.tell(Event::Rests { upload: id });
            self.outstanding.remove(&id);
            return;
        };
        let known = self.outstanding.remove(&id);
        let at = known.as_ref().and_then(Option::as_deref);
        let outcome = Outcome::of(&upload, &self.engine.files, at, false);
        if known.is_some() {
            self.report_recovery(Duration::ZERO);
            self.reported.insert(id, (outcome.path.clone(), false));
            self.report_end(id, outcome);
        } else if !self.submitting.is_empty() && !self.reported.contains_key(&id) {
            self.early.insert(id, outcome);
        }
    }

    /// Resumes the batches of uploads that this run joined, and gives up those on which the holder of the
    /// folder does not work.
    async fn resume_joined(&mut self) {
        let joined = std::mem::take(&mut self.joined);
        if joined.is_empty() || !self.task.is_guest {
            return;
        }
        let owner = self.task.owner.clone();
        let Ok(worked_on) = self.engine.queries.unfinished(owner.clone()).await else {
            // The store broke, which is reported next.
            return;
        };
        let worked_on: HashSet<UploadId> = worked_on.into_iter().map(|(_, upload)| upload).collect();
        for id in joined {
            // One that was deleted meanwhile is reported by its message.
            let Ok(upload) = self.engine.queries.upload(owner.clone(), id).await else { continue };
            let rests = !worked_on.contains(&id) && !upload.status.is_terminal();
            match self.outstanding.get(&id).cloned().flatten() {
                Some(path) if rests => {
                    self.outstanding.remove(&id);
                    self.tell(Event::ended(Some(id), Outcome::pending(path)));
                    self.resting += 1;
                }
                _ => self.resume(upload.batch_id),
            }
        }
    }

    /// The end of a run that has done what it could.
    fn done(&mut self) -> End {
        match (self.left.take(), self.resting) {
            (Some(why), _) => End::Left(why),
            (None, 0) => End::Done,
            (None, _) => End::Left(
                "an earlier run left some of these files, and the program that holds the data folder works on \
                 other folders; run the command again when it has ended"
                    .to_owned(),
            ),
        }
    }

    /// Resumes a paused batch, since its files are to be processed now.
    fn resume(&mut self, batch: BatchId) {
        if self.resumed.insert(batch) {
            self.engine.supervisor.do_send(ResumeBatch { owner: self.task.owner.clone(), batch });
        }
    }

    /// Reports the remaining files and the end. What a reader has not taken yet is returned.
    pub(in crate::cli) async fn close(mut self, end: End, resting: usize) -> VecDeque<Event> {
        if !matches!(end, End::Stopped(_)) {
            self.report_missed().await;
        }
        // Resumed uploads without a path are among the files that were not submitted.
        let mut left: Vec<PathBuf> = std::mem::take(&mut self.outstanding).into_values().flatten().collect();
        left.sort();
        let unsubmitted =
            std::mem::take(&mut self.submitting).into_iter().chain(std::mem::take(&mut self.queue));
        left.extend(unsubmitted.map(|found| found.path));
        for path in left {
            self.tell(Event::ended(None, Outcome::pending(path)));
        }
        for (path, of) in std::mem::take(&mut self.companions).into_values().flatten() {
            self.report_companion(path, of, (OutcomeStatus::Pending, false));
        }
        self.tell(Event::Over { end, resting });
        self.events
    }
}

/// Hands one event to the reader. Without one it does not return, unless nobody reads any more: `false`.
async fn hand_over(reader: &mpsc::Sender<Event>, events: &mut VecDeque<Event>) -> bool {
    if events.is_empty() {
        return std::future::pending().await;
    }
    let Ok(permit) = reader.reserve().await else { return false };
    if let Some(event) = events.pop_front() {
        permit.send(event);
    }
    true
}
