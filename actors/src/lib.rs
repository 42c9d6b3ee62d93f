//! The engine of mediamill: processes batches of uploaded media, with its state in sled.
//!
//! [`pipeline`] starts the engine and shows every message. The modules in the order in which an upload meets
//! them: [`intake`] admits it ([`intake::receive`] takes its bytes), [`batch_supervisor`] hands it to an
//! [`upload_worker`], [`media`] decodes it, [`analysis`] describes and audits it behind the
//! [`provider_gate`], [`store`] keeps its record ([`upload`], [`batch`]) and its events ([`event`]),
//! [`progress_monitor`] reads those ([`progress`], [`wire`]) for the [`publisher`], [`query_service`] answers
//! questions, and [`search`] finds it.
//! [`id`] has the ids, [`config`] the configuration, [`error`] the refusals.
//!
//! Three rules hold everywhere: a change of state and its event are one transaction; nothing is acknowledged
//! before it is on disk; every attempt has a token, and a write with a stale token is refused.
//!
//! # A provider of your own
//!
//! A host passes any [`Provider`](analysis::Provider) in [`Options::provider`](pipeline::Options::provider).
//! To add a step of your own to every upload, wrap another provider: do the work before or after its call,
//! and change the identity, so that uploads which were described without the step are described again.
//!
//! ```
//! use std::sync::Arc;
//!
//! use mediamill_actors::{
//!     BoxFuture,
//!     analysis::{self, DescribeRequest, Described, Identity, Provider, ProviderError},
//!     config::Config,
//!     media::VisionSpec,
//!     pipeline::{Options, Pipeline},
//! };
//!
//! /// Appends the text in a picture to its description.
//! struct WithText(Arc<dyn Provider>);
//!
//! /// Stands for your text recognition.
//! async fn text_in(_: &DescribeRequest) -> Option<String> {
//!     Some("Baker Street".into())
//! }
//!
//! impl Provider for WithText {
//!     fn identity(&self) -> Identity {
//!         let mut identity = self.0.identity();
//!         identity.vision_model.push_str("+text");
//!         identity
//!     }
//!
//!     fn vision(&self, configured: VisionSpec) -> VisionSpec {
//!         self.0.vision(configured)
//!     }
//!
//!     fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
//!         Box::pin(async move {
//!             let mut described = self.0.describe(Arc::clone(&request)).await?;
//!             if let Some(text) = text_in(&request).await {
//!                 described.text.push_str(&format!(" It reads: {text}."));
//!             }
//!             Ok(described)
//!         })
//!     }
//!
//!     fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
//!         self.0.embed(text)
//!     }
//!
//!     fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
//!         self.0.probe()
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # actix_rt::System::new().block_on(async {
//! # let folder = tempfile::tempdir()?;
//! let mut config = Config::default();
//! config.store.data_dir = folder.path().join("data");
//! let provider: Arc<dyn Provider> = Arc::new(WithText(analysis::connect(&config)?));
//! let options = Options { provider: Some(provider), ..Options::default() };
//! let engine = Pipeline::start_with(config, options).await?;
//! # engine.stop(std::time::Duration::ZERO).await;
//! # Ok(())
//! # })
//! # }
//! ```

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
pub mod private;
pub mod progress;
pub mod progress_monitor;
pub mod provider_gate;
pub mod publisher;
pub mod query_service;
mod regular_file;
pub mod search;
pub mod store;
pub mod text;
pub mod upload;
pub mod upload_worker;
pub mod wire;

/// The actor framework, in the version that the messages need.
pub use actix;
/// The future that a [`Provider`](analysis::Provider) returns.
pub use futures_util::future::BoxFuture;
