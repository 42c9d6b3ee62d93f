//! `mediamill process`: processes files and folders in place.

mod next_steps;
mod outcome;
mod output;
mod report;
mod screen;
mod subscriber;
mod walk;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use indicatif::{MultiProgress, ProgressBar};
use jiff::Timestamp;
use mediamill_actors::{
    analysis::ProviderState,
    batch_supervisor::{BatchSupervisor, Drain, ResumeBatch, SubmitBatch, Submitted},
    config::{Config, ProviderKind},
    error::Error,
    id::{BatchId, Owner, UploadId},
    intake::{Admission, Source},
    pipeline::{Options, Pipeline, Stopped},
    publisher::{Subscribe, Uploads},
    store::Scope,
    upload::{Failure, FailureKind, Stage, Status},
    wire::Message,
};

use tokio::sync::mpsc;

use super::{Interrupt, Shared, terminal};

use self::{
    next_steps::NextSteps,
    outcome::Outcome,
    report::{Display, Report},
    subscriber::Subscriber,
    walk::{Found, Unreadable, Walked},
};

/// Files of the first and of the largest batch. Each batch is twice as large as the one before, so that work
/// begins at once.
const BATCH_FILES: (usize, usize) = (32, 512);
/// Refresh interval of the bars.
const FRAME: Duration = Duration::from_millis(200);
/// How long the provider must answer before the run reports that.
const STEADY: Duration = Duration::from_secs(2);
/// Longest wait for a slow reader of the results after Ctrl-C.
const LAST_LINES: Duration = Duration::from_millis(300);

/// The arguments of `process`.
#[derive(Debug, clap::Args)]
pub(crate) struct Process {
    /// Files and folders; they are only read
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print one JSON object per file on standard output
    #[arg(long)]
    json: bool,
    /// Follow links that lead out of the given folders, too
    #[arg(long)]
    follow: bool,
    /// Process files again that an earlier run has completed
    #[arg(long)]
    force: bool,
}

/// How a run ended.
enum End {
    /// All files were processed.
    Done,
    /// Some files are left for the next run; the sentence says why.
    Left(String),
    /// Ctrl-C.
    Interrupted,
    /// The engine stopped by itself.
    Stopped(Stopped),
}

impl End {
    /// Standard output cannot be written.
    fn unheard(error: io::Error) -> Self {
        match error.kind() {
            // The reader of the results has seen enough.
            io::ErrorKind::BrokenPipe => Self::Interrupted,
            _ => Self::Left(format!(
                "cannot write the results: {error}; the work so far is kept, and the same command continues"
            )),
        }
    }
}

impl Process {
    /// Runs the command and returns its exit code.
    pub(crate) async fn run(
        self,
        config: Config,
        shared: &Shared,
        bars: &MultiProgress,
    ) -> Result<u8, String> {
        let data_dir = config.store.data_dir.clone();
        let roots = walk::canonical(&self.paths, &data_dir)?;
        let mut interrupt = Interrupt::listen();
        let options = Options { scope: Scope::Below(roots.clone()), ..Options::default() };
        let display = Display { json: self.json, verbosity: shared.verbosity, roots: roots.clone() };
        let next = NextSteps {
            data_dir: data_dir.clone(),
            options: shared.options.clone(),
            paths: self.paths.clone(),
            is_basic: config.provider.kind == ProviderKind::Builtin,
        };
        // Uploads that fail after this, also those of earlier runs, have used their attempts in this run.
        let began = options.clock.now();
        let pipeline = Pipeline::start_with(config, options).await.map_err(|error| error.to_string())?;
        let taken_up =
            pipeline.queries().unfinished(Owner::local()).await.map_err(|error| error.to_string())?;
        let messages = match subscribe(&pipeline).await {
            Ok(messages) => messages,
            Err(message) => {
                pipeline.stop(Duration::ZERO).await;
                return Err(message);
            }
        };
        tokio::select! {
            ready = set_up(&pipeline) => if let Err(message) = ready {
                pipeline.stop(Duration::ZERO).await;
                return Err(message);
            },
            () = interrupt.wait() => {
                pipeline.stop(Duration::ZERO).await;
                return Ok(130);
            }
        }
        let follow = self.follow;
        let looking = bars.add(ProgressBar::new_spinner().with_message("looking for files"));
        looking.enable_steady_tick(FRAME);
        let walked = tokio::task::spawn_blocking(move || walk::walk(&roots, &data_dir, follow));
        let walked = tokio::select! {
            walked = walked => walked.map_err(|error| format!("cannot walk the folders: {error}"))?,
            () = interrupt.wait() => {
                pipeline.stop(Duration::ZERO).await;
                return Ok(130);
            }
        };
        looking.finish_and_clear();
        let resting = pipeline.recovered.resting;
        let mut run = Run::new(pipeline, self.force, display, began, walked, bars)
            .map_err(|error| format!("cannot print the results: {error}"))?;
        let end = run.work(taken_up, messages, interrupt).await.unwrap_or_else(End::unheard);
        Ok(run.close(end, resting, &next).await)
    }
}

