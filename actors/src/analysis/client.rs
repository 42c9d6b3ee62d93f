//! A client of one model server: its address, its key, its connections.

use std::time::Duration;

use reqwest::{
    Method, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;

use super::{
    ProviderError,
    response::{self, RequestError, Response},
    tls,
};

/// Sends requests to one model server. Its `Debug` shows neither key nor HTTP client.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<String>,
    place: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.place).finish()
    }
}

impl Client {
    /// A client of the server called `name` ("Ollama") at `base`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ProviderError::Misconfigured`] if the key is missing or cannot be sent, or if this machine lacks the
    /// TLS that the address needs.
    pub(super) fn new(
        name: &str,
        base: Url,
        api_key_env: Option<&str>,
        connect_timeout: Duration,
    ) -> Result<Self, ProviderError> {
        let key = api_key_env.map(key_from).transpose().map_err(ProviderError::misconfigured)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("mediamill/", env!("CARGO_PKG_VERSION")))
            // Following a redirect would pass the key on, and turn a POST into a GET.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(connect_timeout)
            .tcp_keepalive(Duration::from_secs(30));
        builder = tls::configure(builder, base.scheme() == "https").map_err(ProviderError::misconfigured)?;
        if is_local(&base) {
            // A proxy of the environment cannot reach this machine's servers.
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| {
            ProviderError::misconfigured(format!(
                "cannot construct an HTTP client: {}",
                response::innermost_cause(&error)
            ))
        })?;
        let place = format!("{name} at {}", base.as_str().trim_end_matches('/'));
        Ok(Self { http, base, key, place })
    }

    /// The server's name and address, for sentences: `Ollama at http://127.0.0.1:11434`.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The server's address.
    pub(super) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Text of the server, fit for a sentence: on one line, not too long, without the key.
    pub(super) fn quoted(&self, text: &str) -> String {
        response::quoted(text, self.key.as_deref())
    }

    /// Sends GET to a path below the address.
    pub(super) async fn get(&self, path: &str) -> Result<Response<'_>, RequestError> {
        self.send(Method::GET, self.url(path), None).await
    }

    /// Sends GET to a path of the server itself, whose interface is below `/v1`.
    pub(super) async fn get_outside_v1(&self, path: &str) -> Result<Response<'_>, RequestError> {
        let mut url = self.base.clone();
        let interface = url.path().trim_end_matches('/');
        let path = format!("{}{path}", interface.strip_suffix("/v1").unwrap_or(interface));
        url.set_path(&path);
        self.send(Method::GET, url, None).await
    }

    /// Sends JSON by POST to a path below the address.
    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Response<'_>, RequestError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| ProviderError::bad_answer(format!("cannot serialize the request: {error}")))?;
        self.send(Method::POST, self.url(path), Some(body)).await
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let path = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }

    async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
    ) -> Result<Response<'_>, RequestError> {
        let mut request = self
            .http
            .request(method, url)
            .header(ACCEPT, "application/json, text/event-stream, application/x-ndjson");
        if let Some(key) = &self.key {
            // `key_from` has checked that the key is a valid header.
            if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {key}")) {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        match request.send().await {
            Ok(response) => Response::new(response, &self.place, self.key.as_deref()).await,
            Err(error) => Err(response::connection_error(&self.place, &error).into()),
        }
    }
}

fn key_from(variable: &str) -> Result<String, String> {
    let hint = format!("set {variable}, which provider.api_key_env names, to the key of the model server");
    let key = std::env::var(variable).map_err(|_| format!("{variable} is not set or is not text; {hint}"))?;
    let key = key.trim().to_owned();
    match HeaderValue::from_str(&key) {
        Ok(_) if !key.is_empty() => Ok(key),
        Ok(_) | Err(_) => Err(format!("{variable} holds no key that can be sent; {hint}")),
    }
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A builder of HTTP clients with the cryptography and the certificates that those of model servers use.
///
/// # Errors
/// A sentence that says what this machine lacks, if `https` is wanted.
pub fn http_client(https: bool) -> Result<reqwest::ClientBuilder, String> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("mediamill/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none());
    tls::configure(builder, https)
}
