//! What describes a picture and embeds a text. One call in, one checked answer out; no retry, no deadline and no queue
//! here: those are the gate's.

pub mod audit;
pub mod builtin;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::media::{Facts, Picture, VisionSpec};

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
}

/// What answers: kind, models and the version of our own words to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What is to be described, and what is known of it.
#[derive(Debug, Clone)]
pub struct DescribeRequest {
    /// One picture, or the frames of a video in order.
    pub pictures: Vec<Picture>,
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
}

/// A sort of thing that was found in a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// No connection, 429, 502, 503, 504: the provider may be away. A probe tells.
    Unreachable {
        /// What happened, in one sentence.
        message: String,
        /// What the server asked to wait.
        retry_after: Option<Duration>,
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
}

impl ProviderError {
    /// What happened or what to do, in one sentence.
    pub fn message(&self) -> &str {
        match self {
            Self::Unreachable { message, .. }
            | Self::Misconfigured { message }
            | Self::BadAnswer { message } => message,
        }
    }
}

/// How the provider stands, as the store keeps it and everybody is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
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
}