/// Subscribes to all messages of this command's owner.
async fn subscribe(pipeline: &Pipeline) -> Result<mpsc::Receiver<Vec<Arc<Message>>>, String> {
    let (subscriber, messages) = Subscriber::listen();
    let subscribe = Subscribe {
        owner: Owner::local(),
        to: subscriber.recipient(),
        uploads: Uploads::All,
        after_seq: None,
    };
    match pipeline.publisher.send(subscribe).await {
        Ok(Ok(_)) => Ok(messages),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(pipeline.stopped().await.to_string()),
    }
}

/// Waits for the first probe of the provider.
async fn set_up(pipeline: &Pipeline) -> Result<(), String> {
    let mut state = pipeline.provider();
    match state.wait_for(|state| *state != ProviderState::Starting).await.as_deref() {
        Ok(ProviderState::Misconfigured { message, .. }) => Err(message.clone()),
        _ => Ok(()),
    }
}

struct Run {
    pipeline: Pipeline,
    owner: Owner,
    force: bool,
    began: Timestamp,
    report: Report,
    queue: VecDeque<Found>,
    unreadable: Vec<Unreadable>,
    /// Files of the batch that is being submitted.
    submitting: Vec<Found>,
    batch_files: usize,
    /// Uploads that the run waits for, with their paths.
    outstanding: HashMap<UploadId, Option<PathBuf>>,
    /// Outcomes of uploads that ended before their submission was answered.
    early: HashMap<UploadId, Outcome>,
    /// Uploads whose outcome was reported: the path, and whether an earlier run completed it.
    reported: HashMap<UploadId, (PathBuf, bool)>,
    /// Batches that this run resumed.
    resumed: HashSet<BatchId>,
    /// Number of waiting uploads when the queue was full. The remaining files wait until there are fewer.
    full: Option<usize>,
    /// Why no more files are submitted.
    left: Option<String>,
    waiting: Option<String>,
    /// The last reported trouble with the provider.
    trouble: Option<String>,
    /// When the provider answered again, until that is reported.
    back: Option<Instant>,
}

impl Run {
    fn new(
        pipeline: Pipeline,
        force: bool,
        display: Display,
        began: Timestamp,
        walked: Walked,
        bars: &MultiProgress,
    ) -> io::Result<Self> {
        let mut report = Report::new(display, walked.files.len() + walked.unreadable.len(), bars)?;
        report.passed_over(walked.special);
        Ok(Self {
            pipeline,
            owner: Owner::local(),
            force,
            began,
            report,
            queue: walked.files.into(),
            unreadable: walked.unreadable,
            submitting: Vec::new(),
            batch_files: BATCH_FILES.0,
            outstanding: HashMap::new(),
            early: HashMap::new(),
            reported: HashMap::new(),
            resumed: HashSet::new(),
            full: None,
            left: None,
            waiting: None,
            trouble: None,
            back: None,
        })
    }

