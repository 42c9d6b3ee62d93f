//! The display of a run: bars and failures on a terminal; a line for each file in a pipe, or an object with
//! `--json`; and the summary.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use console::Style;
use indicatif::MultiProgress;
use mediamill_actors::{id::UploadId, text::json_line, upload::Stage};

use super::{
    events::Event,
    next_steps::NextSteps,
    outcome::{Outcome, OutcomeStatus},
    output::Output,
    screen::{Screen, pace},
};
use crate::cli::{
    Verbosity,
    terminal::{self, one_line, shown},
};

/// Most failures in the summary with `--json`; standard output and the store have all.
const MAX_LISTED: usize = 1000;
/// Ended files before there is an estimate of the time left.
const ENOUGH: usize = 3;

/// How a run is displayed.
#[derive(Debug, Clone)]
pub(super) struct Display {
    /// Objects instead of lines.
    pub(super) json: bool,
    pub(super) verbosity: Verbosity,
    /// The given paths; on a terminal, names are relative to them.
    pub(super) roots: Vec<PathBuf>,
}

/// The report of a run.
pub(super) struct Report {
    display: Display,
    output: Output,
    bars: MultiProgress,
    /// From the moment at which the files are known.
    screen: Option<Screen>,
    /// Columns of the terminal that standard output is.
    columns: Option<usize>,
    started: Instant,
    /// Number of files, once they are known.
    files: usize,
    /// Number of files that have their outcome.
    done: usize,
    /// Why all files wait.
    waiting: Option<String>,
    tally: Tally,
    /// Status, path and reason, with `--json`.
    wrong: Vec<(OutcomeStatus, String, String)>,
}

/// Number of files by outcome.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) completed: usize,
    pub(super) needs_review: usize,
    pub(super) failed: usize,
    pub(super) refused: usize,
    pub(super) skipped: usize,
    pub(super) cancelled: usize,
    pub(super) pending: usize,
    pub(super) not_media: usize,
    /// Further files of shots whose main file is counted.
    pub(super) companions: usize,
    /// Folders that could not be read.
    pub(super) hidden: usize,
}

