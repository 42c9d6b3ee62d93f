//! Sessions of browsers: signed cookies, of which the server keeps the secret alone.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use jwt_compact::{
    AlgorithmExt as _, Claims, Header, TimeOptions, UntrustedToken,
    alg::{Hs256, Hs256Key},
};
use mediamill_actors::id::Owner;
use serde::{Deserialize, Serialize};

use super::Caller;

const SECRET_BYTES: usize = 32;

pub(super) struct Sessions {
    secret: Hs256Key,
    lasts: TimeDelta,
}

/// The content of a cookie.
#[derive(Serialize, Deserialize)]
pub(super) struct Session {
    /// The owner.
    #[serde(rename = "sub")]
    pub(super) owner: Owner,
    /// Whether the owner is an administrator; for a key, the configuration decides instead.
    #[serde(rename = "adm")]
    pub(super) administrator: bool,
    /// Fingerprint of the key, or of the secret that signed the token, with which the session began.
    pub(super) proof: String,
}

impl Sessions {
    /// Reads the secret from the data folder, or creates one.
    pub(super) fn new(data_dir: &Path, lasts: Duration) -> io::Result<Self> {
        let path = data_dir.join("session.key");
        let secret = match fs::read(&path) {
            Ok(secret) if secret.len() == SECRET_BYTES => secret,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => make_secret(data_dir, &path)?,
        };
        let lasts = TimeDelta::from_std(lasts).unwrap_or(TimeDelta::MAX);
        Ok(Self { secret: Hs256Key::new(secret), lasts })
    }

    /// Begins a session. Returns the value of its cookie and how long it lasts, at most as long as the
    /// caller's token.
    pub(super) fn begin(&self, caller: &Caller, proof: String) -> (String, TimeDelta) {
        let until = caller.until.map(DateTime::<Utc>::from);
        let left = until.map_or(self.lasts, |until| self.lasts.min(until - Utc::now()));
        let session = Session { owner: caller.owner.clone(), administrator: caller.administrator, proof };
        let claims = Claims::new(session).set_duration(&TimeOptions::default(), left);
        // Signing these claims cannot fail; if it did, the empty cookie would open nothing.
        (Hs256.token(&Header::empty(), &claims, &self.secret).unwrap_or_default(), left)
    }

    /// The session of a cookie and its end, if the cookie is genuine and has not expired.
    pub(super) fn open(&self, cookie: &str) -> Option<(Session, DateTime<Utc>)> {
        let untrusted = UntrustedToken::new(cookie).ok()?;
        let token = Hs256.validator::<Session>(&self.secret).validate(&untrusted).ok()?;
        token.claims().validate_expiration(&TimeOptions::from_leeway(TimeDelta::zero())).ok()?;
        let (_, claims) = token.into_parts();
        Some((claims.custom, claims.expiration?))
    }
}

fn make_secret(data_dir: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let mut secret = vec![0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    fs::create_dir_all(data_dir)?;
    let unfinished = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&unfinished)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    Ok(secret)
}
