//! One HTTP response of a model server. Status, content type, size and JSON are checked before it is used.

use std::{error::Error, time::Duration};

use reqwest::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{ProviderError, tls};

/// Most bytes of a body, or of one line of a stream. Descriptions and lists of models are far smaller.
const MAX_BODY: usize = 16 << 20;
/// Most bytes that are read of the body of an error.
const MAX_ERROR_BODY: usize = 64 << 10;
/// Most characters of a server's text in a sentence.
const MAX_QUOTED: usize = 300;
/// Pause after a 429 or 503 that names none.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why a request gave no response to read.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The request could not be sent, or the response is invalid.
    Provider(ProviderError),
    /// The server answered with an error status, whose meaning may depend on the request.
    Status(ErrorResponse),
}

impl RequestError {
    /// The error, where a status has its general meaning.
    pub(super) fn into_provider_error(self, place: &str) -> ProviderError {
        match self {
            Self::Provider(error) => error,
            Self::Status(response) => response.into_provider_error(place),
        }
    }
}

impl From<ProviderError> for RequestError {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}

/// A response whose status is not a success.
#[derive(Debug)]
pub(super) struct ErrorResponse {
    pub(super) status: u16,
    /// The server's text, as [`quoted`] makes it.
    pub(super) text: String,
    /// Whether the body is JSON: then the server itself answered, and not a proxy.
    pub(super) json: bool,
    /// `code` and `type` of an error in OpenAI's interface.
    pub(super) error_codes: String,
    /// Whether the request had a key.
    with_key: bool,
    retry_after: Option<Duration>,
}

impl ErrorResponse {
    /// The general meaning of the status, whatever was requested.
    pub(super) fn into_provider_error(self, place: &str) -> ProviderError {
        let Self { status, text, json, error_codes, with_key, retry_after } = self;
        let said = if text.is_empty() { status.to_string() } else { format!("{status}: {text}") };
        let quota = [&error_codes, &text].iter().any(|it| it.contains("insufficient_quota"));
        let message = match status {
            300..=399 => format!("{place} redirects ({said}); put that address into provider.base_url"),
            401 | 403 if with_key => format!(
                "{place} rejects the key ({said}); put the right one into the environment variable that \
                 provider.api_key_env names"
            ),
            401 | 403 => format!(
                "{place} requires a key ({said}); name the environment variable that holds it with \
                 provider.api_key_env"
            ),
            402 => format!("{place} requires payment ({said})"),
            429 if quota => format!(
                "the quota at {place} is used up ({said}); raise it there, or choose another provider"
            ),
            404 | 405 | 410 => format!(
                "{place} does not know what was requested ({said}); check provider.base_url and the names of \
                 the models"
            ),
            501 => format!(
                "{place} was started without what was requested ({said}); check the options that it was \
                 started with"
            ),
            413 => {
                return ProviderError::server_fault(format!(
                    "{place} does not accept a request of this size ({said}); raise the limit there (nginx: \
                     client_max_body_size) or lower vision.max_pixels"
                ));
            }
            429 => {
                return ProviderError::Unreachable {
                    message: format!(
                        "{place} is overloaded ({said}); lower provider.vision_concurrency if this persists"
                    ),
                    retry_after: Some(retry_after.unwrap_or(DEFAULT_RETRY_AFTER)),
                };
            }
            // The server is loading or overloaded by its own account, which must not count against an upload.
            // A proxy's 503 says nothing about the server.
            503 if json => {
                return ProviderError::Unreachable {
                    message: format!("{place} is not ready ({said})"),
                    retry_after: Some(retry_after.unwrap_or(DEFAULT_RETRY_AFTER)),
                };
            }
            408 | 409 | 425 | 502..=504 | 520..=530 => {
                return ProviderError::Unreachable {
                    message: format!("{place} does not answer for now ({said})"),
                    retry_after,
                };
            }
            500.. => return failed_on_request(place, &said),
            _ => return ProviderError::bad_answer(format!("{place} refuses this request ({said})")),
        };
        ProviderError::misconfigured(message)
    }
}

/// The error for a server that failed on one request, and said so.
pub(super) fn failed_on_request(place: &str, said: &str) -> ProviderError {
    ProviderError::server_fault(format!("{place} failed on this request ({said}); its own log tells more"))
}

