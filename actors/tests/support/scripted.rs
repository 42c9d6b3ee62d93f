//! A provider that follows the script of a test.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use mediamill_actors::analysis::{
    DescribeRequest, Described, Identity, Provider, ProviderError, ProviderProfile,
};
use tokio::time::Instant;

/// The behaviour of a call, instead of the usual answer.
#[derive(Debug, Clone)]
pub enum Act {
    /// Gives an invalid answer.
    Fail,
    /// Panics.
    Panic,
    /// Kills the server, which is back after this time.
    Kill(Duration),
    /// Asks for a pause of this time.
    Later(Duration),
    /// Never answers.
    Hang,
    /// Answers with this text.
    Say(String),
}

/// The scripted acts of each file's calls, in order.
type Plans = Mutex<HashMap<String, VecDeque<Act>>>;

/// Describes every picture, except those whose names begin with `bad`.
pub struct Scripted {
    there: AtomicBool,
    misconfigured: AtomicBool,
    forgiving: AtomicBool,
    probe_panics: AtomicBool,
    identity_panics: AtomicBool,
    /// Number of changes of the embedding model.
    embedding_models: AtomicUsize,
    /// Duration of a description and of an embedding.
    takes: Mutex<(Duration, Duration)>,
    /// Number of requests for a description.
    pub described: AtomicUsize,
    /// Time and file name of each request for a description.
    asked: Mutex<Vec<(Instant, String)>>,
    /// Number of pictures in each request for a description, and their seconds.
    shown: Mutex<Vec<(usize, Vec<f64>)>>,
    /// Times of the probes.
    probed: Mutex<Vec<Instant>>,
    /// Number of calls in flight.
    running: AtomicUsize,
    back_at: Mutex<Option<Instant>>,
    describing: Plans,
    embedding: Plans,
}

/// A call in flight. Dropping it ends the call, even if it is aborted.
struct Running<'a>(&'a AtomicUsize);

impl<'a> Running<'a> {
    fn begin(running: &'a AtomicUsize) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Scripted {
    fn default() -> Self {
        Self {
            there: AtomicBool::new(true),
            misconfigured: AtomicBool::new(false),
            forgiving: AtomicBool::new(false),
            probe_panics: AtomicBool::new(false),
            identity_panics: AtomicBool::new(false),
            embedding_models: AtomicUsize::new(0),
            takes: Mutex::default(),
            described: AtomicUsize::new(0),
            asked: Mutex::default(),
            shown: Mutex::default(),
            probed: Mutex::default(),
            running: AtomicUsize::new(0),
            back_at: Mutex::default(),
            describing: Plans::default(),
            embedding: Plans::default(),
        }
    }
}

impl Scripted {
    /// Sets the duration of descriptions and embeddings.
    pub fn takes(&self, describing: Duration, embedding: Duration) {
        *self.takes.lock().expect("not poisoned") = (describing, embedding);
    }

    /// Number of pictures in each request for a description, and their seconds.
    pub fn shown(&self) -> Vec<(usize, Vec<f64>)> {
        self.shown.lock().expect("not poisoned").clone()
    }

    /// Makes it go away, or come back.
    pub fn is_there(&self, there: bool) {
        self.there.store(there, Ordering::Relaxed);
    }

    /// Makes it report a misconfiguration.
    pub fn is_misconfigured(&self) {
        self.misconfigured.store(true, Ordering::Relaxed);
    }

    /// Ends the misconfiguration.
    pub fn is_set_up(&self) {
        self.misconfigured.store(false, Ordering::Relaxed);
    }

    /// Makes it describe also the pictures whose names begin with `bad`.
    pub fn is_forgiving(&self) {
        self.forgiving.store(true, Ordering::Relaxed);
    }

    /// Makes probes panic, or no longer panic.
    pub fn probe_panics(&self, panics: bool) {
        self.probe_panics.store(panics, Ordering::Relaxed);
    }

    /// Makes the next call of `identity` panic.
    pub fn identity_panics_once(&self) {
        self.identity_panics.store(true, Ordering::Relaxed);
    }

    /// Changes the embedding model.
    pub fn changes_embedding_model(&self) {
        self.embedding_models.fetch_add(1, Ordering::Relaxed);
    }

    /// Scripts the next descriptions of a file.
    pub fn describing(&self, name: &str, acts: &[Act]) {
        script(&self.describing, name, acts);
    }

    /// Scripts the next embeddings of a file's description.
    pub fn embedding(&self, name: &str, acts: &[Act]) {
        script(&self.embedding, name, acts);
    }

    /// Files whose descriptions were requested, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").iter().map(|(_, name)| name.clone()).collect()
    }

