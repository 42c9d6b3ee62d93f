//! Providers, which describe pictures and embed texts. A call gives one checked answer; retries, deadlines
//! and queues are the business of the [`provider_gate`](crate::provider_gate).
//!
//! # A provider of your own
//!
//! A host passes its own [`Provider`] as [`Options::provider`](crate::pipeline::Options::provider):
//!
//! ```
//! use std::sync::Arc;
//!
//! use mediamill_actors::analysis::{
//!     BoxFuture, DescribeRequest, Described, Identity, Provider, ProviderError, ProviderProfile,
//! };
//!
//! struct Mine;
//!
//! impl Provider for Mine {
//!     fn identity(&self) -> Identity {
//!         Identity {
//!             provider: "mine".into(),
//!             vision_model: "seer-2".into(),
//!             embedding_model: "words-1".into(),
//!             dimensions: 3,
//!             ..Identity::default()
//!         }
//!     }
//!
//!     fn profile(&self) -> ProviderProfile {
//!         ProviderProfile { vision_concurrency: 8, ..ProviderProfile::default() }
//!     }
//!
//!     fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
//!         Box::pin(async move {
//!             // Send `picture.jpeg` of each of `request.pictures` to your model.
//!             let text = format!("It has {} by {} pixels.", request.facts.width, request.facts.height);
//!             Ok(Described { text, objects: Vec::new(), changed: None })
//!         })
//!     }
//!
//!     fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
//!         Box::pin(async move { Ok(vec![1.0, 0.0, text.len() as f32]) })
//!     }
//!
//!     fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
//!         Box::pin(async { Ok(()) })
//!     }
//! }
//! ```
//!
//! To add a step to a provider, write a second one that holds the first ([`connect`] makes a configured one)
//! and forwards every method to it, also those with a default. Change what passes through, and give the
//! result another [`Identity`], so that descriptions made without the step are recognised. [`Pair`] is such a
//! wrapper: it takes the descriptions of one provider and the embeddings of another, for a vendor that offers
//! only one of them.

pub mod audit;
#[cfg(feature = "builtin")]
pub mod builtin;
mod client;
mod identity;
mod model_endpoint;
mod ollama;
mod openai;
mod pair;
mod profile;
mod prompts;
mod provider_error;
mod provider_state;
mod pull;
mod questions;
mod reply;
mod report;
mod response;
mod tls;
mod trial;
mod vector;

use std::sync::Arc;

pub use client::http_client;
pub use futures_util::future::BoxFuture;
pub use identity::Identity;
pub use pair::Pair;
pub use profile::ProviderProfile;
pub use provider_error::ProviderError;
pub use provider_state::ProviderState;
pub use report::{ModelReport, PullProgress, Report, Role, ServerReport};
pub use trial::trial;
pub use vector::shorter_text;

use serde::{Deserialize, Serialize};

use crate::{
    config::{self, Config, ProviderSettings},
    media::{Facts, Picture, VisionSpec},
};

/// Constructs the configured provider. Nothing is sent to it yet.
///
/// # Errors
/// [`Error::Invalid`](crate::error::Error::Invalid) with a sentence that names the key of the configuration
/// that is missing or wrong, the environment variable without a server's key, or what this build or machine
/// lacks.
pub fn connect(config: &Config) -> Result<Arc<dyn Provider>, crate::error::Error> {
    let section = &config.provider;
    let provider: Result<Arc<dyn Provider>, ProviderError> = match section
        .settings()
        .map_err(crate::error::Error::Invalid)?
    {
        ProviderSettings::Builtin => connect_builtin(section),
        ProviderSettings::Ollama(server) => ollama::Ollama::new(section, server).map(|it| Arc::new(it) as _),
        ProviderSettings::OpenAi(server) => openai::OpenAi::new(section, server).map(|it| Arc::new(it) as _),
    };
    provider.map_err(|error| crate::error::Error::Invalid(error.into_message()))
}

#[cfg(feature = "builtin")]
fn connect_builtin(section: &config::Provider) -> Result<Arc<dyn Provider>, ProviderError> {
    let dimensions = section.embedding_dimensions.unwrap_or(builtin::DEFAULT_DIMENSIONS);
    builtin::Builtin::new(dimensions).map(|it| Arc::new(it) as _)
}

#[cfg(not(feature = "builtin"))]
fn connect_builtin(_: &config::Provider) -> Result<Arc<dyn Provider>, ProviderError> {
    Err(ProviderError::misconfigured(
        "provider.kind is builtin, but this program was built without the feature `builtin` of \
         mediamill-actors; build it with that feature, or set provider.kind to ollama or openai",
    ))
}

