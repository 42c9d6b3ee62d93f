//! Reports of a provider's servers and models, for a person who wants to know why a call fails.

use serde::Serialize;

/// Servers and models of a provider, asked without running a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Name of the provider, as in [`Identity::provider`](super::Identity::provider).
    pub provider: String,
    /// Its servers: none with `builtin`, two if embeddings come from a separate one.
    pub servers: Vec<ServerReport>,
    /// The model that describes and the one that embeds. A model whose server cannot be reached may be
    /// missing.
    pub models: Vec<ModelReport>,
}

impl Report {
    /// Whether no problem is known.
    pub fn is_ready(&self) -> bool {
        self.problems().next().is_none()
    }

    /// The problems, each a sentence that says what to do.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        let servers = self.servers.iter().filter_map(|it| it.problem.as_deref());
        servers.chain(self.models.iter().filter_map(|it| it.problem.as_deref()))
    }
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerReport {
    /// Its address.
    pub address: String,
    /// Whether it answered as a server of this kind does.
    pub reachable: bool,
    /// Name and version of its software, if it reports them.
    pub version: Option<String>,
    /// The problem and its remedy, in one sentence.
    pub problem: Option<String>,
}

/// The use of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It describes pictures.
    Vision,
    /// It embeds texts.
    Embedding,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelReport {
    /// Its use.
    pub role: Role,
    /// Its name, as configured.
    pub name: String,
    /// Whether the server has it; `None` if the server does not say.
    pub installed: Option<bool>,
    /// Command that installs it, if it is missing and such a command is known.
    pub install: Option<String>,
    /// Its digest, if the server reports it.
    pub digest: Option<String>,
    /// Its size in bytes, if the server reports it.
    pub size_bytes: Option<u64>,
    /// Its capabilities in the server's words; `None` if the server does not report them.
    pub capabilities: Option<Vec<String>>,
    /// Length of its vectors, if it embeds and the server reports it.
    pub dimensions: Option<u32>,
    /// The problem and its remedy, in one sentence.
    pub problem: Option<String>,
}

impl ModelReport {
    /// A model of which only role and name are known.
    pub fn new(role: Role, name: impl Into<String>) -> Self {
        Self {
            role,
            name: name.into(),
            installed: None,
            install: None,
            digest: None,
            size_bytes: None,
            capabilities: None,
            dimensions: None,
            problem: None,
        }
    }
}

/// Progress of fetching a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PullProgress {
    /// The current step, in the server's words.
    pub status: String,
    /// Bytes received, over all layers announced so far.
    pub completed_bytes: u64,
    /// Bytes of all layers announced so far; 0 before the first. It may grow.
    pub total_bytes: u64,
}
