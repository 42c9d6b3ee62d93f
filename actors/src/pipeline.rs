//! The whole engine: opens the store, wires the actors, resumes unfinished work, and reports when
//! and why it stopped.
//!
//! Every message, once:
//!
#![cfg_attr(feature = "builtin", doc = "```")]
#![cfg_attr(not(feature = "builtin"), doc = "```no_run")]
//! use std::time::Duration;
//!
//! use actix::prelude::*;
//! use mediamill_actors::{
//!     batch_supervisor::{
//!         CancelBatch, DeleteUpload, Drain, PauseBatch, ResumeBatch, RetryFailed, SubmitBatch,
//!     },
//!     config::Config,
//!     error::Error,
//!     id::Owner,
//!     intake::{Admission, Source},
//!     pipeline::{Pipeline, Stopped},
//!     publisher::{Publication, Subscribe, Uploads},
//!     query_service::{
//!         DumpStore, GetBatch, GetHealth, GetUpload, ListBatches, ListUploads, SearchUploads,
//!     },
//! };
//!
//! struct Listener;
//!
//! impl Actor for Listener {
//!     type Context = Context<Self>;
//! }
//!
//! impl Handler<Publication> for Listener {
//!     type Result = ();
//!
//!     fn handle(&mut self, Publication(messages): Publication, _: &mut Self::Context) {
//!         println!("{messages:?}");
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # actix_rt::System::new().block_on(async {
//! # let folder = tempfile::tempdir()?;
//! # image::RgbImage::new(20, 20).save(folder.path().join("photo.png"))?;
//! let mut config = Config::default();
//! config.store.data_dir = folder.path().join("data");
//! # config.limits.min_free_disk_mb = 0;
//! let engine = Pipeline::start(config).await?;
//! let owner = Owner::new("somebody")?;
//!
//! let to = Listener.start().recipient();
//! let subscribe = Subscribe { owner: owner.clone(), to, uploads: Uploads::All, after_seq: None };
//! engine.publisher.send(subscribe).await??;
//!
//! let files = vec![Source::InPlace(folder.path().join("photo.png"))];
//! let submit = SubmitBatch { owner: owner.clone(), files, force: false };
//! let submitted = engine.supervisor.send(submit).await??;
//! let batch = submitted.batch_id.ok_or("nothing is new")?;
//! let [Admission::Accepted(upload)] = submitted.files[..] else { return Err("refused".into()) };
//!
//! engine.supervisor.send(PauseBatch { owner: owner.clone(), batch }).await??;
//! engine.supervisor.send(ResumeBatch { owner: owner.clone(), batch }).await??;
//!
//! let view = engine.query_service.send(GetBatch { owner: owner.clone(), batch }).await??;
//! assert_eq!(view.batch.counts.total, 1);
//! let record = engine.query_service.send(GetUpload { owner: owner.clone(), upload }).await??;
//! assert_eq!(record.file_name, "photo.png");
//! let list = ListBatches { owner: owner.clone(), offset: 0, limit: 20 };
//! let batches = engine.query_service.send(list).await??;
//! assert_eq!(batches.len(), 1);
//! let list = ListUploads { owner: owner.clone(), batch, offset: 0, limit: 100 };
//! let uploads = engine.query_service.send(list).await??;
//! assert_eq!(uploads.len(), 1);
//! let stranger = Owner::new("somebody else")?;
//! let refused = engine.query_service.send(GetUpload { owner: stranger, upload }).await?;
//! assert!(matches!(refused, Err(Error::NotFound("upload"))));
//!
//! // The batch has ended without failures, so cancel and retry change nothing.
//! engine.supervisor.send(CancelBatch { owner: owner.clone(), batch }).await??;
//! engine.supervisor.send(RetryFailed { owner: owner.clone(), batch }).await??;
//! let search = SearchUploads { owner: owner.clone(), query: "a black picture".into(), limit: 10 };
//! let _found = engine.query_service.send(search).await??;
//!
//! let dump = engine.query_service.send(DumpStore(Vec::new())).await??;
//! assert!(String::from_utf8(dump)?.contains("photo.png"));
//! assert!(engine.query_service.send(GetHealth).await?.store_broken.is_none());
//! engine.supervisor.send(DeleteUpload { owner, upload }).await??;
//!
//! let stopped = engine.stopped();
//! engine.supervisor.send(Drain(Duration::from_secs(5))).await??;
//! assert_eq!(stopped.await, Stopped::Drained);
//! # Ok(())
//! # })
//! # }
//! ```

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::sync::{mpsc, watch};

