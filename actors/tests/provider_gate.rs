//! The gate in front of a provider, on a paused clock.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use mediamill_actors::{
    analysis::{DescribeRequest, Described, Identity, Provider, ProviderError, ProviderState},
    config::Config,
    id::Owner,
    provider_gate::{CallError, ProviderGate},
    store::Clock,
    upload::FailureKind,
};

/// Answers as a test scripts.
#[derive(Default)]
struct Scripted {
    /// Whether it can be reached.
    up: AtomicBool,
    /// The pause that it asks for in answer to a probe.
    busy: Mutex<Option<Duration>>,
    probes: AtomicUsize,
    /// Answer to the next embedding.
    next: Mutex<Option<Result<Vec<f32>, ProviderError>>>,
    /// Answer to an embedding without a `next` one; `None`: it hangs.
    otherwise: Mutex<Option<Result<Vec<f32>, ProviderError>>>,
    /// The calls in order, if descriptions have a duration.
    calls: Mutex<Vec<&'static str>>,
    /// Duration of a description; zero: it hangs.
    describes_in: Duration,
}

impl Provider for Scripted {
    fn identity(&self) -> Identity {
        Identity {
            provider: "scripted".into(),
            vision_model: "v".into(),
            embedding_model: "e".into(),
            dimensions: 2,
            prompt_version: 1,
            ..Identity::default()
        }
    }

    fn describe(&self, _: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        if self.describes_in.is_zero() {
            return std::future::pending().boxed();
        }
        async {
            self.calls.lock().expect("not poisoned").push("describe");
            tokio::time::sleep(self.describes_in).await;
            Ok(Described { text: "A cat.".into(), objects: Vec::new(), changed: None })
        }
        .boxed()
    }

    fn embed(&self, _: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        if !self.describes_in.is_zero() {
            self.calls.lock().expect("not poisoned").push("embed");
            return std::future::ready(Ok(vec![0.5, 1.0])).boxed();
        }
        let next = self.next.lock().expect("not poisoned").take();
        match next.or_else(|| self.otherwise.lock().expect("not poisoned").clone()) {
            Some(answer) => std::future::ready(answer).boxed(),
            None => std::future::pending().boxed(),
        }
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.probes.fetch_add(1, Ordering::Relaxed);
        if let Some(wait) = *self.busy.lock().expect("not poisoned") {
            let error =
                ProviderError::Unreachable { message: "429: slow down".into(), retry_after: Some(wait) };
            return std::future::ready(Err(error)).boxed();
        }
        let up = self.up.load(Ordering::Relaxed);
        std::future::ready(if up { Ok(()) } else { Err(unreachable_provider()) }).boxed()
    }
}

fn unreachable_provider() -> ProviderError {
    ProviderError::Unreachable { message: "connection refused".into(), retry_after: None }
}

async fn ready(config: Config) -> (Arc<Scripted>, Arc<ProviderGate>) {
    ready_with(config, Scripted::default()).await
}

async fn ready_with(config: Config, provider: Scripted) -> (Arc<Scripted>, Arc<ProviderGate>) {
    tokio::time::pause();
    provider.up.store(true, Ordering::Relaxed);
    let provider = Arc::new(provider);
    let clock = Clock::Tokio { start: tokio::time::Instant::now() };
    let gate = ProviderGate::new(Arc::clone(&provider) as Arc<dyn Provider>, &config, clock);
    gate.start().await;
    assert_eq!(*gate.state().borrow(), ProviderState::Ready);
    (provider, gate)
}

async fn embed(
    provider: &Scripted,
    gate: &Arc<ProviderGate>,
    answer: Result<Vec<f32>, ProviderError>,
) -> Result<Vec<f32>, CallError> {
    *provider.next.lock().expect("not poisoned") = Some(answer);
    gate.embed(&Owner::local(), "words".into()).await
}

#[actix_rt::test]
async fn an_invalid_vector_is_a_bad_answer() {
    let (provider, gate) = ready(Config::default()).await;
    for wrong in [vec![1.0], vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
        let answer = embed(&provider, &gate, Ok(wrong)).await;
        assert!(matches!(answer, Err(CallError::Failed { kind: FailureKind::BadAnswer, .. })), "{answer:?}");
    }
    assert_eq!(embed(&provider, &gate, Ok(vec![0.5, 1.0])).await, Ok(vec![0.5, 1.0]));
}