    /// Times at which a file's description was requested.
    pub fn asked_at(&self, name: &str) -> Vec<Instant> {
        let asked = self.asked.lock().expect("not poisoned");
        asked.iter().filter(|(_, it)| it == name).map(|(at, _)| *at).collect()
    }

    /// Times of the probes.
    pub fn probed(&self) -> Vec<Instant> {
        self.probed.lock().expect("not poisoned").clone()
    }

    /// Number of calls in flight.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Performs the scripted act, or gives the usual answer.
    async fn act(&self, act: Option<Act>, usual: String) -> Result<String, ProviderError> {
        self.answer()?;
        match act {
            None => Ok(usual),
            Some(Act::Say(text)) => Ok(text),
            Some(Act::Fail) => Err(ProviderError::BadAnswer { message: "it was scripted to fail".into() }),
            Some(Act::Later(time)) => Err(ProviderError::Unreachable {
                message: "429: too many requests".into(),
                retry_after: Some(time),
            }),
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Panic) => unreachable!("it was scripted to panic"),
            Some(Act::Kill(time)) => {
                *self.back_at.lock().expect("not poisoned") = Some(Instant::now() + time);
                Err(ProviderError::Unreachable { message: "connection reset".into(), retry_after: None })
            }
        }
    }

    fn answer(&self) -> Result<(), ProviderError> {
        if self.misconfigured.load(Ordering::Relaxed) {
            Err(ProviderError::Misconfigured { message: "the key is wrong".into() })
        } else if self.there.load(Ordering::Relaxed) && self.back_at().is_none_or(|it| it <= Instant::now()) {
            Ok(())
        } else {
            Err(ProviderError::Unreachable { message: "connection refused".into(), retry_after: None })
        }
    }

    fn back_at(&self) -> Option<Instant> {
        *self.back_at.lock().expect("not poisoned")
    }

    fn lasts(&self) -> (Duration, Duration) {
        *self.takes.lock().expect("not poisoned")
    }
}

impl Provider for Scripted {
    fn identity(&self) -> Identity {
        assert!(!self.identity_panics.swap(false, Ordering::Relaxed), "it was scripted to panic");
        Identity {
            provider: "scripted".into(),
            vision_model: "v".into(),
            embedding_model: "e".repeat(1 + self.embedding_models.load(Ordering::Relaxed)),
            dimensions: 2,
            prompt_version: 1,
            ..Identity::default()
        }
    }

    fn profile(&self) -> ProviderProfile {
        ProviderProfile { vision_concurrency: 2, ..ProviderProfile::default() }
    }

    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        self.described.fetch_add(1, Ordering::Relaxed);
        async move {
            let _running = Running::begin(&self.running);
            // A trial request has no name.
            let name = request.names.first().map_or("", String::as_str);
            self.asked.lock().expect("not poisoned").push((Instant::now(), name.into()));
            let shown = (request.pictures.len(), request.frame_seconds.clone());
            self.shown.lock().expect("not poisoned").push(shown);
            let act = next(&self.describing, |it| it == name);
            tokio::time::sleep(self.lasts().0).await;
            let text =
                format!("A small picture with a pattern of coloured stripes. The file is called {name}.");
            let text = self.act(act, text).await?;
            if name.starts_with("bad") && !self.forgiving.load(Ordering::Relaxed) {
                let asked = request.variation + 1;
                let message = format!("{name} has no description at request {asked}");
                return Err(ProviderError::BadAnswer { message });
            }
            Ok(Described { text, objects: Vec::new(), changed: None })
        }
        .boxed()
    }

    fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        async move {
            let _running = Running::begin(&self.running);
            let act = next(&self.embedding, |name| text.contains(name));
            tokio::time::sleep(self.lasts().1).await;
            let text = self.act(act, text).await?;
            Ok(vec![1.0, text.len() as f32])
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        self.probed.lock().expect("not poisoned").push(Instant::now());
        let panics = self.probe_panics.load(Ordering::Relaxed);
        async move {
            assert!(!panics, "the probe was scripted to panic");
            self.answer()
        }
        .boxed()
    }
}

fn script(plans: &Plans, name: &str, acts: &[Act]) {
    plans.lock().expect("not poisoned").entry(name.into()).or_default().extend(acts.iter().cloned());
}

/// Takes the next scripted act of a file whose name matches.
fn next(plans: &Plans, matches: impl Fn(&str) -> bool) -> Option<Act> {
    let mut plans = plans.lock().expect("not poisoned");
    plans.iter_mut().find(|(name, acts)| matches(name) && !acts.is_empty())?.1.pop_front()
}