use crate::{
    analysis::{self, Provider, ProviderProfile, ProviderState},
    batch_supervisor::{self, BatchSupervisor, Drain},
    config::Config,
    error::Error,
    files::Files,
    intake::{self, Intake},
    lifeline::{End, Lifeline},
    media::{self, VisionSpec},
    progress_monitor::{self, ProgressMonitor},
    provider_gate::ProviderGate,
    publisher::{self, Listeners, Publisher},
    query_service::{self, QueryService},
    store::{self, AdmissionLimits, Clock, Commands, Faults, OpenError, Queries, Recovered, Scope, Store},
    upload_worker::WorkerContext,
};

/// Time that subscribers have to take their last messages when the engine stops.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A running engine: the addresses of its actors. It continues when this is dropped, and ends
/// with the actix system or by a [`Drain`].
pub struct Pipeline {
    /// Takes the commands.
    pub supervisor: Addr<BatchSupervisor>,
    /// Answers questions about batches, uploads and the engine.
    pub query_service: Addr<QueryService>,
    /// Reads the change feed for the Publisher. Hosts do not use it.
    pub monitor: Addr<ProgressMonitor>,
    /// Sends messages to subscribers.
    pub publisher: Addr<Publisher>,
    /// Receives the bytes of uploaded files before they are submitted.
    pub intake: Arc<Intake>,
    /// Thumbnails and managed originals.
    pub files: Files,
    /// The unfinished work that the start found.
    pub recovered: Recovered,
    gate: Arc<ProviderGate>,
    store: Store,
    queries: Queries,
    stopped: watch::Receiver<Option<Stopped>>,
}

/// Why an engine stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// A [`Drain`] stopped it.
    Drained,
    /// The store cannot be written any more. Acknowledged changes are kept, and the next start
    /// continues.
    StoreBroken(String),
    /// An actor stopped by itself, after a panic that is in the log.
    ActorDied(&'static str),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drained => f.write_str("the engine was stopped"),
            Self::StoreBroken(text) => write!(
                f,
                "the store cannot be written any more ({text}); make room on its disk or repair it, and \
                 start again: no acknowledged change is lost"
            ),
            Self::ActorDied(actor) => {
                write!(
                    f,
                    "the actor {actor} stopped after a panic that is in the log; start again, and the work \
                     continues"
                )
            }
        }
    }
}

