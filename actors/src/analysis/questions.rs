//! The questions that make one description: one question about a photo; about a video, one for each frame and
//! one that merges their answers.

use std::time::Duration;

use super::{BoxFuture, DescribeRequest, Described, ProviderError, prompts, reply::ValidText};
use crate::config;

/// A question to a model, with one picture at most: servers merge or confuse several.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) prompt: String,
    /// The picture.
    pub(super) jpeg: Option<&'a [u8]>,
    /// Most tokens of the answer, and the key of the configuration for them.
    pub(super) max_tokens: (u32, &'static str),
    pub(super) variation: u32,
}

/// A model that answers questions.
pub(super) trait Model: Sync {
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Result<ValidText, ProviderError>>;

    /// How sampling and prompt differ from the usual at a variation above 0, for people.
    fn sampling_change(&self, variation: u32) -> String;
}

/// Temperature and seed of a variation. The seed is always sent, so that equal requests get equal answers.
pub(super) fn sampling(configured: f32, variation: u32) -> (f64, u32) {
    let max = configured.max(1.2);
    let temperature = (configured + 0.3 * variation.min(10) as f32).min(max);
    // Rounded, since JSON would show the inexact binary fraction.
    ((f64::from(temperature) * 100.0).round() / 100.0, 1 + variation)
}

/// The part of the configuration that questions depend on.
#[derive(Debug, Clone)]
pub(super) struct PromptSettings {
    language: String,
    image_tokens: u32,
    video_tokens: u32,
    /// Longest question about the first frame of a video, while the model may be loading.
    first_timeout: Duration,
    timeout: Duration,
}

impl PromptSettings {
    pub(super) fn new(section: &config::Provider) -> Self {
        Self {
            language: section.language.trim().to_owned(),
            image_tokens: section.max_image_tokens,
            video_tokens: section.max_video_tokens,
            first_timeout: section.first_request_timeout.max(section.request_timeout),
            timeout: section.request_timeout,
        }
    }

    pub(super) fn language(&self) -> &str {
        &self.language
    }

    /// Describes the pictures of a request by questions to `model`.
    pub(super) async fn describe(
        &self,
        model: &dyn Model,
        request: &DescribeRequest,
    ) -> Result<Described, ProviderError> {
        let mut changes = Vec::new();
        let ValidText { text, truncated } = match &*request.pictures {
            [] => return Err(ProviderError::bad_answer("there is no picture to describe")),
            [picture] if request.frame_seconds.is_empty() => {
                let prompt = prompts::picture(&self.language, request.variation);
                model.ask(self.question(prompt, picture.jpeg.as_deref(), request)?).await?
            }
            _ => self.describe_video(model, request, &mut changes).await?,
        };
        if request.variation > 0 {
            changes.insert(0, model.sampling_change(request.variation));
        }
        if truncated {
            changes
                .push("the token limit cut the answer, whose last, unfinished sentence was dropped".into());
        }
        let changed = Some(changes.join("; ")).filter(|it| !it.is_empty());
        Ok(Described { text, objects: Vec::new(), changed })
    }

    fn question<'a>(
        &self,
        prompt: String,
        jpeg: Option<&'a [u8]>,
        request: &DescribeRequest,
    ) -> Result<Question<'a>, ProviderError> {
        let jpeg =
            jpeg.ok_or_else(|| ProviderError::bad_answer("the picture has no JPEG for the model server"))?;
        Ok(Question {
            prompt,
            jpeg: Some(jpeg),
            max_tokens: (self.image_tokens, "provider.max_image_tokens"),
            variation: request.variation,
        })
    }

    async fn describe_video(
        &self,
        model: &dyn Model,
        request: &DescribeRequest,
        changes: &mut Vec<String>,
    ) -> Result<ValidText, ProviderError> {
        let frames = request.pictures.len();
        let mut described: Vec<(f64, String)> = Vec::new();
        for (at, picture) in request.pictures.iter().enumerate() {
            let second = request.frame_seconds.get(at).copied().unwrap_or_default();
            let prompt = prompts::frame(&self.language, request.variation, at + 1, frames, second);
            let question = self.question(prompt, picture.jpeg.as_deref(), request)?;
            let timeout = if at == 0 { self.first_timeout } else { self.timeout };
            match within(timeout, "about one frame", model.ask(question)).await {
                Ok(ValidText { text, .. }) => described.push((second, text)),
                Err(error @ ProviderError::BadAnswer { .. }) => {
                    // With less than half of its frames, a video must be described again.
                    let lost = at + 1 - described.len();
                    if 2 * lost > frames {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if described.len() < frames {
            let lost = frames - described.len();
            changes.push(format!("{lost} of {frames} frames gave no valid answer"));
        }
        if let [(_, only)] = described.as_slice() {
            return Ok(ValidText { text: only.clone(), truncated: false });
        }
        let question = Question {
            prompt: prompts::video(&self.language, request.variation, &described),
            jpeg: None,
            max_tokens: (self.video_tokens, "provider.max_video_tokens"),
            variation: request.variation,
        };
        let merged = within(self.timeout, "with one text for all frames", model.ask(question)).await;
        if let Err(ProviderError::BadAnswer { message }) = merged {
            // Otherwise one bad answer would cost the descriptions of all frames.
            changes.push(format!("the frames' texts follow one another, as merging them failed: {message}"));
            let texts: Vec<String> = described.into_iter().map(|(_, text)| text).collect();
            return Ok(ValidText { text: texts.join(" "), truncated: false });
        }
        merged
    }
}

/// Limits one of several calls that are one call for the gate.
async fn within<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let message = format!("the provider did not answer {what} within {} s", limit.as_secs_f32());
        Err(ProviderError::TimedOut { message })
    })
}
