//! The provider `openai`: any server of OpenAI's interface.

mod list;

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use self::list::List;
use super::{
    DescribeRequest, Described, Identity, Provider, ProviderError, Report, Role, ServerReport,
    answer::{Answer, Refusal, Trouble},
    frames::{Manner, Model, Question, sampling},
    models, prompts,
    reply::{Reply, Sound},
    server::Server,
    vector,
};
use crate::{config, media::VisionSpec};

/// Where llama.cpp's server listens by itself.
const ADDRESS: &str = "http://127.0.0.1:8080";
/// Parameters that some models refuse; a refused one is left out from then on.
const OPTIONAL: [&str; 4] = ["max_tokens", "temperature", "seed", "frequency_penalty"];
/// How servers say that they do not take a parameter, in lower case.
const UNWANTED: [&str; 8] = [
    "unsupported",
    "not support",
    "unknown",
    "unrecognized",
    "unexpected",
    "extra_forbidden",
    "extra inputs",
    "not permitted",
];
/// How servers say that a model cannot see; there is no code for it.
const BLIND: [&str; 6] = [
    "image input is not supported",
    "does not support image",
    "not support vision",
    "is not a multimodal model",
    "At most 0 image",
    "image_url is only supported by certain models",
];

/// How servers say that a text has more tokens than they take.
const LONG: [&str; 3] = ["too large to process", "context length", "context size"];

/// A server of OpenAI's interface; embeddings may come from a second one.
#[derive(Debug)]
pub(super) struct OpenAi {
    vision: Seat,
    embedding: Seat,
    dimensions: u32,
    /// The configuration names the dimensions, so that a model which can shorten its vectors is told them.
    told_dimensions: bool,
    max_chars: usize,
    temperature: f32,
    manner: Manner,
    refused: Mutex<BTreeSet<&'static str>>,
}

/// A model and where it runs.
#[derive(Debug)]
struct Seat {
    role: Role,
    server: Arc<Server>,
    model: String,
}

impl OpenAi {
    /// # Errors
    /// [`ProviderError::Misconfigured`] with the key of the configuration that is wrong.
    pub(super) fn new(config: &config::Provider) -> Result<Self, ProviderError> {
        let server = |url: &str| {
            let server =
                Server::new("the model server", url, config.api_key_env.as_deref(), config.connect_timeout)?;
            Ok(Arc::new(server.with_default_path("/v1")))
        };
        let base = server(config.base_url.as_deref().unwrap_or(ADDRESS))?;
        let other = config.embedding_base_url.as_deref().map(server).transpose()?;
        let seat = |role, key: &str, server: &Arc<Server>, model: Option<&str>| {
            let missing = || {
                ProviderError::misconfigured(format!(
                    "provider.{key} must name a model where provider.kind is openai"
                ))
            };
            let model = model.ok_or_else(missing)?.trim().to_owned();
            Ok(Seat { role, server: Arc::clone(server), model })
        };
        let embedding = seat(
            Role::Embedding,
            "embedding_model",
            other.as_ref().unwrap_or(&base),
            config.embedding_model(),
        )?;
        let dimensions = config.embedding_dimensions.or_else(|| models::known_dimensions(&embedding.model));
        Ok(Self {
            vision: seat(Role::Vision, "vision_model", &base, config.vision_model())?,
            dimensions: dimensions
                .ok_or_else(|| ProviderError::misconfigured("provider.embedding_dimensions must be set"))?,
            told_dimensions: config.embedding_dimensions.is_some(),
            embedding,
            max_chars: config.embedding_max_chars as usize,
            temperature: config.temperature,
            manner: Manner::of(config),
            refused: Mutex::default(),
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
        let content = match question.jpeg {
            Some(jpeg) => {
                let url = format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg));
                json!([{ "type": "text", "text": question.prompt }, { "type": "image_url", "image_url": { "url": url } }])
            }
            None => json!(question.prompt),
        };
        let (temperature, seed) = sampling(self.temperature, question.variation);
        let mut body = json!({
            "model": model,
            "messages": [{ "role": "user", "content": content }],
            "stream": true,
            "max_tokens": question.max_tokens.0,
            "temperature": temperature,
            "seed": seed,
        });
        if question.variation > 0 {
            body["frequency_penalty"] = json!(0.3);
        }
        let mut answer = self.negotiated(body).await?;
        let mut reply = Reply::default();
        let broke = |words: String| ProviderError::ServerFault {
            message: format!("{} broke on this request ({words}); its own log tells more", server.place()),
        };
        if answer.is_whole() {
            // The server does not stream.
            let whole: Chunk = answer.json().await?;
            if let Some(error) = &whole.error {
                return Err(broke(server.words(&words(error))));
            }
            whole.take(&mut reply, server)?;
            return reply.finish(model, question.max_tokens.1);
        }
        let mut finished = false;
        while let Some(line) = answer.line().await? {
            // Comments keep the connection alive, and names of events say nothing here.
            let Some(data) = line.strip_prefix("data:") else {
                if ["event:", "id:", "retry:", ":"].iter().any(|it| line.starts_with(it)) {
                    continue;
                }
                return Err(stray(&answer, server, &line));
            };
            if data.trim() == "[DONE]" {
                finished = true;
                break;
            }
            let chunk: Chunk = answer.parse(data.trim())?;
            if let Some(error) = &chunk.error {
                return Err(broke(server.words(&words(error))));
            }
            finished |= chunk.take(&mut reply, server)?;
        }
        if !finished {
            return Err(ProviderError::unreachable(format!(
                "the answer of {} ended before it was done",
                server.place()
            )));
        }
        reply.finish(model, question.max_tokens.1)
    }

