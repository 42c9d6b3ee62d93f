//! The provider `openai`: a server with OpenAI's interface.

mod model_list;

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::FutureExt as _;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use self::model_list::ModelList;
use super::{
    BoxFuture, DescribeRequest, Described, Identity, Provider, ProviderError, Report, Role, ServerReport,
    client::Client,
    model_endpoint::{ModelEndpoint, ModelEndpoints},
    prompts,
    questions::{Model, PromptSettings, Question, sampling},
    reply::{Reply, ValidText},
    response::{ErrorResponse, RequestError, Response, error_text, failed_on_request},
    vector,
};
use crate::{
    config::{self, ProviderKind, ServerSettings, known_models},
    media::VisionSpec,
};

/// Parameters that some models refuse. A refused one is omitted from then on.
const OPTIONAL_PARAMETERS: [&str; 6] =
    ["max_tokens", "temperature", "seed", "frequency_penalty", "reasoning_effort", "chat_template_kwargs"];
/// Values of `reasoning_effort`, the first that a server accepts. A thought costs seconds and is no description.
const EFFORTS: [&str; 3] = ["none", "minimal", "low"];
/// Phrases with which servers refuse a parameter, in lower case.
const PARAMETER_REFUSALS: [&str; 8] = [
    "unsupported",
    "not support",
    "unknown",
    "unrecognized",
    "unexpected",
    "extra_forbidden",
    "extra inputs",
    "not permitted",
];
/// Phrases with which servers report a model without vision, for which there is no code.
const NO_VISION: [&str; 6] = [
    "image input is not supported",
    "does not support image",
    "not support vision",
    "is not a multimodal model",
    "At most 0 image",
    "image_url is only supported by certain models",
];
/// Phrases with which servers report a text of too many tokens.
const TEXT_TOO_LONG: [&str; 3] = ["too large to process", "context length", "context size"];

/// A server with OpenAI's interface; embeddings may come from a second one.
#[derive(Debug)]
pub(super) struct OpenAi {
    models: ModelEndpoints,
    dimensions: u32,
    /// Whether to send the dimensions to a model that can shorten its vectors: only if the configuration
    /// names them.
    send_dimensions: bool,
    max_chars: usize,
    temperature: f32,
    prompt_settings: PromptSettings,
    refused: Mutex<Refused>,
}

/// Refusals of the model so far.
#[derive(Debug, Clone, Default)]
struct Refused {
    parameters: BTreeSet<&'static str>,
    /// How many of [`EFFORTS`] the server refused.
    efforts: usize,
}

impl OpenAi {
    /// # Errors
    /// [`ProviderError::Misconfigured`] with the key of the configuration that is wrong.
    pub(super) fn new(section: &config::Provider, server: ServerSettings) -> Result<Self, ProviderError> {
        Ok(Self {
            dimensions: server.dimensions,
            models: ModelEndpoints::new("the model server", section, server)?,
            send_dimensions: section.embedding_dimensions.is_some(),
            max_chars: section.embedding_max_chars as usize,
            temperature: section.temperature,
            prompt_settings: PromptSettings::new(section),
            refused: Mutex::default(),
        })
    }

    async fn chat(&self, question: Question<'_>) -> Result<ValidText, ProviderError> {
        let ModelEndpoint { client, model, .. } = &self.models.vision;
        let content = match question.jpeg {
            Some(jpeg) => {
                let url = format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg));
                json!([
                    { "type": "text", "text": question.prompt },
                    { "type": "image_url", "image_url": { "url": url } },
                ])
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
            "reasoning_effort": EFFORTS[0],
            "chat_template_kwargs": { "enable_thinking": false, "thinking": false },
        });
        if question.variation > 0 {
            body["frequency_penalty"] = json!(0.3);
        }
        let mut response = self.post_with_accepted_parameters(body).await?;
        let mut reply = Reply::default();
        if response.is_json() {
            // The server does not stream.
            let whole: Chunk = response.json().await?;
            whole.append_to(&mut reply, client)?;
            return reply.finish(model, question.max_tokens.1);
        }
        let mut finished = false;
        while let Some(line) = response.line().await? {
            let Some(data) = line.strip_prefix("data:") else {
                // Comments keep the connection alive, and the other fields have no meaning here.
                if ["event:", "id:", "retry:", ":"].iter().any(|it| line.starts_with(it)) {
                    continue;
                }
                return Err(not_an_event(&response, client, &line));
            };
            if data.trim() == "[DONE]" {
                finished = true;
                break;
            }
            let chunk: Chunk = response.parse(data.trim())?;
            finished |= chunk.append_to(&mut reply, client)?;
        }
        if !finished {
            return Err(ProviderError::unreachable(format!(
                "the answer of {} ended before it was complete",
                client.place()
            )));
        }
        reply.finish(model, question.max_tokens.1)
    }

    /// Omits the parameters that the model refused before. If it refuses another one, repeats the request
    /// without it.
    async fn post_with_accepted_parameters(&self, body: Value) -> Result<Response<'_>, ProviderError> {
        let endpoint = &self.models.vision;
        loop {
            let refused = self.refused.lock().clone();
            match endpoint.client.post("/chat/completions", &without(body.clone(), &refused)).await {
                Ok(response) => return Ok(response),
                Err(RequestError::Status(response)) => {
                    let newly_refused = OPTIONAL_PARAMETERS.iter().find(|it| {
                        !refused.parameters.contains(*it)
                            && body.get(**it).is_some()
                            && refuses(&response, it)
                    });
                    let Some(parameter) = newly_refused else { return Err(explain(endpoint, response)) };
                    let mut refused = self.refused.lock();
                    if *parameter == "reasoning_effort" && refused.efforts + 1 < EFFORTS.len() {
                        refused.efforts += 1;
                        continue;
                    }
                    log::info!(
                        "`{}` refuses {parameter}, which is omitted from now on ({})",
                        endpoint.model,
                        response.text
                    );
                    refused.parameters.insert(parameter);
                }
                Err(RequestError::Provider(error)) => return Err(error),
            }
        }
    }

    async fn vector(&self, text: &str) -> Result<Vec<f32>, ProviderError> {
        let endpoint = &self.models.embedding;
        let text = vector::cut(text, self.max_chars);
        if text.is_empty() {
            return Err(ProviderError::bad_answer("there is no text to embed"));
        }
        let mut body = json!({ "model": endpoint.model, "input": text, "encoding_format": "float" });
        if self.send_dimensions && endpoint.model.contains("text-embedding-3") {
            body["dimensions"] = json!(self.dimensions);
        }
        let response = endpoint.post("/embeddings", &body, explain).await?;
        let Vectors { data } = response.json().await?;
        let [Vector { embedding }] = data.as_slice() else {
            return Err(vector::not_one(endpoint.place(), data.len()));
        };
        vector::checked(embedding, &endpoint.model, self.dimensions)
    }
}

