//! A provider that does as it is told.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use mediamill_actors::analysis::{DescribeRequest, Described, Identity, Provider, ProviderError};
use tokio::time::Instant;

/// What a call does instead of answering as usual.
#[derive(Debug, Clone)]
pub enum Act {
    /// It gives no sound answer.
    Fail,
    /// The code panics.
    Panic,
    /// The server dies of it, and is back after this time.
    Kill(Duration),
    /// It asks to be called again after this time.
    Later(Duration),
    /// It never answers.
    Hang,
    /// It answers this.
    Say(String),
}

/// What is laid out for a file's calls, in order.
type Plans = Mutex<HashMap<String, VecDeque<Act>>>;

/// Describes whatever it is shown, except pictures whose names begin with `bad`.
pub struct Scripted {
    there: AtomicBool,
    misconfigured: AtomicBool,
    forgiving: AtomicBool,
    probe_panics: AtomicBool,
    identity_panics: AtomicBool,
    /// How often its embedding model was changed.
    embedding_models: AtomicUsize,
    /// How long a description and an embedding take.
    takes: Mutex<(Duration, Duration)>,
    /// How many descriptions were asked for.
    pub described: AtomicUsize,
    /// When which file was asked about.
    asked: Mutex<Vec<(Instant, String)>>,
    /// How many pictures each question showed, and from which seconds.
    shown: Mutex<Vec<(usize, Vec<f64>)>>,
    /// When it was probed.
    probed: Mutex<Vec<Instant>>,
    /// How many calls have not ended.
    running: AtomicUsize,
    back_at: Mutex<Option<Instant>>,
    describing: Plans,
    embedding: Plans,
}

/// A call that is under way; one that is aborted ends too.
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
    /// How long descriptions and embeddings take from now on.
    pub fn takes(&self, describing: Duration, embedding: Duration) {
        *self.takes.lock().expect("not poisoned") = (describing, embedding);
    }

    /// How many pictures each question showed, and from which seconds.
    pub fn shown(&self) -> Vec<(usize, Vec<f64>)> {
        self.shown.lock().expect("not poisoned").clone()
    }

    /// Goes away, or comes back.
    pub fn is_there(&self, there: bool) {
        self.there.store(there, Ordering::Relaxed);
    }

    /// Says from now on that it is not set up.
    pub fn is_misconfigured(&self) {
        self.misconfigured.store(true, Ordering::Relaxed);
    }

    /// Is set up after all.
    pub fn is_set_up(&self) {
        self.misconfigured.store(false, Ordering::Relaxed);
    }

    /// Describes every picture from now on.
    pub fn is_forgiving(&self) {
        self.forgiving.store(true, Ordering::Relaxed);
    }

    /// Panics in probes from now on, or no more.
    pub fn probe_panics(&self, panics: bool) {
        self.probe_panics.store(panics, Ordering::Relaxed);
    }

    /// Panics the next time that somebody wants to know who it is.
    pub fn identity_panics_once(&self) {
        self.identity_panics.store(true, Ordering::Relaxed);
    }

    /// Embeds with another model from now on.
    pub fn changes_embedding_model(&self) {
        self.embedding_models.fetch_add(1, Ordering::Relaxed);
    }

    /// Lays out what the next descriptions of a file do.
    pub fn describing(&self, name: &str, acts: &[Act]) {
        lay_out(&self.describing, name, acts);
    }

    /// Lays out what the next embeddings of a file's description do.
    pub fn embedding(&self, name: &str, acts: &[Act]) {
        lay_out(&self.embedding, name, acts);
    }

    /// Which files were asked about, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").iter().map(|(_, name)| name.clone()).collect()
    }

    /// When a file was asked about.
    pub fn asked_at(&self, name: &str) -> Vec<Instant> {
        let asked = self.asked.lock().expect("not poisoned");
        asked.iter().filter(|(_, it)| it == name).map(|(at, _)| *at).collect()
    }

    /// When it was probed.
    pub fn probed(&self) -> Vec<Instant> {
        self.probed.lock().expect("not poisoned").clone()
    }

    /// How many calls are under way.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Does what is laid out, or gives the usual answer.
    async fn act(&self, act: Option<Act>, usual: String) -> Result<String, ProviderError> {
        self.answer()?;
        match act {
            None => Ok(usual),
            Some(Act::Say(text)) => Ok(text),
            Some(Act::Fail) => Err(ProviderError::BadAnswer { message: "it was told to fail".into() }),
            Some(Act::Later(time)) => Err(ProviderError::Unreachable {
                message: "429: too many requests".into(),
                retry_after: Some(time),
            }),
            Some(Act::Hang) => std::future::pending().await,
            Some(Act::Panic) => unreachable!("it was told to panic"),
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
        assert!(!self.identity_panics.swap(false, Ordering::Relaxed), "it was told to panic");
        Identity {
            provider: "scripted".into(),
            vision_model: "v".into(),
            embedding_model: "e".repeat(1 + self.embedding_models.load(Ordering::Relaxed)),
            dimensions: 2,
            prompt_version: 1,
            ..Identity::default()
        }
    }

    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        self.described.fetch_add(1, Ordering::Relaxed);
        async move {
            let _running = Running::begin(&self.running);
            // A trial has no name.
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
                let look = request.variation + 1;
                let message = format!("nothing was said of {name} at look {look}");
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
            assert!(!panics, "the probe was told to panic");
            self.answer()
        }
        .boxed()
    }
}

fn lay_out(plans: &Plans, name: &str, acts: &[Act]) {
    plans.lock().expect("not poisoned").entry(name.into()).or_default().extend(acts.iter().cloned());
}

/// Takes out what is laid out for the next call of a file that is so.
fn next(plans: &Plans, so: impl Fn(&str) -> bool) -> Option<Act> {
    let mut plans = plans.lock().expect("not poisoned");
    plans.iter_mut().find(|(name, acts)| so(name) && !acts.is_empty())?.1.pop_front()
}
