//! Authentication: identifies the caller of a request.

mod ended;
mod session;
mod tokens;

use std::{
    fmt,
    future::{Ready, pending, ready},
    time::SystemTime,
};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload};
use futures_util::future::LocalBoxFuture;
use mediamill_actors::id::Owner;

use super::error::Problem;

pub(crate) use self::tokens::COOKIE;
pub use self::tokens::Tokens;

/// The caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The owner of the batches and uploads that the caller sees; those of other owners are hidden.
    pub owner: Owner,
    /// Whether the caller may dump the store and read metrics.
    pub administrator: bool,
    /// When the caller's credentials expire, which closes WebSockets and event streams. `None`: never.
    pub until: Option<SystemTime>,
}

impl Caller {
    /// Completes when the credentials expire.
    pub(crate) fn expired(&self) -> impl Future<Output = ()> + 'static {
        let until = self.until;
        async move {
            match until {
                Some(until) => {
                    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
                    tokio::time::sleep(left).await;
                }
                None => pending().await,
            }
        }
    }
}

/// Why the caller of a request is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The request has no credentials.
    Missing,
    /// The credentials are refused. The sentence says why and how to sign in; API and page show it.
    Refused(String),
    /// Authentication is unavailable for now. The sentence says why; API and page show it. The client may
    /// retry.
    Unavailable(String),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => {
                f.write_str("sign in with your key or token; programs send it as `Authorization: Bearer …`")
            }
            Self::Refused(why) | Self::Unavailable(why) => f.write_str(why),
        }
    }
}

/// The future of an authentication.
pub type Answer<'a> = LocalBoxFuture<'a, Result<Caller, Denied>>;

/// A host's own authentication.
///
/// It is called for every request except those for the page's own files. Before that, the server refuses
/// changes and WebSockets that come from pages of another origin.
pub trait Authenticate: Send + Sync + 'static {
    /// Identifies the caller of a request, by its headers or by the extensions that the host's middleware
    /// added.
    fn caller<'a>(&'a self, request: &'a HttpRequest) -> Answer<'a>;

    /// Identifies the caller of a WebSocket by the token of its first message, which is not empty. The
    /// default ignores the token and identifies the caller of the request that opened the WebSocket.
    fn bearer<'a>(&'a self, request: &'a HttpRequest, token: &'a str) -> Answer<'a> {
        let _ = token;
        self.caller(request)
    }

    /// Address of the page on which a person signs in, absolute or relative to mediamill's page, which links
    /// to it and shows the sentence of [`Denied`]. With `None`, the default, the page asks for a token.
    fn sign_in_address(&self) -> Option<&str> {
        None
    }

    /// Returns `true` if anyone who can connect is let in; the server then answers only requests whose `Host`
    /// names this machine.
    fn is_open(&self) -> bool {
        false
    }
}

/// No authentication: every caller is the owner `local`, and an administrator.
#[derive(Debug, Clone, Copy)]
pub struct Open;

impl Authenticate for Open {
    fn caller<'a>(&'a self, _: &'a HttpRequest) -> Answer<'a> {
        Box::pin(ready(Ok(Caller { owner: Owner::local(), administrator: true, until: None })))
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// The caller that the request was admitted with.
impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| Problem::unauthorized(Denied::Missing.to_string(), None)))
    }
}

/// Admits administrators only.
pub(crate) struct Administrator;

impl FromRequest for Administrator {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Caller::from_request(request, payload).into_inner().and_then(|caller| {
            if caller.administrator {
                Ok(Self)
            } else {
                Err(Problem::forbidden("this is for administrators; ask with an administrator's token"))
            }
        }))
    }
}
