//! Publisher and monitor over one store, where the test decides when forwards arrive and which listeners the
//! monitor sees.

mod support;

use std::{collections::HashMap, time::Duration};

use actix::prelude::*;
use mediamill_actors::{
    analysis::ProviderState,
    config,
    id::{Owner, UploadId},
    lifeline::Lifeline,
    progress_monitor::ProgressMonitor,
    publisher::{Forward, Listeners, Publisher, Subscribe, Uploads, WatchUpload},
    store::{AfterAttempt, Begun, Clock, Options, Scope},
    upload::{Stage, Status},
    wire::Message as Wire,
};
use support::{
    bare_store::{Bare, failure, open_with, options, submit},
    relay::{self, Relay},
};
use tokio::sync::{mpsc, watch};

/// A few ticks of the monitor.
const TICKS: Duration = Duration::from_secs(1);

/// Passes forwards on to the publisher, or holds them.
struct Valve {
    publisher: Addr<Publisher>,
    held: Option<Vec<Forward>>,
}

impl Actor for Valve {
    type Context = Context<Self>;
}

impl Handler<Forward> for Valve {
    type Result = ();

    fn handle(&mut self, forward: Forward, _: &mut Self::Context) {
        match &mut self.held {
            Some(held) => held.push(forward),
            None => self.publisher.do_send(forward),
        }
    }
}

/// Holds forwards from now on.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold;

impl Handler<Hold> for Valve {
    type Result = ();

    fn handle(&mut self, Hold: Hold, _: &mut Self::Context) {
        self.held.get_or_insert_default();
    }
}

/// Passes on what is held and whatever follows. Returns the numbers of events and percentages that were held.
#[derive(Message)]
#[rtype(result = "(usize, usize)")]
struct Release;

impl Handler<Release> for Valve {
    type Result = MessageResult<Release>;

    fn handle(&mut self, Release: Release, _: &mut Self::Context) -> Self::Result {
        let held = self.held.take().unwrap_or_default();
        let counts = held.iter().map(|it| (it.events.len(), it.percentages.len()));
        let sums = counts.fold((0, 0), |sums, it| (sums.0 + it.0, sums.1 + it.1));
        for forward in held {
            self.publisher.do_send(forward);
        }
        MessageResult(sums)
    }
}

struct Wiring {
    _folder: tempfile::TempDir,
    store: Bare,
    publisher: Addr<Publisher>,
    valve: Addr<Valve>,
    _provider: watch::Sender<ProviderState>,
}

impl Wiring {
    /// A monitor that sees the publisher's listeners.
    async fn new() -> Self {
        Self::with(|listeners| listeners).await
    }

    /// A monitor that sees other listeners than the publisher's.
    async fn with(seen: impl FnOnce(watch::Receiver<Listeners>) -> watch::Receiver<Listeners>) -> Self {
        tokio::time::pause();
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::Tokio { start: tokio::time::Instant::now() };
        let store = open_with(&folder, Options { clock, ..options() }, Scope::All, 3).await;
        let (provider, state) = watch::channel(ProviderState::Ready);
        let (sender, listeners) = watch::channel(Listeners::default());
        let (ends, _) = mpsc::unbounded_channel();
        let lifeline = |actor| Lifeline::new(actor, ends.clone());
        let publisher =
            Publisher::new(store.queries.clone(), state.clone(), sender, lifeline("Publisher")).start();
        let valve = Valve { publisher: publisher.clone(), held: None }.start();
        let ticks = config::Monitor { nudge: false, ..config::Monitor::default() };
        let forwards = valve.clone().recipient();
        let lifeline = lifeline("ProgressMonitor");
        ProgressMonitor::new(store.queries.clone(), state, forwards, seen(listeners), &ticks, lifeline)
            .start();
        Self { _folder: folder, store, publisher, valve, _provider: provider }
    }