impl Report {
    /// Draws bars if standard error is a terminal.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn new(display: Display, bars: &MultiProgress) -> io::Result<Self> {
        Ok(Self {
            output: Output::new(bars)?,
            screen: None,
            bars: bars.clone(),
            columns: terminal::columns(),
            display,
            started: Instant::now(),
            files: 0,
            done: 0,
            waiting: None,
            tally: Tally::default(),
            wrong: Vec::new(),
        })
    }

    /// Returns `true` while the reader of the results keeps up.
    pub(super) fn has_room(&self) -> bool {
        self.output.has_room()
    }

    /// Hands a waiting result to a slow reader. Without one it does not return, unless writing failed.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) async fn hand_over(&mut self) -> io::Result<()> {
        self.output.hand_over().await
    }

    /// Displays an event.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Found { files } => {
                self.files = files;
                if io::stderr().is_terminal() && self.display.verbosity > Verbosity::Quiet {
                    self.screen = Some(Screen::new(files, &self.bars));
                }
            }
            Event::Ended { upload, outcome, .. } => self.ended(upload, &outcome),
            Event::Unreadable { outcome, hides, .. } => {
                self.tally.hidden += usize::from(hides);
                self.ended(None, &outcome);
            }
            Event::Companion { outcome } => self.companion(&outcome),
            Event::PassedOver { entries } => self.tally.not_media += entries,
            Event::NotMedia => self.not_media(),
            Event::Moves { upload, path, stage } => self.moves(upload, &path, stage),
            Event::Rests { upload } => {
                if let Some(screen) = &mut self.screen {
                    screen.rests(upload);
                }
            }
            Event::Waiting { sentence } => self.waiting = sentence,
            Event::Say { sentence } => self.say(&sentence),
            // The caller takes it.
            Event::Over { .. } => {}
        }
    }

    /// Reports the outcome of a file.
    fn ended(&mut self, upload: Option<UploadId>, outcome: &Outcome) {
        let tally = &mut self.tally;
        let count = match outcome.status {
            OutcomeStatus::Completed if outcome.skipped => &mut tally.skipped,
            OutcomeStatus::Completed => &mut tally.completed,
            OutcomeStatus::Failed => &mut tally.failed,
            OutcomeStatus::Refused => &mut tally.refused,
            OutcomeStatus::Cancelled => &mut tally.cancelled,
            OutcomeStatus::Pending => &mut tally.pending,
        };
        *count += 1;
        self.done += 1;
        tally.needs_review += usize::from(outcome.needs_review && !outcome.skipped);
        if let Some(screen) = &mut self.screen {
            screen.done(upload);
        }
        if !self.display.json {
            if let Some(line) = self.line(outcome) {
                self.output.print(line);
            }
            return;
        }
        if matches!(outcome.status, OutcomeStatus::Failed | OutcomeStatus::Refused)
            && self.wrong.len() < MAX_LISTED
        {
            self.wrong.push((outcome.status, shown(&outcome.path), one_line(outcome.reason()).into_owned()));
        }
        match serde_json::to_string(outcome) {
            Ok(line) => self.output.print(json_line(line)),
            Err(error) => self.say(&format!("cannot report {}: {error}", shown(&outcome.path))),
        }
    }

    /// Reports a companion. It is no upload, so only `--json` has a line for it.
    fn companion(&mut self, outcome: &Outcome) {
        self.tally.companions += 1;
        self.done += 1;
        if let Some(screen) = &mut self.screen {
            screen.done(None);
        }
        if self.display.json {
            match serde_json::to_string(outcome) {
                Ok(line) => self.output.print(json_line(line)),
                Err(error) => self.say(&format!("cannot report {}: {error}", shown(&outcome.path))),
            }
        }
    }

    /// The line of a file: on a terminal one that fits, in a pipe the whole one.
    fn line(&self, outcome: &Outcome) -> Option<String> {
        let verbosity = self.display.verbosity;
        let (word, style, text, shows) = match outcome.status {
            OutcomeStatus::Pending => return None,
            OutcomeStatus::Completed => {
                let shows = if self.columns.is_some() {
                    verbosity == Verbosity::Verbose
                } else {
                    verbosity > Verbosity::Quiet && !outcome.skipped
                };
                let word = if outcome.skipped { "unchanged" } else { "completed" };
                (word, Style::new().green(), outcome.text(), shows)
            }
            OutcomeStatus::Failed => ("failed", Style::new().red(), outcome.reason(), true),
            OutcomeStatus::Refused => ("refused", Style::new().yellow(), outcome.reason(), true),
            OutcomeStatus::Cancelled => ("cancelled", Style::new().yellow(), outcome.reason(), true),
        };
        if !shows {
            return None;
        }
        let review = if outcome.needs_review { " (needs review)" } else { "" };
        let Some(columns) = self.columns else {
            return Some(format!("{word}{review} {}: {}", shown(&outcome.path), one_line(text)));
        };
        let name = terminal::short(&outcome.path, &self.display.roots);
        let word = format!("{word:9}");
        if verbosity == Verbosity::Verbose && outcome.status == OutcomeStatus::Completed {
            // Somebody who asks for descriptions wants them whole.
            let text = one_line(text);
            return Some(format!("{} {name}{review}\n          {text}", style.apply_to(word)));
        }
        let reason = terminal::without_name(text, &outcome.path);
        // A long name leaves room for the reason.
        let name = terminal::cut_middle(&terminal::of_certain_width(&name), columns / 2).into_owned();
        let rest = terminal::cut(&format!("{name}: {reason}"), columns.saturating_sub(10)).into_owned();
        Some(format!("{} {rest}", style.apply_to(word)))
    }

    /// Counts a file of a folder that is neither a picture nor a video.
    fn not_media(&mut self) {
        self.tally.not_media += 1;
        self.done += 1;
        if let Some(screen) = &mut self.screen {
            screen.done(None);
        }
    }

    /// Shows the stage of an upload in flight.
    fn moves(&mut self, upload: UploadId, path: &Path, stage: Stage) {
        if let Some(screen) = &mut self.screen {
            screen.moves(upload, terminal::short(path, &self.display.roots), stage);
        }
    }

    /// Shows rate and time left, or why the run is waiting.
    pub(super) fn tick(&mut self) {
        let Some(screen) = &self.screen else { return };
        let (rate, worked) = (self.rate(), self.worked());
        let left_to_do = self.files.saturating_sub(self.done);
        let left = (worked >= ENOUGH).then(|| Duration::from_secs_f64(left_to_do as f64 / rate));
        screen.tick(self.waiting.as_deref(), self.started.elapsed(), rate, left);
    }

    /// Prints a sentence to standard error.
    pub(super) fn say(&self, sentence: &str) {
        // The output may have no reader any more.
        let say = || drop(writeln!(io::stderr(), "mediamill: {}", one_line(sentence)));
        match &self.screen {
            Some(screen) => screen.above(say),
            None => say(),
        }
    }

    /// Number of files that this run worked on.
    fn worked(&self) -> usize {
        self.tally.completed + self.tally.failed
    }

    /// Processed files per second, without skipped ones.
    fn rate(&self) -> f64 {
        self.worked() as f64 / self.started.elapsed().as_secs_f64().max(0.001)
    }

    /// Removes the bars and prints the summary, on standard error with `--json` and on standard output
    /// otherwise, with the next steps if a person reads it. Waits for a slow reader, up to the limit if there
    /// is one.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) async fn summary(
        mut self,
        resting: usize,
        limit: Option<Duration>,
        next: &NextSteps,
    ) -> io::Result<Tally> {
        if let Some(screen) = self.screen.take() {
            screen.clear();
        }
        let tally = &self.tally;
        let mut parts = vec![format!("{} completed", tally.completed)];
        for (count, what) in [
            (tally.needs_review, "of them to be reviewed"),
            (tally.failed, "failed"),
            (tally.refused, "refused"),
            (tally.cancelled, "cancelled"),
            (tally.skipped, "unchanged since an earlier run"),
            (tally.pending, "left for the next run"),
            (tally.companions, "companions of them (Live Photos, raw files)"),
            (tally.not_media, "neither pictures nor videos"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        let mut text = format!("{}; {}", parts.join(", "), terminal::took(self.started.elapsed()));
        if self.worked() > 0 {
            text.push_str(", ");
            text.push_str(&pace(self.rate()));
        }
        text.push('\n');
        for (status, path, reason) in &self.wrong {
            let word = if *status == OutcomeStatus::Failed { "failed" } else { "refused" };
            text.push_str(&format!("  {word} {path}: {reason}\n"));
        }
        let unlisted = (tally.failed + tally.refused).saturating_sub(self.wrong.len());
        if self.display.json && unlisted > 0 {
            text.push_str(&format!("  and {unlisted} more\n"));
        }
        if resting > 0 {
            text.push_str(&format!(
                "{resting} unfinished uploads of other folders are left; `mediamill{} status` names the folders, \
                 and `resume` continues them\n",
                next.options
            ));
        }
        if self.display.json {
            let _ = io::stderr().write_all(text.as_bytes());
        } else if self.display.verbosity > Verbosity::Quiet {
            if self.columns.is_some() {
                text.push_str(&next.text(tally));
            }
            self.output.print(text.trim_end().to_owned());
        }
        self.output.finish(limit).await?;
        Ok(self.tally)
    }
}
