//! A world for one test, in one line: a running engine, a folder of pictures, and subscribers on request.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

pub mod bare_store;
pub mod clips;
pub mod crash;
pub mod relay;
pub mod scripted;

use std::{path::PathBuf, sync::Arc, time::Duration};

use actix::prelude::*;
use mediamill_actors::{
    analysis::Provider,
    batch::Batch,
    batch_supervisor::{BatchSupervisor, SubmitBatch},
    config::Config,
    error::Error,
    id::{BatchId, Owner, UploadId},
    intake::{Admission, Source},
    pipeline::{Options, Pipeline, Stopped},
    publisher::{Subscribe, Uploads},
    store::{Clock, Queries},
    upload::Upload,
};

use self::{relay::Relay, scripted::Scripted};

pub struct World {
    pub folder: tempfile::TempDir,
    pub config: Config,
    pub pipeline: Pipeline,
    /// The provider, unless the world was made with `builtin`.
    pub provider: Arc<Scripted>,
    pub owner: Owner,
    clock: Clock,
    scripted: bool,
}

impl World {
    /// A world on a paused clock, with a scripted provider.
    pub async fn scripted() -> Self {
        Self::scripted_with(|_| {}).await
    }

    /// As `scripted`, with another configuration.
    pub async fn scripted_with(change: impl FnOnce(&mut Config)) -> Self {
        tokio::time::pause();
        let clock = Clock::Tokio { start: tokio::time::Instant::now() };
        Self::start(change, clock, true).await
    }

    /// A world in real time, with a scripted provider.
    pub async fn real_time(change: impl FnOnce(&mut Config)) -> Self {
        Self::start(change, Clock::System, true).await
    }

    /// A world in real time, with the provider `builtin`.
    #[cfg(feature = "builtin")]
    pub async fn builtin() -> Self {
        Self::start(|_| {}, Clock::System, false).await
    }

    async fn start(change: impl FnOnce(&mut Config), clock: Clock, scripted: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.store.data_dir = folder.path().join("data");
        config.store.cache_mb = 8;
        config.provider.embedding_dimensions = Some(64);
        config.limits.min_free_disk_mb = 0;
        change(&mut config);
        let provider = Arc::new(Scripted::default());
        let pipeline = engine(&config, clock, scripted.then_some(&provider)).await;
        Self { folder, config, pipeline, provider, owner: Owner::local(), clock, scripted }
    }

    /// Stops the engine and starts it again over the same folder.
    pub async fn restart(self) -> Self {
        let Self { folder, config, pipeline, provider, owner, clock, scripted } = self;
        assert_eq!(pipeline.stop(Duration::ZERO).await, Stopped::Drained);
        let pipeline = engine(&config, clock, scripted.then_some(&provider)).await;
        Self { folder, config, pipeline, provider, owner, clock, scripted }
    }

