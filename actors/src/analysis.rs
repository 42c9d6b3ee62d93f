//! What describes a picture and embeds a text. One call in, one checked answer out; no retry, no deadline and no queue
//! here: those are the gate's.

mod answer;
pub mod audit;
pub mod builtin;
mod frames;
mod models;
mod ollama;
mod openai;
mod prompts;
mod pull;
mod reply;
mod report;
mod server;
mod trial;
mod vector;

pub use models::known_dimensions;
pub use report::{ModelReport, PullProgress, Report, Role, ServerReport};
pub(crate) use server::check_base_url;
pub use trial::trial;
pub use vector::shorter_text;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Config, ProviderKind},
    media::{Facts, Picture, VisionSpec},
};

/// Makes the provider that is configured. It is not asked anything yet.
///
/// # Errors
/// A sentence that names the key of the configuration that is missing or wrong, also where the environment has no key for the server or this
/// machine cannot do TLS.
pub fn connect(config: &Config) -> Result<Arc<dyn Provider>, crate::error::Error> {
    let provider: Result<Arc<dyn Provider>, ProviderError> = match config.provider.kind {
        ProviderKind::Builtin => {
            let dimensions = config.provider.embedding_dimensions.unwrap_or(builtin::DEFAULT_DIMENSIONS);
            builtin::Builtin::new(dimensions).map(|it| Arc::new(it) as _)
        }
        ProviderKind::Ollama => ollama::Ollama::new(&config.provider).map(|it| Arc::new(it) as _),
        ProviderKind::OpenAi => openai::OpenAi::new(&config.provider).map(|it| Arc::new(it) as _),
    };
    provider.map_err(|error| crate::error::Error::Invalid(error.into_message()))
}

/// One model server, or the tagger inside this process.
///
/// Calls may run at the same time, up to the configured concurrency. Dropping the future of a call cancels it.
pub trait Provider: Send + Sync + 'static {
    /// What answers, for provenance and to tell whether a description is still what this provider would give.
    fn identity(&self) -> Identity;

    /// The picture that this provider wants, given the configured one.
    fn vision(&self, configured: VisionSpec) -> VisionSpec {
        configured
    }

    /// Describes what is to be seen.
    ///
    /// # Errors
    /// [`ProviderError`] says whether the provider is out of reach, set up wrongly, or gave no sound answer.
    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>>;

    /// Embeds a text; the vector has [`Identity::dimensions`] finite numbers, not all zero.
    ///
    /// # Errors
    /// As [`Provider::describe`].
    fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>>;

    /// Asks whether the provider is there and set up; cheap, without running a model.
    ///
    /// # Errors
    /// As [`Provider::describe`].
    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// Looks at all that can be told of servers and models without running one, for a person.
    fn report(&self) -> BoxFuture<'_, Report> {
        Box::pin(async {
            let (identity, problem) =
                (self.identity(), self.probe().await.err().map(ProviderError::into_message));
            let there = problem.is_none().then_some(true);
            let describes =
                ModelReport { there, problem, ..ModelReport::new(Role::Vision, identity.vision_model) };
            let embeds = ModelReport {
                there,
                dimensions: Some(identity.dimensions),
                ..ModelReport::new(Role::Embedding, identity.embedding_model)
            };
            Report { provider: identity.provider, servers: Vec::new(), models: vec![describes, embeds] }
        })
    }

    /// Has the server fetch a model; dropping the future ends the fetching.
    ///
    /// # Errors
    /// As [`Provider::describe`]; [`ProviderError::Misconfigured`] if this provider's servers do not fetch models.
    fn pull<'a>(
        &'a self,
        model: &'a str,
        progress: &'a mut (dyn FnMut(PullProgress) + Send),
    ) -> BoxFuture<'a, Result<(), ProviderError>> {
        let _ = (model, progress);
        let provider = self.identity().provider;
        let message = format!("the provider {provider} has no models that could be fetched");
        Box::pin(std::future::ready(Err(ProviderError::Misconfigured { message })))
    }
}

/// What answers: kind, models and the version of our own words to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Identity {
    /// `builtin`, `ollama` or `openai`.
    pub provider: String,
    /// Model that describes.
    pub vision_model: String,
    /// Model that embeds.
    pub embedding_model: String,
    /// Length of its vectors.
    pub dimensions: u32,
    /// Version of the prompt, or of the rules that make the sentences.
    pub prompt_version: u32,
    /// Language of the descriptions, by its English name.
    #[serde(default = "english")]
    pub language: String,
    /// Digest of the model that describes, if the server tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision_digest: Option<String>,
    /// Digest of the model that embeds, if the server tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_digest: Option<String>,
}

fn english() -> String {
    "English".into()
}

impl Identity {
    /// Whether `other` would describe in the same way: provider, model, language and prompt are the same. A model that was fetched anew under
    /// its old name is another one; a digest that is not known says nothing.
    pub fn describes_like(&self, other: &Self) -> bool {
        self.provider == other.provider
            && self.vision_model == other.vision_model
            && self.prompt_version == other.prompt_version
            && self.language == other.language
            && may_be_same(&self.vision_digest, &other.vision_digest)
    }

