//! `mediamill batches`, and the commands that change a batch: `retry`, `cancel`, `pause` and `resume`.

use console::Style;
use indicatif::MultiProgress;
use jiff::Timestamp;
use mediamill::Config;
use mediamill_actors::id::BatchId;
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    client::Client,
    link::Places,
    list::{Out, json},
    place::Asked,
    process::Unfinished,
    terminal,
};

/// Batches that are read at once.
const PAGE: usize = 100;
/// Characters of an id that are shown: its end, which is random, and enough to find the batch.
const SHOWN: usize = 8;
/// Fewest characters that name a batch.
const FEWEST: usize = 4;

/// The arguments of `batches`.
#[derive(Debug, clap::Args)]
pub(crate) struct Batches {
    /// Most lines, the newest first
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print one JSON object per batch
    #[arg(long)]
    json: bool,
}

/// A batch as the API gives it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BatchLine {
    pub(super) batch_id: BatchId,
    /// The folder of its files, if they are in place and on this machine.
    #[serde(default)]
    folder: Option<String>,
    status: String,
    pub(super) total_uploads: u32,
    processed_uploads: u32,
    pub(super) successful_uploads: u32,
    pub(super) failed_uploads: u32,
    pub(super) cancelled_uploads: u32,
    pub(super) needs_review_uploads: u32,
    refused_files: u32,
    created_at: Timestamp,
    paused_at: Option<Timestamp>,
    waiting: Option<String>,
}

impl BatchLine {
    fn is_unfinished(&self) -> bool {
        self.processed_uploads < self.total_uploads
    }

    /// Whether its uploads were all deleted, or replaced by newer ones of the same files.
    fn is_empty(&self) -> bool {
        self.total_uploads == 0 && self.refused_files == 0
    }

    /// The end of its id, which names it.
    fn name(&self) -> String {
        let id = self.batch_id.to_string();
        id[id.len() - SHOWN..].to_owned()
    }
}

impl Batches {
    pub(crate) async fn run(self, config: &Config, shared: &Shared) -> Result<u8, String> {
        let asked = shared.ask(config).await?;
        let printed = self.print(&asked.client).await;
        asked.done().await;
        printed.map(|()| 0)
    }

    async fn print(&self, client: &Client) -> Result<(), String> {
        let (mut left, mut offset, mut out) = (self.limit as usize, 0, Out::default());
        while left > 0 && !out.is_closed {
            let mut page = page(client, offset, left.min(PAGE)).await?;
            if page.is_empty() {
                break;
            }
            (left, offset) = (left - page.len(), offset + page.len());
            locate(client, &mut page).await?;
            for batch in page.iter().filter(|batch| self.json || !batch.is_empty()) {
                out.print(&if self.json { json(batch)? } else { line(batch) })?;
            }
        }
        if out.lines == 0 && !self.json {
            eprintln!("mediamill: there is no batch yet");
        }
        Ok(())
    }
}

