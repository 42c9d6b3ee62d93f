//! `mediamill process`: the main job. Works through files and folders in place.

mod outcome;
mod report;
mod walk;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    path::PathBuf,
    time::Duration,
};

use indicatif::MultiProgress;
use mediamill_actors::{
    analysis::ProviderState,
    batch_supervisor::{ResumeBatch, SubmitBatch, Submitted},
    config::Config,
    error::Error,
    event::What,
    id::{BatchId, Owner, UploadId},
    intake::{Admission, Source},
    pipeline::{Options, Pipeline, Stopped},
    store::{Change, Cursor, Scope},
    upload::{Failure, FailureKind, Stage, Upload},
};

use super::Interrupt;

use self::{
    outcome::Outcome,
    report::Report,
    walk::{Found, Walked},
};

/// Files of the first batch and of the largest; each is twice as large as the one before, so that work begins at once.
const BATCH_FILES: (usize, usize) = (32, 512);
/// How often bars move.
const FRAME: Duration = Duration::from_millis(200);

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

impl Process {
    /// Answers with the exit code.
    pub(crate) async fn run(self, config: Config, bars: &MultiProgress) -> Result<u8, String> {
        let data_dir = config.store.data_dir.clone();
        let roots = walk::canonical(&self.paths, &data_dir)?;
        let mut interrupt = Interrupt::listen();
        let options = Options { scope: Scope::Below(roots.clone()), ..Options::default() };
        let pipeline = Pipeline::start_with(config, options).await.map_err(|error| error.to_string())?;
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
        let walked = tokio::task::spawn_blocking(move || walk::walk(&roots, &data_dir));
        let walked = tokio::select! {
            walked = walked => walked.map_err(|error| format!("cannot walk the folders: {error}"))?,
            () = interrupt.wait() => {
                pipeline.stop(Duration::ZERO).await;
                return Ok(130);
            }
        };
        let resting = pipeline.recovered.resting;
        let mut run = Run::new(pipeline, &self, walked, bars);
        let end = match run.to_the_end(interrupt).await {
            Ok(end) => end,
            // Whoever read the results is gone.
            Err(_) => End::Interrupted,
        };
        Ok(run.close(end, resting).await)
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
    anew: bool,
    report: Report,
    queue: VecDeque<Found>,
    unreadable: Vec<(PathBuf, String)>,
    /// Files of the batch that is being submitted.
    submitting: Vec<Found>,
    batch_files: usize,
    /// Uploads that are to end before the run does.
    outstanding: HashMap<UploadId, Option<PathBuf>>,
    /// Uploads that ended before their submission was answered.
    early: HashMap<UploadId, Outcome>,
    /// Paused batches that were told to go on.
    resumed: HashSet<BatchId>,
    cursor: Cursor,
    /// Why no more files are submitted.
    left: Option<String>,
    waiting: Option<String>,
}

impl Run {
    fn new(pipeline: Pipeline, process: &Process, walked: Walked, bars: &MultiProgress) -> Self {
        let report = Report::new(process.json, walked.files.len() + walked.unreadable.len(), bars);
        Self {
            cursor: pipeline.store().newest(),
            pipeline,
            owner: Owner::local(),
            anew: process.force,
            report,
            queue: walked.files.into(),
            unreadable: walked.unreadable,
            submitting: Vec::new(),
            batch_files: BATCH_FILES.0,
            outstanding: HashMap::new(),
            early: HashMap::new(),
            resumed: HashSet::new(),
            left: None,
            waiting: None,
        }
    }

