//! The provider `ollama`: a server of Ollama's own interface.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    DescribeRequest, Described, Identity, ModelReport, Provider, ProviderError, PullProgress, Report, Role,
    ServerReport,
    answer::{Refusal, Trouble},
    frames::{Manner, Model, Question, sampling},
    models, prompts,
    pull::pull,
    reply::{Reply, Sound},
    server::Server,
    vector,
};
use crate::{config, media::VisionSpec};

/// Where Ollama listens by itself.
const ADDRESS: &str = "http://127.0.0.1:11434";

/// A server of Ollama's own interface; embeddings may come from a second one.
#[derive(Debug)]
pub(super) struct Ollama {
    vision: Seat,
    embedding: Seat,
    dimensions: u32,
    max_chars: usize,
    temperature: f32,
    context_tokens: u32,
    manner: Manner,
}

/// A model, where it runs, and what its server told of it last.
#[derive(Debug)]
struct Seat {
    role: Role,
    server: Arc<Server>,
    model: String,
    known: Mutex<Option<Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    digest: Option<String>,
    /// `None`: the server does not tell, which is not the same as nothing.
    capabilities: Option<Vec<String>>,
    dimensions: Option<u32>,
}

impl Ollama {
    /// # Errors
    /// [`ProviderError::Misconfigured`] with the key of the configuration that is wrong.
    pub(super) fn new(config: &config::Provider) -> Result<Self, ProviderError> {
        let server = |url: &str| {
            Server::new("Ollama", url, config.api_key_env.as_deref(), config.connect_timeout).map(Arc::new)
        };
        let base = server(config.base_url.as_deref().unwrap_or(ADDRESS))?;
        let other = config.embedding_base_url.as_deref().map(server).transpose()?;
        let seat = |role, server: &Arc<Server>, model: Option<&str>| Seat {
            role,
            server: Arc::clone(server),
            model: model.unwrap_or_default().trim().to_owned(),
            known: Mutex::new(None),
        };
        let embedding = seat(Role::Embedding, other.as_ref().unwrap_or(&base), config.embedding_model());
        let dimensions = config.embedding_dimensions.or_else(|| models::known_dimensions(&embedding.model));
        Ok(Self {
            vision: seat(Role::Vision, &base, config.vision_model()),
            dimensions: dimensions
                .ok_or_else(|| ProviderError::misconfigured("provider.embedding_dimensions must be set"))?,
            embedding,
            max_chars: config.embedding_max_chars as usize,
            temperature: config.temperature,
            context_tokens: config.context_tokens,
            manner: Manner::of(config),
        })
    }

    /// The servers that are asked, each once.
    fn servers(&self) -> impl Iterator<Item = &Server> {
        let other =
            (!Arc::ptr_eq(&self.vision.server, &self.embedding.server)).then_some(&*self.embedding.server);
        std::iter::once(&*self.vision.server).chain(other)
    }

