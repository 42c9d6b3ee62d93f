//! The gate in front of the provider: limits concurrency and duration of calls, and detects whether the
//! provider is away.
//!
//! A call that cannot reach the provider or times out is followed by one probe. If the probe succeeds, the
//! call has failed. Otherwise the provider is away: calls are refused at once, and one probe at a time runs
//! at growing intervals until one succeeds.

mod call_limiter;
mod embedding;
mod model_switcher;
mod turns;

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use self::{
    call_limiter::CallLimiter,
    model_switcher::{CallKind, ModelSwitcher},
    turns::Turns,
};
use crate::{
    analysis::{
        self, BoxFuture, DescribeRequest, Described, Identity, Provider, ProviderError, ProviderProfile,
        ProviderState,
    },
    config::Config,
    id::Owner,
    store::Clock,
    text,
    upload::FailureKind,
};

/// Shortest interval between two probes, before jitter.
const MIN_PAUSE: Duration = Duration::from_secs(2);
/// Longest interval between two probes, before jitter.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Longest probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause that a server may ask for; a longer one is shortened to it.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// Why a call gave no result, and what that means for the attempt that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The provider is away or misconfigured, or asked for a pause: the attempt is handed back.
    NotReady,
    /// The provider went away during this call: the attempt is handed back. It counts if that happened before
    /// to the same upload.
    WentAway {
        /// The cause, in one sentence.
        message: String,
    },
    /// The provider is reachable, or uploads no longer wait for it: the attempt has failed.
    Failed {
        /// Kind of failure.
        kind: FailureKind,
        /// The cause, in one sentence.
        message: String,
    },
}

/// A period in which no call succeeds. Probes may succeed meanwhile.
struct Outage {
    since: jiff::Timestamp,
    began: Instant,
    /// When a probe last succeeded, if calls have been admitted since then.
    admitting_since: Option<Instant>,
}

/// How a call gets its place among those in flight.
enum Turn<'a> {
    /// It takes this number of permits.
    Permits(u32),
    /// It takes a turn of its owner.
    Of(&'a Owner),
}

/// Guards one provider; shared by all workers of a pipeline. It needs a local task set, as in an actix
/// system.
pub struct ProviderGate {
    provider: Arc<dyn Provider>,
    profile: ProviderProfile,
    vision: CallLimiter,
    embedding: CallLimiter,
    /// The places of embeddings. Descriptions need none: the queue of uploads lets owners take turns.
    embedding_turns: Turns,
    switcher: ModelSwitcher,
    /// Most characters of a text to embed.
    embedding_max_chars: usize,
    call_timeout: Duration,
    /// Limit of a call for which the model may have to be loaded.
    first_call_timeout: Duration,
    /// Longest outage that uploads wait for; zero: for ever.
    give_up_after: Duration,
    state: watch::Sender<ProviderState>,
    /// Whether the background task that probes is running.
    probing: AtomicBool,
    /// Number of consecutive calls that the provider answered with a request for a pause.
    pauses_asked: AtomicU32,
    outage: Mutex<Option<Outage>>,
    /// A kind of call that found a misconfiguration which probes do not see. A trial call must succeed before
    /// calls are admitted again.
    needs_trial: Mutex<Option<CallKind>>,
    clock: Clock,
}

impl ProviderGate {
    /// A gate in front of `provider`, which admits no call before [`ProviderGate::start`].
    pub fn new(provider: Arc<dyn Provider>, config: &Config, clock: Clock) -> Arc<Self> {
        let profile = provider.profile();
        let concurrency = profile.concurrency(config);
        Arc::new(Self {
            provider,
            profile,
            vision: CallLimiter::new(concurrency.vision),
            embedding: CallLimiter::new(concurrency.embedding),
            embedding_turns: Turns::new(concurrency.embedding),
            switcher: ModelSwitcher::new(concurrency.swap_batch),
            embedding_max_chars: config.provider.embedding_max_chars as usize,
            call_timeout: config.provider.request_timeout,
            first_call_timeout: config.provider.first_request_timeout.max(config.provider.request_timeout),
            give_up_after: config.provider.give_up_after,
            state: watch::Sender::new(ProviderState::Starting),
            probing: AtomicBool::new(false),
            pauses_asked: AtomicU32::new(0),
            outage: Mutex::new(None),
            needs_trial: Mutex::new(None),
            clock,
        })
    }

