//! `mediamill search`: searches the descriptions by meaning.

use std::path::Path;

use console::Style;
use mediamill::Config;
use mediamill_actors::{analysis::ProviderError, id::UploadId, pipeline, query_service::SearchUploads};
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    client::Client,
    list::{self, Out, UploadLine, json},
    place::Place,
    terminal::{self, one_line},
};

/// Most lines of a description on a terminal.
const DESCRIPTION_LINES: usize = 3;
/// Most results of a running program.
const MOST: u16 = SearchUploads::MAX as u16;

/// The arguments of `search`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mediamill search \"a dog in the snow\"
  mediamill search --limit 50 --json bicycle | jq -r .path")]
pub(crate) struct Search {
    /// The words to search for
    #[arg(required = true, value_name = "WORDS")]
    words: Vec<String>,
    /// Most results
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print one JSON object per result
    #[arg(long)]
    json: bool,
}

/// A result, as `--json` prints it.
#[derive(Serialize)]
struct Hit {
    path: String,
    score: f32,
    description: String,
    id: UploadId,
}

/// A result as the API gives it.
#[derive(Deserialize)]
struct Scored {
    score: f32,
    upload: UploadLine,
}

struct Found {
    hits: Vec<Hit>,
    /// Scores below this are hardly related to the words.
    unrelated_below: Option<f32>,
    notice: Option<String>,
}

impl Search {
    pub(crate) async fn run(self, config: &Config, shared: &Shared) -> Result<(), String> {
        let found = match shared.place(config).await? {
            Place::Folder => self.of_folder(config, shared).await?,
            Place::Server(client) => self.of_client(&client).await?,
            Place::Holder(client, about) => {
                shared.must_suit(&about)?;
                let found = self.of_client(&client).await?;
                Found { unrelated_below: about.unrelated_below, notice: about.notice, ..found }
            }
        };
        self.print(found)
    }

    /// Searches the folder, which nobody holds.
    async fn of_folder(&self, config: &Config, shared: &Shared) -> Result<Found, String> {
        super::must_exist(&config.engine)?;
        let store = super::open(&config.engine)?;
        let provider = pipeline::connect(&config.engine).map_err(|error| error.to_string())?;
        let embedded = provider.embed(self.words.join(" ")).await;
        let query = embedded.map_err(|error: ProviderError| error.message().to_owned())?;
        let found = store
            .queries()
            .nearest(shared.owner.clone(), provider.identity(), query, self.limit.into())
            .await
            .map_err(|error| error.to_string())?;
        let hits = found.into_iter().map(|(upload, score)| Hit {
            id: upload.id,
            path: upload.place().map_or(upload.file_name.clone(), |it| it.to_string_lossy().into_owned()),
            score,
            description: upload.description.map(|it| it.text).unwrap_or_default(),
        });
        let profile = provider.profile();
        Ok(Found { hits: hits.collect(), unrelated_below: profile.unrelated_below, notice: profile.notice })
    }

    /// Asks a running program.
    async fn of_client(&self, client: &Client) -> Result<Found, String> {
        // More than one answer of the API holds is more than anybody reads.
        let (words, limit) = (self.words.join(" "), self.limit.min(MOST).to_string());
        let found: Vec<Scored> =
            client.get("api/v1/search", &[("q", words.as_str()), ("limit", limit.as_str())]).await?;
        let (scores, mut uploads): (Vec<f32>, Vec<UploadLine>) =
            found.into_iter().map(|it| (it.score, it.upload)).unzip();
        list::locate(client, &mut uploads).await?;
        let hits = uploads.into_iter().zip(scores).map(|(upload, score)| Hit {
            id: upload.id,
            path: upload.place().to_owned(),
            score,
            description: upload.description.unwrap_or_default(),
        });
        Ok(Found { hits: hits.collect(), unrelated_below: None, notice: None })
    }

    fn print(&self, found: Found) -> Result<(), String> {
        let Found { hits, unrelated_below, notice } = found;
        if !self.json && hits.is_empty() {
            eprintln!("mediamill: there is nothing that this provider embedded; process some pictures first");
        }
        let nearest = hits.first().map(|hit| hit.score);
        let mut out = Out::default();
        for hit in hits {
            if self.json {
                out.print(&json(&hit)?)?;
            } else {
                out.print(&shown(&hit))?;
            }
        }
        if out.is_closed || self.json {
            return Ok(());
        }
        if nearest.zip(unrelated_below).is_some_and(|(score, below)| score < below) {
            eprintln!(
                "mediamill: no description is close to these words; the results are hardly related to them"
            );
        }
        if let Some(notice) = notice {
            eprintln!("mediamill: {notice}");
        }
        Ok(())
    }
}

/// A result for a person: cut to the width of a terminal, and whole in a pipe.
fn shown(hit: &Hit) -> String {
    let Hit { path, score, description, .. } = hit;
    let Some(columns) = terminal::columns() else {
        return format!("{score:.2} {}\n     {}", one_line(path), one_line(description));
    };
    let room = columns.saturating_sub(6);
    let path = terminal::of_certain_width(&terminal::from_home(Path::new(path)));
    let path = Style::new().bold().apply_to(terminal::cut_middle(&path, room));
    let text = terminal::wrapped(&one_line(description), room, DESCRIPTION_LINES).join("\n      ");
    format!("{score:5.2} {path}\n      {text}")
}
