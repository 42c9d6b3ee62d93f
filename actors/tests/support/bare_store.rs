//! A store without an engine, and uploads without results.

use mediamill_actors::{
    analysis::Identity,
    id::{BatchId, Owner, UploadId},
    media::Format,
    store::{Begun, CommandError, Commands, NewBatch, NewUpload, Options, Queries, Recovered, Scope, Store},
    upload::{Description, Failure, FailureKind, FileKey, FileRef, Stage},
};

/// A store with a run that has started.
#[derive(Clone)]
pub struct Bare {
    pub store: Store,
    pub commands: Commands,
    pub queries: Queries,
    pub recovered: Recovered,
}

/// A batch that was submitted.
pub struct Submitted {
    pub batch_id: BatchId,
    pub uploads: Vec<UploadId>,
}

pub fn options() -> Options {
    Options { cache_mb: 8, keep_events: 1000, ..Options::default() }
}

pub async fn open(folder: &tempfile::TempDir) -> Bare {
    open_with(folder, options(), Scope::All, 3).await
}

pub async fn open_with(
    folder: &tempfile::TempDir,
    options: Options,
    scope: Scope,
    max_interruptions: u32,
) -> Bare {
    let store = Store::open(folder.path(), options).expect("the store opens");
    Bare::start(store, scope, max_interruptions).await
}

impl Bare {
    /// Starts a run on an open store.
    pub async fn start(store: Store, scope: Scope, max_interruptions: u32) -> Self {
        let (commands, queries) = (store.commands(), store.queries());
        let recovered = commands.start(scope, max_interruptions).await.expect("the run starts");
        Self { store, commands, queries, recovered }
    }

    /// Closes the store in the state that a dead process leaves.
    pub async fn close(self) {
        let Self { store, commands, .. } = self;
        drop((commands, self.queries));
        store.close().await;
    }
}

pub fn files(count: usize) -> Vec<NewUpload> {
    (0..count)
        .map(|number| NewUpload {
            id: UploadId::generate(),
            file: FileRef::Managed(FileKey::original(UploadId::generate())),
            file_name: format!("{number}.png"),
            file_size: 70,
            content_hash: format!("{number:064x}"),
            format: Format::Png,
            decode_bytes: 1 << 20,
            stamp: None,
            replaces: None,
            described_as: None,
        })
        .collect()
}

pub fn batch(owner: &Owner, uploads: Vec<NewUpload>) -> NewBatch {
    NewBatch {
        id: Some(BatchId::generate()),
        owner: owner.clone(),
        refused: 0,
        uploads,
        relocations: Vec::new(),
        displaced: Vec::new(),
    }
}

pub async fn submit(bare: &Bare, owner: &Owner, count: usize) -> Submitted {
    admit(bare, batch(owner, files(count))).await
}

pub async fn admit(bare: &Bare, new: NewBatch) -> Submitted {
    let submitted = Submitted {
        batch_id: new.id.expect("a batch"),
        uploads: new.uploads.iter().map(|it| it.id).collect(),
    };
    bare.commands.admit(new, 10_000).await.expect("the batch is written");
    submitted
}

pub fn identity() -> Identity {
    Identity {
        provider: "scripted".into(),
        vision_model: "v".into(),
        embedding_model: "e".into(),
        dimensions: 3,
        prompt_version: 1,
        ..Identity::default()
    }
}

pub fn failure(begun: &Begun) -> Failure {
    Failure::new(begun.token.attempt, Stage::VisionAnalysis, FailureKind::BadAnswer, "it said nothing")
}

pub fn description(bare: &Bare) -> Description {
    Description {
        text: "A grey square.".into(),
        audit_score: 65,
        needs_review: false,
        audit_version: 1,
        by: identity(),
        asked: 1,
        changed: None,
        at: bare.queries.clock().now(),
    }
}

pub async fn complete(bare: &Bare, begun: &Begun) -> Result<(), CommandError> {
    let token = begun.token.clone();
    let described = bare.commands.record_description(token.clone(), description(bare), Vec::new(), 5);
    let completed = bare.commands.complete(token, vec![1.0, 0.5, -0.25], identity(), None, 5);
    let (described, completed) = tokio::join!(described, completed);
    described.and(completed)
}

pub async fn dump(bare: &Bare) -> String {
    String::from_utf8(bare.queries.dump(Vec::new()).await.expect("a dump")).expect("text")
}
