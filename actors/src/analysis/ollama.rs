//! The provider `ollama`: a server with Ollama's own interface.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::FutureExt as _;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    BoxFuture, DescribeRequest, Described, Identity, ModelReport, Provider, ProviderError, ProviderProfile,
    PullProgress, Report, Role, ServerReport,
    client::Client,
    model_endpoint::{ModelEndpoint, ModelEndpoints},
    prompts,
    pull::pull,
    questions::{Model, PromptSettings, Question, sampling},
    reply::{Reply, ValidText},
    response::{ErrorResponse, RequestError, error_text, failed_on_request},
    vector,
};
use crate::{
    config::{self, ProviderKind, ServerSettings, known_models},
    media::VisionSpec,
};

/// A server with Ollama's own interface; embeddings may come from a second one.
#[derive(Debug)]
pub(super) struct Ollama {
    models: ModelEndpoints,
    vision_info: Mutex<Option<ModelInfo>>,
    embedding_info: Mutex<Option<ModelInfo>>,
    dimensions: u32,
    max_chars: usize,
    temperature: f32,
    context_tokens: u32,
    prompt_settings: PromptSettings,
}

/// The last report of a server about one of the models.
#[derive(Debug, Clone)]
struct ModelInfo {
    digest: Option<String>,
    /// `None`: not reported, which differs from an empty list.
    capabilities: Option<Vec<String>>,
    dimensions: Option<u32>,
}

impl ModelInfo {
    /// Whether the model has a capability; `None` if the server did not report them.
    fn can(&self, capability: &str) -> Option<bool> {
        Some(self.capabilities.as_ref()?.iter().any(|it| it == capability))
    }
}

impl Ollama {
    /// # Errors
    /// [`ProviderError::Misconfigured`] with the key of the configuration that is wrong.
    pub(super) fn new(section: &config::Provider, server: ServerSettings) -> Result<Self, ProviderError> {
        Ok(Self {
            dimensions: server.dimensions,
            models: ModelEndpoints::new("Ollama", section, server)?,
            vision_info: Mutex::new(None),
            embedding_info: Mutex::new(None),
            max_chars: section.embedding_max_chars as usize,
            temperature: section.temperature,
            context_tokens: section.context_tokens,
            prompt_settings: PromptSettings::new(section),
        })
    }

    fn info(&self, role: Role) -> &Mutex<Option<ModelInfo>> {
        match role {
            Role::Vision => &self.vision_info,
            Role::Embedding => &self.embedding_info,
        }
    }

    async fn chat(&self, question: Question<'_>) -> Result<ValidText, ProviderError> {
        let endpoint = &self.models.vision;
        let (temperature, seed) = sampling(self.temperature, question.variation);
        let mut message = json!({ "role": "user", "content": question.prompt });
        if let Some(jpeg) = question.jpeg {
            message["images"] = json!([BASE64_STANDARD.encode(jpeg)]);
        }
        let mut body = json!({
            "model": endpoint.model,
            "messages": [message],
            "stream": true,
            // Another `num_ctx` would make the server load the model again. Without `num_predict`, a loop has
            // no end.
            "options": {
                "num_ctx": self.context_tokens,
                "num_predict": question.max_tokens.0,
                "temperature": temperature,
                "seed": seed,
            },
        });
        if question.variation > 0 {
            body["options"]["repeat_penalty"] = json!(1.2);
        }
        if self.vision_info.lock().as_ref().and_then(|it| it.can("thinking")) == Some(true) {
            body["think"] = json!(false);
        }
        let mut response = endpoint.post("/api/chat", &body, explain).await?;
        let mut reply = Reply::default();
        while let Some(line) = response.line().await? {
            let line: ChatLine = response.parse(&line)?;
            if let Some(error) = line.error {
                let said = endpoint.client.quoted(&error_text(&error));
                return Err(failed_on_request(endpoint.place(), &said));
            }
            if let Some(message) = line.message {
                if !message.thinking.unwrap_or_default().is_empty() {
                    reply.set_thinking();
                }
                reply.push(&message.content.unwrap_or_default())?;
            }
            if line.done {
                if line.done_reason.as_deref() == Some("length") {
                    reply.set_truncated();
                }
                return reply.finish(&endpoint.model, question.max_tokens.1);
            }
        }
        Err(ProviderError::unreachable(format!(
            "the answer of {} ended before it was complete",
            endpoint.place()
        )))
    }