/// Adds the folders of files in place.
async fn locate(client: &Client, batches: &mut [BatchLine]) -> Result<(), String> {
    if !client.is_local() {
        return Ok(());
    }
    let places =
        Places { batches: batches.iter().map(|it| (it.batch_id, None)).collect(), ..Places::default() };
    let places: Places = client.post_json("local/places", &places).await?;
    for batch in batches {
        if let Some(Some(folder)) = places.batches.get(&batch.batch_id) {
            batch.folder = Some(folder.0.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

fn line(batch: &BatchLine) -> String {
    let (word, style) = match batch.status.as_str() {
        _ if batch.paused_at.is_some() && batch.is_unfinished() => ("paused", Style::new().yellow()),
        "completed" if batch.failed_uploads > 0 => ("ended", Style::new().yellow()),
        "completed" => ("completed", Style::new().green()),
        "failed" => ("failed", Style::new().red()),
        "cancelled" => ("cancelled", Style::new().yellow()),
        "processing" => ("running", Style::new().cyan()),
        _ => ("waiting", Style::new().cyan()),
    };
    let mut counts = format!("{} of {}", batch.processed_uploads, batch.total_uploads);
    for (count, what) in [(batch.failed_uploads, "failed"), (batch.refused_files, "refused")] {
        if count > 0 {
            counts.push_str(&format!(", {count} {what}"));
        }
    }
    let folder = batch.folder.as_ref().map(|it| terminal::from_home(std::path::Path::new(it)));
    let rest =
        format!("{:12}  {counts:20}  {}", terminal::moment(batch.created_at), folder.unwrap_or_default());
    let rest = match terminal::columns() {
        Some(columns) => terminal::cut(rest.trim_end(), columns.saturating_sub(SHOWN + 14)).into_owned(),
        None => rest.trim_end().to_owned(),
    };
    format!("{}  {}  {rest}", batch.name(), style.apply_to(format!("{word:9}")))
}

/// One page of batches, newest first.
pub(super) async fn page(client: &Client, offset: usize, limit: usize) -> Result<Vec<BatchLine>, String> {
    let (offset, limit) = (offset.to_string(), limit.to_string());
    client.get("api/v1/uploads/batches", &[("offset", &offset), ("limit", &limit)]).await
}

/// All batches.
async fn all(client: &Client) -> Result<Vec<BatchLine>, String> {
    let mut all = Vec::new();
    loop {
        let page = page(client, all.len(), PAGE).await?;
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// The batch whose id ends, or begins, like this.
pub(super) async fn find(client: &Client, part: &str) -> Result<BatchLine, String> {
    let part = part.to_lowercase();
    if part.len() < FEWEST {
        return Err(format!(
            "{part:?} is too short for a batch; give at least {FEWEST} characters of its id"
        ));
    }
    let found = all(client).await?.into_iter().filter(|batch| {
        let id = batch.batch_id.to_string();
        id.ends_with(&part) || id.starts_with(&part)
    });
    let mut found: Vec<_> = found.collect();
    match (found.pop(), found.len()) {
        (Some(batch), 0) => Ok(batch),
        (Some(_), others) => {
            Err(format!("{part:?} is the beginning or end of {} batches; give more of the id", others + 1))
        }
        (None, _) => Err(format!("there is no batch {part:?}; `mediamill batches` lists them")),
    }
}

/// A change of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Retry,
    Cancel,
    Pause,
    Resume,
}

impl Change {
    /// The last part of its path in the API.
    fn verb(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }

    /// Whether it would change something.
    fn suits(self, batch: &BatchLine) -> bool {
        match self {
            Self::Retry => batch.failed_uploads > 0,
            Self::Cancel => batch.is_unfinished(),
            Self::Pause => batch.is_unfinished() && batch.paused_at.is_none(),
            Self::Resume => batch.is_unfinished() && batch.paused_at.is_some(),
        }
    }

    /// What it has done to a batch.
    fn done(self, batch: &BatchLine) -> String {
        let waiting = batch.total_uploads - batch.processed_uploads.min(batch.total_uploads);
        let files = |count: u32| terminal::counted(count as usize, "file", "files");
        match self {
            Self::Retry => format!("trying {} of batch {} again", files(batch.failed_uploads), batch.name()),
            Self::Cancel => format!("cancelled {} of batch {}", files(waiting), batch.name()),
            Self::Pause => format!("batch {} is paused with {} left", batch.name(), files(waiting)),
            Self::Resume => format!("batch {} goes on with {}", batch.name(), files(waiting)),
        }
    }
}

/// The arguments of `retry`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mediamill retry              tries all failed uploads again, with two attempts each
  mediamill retry 7fa2c1d0     those of one batch

If no mediamill is running, `mediamill resume` does the work then.")]
pub(crate) struct Retry {
    /// Batches, by the end of their ids; none: all with failed uploads
    #[arg(value_name = "BATCH")]
    pub(crate) batches: Vec<String>,
}

/// The arguments of `cancel` and `pause`.
#[derive(Debug, clap::Args)]
#[group(required = true)]
pub(crate) struct Chosen {
    /// Batches, by the end of their ids as `mediamill batches` shows them
    #[arg(value_name = "BATCH")]
    pub(crate) batches: Vec<String>,
    /// All batches with unfinished uploads
    #[arg(long, conflicts_with = "batches")]
    pub(crate) all: bool,
}

/// The arguments of `resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mediamill resume             goes on with everything that is unfinished, and shows it
  mediamill resume 7fa2c1d0    goes on with one paused batch of a running mediamill

Exit codes: as of `mediamill process`.")]
pub(crate) struct Resume {
    /// Paused batches, by the end of their ids; none: all unfinished uploads
    #[arg(value_name = "BATCH")]
    batches: Vec<String>,
    /// Print one JSON object per file on standard output
    #[arg(long, conflicts_with = "batches")]
    json: bool,
}

impl Resume {
    pub(crate) async fn run(
        self,
        config: Config,
        shared: &Shared,
        bars: &MultiProgress,
    ) -> Result<u8, String> {
        if self.batches.is_empty() && shared.server.is_none() {
            return Unfinished { json: self.json }.run(config, shared, bars).await;
        }
        change(Change::Resume, self.batches, &config, shared).await
    }
}

/// Changes the batches with these names, or all that the change suits, and says so.
pub(crate) async fn change(
    change: Change,
    names: Vec<String>,
    config: &Config,
    shared: &Shared,
) -> Result<u8, String> {
    let asked = shared.ask(config).await?;
    let changed = apply(change, &names, &asked, shared).await;
    asked.done().await;
    changed.map(|()| 0)
}

async fn apply(change: Change, names: &[String], asked: &Asked, shared: &Shared) -> Result<(), String> {
    let client = &asked.client;
    let mut batches = Vec::new();
    for name in names {
        batches.push(find(client, name).await?);
    }
    if names.is_empty() {
        batches = all(client).await?;
        batches.retain(|batch| change.suits(batch));
    }
    let mut changed = 0;
    for batch in &batches {
        if !change.suits(batch) {
            eprintln!("mediamill: there is nothing to {} in batch {}", change.verb(), batch.name());
            continue;
        }
        client.post(&format!("api/v1/uploads/batches/{}/{}", batch.batch_id, change.verb())).await?;
        println!("{}", change.done(batch));
        changed += 1;
    }
    if batches.is_empty() {
        eprintln!("mediamill: there is nothing to {}", change.verb());
    }
    if changed > 0 && asked.is_idle() && matches!(change, Change::Retry | Change::Resume) {
        println!("no mediamill is running; `mediamill{} resume` does the work now", shared.options);
    }
    Ok(())
}