    async fn listen(&self, owner: Owner, uploads: Uploads, after_seq: Option<u64>) -> Relay {
        let (listener, publications) = relay::listener(relay::Answer::AtOnce);
        let subscribe = Subscribe { owner, to: listener.clone().recipient(), uploads, after_seq };
        let id = self.publisher.send(subscribe).await.expect("alive").expect("subscribed");
        Relay::new(id, listener, publications)
    }

    async fn watch(&self, relay: &Relay, upload: UploadId) -> Wire {
        let watch = WatchUpload { subscriber: relay.id, upload };
        self.publisher.send(watch).await.expect("alive").expect("the upload")
    }

    async fn hold(&self) {
        self.valve.send(Hold).await.expect("alive");
    }

    async fn release(&self) -> (usize, usize) {
        let held = self.valve.send(Release).await.expect("alive");
        tokio::time::sleep(TICKS).await;
        held
    }

    /// Submits an upload and begins an attempt: events 1 and 2.
    async fn begin(&self) -> Begun {
        submit(&self.store, &Owner::local(), 1).await;
        self.store.commands.begin_next(1).await.expect("begun").remove(0)
    }

    /// Records the stage of an attempt, which is no event.
    async fn enter(&self, begun: &Begun, stage: Stage) {
        self.store.commands.record_stage(begun.token.clone(), stage).await.expect("written");
    }

    /// Fails both attempts of an upload: events 3 to 5.
    async fn fail(&self, begun: Begun) {
        let commands = &self.store.commands;
        let after = commands.fail(begun.token.clone(), failure(&begun)).await.expect("written");
        let AfterAttempt::Retried(second) = after else { unreachable!("a second attempt follows") };
        commands.fail(second.token.clone(), failure(&second)).await.expect("written");
    }
}

fn progress(message: &Wire) -> Option<(u8, Status)> {
    match message {
        Wire::UploadProgress { payload, .. } => Some((payload.progress_percent, payload.status)),
        _ => None,
    }
}

#[actix_rt::test]
async fn late_forwards_bring_nothing_to_a_subscriber_that_the_log_took_further() {
    let wiring = Wiring::new().await;
    let _listening = wiring.listen(Owner::local(), Uploads::All, None).await;
    wiring.hold().await;
    let begun = wiring.begin().await;
    tokio::time::sleep(TICKS).await;
    wiring.fail(begun).await;
    tokio::time::sleep(TICKS).await;
    let mut relay = wiring.listen(Owner::local(), Uploads::All, Some(0)).await;
    relay.until_the_end().await;
    let (events, percentages) = wiring.release().await;
    assert!(events == 5 && percentages > 0, "{events} events and {percentages} percentages were late");
    assert_eq!(relay.received(), Vec::new());
}

#[actix_rt::test]
async fn the_answer_to_a_watch_covers_all_earlier_messages_except_the_end() {
    let wiring = Wiring::new().await;
    let mut relay = wiring.listen(Owner::local(), Uploads::Chosen, None).await;
    wiring.hold().await;
    let begun = wiring.begin().await;
    let upload = begun.upload.id;
    assert_eq!(progress(&wiring.watch(&relay, upload).await), Some((5, Status::Analyzing)));
    tokio::time::sleep(TICKS).await;
    wiring.release().await;
    let received = relay.received();
    assert_eq!(relay::seqs(&received), [1, 2]);
    let shown: Vec<_> = received.iter().filter_map(progress).collect();
    assert_eq!(shown, [(5, Status::Analyzing)], "the percentage, and not the beginning at 0");

    wiring.hold().await;
    wiring.enter(&begun, Stage::VisionAnalysis).await;
    tokio::time::sleep(TICKS).await;
    wiring.fail(begun).await;
    assert_eq!(progress(&wiring.watch(&relay, upload).await), Some((100, Status::Failed)));
    tokio::time::sleep(TICKS).await;
    let (events, percentages) = wiring.release().await;
    assert!(events == 3 && percentages > 0, "{events} events and {percentages} percentages were late");
    let received = relay.received();
    assert_eq!(received.iter().filter_map(progress).count(), 0);
    assert_eq!(received.iter().filter(|it| it.ends_upload()).count(), 1, "{received:?}");
}