    async fn chat(&self, question: Question<'_>) -> Result<Sound, ProviderError> {
        let Seat { server, model, .. } = &self.vision;
        let (temperature, seed) = sampling(self.temperature, question.variation);
        let mut message = json!({ "role": "user", "content": question.prompt });
        if let Some(jpeg) = question.jpeg {
            message["images"] = json!([BASE64_STANDARD.encode(jpeg)]);
        }
        let mut body = json!({
            "model": model,
            "messages": [message],
            "stream": true,
            // `num_ctx` must always be the same: another value loads the model anew. Without `num_predict` a loop has no end.
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
        if self.vision.can("thinking") == Some(true) {
            body["think"] = json!(false);
        }
        let mut answer = match server.post("/api/chat", &body).await {
            Ok(answer) => answer,
            Err(Trouble::Refused(refusal)) => return Err(self.vision.refused(refusal)),
            Err(Trouble::Error(error)) => return Err(error),
        };
        let mut reply = Reply::default();
        while let Some(line) = answer.line().await? {
            let line: ChatLine = answer.parse(&line)?;
            if let Some(error) = line.error {
                let words = server.words(&error.as_str().map_or_else(|| error.to_string(), str::to_owned));
                return Err(ProviderError::ServerFault {
                    message: format!(
                        "{} broke on this request ({words}); its own log tells more",
                        server.place()
                    ),
                });
            }
            if let Some(message) = line.message {
                if !message.thinking.unwrap_or_default().is_empty() {
                    reply.thinks();
                }
                reply.push(&message.content.unwrap_or_default())?;
            }
            if line.done {
                if line.done_reason.as_deref() == Some("length") {
                    reply.is_cut();
                }
                return reply.finish(model, question.max_tokens.1);
            }
        }
        Err(ProviderError::unreachable(format!("the answer of {} ended before it was done", server.place())))
    }

    async fn vector(&self, text: &str) -> Result<Vec<f32>, ProviderError> {
        let Seat { server, model, .. } = &self.embedding;
        let text = vector::cut(text, self.max_chars);
        if text.is_empty() {
            return Err(ProviderError::bad("there is no text to embed"));
        }
        match server.post("/api/embed", &json!({ "model": model, "input": text })).await {
            Ok(answer) => {
                let Embeddings { embeddings } = answer.json().await?;
                let [numbers] = embeddings.as_slice() else {
                    let message =
                        format!("{} gave {} vectors for one text", server.place(), embeddings.len());
                    return Err(ProviderError::bad(message));
                };
                vector::checked(numbers, model, self.dimensions)
            }
            // Servers from before version 0.3 know the old form alone; a missing model is told in JSON.
            Err(Trouble::Refused(Refusal { status: 404 | 405, json: false, .. })) => {
                self.old_vector(text).await
            }
            Err(Trouble::Refused(refusal)) => Err(self.embedding.refused(refusal)),
            Err(Trouble::Error(error)) => Err(error),
        }
    }

    async fn old_vector(&self, text: &str) -> Result<Vec<f32>, ProviderError> {
        let Seat { server, model, .. } = &self.embedding;
        match server.post("/api/embeddings", &json!({ "model": model, "prompt": text })).await {
            Ok(answer) => {
                let OldEmbedding { embedding } = answer.json().await?;
                vector::checked(&embedding, model, self.dimensions).map(vector::normalised)
            }
            Err(Trouble::Refused(refusal)) => Err(self.embedding.refused(refusal)),
            Err(Trouble::Error(error)) => Err(error),
        }
    }

    /// What a server says of one of the models, with the problem that stands in the way.
    async fn look(&self, seat: &Seat) -> Result<ModelReport, ProviderError> {
        let place = seat.server.place();
        let Tags { models } = ask(&seat.server, "/api/tags").await?;
        let tag =
            models.into_iter().find(|tag| full_name(&tag.name) == full_name(&seat.model)).unwrap_or_default();
        let mut report = ModelReport {
            digest: tag.digest,
            size_bytes: tag.size,
            ..ModelReport::new(seat.role, &seat.model)
        };
        // It is the word on whether a model is there: models that run elsewhere are not listed, but can be shown.
        let known = match seat.server.post("/api/show", &json!({ "model": seat.model })).await {
            Ok(answer) => {
                let shown: Shown = answer.json().await?;
                let dimensions = shown.dimensions();
                Known { digest: report.digest.clone(), dimensions, capabilities: shown.capabilities }
            }
            Err(Trouble::Refused(refusal @ Refusal { status: 404, json: true, .. })) => {
                report.there = Some(false);
                report.install = Some(format!("ollama pull {}", seat.model));
                report.problem = Some(seat.refused(refusal).into_message());
                return Ok(report);
            }
            Err(trouble) => return Err(trouble.into_error(place)),
        };
        *seat.known.lock() = Some(known.clone());
        report.there = Some(true);
        report.capabilities = known.capabilities;
        report.problem = match (seat.role, known.dimensions) {
            (Role::Vision, _) if seat.can("vision") == Some(false) => Some(format!(
                "`{}` at {place} cannot see pictures; choose a vision model with provider.vision_model (--model), for example qwen2.5vl:7b",
                seat.model
            )),
            (Role::Embedding, Some(dimensions)) => {
                report.dimensions = Some(dimensions);
                (dimensions != self.dimensions).then(|| {
                    format!(
                        "the vectors of `{}` have {dimensions} numbers, but provider.embedding_dimensions is {}; set it to {dimensions} or choose \
                         another provider.embedding_model",
                        seat.model, self.dimensions
                    )
                })
            }
            (Role::Vision, _) | (Role::Embedding, None) => None,
        };
        Ok(report)
    }
}

impl Seat {
    /// Whether the model can do something; `None` if the server did not tell.
    fn can(&self, capability: &str) -> Option<bool> {
        let known = self.known.lock();
        Some(known.as_ref()?.capabilities.as_ref()?.iter().any(|it| it == capability))
    }

    /// What a refusal of a call to the model means.
    fn refused(&self, refusal: Refusal) -> ProviderError {
        let Self { server, model, role, .. } = self;
        let (place, words) = (server.place(), &refusal.words);
        let key = match role {
            Role::Vision => "provider.vision_model",
            Role::Embedding => "provider.embedding_model",
        };
        match refusal.status {
            404 if refusal.json => ProviderError::misconfigured(format!(
                "{place} does not have the model `{model}`: run `ollama pull {model}` (or `mediamill models pull`), or choose another {key}"
            )),
            // Of these the number says nothing: 400 and 500 stand for everything.
            400 | 500
                if words.contains("does not support") || words.contains("data required for image input") =>
            {
                ProviderError::misconfigured(format!(
                    "`{model}` at {place} cannot do this ({words}); choose another {key}"
                ))
            }
            _ => refusal.into_error(place),
        }
    }
}

impl Model for Ollama {
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Result<Sound, ProviderError>> {
        self.chat(question).boxed()
    }

    fn sampling(&self, variation: u32) -> String {
        let (temperature, seed) = sampling(self.temperature, variation);
        format!("temperature {temperature}, seed {seed}, repeat penalty 1.2 and a briefer prompt")
    }
}

impl Provider for Ollama {
    fn identity(&self) -> Identity {
        let digest = |seat: &Seat| seat.known.lock().as_ref().and_then(|it| it.digest.clone());
        Identity {
            provider: "ollama".to_owned(),
            vision_model: self.vision.model.clone(),
            embedding_model: self.embedding.model.clone(),
            dimensions: self.dimensions,
            prompt_version: prompts::VERSION,
            language: self.manner.language().to_owned(),
            vision_digest: digest(&self.vision),
            embedding_digest: digest(&self.embedding),
        }
    }

    fn vision(&self, configured: VisionSpec) -> VisionSpec {
        models::vision(&self.vision.model, configured)
    }

    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        async move { self.manner.describe(self, &request).await }.boxed()
    }

    fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        async move { self.vector(&text).await }.boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        async move {
            for server in self.servers() {
                let Version { .. } = ask(server, "/api/version").await?;
            }
            for seat in [&self.vision, &self.embedding] {
                if let Some(message) = self.look(seat).await?.problem {
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
            for server in self.servers() {
                let (version, problem) = match ask::<Version>(server, "/api/version").await {
                    Ok(Version { version }) => (Some(format!("Ollama {version}")), None),
                    Err(error) => (None, Some(error.into_message())),
                };
                let reachable = problem.is_none();
                servers.push(ServerReport {
                    address: server.address().to_owned(),
                    reachable,
                    version,
                    problem,
                });
                if !reachable {
                    // Nothing is known of its models then.
                    continue;
                }
                for seat in
                    [&self.vision, &self.embedding].into_iter().filter(|it| std::ptr::eq(&*it.server, server))
                {
                    models.push(self.look(seat).await.unwrap_or_else(|error| ModelReport {
                        problem: Some(error.into_message()),
                        ..ModelReport::new(seat.role, &seat.model)
                    }));
                }
            }
            Report { provider: "ollama".to_owned(), servers, models }
        }
        .boxed()
    }

    fn pull<'a>(
        &'a self,
        model: &'a str,
        progress: &'a mut (dyn FnMut(PullProgress) + Send),
    ) -> BoxFuture<'a, Result<(), ProviderError>> {
        let seat =
            if full_name(model) == full_name(&self.embedding.model) { &self.embedding } else { &self.vision };
        pull(&seat.server, model, progress).boxed()
    }
}

async fn ask<T: serde::de::DeserializeOwned>(server: &Server, path: &str) -> Result<T, ProviderError> {
    match server.get(path).await {
        Ok(answer) => answer.json().await.map_err(|error| match error {
            ProviderError::BadAnswer { message } => ProviderError::misconfigured(format!(
                "{message}; is that really Ollama at provider.base_url? Other servers are spoken to with provider.kind = \"openai\""
            )),
            other => other,
        }),
        Err(trouble) => Err(trouble.into_error(server.place())),
    }
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
    /// Length of the vectors: named after the model's architecture.
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
