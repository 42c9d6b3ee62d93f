//! The engine of mediamill: works through batches of uploaded media, with its state in sled.
//!
//! [`pipeline`] starts it all and shows every message. In the order in which an upload meets them: [`intake`] lets it in ([`intake::receive`], if its
//! bytes are handed over), [`batch_supervisor`] gives it to an [`upload_worker`], [`media`] tells and decodes its bytes, [`analysis`] describes and
//! audits them behind the [`provider_gate`], [`store`] keeps what became of it ([`upload`], [`batch`]) and what happened ([`event`]),
//! [`progress_monitor`] reads that ([`progress`], [`wire`]) for the [`publisher`], [`query_service`] answers
//! questions, [`search`] finds what was described. [`id`] names things, [`config`] says how, [`error`] says why
//! not.
//!
//! What holds everywhere: a change of state and its event are one transaction; nothing is answered before it is on disk; every attempt has a
//! token, and a write with another token is refused.

pub mod analysis;
pub mod batch;
pub mod batch_supervisor;
pub mod config;
pub mod disk;
pub mod error;
pub mod event;
pub mod files;
pub mod id;
pub mod intake;
pub mod lifeline;
pub mod media;
pub mod pipeline;
pub mod progress;
pub mod progress_monitor;
pub mod provider_gate;
pub mod publisher;
pub mod query_service;
pub mod search;
pub mod store;
pub mod upload;
pub mod upload_worker;
pub mod wire;
