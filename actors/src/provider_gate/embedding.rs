//! The calls that embed texts. Owners take turns.

use std::sync::Arc;

use super::{CallError, ProviderGate, Turn, bad_answer, model_switcher::CallKind};
use crate::{analysis::shorter_text, id::Owner};

impl ProviderGate {
    /// Asks for the embedding of a description.
    ///
    /// # Errors
    /// [`CallError`] says how the attempt ends. A vector is a bad answer if it has the wrong length, or
    /// numbers that are not finite or all zero.
    pub async fn embed(self: &Arc<Self>, owner: &Owner, text: String) -> Result<Vec<f32>, CallError> {
        self.vector(CallKind::Embedding, owner, text).await
    }

    /// Asks for the embedding of a text whose embedding failed `tries` times before, and shortens the text
    /// for that. The second part of the result is a sentence about the change.
    ///
    /// # Errors
    /// As [`ProviderGate::embed`].
    pub async fn embed_shorter(
        self: &Arc<Self>,
        owner: &Owner,
        text: &str,
        tries: u32,
    ) -> Result<(Vec<f32>, String), CallError> {
        let (text, changed) = shorter_text(text, self.embedding_max_chars, tries);
        Ok((self.vector(CallKind::Embedding, owner, text).await?, changed))
    }

    /// Asks for the embedding of a search query, which has priority over those of descriptions.
    ///
    /// # Errors
    /// As [`ProviderGate::embed`].
    pub async fn embed_query(self: &Arc<Self>, owner: &Owner, words: String) -> Result<Vec<f32>, CallError> {
        self.vector(CallKind::Query, owner, words).await
    }

    async fn vector(
        self: &Arc<Self>,
        kind: CallKind,
        owner: &Owner,
        text: String,
    ) -> Result<Vec<f32>, CallError> {
        let vector = self.call(kind, Turn::Of(owner), 0, || self.provider.embed(text)).await?;
        let dimensions = self.provider.identity().dimensions as usize;
        if vector.len() != dimensions {
            return Err(bad_answer(format!(
                "the embedding has {} numbers, but provider.embedding_dimensions is {dimensions}",
                vector.len()
            )));
        }
        if !vector.iter().all(|number| number.is_finite()) {
            return Err(bad_answer("the embedding has numbers that are not finite"));
        }
        if vector.iter().all(|number| *number == 0.0) {
            return Err(bad_answer("the embedding is all zeros"));
        }
        Ok(vector)
    }
}
