//! A store without an engine, and uploads that nothing is known of.

use mediamill_actors::{
    analysis::Identity,
    id::{Owner, UploadId},
    media::Format,
    store::{Accepted, Begun, Clock, NewBatch, NewUpload, Store, WriteError},
    upload::{Description, Failure, FailureKind, FileRef, Stage},
};

pub fn open(folder: &tempfile::TempDir) -> Store {
    Store::open(folder.path(), 8, 1000, Clock::System).expect("the store opens")
}

pub fn files(count: usize) -> Vec<NewUpload> {
    (0..count)
        .map(|number| NewUpload {
            id: UploadId::generate(),
            file: FileRef::Stored,
            file_name: format!("{number}.png"),
            file_size: 70,
            content_hash: format!("{number:064x}"),
            format: Format::Png,
            decode_bytes: 1 << 20,
            place: None,
            replaces: None,
            described_as: None,
        })
        .collect()
}

pub async fn submit(store: &Store, owner: &Owner, count: usize) -> Accepted {
    let new = NewBatch { owner: owner.clone(), refused: 0, uploads: files(count) };
    store.commands().submit(new, 1000).await.expect("the batch is written")
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

pub async fn complete(store: &Store, begun: &Begun) -> Result<(), WriteError> {
    let description = Description {
        text: "A grey square.".into(),
        audit_score: 65,
        needs_review: false,
        audit_version: 1,
        by: identity(),
        asked: 1,
        changed: None,
        at: store.queries().clock().now(),
    };
    store.commands().record_description(begun.token.clone(), description, Vec::new(), 5);
    store.commands().complete(begun.token.clone(), vec![1.0, 0.5, -0.25], identity(), None, 5).await.map(drop)
}

pub async fn dump(store: &Store) -> String {
    String::from_utf8(store.queries().dump(Vec::new()).await.expect("a dump")).expect("text")
}
