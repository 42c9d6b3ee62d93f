//! The report of a server with OpenAI's interface about its models.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{explain, no_vision};
use crate::analysis::{
    ModelReport, ProviderError, Role,
    client::Client,
    model_endpoint::ModelEndpoint,
    response::{ErrorResponse, RequestError},
};

/// The owner that llama.cpp names for its model.
const LLAMA_CPP: &str = "llamacpp";

/// The answer to `/models`.
#[derive(Default, Deserialize)]
pub(super) struct ModelList {
    data: Option<Vec<ListedModel>>,
    /// A second list, which only llama.cpp has.
    #[serde(default)]
    models: Vec<LlamaCppModel>,
    error: Option<Value>,
    /// Name of the server's software, if it reports it.
    #[serde(skip)]
    pub(super) software: Option<String>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
    owned_by: Option<String>,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    n_embd: Option<u32>,
}

#[derive(Deserialize)]
struct LlamaCppModel {
    capabilities: Option<Vec<String>>,
}

/// llama.cpp's answer to `/props`. Older versions lack `modalities`.
#[derive(Deserialize)]
struct Props {
    modalities: Option<Modalities>,
}

#[derive(Deserialize)]
struct Modalities {
    vision: Option<bool>,
}

impl ModelList {
    /// Fetches a server's list. It stays empty for a server without one, which is no error.
    pub(super) async fn fetch(client: &Client) -> Result<Self, ProviderError> {
        const HINT: &str =
            "is this a server with OpenAI's interface at provider.base_url? Its path often ends in /v1";
        let response = match client.get("/models").await {
            Ok(response) => response,
            Err(RequestError::Status(ErrorResponse { status: 404 | 405, json: true, .. })) => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error.into_provider_error(client.place())),
        };
        let software = response.software();
        let list: Self = response.json().await.map_err(|error| error.bad_answer_means_misconfigured(HINT))?;
        // Some servers answer an unknown path with status 200.
        if list.data.is_none() && list.error.is_some() {
            let message = format!("{} has no list of models; {HINT}", client.place());
            return Err(ProviderError::misconfigured(message));
        }
        Ok(Self { software, ..list })
    }

    /// Makes sure that llama.cpp has loaded its model: some versions list the model before they can run it.
    pub(super) async fn check_loaded(&self, client: &Client) -> Result<(), ProviderError> {
        if !self.is_llama_cpp() {
            return Ok(());
        }
        match client.get_outside_v1("/health").await {
            // A proxy may block every path but the interface's own.
            Ok(_) | Err(RequestError::Status(ErrorResponse { status: 401..=499, .. })) => Ok(()),
            Err(error) => Err(error.into_provider_error(client.place())),
        }
    }

    fn is_llama_cpp(&self) -> bool {
        let named = self.software.as_deref().is_some_and(|it| it.contains("llama.cpp"));
        named || self.data.iter().flatten().any(|it| it.owned_by.as_deref() == Some(LLAMA_CPP))
    }

    /// Reports one of the models, with the problem that prevents its use.
    pub(super) async fn model_report(&self, endpoint: &ModelEndpoint, dimensions: u32) -> ModelReport {
        let mut report = ModelReport::new(endpoint.role, &endpoint.model);
        let data = self.data.as_deref().unwrap_or_default();
        // Ollama lists a model without a tag under the tag `latest`.
        let is_wanted = |it: &&ListedModel| {
            it.id == endpoint.model || it.id.strip_suffix(":latest") == Some(&endpoint.model)
        };
        let listed = data.iter().find(is_wanted);
        // llama.cpp runs its one model, whatever name a request has.
        let only = data.first().filter(|it| it.owned_by.as_deref() == Some(LLAMA_CPP) && data.len() == 1);
        report.installed = (!data.is_empty()).then_some(listed.or(only).is_some());
        let Some(model) = only else { return report };
        report.capabilities = self.models.first().and_then(|it| it.capabilities.clone());
        report.problem = match endpoint.role {
            Role::Vision => vision_problem(endpoint).await,
            Role::Embedding => {
                report.dimensions = model.meta.as_ref().and_then(|it| it.n_embd);
                let length = || length_problem(endpoint, &model.id, report.dimensions?, dimensions);
                embedding_problem(endpoint).await.or_else(length)
            }
        };
        report
    }
}

/// Why llama.cpp cannot describe, according to `/props`. Its list does not tell, as some versions name only
/// `completion` for models with vision.
async fn vision_problem(endpoint: &ModelEndpoint) -> Option<String> {
    // An older version does not report whether it has vision.
    let props: Props = endpoint.client.get_outside_v1("/props").await.ok()?.json().await.ok()?;
    (!props.modalities?.vision?).then(|| no_vision(endpoint, "its modalities lack vision"))
}

/// Why llama.cpp cannot embed. It reports that before it validates the request, so an empty request finds out
/// without running the model.
async fn embedding_problem(endpoint: &ModelEndpoint) -> Option<String> {
    let Err(RequestError::Status(response)) = endpoint.client.post("/embeddings", &json!({})).await else {
        return None;
    };
    let ProviderError::Misconfigured { message } = explain(endpoint, response) else { return None };
    Some(message)
}

fn length_problem(endpoint: &ModelEndpoint, model: &str, found: u32, configured: u32) -> Option<String> {
    (found != configured).then(|| {
        format!(
            "{} runs `{model}`, whose vectors have {found} numbers, but provider.embedding_dimensions is \
             {configured}; set it to {found}, or name the server of the embedding model with \
             provider.embedding_base_url",
            endpoint.place()
        )
    })
}
