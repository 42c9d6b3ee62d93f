//! `mediamill process`: the main job. Works through files and folders in place.

mod outcome;
mod output;
mod report;
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
    config::Config,
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

use super::Interrupt;

use self::{
    outcome::Outcome,
    report::Report,
    subscriber::Subscriber,
    walk::{Found, Unreadable, Walked},
};

/// Files of the first batch and of the largest; each is twice as large as the one before, so that work begins at once.
const BATCH_FILES: (usize, usize) = (32, 512);
/// How often bars move.
const FRAME: Duration = Duration::from_millis(200);
/// How long a provider must be back before that is said.
const STEADY: Duration = Duration::from_secs(2);
/// How long a reader of the results that stands still is waited for after Ctrl-C.
const LAST_LINES: Duration = Duration::from_millis(300);

/// What `process` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Process {
    /// Files and folders; they are only read
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print one JSON object for each file on standard output
    #[arg(long)]
    json: bool,
    /// Do again what an earlier run has done
    #[arg(long)]
    force: bool,
}

/// How a run ended.
enum End {
    /// Everything ended.
    Done,
    /// Some files were left, and the sentence says why.
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
            // Whoever read the results has seen enough.
            io::ErrorKind::BrokenPipe => Self::Interrupted,
            _ => Self::Left(format!(
                "cannot write the results: {error}; what was done is kept, and the same command goes on"
            )),
        }
    }
}

impl Process {
    /// Answers with the exit code.
    pub(crate) async fn run(self, config: Config, bars: &MultiProgress) -> Result<u8, String> {
        let data_dir = config.store.data_dir.clone();
        let roots = walk::canonical(&self.paths, &data_dir)?;
        let mut interrupt = Interrupt::listen();
        let options = Options { scope: Scope::Below(roots.clone()), ..Options::default() };
        // What fails from here on, also by what an earlier run left, has had its attempts in this run.
        let began = options.clock.now();
        let pipeline = Pipeline::start_with(config, options).await.map_err(|error| error.to_string())?;
        let taken_up =
            pipeline.queries().unfinished(Owner::local()).await.map_err(|error| error.to_string())?;
        let told = match subscribe(&pipeline).await {
            Ok(told) => told,
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
        let looking = bars.add(ProgressBar::new_spinner().with_message("looking for files"));
        looking.enable_steady_tick(FRAME);
        let walked = tokio::task::spawn_blocking(move || walk::walk(&roots, &data_dir));
        let walked = tokio::select! {
            walked = walked => walked.map_err(|error| format!("cannot walk the folders: {error}"))?,
            () = interrupt.wait() => {
                pipeline.stop(Duration::ZERO).await;
                return Ok(130);
            }
        };
        looking.finish_and_clear();
        let resting = pipeline.recovered.resting;
        let mut run = Run::new(pipeline, &self, began, walked, bars)
            .map_err(|error| format!("cannot print what becomes of the files: {error}"))?;
        let end = run.go_on_to_the_end(taken_up, told, interrupt).await.unwrap_or_else(End::unheard);
        Ok(run.close(end, resting).await)
    }
}

/// What the Publisher tells of every upload of this command's owner.
async fn subscribe(pipeline: &Pipeline) -> Result<mpsc::Receiver<Vec<Arc<Message>>>, String> {
    let (subscriber, told) = Subscriber::listen();
    let subscribe = Subscribe {
        owner: Owner::local(),
        to: subscriber.recipient(),
        uploads: Uploads::All,
        after_seq: None,
    };
    match pipeline.publisher.send(subscribe).await {
        Ok(Ok(_)) => Ok(told),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(pipeline.stopped().await.to_string()),
    }
}

/// Waits until the provider was asked for the first time.
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
    /// Uploads that are to end before the run does.
    outstanding: HashMap<UploadId, Option<PathBuf>>,
    /// Uploads that ended before their submission was answered.
    early: HashMap<UploadId, Outcome>,
    /// Uploads whose end was reported: for which file, and whether an earlier run had completed it.
    reported: HashMap<UploadId, (PathBuf, bool)>,
    /// Paused batches that were told to go on.
    resumed: HashSet<BatchId>,
    /// So many uploads waited when no more were taken; the rest of the files waits until there are fewer.
    full: Option<usize>,
    /// Why no more files are submitted.
    left: Option<String>,
    waiting: Option<String>,
    /// What was said last of a provider that does not answer.
    told: Option<String>,
    /// When it was back, if that was not said yet.
    back: Option<Instant>,
}

