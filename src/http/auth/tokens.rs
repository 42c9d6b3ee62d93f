//! Keys and signed tokens of owners, and sessions of browsers that signed in with one.

use std::{future::ready, io, path::Path};

use actix_web::{
    HttpRequest,
    cookie::{Cookie, SameSite, time},
    http::header,
};
use chrono::TimeDelta;
use jwt_compact::{
    AlgorithmExt as _, Claims, TimeOptions, UntrustedToken, ValidationError,
    alg::{Hs256, Hs256Key},
};
use mediamill_actors::id::Owner;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::{Answer, Authenticate, Caller, Denied, session};
use crate::config::Auth;

/// Name of the session cookie.
pub(crate) const COOKIE: &str = "mediamill_session";
/// How far the clock of the signer of a token may be ahead.
const SKEW: TimeDelta = TimeDelta::seconds(60);
/// Shortest secret in bytes, the output length of HS256.
const SHORTEST_SECRET: usize = 32;

/// Identifies owners by keys, whose hashes are in the configuration, and by signed tokens.
///
/// Keys are compared in constant time. Tokens are never logged.
pub struct Tokens {
    keys: Vec<([u8; 32], Caller)>,
    jwt: Option<Secret>,
    sessions: session::Sessions,
}

/// The claims of a signed token, besides its times.
#[derive(Deserialize)]
struct Signed {
    sub: Owner,
    #[serde(default)]
    role: Option<String>,
}

/// Fields of a token's header that change its meaning.
#[derive(Clone, Deserialize)]
struct Extensions {
    /// Extensions without which the token must not be accepted.
    crit: Option<serde::de::IgnoredAny>,
}

/// The bearer of a token.
struct Known {
    caller: Caller,
    /// Fingerprint of the key, or of the secret that signed the token.
    proof: String,
}

/// The secret of signed tokens.
struct Secret {
    key: Hs256Key,
    fingerprint: String,
}

impl Secret {
    fn new(secret: &[u8]) -> Self {
        let fingerprint = fingerprint_of(&Sha256::digest(secret).into());
        Self { key: Hs256Key::new(secret), fingerprint }
    }
}

impl Tokens {
    /// Reads the keys and the secret of the configuration. The secret of sessions is kept in `data_dir`, so
    /// that sessions survive a restart.
    ///
    /// # Errors
    /// A sentence that names the key of the configuration, or the file that cannot be read or written.
    pub fn new(config: &Auth, data_dir: &Path) -> Result<Self, String> {
        let jwt = match config.jwt_secret_env.as_str() {
            "" => None,
            name => {
                let secret = std::env::var_os(name).unwrap_or_default();
                if secret.len() < SHORTEST_SECRET {
                    return Err(format!(
                        "auth.jwt_secret_env names {name}, which must be set to at least {SHORTEST_SECRET} \
                         bytes; make a \
                         secret with `openssl rand -hex 32`"
                    ));
                }
                Some(Secret::new(secret.as_encoded_bytes()))
            }
        };
        let mut keys = Vec::with_capacity(config.keys.len());
        for key in &config.keys {
            let hash =
                unhex(&key.sha256).ok_or("auth.keys has a sha256 that is not 64 hexadecimal digits")?;
            keys.push((hash, Caller { owner: key.owner.clone(), administrator: key.admin, until: None }));
        }
        let sessions = session::Sessions::new(data_dir, config.session).map_err(|error: io::Error| {
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "; others may know it, so remove it: browsers sign in again with the new one"
                }
                _ => "",
            };
            format!("cannot keep the secret of sessions in {}: {error}{advice}", data_dir.display())
        })?;
        Ok(Self { keys, jwt, sessions })
    }

    fn known(&self, token: &str) -> Result<Known, Denied> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // The loop compares every key, so that its time does not reveal which one matched.
        let mut found = None;
        for (index, (key, _)) in self.keys.iter().enumerate() {
            let same: Choice = key.ct_eq(&hash);
            if bool::from(same) {
                found = Some(index);
            }
        }
        if let Some((key, caller)) = found.and_then(|index| self.keys.get(index)) {
            return Ok(Known { caller: caller.clone(), proof: fingerprint_of(key) });
        }
        let refused = || Denied::Refused("the token is not known here; ask for a new one".into());
        let jwt = self.jwt.as_ref().ok_or_else(refused)?;
        let untrusted = UntrustedToken::<Extensions>::try_from(token).map_err(|_| refused())?;
        if untrusted.header().other_fields.crit.is_some() {
            return Err(Denied::Refused(
                "the token needs extensions (its header has `crit`), and none are known here".into(),
            ));
        }
        let signed = Hs256.validator::<Signed>(&jwt.key).validate(&untrusted).map_err(|_| refused())?;
        let claims = signed.claims();
        check_times(claims).map_err(|error| match error {
            ValidationError::Expired => Denied::Refused("the token has expired; ask for a new one".into()),
            ValidationError::NotMature => Denied::Refused("the token is not valid yet".into()),
            _ => Denied::Refused("the token does not expire; it needs the claim `exp`".into()),
        })?;
        let administrator = claims.custom.role.as_deref() == Some("admin");
        let until = claims.expiration.map(Into::into);
        let caller = Caller { owner: claims.custom.sub.clone(), administrator, until };
        Ok(Known { caller, proof: jwt.fingerprint.clone() })
    }

    /// The token in the header of a request, if it has one.
    fn in_header<'a>(&self, request: &'a HttpRequest) -> Option<Result<&'a str, Denied>> {
        let value = request.headers().get(header::AUTHORIZATION)?;
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
        });
        Some(token.ok_or_else(|| Denied::Refused("send the token as `Authorization: Bearer …`".into())))
    }

    fn identify(&self, request: &HttpRequest) -> Result<Caller, Denied> {
        if let Some(token) = self.in_header(request) {
            return Ok(self.known(token?)?.caller);
        }
        let cookie = request.cookie(COOKIE).ok_or(Denied::Missing)?;
        self.in_session(cookie.value())
            .ok_or_else(|| Denied::Refused("you are no longer signed in; sign in again".into()))
    }

    /// The caller of a session, if the key or secret with which it began is still configured.
    fn in_session(&self, cookie: &str) -> Option<Caller> {
        let (session, until) = self.sessions.open(cookie)?;
        let until = Some(until.into());
        if self.jwt.as_ref().is_some_and(|secret| secret.fingerprint == session.proof) {
            return Some(Caller { owner: session.owner, administrator: session.administrator, until });
        }
        let (_, caller) = self
            .keys
            .iter()
            .find(|(hash, caller)| fingerprint_of(hash) == session.proof && caller.owner == session.owner)?;
        Some(Caller { until, ..caller.clone() })
    }

    /// A session cookie for the browser that sent a token, since its pictures and event streams cannot send
    /// headers.
    pub(crate) fn sign_in(&self, request: &HttpRequest) -> Result<Option<Cookie<'static>>, Denied> {
        let Some(token) = self.in_header(request) else { return Ok(None) };
        let known = self.known(token?)?;
        let (value, lasts) = self.sessions.begin(&known.caller, known.proof);
        Ok(Some(cookie(request, value, lasts)))
    }

    /// Ends the session of a request, if it has one. Blocks.
    ///
    /// # Errors
    /// The error of the disk; the session is then ended until the next start only.
    pub(crate) fn end_session(&self, cookie: &str) -> io::Result<()> {
        self.sessions.end(cookie)
    }

    /// The cookie that takes a session from a browser.
    pub(crate) fn sign_out(request: &HttpRequest) -> Cookie<'static> {
        cookie(request, String::new(), TimeDelta::zero())
    }
}