#[actix_rt::test]
async fn a_late_percentage_is_not_sent_after_a_watch_has_shown_a_higher_one() {
    let wiring = Wiring::new().await;
    let mut relay = wiring.listen(Owner::local(), Uploads::Chosen, None).await;
    let begun = wiring.begin().await;
    tokio::time::sleep(TICKS).await;
    wiring.hold().await;
    wiring.enter(&begun, Stage::VisionAnalysis).await;
    tokio::time::sleep(TICKS).await;
    wiring.enter(&begun, Stage::EmbeddingGeneration).await;
    relay.received();
    assert_eq!(progress(&wiring.watch(&relay, begun.upload.id).await).map(|it| it.0), Some(75));
    let (events, percentages) = wiring.release().await;
    assert!(events == 0 && percentages > 0, "{events} events and {percentages} percentages were late");
    let shown: Vec<u8> = relay.received().iter().filter_map(progress).map(|it| it.0).collect();
    assert!(shown.first().is_some_and(|it| *it >= 75) && shown.is_sorted(), "{shown:?}");
}

#[actix_rt::test]
async fn percentages_wait_until_all_earlier_events_are_sent() {
    let wiring = Wiring::new().await;
    let mut relay = wiring.listen(Owner::local(), Uploads::All, None).await;
    wiring.hold().await;
    // More messages than one publication holds, with room for two at its end.
    submit(&wiring.store, &Owner::local(), 100).await;
    submit(&wiring.store, &Owner::local(), 1).await;
    wiring.store.commands.begin_next(100).await.expect("begun");
    tokio::time::sleep(TICKS).await;
    assert_eq!(wiring.release().await, (102, 100));
    let first = relay.publication().await;
    assert_eq!(first.len(), 254);
    let mut numbers: Vec<u64> = first.iter().filter_map(Wire::seq).collect();
    numbers.extend(relay.received().iter().filter_map(Wire::seq));
    assert!(numbers.is_sorted() && numbers.last() == Some(&102), "{numbers:?}");
}

/// Runs a test in a system whose blocking jobs run one after the other.
fn with_one_blocking_thread(test: impl Future<Output = ()>) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().max_blocking_threads(1).build().expect("a runtime")
    };
    System::with_tokio_rt(runtime).block_on(test);
}

/// Submits an upload of an owner, in a runtime of its own.
fn submit_elsewhere(store: &Bare, owner: &Owner) {
    let (store, owner) = (store.clone(), owner.clone());
    let submit = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(submit(&store, &owner, 1));
    };
    std::thread::spawn(submit).join().expect("submitted");
}

#[test]
fn an_event_that_comes_while_its_owner_gets_its_first_subscriber_is_not_lost() {
    with_one_blocking_thread(async {
        let one = Owner::new("one").expect("valid");
        let other = Owner::new("other").expect("valid");
        let of = |owners: &[&Owner]| {
            Listeners(owners.iter().map(|it| ((*it).clone(), 1)).collect::<HashMap<_, _>>())
        };
        let (seen, listeners) = watch::channel(of(&[&other]));
        let wiring = Wiring::with(|_| listeners).await;
        let mut relay = wiring.listen(one.clone(), Uploads::All, None).await;

        // The next read of the monitor waits for the blocking thread. It is for the other owner alone.
        submit(&wiring.store, &other, 1).await;
        let (unblock, blocked) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || blocked.recv());
        tokio::time::advance(TICKS).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        // Before it is carried out, this owner's subscriber becomes visible and its first event is committed.
        submit_elsewhere(&wiring.store, &one);
        seen.send_replace(of(&[&one, &other]));
        drop(unblock);
        let _ = busy.await;

        assert_eq!(relay::seqs(&relay.publication().await), [1]);
    });
}