    /// # Errors
    /// Standard output is gone.
    async fn to_the_end(&mut self, mut interrupt: Interrupt) -> io::Result<End> {
        for (path, message) in std::mem::take(&mut self.unreadable) {
            let failure = Failure::new(0, Stage::Queued, FailureKind::FileUnreadable, message);
            self.report.ended(None, &Outcome::refused(path, failure))?;
        }
        for (batch, upload) in self.pipeline.store().taken_up(&self.owner) {
            self.resume(batch);
            self.outstanding.insert(upload, None);
        }
        let store = self.pipeline.store().clone();
        let (mut changes, mut provider) = (store.watch(), self.pipeline.provider());
        let mut stopped = std::pin::pin!(self.pipeline.stopped());
        let mut frames = tokio::time::interval(FRAME);
        let mut submission = None;
        loop {
            if submission.is_none() {
                submission = self.next_batch().map(Box::pin);
            }
            if submission.is_none() && self.outstanding.is_empty() {
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
                        Ok(Ok(submitted)) => self.submitted(submitted)?,
                        Ok(Err(error)) => self.turned_back(error).await,
                        // The supervisor is gone, and why is told next.
                        Err(_) => self.left = Some("the engine stopped".into()),
                    }
                }
                Ok(()) = changes.changed() => self.read_log().await?,
                Ok(()) = provider.changed() => {
                    self.waiting = provider.borrow_and_update().waiting();
                    match &self.waiting {
                        Some(waiting) => self.report.say(waiting),
                        None => self.report.say("the provider answers"),
                    }
                }
                _ = frames.tick() => self.draw().await,
            }
        }
    }

    /// Begins to submit the next files, if there are any.
    fn next_batch(
        &mut self,
    ) -> Option<actix::prelude::Request<mediamill_actors::batch_supervisor::BatchSupervisor, SubmitBatch>>
    {
        if self.left.is_some() || self.queue.is_empty() {
            return None;
        }
        self.submitting = self.queue.drain(..self.batch_files.min(self.queue.len())).collect();
        self.batch_files = (self.batch_files * 2).min(BATCH_FILES.1);
        let files = self.submitting.iter().map(|found| Source::InPlace(found.path.clone())).collect();
        let submit = SubmitBatch { owner: self.owner.clone(), files, anew: self.anew };
        Some(self.pipeline.supervisor.send(submit))
    }

    fn submitted(&mut self, submitted: Submitted) -> io::Result<()> {
        let files = &self.pipeline.files;
        for (found, admission) in std::mem::take(&mut self.submitting).into_iter().zip(submitted.files) {
            match admission {
                Admission::Accepted(id) => match self.early.remove(&id) {
                    Some(outcome) => self.report.ended(Some(id), &outcome)?,
                    None => {
                        self.outstanding.insert(id, Some(found.path));
                    }
                },
                // It was taken up when the run began, or stands for another path of this run.
                Admission::Unfinished(id) => {
                    self.outstanding.insert(id, Some(found.path));
                }
                Admission::Done(upload) => {
                    self.report.ended(None, &Outcome::of(&upload, files, Some(&found.path), true))?;
                }
                Admission::Refused(failure) => {
                    self.report.ended(None, &Outcome::refused(found.path, failure))?
                }
                Admission::NotMedia(failure) if found.named => {
                    self.report.ended(None, &Outcome::refused(found.path, failure))?;
                }
                Admission::NotMedia(_) => self.report.not_media(),
            }
        }
        Ok(())
    }

    /// A batch was not taken: it is kept for later in this run, or for the next one.
    async fn turned_back(&mut self, error: Error) {
        for found in std::mem::take(&mut self.submitting).into_iter().rev() {
            self.queue.push_front(found);
        }
        match error {
            Error::QueueFull { .. } if self.pipeline.store().load() != (0, 0) => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            error => self.left = Some(error.to_string()),
        }
    }

    async fn read_log(&mut self) -> io::Result<()> {
        loop {
            let owner = self.owner.clone();
            let wanted = move |of: &Owner| *of == owner;
            let (changes, cursor) = match self.pipeline.store().changes_after(self.cursor, wanted, 256).await
            {
                Ok(read) => read,
                Err(error) => {
                    log::warn!("cannot read what happened, the next change tries again: {error}");
                    return Ok(());
                }
            };
            let done = changes.len() < 256;
            for change in changes {
                self.happened(change)?;
            }
            self.cursor = cursor;
            if done {
                return Ok(());
            }
        }
    }

    fn happened(&mut self, change: Change) -> io::Result<()> {
        let Some(id) = change.event.upload_id else { return Ok(()) };
        match change.event.what {
            What::UploadCompleted { .. }
            | What::UploadFailed { last: true, .. }
            | What::UploadInterrupted { last: true, .. }
            | What::UploadCancelled => {
                let Some(upload) = change.upload else { return Ok(()) };
                let outcome = |at: Option<&PathBuf>| {
                    Outcome::of(&upload, &self.pipeline.files, at.map(PathBuf::as_path), false)
                };
                match self.outstanding.remove(&id) {
                    Some(at) => self.report.ended(Some(id), &outcome(at.as_ref())),
                    None => {
                        let outcome = outcome(None);
                        self.early.insert(id, outcome);
                        Ok(())
                    }
                }
            }
            // A newer upload of the same file took its place.
            What::UploadDeleted { .. } => {
                self.outstanding.remove(&id);
                self.report.rests(id);
                Ok(())
            }
            What::UploadFailed { .. } | What::UploadHandedBack { .. } | What::UploadInterrupted { .. } => {
                self.report.rests(id);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A batch that was paused goes on: whoever runs this command wants it done.
    fn resume(&mut self, batch: BatchId) {
        if self.resumed.insert(batch) {
            self.pipeline.supervisor.do_send(ResumeBatch { owner: self.owner.clone(), batch });
        }
    }

    async fn draw(&mut self) {
        let Ok(active) = self.pipeline.store().active().await else { return };
        for (id, entry) in active {
            if let Some(Some(path)) = self.outstanding.get(&id) {
                self.report.moves(id, path, entry.stage.as_str(), 0);
            }
        }
        self.report.tick(self.waiting.as_deref(), None);
    }

    /// Stops the engine, tells the rest, and answers with the exit code.
    async fn close(self, end: End, resting: usize) -> u8 {
        let Self { pipeline, mut report, queue, submitting, outstanding, owner, .. } = self;
        let store = pipeline.store().clone();
        let mut unfinished: Vec<(UploadId, Option<PathBuf>)> = outstanding.into_iter().collect();
        unfinished.sort();
        let mut records: HashMap<UploadId, Upload> = HashMap::new();
        let stopped = matches!(end, End::Stopped(_));
        if !stopped {
            for (id, at) in &unfinished {
                if at.is_none()
                    && let Ok(upload) = store.upload(owner.clone(), *id).await
                {
                    records.insert(*id, upload);
                }
            }
        }
        drop(store);
        if !stopped {
            pipeline.stop(Duration::ZERO).await;
        }
        let left = unfinished
            .into_iter()
            .filter_map(|(id, at)| at.or_else(|| Some(records.get(&id)?.place()?.to_owned())));
        for path in left.chain(submitting.into_iter().chain(queue).map(|found| found.path)) {
            if report.ended(None, &Outcome::pending(path)).is_err() {
                break;
            }
        }
        match &end {
            End::Done | End::Interrupted => {}
            End::Left(why) => report.say(why),
            End::Stopped(why) => report.say(&why.to_string()),
        }
        let tally = report.summary(resting);
        match end {
            End::Interrupted => 130,
            End::Left(_) | End::Stopped(_) => 1,
            End::Done => u8::from(tally.failed > 0),
        }
    }
}
