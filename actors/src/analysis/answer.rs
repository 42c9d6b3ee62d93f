//! One HTTP answer of a model server, believed only after a look: status, content type, size, JSON.

use std::{error::Error, time::Duration};

use reqwest::{
    Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{ProviderError, server::is_certificate};

/// Most bytes of an answer, or of one line of a stream: the longest description is far below, as is the longest list of models.
const MAX_BODY: usize = 16 << 20;
/// Most bytes of a refusal that are read.
const MAX_REFUSAL: usize = 64 << 10;
/// Most characters of a server's own words in a sentence.
const MAX_WORDS: usize = 300;
/// What is waited after a 429 or 503 that names no time.
const BUSY: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The request did not come through, or what came back is none.
    Error(ProviderError),
    /// The server refused; what it means may depend on what was asked.
    Refused(Refusal),
}

impl Trouble {
    /// The error, where a refusal means what its status says.
    pub(super) fn into_error(self, place: &str) -> ProviderError {
        match self {
            Self::Error(error) => error,
            Self::Refused(refusal) => refusal.into_error(place),
        }
    }
}

/// A status that is no success, and the words with it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The server's words, on one line, without the key.
    pub(super) words: String,
    /// It came as JSON, so it is the server itself that speaks and not something in between.
    pub(super) json: bool,
    /// Its `code` and `type`, as OpenAI's interface has them.
    pub(super) marks: String,
    /// A key was sent.
    keyed: bool,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// What the status means, whatever was asked.
    pub(super) fn into_error(self, place: &str) -> ProviderError {
        let Self { status, words, marks, keyed, retry_after, .. } = &self;
        let said = if words.is_empty() { status.to_string() } else { format!("{status}: {words}") };
        let quota = [marks, words].iter().any(|it| it.contains("insufficient_quota"));
        match *status {
            300..=399 => ProviderError::misconfigured(format!(
                "{place} is elsewhere ({said}); put that address into provider.base_url"
            )),
            401 | 403 if *keyed => ProviderError::misconfigured(format!(
                "{place} does not let this key in ({said}); put the right one into the environment variable that provider.api_key_env names"
            )),
            401 | 403 => ProviderError::misconfigured(format!(
                "{place} lets nobody in without a key ({said}); name the environment variable that holds it with provider.api_key_env"
            )),
            402 => ProviderError::misconfigured(format!("{place} wants to be paid first ({said})")),
            429 if quota => ProviderError::misconfigured(format!(
                "the quota at {place} is used up ({said}); raise it there, or choose another provider"
            )),
            404 | 405 | 410 => ProviderError::misconfigured(format!(
                "{place} does not have what is asked for ({said}); check provider.base_url and the names of the models"
            )),
            501 => ProviderError::misconfigured(format!(
                "{place} was started without what is asked for ({said}); see how it is started"
            )),
            413 => ProviderError::ServerFault {
                message: format!(
                    "{place} takes no request of this size ({said}); raise the limit there (nginx: client_max_body_size) or lower \
                     vision.max_pixels"
                ),
            },
            429 => ProviderError::Unreachable {
                message: format!(
                    "{place} has too much to do ({said}); lower provider.vision_concurrency if that stays so"
                ),
                retry_after: Some(retry_after.unwrap_or(BUSY)),
            },
            // Loading, or too many wait: its own word, and no upload is to pay for it. That of a proxy says nothing of the server.
            503 if self.json => ProviderError::Unreachable {
                message: format!("{place} is not ready ({said})"),
                retry_after: Some(retry_after.unwrap_or(BUSY)),
            },
            408 | 409 | 425 | 502..=504 | 520..=530 => ProviderError::Unreachable {
                message: format!("{place} does not answer for now ({said})"),
                retry_after: *retry_after,
            },
            500.. => ProviderError::ServerFault {
                message: format!("{place} broke on this request ({said}); its own log tells more"),
            },
            _ => ProviderError::bad(format!("{place} refuses this request ({said})")),
        }
    }
}

/// An answer whose status and type are sound, and whose body is still to come.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    response: Response,
    place: &'a str,
    key: Option<&'a str>,
    read: usize,
    rest: Vec<u8>,
    ended: bool,
}

impl<'a> Answer<'a> {
    pub(super) async fn new(
        response: Response,
        place: &'a str,
        key: Option<&'a str>,
    ) -> Result<Self, Trouble> {
        let status = response.status();
        let answer = Self { response, place, key, read: 0, rest: Vec::new(), ended: false };
        if !status.is_success() {
            return Err(answer.refused(status).await);
        }
        if answer.content_type().contains("html") {
            return Err(Trouble::Error(web_page(place)));
        }
        let encoding = answer.header(CONTENT_ENCODING.as_str());
        if !matches!(encoding, "" | "identity") {
            let message = format!(
                "{place} sends its answer packed ({encoding}), which was not asked for; see what stands in between"
            );
            return Err(Trouble::Error(ProviderError::misconfigured(message)));
        }
        Ok(answer)
    }

    fn header(&self, name: &str) -> &str {
        text_of(self.response.headers(), name)
    }

    fn content_type(&self) -> &str {
        self.header(CONTENT_TYPE.as_str())
    }

    /// Whether this is one JSON value rather than a stream.
    pub(super) fn is_whole(&self) -> bool {
        self.content_type().starts_with("application/json")
    }

    /// What the header `Server` says, which some servers name themselves in.
    pub(super) fn server(&self) -> Option<String> {
        Some(self.header("server")).filter(|it| !it.is_empty()).map(|it| clean(it, self.key))
    }

