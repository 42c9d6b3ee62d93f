//! The bars of a terminal: a line for each upload in flight, and the progress of the whole run below them.

use std::{collections::HashMap, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mediamill_actors::{id::UploadId, upload::Stage};

use crate::cli::terminal;

/// Most uploads in flight that have a line.
const MAX_ROWS: usize = 6;
/// Columns of the longest stage.
const STAGE_COLUMNS: usize = 10;

/// See the module.
pub(super) struct Screen {
    bars: MultiProgress,
    run: ProgressBar,
    uploads: HashMap<UploadId, ProgressBar>,
}

impl Screen {
    pub(super) fn new(files: usize, bars: &MultiProgress) -> Self {
        let run = bars.add(ProgressBar::new(files as u64));
        run.set_style(style("{bar:34.green} {percent:>3}%  {pos} of {len} files\n{msg}"));
        // A line without text is not counted when the bars are drawn again.
        run.set_message("…");
        Self { bars: bars.clone(), run, uploads: HashMap::new() }
    }

    /// Counts a file as done, and removes its line.
    pub(super) fn done(&mut self, upload: Option<UploadId>) {
        if let Some(id) = upload {
            self.rests(id);
        }
        self.run.inc(1);
    }

    /// Shows the stage of an upload in flight. Its percentage is an estimate that would tell less.
    pub(super) fn moves(&mut self, upload: UploadId, name: String, stage: Stage) {
        if !self.uploads.contains_key(&upload) && self.uploads.len() >= MAX_ROWS {
            return;
        }
        let row = self.uploads.entry(upload).or_insert_with(|| {
            let row = self.bars.insert_before(&self.run, ProgressBar::new_spinner());
            row.set_style(style(&format!("{{prefix:{STAGE_COLUMNS}.cyan}}  {{msg}}")));
            row
        });
        row.set_prefix(stage.label());
        row.set_message(fitting(&terminal::of_certain_width(&name), STAGE_COLUMNS + 2));
    }

    /// Removes the line of an upload.
    pub(super) fn rests(&mut self, upload: UploadId) {
        if let Some(row) = self.uploads.remove(&upload) {
            row.finish_and_clear();
            self.bars.remove(&row);
        }
    }

    /// Shows the time that passed, rate and time left, or why the run is waiting.
    pub(super) fn tick(&self, waiting: Option<&str>, elapsed: Duration, rate: f64, left: Option<Duration>) {
        let message = match (waiting, left) {
            (Some(waiting), _) => waiting.to_owned(),
            (None, None) => format!("{}, estimating the time left", terminal::took(elapsed)),
            (None, Some(left)) => {
                format!("{}, {}, {} left", terminal::took(elapsed), pace(rate), terminal::about(left))
            }
        };
        self.run.set_message(fitting(&message, 0));
    }

    /// Prints something above the bars.
    pub(super) fn above(&self, print: impl FnOnce()) {
        self.bars.suspend(print);
    }

    /// Removes everything.
    pub(super) fn clear(self) {
        for (_, row) in self.uploads {
            row.finish_and_clear();
        }
        self.run.finish_and_clear();
    }
}

/// A rate in words, by the minute if it is slow.
pub(super) fn pace(rate: f64) -> String {
    if rate >= 1.0 {
        format!("{rate:.1} files a second")
    } else {
        format!("{:.1} files a minute", rate * 60.0)
    }
}

/// Text that fits beside so many columns of other text.
fn fitting(text: &str, beside: usize) -> String {
    let columns = usize::from(console::Term::stderr().size().1);
    terminal::cut(text, columns.saturating_sub(beside + 2)).into_owned()
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
