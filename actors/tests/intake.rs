//! The way in: bytes that are handed over twice, and a full queue.

mod support;

use mediamill_actors::{
    batch_supervisor::SubmitBatch,
    error::Error,
    id::{Owner, UploadId},
    intake::Source,
    query_service::DumpStore,
    upload::{FileKey, Status, Upload},
};
use support::{World, picture, scripted::Act};

/// Hands the bytes of a picture over, and waits until its upload has ended.
async fn hand_over(world: &World, owner: &Owner, name: &str, force: bool) -> Upload {
    let mut receiving = world.pipeline.intake.receive(name).await.expect("room");
    receiving.write(&picture("same")).await.expect("written");
    let received = receiving.finish().await.expect("a picture");
    let id: UploadId = received.id();
    let files = vec![Source::Received(received)];
    let submitted = world.tell(SubmitBatch { owner: owner.clone(), files, force }).await.expect("taken");
    let batch = submitted.batch_id.expect("a batch of its own");
    let mut changes = world.pipeline.queries().watch();
    loop {
        let record = world.pipeline.queries().batch(owner.clone(), batch).await.expect("the batch");
        if record.status().is_terminal() {
            return world.pipeline.queries().upload(owner.clone(), id).await.expect("the upload");
        }
        changes.changed().await.expect("open");
    }
}

#[actix_rt::test]
async fn the_same_bytes_cost_an_owner_one_description_and_one_embedding_unless_forced() {
    let world = World::scripted().await;
    let first = hand_over(&world, &world.owner, "a.png", false).await;
    assert_eq!(world.provider.asked().len(), 1);
    // A second embedding of the same text would fail, and with it the second upload.
    world.provider.embedding("a.png", &[Act::Fail, Act::Fail]);
    let second = hand_over(&world, &world.owner, "b.png", false).await;
    assert_eq!(world.provider.asked().len(), 1, "the second one is not described again");
    assert_eq!((second.status, &second.description), (Status::Completed, &first.description));
    assert_eq!((second.file_name.as_str(), second.id == first.id), ("b.png", false));
    assert!(world.pipeline.files.exists(&FileKey::thumbnail(second.id)).await);
    let vector = async |id| {
        let by = first.embedded_by.clone().expect("embedded");
        world.pipeline.queries().vector(world.owner.clone(), id, by).await.expect("readable")
    };
    assert!(vector(second.id).await.is_some());
    assert_eq!(vector(second.id).await, vector(first.id).await);

    hand_over(&world, &world.owner, "c.png", true).await;
    assert_eq!(world.provider.asked().len(), 2, "it is described again on demand");
    let other = Owner::new("somebody else").expect("valid");
    hand_over(&world, &other, "d.png", false).await;
    assert_eq!(world.provider.asked().len(), 3, "owners share nothing");
}

#[actix_rt::test]
async fn a_full_queue_takes_nothing_of_a_submission_whose_files_changed_places() {
    let world = World::scripted_with(|config| config.limits.max_queued_uploads = 2).await;
    let (batch, _) = world.submit(&["a.png", "b.png"]).await;
    world.ended(batch).await;
    // The two files change places, and three new ones have no room.
    std::fs::rename(world.path("a.png"), world.path("c.png")).expect("renamed");
    std::fs::rename(world.path("b.png"), world.path("a.png")).expect("renamed");
    std::fs::rename(world.path("c.png"), world.path("b.png")).expect("renamed");
    let names = ["a.png", "b.png", "new1.png", "new2.png", "new3.png"];
    for name in &names[2..] {
        std::fs::write(world.path(name), picture(name)).expect("written");
    }
    let dump = async || {
        let dump = world.pipeline.query_service.send(DumpStore(Vec::new())).await;
        String::from_utf8(dump.expect("alive").expect("dumped")).expect("text")
    };
    let before = dump().await;
    let files = names.iter().map(|name| Source::InPlace(world.path(name))).collect();
    let submit = SubmitBatch { owner: world.owner.clone(), files, force: false };
    assert_eq!(world.tell(submit).await.err(), Some(Error::QueueFull { limit: 2 }));
    assert_eq!(dump().await, before);
}