    /// Asks without the parameters that this model refused before, and once more without each that it refuses now.
    async fn negotiated(&self, body: Value) -> Result<Answer<'_>, ProviderError> {
        let Seat { server, .. } = &self.vision;
        loop {
            let refused = self.refused.lock().clone();
            match server.post("/chat/completions", &without(body.clone(), &refused)).await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Refused(refusal)) => {
                    let named = OPTIONAL
                        .iter()
                        .find(|it| !refused.contains(*it) && body.get(**it).is_some() && refusal.names(it));
                    match named {
                        Some(parameter) => {
                            log::info!(
                                "`{}` refuses {parameter}; it is asked without ({})",
                                self.vision.model,
                                refusal.words
                            );
                            self.refused.lock().insert(parameter);
                        }
                        None => return Err(self.vision.refused(refusal)),
                    }
                }
                Err(Trouble::Error(error)) => return Err(error),
            }
        }
    }

    async fn vector(&self, text: &str) -> Result<Vec<f32>, ProviderError> {
        let Seat { server, model, .. } = &self.embedding;
        let text = vector::cut(text, self.max_chars);
        if text.is_empty() {
            return Err(ProviderError::bad("there is no text to embed"));
        }
        let mut body = json!({ "model": model, "input": text, "encoding_format": "float" });
        if self.told_dimensions && model.contains("text-embedding-3") {
            body["dimensions"] = json!(self.dimensions);
        }
        match server.post("/embeddings", &body).await {
            Ok(answer) => {
                let Vectors { mut data } = answer.json().await?;
                data.sort_by_key(|vector| vector.index);
                let [vector] = data.as_slice() else {
                    let message = format!("{} gave {} vectors for one text", server.place(), data.len());
                    return Err(ProviderError::bad(message));
                };
                vector::checked(&vector.embedding, model, self.dimensions)
            }
            Err(Trouble::Refused(refusal)) => Err(self.embedding.refused(refusal)),
            Err(Trouble::Error(error)) => Err(error),
        }
    }
}

/// A line that no such stream has: an error, or something else than a model server.
fn stray(answer: &Answer<'_>, server: &Server, line: &str) -> ProviderError {
    match answer.parse::<Value>(line) {
        Ok(value) if value.get("error").is_some() => ProviderError::ServerFault {
            message: format!(
                "{} broke on this request ({}); its own log tells more",
                server.place(),
                server.words(line)
            ),
        },
        Ok(_) => ProviderError::bad(format!("{} answers with something else than a stream", server.place())),
        Err(error) => error,
    }
}

fn words(error: &Value) -> String {
    let message = error.get("message").unwrap_or(error);
    message.as_str().map_or_else(|| message.to_string(), str::to_owned)
}

/// A request without what is refused; the token limit has a second name.
fn without(mut body: Value, refused: &BTreeSet<&'static str>) -> Value {
    if let Some(fields) = body.as_object_mut() {
        for parameter in refused {
            let value = fields.remove(*parameter);
            if let (&"max_tokens", Some(value)) = (parameter, value) {
                fields.insert("max_completion_tokens".into(), value);
            }
        }
    }
    body
}

impl Refusal {
    /// Whether it is about one parameter of the request that is not known or not allowed, and not about its value.
    fn names(&self, parameter: &str) -> bool {
        let named = |c: char| !c.is_alphanumeric() && c != '_';
        let said = format!("{} {}", self.words, self.marks).to_lowercase();
        matches!(self.status, 400 | 422)
            && UNWANTED.iter().any(|it| said.contains(it))
            && self.words.split(named).any(|word| word == parameter)
    }
}

impl Seat {
    fn blind(&self, words: &str) -> ProviderError {
        ProviderError::misconfigured(format!(
            "`{}` at {} cannot see pictures ({words}); choose a vision model with provider.vision_model (--model; llama.cpp: start it with its \
             --mmproj)",
            self.model,
            self.server.place()
        ))
    }

