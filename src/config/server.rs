//! Sections `server` and `auth`.

use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use mediamill_actors::id::Owner;

/// Section `server`: where and for whom it listens, and what it bears.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port; beyond loopback only with authentication.
    pub listen: SocketAddr,
    /// Threads that answer, 1 to 256. `None`: one for each processor.
    pub workers: Option<NonZeroU32>,
    /// Names beside `localhost` by which a server without authentication may be reached.
    pub allowed_hosts: Vec<String>,
    /// Origins of other web pages that may use the API, as `https://example.org`.
    pub allowed_origins: Vec<String>,
    /// Most connections at once; further ones wait. 16 to 1000000.
    pub max_connections: u32,
    /// Most sockets and event streams of one owner at once, 1 to 1000000.
    pub max_streams_per_owner: u32,
    /// Most requests that bring files in at once, of all owners, 1 to 100000.
    pub max_receiving: u32,
    /// Most of them of one owner, 1 to 100000.
    pub max_receiving_per_owner: u32,
    /// Requests of one owner a second, over time.
    pub requests_per_second: NonZeroU32,
    /// Requests of one owner at once, before that counts.
    pub burst_requests: NonZeroU32,
    /// How long a connection is kept on which nothing is asked, 100 ms to 1 h.
    #[serde(rename = "keep_alive_ms", with = "super::millis")]
    pub keep_alive: Duration,
    /// Longest time for the head of a request to come in, 100 ms to 10 min. A later one of the same connection may begin only at the end of
    /// `keep_alive`, so that has both times together.
    #[serde(rename = "head_timeout_ms", with = "super::millis")]
    pub head_timeout: Duration,
    /// Longest silence within a body that comes in, and how long one may be slower than `min_bytes_per_second`; 100 ms to 1 h.
    #[serde(rename = "body_timeout_ms", with = "super::millis")]
    pub body_timeout: Duration,
    /// Slowest body that is taken, in bytes a second; 0: no limit.
    pub min_bytes_per_second: u64,
    /// Longest time in which a peer takes nothing that was sent to it, 1 s to 1 h.
    #[serde(rename = "send_timeout_ms", with = "super::millis")]
    pub send_timeout: Duration,
    /// How long running attempts may go on after the server was told to stop, up to 1 h.
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

/// Section `auth`: who may. Without a key and a secret, whoever reaches the server is the owner `local`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Keys of owners.
    pub keys: Vec<Key>,
    /// Environment variable with the secret of signed tokens (JWT, HS256), at least 32 bytes. Empty: none are taken.
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

/// A key: it is only known by its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Whose key it is.
    pub owner: Owner,
    /// SHA-256 of the key, in 64 hexadecimal digits.
    pub sha256: String,
    /// Whether it is an administrator's, who may also dump the store and read metrics.
    #[serde(default)]
    pub admin: bool,
}

impl Auth {
    /// Whether whoever asks must say who it is.
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
                "server.allowed_origins holds \"{origin}\", but an origin is scheme, host and port without a path, as in \
                 \"https://example.org\""
            ));
        }
    }
    for (index, key) in auth.keys.iter().enumerate() {
        if key.sha256.len() != 64 || !key.sha256.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(format!(
                "auth.keys[{index}].sha256 must be the SHA-256 of a key in 64 hexadecimal digits"
            ));
        }
    }
    if !server.listen.ip().is_loopback() && !auth.is_configured() {
        return Err(format!(
            "server.listen is {}, which others can reach, but nobody has to say who they are; set auth.keys or auth.jwt_secret_env, or \
             listen on 127.0.0.1",
            server.listen
        ));
    }
    Ok(())
}