    async fn vector(&self, text: &str) -> Result<Vec<f32>, ProviderError> {
        let endpoint = &self.models.embedding;
        let text = vector::cut(text, self.max_chars);
        if text.is_empty() {
            return Err(ProviderError::bad_answer("there is no text to embed"));
        }
        let body = json!({ "model": endpoint.model, "input": text });
        match endpoint.client.post("/api/embed", &body).await {
            Ok(response) => {
                let Embeddings { embeddings } = response.json().await?;
                let [numbers] = embeddings.as_slice() else {
                    return Err(vector::not_one(endpoint.place(), embeddings.len()));
                };
                vector::checked(numbers, &endpoint.model, self.dimensions)
            }
            // Ollama before version 0.3 has only `/api/embeddings`. A missing model would be reported as
            // JSON.
            Err(RequestError::Status(ErrorResponse { status: 404 | 405, json: false, .. })) => {
                self.vector_before_0_3(text).await
            }
            Err(RequestError::Status(response)) => Err(explain(endpoint, response)),
            Err(RequestError::Provider(error)) => Err(error),
        }
    }

    async fn vector_before_0_3(&self, text: &str) -> Result<Vec<f32>, ProviderError> {
        let endpoint = &self.models.embedding;
        let body = json!({ "model": endpoint.model, "prompt": text });
        let response = endpoint.post("/api/embeddings", &body, explain).await?;
        let OldEmbedding { embedding } = response.json().await?;
        vector::checked(&embedding, &endpoint.model, self.dimensions).map(vector::normalised)
    }

    /// Reports one of the models, with the problem that prevents its use.
    async fn model_report(&self, endpoint: &ModelEndpoint) -> Result<ModelReport, ProviderError> {
        let place = endpoint.place();
        let Tags { models } = get(&endpoint.client, "/api/tags").await?;
        let name = full_name(&endpoint.model);
        let tag = models.into_iter().find(|tag| full_name(&tag.name) == name).unwrap_or_default();
        let mut report = ModelReport {
            digest: tag.digest,
            size_bytes: tag.size,
            ..ModelReport::new(endpoint.role, &endpoint.model)
        };
        // `/api/show` decides whether a model is installed: `/api/tags` omits models that run elsewhere.
        let info = match endpoint.client.post("/api/show", &json!({ "model": endpoint.model })).await {
            Ok(response) => {
                let shown: Shown = response.json().await?;
                let dimensions = shown.dimensions();
                ModelInfo { digest: report.digest.clone(), dimensions, capabilities: shown.capabilities }
            }
            Err(RequestError::Status(response @ ErrorResponse { status: 404, json: true, .. })) => {
                report.installed = Some(false);
                report.install = Some(format!("ollama pull {}", endpoint.model));
                report.problem = Some(explain(endpoint, response).into_message());
                return Ok(report);
            }
            Err(error) => return Err(error.into_provider_error(place)),
        };
        *self.info(endpoint.role).lock() = Some(info.clone());
        report.installed = Some(true);
        report.problem = match endpoint.role {
            Role::Vision => (info.can("vision") == Some(false)).then(|| {
                format!(
                    "`{}` at {place} cannot see pictures; choose a vision model with provider.vision_model \
                     (--model), for example qwen2.5vl:7b",
                    endpoint.model
                )
            }),
            Role::Embedding => {
                report.dimensions = info.dimensions;
                let other = info.dimensions.filter(|it| *it != self.dimensions);
                other.map(|length| vector::wrong_length(&endpoint.model, length, self.dimensions))
            }
        };
        report.capabilities = info.capabilities;
        Ok(report)
    }
}

/// The meaning of an error status for a model.
fn explain(endpoint: &ModelEndpoint, response: ErrorResponse) -> ProviderError {
    let ModelEndpoint { model, .. } = endpoint;
    let (place, key, text) = (endpoint.place(), endpoint.config_key(), &response.text);
    match response.status {
        404 if response.json => ProviderError::misconfigured(format!(
            "{place} does not have the model `{model}`: run `ollama pull {model}` (or `mediamill models \
             pull`), or choose another {key}"
        )),
        // Ollama answers many faults with 400 or 500; only the text tells them apart.
        400 | 500 if text.contains("does not support") || text.contains("data required for image input") => {
            ProviderError::misconfigured(format!(
                "`{model}` at {place} cannot do this ({text}); choose another {key}"
            ))
        }
        _ => response.into_provider_error(place),
    }
}

impl Model for Ollama {
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Result<ValidText, ProviderError>> {
        self.chat(question).boxed()
    }

