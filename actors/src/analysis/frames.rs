//! From pictures to one text: a photo by one question, a video by one for each frame and one that makes a text of the answers.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{DescribeRequest, Described, ProviderError, prompts, reply::Sound};
use crate::config;

/// One question to a model, with at most one picture: servers merge or confuse several.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) prompt: String,
    /// A JPEG.
    pub(super) jpeg: Option<&'a [u8]>,
    /// Most tokens of the answer, and the key that says so.
    pub(super) max_tokens: (u32, &'static str),
    pub(super) variation: u32,
}

/// Something that can be asked.
pub(super) trait Model: Sync {
    fn ask<'a>(&'a self, question: Question<'a>) -> BoxFuture<'a, Result<Sound, ProviderError>>;

    /// How sampling differs from the usual at a variation above 0.
    fn sampling(&self, variation: u32) -> String;
}

/// How sampling changes with the variation: temperature and seed. The seed is always sent, so that a request is what it seems to be.
pub(super) fn sampling(configured: f32, variation: u32) -> (f64, u32) {
    let most = configured.max(1.2);
    let temperature = (configured + 0.3 * variation.min(10) as f32).min(most);
    // Rounded, or JSON shows the noise of binary fractions.
    ((f64::from(temperature) * 100.0).round() / 100.0, 1 + variation)
}

/// What is needed of the configuration to ask.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    language: String,
    image_tokens: u32,
    video_tokens: u32,
    first_limit: Duration,
    limit: Duration,
}

impl Manner {
    pub(super) fn of(config: &config::Provider) -> Self {
        Self {
            language: config.language.trim().to_owned(),
            image_tokens: config.max_image_tokens,
            video_tokens: config.max_video_tokens,
            first_limit: config.first_request_timeout.max(config.request_timeout),
            limit: config.request_timeout,
        }
    }

    pub(super) fn language(&self) -> &str {
        &self.language
    }

    /// Describes what a request shows.
    pub(super) async fn describe(
        &self,
        model: &dyn Model,
        request: &DescribeRequest,
    ) -> Result<Described, ProviderError> {
        let mut notes = Vec::new();
        let sound = match &*request.pictures {
            [] => return Err(ProviderError::bad("there is no picture to look at")),
            [picture] if request.frame_seconds.is_empty() => {
                let prompt = prompts::picture(&self.language, request.variation);
                model.ask(self.about(prompt, picture.jpeg.as_deref(), request)?).await?
            }
            _ => self.video(model, request, &mut notes).await?,
        };
        if request.variation > 0 {
            notes.insert(0, model.sampling(request.variation));
        }
        if sound.cut {
            notes.push("the token limit cut the answer, whose last, unfinished sentence was dropped".into());
        }
        let changed = Some(notes.join("; ")).filter(|it| !it.is_empty());
        Ok(Described { text: sound.text, objects: Vec::new(), changed })
    }

    fn about<'a>(
        &self,
        prompt: String,
        jpeg: Option<&'a [u8]>,
        request: &DescribeRequest,
    ) -> Result<Question<'a>, ProviderError> {
        let jpeg =
            jpeg.ok_or_else(|| ProviderError::bad("the picture was not encoded for a model server"))?;
        Ok(Question {
            prompt,
            jpeg: Some(jpeg),
            max_tokens: (self.image_tokens, "provider.max_image_tokens"),
            variation: request.variation,
        })
    }

    async fn video(
        &self,
        model: &dyn Model,
        request: &DescribeRequest,
        notes: &mut Vec<String>,
    ) -> Result<Sound, ProviderError> {
        let frames = request.pictures.len();
        let (mut seen, mut trouble) = (Vec::new(), None);
        for (at, picture) in request.pictures.iter().enumerate() {
            let second = request.frame_seconds.get(at).copied().unwrap_or_default();
            let prompt = prompts::frame(&self.language, request.variation, at + 1, frames, second);
            let question = self.about(prompt, picture.jpeg.as_deref(), request)?;
            let limit = if at == 0 { self.first_limit } else { self.limit };
            match within(limit, "about one frame", model.ask(question)).await {
                Ok(sound) => seen.push((second, sound.text)),
                Err(error @ ProviderError::BadAnswer { .. }) => trouble = Some(error),
                Err(error) => return Err(error),
            }
            // Half of the frames stand for a video; with less it has to be looked at again.
            let lost = at + 1 - seen.len();
            if let Some(error) = trouble.take_if(|_| 2 * lost > frames) {
                return Err(error);
            }
        }
        if seen.len() < frames {
            notes.push(format!("{} of {frames} frames gave no sound answer", frames - seen.len()));
        }
        if let [(_, only)] = seen.as_slice() {
            return Ok(Sound { text: only.clone(), cut: false });
        }
        let question = Question {
            prompt: prompts::video(&self.language, request.variation, &seen),
            jpeg: None,
            max_tokens: (self.video_tokens, "provider.max_video_tokens"),
            variation: request.variation,
        };
        match within(self.limit, "with one text for all frames", model.ask(question)).await {
            Err(ProviderError::BadAnswer { message }) => {
                // All frames would have to be described again for one bad answer.
                notes.push(format!(
                    "the frames' texts stand side by side, as making one of them failed: {message}"
                ));
                let texts: Vec<String> = seen.into_iter().map(|(_, text)| text).collect();
                Ok(Sound { text: texts.join(" "), cut: false })
            }
            other => other,
        }
    }
}

/// One of several calls that the gate sees as one.
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
