//! `mediamill search`: searches the descriptions by meaning.

use std::io::{self, Write as _};

use mediamill_actors::{analysis::ProviderError, config::Config, id::Owner, pipeline, text};
use serde::Serialize;

/// The arguments of `search`.
#[derive(Debug, clap::Args)]
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

#[derive(Serialize)]
struct Hit {
    path: String,
    score: f32,
    description: String,
}

impl Search {
    pub(crate) async fn run(self, config: &Config) -> Result<(), String> {
        super::must_exist(config)?;
        let store = super::open(config)?;
        let provider = pipeline::connect(config).map_err(|error| error.to_string())?;
        let embedded = provider.embed(self.words.join(" ")).await;
        let query = embedded.map_err(|error: ProviderError| error.message().to_owned())?;
        let found = store
            .queries()
            .nearest(Owner::local(), provider.identity(), query, self.limit.into())
            .await
            .map_err(|error| error.to_string())?;
        let profile = provider.profile();
        let nearest = found.first().map(|(_, score)| *score);
        let mut out = io::stdout().lock();
        if !self.json && found.is_empty() {
            eprintln!("mediamill: there is nothing that this provider embedded; process some pictures first");
        }
        for (upload, score) in found {
            let path =
                upload.place().map_or(upload.file_name.clone(), |it| it.to_string_lossy().into_owned());
            let description = upload.description.map(|it| it.text).unwrap_or_default();
            let line = if self.json {
                let hit = serde_json::to_string(&Hit { path, score, description });
                text::json_line(hit.map_err(|error| error.to_string())?)
            } else {
                format!("{score:.2} {}\n     {}", text::one_line(&path), text::one_line(&description))
            };
            match writeln!(out, "{line}") {
                Ok(()) => {}
                // The reader has seen enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(format!("cannot write the results: {error}")),
            }
        }
        let unrelated = nearest.zip(profile.unrelated_below).is_some_and(|(score, below)| score < below);
        if !self.json && unrelated {
            eprintln!(
                "mediamill: no description is close to these words; the results are hardly related to them"
            );
        }
        if let Some(notice) = profile.notice.filter(|_| !self.json) {
            eprintln!("mediamill: {notice}");
        }
        Ok(())
    }
}