/// Why an engine did not start. Each is a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartError {
    /// A value of the configuration cannot be taken.
    Config(String),
    /// The store does not open.
    Open(OpenError),
    /// The store opened, but cannot be read or written.
    Store(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) => f.write_str(text),
            Self::Open(error) => error.fmt(f),
            Self::Store(text) => write!(f, "the store failed: {text}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The parts of an engine that a configuration cannot express.
#[derive(Default)]
pub struct Options {
    /// Which unfinished uploads are resumed.
    pub scope: Scope,
    /// The clock of the store.
    pub clock: Clock,
    /// The provider; `None` for the one that the configuration names.
    pub provider: Option<Arc<dyn Provider>>,
    /// Faults of the storage that a test injects.
    pub faults: Faults,
}

impl Pipeline {
    /// Starts an engine in the present actix system. It resumes the work that an earlier engine
    /// left unfinished.
    ///
    /// # Errors
    /// [`StartError`], a sentence that says what to do.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Options::default()).await
    }

    /// As [`Pipeline::start`], with [`Options`].
    ///
    /// # Errors
    /// [`StartError`], a sentence that says what to do.
    pub async fn start_with(config: Config, options: Options) -> Result<Self, StartError> {
        config.validate().map_err(StartError::Config)?;
        let provider = match options.provider {
            Some(provider) => provider,
            None => connect(&config)?,
        };
        let store = open_with(&config, options.clock, options.faults).await?;
        let (commands, queries) = (store.commands(), store.queries());
        let recovered = commands
            .start(options.scope, config.limits.max_interruptions)
            .await
            .map_err(|error| StartError::Store(error.to_string()))?;
        let files = Files::new(queries.data_dir());
        let vision = provider.vision(vision(&config));
        let limits = limits(&config);
        let gate = ProviderGate::new(provider, &config, options.clock);
        let intake = Arc::new(Intake::new(
            commands.clone(),
            queries.clone(),
            Arc::clone(&gate),
            files.clone(),
            vision.clone(),
            intake::Limits {
                media: limits.clone(),
                min_free_bytes: config.limits.min_free_disk_mb << 20,
                queue: AdmissionLimits {
                    total: config.limits.max_queued_uploads,
                    of_each_owner: config.limits.max_queued_uploads * config.limits.queue_share_percent / 100,
                    batches: Some(config.limits.owner_batches).filter(|most| *most > 0),
                    bytes: Some(config.limits.owner_bytes).filter(|most| *most > 0),
                },
                resumable: config.limits.resumable,
                pairs: config.intake.pairs,
            },
        ));
        sweep(&commands, &queries, &files).await.map_err(|error| StartError::Store(error.to_string()))?;
        let context =
            WorkerContext::new(commands, queries.clone(), Arc::clone(&gate), files.clone(), limits, vision);

        let (ends, ended) = mpsc::unbounded_channel();
        let supervisor = BatchSupervisor::new(
            Arc::new(context),
            Arc::clone(&intake),
            gate.profile().concurrency(&config).workers,
            Lifeline::new("BatchSupervisor", ends.clone()),
        )
        .start();
        let (listeners, listened) = watch::channel(Listeners::default());
        let publisher = Publisher::new(
            queries.clone(),
            gate.state(),
            listeners,
            Lifeline::new("Publisher", ends.clone()),
        )
        .start();
        let monitor = ProgressMonitor::new(
            queries.clone(),
            gate.state(),
            publisher.clone().recipient(),
            listened.clone(),
            &config.monitor,
            Lifeline::new("ProgressMonitor", ends.clone()),
        )
        .start();
        let query_service = QueryService::new(
            queries.clone(),
            Arc::clone(&gate),
            listened,
            Lifeline::new("QueryService", ends),
        )
        .start();
        let (stopping, stopped) = watch::channel(None);
        let actors = (supervisor.clone(), monitor.clone(), publisher.clone(), query_service.clone());
        actix_rt::spawn(keep(actors, queries.clone(), ended, stopping));
        actix_rt::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.start().await }
        });
        Ok(Self {
            supervisor,
            query_service,
            monitor,
            publisher,
            intake,
            files,
            recovered,
            gate,
            store,
            queries,
            stopped,
        })
    }

    /// How the provider is called and presented.
    pub fn provider_profile(&self) -> &ProviderProfile {
        self.gate.profile()
    }

    /// The state of the provider, and every change of it.
    pub fn provider(&self) -> watch::Receiver<ProviderState> {
        self.gate.state()
    }

    /// Reads the store.
    pub fn queries(&self) -> &Queries {
        &self.queries
    }

    /// Ends when the engine has stopped, and says why.
    pub fn stopped(&self) -> impl Future<Output = Stopped> + 'static {
        let mut stopped = self.stopped.clone();
        async move {
            match stopped.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(reason)) => reason.clone(),
                Ok(None) | Err(_) => Stopped::Drained,
            }
        }
    }

    /// Stops in good order: running attempts have `limit` to finish, and the others are handed
    /// back. The data folder is free when this returns, unless the caller holds further handles
    /// of this engine.
    pub async fn stop(self, limit: Duration) -> Stopped {
        // An engine that stopped by itself no longer answers.
        let _ = self.supervisor.send(Drain(limit)).await;
        let reason = self.stopped().await;
        let store = self.store.clone();
        drop(self);
        let _ = tokio::time::timeout(Duration::from_millis(500), store.close()).await;
        reason
    }
}

