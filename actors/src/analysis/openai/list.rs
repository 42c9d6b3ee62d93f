//! What a server of OpenAI's interface lists of its models.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Seat;
use crate::analysis::{
    ModelReport, ProviderError, Role,
    answer::{Refusal, Trouble},
    server::Server,
};

/// Whom llama.cpp says that its model belongs to.
const LLAMA_CPP: &str = "llamacpp";

#[derive(Default, Deserialize)]
pub(super) struct List {
    data: Option<Vec<Listed>>,
    /// The second form in which llama.cpp lists its model.
    #[serde(default)]
    models: Vec<Capable>,
    error: Option<Value>,
    /// What the server says it is.
    #[serde(skip)]
    pub(super) software: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    owned_by: Option<String>,
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    n_embd: Option<u32>,
}

#[derive(Deserialize)]
struct Capable {
    capabilities: Option<Vec<String>>,
}

/// What llama.cpp tells of itself; older versions tell less.
#[derive(Deserialize)]
struct Props {
    modalities: Option<Modalities>,
}

#[derive(Deserialize)]
struct Modalities {
    vision: Option<bool>,
}

impl List {
    /// Asks a server. Some list nothing, which is no fault.
    pub(super) async fn of(server: &Server) -> Result<Self, ProviderError> {
        let wrong = |what: &str| {
            ProviderError::misconfigured(format!(
                "{what}; is that a server of OpenAI's interface at provider.base_url? Its path often ends in /v1"
            ))
        };
        let answer = match server.get("/models").await {
            Ok(answer) => answer,
            Err(Trouble::Refused(Refusal { status: 404 | 405, json: true, .. })) => {
                return Ok(Self::default());
            }
            Err(trouble) => return Err(trouble.into_error(server.place())),
        };
        let software = answer.server();
        let list: Self = answer.json().await.map_err(|error| match error {
            ProviderError::BadAnswer { message } => wrong(&message),
            other => other,
        })?;
        // Some servers answer what they do not know with status 200.
        if list.data.is_none() && list.error.is_some() {
            return Err(wrong(&format!("{} has no list of models", server.place())));
        }
        Ok(Self { software, ..list })
    }

    /// Asks a server that is llama.cpp whether its model is loaded: some versions list it before they answer anything else.
    pub(super) async fn loaded(&self, server: &Server) -> Result<(), ProviderError> {
        if !self.is_llama_cpp() {
            return Ok(());
        }
        match server.get_beside("/health").await {
            // What stands in between may let nothing but the interface through.
            Ok(_) | Err(Trouble::Refused(Refusal { status: 401..=499, .. })) => Ok(()),
            Err(trouble) => Err(trouble.into_error(server.place())),
        }
    }

    fn is_llama_cpp(&self) -> bool {
        let named = self.software.as_deref().is_some_and(|it| it.contains("llama.cpp"));
        named || self.data.iter().flatten().any(|it| it.owned_by.as_deref() == Some(LLAMA_CPP))
    }

    /// What it says of one of the models, with the problem that stands in the way.
    pub(super) async fn look(&self, seat: &Seat, dimensions: u32) -> ModelReport {
        let mut report = ModelReport::new(seat.role, &seat.model);
        let data = self.data.as_deref().unwrap_or_default();
        // Ollama lists the tag that it takes for granted.
        let listed =
            data.iter().find(|it| it.id == seat.model || it.id.strip_suffix(":latest") == Some(&seat.model));
        // llama.cpp has one model, whatever name is asked for.
        let alone = data.first().filter(|it| it.owned_by.as_deref() == Some(LLAMA_CPP) && data.len() == 1);
        report.there = (!data.is_empty()).then_some(listed.or(alone).is_some());
        let Some(model) = alone else { return report };
        report.capabilities = self.models.first().and_then(|it| it.capabilities.clone());
        report.problem = match seat.role {
            Role::Vision => blind(seat).await,
            Role::Embedding => {
                report.dimensions = model.meta.as_ref().and_then(|it| it.n_embd);
                let length = || wrong_length(seat, &model.id, report.dimensions?, dimensions);
                unable_to_embed(seat).await.or_else(length)
            }
        };
        report
    }
}

/// Why llama.cpp cannot describe: it says so itself. Its list does not, as some versions name `completion` alone for models that see.
async fn blind(seat: &Seat) -> Option<String> {
    // What it does not tell is not known.
    let props: Props = seat.server.get_beside("/props").await.ok()?.json().await.ok()?;
    (!props.modalities?.vision?).then(|| seat.blind("its modalities lack vision").into_message())
}

/// Why llama.cpp cannot embed. It says so before it looks at the request, so an empty one tells without running the model.
async fn unable_to_embed(seat: &Seat) -> Option<String> {
    match seat.server.post("/embeddings", &json!({})).await {
        Err(Trouble::Refused(refusal)) => match seat.refused(refusal) {
            ProviderError::Misconfigured { message } => Some(message),
            _ => None,
        },
        _ => None,
    }
}

fn wrong_length(seat: &Seat, model: &str, found: u32, wanted: u32) -> Option<String> {
    (found != wanted).then(|| {
        format!(
            "{} runs `{model}`, whose vectors have {found} numbers, but provider.embedding_dimensions is {wanted}; set it to {found}, or name \
             the server of the embedding model with provider.embedding_base_url",
            seat.server.place()
        )
    })
}
