//! Makes an Ollama server fetch a model.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::{ProviderError, PullProgress, client::Client};

/// Longest silence. A server is silent while it verifies a model, which takes minutes for a large one.
const SILENCE: Duration = Duration::from_secs(600);

/// Fetches a model and reports the progress.
pub(super) async fn pull(
    client: &Client,
    model: &str,
    progress: &mut (dyn FnMut(PullProgress) + Send),
) -> Result<(), ProviderError> {
    let place = client.place();
    let silent =
        |_| ProviderError::unreachable(format!("{place} fell silent while it fetched `{model}`; try again"));
    let body = json!({ "model": model, "stream": true });
    let response = timeout(SILENCE, client.post("/api/pull", &body)).await.map_err(silent)?;
    let mut response = response.map_err(|error| error.into_provider_error(place))?;
    let mut layers = BTreeMap::new();
    while let Some(line) = timeout(SILENCE, response.line()).await.map_err(silent)?? {
        let line: Line = response.parse(&line)?;
        if let Some(error) = line.error {
            return Err(ProviderError::bad_answer(format!(
                "{place} cannot fetch `{model}`: {}",
                client.quoted(&error)
            )));
        }
        if let (Some(digest), Some(total)) = (line.digest, line.total) {
            layers.insert(digest, (line.completed.unwrap_or_default().min(total), total));
        }
        if line.status == "success" {
            return Ok(());
        }
        progress(PullProgress {
            status: client.quoted(&line.status),
            completed_bytes: layers.values().map(|(completed, _)| completed).sum(),
            total_bytes: layers.values().map(|(_, total)| total).sum(),
        });
    }
    Err(ProviderError::unreachable(format!(
        "{place} stopped before `{model}` was complete; try again, it resumes where it stopped"
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