/// The error for a line that does not belong into a stream of events: the server's own error, or another kind
/// of server.
fn not_an_event(response: &Response<'_>, client: &Client, line: &str) -> ProviderError {
    match response.parse::<Value>(line) {
        Ok(value) if value.get("error").is_some() => failed_on_request(client.place(), &client.quoted(line)),
        Ok(_) => ProviderError::bad_answer(format!(
            "{} answers with something other than a stream",
            client.place()
        )),
        Err(error) => error,
    }
}

/// A request without the refused parameters. The token limit has a second name.
fn without(mut body: Value, refused: &Refused) -> Value {
    if let Some(fields) = body.as_object_mut() {
        if let Some(effort) = EFFORTS.get(refused.efforts) {
            fields.insert("reasoning_effort".into(), json!(effort));
        }
        for parameter in &refused.parameters {
            let value = fields.remove(*parameter);
            if let (&"max_tokens", Some(value)) = (parameter, value) {
                fields.insert("max_completion_tokens".into(), value);
            }
        }
    }
    body
}

/// Whether an error is about a parameter that is unknown or not allowed, and not about its value.
fn refuses(response: &ErrorResponse, parameter: &str) -> bool {
    let not_in_name = |c: char| !c.is_alphanumeric() && c != '_';
    let said = format!("{} {}", response.text, response.error_codes).to_lowercase();
    // A server that knows other efforts refuses the value.
    let refusal = parameter == "reasoning_effort" || PARAMETER_REFUSALS.iter().any(|it| said.contains(it));
    matches!(response.status, 400 | 422)
        && refusal
        && response.text.split(not_in_name).any(|word| word == parameter)
}

/// The sentence about a model without vision.
fn no_vision(endpoint: &ModelEndpoint, reason: &str) -> String {
    format!(
        "`{}` at {} cannot see pictures ({reason}); choose a vision model with provider.vision_model \
         (--model; llama.cpp: start it with its --mmproj)",
        endpoint.model,
        endpoint.place()
    )
}

/// The meaning of an error status for a model.
fn explain(endpoint: &ModelEndpoint, response: ErrorResponse) -> ProviderError {
    let ModelEndpoint { model, role, .. } = endpoint;
    let (place, key, text) = (endpoint.place(), endpoint.config_key(), &response.text);
    match (response.status, role) {
        (400 | 404 | 415 | 422 | 500, Role::Vision) if NO_VISION.iter().any(|it| text.contains(it)) => {
            ProviderError::misconfigured(no_vision(endpoint, text))
        }
        (404, Role::Vision | Role::Embedding) if response.json => ProviderError::misconfigured(format!(
            "{place} does not have the model `{model}` ({text}); load it there, or choose another {key}"
        )),
        (400 | 500, Role::Embedding) if TEXT_TOO_LONG.iter().any(|it| text.contains(it)) => {
            ProviderError::server_fault(format!(
                "{place} does not accept a text of this length ({text}); lower \
                 provider.embedding_max_chars, or raise the server's limit (llama.cpp: --ubatch-size)"
            ))
        }
        (400, Role::Embedding) if text.contains("Pooling type") => ProviderError::misconfigured(format!(
            "{place} cannot embed a whole text ({text}); start it with the --pooling that suits its model"
        )),
        (501, Role::Embedding) => ProviderError::misconfigured(format!(
            "{place} was started without embeddings ({text}); start one with --embeddings, and name it with \
             provider.embedding_base_url"
        )),
        (_, Role::Vision | Role::Embedding) => response.into_provider_error(place),
    }
}

