//! `mediamill process` and `mediamill resume`: process files in place, in this process or in the program that
//! holds the data folder.

mod events;
mod next_steps;
mod outcome;
mod output;
mod remote;
mod report;
mod run;
mod screen;
mod subscriber;
mod upload;
mod walk;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar};
use mediamill::Config;
use mediamill_actors::{batch_supervisor::Drain, pipeline::Pipeline, store::Scope};
use tokio::sync::{mpsc, watch};

use super::{
    Interrupt, Shared,
    client::Client,
    engine::Engine,
    link::{About, Link, Role, Wanted},
    place::{Place, Started},
    raw_path::RawPath,
};

pub(super) use self::{
    events::{End, Event},
    run::{AHEAD, Run, Task},
};
use self::{
    next_steps::NextSteps,
    report::{Display, Report},
};

/// Refresh interval of the bars.
const FRAME: Duration = Duration::from_millis(200);
/// Longest wait for a slow reader of the results after Ctrl-C.
const LAST_LINES: Duration = Duration::from_millis(300);

/// The arguments of `process`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mediamill process ~/Photos
  mediamill process ~/Photos/2019 IMG_1.jpg
  mediamill --provider ollama process ~/Photos
  mediamill process --json ~/Photos | jq -r .description

While another mediamill holds the data folder, such as `mediamill serve`, it
does the work and this command shows it; Ctrl-C ends the display then, and the
work goes on. With --server the files are sent to that server.

Exit codes: 0 nothing failed; 1 a file failed, was refused or was left; 2 wrong
usage, configuration or provider; 130 interrupted.")]
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

/// The arguments of `resume` without a batch.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) json: bool,
}

/// What the person asked for.
struct Order {
    /// As given.
    paths: Vec<PathBuf>,
    json: bool,
    follow: bool,
    force: bool,
}

impl Process {
    /// Runs the command and returns its exit code.
    pub(crate) async fn run(
        self,
        config: Config,
        shared: &Shared,
        bars: &MultiProgress,
    ) -> Result<u8, String> {
        let Self { paths, json, follow, force } = self;
        Order { paths, json, follow, force }.run(config, shared, bars).await
    }
}

impl Unfinished {
    /// Goes on with all unfinished uploads.
    pub(super) async fn run(
        self,
        config: Config,
        shared: &Shared,
        bars: &MultiProgress,
    ) -> Result<u8, String> {
        super::must_exist(&config.engine)?;
        Order { paths: Vec::new(), json: self.json, follow: false, force: false }
            .run(config, shared, bars)
            .await
    }
}

impl Order {
    async fn run(self, config: Config, shared: &Shared, bars: &MultiProgress) -> Result<u8, String> {
        let interrupt = Interrupt::listen();
        match shared.place(&config).await? {
            Place::Server(client) => upload::run(self, client, shared, interrupt, bars).await,
            Place::Holder(client, about) => {
                self.run_as_guest(client, &about, &config, shared, interrupt, bars).await
            }
            Place::Folder => {
                let data_dir = config.engine.store.data_dir.clone();
                let roots = walk::canonical(&self.paths, &data_dir)?;
                // A resumed run works on all that is unfinished.
                let scope = if roots.is_empty() { Scope::All } else { Scope::Below(roots.clone()) };
                match shared.start(&config, scope).await? {
                    Started::Here(pipeline) => {
                        self.alone(*pipeline, roots, config, shared, interrupt, bars).await
                    }
                    Started::Elsewhere(client, about) => {
                        self.run_as_guest(client, &about, &config, shared, interrupt, bars).await
                    }
                }
            }
        }
    }

    /// Works in this process, which holds the data folder meanwhile.
    async fn alone(
        self,
        pipeline: Pipeline,
        roots: Vec<PathBuf>,
        config: Config,
        shared: &Shared,
        interrupt: Interrupt,
        bars: &MultiProgress,
    ) -> Result<u8, String> {
        let data_dir = &config.engine.store.data_dir;
        let next = NextSteps::new(shared, &self.paths, &roots);
        let next = next.on(data_dir, config.engine.provider.kind.name(), false);
        let link = shared.link(&pipeline, &config, Role::Process);
        let resting = pipeline.recovered.resting;
        let engine = Engine::of(&pipeline);
        let task = Task {
            owner: shared.owner.clone(),
            roots,
            follow: self.follow,
            force: self.force,
            is_guest: false,
        };
        let (reader, events) = mpsc::channel(AHEAD);
        let (unheard, stop) = watch::channel(None);
        let (mut run, mut interrupted) = (Run::new(engine, task, reader.clone()), interrupt.clone());
        let work = actix_rt::spawn(async move {
            let guests = link.as_ref().map(Link::guests);
            let end = tokio::select! {
                end = async {
                    let end = run.work(interrupted.clone()).await;
                    tokio::select! {
                        () = run.wait_for(guests) => end,
                        () = interrupted.wait() => End::Interrupted,
                    }
                } => end,
                end = told(stop) => end,
            };
            if !matches!(end, End::Stopped(_)) {
                // No upload ends after the drain, so the outcomes of the rest are final.
                let _ = pipeline.supervisor.send(Drain(Duration::ZERO)).await;
            }
            let rest = run.close(end, resting).await;
            if let Some(link) = link {
                link.close().await;
            }
            pipeline.stop(Duration::ZERO).await;
            for event in rest {
                if reader.send(event).await.is_err() {
                    return;
                }
            }
        });
        let code = self.show(events, unheard, interrupt, next, shared, bars).await;
        let _ = work.await;
        code
    }