    /// Submits all files, and reports outcomes until the run ends.
    ///
    /// # Errors
    /// Standard output cannot be written.
    async fn work(
        &mut self,
        taken_up: Vec<(BatchId, UploadId)>,
        mut messages: mpsc::Receiver<Vec<Arc<Message>>>,
        mut interrupt: Interrupt,
    ) -> io::Result<End> {
        for Unreadable { path, message, hides } in std::mem::take(&mut self.unreadable) {
            let failure = Failure::new(0, Stage::Queued, FailureKind::FileUnreadable, message);
            self.report.unreadable(&Outcome::refused(path, failure), hides);
        }
        for (batch, upload) in taken_up {
            self.resume(batch);
            self.outstanding.insert(upload, None);
        }
        // Some may have ended before the subscription.
        self.report_missed().await;
        let mut provider = self.pipeline.provider();
        let state = provider.borrow_and_update().clone();
        self.report_provider(&state);
        let mut stopped = std::pin::pin!(self.pipeline.stopped());
        let mut frames = tokio::time::interval(FRAME);
        let mut changes = self.pipeline.queries().watch();
        let mut submission = None;
        loop {
            if submission.is_none() && self.report.has_room() {
                submission = self.next_batch().map(Box::pin);
            }
            let all_submitted = self.queue.is_empty() || self.left.is_some();
            if submission.is_none() && all_submitted && self.outstanding.is_empty() {
                return Ok(match self.left.take() {
                    Some(why) => End::Left(why),
                    None => End::Done,
                });
            }
            tokio::select! {
                () = interrupt.wait() => return Ok(End::Interrupted),
                why = &mut stopped => return Ok(End::Stopped(why)),
                answer = async {
                    match submission.as_mut() {
                        Some(sent) => sent.await,
                        None => std::future::pending().await,
                    }
                } => {
                    submission = None;
                    match answer {
                        Ok(Ok(submitted)) => self.submitted(submitted),
                        Ok(Err(error)) => self.refused(error),
                        // The supervisor is gone; `stopped` has the reason.
                        Err(_) => self.left = Some("the engine stopped".into()),
                    }
                }
                // A reader that does not keep up stops this stream; the log keeps the messages.
                Some(messages) = messages.recv(), if self.report.has_room() => {
                    for message in messages {
                        self.handle(&message).await;
                    }
                }
                handed_over = self.report.hand_over() => handed_over?,
                Ok(()) = changes.changed(), if self.full.is_some() => {
                    let waiting = self.pipeline.queries().queue_depth().waiting;
                    if self.full.is_some_and(|full| waiting == 0 || waiting + self.batch_files <= full) {
                        self.full = None;
                    }
                }
                Ok(()) = provider.changed() => {
                    let state = provider.borrow_and_update().clone();
                    self.report_provider(&state);
                }
                _ = frames.tick() => {
                    self.report.tick(self.waiting.as_deref(), self.left_to_do());
                    self.report_recovery(STEADY);
                }
            }
        }
    }

    /// Reports the state of the provider, if it is new to the person.
    fn report_provider(&mut self, state: &ProviderState) {
        self.waiting = match state {
            ProviderState::Away { since, .. } => Some(format!(
                "waiting for the model server since {} (Ctrl-C stops; the next run goes on)",
                terminal::moment(*since)
            )),
            state => state.waiting(),
        };
        let trouble = match (&self.waiting, state) {
            (Some(waiting), ProviderState::Away { message, .. }) => Some(format!("{waiting}: {message}")),
            (waiting, _) => waiting.clone().or_else(|| state.gave_up()),
        };
        self.report_trouble(trouble);
    }

    /// Reports trouble with the provider once, even if the provider recovers for short times.
    fn report_trouble(&mut self, trouble: Option<String>) {
        self.back = (trouble.is_none() && self.trouble.is_some()).then(Instant::now);
        if let Some(sentence) = trouble
            && self.trouble.as_ref() != Some(&sentence)
        {
            self.report.say(&sentence);
            self.trouble = Some(sentence);
        }
    }

    /// Reports that the provider has been answering again for `since`.
    fn report_recovery(&mut self, since: Duration) {
        if self.back.is_some_and(|it| it.elapsed() >= since) {
            (self.trouble, self.back) = (None, None);
            self.report.say("the provider answers");
        }
    }

    /// Submits the next files, if there are any.
    fn next_batch(&mut self) -> Option<Request<BatchSupervisor, SubmitBatch>> {
        if self.left.is_some() || self.full.is_some() || self.queue.is_empty() {
            return None;
        }
        self.submitting = self.queue.drain(..self.batch_files.min(self.queue.len())).collect();
        self.batch_files = (self.batch_files * 2).min(BATCH_FILES.1);
        let began = self.began;
        let files = self
            .submitting
            .iter()
            .map(|found| Source::InSubmission { path: found.path.clone(), began })
            .collect();
        let submit = SubmitBatch { owner: self.owner.clone(), files, force: self.force };
        Some(self.pipeline.supervisor.send(submit))
    }