    /// Probes the provider. If the probe fails, goes on probing in the background.
    pub async fn start(self: &Arc<Self>) {
        match self.probe().await {
            Ok(()) => self.set_state(ProviderState::Ready),
            Err(error) => {
                let pause = requested_pause(&error);
                self.set_unavailable(error, pause);
            }
        }
    }

    /// State of the provider, and every change of it.
    pub fn state(&self) -> watch::Receiver<ProviderState> {
        self.state.subscribe()
    }

    /// Identity of the provider.
    pub fn identity(&self) -> Identity {
        self.provider.identity()
    }

    /// How the provider wants to be called and presented, as of the start.
    pub fn profile(&self) -> &ProviderProfile {
        &self.profile
    }

    /// Asks for a description. With `alone`, no other description is in flight meanwhile: for an upload
    /// during whose call the provider went away before, so that no other upload is affected if that happens
    /// again.
    ///
    /// # Errors
    /// [`CallError`] says how the attempt ends.
    pub async fn describe(
        self: &Arc<Self>,
        request: Arc<DescribeRequest>,
        alone: bool,
    ) -> Result<Described, CallError> {
        let permits = if alone { self.vision.max_calls } else { 1 };
        // A video is one call for each frame, and one that merges their descriptions.
        let more_calls = if request.frame_seconds.is_empty() { 0 } else { request.pictures.len() as u32 };
        let call = || self.provider.describe(request);
        let mut described = self.call(CallKind::Vision, Turn::Permits(permits), more_calls, call).await?;
        // A text may come from a hostile picture, and its readers may be terminals.
        described.text = text::plain(described.text);
        described.changed = described.changed.map(text::plain);
        for object in &mut described.objects {
            object.label = text::plain(std::mem::take(&mut object.label));
        }
        if described.text.trim().is_empty() {
            return Err(bad_answer("the provider answered with an empty description"));
        }
        Ok(described)
    }

    fn limiter(&self, kind: CallKind) -> &CallLimiter {
        match kind {
            CallKind::Vision => &self.vision,
            CallKind::Embedding | CallKind::Query => &self.embedding,
        }
    }

