//! The supervisor with real workers: mostly with the provider `builtin` and a real photo.

mod support;

use std::time::Duration;

use mediamill_actors::{
    batch_supervisor::{CancelBatch, DeleteUpload, Drain, RetryFailed, SubmitBatch},
    error::Error,
    intake::{Admission, Source},
    pipeline::Stopped,
    upload::{FailureKind, FileKey, Status},
};
use support::World;

#[actix_rt::test]
async fn a_failed_upload_stops_no_other_and_a_retry_begins_another_round() {
    let world = World::builtin().await;
    let (batch, uploads) = world.submit(&["cat.jpg", "broken.jpg", "cat.jpg"]).await;
    let record = world.ended(batch).await;
    assert_eq!((record.counts.completed, record.counts.failed), (2, 1));
    let retry = RetryFailed { owner: world.owner.clone(), batch };
    world.tell(retry).await.expect("a new round");
    let record = world.ended(batch).await;
    assert_eq!((record.round, record.counts.completed, record.counts.failed), (2, 2, 1));
    let retried = world.upload(uploads[1]).await;
    assert_eq!((retried.attempt, retried.failures.len(), retried.history[0].failures.len()), (4, 2, 2));
}

#[actix_rt::test]
async fn a_drain_hands_back_and_stops_the_engine() {
    let world = World::builtin().await;
    let (batch, uploads) = world.submit(&["cat.jpg"; 8]).await;
    let stopped = world.pipeline.stopped();
    world.tell(Drain(Duration::ZERO)).await.expect("drained");
    assert_eq!(stopped.await, Stopped::Drained);
    let cancel = CancelBatch { owner: world.owner.clone(), batch };
    assert_eq!(world.tell(cancel).await, Err(Error::Stopping), "a late command is refused");
    assert_eq!(world.tell(Drain(Duration::ZERO)).await, Ok(0));
    let record = world.pipeline.queries().batch(world.owner.clone(), batch).await.expect("the batch");
    assert_eq!((record.counts.active, record.counts.failed), (0, 0));
    for id in uploads {
        let upload = world.upload(id).await;
        assert!(matches!(upload.status, Status::Pending | Status::Completed) && upload.failures.is_empty());
    }
}

#[actix_rt::test]
async fn cancelled_and_deleted_uploads_in_flight_end() {
    let world = World::builtin().await;
    let (batch, uploads) = world.submit(&["cat.jpg"; 8]).await;
    let delete = DeleteUpload { owner: world.owner.clone(), upload: uploads[0] };
    world.tell(delete).await.expect("deleted");
    let cancel = CancelBatch { owner: world.owner.clone(), batch };
    world.tell(cancel).await.expect("cancelled");
    let record = world.ended(batch).await;
    assert_eq!(
        (record.counts.total, record.counts.unfinished(), record.status().as_str()),
        (7, 0, "cancelled")
    );
    let gone = world.pipeline.queries().upload(world.owner.clone(), uploads[0]).await;
    assert_eq!(gone.map(drop), Err(Error::NotFound("upload")));
}

#[actix_rt::test]
async fn a_second_submission_processes_only_files_with_another_result() {
    let world = World::builtin().await;
    let (batch, uploads) = world.submit(&["cat.jpg"]).await;
    world.ended(batch).await;
    let folder = world.folder.path();
    let resubmit = async |name: &str, force| {
        let files = vec![Source::InPlace(folder.join(name))];
        let submit = SubmitBatch { owner: world.owner.clone(), files, force };
        world.tell(submit).await.expect("taken").files.remove(0)
    };
    assert!(matches!(resubmit("cat.jpg", false).await, Admission::Done(upload) if upload.id == uploads[0]));
    std::fs::rename(folder.join("cat.jpg"), folder.join("tom.jpg")).expect("renamed");
    assert!(matches!(resubmit("tom.jpg", false).await, Admission::Done(upload) if upload.id == uploads[0]));
    let moved = world.upload(uploads[0]).await;
    assert_eq!(moved.place(), Some(folder.join("tom.jpg").as_path()));
    assert!(matches!(resubmit("cat.jpg", false).await, Admission::Refused(_)));
    assert!(matches!(resubmit("tom.jpg", true).await, Admission::Accepted(_)));
}

