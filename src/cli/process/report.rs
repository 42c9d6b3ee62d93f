//! What a run shows: a bar and a line for each upload in flight on a terminal, plain lines in a pipe, objects with `--json`, and the summary.

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use mediamill_actors::id::UploadId;

use super::outcome::{Outcome, OutcomeStatus};

/// Failures that the summary lists at most; `--json` and the store have all.
const MOST_LISTED: usize = 1000;

/// How a run tells what it does.
pub(super) struct Report {
    json: bool,
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

/// How many files ended how.
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
}

impl Report {
    /// Bars go to `bars` if standard error is a terminal.
    pub(super) fn new(json: bool, files: usize, bars: &MultiProgress) -> Self {
        let screen = io::stderr().is_terminal().then(|| {
            let batch = bars.add(ProgressBar::new(files as u64));
            batch.set_style(style("{bar:32} {pos}/{len} files, {msg}"));
            Screen { bars: bars.clone(), batch, uploads: HashMap::new() }
        });
        Self { json, screen, started: Instant::now(), tally: Tally::default(), wrong: Vec::new() }
    }

    /// One file is done with.
    ///
    /// # Errors
    /// Standard output is gone, so there is nobody to work for.
    pub(super) fn ended(&mut self, upload: Option<UploadId>, outcome: &Outcome) -> io::Result<()> {
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
            && self.wrong.len() < MOST_LISTED
        {
            self.wrong.push((
                outcome.status,
                outcome.path.display().to_string(),
                outcome.reason().to_owned(),
            ));
        }
        if let Some(screen) = &mut self.screen {
            if let Some(bar) = upload.and_then(|id| screen.uploads.remove(&id)) {
                bar.finish_and_clear();
            }
            screen.batch.inc(1);
        }
        if self.json {
            let line = serde_json::to_string(outcome).map_err(io::Error::other)?;
            return self.print(&line);
        }
        match outcome.status {
            OutcomeStatus::Pending => Ok(()),
            OutcomeStatus::Completed if outcome.skipped => Ok(()),
            OutcomeStatus::Completed => {
                let review = if outcome.needs_review { " (needs review)" } else { "" };
                self.print(&format!("{word}{review} {}: {}", outcome.path.display(), outcome.text()))
            }
            _ => self.print(&format!("{word} {}: {}", outcome.path.display(), outcome.reason())),
        }
    }

    /// A file in a walk that is no picture or video.
    pub(super) fn not_media(&mut self) {
        self.tally.not_media += 1;
        if let Some(screen) = &self.screen {
            screen.batch.inc(1);
        }
    }

    /// An upload is in flight.
    pub(super) fn moves(&mut self, upload: UploadId, path: &Path, stage: &str, percent: u8) {
        let Some(screen) = &mut self.screen else { return };
        let bar = screen.uploads.entry(upload).or_insert_with(|| {
            let bar = screen.bars.add(ProgressBar::new(100));
            bar.set_style(style("  {bar:16} {percent:>3}% {msg}"));
            bar
        });
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        bar.set_message(format!("{name}: {}", stage.replace('_', " ")));
        bar.set_position(percent.into());
    }

    /// An upload waits again.
    pub(super) fn rests(&mut self, upload: UploadId) {
        if let Some(bar) = self.screen.as_mut().and_then(|screen| screen.uploads.remove(&upload)) {
            bar.finish_and_clear();
        }
    }

    /// Rate and time left, or what is waited for. In a pipe only a change of what is waited for is told.
    pub(super) fn tick(&mut self, waiting: Option<&str>, left_to_do: usize) {
        let Some(screen) = &self.screen else { return };
        let (rate, worked) = (self.rate(), self.tally.completed + self.tally.failed);
        let left = match waiting {
            Some(waiting) => waiting.to_owned(),
            None if worked < 3 => "reckoning the time left".into(),
            None => {
                format!("about {} left", HumanDuration(Duration::from_secs_f64(left_to_do as f64 / rate)))
            }
        };
        screen.batch.set_message(format!("{rate:.1}/s, {left}"));
    }

    /// A sentence for whoever watches, beside the results.
    pub(super) fn say(&self, sentence: &str) {
        match &self.screen {
            Some(screen) => screen.bars.suspend(|| eprintln!("mediamill: {sentence}")),
            None => eprintln!("mediamill: {sentence}"),
        }
    }

    /// Files a second that were worked on, not skipped.
    fn rate(&self) -> f64 {
        let worked = self.tally.completed + self.tally.failed;
        worked as f64 / self.started.elapsed().as_secs_f64().max(0.001)
    }

    fn print(&self, line: &str) -> io::Result<()> {
        let print = || {
            let mut out = io::stdout().lock();
            out.write_all(line.as_bytes())?;
            out.write_all(b"\n")
        };
        match &self.screen {
            Some(screen) => screen.bars.suspend(print),
            None => print(),
        }
    }

    /// Ends the bars and tells how it all went, on standard error with `--json` and on standard output otherwise.
    pub(super) fn summary(mut self, resting: usize) -> Tally {
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
                "{resting} unfinished uploads of other folders are left; process those folders to go on with them\n"
            ));
        }
        // Whoever is gone does not miss it.
        let _ = if self.json {
            io::stderr().write_all(text.as_bytes())
        } else {
            io::stdout().write_all(text.as_bytes())
        };
        self.tally
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