    /// What a refusal of a call to the model means.
    fn refused(&self, refusal: Refusal) -> ProviderError {
        let Self { server, model, role } = self;
        let (place, words) = (server.place(), &refusal.words);
        let key = match role {
            Role::Vision => "provider.vision_model",
            Role::Embedding => "provider.embedding_model",
        };
        match (refusal.status, role) {
            (400 | 404 | 415 | 422 | 500, Role::Vision) if BLIND.iter().any(|it| words.contains(it)) => {
                self.blind(words)
            }
            (404, _) if refusal.json => ProviderError::misconfigured(format!(
                "{place} does not have the model `{model}` ({words}); load it there, or choose another {key}"
            )),
            (400 | 500, Role::Embedding) if LONG.iter().any(|it| words.contains(it)) => {
                ProviderError::ServerFault {
                    message: format!(
                        "{place} takes no text of this length ({words}); lower provider.embedding_max_chars, or have it take more \
                         (llama.cpp: --ubatch-size)"
                    ),
                }
            }
            (400, Role::Embedding) if words.contains("Pooling type") => {
                ProviderError::misconfigured(format!(
                    "{place} makes no vector of a whole text ({words}); start it with the --pooling that its model is made for"
                ))
            }
            (501, Role::Embedding) => ProviderError::misconfigured(format!(
                "{place} was started without embeddings ({words}); start one with --embeddings, and name it with provider.embedding_base_url"
            )),
            _ => refusal.into_error(place),
        }
    }
}

impl Model for OpenAi {
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Result<Sound, ProviderError>> {
        self.chat(question).boxed()
    }

    fn sampling(&self, variation: u32) -> String {
        let (temperature, seed) = sampling(self.temperature, variation);
        let refused = self.refused.lock();
        let mut changes: Vec<String> = [
            ("temperature", temperature.to_string()),
            ("seed", seed.to_string()),
            ("frequency_penalty", "0.3".into()),
        ]
        .into_iter()
        .filter(|(parameter, _)| !refused.contains(parameter))
        .map(|(parameter, value)| format!("{} {value}", parameter.replace('_', " ")))
        .collect();
        changes.push("a briefer prompt".into());
        changes.join(", ")
    }
}

impl Provider for OpenAi {
    fn identity(&self) -> Identity {
        Identity {
            provider: "openai".to_owned(),
            vision_model: self.vision.model.clone(),
            embedding_model: self.embedding.model.clone(),
            dimensions: self.dimensions,
            prompt_version: prompts::VERSION,
            language: self.manner.language().to_owned(),
            vision_digest: None,
            embedding_digest: None,
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
                let list = List::of(server).await?;
                list.loaded(server).await?;
                for seat in
                    [&self.vision, &self.embedding].into_iter().filter(|it| std::ptr::eq(&*it.server, server))
                {
                    if let Some(message) = list.look(seat, self.dimensions).await.problem {
                        return Err(ProviderError::Misconfigured { message });
                    }
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
                let address = server.address().to_owned();
                let list = match List::of(server).await {
                    Ok(list) => list,
                    // Nothing is known of its models then.
                    Err(error) => {
                        let problem = Some(error.into_message());
                        servers.push(ServerReport { address, reachable: false, version: None, problem });
                        continue;
                    }
                };
                let problem = list.loaded(server).await.err().map(ProviderError::into_message);
                for seat in
                    [&self.vision, &self.embedding].into_iter().filter(|it| std::ptr::eq(&*it.server, server))
                {
                    models.push(list.look(seat, self.dimensions).await);
                }
                let reachable = problem.is_none();
                servers.push(ServerReport { address, reachable, version: list.software, problem });
            }
            Report { provider: "openai".to_owned(), servers, models }
        }
        .boxed()
    }
}

/// A piece of a stream, or the whole answer of a server that does not stream.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
}

impl Chunk {
    /// Adds it to the reply; `true` if it is the last one.
    fn take(self, reply: &mut Reply, server: &Server) -> Result<bool, ProviderError> {
        let Some(choice) = self.choices.into_iter().next() else { return Ok(false) };
        if let Some(said) = choice.delta.or(choice.message) {
            let thinking = [&said.reasoning_content, &said.reasoning];
            if thinking.into_iter().flatten().any(|it| !it.is_empty()) {
                reply.thinks();
            }
            if let Some(refusal) = said.refusal.filter(|it| !it.is_empty()) {
                let refusal = server.words(&refusal);
                return Err(ProviderError::bad(format!("the model refuses to describe this: {refusal}")));
            }
            reply.push(&said.content.unwrap_or_default())?;
        }
        match choice.finish_reason.as_deref() {
            Some("length") => reply.is_cut(),
            Some("content_filter") => {
                return Err(ProviderError::bad("the model server's content filter stopped the description"));
            }
            _ => {}
        }
        Ok(choice.finish_reason.is_some())
    }
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Said>,
    message: Option<Said>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

#[derive(Deserialize)]
struct Vectors {
    data: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    #[serde(default)]
    index: u64,
    embedding: Vec<Option<f64>>,
}