#[actix_rt::test]
async fn received_bytes_are_kept_only_if_they_are_submitted() {
    let world = World::builtin().await;
    let receive = async |bytes: &[u8]| {
        let mut receiving = world.pipeline.intake.receive("../a/cat.jpg").await.expect("room");
        receiving.write(bytes).await.expect("written");
        receiving.finish().await
    };
    drop(receive(include_bytes!("fixtures/cat.jpg")).await.expect("a picture"));
    assert!(receive(b"no picture").await.is_err());
    let incoming = world.folder.path().join("data/incoming");
    assert_eq!(std::fs::read_dir(&incoming).expect("a folder").count(), 0);

    let received = receive(include_bytes!("fixtures/cat.jpg")).await.expect("a picture");
    let id = received.id();
    let files = vec![Source::Received(received)];
    let submit = SubmitBatch { owner: world.owner.clone(), files, force: false };
    let submitted = world.tell(submit).await.expect("taken");
    let batch = world.ended(submitted.batch_id.expect("a batch")).await;
    assert_eq!(batch.counts.completed, 1);
    let upload = world.upload(id).await;
    assert_eq!(upload.file_name, "cat.jpg");
    assert!(
        world.pipeline.files.local_path(&FileKey::original(id)).exists()
            && world.pipeline.files.local_path(&FileKey::thumbnail(id)).exists()
    );
    let delete = DeleteUpload { owner: world.owner.clone(), upload: id };
    world.tell(delete).await.expect("deleted");
    let mut changes = world.pipeline.queries().watch();
    while !world.pipeline.queries().removals().await.expect("readable").is_empty() {
        changes.changed().await.expect("open");
    }
    assert!(
        !world.pipeline.files.local_path(&FileKey::original(id)).exists()
            && !world.pipeline.files.local_path(&FileKey::thumbnail(id)).exists()
    );
}

#[actix_rt::test]
async fn unfinished_uploads_continue_at_the_next_start() {
    let world = World::builtin().await;
    let (batch, _) = world.submit(&["cat.jpg"; 6]).await;
    // The folder must be free at once for the next engine to start.
    let world = world.restart().await;
    assert_eq!(world.ended(batch).await.counts.completed, 6);
}

#[actix_rt::test]
async fn a_panic_while_a_file_is_classified_refuses_that_file_alone() {
    let world = World::scripted().await;
    let (known, _) = world.submit(&["a.png", "b.png"]).await;
    world.ended(known).await;
    std::fs::write(world.path("c.png"), support::picture("c.png")).expect("written");
    // A known file needs the identity, and the scripted identity panics.
    world.provider.identity_panics_once();
    let files = ["a.png", "b.png", "c.png"].map(|name| Source::InPlace(world.path(name))).into();
    let submit = SubmitBatch { owner: world.owner.clone(), files, force: false };
    let submitted = world.tell(submit).await.expect("taken");
    let refused: Vec<_> = submitted
        .files
        .iter()
        .filter_map(|it| match it {
            Admission::Refused(failure) => Some(failure.kind),
            _ => None,
        })
        .collect();
    assert_eq!(refused, [FailureKind::Panicked]);
    assert!(matches!(submitted.files[..], [_, _, Admission::Accepted(_)]), "{:?}", submitted.files);
    assert_eq!(submitted.files.iter().filter(|it| matches!(it, Admission::Done(_))).count(), 1);
    let record = world.ended(submitted.batch_id.expect("a batch")).await;
    assert_eq!((record.refused, record.counts.completed), (1, 1));
}

