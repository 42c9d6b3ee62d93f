//! The display of a run: on a terminal a bar for each upload in flight; lines, or objects with `--json`, for
//! finished files; and the summary.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use mediamill_actors::{
    id::UploadId,
    text::{json_line, one_line},
    upload::Stage,
};

use super::{
    outcome::{Outcome, OutcomeStatus},
    output::Output,
};

/// Most failures in the summary; `--json` and the store have all.
const MAX_LISTED: usize = 1000;

/// The report of a run.
pub(super) struct Report {
    json: bool,
    output: Output,
    screen: Option<Screen>,
    started: Instant,
    tally: Tally,
    /// Path and reason.
    wrong: Vec<(OutcomeStatus, String, String)>,
}

/// The bars of a terminal.
struct Screen {
    bars: MultiProgress,
    batch: ProgressBar,
    uploads: HashMap<UploadId, ProgressBar>,
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
    /// Folders that could not be read.
    pub(super) hidden: usize,
}

impl Report {
    /// Draws bars if standard error is a terminal.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(super) fn new(json: bool, files: usize, bars: &MultiProgress) -> io::Result<Self> {
        let output = Output::new(bars)?;
        let screen = io::stderr().is_terminal().then(|| {
            let batch = bars.add(ProgressBar::new(files as u64));
            batch.set_style(style("{bar:32} {pos}/{len} files, {msg}"));
            Screen { bars: bars.clone(), batch, uploads: HashMap::new() }
        });
        Ok(Self { json, output, screen, started: Instant::now(), tally: Tally::default(), wrong: Vec::new() })
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

    /// Reports a folder or link that could not be followed. `hides`: there may be files below it.
    pub(super) fn unreadable(&mut self, outcome: &Outcome, hides: bool) {
        self.tally.hidden += usize::from(hides);
        self.ended(None, outcome);
    }

    /// Reports the outcome of a file.
    pub(super) fn ended(&mut self, upload: Option<UploadId>, outcome: &Outcome) {
        let tally = &mut self.tally;
        let (count, word) = match outcome.status {
            OutcomeStatus::Completed if outcome.skipped => (&mut tally.skipped, "unchanged"),
            OutcomeStatus::Completed => (&mut tally.completed, "completed"),
            OutcomeStatus::Failed => (&mut tally.failed, "failed"),
            OutcomeStatus::Refused => (&mut tally.refused, "refused"),
            OutcomeStatus::Cancelled => (&mut tally.cancelled, "cancelled"),
            OutcomeStatus::Pending => (&mut tally.pending, "pending"),
        };
        *count += 1;
        tally.needs_review += usize::from(outcome.needs_review && !outcome.skipped);
        if matches!(outcome.status, OutcomeStatus::Failed | OutcomeStatus::Refused)
            && self.wrong.len() < MAX_LISTED
        {
            self.wrong.push((outcome.status, shown(&outcome.path), one_line(outcome.reason()).into_owned()));
        }
        if let Some(screen) = &mut self.screen {
            if let Some(bar) = upload.and_then(|id| screen.uploads.remove(&id)) {
                bar.finish_and_clear();
            }
            screen.batch.inc(1);
        }
        if self.json {
            match serde_json::to_string(outcome) {
                Ok(line) => self.output.print(json_line(line)),
                Err(error) => self.say(&format!("cannot report {}: {error}", shown(&outcome.path))),
            }
            return;
        }
        let path = shown(&outcome.path);
        match outcome.status {
            OutcomeStatus::Pending => {}
            OutcomeStatus::Completed if outcome.skipped => {}
            OutcomeStatus::Completed => {
                let review = if outcome.needs_review { " (needs review)" } else { "" };
                self.output.print(format!("{word}{review} {path}: {}", one_line(outcome.text())));
            }
            OutcomeStatus::Failed | OutcomeStatus::Refused | OutcomeStatus::Cancelled => {
                self.output.print(format!("{word} {path}: {}", one_line(outcome.reason())));
            }
        }
    }

    /// Counts a file of a folder that is neither a picture nor a video.
    pub(super) fn not_media(&mut self) {
        self.tally.not_media += 1;
        if let Some(screen) = &self.screen {
            screen.batch.inc(1);
        }
    }

