//! Sessions of browsers: signed cookies, of which the server keeps the secret alone.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use jwt_compact::{
    AlgorithmExt as _, Claims, Header, TimeOptions, UntrustedToken,
    alg::{Hs256, Hs256Key},
};
use mediamill_actors::{id::Owner, private};
use serde::{Deserialize, Serialize};

use super::{Caller, ended::Ended};

const SECRET_BYTES: usize = 32;

pub(super) struct Sessions {
    secret: Hs256Key,
    lasts: TimeDelta,
    ended: Ended,
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
    /// Tells apart the sessions that an owner begins in the same second.
    #[serde(default)]
    id: String,
}

impl Sessions {
    /// Reads the secret from the data folder, or creates one.
    pub(super) fn new(data_dir: &Path, lasts: Duration) -> io::Result<Self> {
        let path = data_dir.join("session.key");
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let secret = match private::read_secret(&path) {
            Ok(secret) if secret.len() == SECRET_BYTES => secret,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
            Ok(_) | Err(_) => make_secret(&path).map_err(named)?,
        };
        let lasts = TimeDelta::from_std(lasts).unwrap_or(TimeDelta::MAX);
        let ended = Ended::open(data_dir, Utc::now().timestamp())?;
        Ok(Self { secret: Hs256Key::new(secret), lasts, ended })
    }

    /// Begins a session. Returns the value of its cookie and how long it lasts, at most as long as the
    /// caller's token.
    pub(super) fn begin(&self, caller: &Caller, proof: String) -> (String, TimeDelta) {
        let until = caller.until.map(DateTime::<Utc>::from);
        let left = until.map_or(self.lasts, |until| self.lasts.min(until - Utc::now()));
        let id = getrandom::u64().map_or_else(|_| String::new(), |id| format!("{id:016x}"));
        let session = Session { owner: caller.owner.clone(), administrator: caller.administrator, proof, id };
        let claims = Claims::new(session).set_duration_and_issuance(&TimeOptions::default(), left);
        // Signing these claims cannot fail; if it did, the empty cookie would open nothing.
        (Hs256.token(&Header::empty(), &claims, &self.secret).unwrap_or_default(), left)
    }

    /// The session of a cookie and its end, if the cookie is genuine, has not expired and was not ended.
    pub(super) fn open(&self, cookie: &str) -> Option<(Session, DateTime<Utc>)> {
        let (session, began, until) = self.read(cookie)?;
        let ended = self.ended.contains(&session.owner, &session.id(until), began.timestamp());
        (!ended).then_some((session, until))
    }

    /// Ends the session of a cookie, in this process even if that cannot be written. Blocks.
    pub(super) fn end(&self, cookie: &str) -> io::Result<()> {
        let Some((session, _, until)) = self.read(cookie) else { return Ok(()) };
        self.ended.insert(&session.owner, &session.id(until), until.timestamp(), Utc::now().timestamp())
    }

    /// The session of a genuine cookie, its beginning and its end.
    fn read(&self, cookie: &str) -> Option<(Session, DateTime<Utc>, DateTime<Utc>)> {
        let untrusted = UntrustedToken::new(cookie).ok()?;
        let token = Hs256.validator::<Session>(&self.secret).validate(&untrusted).ok()?;
        token.claims().validate_expiration(&TimeOptions::from_leeway(TimeDelta::zero())).ok()?;
        let (_, claims) = token.into_parts();
        let until = claims.expiration?;
        // Sessions of older versions do not say when they began.
        Some((claims.custom, claims.issued_at.unwrap_or(DateTime::UNIX_EPOCH), until))
    }
}

impl Session {
    /// The id by which it is ended. Sessions of older versions have none.
    fn id(&self, until: DateTime<Utc>) -> String {
        if self.id.is_empty() { format!("{} {}", self.proof, until.timestamp()) } else { self.id.clone() }
    }
}

fn make_secret(path: &Path) -> io::Result<Vec<u8>> {
    let mut secret = vec![0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(io::Error::other)?;
    let unfinished = path.with_extension("tmp");
    // A file that somebody prepared, or a link, must not become the secret.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = private::unlinked().write(true).create_new(true).open(&unfinished)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    Ok(secret)
}