#[actix_rt::test]
async fn a_failed_call_to_a_provider_that_answers_probes_is_a_failed_attempt() {
    let (provider, gate) = ready(Config::default()).await;
    let answer = embed(&provider, &gate, Err(unreachable_provider())).await;
    assert!(matches!(answer, Err(CallError::Failed { kind: FailureKind::ProviderAway, .. })), "{answer:?}");
    assert_eq!(*gate.state().borrow(), ProviderState::Ready);
    let hung = gate.embed(&Owner::local(), "words".into()).await;
    assert!(matches!(hung, Err(CallError::Failed { kind: FailureKind::TimedOut, .. })), "{hung:?}");
}

#[actix_rt::test]
async fn a_provider_that_is_away_is_probed_at_growing_intervals_until_it_is_back() {
    let (provider, gate) = ready(Config::default()).await;
    provider.up.store(false, Ordering::Relaxed);
    let answer = embed(&provider, &gate, Err(unreachable_provider())).await;
    assert!(matches!(answer, Err(CallError::WentAway { .. })), "{answer:?}");
    assert_eq!(
        gate.embed(&Owner::local(), "words".into()).await,
        Err(CallError::NotReady),
        "no call is admitted meanwhile"
    );
    assert!(gate.state().borrow().waiting().is_some_and(|sentence| sentence.contains("connection refused")));
    let before = provider.probes.load(Ordering::Relaxed);
    tokio::time::advance(Duration::ZERO).await;
    tokio::time::timeout(Duration::from_secs(600), std::future::pending::<()>())
        .await
        .expect_err("ten minutes pass");
    let probes = provider.probes.load(Ordering::Relaxed) - before;
    assert!((16..=24).contains(&probes), "{probes} probes in ten minutes of pauses of 2 to 37.5 s");
    provider.up.store(true, Ordering::Relaxed);
    let mut state = gate.state();
    state.wait_for(|state| *state == ProviderState::Ready).await.expect("it comes back");
    assert_eq!(embed(&provider, &gate, Ok(vec![0.5, 1.0])).await, Ok(vec![0.5, 1.0]));
}

#[actix_rt::test]
async fn uploads_wait_no_longer_than_configured() {
    let mut config = Config::default();
    config.provider.give_up_after = Duration::from_secs(60);
    let (provider, gate) = ready(config).await;
    provider.up.store(false, Ordering::Relaxed);
    let _ = embed(&provider, &gate, Err(unreachable_provider())).await;
    let mut state = gate.state();
    state.wait_for(|state| matches!(state, ProviderState::GaveUp { .. })).await.expect("the gate gives up");
    let answer = gate.embed(&Owner::local(), "words".into()).await;
    assert!(matches!(answer, Err(CallError::Failed { kind: FailureKind::ProviderAway, .. })), "{answer:?}");
}

#[actix_rt::test]
async fn the_gate_gives_up_a_provider_that_answers_only_probes() {
    let mut config = Config::default();
    config.provider.give_up_after = Duration::from_secs(3600);
    let (provider, gate) = ready(config).await;
    let busy = || ProviderError::Unreachable {
        message: "429: slow down".into(),
        retry_after: Some(Duration::from_secs(60)),
    };
    // Calls whenever they are admitted, as workers do, until one fails.
    let fails_after = async |answer: &dyn Fn() -> Result<Vec<f32>, ProviderError>| {
        let began = tokio::time::Instant::now();
        let mut state = gate.state();
        loop {
            state.wait_for(|state| *state == ProviderState::Ready).await.expect("the gate lives");
            match embed(&provider, &gate, answer()).await {
                Err(CallError::Failed { kind: FailureKind::ProviderAway, message }) => {
                    assert!(message.contains("not waited for any more") && message.contains("slow down"));
                    return began.elapsed().as_secs();
                }
                other => assert_eq!(other, Err(CallError::NotReady)),
            }
        }
    };
    let first = fails_after(&|| Err(busy())).await;
    assert!((3600..3660).contains(&first), "{first} s");
    let since = |gate: &ProviderGate| match &*gate.state().borrow() {
        ProviderState::GaveUp { since, .. } => *since,
        other => unreachable!("{other:?}"),
    };
    let began = since(&gate);
    // Other calls fail at once, and so does the next one that is admitted.
    assert!(matches!(gate.embed(&Owner::local(), "words".into()).await, Err(CallError::Failed { .. })));
    assert_eq!(fails_after(&|| Err(busy())).await, 60);
    assert_eq!(since(&gate), began, "the outage continues");
    // An outage after hours without one is a new one.
    gate.state().wait_for(|state| *state == ProviderState::Ready).await.expect("calls are admitted again");
    assert!(embed(&provider, &gate, Ok(vec![0.5, 1.0])).await.is_ok());
    assert_eq!(embed(&provider, &gate, Err(busy())).await, Err(CallError::NotReady));
    tokio::time::sleep(Duration::from_secs(7200)).await;
    let after = fails_after(&|| Err(busy())).await;
    assert!((3600..3660).contains(&after), "{after} s");
}

