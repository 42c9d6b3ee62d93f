//! The origin of a description or an embedding.

use serde::{Deserialize, Serialize};

/// Provider, models, and the version of the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Identity {
    /// `builtin`, `ollama`, `openai`, or the name of a host's own provider.
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
    /// Digest of the model that describes, if the server reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision_digest: Option<String>,
    /// Digest of the model that embeds, if the server reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_digest: Option<String>,
}

fn english() -> String {
    "English".into()
}

impl Identity {
    /// Whether `other` would describe in the same way: provider, model, language and prompt version are
    /// equal.
    ///
    /// Digests differ after a model was fetched again under its old name. An unknown digest equals every
    /// other.
    pub fn describes_like(&self, other: &Self) -> bool {
        self.provider == other.provider
            && self.vision_model == other.vision_model
            && self.prompt_version == other.prompt_version
            && self.language == other.language
            && may_be_same(&self.vision_digest, &other.vision_digest)
    }

    /// Whether vectors of both are comparable; digests as in [`Identity::describes_like`].
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