/// A response with a valid status and type, whose body is not read yet.
#[derive(Debug)]
pub(super) struct Response<'a> {
    http: reqwest::Response,
    place: &'a str,
    key: Option<&'a str>,
    /// Bytes received.
    received: usize,
    /// Bytes received and not used yet.
    rest: Vec<u8>,
    ended: bool,
}

impl<'a> Response<'a> {
    pub(super) async fn new(
        http: reqwest::Response,
        place: &'a str,
        key: Option<&'a str>,
    ) -> Result<Self, RequestError> {
        let status = http.status();
        let response = Self { http, place, key, received: 0, rest: Vec::new(), ended: false };
        if !status.is_success() {
            return Err(RequestError::Status(response.into_error(status).await));
        }
        if response.content_type().contains("html") {
            return Err(web_page(place).into());
        }
        let encoding = response.header(CONTENT_ENCODING.as_str());
        if !matches!(encoding, "" | "identity") {
            return Err(ProviderError::misconfigured(format!(
                "{place} compresses its answer ({encoding}), which was not requested; check the proxy in \
                 between"
            ))
            .into());
        }
        Ok(response)
    }

    fn header(&self, name: &str) -> &str {
        header_text(self.http.headers(), name)
    }

    fn content_type(&self) -> &str {
        self.header(CONTENT_TYPE.as_str())
    }

    /// Whether this is one JSON value rather than a stream.
    pub(super) fn is_json(&self) -> bool {
        self.content_type().starts_with("application/json")
    }

    /// The header `Server`, in which some servers name themselves.
    pub(super) fn software(&self) -> Option<String> {
        Some(self.header("server")).filter(|it| !it.is_empty()).map(|it| quoted(it, self.key))
    }

    /// Reads the whole body as JSON.
    pub(super) async fn json<T: DeserializeOwned>(mut self) -> Result<T, ProviderError> {
        while self.read_more(MAX_BODY).await? {}
        serde_json::from_slice(&self.rest).map_err(|error| self.not_json(&self.rest, &error))
    }

    /// Reads the next line that is not empty, without its end; `None` after a complete body.
    pub(super) async fn line(&mut self) -> Result<Option<String>, ProviderError> {
        let mut searched = 0;
        loop {
            let end = self.rest.iter().skip(searched).position(|byte| *byte == b'\n').map(|at| searched + at);
            searched = self.rest.len();
            let line: Vec<u8> = match end {
                Some(end) => self.rest.drain(..=end).collect(),
                None if self.ended && self.rest.is_empty() => return Ok(None),
                None if self.ended => std::mem::take(&mut self.rest),
                None => {
                    self.read_more(MAX_BODY).await?;
                    continue;
                }
            };
            let line = String::from_utf8(line).map_err(|_| {
                ProviderError::bad_answer(format!("{} answers with bytes that are not text", self.place))
            })?;
            let line = line.trim();
            if !line.is_empty() {
                return Ok(Some(line.to_owned()));
            }
            searched = 0;
        }
    }

    /// Parses a part of the body.
    pub(super) fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, ProviderError> {
        serde_json::from_str(text).map_err(|error| self.not_json(text.as_bytes(), &error))
    }

    /// Reads the next chunk; `false` at the end.
    async fn read_more(&mut self, limit: usize) -> Result<bool, ProviderError> {
        match self.http.chunk().await {
            Ok(Some(chunk)) => {
                self.received += chunk.len();
                if self.rest.len() + chunk.len() > limit {
                    return Err(ProviderError::bad_answer(format!(
                        "the answer of {} has no end within {} MiB",
                        self.place,
                        limit >> 20
                    )));
                }
                self.rest.extend_from_slice(&chunk);
                Ok(true)
            }
            Ok(None) => {
                self.ended = true;
                Ok(false)
            }
            Err(error) => Err(ProviderError::unreachable(format!(
                "the answer of {} broke off after {} bytes: {}",
                self.place,
                self.received,
                innermost_cause(&error)
            ))),
        }
    }

