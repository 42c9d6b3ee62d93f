//! The way to the provider: permits, deadlines, and finding out whether a provider that does not answer is away.
//!
//! A call that cannot reach the provider or runs out of time is followed by one probe. If that is answered, the call failed. If not, the
//! provider is away: calls are turned back at once, and one probe at a time asks with growing pauses until it answers.

mod lane;
mod turns;

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use self::{
    lane::Lane,
    turns::{Turns, Work},
};
use crate::{
    analysis::{
        self, DescribeRequest, Described, Identity, Provider, ProviderError, ProviderState, shorter_text,
    },
    config::Config,
    store::Clock,
    upload::FailureKind,
};

/// Shortest and longest pause between two probes, before jitter.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// Longest probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The provider is known to be away or misconfigured, or asked to be called later: the attempt is to be handed back.
    NotReady,
    /// The provider went away during this call: the attempt is to be handed back, and counts if that happened before.
    WentAway {
        /// What happened, in one sentence.
        message: String,
    },
    /// The provider is there, or nobody waits for it any more: the attempt failed.
    Failed {
        /// The sort of failure.
        kind: FailureKind,
        /// What happened, in one sentence.
        message: String,
    },
}

/// A time in which no call is answered.
struct Lost {
    since: jiff::Timestamp,
    began: Instant,
    /// When a probe was answered last, if calls are let through since then.
    back: Option<Instant>,
}

/// Guards one provider; shared by all workers of a pipeline. Needs a local task set, as actix gives it.
pub struct ProviderGate {
    provider: Arc<dyn Provider>,
    vision: Lane,
    embedding: Lane,
    turns: Turns,
    embedding_max_chars: usize,
    call_timeout: Duration,
    first_call_timeout: Duration,
    give_up_after: Duration,
    state: watch::Sender<ProviderState>,
    probing: AtomicBool,
    /// How often in a row the provider itself asked to be called later.
    turned_away: AtomicU32,
    /// Since when no call is answered: a provider may answer every probe and no call.
    lost: Mutex<Option<Lost>>,
    /// The sort of call that found the provider misconfigured, which a probe does not see: only a trial tells whether it still is.
    distrusted: Mutex<Option<Work>>,
    clock: Clock,
}