    /// Makes a call once it may run. It gets the time of `more_calls` further ones.
    async fn call<'a, T>(
        self: &'a Arc<Self>,
        kind: CallKind,
        turn: Turn<'_>,
        more_calls: u32,
        call: impl FnOnce() -> BoxFuture<'a, Result<T, ProviderError>>,
    ) -> Result<T, CallError> {
        self.check_ready()?;
        let limiter = self.limiter(kind);
        let mut permit = self.switcher.register(kind);
        let _in_flight = match turn {
            Turn::Permits(permits) => {
                let permits = limiter.permits.acquire_many(permits).await;
                (Some(permits.map_err(|_| CallError::NotReady)?), None)
            }
            Turn::Of(owner) => (None, self.embedding_turns.take(owner, kind == CallKind::Query).await),
        };
        let switches = permit.acquire().await;
        // The provider may have gone away while this call waited.
        self.check_ready()?;
        let loaded = limiter.is_loaded() && !switches;
        let limit = if loaded { self.call_timeout } else { self.first_call_timeout };
        let limit = limit + self.call_timeout * more_calls;
        let answer = timeout(limit, call()).await;
        if let Ok(Ok(_) | Err(ProviderError::BadAnswer { .. })) = answer {
            limiter.set_loaded();
            self.pauses_asked.store(0, Ordering::Relaxed);
            *self.outage.lock() = None;
        } else {
            limiter.set_not_loaded();
        }
        let (kind, message) = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(ProviderError::BadAnswer { message })) => return Err(bad_answer(message)),
            Ok(Err(ProviderError::ServerFault { message })) => {
                return Err(CallError::Failed { kind: FailureKind::ServerFault, message });
            }
            Ok(Err(ProviderError::Misconfigured { message })) => {
                return Err(self.verify_misconfigured(kind, message).await);
            }
            // The provider is away by its own account, which says nothing about this request.
            Ok(Err(ProviderError::Unreachable { message, retry_after: Some(pause) })) => {
                let pause = pause.max(self.next_pause()).min(MAX_RETRY_AFTER);
                self.set_unavailable(ProviderError::Unreachable { message, retry_after: None }, Some(pause));
                // The gate may have given up by now.
                return Err(self.check_ready().err().unwrap_or(CallError::NotReady));
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
            Err(error) if is_misconfigured(&error) => {
                self.set_unavailable(error, None);
                Err(CallError::NotReady)
            }
            Err(error) => {
                let away = ProviderError::Unreachable { message: message.clone(), retry_after: None };
                self.set_unavailable(away, requested_pause(&error));
                Err(CallError::WentAway { message })
            }
        }
    }

    /// Shortest pause before the next call to a provider that asked for one. It grows with each consecutive
    /// request, because the probes of such a provider succeed, so that only calls can find out whether it has
    /// recovered.
    fn next_pause(&self) -> Duration {
        // Of calls in flight at the same time, only the first one counts.
        let before = if matches!(*self.state.borrow(), ProviderState::Ready) {
            self.pauses_asked.fetch_add(1, Ordering::Relaxed)
        } else {
            0
        };
        (MIN_PAUSE * (1 << before.min(8))).min(MAX_PAUSE)
    }

    fn check_ready(&self) -> Result<(), CallError> {
        let state = self.state.borrow();
        if let Some(message) = state.gave_up() {
            return Err(CallError::Failed { kind: FailureKind::ProviderAway, message });
        }
        if *state == ProviderState::Ready { Ok(()) } else { Err(CallError::NotReady) }
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        timeout(PROBE_TIMEOUT, caught(async { self.provider.probe().await })).await.unwrap_or_else(|_| {
            Err(ProviderError::Unreachable {
                message: format!("the provider did not answer a probe within {} s", PROBE_TIMEOUT.as_secs()),
                retry_after: None,
            })
        })
    }

    /// Decides by a trial call whether a misconfiguration that a call found concerns all calls. A filter in
    /// front of a model may refuse a single picture or text in the same way.
    async fn verify_misconfigured(self: &Arc<Self>, kind: CallKind, message: String) -> CallError {
        // Another call may have made the trial meanwhile.
        if let Err(error) = self.check_ready() {
            return error;
        }
        if self.trial(kind).await.is_ok() {
            return bad_answer(format!("{message} (only this request is answered so)"));
        }
        *self.needs_trial.lock() = Some(kind);
        self.set_unavailable(ProviderError::Misconfigured { message }, None);
        CallError::NotReady
    }

    /// Makes a small call of a kind. A bad answer and a fault are a success here: the provider is configured.
    async fn trial(&self, kind: CallKind) -> Result<(), ProviderError> {
        let call = async {
            match kind {
                CallKind::Vision => self.provider.describe(Arc::new(analysis::trial())).await.map(drop),
                CallKind::Embedding | CallKind::Query => {
                    self.provider.embed("a red disc".into()).await.map(drop)
                }
            }
        };
        match timeout(self.first_call_timeout, caught(call)).await {
            Ok(Err(ProviderError::BadAnswer { .. } | ProviderError::ServerFault { .. })) => Ok(()),
            Ok(answer) => answer,
            Err(_) => Err(ProviderError::Unreachable {
                message: format!("no answer within {} s", self.first_call_timeout.as_secs_f32()),
                retry_after: None,
            }),
        }
    }

    fn set_state(&self, state: ProviderState) {
        self.state.send_if_modified(|current| {
            let changed = *current != state;
            if changed {
                match state.waiting() {
                    Some(sentence) => log::warn!("{sentence}"),
                    None => log::info!("provider {}: {state:?}", self.provider.identity().provider),
                }
                *current = state;
            }
            changed
        });
    }

    /// Stops admitting calls, and starts to probe in the background, the first time after `pause`.
    fn set_unavailable(self: &Arc<Self>, error: ProviderError, pause: Option<Duration>) {
        self.vision.set_not_loaded();
        self.embedding.set_not_loaded();
        // The first report of an outage is kept, except that a misconfiguration replaces it.
        let first = matches!(*self.state.borrow(), ProviderState::Starting | ProviderState::Ready);
        if first || is_misconfigured(&error) {
            self.record(error);
            self.give_up_if_due();
        }
        if !self.probing.swap(true, Ordering::AcqRel) {
            let gate = Arc::downgrade(self);
            actix_rt::spawn(async move {
                let mut interval = MIN_PAUSE;
                sleep(pause.unwrap_or_else(|| with_jitter(interval))).await;
                loop {
                    // The task ends with the gate.
                    let Some(gate) = gate.upgrade() else { return };
                    let Err(pause) = gate.probe_again().await else { return };
                    drop(gate);
                    interval = (interval * 2).min(MAX_PAUSE);
                    sleep(with_jitter(interval).max(pause.unwrap_or_default())).await;
                }
            });
        }
    }

    /// Probes, and admits calls again if that succeeds.
    ///
    /// # Errors
    /// The pause that the provider asked for, if any.
    async fn probe_again(&self) -> Result<(), Option<Duration>> {
        let mut answer = self.probe().await;
        let needs_trial = *self.needs_trial.lock();
        if let (Ok(()), Some(kind)) = (&answer, needs_trial) {
            answer = self.trial(kind).await;
        }
        let Err(error) = answer else {
            *self.needs_trial.lock() = None;
            if let Some(outage) = self.outage.lock().as_mut() {
                outage.admitting_since = Some(Instant::now());
            }
            self.probing.store(false, Ordering::Release);
            self.set_state(ProviderState::Ready);
            return Ok(());
        };
        let pause = requested_pause(&error);
        if is_misconfigured(&error) {
            self.record(error);
        }
        self.give_up_if_due();
        Err(pause)
    }

    /// Gives up if the outage lasts longer than uploads wait.
    fn give_up_if_due(&self) {
        let due = self.outage.lock().as_ref().is_some_and(|it| it.began.elapsed() >= self.give_up_after);
        let state = self.state.borrow().clone();
        if let ProviderState::Away { since, message } = state
            && !self.give_up_after.is_zero()
            && due
        {
            self.set_state(ProviderState::GaveUp { since, message });
        }
    }

    /// Begins an outage. It continues the last one if calls were admitted only for a short time in between.
    fn begin_outage(&self) -> jiff::Timestamp {
        let mut outage = self.outage.lock();
        let is_recent =
            |it: &Outage| it.admitting_since.is_none_or(|since| since.elapsed() <= MAX_RETRY_AFTER);
        let (since, began) = match outage.take().filter(is_recent) {
            Some(last) => (last.since, last.began),
            None => (self.clock.now(), Instant::now()),
        };
        *outage = Some(Outage { since, began, admitting_since: None });
        since
    }

    /// Sets the state to what an error means.
    fn record(&self, error: ProviderError) {
        let since = match &*self.state.borrow() {
            ProviderState::Away { since, .. }
            | ProviderState::GaveUp { since, .. }
            | ProviderState::Misconfigured { since, .. } => *since,
            ProviderState::Starting | ProviderState::Ready => self.begin_outage(),
        };
        self.set_state(match error {
            ProviderError::Misconfigured { message } => ProviderState::Misconfigured { since, message },
            ProviderError::Unreachable { message, .. }
            | ProviderError::TimedOut { message }
            | ProviderError::BadAnswer { message }
            | ProviderError::ServerFault { message } => ProviderState::Away { since, message },
        });
    }
}

/// Turns a panic into an error. It must not end the background task, which alone finds out that the provider
/// is back.
async fn caught<T>(call: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(|_| {
        Err(ProviderError::Unreachable {
            message: "the code that asks the provider panicked; the log tells where".into(),
            retry_after: None,
        })
    })
}

/// The pause that a server asked for, at most `MAX_RETRY_AFTER`.
fn requested_pause(error: &ProviderError) -> Option<Duration> {
    match error {
        ProviderError::Unreachable { retry_after, .. } => retry_after.map(|it| it.min(MAX_RETRY_AFTER)),
        ProviderError::TimedOut { .. }
        | ProviderError::Misconfigured { .. }
        | ProviderError::BadAnswer { .. }
        | ProviderError::ServerFault { .. } => None,
    }
}

fn is_misconfigured(error: &ProviderError) -> bool {
    matches!(error, ProviderError::Misconfigured { .. })
}

fn bad_answer(message: impl Into<String>) -> CallError {
    CallError::Failed { kind: FailureKind::BadAnswer, message: message.into() }
}

/// Lengthens an interval by up to a quarter, so that the probes of several clients of one server spread out.
fn with_jitter(interval: Duration) -> Duration {
    interval + interval.mul_f32(fastrand::f32() / 4.0)
}
