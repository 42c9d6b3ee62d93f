//! `mediamill list`: one line for each upload.

use std::{
    io::{self, Write as _},
    path::Path,
};

use console::Style;
use mediamill::Config;
use mediamill_actors::{
    id::{BatchId, UploadId},
    text::json_line,
    upload::Failure,
};
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    batches::{self, BatchLine},
    client::Client,
    link::Places,
    place::Asked,
    terminal::{self, one_line},
};

/// Batches, and uploads, that are read at once.
const PAGE: usize = 100;

/// The arguments of `list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mediamill list --failed
  mediamill list --needs-review --limit 100
  mediamill list --json --kind video | jq -r .path

The newest batch comes first. On a terminal a line is cut to its width; in a
pipe it is whole.")]
pub(crate) struct List {
    /// Only uploads of this status
    #[arg(long, value_name = "STATUS", conflicts_with = "failed", value_parser = [
        "pending", "analyzing", "embedding", "completed", "failed", "cancelled",
    ])]
    status: Option<String>,
    /// Only failed uploads, with their reasons
    #[arg(long)]
    failed: bool,
    /// Only completed uploads whose description a person should review
    #[arg(long)]
    needs_review: bool,
    /// Only pictures, or only videos
    #[arg(long, value_name = "KIND", value_parser = ["image", "video"])]
    kind: Option<String>,
    /// Only uploads of this batch; the end of its id is enough
    #[arg(long, value_name = "BATCH")]
    batch: Option<String>,
    /// Most lines
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print one JSON object per upload
    #[arg(long)]
    json: bool,
}

/// An upload as the API gives it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UploadLine {
    pub(super) id: UploadId,
    batch_id: BatchId,
    pub(super) filename: String,
    /// Where the file is, if it is in place and on this machine.
    #[serde(default)]
    pub(super) path: Option<String>,
    file_type: String,
    processing_status: String,
    /// Older servers have this in the status.
    #[serde(default)]
    cancelled: bool,
    pub(super) description: Option<String>,
    pub(super) description_audit_score: Option<u8>,
    pub(super) needs_review: bool,
    pub(super) error_message: Option<String>,
    /// The failed attempts.
    #[serde(default)]
    pub(super) failures: Vec<Failure>,
}

impl UploadLine {
    /// Its status in the words of the store.
    pub(super) fn status(&self) -> &str {
        if self.cancelled { "cancelled" } else { &self.processing_status }
    }

    /// The path or name of its file.
    pub(super) fn place(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.filename)
    }
}

impl List {
    pub(crate) async fn run(self, config: &Config, shared: &Shared) -> Result<u8, String> {
        let asked = shared.ask(config).await?;
        let printed = self.print(&asked).await;
        asked.done().await;
        printed
    }

    async fn print(&self, asked: &Asked) -> Result<u8, String> {
        let client = &asked.client;
        let only = match &self.batch {
            Some(end) => Some(batches::find(client, end).await?.batch_id),
            None => None,
        };
        let (mut left, mut offset) = (self.limit as usize, 0);
        let mut out = Out::default();
        while left > 0 {
            let page = match only {
                Some(batch) => vec![client.get(&format!("api/v1/uploads/batches/{batch}"), &[]).await?],
                None => batches::page(client, offset, PAGE).await?,
            };
            for batch in page.iter().filter(|batch| self.may_hold(batch)) {
                left = self.print_batch(client, batch.batch_id, left, &mut out).await?;
                if left == 0 || out.is_closed {
                    break;
                }
            }
            offset += page.len();
            if page.len() < PAGE || only.is_some() || out.is_closed {
                break;
            }
        }
        if !out.is_closed && out.lines == 0 && !self.json {
            eprintln!("mediamill: there is no such upload");
        } else if left == 0 && !self.json {
            eprintln!("mediamill: there may be more; --limit {} shows them", self.limit.saturating_mul(10));
        }
        Ok(0)
    }

