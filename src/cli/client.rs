//! A client of a running mediamill: of the program that holds the data folder, through its private socket, or
//! of a server at an address.

use std::{path::Path, time::Duration};

use futures_util::StreamExt as _;
use mediamill::engine::{analysis, id::Owner};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::{Serialize, de::DeserializeOwned};

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Header with the owner, as the socket takes it.
const OWNER: &str = "x-mediamill-owner";
/// Longest line of a stream in bytes.
const MAX_LINE: usize = 64 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    /// With a slash at the end.
    base: Url,
    token: Option<String>,
    owner: Option<Owner>,
    /// The program at the other end, for sentences.
    name: String,
    is_local: bool,
}

impl Client {
    /// A client of the program that serves a socket.
    ///
    /// # Errors
    /// A sentence.
    #[cfg(unix)]
    pub(super) fn local(socket: &Path, owner: Owner) -> Result<Self, String> {
        let builder = analysis::http_client(false)?.unix_socket(socket.to_owned());
        let base = Url::parse("http://localhost/").map_err(|error| error.to_string())?;
        Ok(Self {
            http: build(builder)?,
            base,
            token: None,
            owner: Some(owner),
            name: "the mediamill that holds the data folder".to_owned(),
            is_local: true,
        })
    }

    /// A client of a server, with the token of the environment.
    ///
    /// # Errors
    /// A sentence: the address or the token cannot be used.
    pub(super) fn remote(address: &str) -> Result<Self, String> {
        let example = "name it as in --server https://photos.example.org or http://nas:8484";
        let slash = if address.ends_with('/') { "" } else { "/" };
        let base = Url::parse(&format!("{address}{slash}"))
            .ok()
            .filter(|url| ["http", "https"].contains(&url.scheme()) && url.host().is_some())
            .ok_or_else(|| format!("{address:?} is not the address of a server; {example}"))?;
        let token = std::env::var("MEDIAMILL_TOKEN").ok().filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| header::HeaderValue::from_str(token).is_err()) {
            return Err("MEDIAMILL_TOKEN holds characters that a token cannot have".to_owned());
        }
        let builder = analysis::http_client(base.scheme() == "https")?.connect_timeout(CONNECT);
        let name = format!("the server at {}", base.as_str().trim_end_matches('/'));
        Ok(Self { http: build(builder)?, base, token, owner: None, name, is_local: false })
    }

    /// Whether it is the program that holds the data folder, which takes paths and owners.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// The program at the other end, for sentences.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, String> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let response = self.send(self.request(Method::GET, url)).await?;
        self.json(response).await
    }

    /// Sends a request that changes something and is answered without a body.
    pub(super) async fn post(&self, path: &str) -> Result<(), String> {
        self.send(self.request(Method::POST, self.url(path)?)).await.map(drop)
    }

    pub(super) async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, String> {
        let response = self.send_json(path, body).await?;
        self.json(response).await
    }

    async fn send_json(&self, path: &str, body: &impl Serialize) -> Result<Response, String> {
        let body = serde_json::to_vec(body).map_err(|error| format!("cannot write the request: {error}"))?;
        let request = self.request(Method::POST, self.url(path)?);
        self.send(request.header(header::CONTENT_TYPE, "application/json").body(body)).await
    }

    /// Sends files.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        form: reqwest::multipart::Form,
    ) -> Result<T, String> {
        let response = self.send(self.request(Method::POST, self.url(path)?).multipart(form)).await?;
        self.json(response).await
    }

    /// The bytes of an answer, piece by piece.
    pub(super) async fn download(
        &self,
        path: &str,
        mut write: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let response = self.send(self.request(Method::GET, self.url(path)?)).await?;
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            write(&chunk.map_err(|error| self.broke(&error))?)?;
        }
        Ok(())
    }

    /// The lines of an answer to a body. `false` from `take` ends it.
    pub(super) async fn lines(
        &self,
        path: &str,
        body: &impl Serialize,
        mut take: impl AsyncFnMut(Vec<u8>) -> bool,
    ) -> Result<(), String> {
        let response = self.send_json(path, body).await?;
        let mut chunks = response.bytes_stream();
        let mut line = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| self.broke(&error))?;
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if line.len() > MAX_LINE {
                    return Err(format!("{} sent a line without an end", self.name));
                }
                if piece.ends_with(b"\n") && !take(std::mem::take(&mut line)).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn url(&self, path: &str) -> Result<Url, String> {
        self.base.join(path).map_err(|error| format!("cannot form the address of {path}: {error}"))
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(owner) = &self.owner {
            request = request.header(OWNER, base16ct::lower::encode_string(owner.as_str().as_bytes()));
        }
        request
    }

    /// Sends a request. A refusal becomes its sentence.
    async fn send(&self, request: RequestBuilder) -> Result<Response, String> {
        let response = request.send().await.map_err(|error| self.broke(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let refusal: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        let detail = refusal.as_ref().and_then(|it| it["detail"].as_str());
        Err(match (status, detail) {
            (StatusCode::UNAUTHORIZED, _) if !self.is_local => match self.token {
                Some(_) => format!("{} does not accept the token in MEDIAMILL_TOKEN", self.name),
                None => format!("{} asks for a key or token; put it into MEDIAMILL_TOKEN", self.name),
            },
            (_, Some(detail)) => detail.to_owned(),
            (StatusCode::NOT_FOUND, None) => {
                format!("{} is no mediamill, or lies below another path", self.name)
            }
            (status, None) => format!("{} answered with {status}", self.name),
        })
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, String> {
        let body = response.bytes().await.map_err(|error| self.broke(&error))?;
        serde_json::from_slice(&body)
            .map_err(|error| format!("{} gave an answer that cannot be read: {error}", self.name))
    }

    /// The sentence of an exchange that broke.
    fn broke(&self, error: &reqwest::Error) -> String {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        if self.is_local {
            return format!("{} stopped answering ({cause}); run the command again", self.name);
        }
        if error.is_connect() {
            return format!("cannot reach {}: {cause}; check the address, and whether it runs", self.name);
        }
        format!("{} stopped answering: {cause}; run the command again", self.name)
    }
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, String> {
    builder.build().map_err(|error| format!("cannot construct an HTTP client: {error}"))
}
