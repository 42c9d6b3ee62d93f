//! The gate before a provider, on a paused clock.

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
    provider_gate::{CallError, ProviderGate},
    store::Clock,
    upload::FailureKind,
};

/// Answers embeddings as it is told to.
#[derive(Default)]
struct Scripted {
    there: AtomicBool,
    probes: AtomicUsize,
    next: Mutex<Option<Result<Vec<f32>, ProviderError>>>,
}

impl Provider for Scripted {
    fn identity(&self) -> Identity {
        Identity {
            provider: "scripted".into(),
            vision_model: "v".into(),
            embedding_model: "e".into(),
            dimensions: 2,
            prompt_version: 1,
        }
    }

    fn describe(&self, _: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        std::future::pending().boxed()
    }

    /// Hangs for ever unless an answer is laid out.
    fn embed(&self, _: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        match self.next.lock().expect("not poisoned").take() {
            Some(answer) => std::future::ready(answer).boxed(),
            None => std::future::pending().boxed(),
        }
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.probes.fetch_add(1, Ordering::Relaxed);
        let there = self.there.load(Ordering::Relaxed);
        std::future::ready(if there { Ok(()) } else { Err(unreachable_provider()) }).boxed()
    }
}

fn unreachable_provider() -> ProviderError {
    ProviderError::Unreachable { message: "connection refused".into(), retry_after: None }
}

async fn ready(config: Config) -> (Arc<Scripted>, Arc<ProviderGate>) {
    tokio::time::pause();
    let provider = Arc::new(Scripted { there: AtomicBool::new(true), ..Scripted::default() });
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
    gate.embed("words".into()).await
}

#[actix_rt::test]
async fn an_answer_is_checked_before_it_is_believed() {
    let (provider, gate) = ready(Config::default()).await;
    for wrong in [vec![1.0], vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
        let answer = embed(&provider, &gate, Ok(wrong)).await;
        assert!(matches!(answer, Err(CallError::Failed { kind: FailureKind::BadAnswer, .. })), "{answer:?}");
    }
    assert_eq!(embed(&provider, &gate, Ok(vec![0.5, 1.0])).await, Ok(vec![0.5, 1.0]));
}

#[actix_rt::test]
async fn a_call_that_fails_while_the_provider_is_there_is_a_failed_attempt() {
    let (provider, gate) = ready(Config::default()).await;
    let answer = embed(&provider, &gate, Err(unreachable_provider())).await;
    assert!(matches!(answer, Err(CallError::Failed { kind: FailureKind::ProviderAway, .. })), "{answer:?}");
    assert_eq!(*gate.state().borrow(), ProviderState::Ready);
    let hung = gate.embed("words".into()).await;
    assert!(matches!(hung, Err(CallError::Failed { kind: FailureKind::TimedOut, .. })), "{hung:?}");
}

#[actix_rt::test]
async fn a_provider_that_is_away_is_asked_with_growing_pauses_and_comes_back() {
    let (provider, gate) = ready(Config::default()).await;
    provider.there.store(false, Ordering::Relaxed);
    let answer = embed(&provider, &gate, Err(unreachable_provider())).await;
    assert!(matches!(answer, Err(CallError::WentAway { .. })), "{answer:?}");
    assert_eq!(
        gate.embed("words".into()).await,
        Err(CallError::NotReady),
        "it is not called while it is away"
    );
    assert!(gate.state().borrow().waiting().is_some_and(|sentence| sentence.contains("connection refused")));
    let before = provider.probes.load(Ordering::Relaxed);
    tokio::time::advance(Duration::ZERO).await;
    tokio::time::timeout(Duration::from_secs(600), std::future::pending::<()>())
        .await
        .expect_err("ten minutes pass");
    let probes = provider.probes.load(Ordering::Relaxed) - before;
    assert!((16..=24).contains(&probes), "{probes} probes in ten minutes of pauses of 2 to 37.5 s");
    provider.there.store(true, Ordering::Relaxed);
    let mut state = gate.state();
    state.wait_for(|state| *state == ProviderState::Ready).await.expect("it comes back");
    assert_eq!(embed(&provider, &gate, Ok(vec![0.5, 1.0])).await, Ok(vec![0.5, 1.0]));
}

#[actix_rt::test]
async fn nobody_waits_longer_than_told_to() {
    let mut config = Config::default();
    config.provider.give_up_after = Duration::from_secs(60);
    let (provider, gate) = ready(config).await;
    provider.there.store(false, Ordering::Relaxed);
    let _ = embed(&provider, &gate, Err(unreachable_provider())).await;
    let mut state = gate.state();
    state.wait_for(|state| matches!(state, ProviderState::GaveUp { .. })).await.expect("it is given up");
    let answer = gate.embed("words".into()).await;
    assert!(matches!(answer, Err(CallError::Failed { kind: FailureKind::ProviderAway, .. })), "{answer:?}");
}

#[actix_rt::test]
async fn a_misconfigured_provider_turns_calls_back_with_the_sentence_that_helps() {
    let (provider, gate) = ready(Config::default()).await;
    let missing = ProviderError::Misconfigured { message: "run `ollama pull bge-m3`".into() };
    assert_eq!(embed(&provider, &gate, Err(missing)).await, Err(CallError::NotReady));
    assert!(gate.state().borrow().waiting().is_some_and(|sentence| sentence.contains("ollama pull")));
}