    /// Handles the answer to a submission.
    fn submitted(&mut self, submitted: Submitted) {
        let files = &self.pipeline.files;
        for (found, admission) in std::mem::take(&mut self.submitting).into_iter().zip(submitted.files) {
            match admission {
                Admission::Accepted(id) => match self.early.remove(&id) {
                    Some(outcome) => self.report.ended(Some(id), &outcome),
                    None => {
                        self.outstanding.insert(id, Some(found.path));
                    }
                },
                // It was resumed when the run began, or another path of this run has the same bytes.
                Admission::Unfinished(id) => match self.early.remove(&id) {
                    Some(outcome) => self.report.ended(Some(id), &outcome),
                    // It ended between its classification and this answer.
                    None if self.reported.contains_key(&id) => {}
                    None => {
                        self.outstanding.insert(id, Some(found.path));
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
                    let outcome = Outcome::of(&upload, files, Some(&found.path), earlier);
                    self.report.ended(Some(upload.id), &outcome);
                }
                Admission::Refused(failure) => {
                    self.report.ended(None, &Outcome::refused(found.path, failure));
                }
                Admission::NotMedia(failure) if found.is_meant() => {
                    self.report.ended(None, &Outcome::refused(found.path, failure));
                }
                Admission::NotMedia(_) => self.report.not_media(),
            }
        }
    }

    /// Handles a refused submission: its files wait for later in this run, or for the next run.
    fn refused(&mut self, error: Error) {
        for found in std::mem::take(&mut self.submitting).into_iter().rev() {
            self.queue.push_front(found);
        }
        match error {
            Error::QueueFull { .. } if !self.pipeline.queries().queue_depth().is_empty() => {
                self.full = Some(self.pipeline.queries().queue_depth().waiting);
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
                        self.report.moves(id, path, payload.stage);
                    }
                    _ => self.report.rests(id),
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
        let Ok(unfinished) = self.pipeline.queries().unfinished(self.owner.clone()).await else {
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
        let Ok(upload) = self.pipeline.queries().upload(self.owner.clone(), id).await else {
            // A newer upload of the same file replaced it, or the store failed, which ends the run.
            self.report.rests(id);
            self.outstanding.remove(&id);
            return;
        };
        let known = self.outstanding.remove(&id);
        let at = known.as_ref().and_then(Option::as_deref);
        let outcome = Outcome::of(&upload, &self.pipeline.files, at, false);
        if known.is_some() {
            self.report_recovery(Duration::ZERO);
            self.reported.insert(id, (outcome.path.clone(), false));
            self.report.ended(Some(id), &outcome);
        } else if !self.reported.contains_key(&id) {
            self.early.insert(id, outcome);
        }
    }

    /// Number of files without an outcome.
    fn left_to_do(&self) -> usize {
        self.outstanding.len() + self.queue.len() + self.submitting.len()
    }

    /// Resumes a paused batch, since its files are to be processed now.
    fn resume(&mut self, batch: BatchId) {
        if self.resumed.insert(batch) {
            self.pipeline.supervisor.do_send(ResumeBatch { owner: self.owner.clone(), batch });
        }
    }

    /// Stops the engine, reports the remaining files, and returns the exit code.
    async fn close(mut self, end: End, resting: usize, next: &NextSteps) -> u8 {
        if !matches!(end, End::Stopped(_)) {
            // No upload ends after the drain, so the outcomes below are final.
            let _ = self.pipeline.supervisor.send(Drain(Duration::ZERO)).await;
            self.report_missed().await;
        }
        let Self { pipeline, mut report, queue, submitting, outstanding, .. } = self;
        pipeline.stop(Duration::ZERO).await;
        // Resumed uploads without a path are among the files that were not submitted.
        let mut left: Vec<PathBuf> = outstanding.into_values().flatten().collect();
        left.sort();
        left.extend(submitting.into_iter().chain(queue).map(|found| found.path));
        for path in left {
            report.ended(None, &Outcome::pending(path));
        }
        match &end {
            End::Done | End::Interrupted => {}
            End::Left(why) => report.say(why),
            End::Stopped(why) => report.say(&why.to_string()),
        }
        let limit = matches!(end, End::Interrupted).then_some(LAST_LINES);
        match (report.summary(resting, limit, next).await, end) {
            (_, End::Interrupted) => 130,
            (_, End::Left(_) | End::Stopped(_)) => 1,
            (Ok(tally), End::Done) => u8::from(tally.failed > 0 || tally.refused > 0 || tally.hidden > 0),
            (Err(error), End::Done) => match End::unheard(error) {
                End::Left(why) => {
                    let _ = writeln!(io::stderr(), "mediamill: {why}");
                    1
                }
                End::Done | End::Interrupted | End::Stopped(_) => 130,
            },
        }
    }
}