impl ProviderGate {
    /// A gate before a provider that was not asked yet; see [`ProviderGate::start`].
    pub fn new(provider: Arc<dyn Provider>, config: &Config, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            provider,
            vision: Lane::new(config.vision_concurrency()),
            embedding: Lane::new(config.provider.embedding_concurrency.get() as usize),
            turns: Turns::new(config.swap_batch()),
            embedding_max_chars: config.provider.embedding_max_chars as usize,
            call_timeout: config.provider.request_timeout,
            first_call_timeout: config.provider.first_request_timeout.max(config.provider.request_timeout),
            give_up_after: config.provider.give_up_after,
            state: watch::Sender::new(ProviderState::Starting),
            probing: AtomicBool::new(false),
            turned_away: AtomicU32::new(0),
            lost: Mutex::new(None),
            distrusted: Mutex::new(None),
            clock,
        })
    }

    /// Asks the provider for the first time, and goes on asking in the background if it does not answer.
    pub async fn start(self: &Arc<Self>) {
        match self.probe().await {
            Ok(()) => self.set(ProviderState::Ready),
            Err(error) => {
                let wait = asked_wait(&error);
                self.lose(error, wait);
            }
        }
    }

    /// How the provider stands, and every change of that.
    pub fn state(&self) -> watch::Receiver<ProviderState> {
        self.state.subscribe()
    }

    /// What answers behind the gate.
    pub fn identity(&self) -> Identity {
        self.provider.identity()
    }

    /// Asks for a description. An upload during whose call the provider went away before is asked for `alone`, so that no other pays if
    /// it kills the provider again.
    ///
    /// # Errors
    /// [`CallError`] says how the attempt ends.
    pub async fn describe(
        self: &Arc<Self>,
        request: Arc<DescribeRequest>,
        alone: bool,
    ) -> Result<Described, CallError> {
        let permits = if alone { self.vision.most } else { 1 };
        // The frames of a video are asked about one after the other, and then all together.
        let more_calls = if request.frame_seconds.is_empty() { 0 } else { request.pictures.len() as u32 };
        let call = || self.provider.describe(request);
        let described = self.call(Work::Vision, permits, more_calls, call).await?;
        if described.text.trim().is_empty() {
            return Err(bad("the provider answered with an empty description"));
        }
        Ok(described)
    }

    /// Asks for an embedding.
    ///
    /// # Errors
    /// [`CallError`] says how the attempt ends; a vector of the wrong length, with numbers that are not finite or all zero is a bad answer.
    pub async fn embed(self: &Arc<Self>, text: String) -> Result<Vec<f32>, CallError> {
        self.vector(Work::Embedding, text).await
    }

    /// Asks for the embedding of a text that failed before, which is not tried to the letter again: `tries` from 1 on make it shorter. Answers
    /// also with what was changed.
    ///
    /// # Errors
    /// As [`ProviderGate::embed`].
    pub async fn embed_shorter(
        self: &Arc<Self>,
        text: &str,
        tries: u32,
    ) -> Result<(Vec<f32>, String), CallError> {
        let (text, changed) = shorter_text(text, self.embedding_max_chars, tries);
        Ok((self.vector(Work::Embedding, text).await?, changed))
    }

    /// Asks for the embedding of a search's words, which comes before those of uploads.
    ///
    /// # Errors
    /// As [`ProviderGate::embed`].
    pub async fn embed_query(self: &Arc<Self>, words: String) -> Result<Vec<f32>, CallError> {
        self.vector(Work::Query, words).await
    }

    async fn vector(self: &Arc<Self>, work: Work, text: String) -> Result<Vec<f32>, CallError> {
        let vector = self.call(work, 1, 0, || self.provider.embed(text)).await?;
        let dimensions = self.provider.identity().dimensions as usize;
        if vector.len() != dimensions {
            return Err(bad(format!(
                "the embedding has {} numbers, but provider.embedding_dimensions is {dimensions}",
                vector.len()
            )));
        }
        if !vector.iter().all(|number| number.is_finite()) {
            return Err(bad("the embedding has numbers that are not finite"));
        }
        if vector.iter().all(|number| *number == 0.0) {
            return Err(bad("the embedding is all zeros"));
        }
        Ok(vector)
    }

    fn lane(&self, work: Work) -> &Lane {
        match work {
            Work::Vision => &self.vision,
            Work::Embedding | Work::Query => &self.embedding,
        }
    }

    async fn call<'a, T>(
        self: &'a Arc<Self>,
        work: Work,
        permits: u32,
        more_calls: u32,
        call: impl FnOnce() -> BoxFuture<'a, Result<T, ProviderError>>,
    ) -> Result<T, CallError> {
        self.admit()?;
        let lane = self.lane(work);
        let mut turn = self.turns.announce(work);
        let _permit = lane.permits.acquire_many(permits).await.map_err(|_| CallError::NotReady)?;
        let changes_model = turn.begin().await;
        // It may have gone away while this call waited for its turn.
        self.admit()?;
        let warm = lane.is_warm() && !changes_model;
        let limit = if warm { self.call_timeout } else { self.first_call_timeout };
        let limit = limit + self.call_timeout * more_calls;
        let answer = timeout(limit, call()).await;
        if let Ok(Ok(_) | Err(ProviderError::BadAnswer { .. })) = answer {
            lane.warm();
            self.turned_away.store(0, Ordering::Relaxed);
            *self.lost.lock() = None;
        } else {
            lane.cool();
        }
        let (kind, message) = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(ProviderError::BadAnswer { message })) => return Err(bad(message)),
            Ok(Err(ProviderError::ServerFault { message })) => {
                return Err(CallError::Failed { kind: FailureKind::ServerFault, message });
            }
            Ok(Err(error @ ProviderError::Misconfigured { .. })) => {
                return Err(self.doubt(work, error).await);
            }
            // Away by its own word: there is nothing to find out, and that says nothing of what it was asked.
            Ok(Err(ProviderError::Unreachable { message, retry_after: Some(wait) })) => {
                let wait = wait.max(self.patience()).min(MAX_RETRY_AFTER);
                self.lose(ProviderError::Unreachable { message, retry_after: None }, Some(wait));
                // It may be given up by now.
                return Err(self.admit().err().unwrap_or(CallError::NotReady));
            }
            Ok(Err(ProviderError::TimedOut { message })) => (FailureKind::TimedOut, message),
            Ok(Err(ProviderError::Unreachable { message, retry_after: None })) => {
                (FailureKind::ProviderAway, message)
            }
            Err(_) => (
                FailureKind::TimedOut,
                format!("the provider did not answer within {} s", limit.as_secs_f32()),
            ),
        };
        match self.probe().await {
            Ok(()) => Err(CallError::Failed { kind, message }),
            Err(error @ ProviderError::Misconfigured { .. }) => {
                self.lose(error, None);
                Err(CallError::NotReady)
            }
            Err(probed) => {
                let error = ProviderError::Unreachable { message: message.clone(), retry_after: None };
                self.lose(error, asked_wait(&probed));
                Err(CallError::WentAway { message })
            }
        }
    }

    /// How long to wait at least before a provider that asked for it is called again: its probes answer meanwhile, so only calls can tell
    /// whether it still wants to be left alone, and they come at growing pauses.
    fn patience(&self) -> Duration {
        // Of calls that ran side by side only the first one counts.
        let times = match *self.state.borrow() {
            ProviderState::Ready => self.turned_away.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        (PAUSES.0 * (1 << times.min(8))).min(PAUSES.1)
    }

    fn admit(&self) -> Result<(), CallError> {
        let state = self.state.borrow();
        match (&*state, state.gave_up()) {
            (ProviderState::Ready, _) => Ok(()),
            (_, Some(message)) => Err(CallError::Failed { kind: FailureKind::ProviderAway, message }),
            (_, None) => Err(CallError::NotReady),
        }
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        timeout(PROBE_TIMEOUT, unpanicked(async { self.provider.probe().await })).await.unwrap_or_else(|_| {
            Err(ProviderError::Unreachable {
                message: format!("the provider did not answer a probe within {} s", PROBE_TIMEOUT.as_secs()),
                retry_after: None,
            })
        })
    }

    /// What it means for a call that it found the provider misconfigured: filters in front of a model refuse single pictures and texts with the
    /// same words with which they refuse everything. If the smallest call of the sort passes, it was about this one.
    async fn doubt(self: &Arc<Self>, work: Work, error: ProviderError) -> CallError {
        // Somebody else may have found that out meanwhile.
        if let Err(turned_back) = self.admit() {
            return turned_back;
        }
        if self.trial(work).await.is_ok() {
            return bad(format!("{} (only this request is answered so)", error.message()));
        }
        *self.distrusted.lock() = Some(work);
        self.lose(error, None);
        CallError::NotReady
    }

    /// Makes the smallest call of a sort. What it answers is beside the point, as long as it is not that nothing can work.
    async fn trial(&self, work: Work) -> Result<(), ProviderError> {
        let call = async {
            match work {
                Work::Vision => self.provider.describe(Arc::new(analysis::trial())).await.map(drop),
                Work::Embedding | Work::Query => self.provider.embed("a red disc".into()).await.map(drop),
            }
        };
        match timeout(self.first_call_timeout, unpanicked(call)).await {
            Ok(Err(ProviderError::BadAnswer { .. } | ProviderError::ServerFault { .. })) => Ok(()),
            Ok(answer) => answer,
            Err(_) => Err(ProviderError::Unreachable {
                message: format!("no answer within {} s", self.first_call_timeout.as_secs_f32()),
                retry_after: None,
            }),
        }
    }

    fn set(&self, state: ProviderState) {
        self.state.send_if_modified(|now| {
            let changed = *now != state;
            if changed {
                match state.waiting() {
                    Some(sentence) => log::warn!("{sentence}"),
                    None => log::info!("provider {}: {state:?}", self.provider.identity().provider),
                }
                *now = state;
            }
            changed
        });
    }

    /// Notes that the provider is not to be had, and sees to it that it is asked again, the first time after `wait`.
    fn lose(self: &Arc<Self>, error: ProviderError, wait: Option<Duration>) {
        self.vision.cool();
        self.embedding.cool();
        // The first report says since when.
        if matches!(&*self.state.borrow(), ProviderState::Starting | ProviderState::Ready)
            || misconfigured(&error)
        {
            self.note(error);
            self.give_up_if_due();
        }
        if !self.probing.swap(true, Ordering::AcqRel) {
            let gate = Arc::downgrade(self);
            actix_rt::spawn(async move {
                let mut pause = PAUSES.0;
                sleep(wait.unwrap_or_else(|| jitter(pause))).await;
                loop {
                    // The pipeline may be gone meanwhile, and the probing ends with it.
                    let Some(gate) = gate.upgrade() else { return };
                    let Err(wait) = gate.ask_again().await else { return };
                    drop(gate);
                    pause = (pause * 2).min(PAUSES.1);
                    sleep(jitter(pause).max(wait.unwrap_or_default())).await;
                }
            });
        }
    }

    /// Whether the provider answers again; if not, how long it asked to wait.
    async fn ask_again(&self) -> Result<(), Option<Duration>> {
        let mut answer = self.probe().await;
        let distrusted = *self.distrusted.lock();
        if let (Ok(()), Some(work)) = (&answer, distrusted) {
            answer = self.trial(work).await;
        }
        let wait;
        match answer {
            Ok(()) => {
                *self.distrusted.lock() = None;
                if let Some(lost) = self.lost.lock().as_mut() {
                    lost.back = Some(Instant::now());
                }
                self.probing.store(false, Ordering::Release);
                self.set(ProviderState::Ready);
                return Ok(());
            }
            Err(error) => {
                wait = asked_wait(&error);
                if misconfigured(&error) {
                    self.note(error);
                }
            }
        }
        self.give_up_if_due();
        Err(wait)
    }

    /// Ends the wait for a provider that is away for so long already.
    fn give_up_if_due(&self) {
        let due = self.lost.lock().as_ref().is_some_and(|it| it.began.elapsed() >= self.give_up_after);
        let state = self.state.borrow().clone();
        if let ProviderState::Away { since, message } = state
            && !self.give_up_after.is_zero()
            && due
        {
            self.set(ProviderState::GaveUp { since, message });
        }
    }

    /// Since when no call is answered. It goes on if the provider is lost again soon after a probe was answered.
    fn lost_since(&self) -> jiff::Timestamp {
        let mut lost = self.lost.lock();
        let goes_on = lost.take().filter(|it| it.back.is_none_or(|back| back.elapsed() <= MAX_RETRY_AFTER));
        let (since, began) =
            goes_on.map_or_else(|| (self.clock.now(), Instant::now()), |it| (it.since, it.began));
        *lost = Some(Lost { since, began, back: None });
        since
    }

    fn note(&self, error: ProviderError) {
        let since = match &*self.state.borrow() {
            ProviderState::Away { since, .. } | ProviderState::Misconfigured { since, .. } => *since,
            ProviderState::GaveUp { since, .. } => *since,
            ProviderState::Starting | ProviderState::Ready => self.lost_since(),
        };
        self.set(match error {
            ProviderError::Misconfigured { message } => ProviderState::Misconfigured { since, message },
            ProviderError::Unreachable { message, .. }
            | ProviderError::TimedOut { message }
            | ProviderError::BadAnswer { message }
            | ProviderError::ServerFault { message } => ProviderState::Away { since, message },
        });
    }
}

/// A panic as an answer: it must not end the probing, or nobody would find out that the provider is back.
async fn unpanicked<T>(call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| {
        Err(ProviderError::Unreachable {
            message: "the code that asks the provider panicked; the log tells where".into(),
            retry_after: None,
        })
    })
}

/// What a server asked to wait, as far as anybody does.
fn asked_wait(error: &ProviderError) -> Option<Duration> {
    match error {
        ProviderError::Unreachable { retry_after, .. } => retry_after.map(|it| it.min(MAX_RETRY_AFTER)),
        _ => None,
    }
}

fn misconfigured(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Misconfigured { .. })
}

fn bad(message: impl Into<String>) -> CallError {
    CallError::Failed { kind: FailureKind::BadAnswer, message: message.into() }
}

/// A pause up to a quarter longer, so that many clients of one server do not ask in step.
fn jitter(pause: Duration) -> Duration {
    let [random, ..] = *uuid::Uuid::new_v4().as_bytes();
    pause + pause.mul_f32(f32::from(random) / 1024.0)
}