#[actix_rt::test]
async fn a_frame_that_timed_out_is_a_time_out() {
    let (provider, gate) = ready(Config::default()).await;
    let late = ProviderError::TimedOut { message: "no answer about a frame within 300 s".into() };
    let answer = embed(&provider, &gate, Err(late.clone())).await;
    assert!(matches!(answer, Err(CallError::Failed { kind: FailureKind::TimedOut, .. })), "{answer:?}");
    provider.up.store(false, Ordering::Relaxed);
    assert!(matches!(embed(&provider, &gate, Err(late)).await, Err(CallError::WentAway { .. })));
}

#[actix_rt::test]
async fn a_misconfigured_provider_gets_no_calls_and_has_a_sentence_that_helps() {
    let (provider, gate) = ready(Config::default()).await;
    let missing = ProviderError::Misconfigured { message: "run `ollama pull bge-m3`".into() };
    *provider.otherwise.lock().expect("not poisoned") = Some(Err(missing.clone()));
    assert_eq!(embed(&provider, &gate, Err(missing)).await, Err(CallError::NotReady));
    assert!(gate.state().borrow().waiting().is_some_and(|sentence| sentence.contains("ollama pull")));
}

#[actix_rt::test]
async fn a_misconfiguration_of_a_single_request_is_a_failed_attempt() {
    let (provider, gate) = ready(Config::default()).await;
    *provider.otherwise.lock().expect("not poisoned") = Some(Ok(vec![0.5, 1.0]));
    let refused = ProviderError::Misconfigured { message: "403: blocked by a filter".into() };
    let answer = embed(&provider, &gate, Err(refused)).await;
    let Err(CallError::Failed { kind: FailureKind::BadAnswer, message }) = answer else {
        unreachable!("{answer:?}")
    };
    assert!(message.contains("blocked by a filter"), "{message}");
    assert_eq!(*gate.state().borrow(), ProviderState::Ready, "no other call waits");
}

#[actix_rt::test]
async fn a_misconfiguration_that_probes_do_not_see_ends_after_a_successful_trial() {
    let (provider, gate) = ready(Config::default()).await;
    let gone = || ProviderError::Misconfigured { message: "the quota is used up".into() };
    *provider.otherwise.lock().expect("not poisoned") = Some(Err(gone()));
    assert_eq!(embed(&provider, &gate, Err(gone())).await, Err(CallError::NotReady));
    let mut state = gate.state();
    let next = || provider.next.lock().expect("not poisoned");
    for trial in 0..3 {
        *next() = Some(Err(gone()));
        let seconds = async {
            while next().is_some() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), seconds).await.expect("a trial is made");
        assert!(matches!(*state.borrow(), ProviderState::Misconfigured { .. }), "trial {trial}");
    }
    *provider.next.lock().expect("not poisoned") = Some(Ok(vec![0.5, 1.0]));
    state.wait_for(|state| *state == ProviderState::Ready).await.expect("the trial is answered");
}

#[actix_rt::test]
async fn a_requested_pause_is_kept_and_the_attempt_is_handed_back() {
    let (provider, gate) = ready(Config::default()).await;
    let busy = |seconds| ProviderError::Unreachable {
        message: "429: slow down".into(),
        retry_after: Some(Duration::from_secs(seconds)),
    };
    for (asked, waited) in [(20, 20), (5000, 120)] {
        let began = tokio::time::Instant::now();
        let answer = embed(&provider, &gate, Err(busy(asked))).await;
        assert_eq!(answer, Err(CallError::NotReady));
        assert!(gate.state().borrow().waiting().is_some_and(|sentence| sentence.contains("slow down")));
        gate.state()
            .wait_for(|state| *state == ProviderState::Ready)
            .await
            .expect("calls are admitted again");
        assert_eq!(began.elapsed().as_secs(), waited);
    }
}

