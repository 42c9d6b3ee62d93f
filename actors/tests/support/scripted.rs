//! A provider that does as it is told.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use mediamill_actors::analysis::{DescribeRequest, Described, Identity, Provider, ProviderError};

/// Describes whatever it is shown, except pictures whose names begin with `bad`.
pub struct Scripted {
    there: AtomicBool,
    misconfigured: AtomicBool,
    forgiving: AtomicBool,
    /// How long a description and an embedding take.
    takes: Mutex<(Duration, Duration)>,
    /// How many descriptions were asked for.
    pub described: AtomicUsize,
}

impl Default for Scripted {
    fn default() -> Self {
        Self {
            there: AtomicBool::new(true),
            misconfigured: AtomicBool::new(false),
            forgiving: AtomicBool::new(false),
            takes: Mutex::default(),
            described: AtomicUsize::new(0),
        }
    }
}

impl Scripted {
    /// How long descriptions and embeddings take from now on.
    pub fn takes(&self, describing: Duration, embedding: Duration) {
        *self.takes.lock().expect("not poisoned") = (describing, embedding);
    }

    /// Goes away, or comes back.
    pub fn is_there(&self, there: bool) {
        self.there.store(there, Ordering::Relaxed);
    }

    /// Says from now on that it is not set up.
    pub fn is_misconfigured(&self) {
        self.misconfigured.store(true, Ordering::Relaxed);
    }

    /// Describes every picture from now on.
    pub fn is_forgiving(&self) {
        self.forgiving.store(true, Ordering::Relaxed);
    }

    fn answer(&self) -> Result<(), ProviderError> {
        if self.misconfigured.load(Ordering::Relaxed) {
            Err(ProviderError::Misconfigured { message: "the key is wrong".into() })
        } else if self.there.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(ProviderError::Unreachable { message: "connection refused".into(), retry_after: None })
        }
    }

    fn lasts(&self) -> (Duration, Duration) {
        *self.takes.lock().expect("not poisoned")
    }
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

    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        self.described.fetch_add(1, Ordering::Relaxed);
        async move {
            tokio::time::sleep(self.lasts().0).await;
            self.answer()?;
            let name = &request.names[0];
            if name.starts_with("bad") && !self.forgiving.load(Ordering::Relaxed) {
                let look = request.variation + 1;
                let message = format!("nothing was said of {name} at look {look}");
                return Err(ProviderError::BadAnswer { message });
            }
            let text =
                format!("A small picture with a pattern of coloured stripes. The file is called {name}.");
            Ok(Described { text, objects: Vec::new(), changed: None })
        }
        .boxed()
    }

    fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        async move {
            tokio::time::sleep(self.lasts().1).await;
            self.answer()?;
            Ok(vec![1.0, text.len() as f32])
        }
        .boxed()
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        std::future::ready(self.answer()).boxed()
    }
}
