//! mediamill over HTTP: the whole server in one call, or its routes for a host's own.
//!
//! [`run`] starts the engine and serves it: the page at `/`, the API below `/api`. A host that has a server of its own starts a
//! [`Pipeline`] in its actix system, makes a [`Handle`] of it, and puts [`routes`] (the API) or [`site`] (the page too) into a scope; who
//! asks is then told by the host's own [`Authenticate`]. A host that needs neither drives the pipeline's actors by messages.
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
