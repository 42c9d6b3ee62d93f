//! Who asks.

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

pub use self::tokens::Tokens;

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose batches and uploads there are for it; another owner's do not exist.
    pub owner: Owner,
    /// Whether it may dump the store and read metrics.
    pub administrator: bool,
    /// Until when that is so: sockets and event streams end then. `None`: as long as they are open.
    pub until: Option<SystemTime>,
}

impl Caller {
    /// Comes when what says who it is has expired.
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

/// Why it is not known who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nothing says who it is.
    Missing,
    /// What says who it is is not believed, and the sentence says why; it is shown.
    Refused(String),
    /// It cannot be told at the moment, and the sentence says why; it is shown. It may be tried again.
    Unavailable(String),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => {
                f.write_str("say who you are: send a token as `Authorization: Bearer …`, or sign in")
            }
            Self::Refused(why) | Self::Unavailable(why) => f.write_str(why),
        }
    }
}

/// An answer to the question who asks, which may take its time.
pub type Answer<'a> = LocalBoxFuture<'a, Result<Caller, Denied>>;

/// A host's own way to tell who asks.
///
/// It is asked for every request but those to the page's own files. Requests that change something, and sockets, are refused before that if
/// they come from the page of another origin.
pub trait Authenticate: Send + Sync + 'static {
    /// Tells who sends a request, from its headers or from what the host's middleware left in its extensions.
    fn caller<'a>(&'a self, request: &'a HttpRequest) -> Answer<'a>;

    /// Tells who opened a socket: `token` is what its first message holds, and is not empty. By default the token is not looked at, and the
    /// socket is the caller's who sent the request that opened it.
    fn bearer<'a>(&'a self, request: &'a HttpRequest, token: &'a str) -> Answer<'a> {
        let _ = token;
        self.caller(request)
    }

    /// Whether the names by which it is reached are all that keeps strangers out, so that only those of this machine are answered.
    fn is_open(&self) -> bool {
        false
    }
}

/// Whoever reaches the server is the owner `local`, and an administrator.
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

/// A request is let in with its caller among its extensions.
impl FromRequest for Caller {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| Problem::unauthorized(Denied::Missing.to_string())))
    }
}

/// A caller who is an administrator.
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
