//! A model server: its address, its key and the client that speaks to it.

use std::time::Duration;

use reqwest::{
    Client, Method, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;

use super::{
    ProviderError,
    answer::{self, Answer, Trouble},
};

/// Where something is asked. Debug shows neither key nor client.
pub(super) struct Server {
    client: Client,
    base: Url,
    key: Option<String>,
    place: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.place).finish()
    }
}

/// Checks an address of the configuration.
///
/// # Errors
/// What is wrong with it, to follow the key's name. It never repeats the address, which may hold a password.
pub(crate) fn check_base_url(url: &str) -> Result<(), String> {
    parse(url).map(|_| ())
}

fn parse(url: &str) -> Result<Url, String> {
    let parsed =
        Url::parse(url.trim()).map_err(|error| format!("is no address like http://host:port: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none_or(str::is_empty) {
        return Err("must begin with http:// or https:// and a host".into());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(
            "must not hold credentials; name an environment variable with provider.api_key_env".into()
        );
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err("must end with a path, not with a query or fragment".into());
    }
    Ok(parsed)
}

impl Server {
    /// A server called `name` ("Ollama") at an address. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ProviderError::Misconfigured`] if the address makes no sense, the key is missing or cannot be sent, or this machine cannot do the TLS
    /// that the address asks for.
    pub(super) fn new(
        name: &str,
        url: &str,
        api_key_env: Option<&str>,
        connect_timeout: Duration,
    ) -> Result<Self, ProviderError> {
        let wrong = |message: String| ProviderError::Misconfigured { message };
        let base = parse(url).map_err(|problem| wrong(format!("provider.base_url {problem}")))?;
        let key = api_key_env.map(key_from).transpose().map_err(wrong)?;
        let mut builder = Client::builder()
            .user_agent(concat!("mediamill/", env!("CARGO_PKG_VERSION")))
            // A redirect would take the key along, and turn a POST into a GET.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(connect_timeout)
            .tcp_keepalive(Duration::from_secs(30));
        builder = tls::configure(builder, base.scheme() == "https").map_err(wrong)?;
        if is_local(&base) {
            // Proxies of the environment do not know this machine's servers.
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| wrong(format!("cannot make an HTTP client: {}", answer::causes(&error))))?;
        let place = format!("{name} at {}", base.as_str().trim_end_matches('/'));
        Ok(Self { client, base, key, place })
    }

    /// Its name and address, for sentences: `Ollama at http://127.0.0.1:11434`.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// A server's own words as they may be shown.
    pub(super) fn words(&self, text: &str) -> String {
        answer::clean(text, self.key.as_deref())
    }

    /// Its address.
    pub(super) fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Puts a path below the address for a request that has none of its own.
    pub(super) fn with_default_path(mut self, path: &str) -> Self {
        if matches!(self.base.path(), "" | "/") {
            self.base.set_path(path);
        }
        self
    }

    /// Asks for what is at a path below the address.
    pub(super) async fn get(&self, path: &str) -> Result<Answer<'_>, Trouble> {
        self.send(Method::GET, path, None).await
    }

    /// Asks for what is at a path beside the interface's own, which lies below `/v1`.
    pub(super) async fn get_beside(&self, path: &str) -> Result<Answer<'_>, Trouble> {
        let mut url = self.base.clone();
        let own = url.path().trim_end_matches('/');
        let beside = format!("{}{path}", own.strip_suffix("/v1").unwrap_or(own));
        url.set_path(&beside);
        self.send_to(Method::GET, url, None).await
    }

    /// Sends JSON to a path below the address.
    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Answer<'_>, Trouble> {
        let body = serde_json::to_vec(body).map_err(|error| {
            Trouble::Error(ProviderError::bad(format!("cannot write the request: {error}")))
        })?;
        self.send(Method::POST, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer<'_>, Trouble> {
        let mut url = self.base.clone();
        let below = format!("{}{path}", url.path().trim_end_matches('/'));
        url.set_path(&below);
        self.send_to(method, url, body).await
    }

    async fn send_to(&self, method: Method, url: Url, body: Option<Vec<u8>>) -> Result<Answer<'_>, Trouble> {
        let mut request = self
            .client
            .request(method, url)
            .header(ACCEPT, "application/json, text/event-stream, application/x-ndjson");
        if let Some(key) = &self.key {
            // It was tried when the server was made.
            if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {key}")) {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        match request.send().await {
            Ok(response) => Answer::new(response, &self.place, self.key.as_deref()).await,
            Err(error) => Err(Trouble::Error(answer::no_answer(&self.place, &error))),
        }
    }
}

fn key_from(variable: &str) -> Result<String, String> {
    let hint = format!("set {variable}, which provider.api_key_env names, to the key of the model server");
    let key =
        std::env::var(variable).map_err(|_| format!("the environment has no text in {variable}; {hint}"))?;
    let key = key.trim().to_owned();
    match HeaderValue::from_str(&key) {
        Ok(_) if !key.is_empty() => Ok(key),
        _ => Err(format!("{variable} holds no key that can be sent; {hint}")),
    }
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// TLS by rustls with graviola's cryptography and the system's certificates.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tls {
    use std::sync::Arc;

    use rustls::{ClientConfig, RootCertStore};
    use rustls_platform_verifier::BuilderVerifierExt as _;

    pub(super) fn configure(
        builder: reqwest::ClientBuilder,
        wanted: bool,
    ) -> Result<reqwest::ClientBuilder, String> {
        if wanted && !graviola::util::is_cpu_supported() {
            return Err("this processor is too old for the TLS that is built in (it needs AES and, on x86-64, AVX2 and ADX \
                        instructions); give provider.base_url an http:// address, for example of a proxy on this machine"
                .into());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("cannot set up TLS: {error}"))?;
        let config = if wanted {
            config.with_platform_verifier().map_err(|error| {
                format!(
                    "cannot read the certificates that this system trusts: {error}; install them (ca-certificates) or \
                     give provider.base_url an http:// address"
                )
            })?
        } else {
            config.with_root_certificates(RootCertStore::empty())
        };
        Ok(builder.tls_backend_preconfigured(config.with_no_client_auth()))
    }

    /// Whether an error comes from a certificate that is not trusted.
    pub(in super::super) fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
        matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
    }
}

/// No TLS: there is no cryptography for this architecture that builds without a C compiler.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tls {
    pub(super) fn configure(
        builder: reqwest::ClientBuilder,
        wanted: bool,
    ) -> Result<reqwest::ClientBuilder, String> {
        if wanted {
            return Err("this build has no TLS, as there is none for this processor's architecture; give provider.base_url an \
                        http:// address, for example of a proxy on this machine"
                .into());
        }
        Ok(builder)
    }

    pub(in super::super) fn is_certificate(_: &(dyn std::error::Error + 'static)) -> bool {
        false
    }
}

pub(super) use tls::is_certificate;