    fn sampling_change(&self, variation: u32) -> String {
        let (temperature, seed) = sampling(self.temperature, variation);
        format!("temperature {temperature}, seed {seed}, repeat penalty 1.2 and a briefer prompt")
    }
}

impl Provider for Ollama {
    fn identity(&self) -> Identity {
        let digest = |role| self.info(role).lock().as_ref().and_then(|it| it.digest.clone());
        Identity {
            provider: ProviderKind::Ollama.name().to_owned(),
            vision_model: self.models.vision.model.clone(),
            embedding_model: self.models.embedding.model.clone(),
            dimensions: self.dimensions,
            prompt_version: prompts::VERSION,
            language: self.prompt_settings.language().to_owned(),
            vision_digest: digest(Role::Vision),
            embedding_digest: digest(Role::Embedding),
        }
    }

    /// Ollama unloads one model for another where memory is short.
    fn profile(&self) -> ProviderProfile {
        ProviderProfile { models_swap: self.models.share_server(), ..ProviderProfile::default() }
    }

    fn vision(&self, configured: VisionSpec) -> VisionSpec {
        known_models::vision(&self.models.vision.model, configured)
    }

    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        async move { self.prompt_settings.describe(self, &request).await }.boxed()
    }

    fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        async move { self.vector(&text).await }.boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        async move {
            let servers = self.models.by_server();
            for (client, _) in &servers {
                let Version { .. } = get(client, "/api/version").await?;
            }
            for endpoint in servers.into_iter().flat_map(|(_, endpoints)| endpoints) {
                if let Some(message) = self.model_report(endpoint).await?.problem {
                    return Err(ProviderError::Misconfigured { message });
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn report(&self) -> BoxFuture<'_, Report> {
        async move {
            let (mut servers, mut models) = (Vec::new(), Vec::new());
            for (client, endpoints) in self.models.by_server() {
                let (version, problem) = match get::<Version>(client, "/api/version").await {
                    Ok(Version { version }) => (Some(format!("Ollama {version}")), None),
                    Err(error) => (None, Some(error.into_message())),
                };
                let (address, reachable) = (client.address().to_owned(), problem.is_none());
                servers.push(ServerReport { address, reachable, version, problem });
                // A server that cannot be reached reports nothing about its models.
                for endpoint in endpoints.into_iter().filter(|_| reachable) {
                    models.push(self.model_report(endpoint).await.unwrap_or_else(|error| ModelReport {
                        problem: Some(error.into_message()),
                        ..ModelReport::new(endpoint.role, &endpoint.model)
                    }));
                }
            }
            Report { provider: ProviderKind::Ollama.name().to_owned(), servers, models }
        }
        .boxed()
    }

    fn pull<'a>(
        &'a self,
        model: &'a str,
        progress: &'a mut (dyn FnMut(PullProgress) + Send),
    ) -> BoxFuture<'a, Result<(), ProviderError>> {
        let ModelEndpoints { vision, embedding } = &self.models;
        let embeds = full_name(model) == full_name(&embedding.model);
        pull(if embeds { &embedding.client } else { &vision.client }, model, progress).boxed()
    }
}

async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T, ProviderError> {
    let response = client.get(path).await.map_err(|error| error.into_provider_error(client.place()))?;
    let parsed = response.json().await;
    parsed.map_err(|error| {
        error.bad_answer_means_misconfigured(
            "is this Ollama at provider.base_url? Other servers need provider.kind = \"openai\"",
        )
    })
}

/// A model's name as Ollama lists it.
fn full_name(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { name } else { format!("{name}:latest") }
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Tags {
    models: Vec<Tag>,
}

#[derive(Default, Deserialize)]
struct Tag {
    name: String,
    digest: Option<String>,
    size: Option<u64>,
}

#[derive(Deserialize)]
struct Shown {
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    model_info: serde_json::Map<String, Value>,
}

impl Shown {
    /// Length of the vectors, under a key that begins with the model's architecture.
    fn dimensions(&self) -> Option<u32> {
        let entry = self.model_info.iter().find(|(key, _)| key.ends_with(".embedding_length"));
        entry.and_then(|(_, length)| length.as_u64()?.try_into().ok())
    }
}

#[derive(Deserialize)]
struct ChatLine {
    message: Option<Message>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    thinking: Option<String>,
}

#[derive(Deserialize)]
struct Embeddings {
    embeddings: Vec<Vec<Option<f64>>>,
}

#[derive(Deserialize)]
struct OldEmbedding {
    embedding: Vec<Option<f64>>,
}