    /// Whether a batch may have uploads that are wanted.
    fn may_hold(&self, batch: &BatchLine) -> bool {
        match self.wanted() {
            Some("failed") => batch.failed_uploads > 0,
            Some("completed") => batch.successful_uploads > 0,
            Some("cancelled") => batch.cancelled_uploads > 0,
            _ => batch.total_uploads > 0 && (!self.needs_review || batch.needs_review_uploads > 0),
        }
    }

    fn wanted(&self) -> Option<&str> {
        if self.failed { Some("failed") } else { self.status.as_deref() }
    }

    fn holds(&self, upload: &UploadLine) -> bool {
        self.wanted().is_none_or(|status| upload.status() == status)
            && (!self.needs_review || upload.needs_review)
            && self.kind.as_ref().is_none_or(|kind| upload.file_type == *kind)
    }

    /// Prints the uploads of a batch, and returns how many lines are left.
    async fn print_batch(
        &self,
        client: &Client,
        batch: BatchId,
        mut left: usize,
        out: &mut Out,
    ) -> Result<usize, String> {
        let path = format!("api/v1/uploads/batches/{batch}/uploads");
        let mut offset = 0;
        loop {
            let (from, most) = (offset.to_string(), PAGE.to_string());
            let query = [("offset", from.as_str()), ("limit", most.as_str())];
            let mut page: Vec<UploadLine> = client.get(&path, &query).await?;
            let read = page.len();
            offset += read;
            page.retain(|upload| self.holds(upload));
            page.truncate(left);
            locate(client, &mut page).await?;
            for upload in &page {
                out.print(&if self.json { json(upload)? } else { line(upload) })?;
            }
            left -= page.len();
            if read < PAGE || left == 0 || out.is_closed {
                return Ok(left);
            }
        }
    }
}

/// Adds the paths of files in place, which only the program on this machine knows.
pub(super) async fn locate(client: &Client, uploads: &mut [UploadLine]) -> Result<(), String> {
    if !client.is_local() || uploads.is_empty() {
        return Ok(());
    }
    let places = Places { uploads: uploads.iter().map(|it| (it.id, None)).collect(), ..Places::default() };
    let places: Places = client.post_json("local/places", &places).await?;
    for upload in uploads {
        if let Some(Some(path)) = places.uploads.get(&upload.id) {
            upload.path = Some(path.0.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

pub(super) fn json(upload: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(upload).map(json_line).map_err(|error| format!("cannot write JSON: {error}"))
}

/// An upload on one line.
fn line(upload: &UploadLine) -> String {
    let status = upload.status();
    let style = match status {
        "completed" if upload.needs_review => Style::new().yellow(),
        "completed" => Style::new().green(),
        "failed" => Style::new().red(),
        "cancelled" => Style::new().yellow(),
        _ => Style::new().cyan(),
    };
    let word = if upload.needs_review && status == "completed" { "review" } else { status };
    let place = terminal::from_home(Path::new(upload.place()));
    let reason = upload.error_message.as_deref().filter(|_| status == "failed");
    let reason = reason.map(|reason| terminal::without_name(reason, Path::new(upload.place())));
    let text = reason.as_deref().or(upload.description.as_deref());
    let columns = terminal::columns();
    let rest = match (text, columns) {
        // A long path leaves room for the text.
        (Some(text), Some(columns)) => {
            format!(
                "{}: {}",
                terminal::cut_middle(&terminal::of_certain_width(&place), columns / 2),
                one_line(text)
            )
        }
        (Some(text), None) => format!("{place}: {}", one_line(text)),
        (None, _) => place,
    };
    let rest = match columns {
        Some(columns) => terminal::cut(&rest, columns.saturating_sub(11)).into_owned(),
        None => rest,
    };
    format!("{} {rest}", style.apply_to(format!("{word:9}")))
}

/// Standard output, whose reader may have seen enough.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) is_closed: bool,
    pub(super) lines: usize,
}

impl Out {
    /// # Errors
    /// A sentence: it cannot be written.
    pub(super) fn print(&mut self, line: &str) -> Result<(), String> {
        if self.is_closed {
            return Ok(());
        }
        self.lines += 1;
        match writeln!(io::stdout(), "{line}") {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(())
            }
            Err(error) => Err(format!("cannot write the results: {error}")),
        }
    }
}