    async fn into_error(mut self, status: StatusCode) -> ErrorResponse {
        // The beginning of an interrupted or overlong body is enough.
        while matches!(self.read_more(MAX_ERROR_BODY).await, Ok(true)) {}
        let headers = self.http.headers();
        let retry_after = retry_after(headers);
        let location = header_text(headers, LOCATION.as_str());
        let location = location.split(['?', '#']).next().unwrap_or_default();
        let body = String::from_utf8_lossy(&self.rest);
        let parsed = serde_json::from_str::<ErrorBody>(&body).ok();
        let json = parsed.is_some();
        let (text, error_codes) = match parsed {
            Some(body) => body.text_and_codes(),
            None if self.content_type().contains("html") || body.trim_start().starts_with('<') => {
                (format!("a web page, {}", without_tags(&body)), String::new())
            }
            None if status.is_redirection() => (location.to_owned(), String::new()),
            None => (body.into_owned(), String::new()),
        };
        ErrorResponse {
            status: status.as_u16(),
            text: quoted(&text, self.key),
            json,
            error_codes,
            with_key: self.key.is_some(),
            retry_after,
        }
    }

    fn not_json(&self, body: &[u8], error: &serde_json::Error) -> ProviderError {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_QUOTED)]);
        if text.trim_start().starts_with('<') {
            return web_page(self.place);
        }
        let start: String = quoted(&text, self.key).chars().take(80).collect();
        ProviderError::bad_answer(format!("{} answers in an unknown form: {error} in `{start}`", self.place))
    }
}

/// The forms in which servers report an error.
#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorBody {
    Error { error: Value },
    Detail { detail: Value },
    Message { message: Value },
}

impl ErrorBody {
    /// The text, and the codes of OpenAI's interface.
    fn text_and_codes(self) -> (String, String) {
        let value = match self {
            Self::Error { error: value }
            | Self::Detail { detail: value }
            | Self::Message { message: value } => value,
        };
        let code = |name: &str| match value.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(code) => plain(code),
        };
        (error_text(&value), format!("{} {}", code("code"), code("type")))
    }
}

/// The text of an error in JSON: its `message`, otherwise the whole value.
pub(super) fn error_text(error: &Value) -> String {
    plain(error.get("message").unwrap_or(error))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The meaning of a connection that gave no response.
pub(super) fn connection_error(place: &str, error: &reqwest::Error) -> ProviderError {
    let cause = innermost_cause(error);
    if causes(error).any(tls::is_certificate_error) {
        return ProviderError::misconfigured(format!(
            "the certificate of {place} is not trusted: {cause}; add its authority to those that this \
             system trusts"
        ));
    }
    if error.is_builder() {
        return ProviderError::misconfigured(format!(
            "cannot send a request to {place}: {cause}; check provider.base_url"
        ));
    }
    ProviderError::unreachable(if error.is_timeout() {
        format!(
            "cannot connect to {place} within provider.connect_timeout_ms; is it running, and is \
             provider.base_url right?"
        )
    } else if error.is_connect() {
        format!("cannot connect to {place}: {cause}; is it running, and is provider.base_url right?")
    } else {
        format!("the connection to {place} broke: {cause}")
    })
}

/// The innermost cause of an error, which is the most specific one and holds no address.
pub(super) fn innermost_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // `source` of an IO error skips the error that it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        wrapped.map(|it| it as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

fn web_page(place: &str) -> ProviderError {
    ProviderError::misconfigured(format!(
        "{place} answers with a web page instead of JSON; check provider.base_url, and whether a proxy or a \
         login page is in between"
    ))
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim()
}

/// Pause that a server asks for: in milliseconds, in seconds, or until a date, relative to the response's own
/// date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| header_text(headers, name).parse::<f64>().ok();
    let date =
        |name: &str| jiff::fmt::rfc2822::parse(header_text(headers, name)).ok().map(|date| date.timestamp());
    let seconds = number("retry-after-ms")
        .map(|ms| ms / 1000.0)
        .or_else(|| number(RETRY_AFTER.as_str()))
        .or_else(|| Some((date(RETRY_AFTER.as_str())? - date(DATE.as_str())?).as_secs() as f64))?;
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

/// Text of a server, fit for a sentence: on one line, not too long, without the key.
pub(super) fn quoted(text: &str, key: Option<&str>) -> String {
    let text = match key {
        Some(key) => text.replace(key, "(the key)"),
        None => text.to_owned(),
    };
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_QUOTED) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

fn without_tags(page: &str) -> String {
    let mut text = String::new();
    for (at, part) in page.split('<').enumerate() {
        text.push_str(if at == 0 { part } else { part.split_once('>').map_or("", |(_, after)| after) });
        text.push(' ');
    }
    text
}