    /// Whether vectors of both may be compared; digests as in [`Identity::describes_like`].
    pub fn embeds_like(&self, other: &Self) -> bool {
        self.provider == other.provider
            && self.embedding_model == other.embedding_model
            && self.dimensions == other.dimensions
            && may_be_same(&self.embedding_digest, &other.embedding_digest)
    }
}

fn may_be_same(one: &Option<String>, other: &Option<String>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// What is to be described, and what is known of it.
#[derive(Debug, Clone)]
pub struct DescribeRequest {
    /// One picture, or the frames of a video in order.
    pub pictures: Arc<[Picture]>,
    /// What is known without a model.
    pub facts: Facts,
    /// The file's name, then the names of its folders from the inside out (at most two); never a whole path.
    pub names: Vec<String>,
    /// How often this upload was asked about before: 0 at first; each higher number must not repeat the request to the letter.
    pub variation: u32,
    /// Seconds from the start for each of `pictures`, where it is a video; empty for a still picture.
    pub frame_seconds: Vec<f64>,
}

/// A provider's answer about one upload.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// The description: not empty.
    pub text: String,
    /// Objects that were found, the surest first; empty if the provider names none.
    pub objects: Vec<Object>,
    /// How the request or the answer differs from the usual: other sampling because of [`DescribeRequest::variation`], frames without a sound
    /// answer, an end that was cut.
    pub changed: Option<String>,
}

/// A sort of thing that was found in a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Object {
    /// One of the detector's everyday words, singular: `dog`.
    pub label: String,
    /// How many were found.
    pub count: u32,
    /// How sure, 0 to 100.
    pub confidence: u8,
}

/// Why a call gave no sound answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderError {
    /// No connection, 429, 502, 503, 504, an answer that broke off: the provider may be away. A probe tells.
    Unreachable {
        /// What happened, in one sentence.
        message: String,
        /// What the server asked to wait. It is away by its own word then, and no probe is needed to know it.
        retry_after: Option<Duration>,
    },
    /// One of several calls took longer than it may: a frame of a video. The provider may be away; a probe tells.
    TimedOut {
        /// What took too long, in one sentence.
        message: String,
    },
    /// Wrong key, missing model, not a vision model, quota gone: nothing will work until somebody acts.
    Misconfigured {
        /// What to do, in one sentence.
        message: String,
    },
    /// The provider is there, and this one answer was no good.
    BadAnswer {
        /// What was wrong with it, in one sentence.
        message: String,
    },
    /// The provider is there, and broke on this one request (500): a smaller picture or a shorter text may pass.
    ServerFault {
        /// What happened, in one sentence.
        message: String,
    },
}

impl ProviderError {
    /// What happened or what to do, in one sentence.
    pub fn message(&self) -> &str {
        match self {
            Self::Unreachable { message, .. }
            | Self::TimedOut { message }
            | Self::Misconfigured { message }
            | Self::BadAnswer { message }
            | Self::ServerFault { message } => message,
        }
    }

    fn into_message(self) -> String {
        self.message().to_owned()
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::BadAnswer { message: message.into() }
    }

    fn misconfigured(message: impl Into<String>) -> Self {
        Self::Misconfigured { message: message.into() }
    }

    fn unreachable(message: impl Into<String>) -> Self {
        Self::Unreachable { message: message.into(), retry_after: None }
    }
}

/// How the provider stands, as the store keeps it and everybody is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantNames)]
#[serde(tag = "state", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ProviderState {
    /// It was not asked yet.
    Starting,
    /// It answers.
    Ready,
    /// It does not answer; it is asked again with growing pauses.
    Away {
        /// Since when.
        since: jiff::Timestamp,
        /// What happened, in one sentence.
        message: String,
    },
    /// It was away for so long that nobody waits any more: calls fail until it answers again.
    GaveUp {
        /// Since when it is away.
        since: jiff::Timestamp,
        /// What happened, in one sentence.
        message: String,
    },
    /// Nothing will work until somebody acts.
    Misconfigured {
        /// Since when.
        since: jiff::Timestamp,
        /// What to do, in one sentence.
        message: String,
    },
}

impl ProviderState {
    /// What is waited for, in one sentence; `None` if nothing is.
    pub fn waiting(&self) -> Option<String> {
        match self {
            Self::Starting | Self::Ready | Self::GaveUp { .. } => None,
            Self::Away { since, message } => Some(format!("the provider is away since {since}: {message}")),
            Self::Misconfigured { message, .. } => Some(format!("the provider is not set up: {message}")),
        }
    }

    /// That the provider is not waited for any more, in one sentence; `None` if it is.
    pub fn gave_up(&self) -> Option<String> {
        match self {
            Self::GaveUp { since, message } => {
                Some(format!("the provider is away since {since} and is not waited for any more: {message}"))
            }
            Self::Starting | Self::Ready | Self::Away { .. } | Self::Misconfigured { .. } => None,
        }
    }
}
