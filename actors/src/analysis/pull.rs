//! Has an Ollama server fetch a model.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::{ProviderError, PullProgress, server::Server};

/// Longest silence: a server says nothing while it checks what it fetched, which takes minutes for a large model.
const SILENCE: Duration = Duration::from_secs(600);

/// Fetches a model and tells how far it is.
pub(super) async fn pull(
    server: &Server,
    model: &str,
    progress: &mut (dyn FnMut(PullProgress) + Send),
) -> Result<(), ProviderError> {
    let place = server.place();
    let silent =
        |_| ProviderError::unreachable(format!("{place} fell silent while it fetched `{model}`; try again"));
    let body = json!({ "model": model, "stream": true });
    let answer = timeout(SILENCE, server.post("/api/pull", &body)).await.map_err(silent)?;
    let mut answer = answer.map_err(|trouble| trouble.into_error(place))?;
    let mut parts = BTreeMap::new();
    while let Some(line) = timeout(SILENCE, answer.line()).await.map_err(silent)?? {
        let line: Line = answer.parse(&line)?;
        if let Some(error) = line.error {
            return Err(ProviderError::bad(format!(
                "{place} cannot fetch `{model}`: {}",
                server.words(&error)
            )));
        }
        if let (Some(digest), Some(total)) = (line.digest, line.total) {
            parts.insert(digest, (line.completed.unwrap_or_default().min(total), total));
        }
        if line.status == "success" {
            return Ok(());
        }
        progress(PullProgress {
            status: server.words(&line.status),
            completed_bytes: parts.values().map(|(completed, _)| completed).sum(),
            total_bytes: parts.values().map(|(_, total)| total).sum(),
        });
    }
    Err(ProviderError::unreachable(format!(
        "{place} stopped before `{model}` was there; try again, it goes on where it stopped"
    )))
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    status: String,
    digest: Option<String>,
    total: Option<u64>,
    completed: Option<u64>,
    error: Option<String>,
}
