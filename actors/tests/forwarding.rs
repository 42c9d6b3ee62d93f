//! What is told of what the monitor forwards late, or again: by a publisher without a monitor.

mod support;

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use mediamill_actors::{
    analysis::ProviderState,
    id::{Owner, UploadId},
    lifeline::Lifeline,
    media::Format,
    publisher::{Forward, Listeners, Percentage, Publisher, RenderedEvent, Subscribe, Uploads, WatchUpload},
    store::{AfterAttempt, Begun, Change, Clock, Cursor, NewBatch, NewUpload, Store},
    upload::{Failure, FailureKind, FileRef, Stage, Status},
    wire::{self, Message},
};
use support::ear;
use tokio::sync::{mpsc, watch};

/// A publisher without a monitor, so that a test says what is forwarded, and when.
struct Desk {
    _folder: tempfile::TempDir,
    store: Store,
    publisher: Addr<Publisher>,
    _provider: watch::Sender<ProviderState>,
}

impl Desk {
    fn new() -> Self {
        tokio::time::pause();
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), 8, 1000, Clock::System).expect("it opens");
        let (provider, state) = watch::channel(ProviderState::Ready);
        let (listeners, _) = watch::channel(Listeners::default());
        let (ends, _) = mpsc::unbounded_channel();
        let publisher =
            Publisher::new(store.queries(), state, listeners, Lifeline::new("Publisher", ends)).start();
        Self { _folder: folder, store, publisher, _provider: provider }
    }

    async fn listen(&self, uploads: Uploads, after_seq: Option<u64>) -> ear::Ear {
        let (listener, told) = ear::listener(ear::Answer::AtOnce);
        let subscribe =
            Subscribe { owner: Owner::local(), to: listener.clone().recipient(), uploads, after_seq };
        let id = self.publisher.send(subscribe).await.expect("alive").expect("subscribed");
        ear::Ear::new(id, listener, told)
    }

    async fn watch(&self, ear: &ear::Ear, upload: UploadId) -> Message {
        let watch = WatchUpload { subscriber: ear.id, upload };
        self.publisher.send(watch).await.expect("alive").expect("the present state")
    }

    /// Submits a picture and begins with it.
    async fn begin(&self) -> Begun {
        let upload = NewUpload {
            id: UploadId::generate(),
            file: FileRef::Stored,
            file_name: "a.png".into(),
            file_size: 70,
            content_hash: "0".repeat(64),
            format: Format::Png,
            decode_bytes: 1,
            place: None,
            replaces: None,
            described_as: None,
        };
        let new = NewBatch { owner: Owner::local(), refused: 0, uploads: vec![upload] };
        self.store.commands().submit(new, 10).await.expect("submitted");
        self.store.commands().begin_next(1).await.expect("begun").remove(0)
    }

    async fn fail(&self, begun: Begun) {
        let failure =
            |attempt| Failure::new(attempt, Stage::VisionAnalysis, FailureKind::BadAnswer, "nothing");
        let AfterAttempt::Again(second) =
            self.store.commands().fail(begun.token, failure(1)).await.expect("written")
        else {
            unreachable!("it is tried again");
        };
        self.store.commands().fail(second.token, failure(2)).await.expect("written");
    }

    /// Forwards the events of these numbers, and a percentage, as of a moment.
    async fn forward(
        &self,
        seqs: std::ops::RangeInclusive<u64>,
        percent: Option<(&Begun, u8)>,
        reached: Cursor,
    ) {
        let page =
            self.store.queries().events_from(Owner::local(), *seqs.start(), 100).await.expect("the log");
        let told = |change: &Change| RenderedEvent {
            seq: change.event.seq,
            upload: change.event.upload_id,
            provider_changed: false,
            messages: wire::render(&change.event, change.upload.as_ref(), &wire::Live::default())
                .into_iter()
                .map(Arc::new)
                .collect(),
        };
        let events = page.changes.iter().filter(|it| seqs.contains(&it.event.seq)).map(told).collect();
        let percentages = percent
            .map(|(begun, percent)| Percentage {
                upload: begun.upload.id,
                attempt: begun.token.attempt,
                percent,
                messages: wire::percent_now(
                    &begun.upload,
                    Stage::VisionAnalysis,
                    percent,
                    0,
                    self.store.queries().clock().now(),
                ),
            })
            .into_iter()
            .collect();
        let forward = Forward { owner: Owner::local(), events, percentages, reached };
        self.publisher.send(forward).await.expect("alive");
    }
}

#[actix_rt::test]
async fn what_the_monitor_forwards_late_is_not_told_to_whom_the_log_told_more() {
    let desk = Desk::new();
    let begun = desk.begin().await;
    let earlier = desk.store.queries().newest();
    desk.fail(begun.clone()).await;
    let mut ear = desk.listen(Uploads::All, Some(0)).await;
    ear.until_the_end().await;
    desk.forward(1..=2, Some((&begun, 60)), earlier).await;
    desk.forward(3..=5, None, desk.store.queries().newest()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ear.heard(), Vec::new(), "it knows all of that, and that the upload has ended");
}

#[actix_rt::test]
async fn of_what_the_answer_to_a_watch_told_only_ends_are_told_again() {
    let desk = Desk::new();
    let mut ear = desk.listen(Uploads::Chosen, None).await;
    let begun = desk.begin().await;
    let upload = begun.upload.id;
    let percentage = |it: &Message| match it {
        Message::UploadProgress { payload, .. } => Some((payload.progress_percent, payload.status)),
        _ => None,
    };
    assert_eq!(percentage(&desk.watch(&ear, upload).await), Some((5, Status::Analyzing)));
    desk.forward(1..=2, Some((&begun, 60)), desk.store.queries().newest()).await;
    let heard = ear.publication().await;
    assert_eq!(ear::seqs(&heard), [1, 2]);
    let told: Vec<_> = heard.iter().filter_map(percentage).collect();
    assert_eq!(told, [(60, Status::Analyzing)], "the answer told that it had begun");

    desk.fail(begun).await;
    assert_eq!(percentage(&desk.watch(&ear, upload).await), Some((100, Status::Failed)));
    desk.forward(3..=5, None, desk.store.queries().newest()).await;
    let heard = ear.publication().await;
    assert_eq!(heard.iter().filter_map(percentage).count(), 0);
    assert_eq!(heard.iter().filter(|it| it.ends_upload()).count(), 1, "{heard:?}");
}
