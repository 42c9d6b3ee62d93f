//! Descriptions of one provider and embeddings of another.

use std::sync::Arc;

use super::{
    BoxFuture, DescribeRequest, Described, Identity, Provider, ProviderError, ProviderProfile, PullProgress,
    Report, Role,
};
use crate::media::VisionSpec;

/// A provider made of two, for a vendor that offers descriptions or embeddings, but not both.
pub struct Pair {
    vision: Arc<dyn Provider>,
    embedding: Arc<dyn Provider>,
}

impl Pair {
    /// Describes with `vision` and embeds with `embedding`.
    pub fn new(vision: Arc<dyn Provider>, embedding: Arc<dyn Provider>) -> Self {
        Self { vision, embedding }
    }
}

impl Provider for Pair {
    fn identity(&self) -> Identity {
        let (vision, embedding) = (self.vision.identity(), self.embedding.identity());
        Identity {
            provider: format!("{}+{}", vision.provider, embedding.provider),
            embedding_model: embedding.embedding_model,
            embedding_digest: embedding.embedding_digest,
            dimensions: embedding.dimensions,
            ..vision
        }
    }

    fn profile(&self) -> ProviderProfile {
        let (vision, embedding) = (self.vision.profile(), self.embedding.profile());
        ProviderProfile {
            embedding_concurrency: embedding.embedding_concurrency,
            unrelated_below: embedding.unrelated_below,
            models_swap: false,
            ..vision
        }
    }

    fn vision(&self, configured: VisionSpec) -> VisionSpec {
        self.vision.vision(configured)
    }

    fn describe(&self, request: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
        self.vision.describe(request)
    }

    fn embed(&self, text: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
        self.embedding.embed(text)
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async {
            self.vision.probe().await?;
            self.embedding.probe().await
        })
    }

    fn report(&self) -> BoxFuture<'_, Report> {
        Box::pin(async {
            let (vision, embedding) = (self.vision.report().await, self.embedding.report().await);
            let provider = self.identity().provider;
            let servers = vision.servers.into_iter().chain(embedding.servers).collect();
            let vision = vision.models.into_iter().filter(|it| it.role == Role::Vision);
            let embedding = embedding.models.into_iter().filter(|it| it.role == Role::Embedding);
            Report { provider, servers, models: vision.chain(embedding).collect() }
        })
    }

    fn pull<'a>(
        &'a self,
        model: &'a str,
        progress: &'a mut (dyn FnMut(PullProgress) + Send),
    ) -> BoxFuture<'a, Result<(), ProviderError>> {
        let embeds = self.embedding.identity().embedding_model == model;
        if embeds { &self.embedding } else { &self.vision }.pull(model, progress)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::analysis::trial;

    struct OnlyDescribes;

    impl Provider for OnlyDescribes {
        fn identity(&self) -> Identity {
            let (provider, vision_model) = ("describer".into(), "seer".into());
            Identity { provider, vision_model, ..Identity::default() }
        }

        fn profile(&self) -> ProviderProfile {
            ProviderProfile { vision_concurrency: 4, ..ProviderProfile::default() }
        }

        fn describe(&self, _: Arc<DescribeRequest>) -> BoxFuture<'_, Result<Described, ProviderError>> {
            let described = Described { text: "A disc.".into(), objects: Vec::new(), changed: None };
            Box::pin(std::future::ready(Ok(described)))
        }

        fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
            Box::pin(std::future::ready(Ok(())))
        }
    }

    struct OnlyEmbeds;

    impl Provider for OnlyEmbeds {
        fn identity(&self) -> Identity {
            let (provider, embedding_model) = ("embedder".into(), "words".into());
            Identity { provider, embedding_model, dimensions: 1, ..Identity::default() }
        }

        fn profile(&self) -> ProviderProfile {
            ProviderProfile { embedding_concurrency: 7, ..ProviderProfile::default() }
        }

        fn embed(&self, _: String) -> BoxFuture<'_, Result<Vec<f32>, ProviderError>> {
            Box::pin(std::future::ready(Ok(vec![1.0])))
        }

        fn probe(&self) -> BoxFuture<'_, Result<(), ProviderError>> {
            let message = "embedder is away".to_owned();
            Box::pin(std::future::ready(Err(ProviderError::Unreachable { message, retry_after: None })))
        }
    }

    #[test]
    fn a_pair_describes_with_one_provider_and_embeds_with_the_other() {
        let pair = Pair::new(Arc::new(OnlyDescribes), Arc::new(OnlyEmbeds));
        let described = pair.describe(Arc::new(trial())).now_or_never().expect("at once");
        assert_eq!(described.map(|it| it.text).as_deref(), Ok("A disc."));
        assert_eq!(pair.embed("words".into()).now_or_never(), Some(Ok(vec![1.0])));
        let identity = pair.identity();
        assert_eq!((identity.provider.as_str(), identity.dimensions), ("describer+embedder", 1));
        assert_eq!([identity.vision_model, identity.embedding_model], ["seer", "words"]);
        let profile = pair.profile();
        assert_eq!((profile.vision_concurrency, profile.embedding_concurrency), (4, 7));
        let probed = pair.probe().now_or_never().expect("at once").expect_err("one of them is away");
        assert_eq!(probed.message(), "embedder is away");
        let report = pair.report().now_or_never().expect("at once");
        assert_eq!(report.models.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["seer", "words"]);
        assert_eq!(report.problems().collect::<Vec<_>>(), ["embedder is away"]);
    }

    #[test]
    fn a_provider_says_what_it_cannot_do() {
        let embedded = OnlyDescribes.embed("words".into()).now_or_never().expect("at once");
        assert_eq!(embedded.expect_err("no").message(), "the provider describer cannot embed texts");
        let described = OnlyEmbeds.describe(Arc::new(trial())).now_or_never().expect("at once");
        assert_eq!(described.expect_err("no").message(), "the provider embedder cannot describe pictures");
        let pulled = OnlyEmbeds.pull("model", &mut |_| {}).now_or_never().expect("at once");
        assert_eq!(pulled.expect_err("no").message(), "the provider embedder cannot fetch models");
    }
}
