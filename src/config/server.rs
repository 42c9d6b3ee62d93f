//! Sections `server` and `auth`.

use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use mediamill_actors::id::Owner;

/// Section `server`: the address, and the limits of connections and requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port; beyond loopback only with authentication. Default: 127.0.0.1:8484.
    pub listen: SocketAddr,
    /// Threads that serve requests, 1 to 256. `None`: one per processor.
    pub workers: Option<NonZeroU32>,
    /// Host names besides `localhost` to which a server without authentication answers.
    pub allowed_hosts: Vec<String>,
    /// Origins of other web pages that may use the API, such as `https://example.org`.
    pub allowed_origins: Vec<String>,
    /// Most open connections, 16 to 1000000. When they run out, idle ones of the address with most are closed;
    /// without idle ones further ones wait. Each takes two file descriptors.
    pub max_connections: u32,
    /// Most open WebSockets and event streams per owner, 1 to 1000000.
    pub max_streams_per_owner: u32,
    /// Most searches per owner that have no answer yet, 1 to 100000; owners take turns.
    pub max_searches_per_owner: u32,
    /// Most concurrent requests that upload files, over all owners, 1 to 100000.
    pub max_receiving: u32,
    /// Most concurrent requests that upload files per owner, 1 to 100000.
    pub max_receiving_per_owner: u32,
    /// Sustained requests per second per owner.
    pub requests_per_second: NonZeroU32,
    /// Requests that an owner may send at once before `requests_per_second` applies.
    pub burst_requests: NonZeroU32,
    /// How long an idle connection is kept open, 100 ms to 1 h.
    #[serde(rename = "keep_alive_ms", with = "super::millis")]
    pub keep_alive: Duration,
    /// Longest time for the head of a request to arrive, 100 ms to 10 min. From the second request of a
    /// connection on, the limit is this and `keep_alive` together.
    #[serde(rename = "head_timeout_ms", with = "super::millis")]
    pub head_timeout: Duration,
    /// Longest pause within a request body, and the window in which `min_bytes_per_second` is measured; 100
    /// ms to 1 h.
    #[serde(rename = "body_timeout_ms", with = "super::millis")]
    pub body_timeout: Duration,
    /// Lowest rate of a request body, in bytes per second; 0: no limit.
    pub min_bytes_per_second: u64,
    /// How long a peer may leave data unread, 1 s to 1 h; its connection is closed then.
    #[serde(rename = "send_timeout_ms", with = "super::millis")]
    pub send_timeout: Duration,
    /// How long running attempts may continue after a stop was requested, up to 1 h.
    #[serde(rename = "drain_timeout_ms", with = "super::millis")]
    pub drain_timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8484)),
            workers: None,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            max_connections: 10_000,
            max_streams_per_owner: 2_000,
            max_searches_per_owner: 64,
            max_receiving: 256,
            max_receiving_per_owner: 64,
            requests_per_second: NonZeroU32::MIN.saturating_add(499),
            burst_requests: NonZeroU32::MIN.saturating_add(2_999),
            keep_alive: Duration::from_secs(30),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            min_bytes_per_second: 1024,
            send_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Section `auth`: keys and tokens of owners. Without any of them, anyone who can connect is the owner
/// `local`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Keys of owners.
    pub keys: Vec<Key>,
    /// Environment variable with the secret of signed tokens (JWT, HS256), at least 32 bytes. Empty: signed
    /// tokens are refused.
    pub jwt_secret_env: String,
    /// How long a browser stays signed in, 1 min to 1 year.
    #[serde(rename = "session_ms", with = "super::millis")]
    pub session: Duration,
}

impl Default for Auth {
    fn default() -> Self {
        Self { keys: Vec::new(), jwt_secret_env: String::new(), session: Duration::from_secs(12 * 3600) }
    }
}

/// A key, of which only the hash is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The owner of the key.
    pub owner: Owner,
    /// SHA-256 of the key as 64 hexadecimal digits.
    pub sha256: String,
    /// Whether the owner is an administrator, who may also dump the store and read metrics.
    #[serde(default)]
    pub admin: bool,
}

impl Auth {
    /// Returns `true` if a caller has to authenticate.
    pub fn is_configured(&self) -> bool {
        !self.keys.is_empty() || !self.jwt_secret_env.is_empty()
    }
}

/// Checks both sections.
pub(super) fn validate(server: &Server, auth: &Auth) -> Result<(), String> {
    let within = |key: &str, value: u64, low: u64, high: u64| {
        if (low..=high).contains(&value) {
            Ok(())
        } else {
            Err(format!("{key} is {value}, but must be {low} to {high}"))
        }
    };
    let ms = |time: Duration| time.as_millis() as u64;
    within("server.workers", server.workers.map_or(1, |it| it.get().into()), 1, 256)?;
    within("server.max_connections", server.max_connections.into(), 16, 1_000_000)?;
    within("server.max_streams_per_owner", server.max_streams_per_owner.into(), 1, 1_000_000)?;
    within("server.max_searches_per_owner", server.max_searches_per_owner.into(), 1, 100_000)?;
    within("server.max_receiving", server.max_receiving.into(), 1, 100_000)?;
    within("server.max_receiving_per_owner", server.max_receiving_per_owner.into(), 1, 100_000)?;
    within("server.keep_alive_ms", ms(server.keep_alive), 100, 3_600_000)?;
    within("server.head_timeout_ms", ms(server.head_timeout), 100, 600_000)?;
    within("server.body_timeout_ms", ms(server.body_timeout), 100, 3_600_000)?;
    within("server.send_timeout_ms", ms(server.send_timeout), 1_000, 3_600_000)?;
    within("server.drain_timeout_ms", ms(server.drain_timeout), 0, 3_600_000)?;
    within("auth.session_ms", ms(auth.session), 60_000, 365 * 86_400_000)?;
    for origin in &server.allowed_origins {
        let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        if rest.is_none_or(|rest| rest.is_empty() || rest.contains(['/', '*', ' '])) {
            return Err(format!(
                "server.allowed_origins contains \"{origin}\", but an origin is scheme, host and port \
                 without a path, such as \
                 \"https://example.org\""
            ));
        }
    }
    for (index, key) in auth.keys.iter().enumerate() {
        if key.sha256.len() != 64 || !key.sha256.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(format!(
                "auth.keys[{index}].sha256 must be the SHA-256 of a key as 64 hexadecimal digits"
            ));
        }
    }
    if !server.listen.ip().is_loopback() && !auth.is_configured() {
        return Err(format!(
            "server.listen is {}, which others can reach, but there is no authentication; set auth.keys or \
             auth.jwt_secret_env, \
             or listen on 127.0.0.1",
            server.listen
        ));
    }
    Ok(())
}
