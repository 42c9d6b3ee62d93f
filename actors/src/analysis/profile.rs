//! Facts about a provider that the engine asks for once, before the first call.

use crate::config::{Config, processors};

/// Embeddings collected before a model switch, unless configured.
const SWAP_BATCH: usize = 8;

/// How a provider wants to be called and presented. The default suits a remote model server.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderProfile {
    /// Descriptions in flight at once, 1 to 1024, unless `provider.vision_concurrency` is set. Default: 1.
    pub vision_concurrency: u32,
    /// Embeddings in flight at once, 1 to 1024, unless `provider.embedding_concurrency` is set. Default: 3.
    pub embedding_concurrency: u32,
    /// Whether the provider may have to unload the vision model to load the embedding model. Embeddings are
    /// then collected (`provider.swap_batch`), so that it switches once for several pictures. Default:
    /// `false`.
    pub models_swap: bool,
    /// A sentence that everyone should know who reads the descriptions. Default: none.
    pub notice: Option<String>,
    /// Cosine similarity, -1 to 1, below which a search hit has nothing to do with the query. Default: not
    /// known.
    pub unrelated_below: Option<f32>,
}

impl Default for ProviderProfile {
    fn default() -> Self {
        Self {
            vision_concurrency: 1,
            embedding_concurrency: 3,
            models_swap: false,
            notice: None,
            unrelated_below: None,
        }
    }
}

/// How many calls and uploads are in progress at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Concurrency {
    /// Descriptions in flight.
    pub(crate) vision: usize,
    /// Embeddings in flight.
    pub(crate) embedding: usize,
    /// Embeddings to collect before the provider switches models; 1: none are collected.
    pub(crate) swap_batch: usize,
    /// Uploads in progress.
    pub(crate) workers: usize,
}

impl ProviderProfile {
    /// The concurrency of a pipeline: an explicit value of the configuration wins over the provider's.
    pub(crate) fn concurrency(&self, config: &Config) -> Concurrency {
        let calls = |configured: Option<std::num::NonZeroU32>, own: u32| {
            configured.map_or(own.clamp(1, 1024), |it| it.get()) as usize
        };
        let vision = calls(config.provider.vision_concurrency, self.vision_concurrency);
        let embedding = calls(config.provider.embedding_concurrency, self.embedding_concurrency);
        let swap_batch = match (config.provider.swap_batch, self.models_swap) {
            (Some(configured), _) => configured.get() as usize,
            (None, true) => SWAP_BATCH,
            (None, false) => 1,
        };
        // An upload whose embedding is collected keeps its worker.
        let workers = (2 * processors()).max(vision + 2) + swap_batch - 1;
        let workers = config.workers.concurrency.map_or(workers, |it| it.get() as usize);
        Concurrency { vision, embedding, swap_batch, workers }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn an_explicit_value_of_the_configuration_wins_over_the_providers() {
        let profile = ProviderProfile {
            vision_concurrency: 5,
            embedding_concurrency: 6,
            models_swap: true,
            ..ProviderProfile::default()
        };
        let mut config = Config::default();
        let own = profile.concurrency(&config);
        assert_eq!((own.vision, own.embedding, own.swap_batch), (5, 6, 8));
        assert_eq!(
            own.workers,
            (2 * processors()).max(7) + 7,
            "seven uploads wait while the eighth is collected"
        );
        config.provider.vision_concurrency = NonZeroU32::new(2);
        config.provider.embedding_concurrency = NonZeroU32::new(4);
        config.provider.swap_batch = NonZeroU32::new(1);
        config.workers.concurrency = NonZeroU32::new(9);
        let configured = Concurrency { vision: 2, embedding: 4, swap_batch: 1, workers: 9 };
        assert_eq!(profile.concurrency(&config), configured);
    }

    #[test]
    fn a_provider_that_says_zero_gets_one_call_at_a_time() {
        let profile =
            ProviderProfile { vision_concurrency: 0, embedding_concurrency: 0, ..ProviderProfile::default() };
        let own = profile.concurrency(&Config::default());
        assert_eq!((own.vision, own.embedding), (1, 1));
    }
}
