//! What a scripted server is and does.

use serde::Deserialize;

/// All that it is told. As JSON it can be sent to `/script`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Script {
    /// The models that it has.
    pub(crate) models: Vec<ScriptedModel>,
    /// The key that it wants.
    pub(crate) key: Option<String>,
    /// How long it takes for an answer.
    pub(crate) delay_ms: u64,
    /// What goes wrong with descriptions.
    pub(crate) chat: Option<Fault>,
    /// What goes wrong with embeddings.
    pub(crate) embed: Option<Fault>,
    /// What goes wrong with all else: versions, lists, fetching.
    pub(crate) rest: Option<Fault>,
    /// It loads its model still, and answers nothing but its list.
    pub(crate) loading: bool,
    /// It does not know `/api/embed`.
    pub(crate) old: bool,
    /// It names itself as llama.cpp does, and ignores the names of models.
    pub(crate) llama_cpp: bool,
    /// What llama.cpp tells of whether it sees. `None`: it is so old that it does not tell.
    pub(crate) tells_vision: Option<bool>,
}

/// A model that the server has.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ScriptedModel {
    pub(crate) name: String,
    pub(crate) digest: String,
    /// `None`: the server is so old that it does not tell.
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
    /// Nothing ever comes.
    Hang,
    /// A web page, as a proxy sends one.
    Page { status: u16 },
    /// A refusal, in the form of the interface that is spoken.
    Status { status: u16, message: String, headers: Vec<(String, String)> },
    /// The connection ends in the middle of the answer.
    Cut,
    /// The answer comes in small pieces with pauses between them.
    Drip { every_ms: u64 },
    /// A picture of more pixels than these kills the runner.
    LargePicture { above_pixels: u64 },
    /// A filter in front of it blocks pictures of more pixels than these with this status and a web page.
    Filter { above_pixels: u64, status: u16 },
    /// A text without words.
    Empty,
    /// All is thought, nothing is said.
    Thinking,
    /// The same words without end.
    Repetition,
    /// A sound beginning, and then the token limit.
    Length,
    /// An error in the stream, under status 200.
    ErrorLine,
    /// The stream ends in good order, but before it is done.
    Unfinished,
    /// One JSON value, though a stream was asked for.
    Whole,
    /// A vector with places that hold no number: refused by Ollama, `null` elsewhere.
    NaN,
    /// A text of more characters than these is too long to embed.
    LongText { above_chars: usize },
    /// A vector of zeros.
    Zeros,
    /// A vector of this length.
    Dimensions(usize),
    /// These parameters are refused.
    Refuses(Vec<String>),
    /// The model cannot see, which shows only when it is asked to.
    Blind,
}

impl Script {
    /// What goes wrong at a path.
    pub(super) fn fault(&self, path: &str) -> Option<&Fault> {
        match path {
            "/api/chat" | "/v1/chat/completions" => self.chat.as_ref(),
            "/api/embed" | "/api/embeddings" | "/v1/embeddings" => self.embed.as_ref(),
            _ => self.rest.as_ref(),
        }
    }

    /// A model by its name, as servers find it: a missing tag is `latest`.
    pub(super) fn model(&self, name: &str) -> Option<&ScriptedModel> {
        let tagged = if name.contains(':') { name.to_owned() } else { format!("{name}:latest") };
        self.models.iter().find(|it| it.name == tagged || it.name == name)
    }
}