impl Authenticate for Tokens {
    fn caller<'a>(&'a self, request: &'a HttpRequest) -> Answer<'a> {
        Box::pin(ready(self.identify(request)))
    }

    fn bearer<'a>(&'a self, _: &'a HttpRequest, token: &'a str) -> Answer<'a> {
        Box::pin(ready(self.known(token).map(|known| known.caller)))
    }
}

fn check_times(claims: &Claims<Signed>) -> Result<(), ValidationError> {
    claims.validate_expiration(&TimeOptions::from_leeway(TimeDelta::zero()))?;
    if claims.not_before.is_some() {
        claims.validate_maturity(&TimeOptions::from_leeway(SKEW))?;
    }
    Ok(())
}

fn cookie(request: &HttpRequest, value: String, lasts: TimeDelta) -> Cookie<'static> {
    Cookie::build(COOKIE, value)
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(request.connection_info().scheme() == "https")
        .max_age(time::Duration::seconds(lasts.num_seconds()))
        .finish()
}

/// Identifies a key or secret without revealing its hash.
fn fingerprint_of(hash: &[u8; 32]) -> String {
    let twice: [u8; 32] = Sha256::digest(hash).into();
    base16ct::lower::encode_string(&twice[..8])
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    base16ct::mixed::decode_vec(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use jwt_compact::Header;

    use super::*;

    #[test]
    fn a_session_ends_with_the_secret_that_signed_its_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let secrets = [[1; SHORTEST_SECRET], [2; SHORTEST_SECRET]];
        let [first, second] = secrets.map(|secret| Tokens {
            keys: Vec::new(),
            jwt: Some(Secret::new(&secret)),
            sessions: session::Sessions::new(folder.path(), std::time::Duration::from_secs(60))
                .expect("made"),
        });
        let claims = Claims::new(serde_json::json!({"sub": "cleo"}))
            .set_duration(&TimeOptions::default(), TimeDelta::seconds(60));
        let token = Hs256.token(&Header::empty(), &claims, &Hs256Key::new(secrets[0])).expect("signed");
        let request =
            TestRequest::default().insert_header((header::AUTHORIZATION, format!("Bearer {token}")));
        let cookie = first.sign_in(&request.to_http_request()).expect("known").expect("a cookie");
        let who = |tokens: &Tokens| {
            let request = TestRequest::default().cookie(cookie.clone()).to_http_request();
            tokens.identify(&request).map(|caller| caller.owner.to_string())
        };
        assert_eq!(who(&first).as_deref(), Ok("cleo"));
        assert!(matches!(who(&second), Err(Denied::Refused(_))));
    }
}