#[actix_rt::test]
async fn a_submission_of_files_that_are_done_or_not_media_makes_no_batch() {
    let world = World::scripted().await;
    let (batch, _) = world.submit(&["a.png"]).await;
    world.ended(batch).await;
    std::fs::write(world.path("notes.txt"), "no picture").expect("written");
    let files = ["a.png", "notes.txt"].map(|name| Source::InPlace(world.path(name))).into();
    let submit = SubmitBatch { owner: world.owner.clone(), files, force: false };
    let submitted = world.tell(submit).await.expect("taken");
    assert!(matches!(submitted.files[..], [Admission::Done(_), Admission::NotMedia(_)]));
    assert_eq!(submitted.batch_id, None);
}

#[actix_rt::test]
async fn a_batch_whose_only_upload_was_deleted_before_it_began_has_not_failed() {
    let world = World::scripted().await;
    world.provider.is_there(false);
    for (name, bytes) in [("a.png", support::picture("a.png")), ("empty.png", Vec::new())] {
        std::fs::write(world.path(name), bytes).expect("written");
    }
    let files = ["a.png", "empty.png"].map(|name| Source::InPlace(world.path(name))).into();
    let submit = SubmitBatch { owner: world.owner.clone(), files, force: false };
    let submitted = world.tell(submit).await.expect("taken");
    let [Admission::Accepted(upload), Admission::Refused(_)] = submitted.files[..] else {
        unreachable!("{submitted:?}")
    };
    world.tell(DeleteUpload { owner: world.owner.clone(), upload }).await.expect("deleted");
    let record = world.ended(submitted.batch_id.expect("a batch")).await;
    assert_eq!((record.status().as_str(), record.refused), ("completed", 1));
}

#[actix_rt::test]
async fn a_submission_to_a_full_queue_is_refused_before_its_files_are_read() {
    let world = World::scripted_with(|config| config.limits.max_queued_uploads = 1).await;
    world.provider.is_there(false);
    world.submit(&["a.png"]).await;
    // Classifying would panic, and refuse the file instead of the submission.
    world.provider.identity_panics_once();
    std::fs::write(world.path("b.png"), support::picture("b.png")).expect("written");
    let files = vec![Source::InPlace(world.path("b.png"))];
    let submit = SubmitBatch { owner: world.owner.clone(), files, force: false };
    assert_eq!(world.tell(submit).await.map(drop), Err(Error::QueueFull { limit: 1 }));
}

#[actix_rt::test]
async fn an_address_of_a_stopped_supervisor_does_not_keep_the_data_folder_open() {
    let world = World::scripted().await;
    let supervisor = world.pipeline.supervisor.clone();
    let submit = |name| SubmitBatch {
        owner: world.owner.clone(),
        files: vec![Source::InPlace(world.path(name))],
        force: false,
    };
    let late = submit("a.png");
    let world = world.restart().await;
    assert_eq!(supervisor.send(late).await.expect("it stays").map(drop), Err(Error::Stopping));
    let (batch, _) = world.submit(&["a.png"]).await;
    assert_eq!(world.ended(batch).await.counts.completed, 1);
}

#[actix_rt::test]
async fn a_file_that_failed_is_not_tried_again_in_the_same_submission() {
    let world = World::scripted().await;
    let clock = world.pipeline.queries().clock();
    let began = clock.now();
    let (batch, uploads) = world.submit(&["bad.png"]).await;
    world.ended(batch).await;
    let resubmit = async |began, force| {
        let files = vec![Source::InSubmission { path: world.path("bad.png"), began }];
        world.tell(SubmitBatch { owner: world.owner.clone(), files, force }).await.expect("taken")
    };
    for force in [false, true] {
        let same = resubmit(began, force).await;
        assert!(
            matches!(&same.files[..], [Admission::Failed(upload)] if upload.id == uploads[0]),
            "{same:?}"
        );
        assert_eq!(same.batch_id, None);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let next = resubmit(clock.now(), false).await;
    assert!(matches!(next.files[..], [Admission::Accepted(_)]), "the next submission tries again: {next:?}");
}