/// A model server, or a tagger inside this process.
///
/// Calls may be in flight at the same time, as many as [`Provider::profile`] or the configuration says.
/// Dropping the future of a call cancels the call.
pub trait Provider: Send + Sync + 'static {
    /// Provider and models. They are stored with each description and embedding, and tell later whether this
    /// provider would make the same ones.
    fn identity(&self) -> Identity;

    /// How this provider wants to be called and presented. The engine asks once, when it starts.
    fn profile(&self) -> ProviderProfile {
        ProviderProfile::default()
    }

    /// The picture that this provider wants, derived from the configured one.
    ///
    /// The configured one asks for a JPEG; pictures then carry only that, and their `rgb` is empty. A
    /// provider that works on pixels sets [`VisionSpec::jpeg`] to `false`.
    fn vision(&self, configured: VisionSpec) -> VisionSpec {
        configured
    }

    /// Describes the pictures of a request. The default is for a provider that only embeds; see [`Pair`].
    ///
    /// # Errors
    /// [`ProviderError`] says whether the provider is out of reach, misconfigured, or gave no valid answer.
    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        let _ = request;
        unsupported(&self.identity(), "cannot describe pictures")
    }

    /// Embeds a text; the vector has [`Identity::dimensions`] finite numbers that are not all zero. The
    /// default is for a provider that only describes; see [`Pair`].
    ///
    /// # Errors
    /// As [`Provider::describe`].
    fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        let _ = text;
        unsupported(&self.identity(), "cannot embed texts")
    }

    /// Checks whether the provider can be reached and is configured well; cheap, without running a model.
    ///
    /// # Errors
    /// As [`Provider::describe`].
    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// Reports what servers and models say of themselves, without running a model, for a person. The default
    /// knows only what [`Provider::probe`] says.
    fn report(&self) -> BoxFuture<'_, Report> {
        Box::pin(async {
            let (identity, problem) =
                (self.identity(), self.probe().await.err().map(ProviderError::into_message));
            let model = |role, name: String| ModelReport {
                installed: problem.is_none().then_some(true),
                problem: problem.clone(),
                ..ModelReport::new(role, name)
            };
            let vision = model(Role::Vision, identity.vision_model);
            let embedding = ModelReport {
                dimensions: Some(identity.dimensions),
                ..model(Role::Embedding, identity.embedding_model)
            };
            let models = [vision, embedding].into_iter().filter(|it| !it.name.is_empty()).collect();
            Report { provider: identity.provider, servers: Vec::new(), models }
        })
    }

    /// Makes the server fetch a model. Dropping the future ends the download.
    ///
    /// # Errors
    /// As [`Provider::describe`]; [`ProviderError::Misconfigured`] if this provider's servers do not fetch
    /// models.
    fn pull<'a>(
        &'a self,
        model: &'a str,
        progress: &'a mut (dyn FnMut(PullProgress) + Send),
    ) -> BoxFuture<'a, Result<(), ProviderError>> {
        let _ = (model, progress);
        unsupported(&self.identity(), "cannot fetch models")
    }
}

/// The answer to a call that a provider does not support.
fn unsupported<T: Send + 'static>(
    identity: &Identity,
    what: &str,
) -> BoxFuture<'static, Result<T, ProviderError>> {
    let message = format!("the provider {} {what}", identity.provider);
    Box::pin(std::future::ready(Err(ProviderError::Misconfigured { message })))
}

/// One upload to describe.
#[derive(Debug, Clone)]
pub struct DescribeRequest {
    /// One picture, or the frames of a video in order.
    pub pictures: Arc<[Picture]>,
    /// Facts that need no model.
    pub facts: Facts,
    /// The file's name, then the names of its folders from the inside out (at most two); never a whole path.
    pub names: Vec<String>,
    /// Number of earlier requests about this upload. A request with a higher number must differ from all
    /// earlier ones, since they failed.
    pub variation: u32,
    /// Seconds from the start of a video for each of `pictures`; empty for a still picture.
    pub frame_seconds: Vec<f64>,
}

/// A provider's description of one upload.
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// The description: not empty.
    pub text: String,
    /// Objects that were found, the most certain first; empty if the provider names none.
    pub objects: Vec<Object>,
    /// How request or answer differ from the usual, for people: other sampling because of
    /// [`DescribeRequest::variation`], frames without a valid answer, a truncated end.
    pub changed: Option<String>,
}

/// A class of things that was found in a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = DetectedObject))]
pub struct Object {
    /// One of the detector's everyday words, singular: `dog`.
    pub label: String,
    /// Number of them that were found.
    pub count: u32,
    /// Confidence, 0 to 100.
    pub confidence: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "builtin")]
    #[test]
    fn the_default_configuration_names_the_tagger() {
        let provider = connect(&Config::default()).expect("it needs no key");
        assert_eq!(provider.identity().provider, "builtin");
        assert_eq!(provider.profile().notice.as_deref(), Some(builtin::NOTICE));
    }

    #[cfg(not(feature = "builtin"))]
    #[test]
    fn without_its_feature_the_tagger_is_refused_with_the_name_of_the_feature() {
        let refusal = connect(&Config::default()).err().expect("it is not compiled").to_string();
        assert!(refusal.contains("feature `builtin` of mediamill-actors"), "{refusal}");
    }

    #[test]
    fn a_provider_switches_models_only_if_one_server_has_both() {
        let mut config = Config::default();
        config.provider.kind = config::ProviderKind::Ollama;
        let switches = |config: &Config| connect(config).expect("valid").profile().models_swap;
        assert!(switches(&config));
        config.provider.embedding_base_url = Some("http://other".into());
        assert!(!switches(&config));
        config.provider.kind = config::ProviderKind::OpenAi;
        config.provider.embedding_base_url = None;
        config.provider.vision_model = Some("seer".into());
        config.provider.embedding_model = Some("bge-m3".into());
        assert!(!switches(&config), "such a server keeps both, or has only one");
    }
}