    /// The whole body as JSON of a shape.
    pub(super) async fn json<T: DeserializeOwned>(mut self) -> Result<T, ProviderError> {
        while self.more(MAX_BODY).await? {}
        serde_json::from_slice(&self.rest).map_err(|error| self.not_json(&self.rest, &error))
    }

    /// The next line that is not empty, without its end; `None` when the body has ended in good order.
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
                    self.more(MAX_BODY).await?;
                    continue;
                }
            };
            let line = String::from_utf8(line).map_err(|_| {
                ProviderError::bad(format!("{} answers with bytes that are no text", self.place))
            })?;
            let line = line.trim();
            if !line.is_empty() {
                return Ok(Some(line.to_owned()));
            }
            searched = 0;
        }
    }

    /// Understands a piece of the body.
    pub(super) fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, ProviderError> {
        serde_json::from_str(text).map_err(|error| self.not_json(text.as_bytes(), &error))
    }

    /// Reads on; `false` at the end.
    async fn more(&mut self, limit: usize) -> Result<bool, ProviderError> {
        match self.response.chunk().await {
            Ok(Some(chunk)) => {
                self.read += chunk.len();
                if self.rest.len() + chunk.len() > limit {
                    return Err(ProviderError::bad(format!(
                        "the answer of {} does not come to an end within {} MiB",
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
                self.read,
                causes(&error)
            ))),
        }
    }

    async fn refused(mut self, status: StatusCode) -> Trouble {
        // What came of a broken or overlong body is words enough.
        while matches!(self.more(MAX_REFUSAL).await, Ok(true)) {}
        let headers = self.response.headers();
        let retry_after = retry_after(headers);
        let location = text_of(headers, LOCATION.as_str());
        let location = location.split(['?', '#']).next().unwrap_or_default();
        let body = String::from_utf8_lossy(&self.rest);
        let parsed = serde_json::from_str::<RefusalBody>(&body).ok();
        let json = parsed.is_some();
        let (words, marks) = match parsed {
            Some(body) => body.words(),
            None if self.content_type().contains("html") || body.trim_start().starts_with('<') => {
                (format!("a web page, {}", without_tags(&body)), String::new())
            }
            None if status.is_redirection() => (location.to_owned(), String::new()),
            None => (body.into_owned(), String::new()),
        };
        Trouble::Refused(Refusal {
            status: status.as_u16(),
            words: clean(&words, self.key),
            json,
            marks,
            keyed: self.key.is_some(),
            retry_after,
        })
    }

    fn not_json(&self, body: &[u8], error: &serde_json::Error) -> ProviderError {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_WORDS)]);
        if text.trim_start().starts_with('<') {
            return web_page(self.place);
        }
        let start: String = clean(&text, self.key).chars().take(80).collect();
        ProviderError::bad(format!(
            "{} answers with something else than it should: {error} in `{start}`",
            self.place
        ))
    }
}

/// The ways in which servers say what is wrong.
#[derive(Deserialize)]
#[serde(untagged)]
enum RefusalBody {
    Error { error: Value },
    Detail { detail: Value },
    Message { message: Value },
}

impl RefusalBody {
    /// Words, and the marks of OpenAI's interface.
    fn words(self) -> (String, String) {
        let value = match self {
            Self::Error { error: value }
            | Self::Detail { detail: value }
            | Self::Message { message: value } => value,
        };
        let mark = |name: &str| match value.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(mark) => plain(mark),
        };
        let words = value.get("message").map_or_else(|| plain(&value), plain);
        (words, format!("{} {}", mark("code"), mark("type")))
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What a connection that gave no answer at all means.
pub(super) fn no_answer(place: &str, error: &reqwest::Error) -> ProviderError {
    let cause = causes(error);
    if chain(error).any(is_certificate) {
        return ProviderError::misconfigured(format!(
            "the certificate of {place} is not trusted: {cause}; add its authority to those that this system trusts"
        ));
    }
    if error.is_builder() {
        return ProviderError::misconfigured(format!(
            "{place} cannot be asked: {cause}; check provider.base_url"
        ));
    }
    ProviderError::unreachable(if error.is_timeout() {
        format!(
            "{place} is not connected to within provider.connect_timeout_ms; is it running, and is provider.base_url right?"
        )
    } else if error.is_connect() {
        format!("cannot connect to {place}: {cause}; is it running, and is provider.base_url right?")
    } else {
        format!("the connection to {place} broke: {cause}")
    })
}

/// The innermost cause of an error, which says most; it holds no address.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // What an IO error holds is not its source, but stands in its place.
        let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        held.map(|it| it as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

fn web_page(place: &str) -> ProviderError {
    ProviderError::misconfigured(format!(
        "{place} answers with a web page instead of JSON; check provider.base_url, and whether a proxy or a login page stands in between"
    ))
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim()
}

/// How long a server asks to wait: milliseconds, seconds, or a date, which is counted from the answer's own date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| text_of(headers, name).parse::<f64>().ok();
    let seconds =
        number("retry-after-ms").map(|ms| ms / 1000.0).or_else(|| number(RETRY_AFTER.as_str())).or_else(
            || {
                let date = |name: &str| jiff::fmt::rfc2822::parse(text_of(headers, name)).ok();
                Some((date(RETRY_AFTER.as_str())?.timestamp() - date(DATE.as_str())?.timestamp()).as_secs()
                    as f64)
            },
        )?;
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

/// On one line, without the key, and not too long.
pub(super) fn clean(words: &str, key: Option<&str>) -> String {
    let words = match key {
        Some(key) => words.replace(key, "(the key)"),
        None => words.to_owned(),
    };
    let line = words.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_WORDS) {
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
