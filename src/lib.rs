//! mediamill over HTTP: the whole server in one call, or its routes for a host's own.
//!
//! [`run`] starts the engine and serves it: the page at `/`, the API below `/api`. A host that has a server of its own starts a
//! [`Pipeline`] in its actix system, makes a [`Handle`] of it, puts [`routes`] (the API) or [`site`] (the page too) into a scope, and
//! leaves both to [`host`] until the process is told to stop; who asks is told by the host's own [`Authenticate`]. A host that needs no HTTP
//! drives the pipeline's actors by messages. The README shows both.
//!
//! [`Pipeline`]: mediamill_actors::pipeline::Pipeline

pub mod config;
mod host;
mod http;
mod server;

pub use mediamill_actors as engine;

pub use self::{
    config::Config,
    host::{host, told_to_stop},
    http::{
        Handle,
        auth::{Answer, Authenticate, Caller, Denied, Open, Tokens},
        routes, site,
    },
    server::{Server, run, run_with},
};

/// Its examples are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