    /// Lets the program that holds the data folder do the work, and shows it.
    async fn run_as_guest(
        self,
        client: Client,
        about: &About,
        config: &Config,
        shared: &Shared,
        interrupt: Interrupt,
        bars: &MultiProgress,
    ) -> Result<u8, String> {
        shared.must_suit(about)?;
        let data_dir = &config.engine.store.data_dir;
        let roots = walk::canonical(&self.paths, data_dir)?;
        let next = NextSteps::new(shared, &self.paths, &roots).on(data_dir, &about.provider, true);
        let (reader, events) = mpsc::channel(AHEAD);
        let (unheard, stop) = watch::channel(None);
        let roots = roots.into_iter().map(RawPath).collect();
        let wanted = Wanted { paths: roots, follow: self.follow, force: self.force };
        let interrupted = interrupt.clone();
        let work = actix_rt::spawn(async move {
            remote::follow(&client, &wanted, &reader, interrupted, told(stop)).await;
        });
        let code = self.show(events, unheard, interrupt, next, shared, bars).await;
        let _ = work.await;
        code
    }

    /// Shows the events of a run until its end, and returns the exit code.
    async fn show(
        &self,
        mut events: mpsc::Receiver<Event>,
        unheard: watch::Sender<Option<End>>,
        mut interrupt: Interrupt,
        next: NextSteps,
        shared: &Shared,
        bars: &MultiProgress,
    ) -> Result<u8, String> {
        let looking = bars.add(ProgressBar::new_spinner().with_message("looking for files"));
        looking.enable_steady_tick(FRAME);
        let display = Display { json: self.json, verbosity: shared.verbosity, roots: next.roots.clone() };
        let mut report = Report::new(display, bars).map_err(|error| format!("cannot print: {error}"))?;
        let mut frames = tokio::time::interval(FRAME);
        let (mut heard, mut is_interrupted) = (Ok(()), false);
        let (mut end, resting) = loop {
            tokio::select! {
                event = events.recv(), if report.has_room() || is_interrupted || heard.is_err() => match event {
                    Some(Event::Over { end, resting }) => break (end, resting),
                    Some(event) => {
                        if matches!(event, Event::Found { .. }) {
                            looking.finish_and_clear();
                        }
                        report.take(event);
                    }
                    None => break (End::Stopped("the run ended without an answer".to_owned()), 0),
                },
                handed_over = report.hand_over(), if heard.is_ok() => if let Err(error) = handed_over {
                    let _ = unheard.send(Some(end_of_output(&error)));
                    heard = Err(error);
                },
                // What is left is taken then, however slow the reader of the results is.
                () = interrupt.wait(), if !is_interrupted => is_interrupted = true,
                _ = frames.tick() => report.tick(),
            }
        };
        looking.finish_and_clear();
        if let Err(error) = &heard {
            end = end_of_output(error);
        }
        match &end {
            End::Refused(why) => return Err(why.clone()),
            End::Left(why) | End::Stopped(why) => report.say(why),
            End::Interrupted if next.is_guest && heard.is_ok() => report.say(&format!(
                "the program that holds the data folder goes on; `mediamill{} status` shows it, and \
                 `cancel` stops it",
                next.options
            )),
            End::Done | End::Interrupted => {}
        }
        let limit = (end == End::Interrupted || heard.is_err()).then_some(LAST_LINES);
        Ok(match (report.summary(resting, limit, &next).await, end) {
            (_, End::Interrupted) => 130,
            (_, End::Left(_) | End::Stopped(_) | End::Refused(_)) => 1,
            (Ok(tally), End::Done) => u8::from(tally.failed > 0 || tally.refused > 0 || tally.hidden > 0),
            (Err(error), End::Done) => match end_of_output(&error) {
                End::Left(why) => {
                    let _ = writeln!(io::stderr(), "mediamill: {why}");
                    1
                }
                _ => 130,
            },
        })
    }
}

/// The end of a run whose results cannot be written.
fn end_of_output(error: &io::Error) -> End {
    match error.kind() {
        // The reader of the results has seen enough.
        io::ErrorKind::BrokenPipe => End::Interrupted,
        _ => End::Left(format!(
            "cannot write the results: {error}; the work so far is kept, and the same command continues"
        )),
    }
}

/// The end that the reader of a run asks for.
async fn told(mut stop: watch::Receiver<Option<End>>) -> End {
    let told = stop.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
    match told {
        Some(end) => end,
        None => std::future::pending().await,
    }
}