    /// Drops all handles of the engine, whose tasks are about to be dropped.
    fn abandon(self) -> Ruins {
        let Self { folder, config, pipeline, provider, owner, clock, scripted } = self;
        Ruins { folder, config, store: pipeline.queries().clone(), provider, owner, clock, scripted }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes pictures of these names and submits them as one batch.
    pub async fn submit(&self, names: &[&str]) -> (BatchId, Vec<UploadId>) {
        self.submit_as(&self.owner, names).await
    }

    pub async fn submit_as(&self, owner: &Owner, names: &[&str]) -> (BatchId, Vec<UploadId>) {
        for name in names {
            let path = self.path(name);
            if !path.exists() {
                std::fs::write(path, picture(name)).expect("written");
            }
        }
        let files = names.iter().map(|name| Source::InPlace(self.path(name))).collect();
        let submit = SubmitBatch { owner: owner.clone(), files, force: false };
        let submitted = self.tell(submit).await.expect("accepted");
        let id = |admission| match admission {
            Admission::Accepted(id) => id,
            other => unreachable!("{other:?}"),
        };
        (submitted.batch_id.expect("a batch"), submitted.files.into_iter().map(id).collect())
    }

    /// Sends a command to the supervisor.
    pub async fn tell<M, T>(&self, command: M) -> Result<T, Error>
    where
        M: Message<Result = Result<T, Error>> + Send + 'static,
        T: Send + 'static,
        BatchSupervisor: Handler<M>,
    {
        self.pipeline.supervisor.send(command).await.expect("the supervisor is alive")
    }

    /// Waits until a batch has ended.
    pub async fn ended(&self, batch: BatchId) -> Batch {
        self.batch_when(batch, |batch| batch.status().is_terminal()).await
    }

    /// Waits until a batch has this state.
    pub async fn batch_when(&self, batch: BatchId, so: impl Fn(&Batch) -> bool) -> Batch {
        let store = self.pipeline.queries();
        let mut changes = store.watch();
        let wait = async {
            loop {
                let batch = store.batch(self.owner.clone(), batch).await.expect("the batch");
                if so(&batch) {
                    return batch;
                }
                changes.changed().await.expect("the store is open");
            }
        };
        tokio::time::timeout(Duration::from_secs(3600), wait).await.expect("it reaches this state")
    }

    pub async fn upload(&self, id: UploadId) -> Upload {
        self.pipeline.queries().upload(self.owner.clone(), id).await.expect("the upload")
    }

    /// Subscribes to all of the owner's messages, from now on.
    pub async fn listen(&self) -> Relay {
        self.listen_to(Uploads::All, None).await
    }

    pub async fn listen_to(&self, uploads: Uploads, after_seq: Option<u64>) -> Relay {
        self.listen_as(self.owner.clone(), uploads, after_seq, relay::Answer::AtOnce).await
    }

    pub async fn listen_as(
        &self,
        owner: Owner,
        uploads: Uploads,
        after_seq: Option<u64>,
        answer: relay::Answer,
    ) -> Relay {
        let (listener, publications) = relay::listener(answer);
        let subscribe = Subscribe { owner, to: listener.clone().recipient(), uploads, after_seq };
        let id = self.pipeline.publisher.send(subscribe).await.expect("alive").expect("subscribed");
        Relay::new(id, listener, publications)
    }
}

/// The remains of a world whose engine died.
struct Ruins {
    folder: tempfile::TempDir,
    config: Config,
    store: Queries,
    provider: Arc<Scripted>,
    owner: Owner,
    clock: Clock,
    scripted: bool,
}

impl Ruins {
    async fn reopen(self) -> World {
        let Self { folder, config, store, provider, owner, clock, scripted } = self;
        store.close().await;
        let pipeline = engine(&config, clock, scripted.then_some(&provider)).await;
        World { folder, config, pipeline, provider, owner, clock, scripted }
    }
}

/// All uploads.
pub fn all() -> Uploads {
    Uploads::All
}

async fn engine(config: &Config, clock: Clock, provider: Option<&Arc<Scripted>>) -> Pipeline {
    let provider = provider.map(|it| Arc::clone(it) as Arc<dyn Provider>);
    let options = Options { clock, provider, ..Options::default() };
    Pipeline::start_with(config.clone(), options).await.expect("the engine starts")
}

/// The photo of a cat for `cat.jpg`; otherwise a small picture of its own, whose pixels are damaged
/// if its name begins with `broken`.
pub fn picture(name: &str) -> Vec<u8> {
    if name == "cat.jpg" {
        return include_bytes!("../fixtures/cat.jpg").to_vec();
    }
    let seed = name.bytes().fold(7_u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let [r, g, b, _] = seed.to_le_bytes();
    let picture = image::RgbImage::from_fn(64, 64, |x, y| {
        image::Rgb([(x as u8).wrapping_mul(3) ^ r, (y as u8).wrapping_mul(2) ^ g, b])
    });
    let mut png = Vec::new();
    picture.write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).expect("encoded");
    if name.starts_with("broken") {
        let (from, to) = (png.len() / 4, png.len() - 20);
        png[from..to].fill(0xff);
    }
    png
}