impl Model for OpenAi {
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Result<ValidText, ProviderError>> {
        self.chat(question).boxed()
    }

    fn sampling_change(&self, variation: u32) -> String {
        let (temperature, seed) = sampling(self.temperature, variation);
        let refused = self.refused.lock();
        let mut changes: Vec<String> = [
            ("temperature", temperature.to_string()),
            ("seed", seed.to_string()),
            ("frequency_penalty", "0.3".into()),
        ]
        .into_iter()
        .filter(|(parameter, _)| !refused.parameters.contains(parameter))
        .map(|(parameter, value)| format!("{} {value}", parameter.replace('_', " ")))
        .collect();
        changes.push("a briefer prompt".into());
        changes.join(", ")
    }
}

impl Provider for OpenAi {
    fn identity(&self) -> Identity {
        Identity {
            provider: ProviderKind::OpenAi.name().to_owned(),
            vision_model: self.models.vision.model.clone(),
            embedding_model: self.models.embedding.model.clone(),
            dimensions: self.dimensions,
            prompt_version: prompts::VERSION,
            language: self.prompt_settings.language().to_owned(),
            vision_digest: None,
            embedding_digest: None,
        }
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
            for (client, endpoints) in self.models.by_server() {
                let list = ModelList::fetch(client).await?;
                list.check_loaded(client).await?;
                for endpoint in endpoints {
                    if let Some(message) = list.model_report(endpoint, self.dimensions).await.problem {
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
            for (client, endpoints) in self.models.by_server() {
                let address = client.address().to_owned();
                let list = match ModelList::fetch(client).await {
                    Ok(list) => list,
                    // A server that cannot be reached reports nothing about its models.
                    Err(error) => {
                        let problem = Some(error.into_message());
                        servers.push(ServerReport { address, reachable: false, version: None, problem });
                        continue;
                    }
                };
                let problem = list.check_loaded(client).await.err().map(ProviderError::into_message);
                for endpoint in endpoints {
                    models.push(list.model_report(endpoint, self.dimensions).await);
                }
                let reachable = problem.is_none();
                servers.push(ServerReport { address, reachable, version: list.software, problem });
            }
            Report { provider: ProviderKind::OpenAi.name().to_owned(), servers, models }
        }
        .boxed()
    }
}

/// An event of a stream, or the whole answer of a server that does not stream.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
}

impl Chunk {
    /// Appends it to the reply; `true` if it is the last one.
    fn append_to(self, reply: &mut Reply, client: &Client) -> Result<bool, ProviderError> {
        if let Some(error) = &self.error {
            return Err(failed_on_request(client.place(), &client.quoted(&error_text(error))));
        }
        let Some(choice) = self.choices.into_iter().next() else { return Ok(false) };
        if let Some(message) = choice.delta.or(choice.message) {
            let reasoning = [&message.reasoning_content, &message.reasoning];
            if reasoning.into_iter().flatten().any(|it| !it.is_empty()) {
                reply.set_thinking();
            }
            if let Some(refusal) = message.refusal.filter(|it| !it.is_empty()) {
                let refusal = client.quoted(&refusal);
                return Err(ProviderError::bad_answer(format!(
                    "the model refuses to describe this: {refusal}"
                )));
            }
            message.content.map_or(Ok(()), |content| content.append_to(reply))?;
        }
        match choice.finish_reason.as_deref() {
            Some("length") => reply.set_truncated(),
            Some("content_filter") => {
                return Err(ProviderError::bad_answer(
                    "the model server's content filter stopped the description",
                ));
            }
            Some(_) | None => {}
        }
        Ok(choice.finish_reason.is_some())
    }
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Message>,
    message: Option<Message>,
    finish_reason: Option<String>,
}

/// The content of a message: a text, or parts of which some are reasoning.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Text(String),
    Typed(TypedPart),
}

/// A part with its type: `text` and `output_text` are the answer, all others (`thinking`, `reasoning`) are not.
#[derive(Deserialize)]
struct TypedPart {
    r#type: Option<String>,
    text: Option<Value>,
}

impl Content {
    fn append_to(self, reply: &mut Reply) -> Result<(), ProviderError> {
        let parts = match self {
            Self::Text(text) => return reply.push(&text),
            Self::Parts(parts) => parts,
        };
        for part in parts {
            match part {
                Part::Text(text) => reply.push(&text)?,
                Part::Typed(TypedPart { r#type, text }) => match r#type.as_deref() {
                    None | Some("text" | "output_text") => {
                        reply.push(text.as_ref().and_then(Value::as_str).unwrap_or_default())?;
                    }
                    Some(_) => reply.set_thinking(),
                },
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Message {
    content: Option<Content>,
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
    embedding: Vec<Option<f64>>,
}
