//! The script of a model server: its models, and its faults.

use serde::Deserialize;

/// The whole script. It can be sent to `/script` as JSON.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Script {
    /// The installed models.
    pub(crate) models: Vec<ScriptedModel>,
    /// The key that requests must have.
    pub(crate) key: Option<String>,
    /// Time before each answer.
    pub(crate) delay_ms: u64,
    /// Fault of descriptions.
    pub(crate) chat: Option<Fault>,
    /// Fault of embeddings.
    pub(crate) embed: Option<Fault>,
    /// Fault of all other requests: versions, lists, fetching.
    pub(crate) rest: Option<Fault>,
    /// Whether it is still loading its model, and answers only the list of models.
    pub(crate) loading: bool,
    /// Whether it lacks `/api/embed`.
    pub(crate) old: bool,
    /// Whether it behaves as llama.cpp, which ignores the names of models.
    pub(crate) llama_cpp: bool,
    /// Whether llama.cpp reports vision. `None`: an old version, which does not report it.
    pub(crate) tells_vision: Option<bool>,
}

/// An installed model.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ScriptedModel {
    pub(crate) name: String,
    pub(crate) digest: String,
    /// `None`: an old server, which does not report them.
    pub(crate) capabilities: Option<Vec<String>>,
    pub(crate) dimensions: usize,
}

impl Default for Script {
    fn default() -> Self {
        let model = |name: &str, digest: char, capability: &[&str], dimensions| ScriptedModel {
            name: name.into(),
            digest: digest.to_string().repeat(64),
            capabilities: Some(capability.iter().map(|it| (*it).into()).collect()),
            dimensions,
        };
        Self {
            models: vec![
                model("qwen2.5vl:7b", 'a', &["completion", "vision"], 3584),
                model("bge-m3:latest", 'b', &["embedding"], 1024),
            ],
            key: None,
            delay_ms: 0,
            chat: None,
            embed: None,
            rest: None,
            loading: false,
            old: false,
            llama_cpp: false,
            tells_vision: None,
        }
    }
}

/// A way to fail.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// No answer.
    Hang,
    /// A web page, like a proxy's.
    Page { status: u16 },
    /// An error status, in the form of the requested interface.
    Status { status: u16, message: String, headers: Vec<(String, String)> },
    /// The connection ends in the middle of the answer.
    Cut,
    /// The answer arrives in small pieces with pauses.
    Drip { every_ms: u64 },
    /// A picture with more pixels kills the runner.
    LargePicture { above_pixels: u64 },
    /// A filter in front of the server answers pictures with more pixels with this status and a web page.
    Filter { above_pixels: u64, status: u16 },
    /// A text without words.
    Empty,
    /// Reasoning without an answer.
    Thinking,
    /// The same words, repeated for ever.
    Repetition,
    /// A valid text, cut by the token limit.
    Length,
    /// An error in the stream, under status 200.
    ErrorLine,
    /// The stream ends properly, but before its last event.
    Unfinished,
    /// One JSON value instead of the requested stream.
    Whole,
    /// A vector with NaN: an error of Ollama, `null` elsewhere.
    NaN,
    /// A text with more characters is too long to embed.
    LongText { above_chars: usize },
    /// A vector of zeros.
    Zeros,
    /// A vector of this length.
    Dimensions(usize),
    /// These parameters are refused.
    Refuses(Vec<String>),
    /// A model without vision, which only a call reveals.
    Blind,
    /// The content is a list of parts, the first of which is reasoning (OpenAI's interface).
    Parts,
}

impl Script {
    /// The fault of requests to a path.
    pub(super) fn fault(&self, path: &str) -> Option<&Fault> {
        match path {
            "/api/chat" | "/v1/chat/completions" => self.chat.as_ref(),
            "/api/embed" | "/api/embeddings" | "/v1/embeddings" => self.embed.as_ref(),
            _ => self.rest.as_ref(),
        }
    }

    /// The model with this name; a missing tag means `latest`.
    pub(super) fn model(&self, name: &str) -> Option<&ScriptedModel> {
        let tagged = if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
        self.models.iter().find(|it| it.name == tagged || it.name == name)
    }
}
