//! What can be told of a provider's servers and models, for a person who wants to know why nothing works.

use serde::Serialize;

/// How a provider stands, looked at without running a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `builtin`, `ollama` or `openai`.
    pub provider: String,
    /// Its servers: none with `builtin`, two if embeddings come from another one.
    pub servers: Vec<ServerReport>,
    /// The model that describes and the one that embeds.
    pub models: Vec<ModelReport>,
}

impl Report {
    /// Whether nothing is known that stands in the way.
    pub fn is_ready(&self) -> bool {
        self.problems().next().is_none()
    }

    /// All sentences that say what to do.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        let servers = self.servers.iter().filter_map(|it| it.problem.as_deref());
        servers.chain(self.models.iter().filter_map(|it| it.problem.as_deref()))
    }
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerReport {
    /// Its address.
    pub address: String,
    /// Whether it answered as such a server does.
    pub reachable: bool,
    /// What it says it is, and its version, if it tells.
    pub version: Option<String>,
    /// What is wrong and what to do, in one sentence.
    pub problem: Option<String>,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It describes pictures.
    Vision,
    /// It embeds texts.
    Embedding,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelReport {
    /// What it is for.
    pub role: Role,
    /// Its name, as configured.
    pub name: String,
    /// Whether the server has it; `None` if that cannot be told.
    pub there: Option<bool>,
    /// Command that fetches it, if the server does not have it and one is known.
    pub install: Option<String>,
    /// Its digest, if the server tells it.
    pub digest: Option<String>,
    /// Its size in bytes, if the server tells it.
    pub size_bytes: Option<u64>,
    /// What it can do, in the server's words; `None` if the server does not tell, which is not the same as nothing.
    pub capabilities: Option<Vec<String>>,
    /// Length of its vectors, if it embeds and the server tells it.
    pub dimensions: Option<u32>,
    /// What is wrong and what to do, in one sentence.
    pub problem: Option<String>,
}

impl ModelReport {
    /// A model of which only name and purpose are known.
    pub fn new(role: Role, name: impl Into<String>) -> Self {
        Self {
            role,
            name: name.into(),
            there: None,
            install: None,
            digest: None,
            size_bytes: None,
            capabilities: None,
            dimensions: None,
            problem: None,
        }
    }
}

/// How far the fetching of a model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PullProgress {
    /// What the server does, in its own words.
    pub status: String,
    /// Bytes that are there, of all parts that are known so far.
    pub completed_bytes: u64,
    /// Bytes of all parts that are known so far; 0 until one is. It may grow.
    pub total_bytes: u64,
}
