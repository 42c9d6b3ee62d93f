//! Sessions of browsers: signed, and nothing is kept of them but the secret.

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

/// What a cookie says.
#[derive(Serialize, Deserialize)]
pub(super) struct Session {
    /// Whose session it is.
    #[serde(rename = "sub")]
    pub(super) owner: Owner,
    /// Whether that is an administrator; for a key, the configuration tells.
    #[serde(rename = "adm")]
    pub(super) administrator: bool,
    /// Which key it began with, or which secret signed the token.
    pub(super) proof: String,
}

impl Sessions {
    /// Reads the secret in a data folder, or makes one.
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

    /// Begins a session; answers with the cookie's value and how long it holds, which is no longer than the caller's token does.
    pub(super) fn begin(&self, caller: &Caller, proof: String) -> (String, TimeDelta) {
        let until = caller.until.map(DateTime::<Utc>::from);
        let left = until.map_or(self.lasts, |until| self.lasts.min(until - Utc::now()));
        let session = Session { owner: caller.owner.clone(), administrator: caller.administrator, proof };
        let claims = Claims::new(session).set_duration(&TimeOptions::default(), left);
        // Signing what was just made cannot fail; a session that is none opens nothing.
        (Hs256.token(&Header::empty(), &claims, &self.secret).unwrap_or_default(), left)
    }

    /// What a cookie says and until when, if it is ours and has not ended.
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