/// Waits for the first actor or the store to stop, stops the others in the order in which events
/// flow, and returns the reason.
async fn keep(
    (supervisor, monitor, publisher, query_service): (
        Addr<BatchSupervisor>,
        Addr<ProgressMonitor>,
        Addr<Publisher>,
        Addr<QueryService>,
    ),
    queries: Queries,
    mut ended: mpsc::UnboundedReceiver<End>,
    stopping: watch::Sender<Option<Stopped>>,
) {
    let mut changes = queries.watch();
    let broken = async {
        loop {
            if let Some(text) = queries.broken() {
                return text.to_owned();
            }
            if changes.changed().await.is_err() {
                return "it is closed".to_owned();
            }
        }
    };
    let reason = tokio::select! {
        end = ended.recv() => match end {
            Some(End { orderly: false, actor }) => Stopped::ActorDied(actor),
            Some(End { orderly: true, .. }) | None => Stopped::Drained,
        },
        text = broken => Stopped::StoreBroken(text),
    };
    if reason != Stopped::Drained {
        log::error!("{reason}");
        let _ = supervisor.send(Drain(Duration::ZERO)).await;
    }
    let _ = monitor.send(progress_monitor::Stop).await;
    let _ = publisher.send(publisher::Stop(LAST_WORDS)).await;
    // The query service stops last, since subscribers may ask about their last events.
    let _ = query_service.send(query_service::Stop).await;
    stopping.send_replace(Some(reason));
}

/// Removes the files of deleted uploads and of uploads that were never written, and promotes the others.
async fn sweep(commands: &Commands, queries: &Queries, files: &Files) -> Result<(), Error> {
    let removals = queries.removals().await?;
    let remove = {
        let (commands, files) = (commands.clone(), files.clone());
        async move {
            for id in removals {
                batch_supervisor::remove_files(commands.clone(), files.clone(), id).await;
            }
        }
    };
    actix_rt::spawn(remove);
    let incoming = files.left_incoming().await.unwrap_or_else(|error| {
        log::warn!("cannot look for files that were coming in: {error}");
        Vec::new()
    });
    if incoming.is_empty() {
        return Ok(());
    }
    let (written, unwritten): (Vec<_>, Vec<_>) =
        queries.known(incoming).await?.into_iter().partition(|(_, is_written)| *is_written);
    files.promote(written.into_iter().map(|(id, _)| id).collect()).await;
    for (id, _) in unwritten {
        if let Err(error) = files.withdraw(id).await {
            log::warn!("upload {id}: cannot remove its file, the next start tries again: {error}");
        }
    }
    Ok(())
}

/// Opens the store of a configuration, which may take a second. No work is resumed.
///
/// # Errors
/// [`StartError::Open`].
pub async fn open(config: &Config, clock: Clock) -> Result<Store, StartError> {
    open_with(config, clock, Faults::default()).await
}

async fn open_with(config: &Config, clock: Clock, faults: Faults) -> Result<Store, StartError> {
    let data_dir: PathBuf = config.store.data_dir.clone();
    let options = store::Options {
        cache_mb: config.store.cache_mb,
        keep_events: config.events.keep,
        count_usage: config.limits.owner_batches > 0 || config.limits.owner_bytes > 0,
        clock,
        faults,
    };
    tokio::task::spawn_blocking(move || Store::open(&data_dir, options))
        .await
        .map_err(|error| StartError::Store(error.to_string()))?
        .map_err(StartError::Open)
}

/// The provider that the configuration names: see [`analysis::connect`].
///
/// # Errors
/// [`StartError::Config`].
pub fn connect(config: &Config) -> Result<Arc<dyn Provider>, StartError> {
    analysis::connect(config).map_err(|error| StartError::Config(error.to_string()))
}

/// The limits of a configuration for files.
pub fn limits(config: &Config) -> media::Limits {
    let limits = &config.limits;
    media::Limits {
        max_image_bytes: limits.max_file_bytes,
        max_video_bytes: limits.max_video_bytes,
        max_pixels: limits.max_pixels,
        max_side_px: limits.max_side_px,
        decode_memory: limits.decode_memory_mb << 20,
        video_memory: limits.video_memory_mb << 20,
        video_timeout: limits.video_timeout,
    }
}

fn vision(config: &Config) -> VisionSpec {
    let vision = &config.vision;
    VisionSpec {
        max_pixels: vision.max_pixels,
        max_side_px: vision.max_side_px,
        patch_px: vision.patch_px,
        jpeg: true,
    }
}
