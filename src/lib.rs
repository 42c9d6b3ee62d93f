//! mediamill over HTTP: the whole server in one call, or its routes for a host's own server.
//!
//! [`run`] starts the engine and serves it: the page at `/`, the API below `/api`. A host with a server of
//! its own starts a [`Pipeline`] in its actix system, makes a [`Handle`] from it, puts [`routes`] (the API)
//! or [`site`] (with the page) into a scope, and passes both to [`host`], which runs them until the process
//! gets a signal to stop. The host's own [`Authenticate`] identifies the callers. A host without HTTP sends
//! messages to the actors of the pipeline. The README shows both.
//!
//! Handlers of the host can send messages too, with `?` for the refusals: [`Problem`] and
//! [`engine::error::Error`] are `ResponseError`s.
//!
//! ```
//! use actix_web::web::{Data, Json};
//! use mediamill::{
//!     Problem,
//!     engine::{actix::Addr, id::Owner, query_service::{ListBatches, QueryService}},
//! };
//!
//! /// The statuses of the newest batches.
//! async fn newest(query_service: Data<Addr<QueryService>>) -> Result<Json<Vec<&'static str>>, Problem> {
//!     let list = ListBatches { owner: Owner::local(), offset: 0, limit: 5 };
//!     let batches = query_service.send(list).await??;
//!     Ok(Json(batches.iter().map(|batch| batch.status.as_str()).collect()))
//! }
//! ```
//!
//! [`engine`] shows a custom provider, and how to wrap one to add a step of your own.
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
        error::Problem,
        routes, site,
    },
    server::{Server, run, run_with},
};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