    /// Shows the progress of an upload in flight.
    pub(super) fn moves(&mut self, upload: UploadId, path: &Path, stage: Stage, percent: u8) {
        let Some(screen) = &mut self.screen else { return };
        let bar = screen.uploads.entry(upload).or_insert_with(|| {
            let bar = screen.bars.add(ProgressBar::new(100));
            bar.set_style(style("  {bar:16} {percent:>3}% {msg}"));
            bar
        });
        let name = shown(Path::new(path.file_name().unwrap_or(path.as_os_str())));
        bar.set_message(format!("{name}: {}", stage.label()));
        bar.set_position(percent.into());
    }

    /// Removes the bar of an upload that is waiting again.
    pub(super) fn rests(&mut self, upload: UploadId) {
        if let Some(bar) = self.screen.as_mut().and_then(|screen| screen.uploads.remove(&upload)) {
            bar.finish_and_clear();
        }
    }

    /// Shows rate and time left, or why the run is waiting.
    pub(super) fn tick(&mut self, waiting: Option<&str>, left_to_do: usize) {
        let Some(screen) = &self.screen else { return };
        let (rate, worked) = (self.rate(), self.tally.completed + self.tally.failed);
        let left = match waiting {
            Some(waiting) => waiting.to_owned(),
            None if worked < 3 => "estimating the time left".into(),
            None => {
                format!("about {} left", HumanDuration(Duration::from_secs_f64(left_to_do as f64 / rate)))
            }
        };
        screen.batch.set_message(format!("{rate:.1}/s, {left}"));
    }

    /// Prints a sentence to standard error.
    pub(super) fn say(&self, sentence: &str) {
        // The output may have no reader any more.
        let say = || drop(writeln!(io::stderr(), "mediamill: {}", one_line(sentence)));
        match &self.screen {
            Some(screen) => screen.bars.suspend(say),
            None => say(),
        }
    }

    /// Processed files per second, without skipped ones.
    fn rate(&self) -> f64 {
        let worked = self.tally.completed + self.tally.failed;
        worked as f64 / self.started.elapsed().as_secs_f64().max(0.001)
    }

    /// Removes the bars and prints the summary, on standard error with `--json` and on standard output
    /// otherwise. Waits for a slow reader, up to the limit if there is one.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(super) async fn summary(mut self, resting: usize, limit: Option<Duration>) -> io::Result<Tally> {
        if let Some(screen) = self.screen.take() {
            for (_, bar) in screen.uploads {
                bar.finish_and_clear();
            }
            screen.batch.finish_and_clear();
        }
        let tally = &self.tally;
        let mut lines = vec![format!("{} completed", tally.completed)];
        for (count, what) in [
            (tally.needs_review, "of them to be reviewed"),
            (tally.failed, "failed"),
            (tally.refused, "refused"),
            (tally.cancelled, "cancelled"),
            (tally.skipped, "unchanged since an earlier run"),
            (tally.pending, "left for the next run"),
            (tally.not_media, "neither pictures nor videos"),
        ] {
            if count > 0 {
                lines.push(format!("{count} {what}"));
            }
        }
        let elapsed = self.started.elapsed();
        let mut text = format!(
            "{}; {:.1} s, {:.1} files a second\n",
            lines.join(", "),
            elapsed.as_secs_f64(),
            self.rate()
        );
        for (status, path, reason) in &self.wrong {
            let word = if *status == OutcomeStatus::Failed { "failed" } else { "refused" };
            text.push_str(&format!("  {word} {path}: {reason}\n"));
        }
        let unlisted = (tally.failed + tally.refused).saturating_sub(self.wrong.len());
        if unlisted > 0 {
            text.push_str(&format!("  and {unlisted} more\n"));
        }
        if resting > 0 {
            text.push_str(&format!(
                "{resting} unfinished uploads of other folders are left; process those folders to continue \
                 them\n"
            ));
        }
        if self.json {
            let _ = io::stderr().write_all(text.as_bytes());
        } else {
            self.output.print(text.trim_end().to_owned());
        }
        self.output.finish(limit).await?;
        Ok(self.tally)
    }
}

/// A path on one line, without control characters.
fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy()).into_owned()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
