//! A model, and the server that runs it.

use std::sync::Arc;

use serde::Serialize;

use super::{
    ProviderError, Role,
    client::Client,
    response::{ErrorResponse, RequestError, Response},
};
use crate::config;

/// A model, and the server that runs it.
#[derive(Debug)]
pub(super) struct ModelEndpoint {
    pub(super) role: Role,
    pub(super) client: Arc<Client>,
    pub(super) model: String,
}

impl ModelEndpoint {
    /// The key of the configuration that names the model.
    pub(super) fn config_key(&self) -> &'static str {
        match self.role {
            Role::Vision => "provider.vision_model",
            Role::Embedding => "provider.embedding_model",
        }
    }

    /// The server's name and address, for sentences.
    pub(super) fn place(&self) -> &str {
        self.client.place()
    }

    /// Sends JSON to a path of the server; `explain` says what an error status means for this model.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        explain: impl FnOnce(&Self, ErrorResponse) -> ProviderError,
    ) -> Result<Response<'_>, ProviderError> {
        self.client.post(path, body).await.map_err(|error| match error {
            RequestError::Provider(error) => error,
            RequestError::Status(response) => explain(self, response),
        })
    }
}

/// The two models of a provider, on one server or on two.
#[derive(Debug)]
pub(super) struct ModelEndpoints {
    pub(super) vision: ModelEndpoint,
    pub(super) embedding: ModelEndpoint,
}

impl ModelEndpoints {
    /// The configured models at servers called `name` ("Ollama").
    ///
    /// # Errors
    /// As [`Client::new`].
    pub(super) fn new(
        name: &str,
        section: &config::Provider,
        server: config::ServerSettings,
    ) -> Result<Self, ProviderError> {
        let client = |url| {
            Client::new(name, url, section.api_key_env.as_deref(), section.connect_timeout).map(Arc::new)
        };
        let vision = client(server.base_url)?;
        let embedding = server.embedding_base_url.map(client).transpose()?;
        let embedding = embedding.unwrap_or_else(|| Arc::clone(&vision));
        Ok(Self {
            vision: ModelEndpoint { role: Role::Vision, client: vision, model: server.vision_model },
            embedding: ModelEndpoint {
                role: Role::Embedding,
                client: embedding,
                model: server.embedding_model,
            },
        })
    }

    /// Whether one server runs both models.
    pub(super) fn share_server(&self) -> bool {
        Arc::ptr_eq(&self.vision.client, &self.embedding.client)
    }

    /// Each server with the models that it runs.
    pub(super) fn by_server(&self) -> Vec<(&Client, Vec<&ModelEndpoint>)> {
        let Self { vision, embedding } = self;
        if self.share_server() {
            vec![(&*vision.client, vec![vision, embedding])]
        } else {
            vec![(&*vision.client, vec![vision]), (&*embedding.client, vec![embedding])]
        }
    }
}