impl Run {
    fn new(
        pipeline: Pipeline,
        process: &Process,
        began: Timestamp,
        walked: Walked,
        bars: &MultiProgress,
    ) -> io::Result<Self> {
        let report = Report::new(process.json, walked.files.len() + walked.unreadable.len(), bars)?;
        Ok(Self {
            pipeline,
            owner: Owner::local(),
            force: process.force,
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
            told: None,
            back: None,
        })
    }

    /// # Errors
    /// Standard output cannot be written.
    async fn go_on_to_the_end(
        &mut self,
        taken_up: Vec<(BatchId, UploadId)>,
        mut told: mpsc::Receiver<Vec<Arc<Message>>>,
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
        // Some may have ended before anything was told.
        self.untold().await;
        let mut provider = self.pipeline.provider();
        self.waiting = provider.borrow_and_update().waiting();
        self.tell(self.waiting.clone());
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
                        Ok(Err(error)) => self.turned_back(error),
                        // The supervisor is gone, and why is told next.
                        Err(_) => self.left = Some("the engine stopped".into()),
                    }
                }
                // While the reader of the results does not keep up, nothing is asked for; the log keeps it.
                Some(messages) = told.recv(), if self.report.has_room() => {
                    for message in messages {
                        self.happened(&message).await;
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
                    self.waiting = state.waiting();
                    let waiting = self.waiting.as_ref();
                    let waiting = waiting.map(|why| format!("{why} (it is waited for; Ctrl-C leaves the rest for the next run)"));
                    self.tell(waiting.or_else(|| state.gave_up()));
                }
                _ = frames.tick() => {
                    self.report.tick(self.waiting.as_deref(), self.left_to_do());
                    self.tell_back(STEADY);
                }
            }
        }
    }

    /// Says what stands in the way, once: a provider that asks to be called later is back for a moment, again and again.
    fn tell(&mut self, trouble: Option<String>) {
        self.back = (trouble.is_none() && self.told.is_some()).then(Instant::now);
        if let Some(sentence) = trouble
            && self.told.as_ref() != Some(&sentence)
        {
            self.report.say(&sentence);
            self.told = Some(sentence);
        }
    }

    fn tell_back(&mut self, since: Duration) {
        if self.back.is_some_and(|it| it.elapsed() >= since) {
            (self.told, self.back) = (None, None);
            self.report.say("the provider answers");
        }
    }

    /// Begins to submit the next files, if there are any.
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
                // It was taken up when the run began, or stands for another path of this run.
                Admission::Unfinished(id) => match self.early.remove(&id) {
                    Some(outcome) => self.report.ended(Some(id), &outcome),
                    // It ended between the look and this answer.
                    None if self.reported.contains_key(&id) => {}
                    None => {
                        self.outstanding.insert(id, Some(found.path));
                    }
                },
                // It was taken up, and ended before it was looked at.
                Admission::Done(upload) | Admission::Failed(upload)
                    if self.reported.get(&upload.id).is_some_and(|(path, _)| *path == found.path) => {}
                Admission::Done(upload) | Admission::Failed(upload) => {
                    // Or what is told of its end is still on the way.
                    let taken_up = upload.place() == Some(found.path.as_path())
                        && self.outstanding.remove(&upload.id).is_some();
                    let earlier = upload.status == Status::Completed && !taken_up;
                    // A copy of a file is told as that was.
                    let reported = self.reported.entry(upload.id);
                    let (_, earlier) = *reported.or_insert_with(|| (found.path.clone(), earlier));
                    let outcome = Outcome::of(&upload, files, Some(&found.path), earlier);
                    self.report.ended(Some(upload.id), &outcome);
                }
                Admission::Refused(failure) => {
                    self.report.ended(None, &Outcome::refused(found.path, failure));
                }
                Admission::NotMedia(failure) if found.named => {
                    self.report.ended(None, &Outcome::refused(found.path, failure));
                }
                Admission::NotMedia(_) => self.report.not_media(),
            }
        }
    }

    /// A batch was not taken: it is kept for later in this run, or for the next one.
    fn turned_back(&mut self, error: Error) {
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

    async fn happened(&mut self, message: &Message) {
        match message {
            Message::UploadProgress { payload, .. } if !payload.status.is_terminal() => {
                let id = payload.upload_id;
                match self.outstanding.get(&id) {
                    Some(Some(path)) if payload.status != Status::Pending => {
                        self.report.moves(id, path, payload.stage.as_str(), payload.progress_percent);
                    }
                    _ => self.report.rests(id),
                }
            }
            Message::UploadCompleted { upload_id, .. } | Message::UploadFailed { upload_id, .. } => {
                self.ended(*upload_id).await;
            }
            // This run fell behind what the log keeps.
            Message::Resumed { snapshot: true, .. } => self.untold().await,
            _ => {}
        }
    }

    /// Looks for uploads that ended without that being told.
    async fn untold(&mut self) {
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

    async fn ended(&mut self, id: UploadId) {
        let Ok(upload) = self.pipeline.queries().upload(self.owner.clone(), id).await else {
            // A newer upload of the same file took its place, or the store broke, which is told next.
            self.report.rests(id);
            self.outstanding.remove(&id);
            return;
        };
        let known = self.outstanding.remove(&id);
        let at = known.as_ref().and_then(Option::as_deref);
        let outcome = Outcome::of(&upload, &self.pipeline.files, at, false);
        if known.is_some() {
            self.tell_back(Duration::ZERO);
            self.reported.insert(id, (outcome.path.clone(), false));
            self.report.ended(Some(id), &outcome);
        } else if !self.reported.contains_key(&id) {
            self.early.insert(id, outcome);
        }
    }

    /// Files that are still to be worked on or looked at.
    fn left_to_do(&self) -> usize {
        self.outstanding.len() + self.queue.len() + self.submitting.len()
    }

    /// A batch that was paused goes on: whoever runs this command wants it done.
    fn resume(&mut self, batch: BatchId) {
        if self.resumed.insert(batch) {
            self.pipeline.supervisor.do_send(ResumeBatch { owner: self.owner.clone(), batch });
        }
    }

    /// Stops the engine, tells the rest, and answers with the exit code.
    async fn close(mut self, end: End, resting: usize) -> u8 {
        if !matches!(end, End::Stopped(_)) {
            // Nothing ends any more after this, so that what is told of each file is how it stays.
            let _ = self.pipeline.supervisor.send(Drain(Duration::ZERO)).await;
            self.untold().await;
        }
        let Self { pipeline, mut report, queue, submitting, outstanding, .. } = self;
        pipeline.stop(Duration::ZERO).await;
        // What was taken up and not looked at yet is among the files that were not submitted.
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
        match (report.summary(resting, limit).await, end) {
            (_, End::Interrupted) => 130,
            (_, End::Left(_) | End::Stopped(_)) => 1,
            (Ok(tally), End::Done) => u8::from(tally.failed > 0 || tally.hidden > 0),
            (Err(error), End::Done) => match End::unheard(error) {
                End::Left(why) => {
                    let _ = writeln!(io::stderr(), "mediamill: {why}");
                    1
                }
                _ => 130,
            },
        }
    }
}