#[actix_rt::test]
async fn repeated_requests_for_a_pause_lengthen_it_until_a_call_is_answered() {
    let (provider, gate) = ready(Config::default()).await;
    for pauses in [vec![2, 4, 8, 16, 30, 30], vec![2, 4]] {
        for pause in pauses {
            let busy = ProviderError::Unreachable {
                message: "429: slow down".into(),
                retry_after: Some(Duration::from_secs(2)),
            };
            let began = tokio::time::Instant::now();
            assert_eq!(embed(&provider, &gate, Err(busy)).await, Err(CallError::NotReady));
            gate.state()
                .wait_for(|state| *state == ProviderState::Ready)
                .await
                .expect("calls are admitted again");
            assert_eq!(began.elapsed().as_secs(), pause);
        }
        assert!(embed(&provider, &gate, Ok(vec![0.5, 1.0])).await.is_ok());
    }
}

#[actix_rt::test]
async fn a_pause_requested_in_answer_to_a_probe_is_kept_too() {
    let (provider, gate) = ready(Config::default()).await;
    let began = tokio::time::Instant::now();
    *provider.busy.lock().expect("not poisoned") = Some(Duration::from_secs(50));
    let answer = embed(&provider, &gate, Err(unreachable_provider())).await;
    assert!(matches!(answer, Err(CallError::WentAway { .. })), "{answer:?}");
    let before = provider.probes.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(49)).await;
    assert_eq!(provider.probes.load(Ordering::Relaxed), before, "no probe in the pause");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(provider.probes.load(Ordering::Relaxed), before + 1);
    *provider.busy.lock().expect("not poisoned") = None;
    gate.state().wait_for(|state| *state == ProviderState::Ready).await.expect("it comes back");
    assert_eq!(began.elapsed().as_secs(), 100, "the second pause is kept like the first");
}

#[actix_rt::test]
async fn a_model_that_may_have_to_be_loaded_has_more_time() {
    let (provider, gate) = ready(Config::default()).await;
    let hangs = async |seconds: u64| {
        let began = tokio::time::Instant::now();
        let answer = gate.embed(&Owner::local(), "words".into()).await;
        assert!(matches!(answer, Err(CallError::Failed { kind: FailureKind::TimedOut, .. })), "{answer:?}");
        assert_eq!(began.elapsed().as_secs(), seconds);
    };
    let answers = async || assert!(embed(&provider, &gate, Ok(vec![0.5, 1.0])).await.is_ok());
    hangs(600).await;
    answers().await;
    hangs(300).await;
    hangs(600).await;
    answers().await;
    tokio::time::sleep(Duration::from_secs(241)).await;
    hangs(600).await;
    answers().await;
    let request = DescribeRequest { frame_seconds: vec![0.0], ..mediamill_actors::analysis::trial() };
    let began = tokio::time::Instant::now();
    let answer = gate.describe(Arc::new(request), false).await;
    assert!(matches!(answer, Err(CallError::Failed { kind: FailureKind::TimedOut, .. })), "{answer:?}");
    assert_eq!(
        began.elapsed().as_secs(),
        900,
        "the vision model is not loaded, and a video is a call for each frame and one more"
    );
}

#[actix_rt::test]
async fn a_server_with_memory_for_one_model_does_not_switch_for_each_photo() {
    let mut config = Config::default();
    config.provider.vision_concurrency = std::num::NonZeroU32::new(1);
    config.provider.swap_batch = std::num::NonZeroU32::new(4);
    let scripted = Scripted { describes_in: Duration::from_secs(1), ..Scripted::default() };
    let (provider, gate) = ready_with(config, scripted).await;
    // Six workers with two photos each.
    let photo = async || {
        let request = Arc::new(mediamill_actors::analysis::trial());
        gate.describe(request, false).await.expect("described");
        gate.embed(&Owner::local(), "words".into()).await.expect("embedded");
    };
    let workers = (0..6).map(async |_| {
        photo().await;
        photo().await;
    });
    futures_util::future::join_all(workers).await;
    let calls = provider.calls.lock().expect("not poisoned").clone();
    let switches = calls.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert_eq!(calls.len(), 24);
    assert!(switches <= 6, "{switches} switches: {calls:?}");
}
