//! The engine's configuration: one value, checked at the start. Every section and key has its default.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{analysis, media};

/// All that the engine can be told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where state lies.
    pub store: Store,
    /// What describes and embeds.
    pub provider: Provider,
    /// How many uploads at once.
    pub workers: Workers,
    /// How progress is read.
    pub monitor: Monitor,
    /// How long events are kept.
    pub events: Events,
    /// What the provider sees.
    pub vision: Vision,
    /// What is taken in.
    pub limits: Limits,
}

/// Section `store`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The folder of store, thumbnails and stored originals. Empty: the host must set it; the program takes the platform's data folder.
    pub data_dir: PathBuf,
    /// sled's cache in MiB; it may use about three times as much memory. 8 to 65536.
    pub cache_mb: u64,
}

/// Section `provider`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// Which provider.
    pub kind: ProviderKind,
    /// Where the model server is: `http://` or `https://`, without credentials. `None`: where such a server listens on this machine by
    /// itself, `http://127.0.0.1:11434` for `ollama` and `http://127.0.0.1:8080/v1` for `openai`. An address without a path gets `/v1` for `openai`.
    pub base_url: Option<String>,
    /// Where the server of the embedding model is, if it is another one. `None`: `base_url`.
    pub embedding_base_url: Option<String>,
    /// Model that describes. `None`: `qwen2.5vl:7b` for `ollama`; `openai` needs one.
    pub vision_model: Option<String>,
    /// Model that embeds. `None`: `bge-m3` for `ollama`; `openai` needs one.
    pub embedding_model: Option<String>,
    /// Length of the vectors, 16 to 4096. `None`: what the embedding model has, if it is a known one.
    pub embedding_dimensions: Option<u32>,
    /// Most characters of a text that are embedded, 100 to 100000: models cut at some hundred to some thousand tokens.
    pub embedding_max_chars: u32,
    /// Name of the environment variable that holds the server's key. `None`: no key is sent.
    pub api_key_env: Option<String>,
    /// Language of the descriptions, by its English name.
    pub language: String,
    /// How freely the model chooses its words, 0 to 2.
    pub temperature: f32,
    /// Most tokens of the description of a picture, or of one frame of a video: 16 to 32768.
    pub max_image_tokens: u32,
    /// Most tokens of the description of a video, 16 to 32768.
    pub max_video_tokens: u32,
    /// Tokens that `ollama` makes room for, picture and answer together: 1024 to 1048576. Other servers fix it when they start.
    pub context_tokens: u32,
    /// Embeddings that are collected before the server has to change from the vision model to the embedding model and back, 1 to 256; 1: no
    /// collecting. `None`: 8 for `ollama` with both models on one server, otherwise 1.
    pub swap_batch: Option<NonZeroU32>,
    /// Descriptions asked for at once. `None`: one for each processor with `builtin`, otherwise 1.
    pub vision_concurrency: Option<NonZeroU32>,
    /// Embeddings asked for at once.
    pub embedding_concurrency: NonZeroU32,
    /// Longest time until the server is connected to.
    #[serde(rename = "connect_timeout_ms", with = "millis")]
    pub connect_timeout: Duration,
    /// Longest call.
    #[serde(rename = "request_timeout_ms", with = "millis")]
    pub request_timeout: Duration,
    /// Longest call while the server may still be loading its model: the first one, and one after some minutes of quiet or a time-out.
    #[serde(rename = "first_request_timeout_ms", with = "millis")]
    pub first_request_timeout: Duration,
    /// How long a provider that is away is waited for; zero: for ever.
    #[serde(rename = "give_up_after_ms", with = "millis")]
    pub give_up_after: Duration,
}

/// The providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Basic automatic tagging inside this process; needs no server and no network.
    #[default]
    Builtin,
    /// A server of Ollama's own interface.
    Ollama,
    /// Any server of OpenAI's interface: llama.cpp, vLLM, LM Studio, a hosted one.
    OpenAi,
}

/// Section `workers`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Workers {
    /// Uploads worked on at once, 1 to 4096. `None`: twice the processors, and at least two more than `provider.vision_concurrency`, so that
    /// pictures are prepared ahead; and as many more as wait while `provider.swap_batch` collects embeddings.
    pub concurrency: Option<NonZeroU32>,
}

/// Section `monitor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Monitor {
    /// Time between two ticks, 10 ms to 1 min.
    #[serde(rename = "tick_ms", with = "millis")]
    pub tick: Duration,
    /// Whether a change in the store may bring the next tick forward.
    pub nudge: bool,
}

/// Section `events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Events kept for each owner, at least 100; some more may be.
    pub keep: u64,
}

/// Section `vision`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vision {
    /// Most pixels that the provider sees.
    pub max_pixels: u64,
    /// Longest side that the provider sees, in pixels.
    pub max_side_px: u32,
    /// Both sides are a multiple of this many pixels, and at least two of it.
    pub patch_px: u32,
}

/// Section `limits`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most files of a batch whose bytes are handed over; files in place have no such limit.
    pub max_batch_files: u32,
    /// Most bytes of a batch whose bytes are handed over.
    pub max_batch_bytes: u64,
    /// Largest image file in bytes.
    pub max_file_bytes: u64,
    /// Largest video file in bytes.
    pub max_video_bytes: u64,
    /// Most pixels of a picture.
    pub max_pixels: u64,
    /// Longest side of a picture in pixels.
    pub max_side_px: u32,
    /// Memory that all decodes share, in MiB.
    pub decode_memory_mb: u64,
    /// Most memory that the reading of one video may take out of it, in MiB; 8K needs about 640.
    pub video_memory_mb: u64,
    /// Longest that the reading of one video may take before it is given up.
    #[serde(rename = "video_timeout_ms", with = "millis")]
    pub video_timeout: Duration,
    /// How often the process may die while an upload alone is worked on; 0: no limit.
    pub max_interruptions: u32,
    /// Most uploads that may wait.
    pub max_queued_uploads: u64,
    /// Free disk space in MiB below which nothing is taken in.
    pub min_free_disk_mb: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self { data_dir: PathBuf::new(), cache_mb: 64 }
    }
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            kind: ProviderKind::Builtin,
            base_url: None,
            embedding_base_url: None,
            vision_model: None,
            embedding_model: None,
            embedding_dimensions: None,
            embedding_max_chars: 1500,
            api_key_env: None,
            language: "English".into(),
            temperature: 0.3,
            max_image_tokens: 512,
            max_video_tokens: 2048,
            context_tokens: 8192,
            swap_batch: None,
            vision_concurrency: None,
            embedding_concurrency: NonZeroU32::MIN.saturating_add(2),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(300),
            first_request_timeout: Duration::from_secs(600),
            give_up_after: Duration::ZERO,
        }
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self { tick: Duration::from_millis(300), nudge: true }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self { keep: 100_000 }
    }
}

impl Default for Vision {
    fn default() -> Self {
        Self { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let media = media::Limits::DEFAULT;
        Self {
            max_batch_files: 1000,
            max_batch_bytes: 10 << 30,
            max_file_bytes: media.max_image_bytes,
            max_video_bytes: media.max_video_bytes,
            max_pixels: media.max_pixels,
            max_side_px: media.max_side_px,
            decode_memory_mb: media.decode_memory >> 20,
            video_memory_mb: media.video_memory >> 20,
            video_timeout: media.video_timeout,
            max_interruptions: 3,
            max_queued_uploads: 1_000_000,
            min_free_disk_mb: 256,
        }
    }
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// A sentence that names the first key whose value is out of its range, and the range.
    pub fn validate(&self) -> Result<(), String> {
        fn within<T: PartialOrd + std::fmt::Display>(
            key: &str,
            value: T,
            low: T,
            high: T,
        ) -> Result<(), String> {
            if value >= low && value <= high {
                Ok(())
            } else {
                Err(format!("{key} is {value}, but must be {low} to {high}"))
            }
        }
        let ms = |time: Duration| time.as_millis() as u64;
        if self.store.data_dir.as_os_str().is_empty() {
            return Err("store.data_dir is empty, but must name the folder for all state".into());
        }
        within("store.cache_mb", self.store.cache_mb, 8, 65_536)?;
        self.provider.validate_texts()?;
        if let Some(dimensions) = self.provider.embedding_dimensions {
            within("provider.embedding_dimensions", dimensions, 16, 4096)?;
        }
        within("provider.embedding_max_chars", self.provider.embedding_max_chars, 100, 100_000)?;
        within("provider.temperature", self.provider.temperature, 0.0, 2.0)?;
        within("provider.max_image_tokens", self.provider.max_image_tokens, 16, 32_768)?;
        within("provider.max_video_tokens", self.provider.max_video_tokens, 16, 32_768)?;
        within("provider.context_tokens", self.provider.context_tokens, 1024, 1 << 20)?;
        if let Some(batch) = self.provider.swap_batch {
            within("provider.swap_batch", batch.get(), 1, 256)?;
        }
        if let Some(vision) = self.provider.vision_concurrency {
            within("provider.vision_concurrency", vision.get(), 1, 1024)?;
        }
        within("provider.embedding_concurrency", self.provider.embedding_concurrency.get(), 1, 1024)?;
        within("provider.connect_timeout_ms", ms(self.provider.connect_timeout), 100, 600_000)?;
        within("provider.request_timeout_ms", ms(self.provider.request_timeout), 100, 86_400_000)?;
        within(
            "provider.first_request_timeout_ms",
            ms(self.provider.first_request_timeout),
            100,
            86_400_000,
        )?;
        if let Some(concurrency) = self.workers.concurrency {
            within("workers.concurrency", concurrency.get(), 1, 4096)?;
        }
        within("monitor.tick_ms", ms(self.monitor.tick), 10, 60_000)?;
        within("events.keep", self.events.keep, 100, 1_000_000_000)?;
        within("vision.patch_px", self.vision.patch_px, 1, 128)?;
        within("vision.max_side_px", self.vision.max_side_px, 2 * self.vision.patch_px, 8192)?;
        let least = u64::from(2 * self.vision.patch_px).pow(2);
        within("vision.max_pixels", self.vision.max_pixels, least, 67_108_864)?;
        within("limits.max_batch_files", self.limits.max_batch_files, 1, 1_000_000)?;
        within("limits.max_batch_bytes", self.limits.max_batch_bytes, 1, 1 << 50)?;
        within("limits.max_file_bytes", self.limits.max_file_bytes, 1, 4 << 30)?;
        within("limits.max_video_bytes", self.limits.max_video_bytes, 1, 1 << 40)?;
        within("limits.max_pixels", self.limits.max_pixels, 1, 1_000_000_000)?;
        within("limits.max_side_px", self.limits.max_side_px, 1, 65_535)?;
        within("limits.decode_memory_mb", self.limits.decode_memory_mb, 16, 1 << 20)?;
        within("limits.video_memory_mb", self.limits.video_memory_mb, 96, 1 << 20)?;
        within("limits.video_timeout_ms", ms(self.limits.video_timeout), 1000, 86_400_000)?;
        within("limits.max_queued_uploads", self.limits.max_queued_uploads, 1, 100_000_000)?;
        Ok(())
    }

    /// Descriptions asked for at once.
    pub fn vision_concurrency(&self) -> usize {
        match (self.provider.vision_concurrency, self.provider.kind) {
            (Some(configured), _) => configured.get() as usize,
            (None, ProviderKind::Builtin) => processors(),
            (None, ProviderKind::Ollama | ProviderKind::OpenAi) => 1,
        }
    }

    /// Embeddings that are collected before the server changes models; 1: none.
    pub fn swap_batch(&self) -> usize {
        let one_server = self.provider.embedding_base_url.is_none();
        match (self.provider.swap_batch, self.provider.kind) {
            (Some(configured), _) => configured.get() as usize,
            (None, ProviderKind::Ollama) if one_server => 8,
            (None, ProviderKind::Builtin | ProviderKind::Ollama | ProviderKind::OpenAi) => 1,
        }
    }

    /// Uploads worked on at once.
    pub fn worker_concurrency(&self) -> usize {
        // Whoever waits for an embedding that is collected does nothing else.
        let waiting = self.swap_batch() - 1;
        self.workers.concurrency.map_or_else(
            || (2 * processors()).max(self.vision_concurrency() + 2) + waiting,
            |it| it.get() as usize,
        )
    }
}

impl Provider {
    /// Checks the values that are no numbers.
    fn validate_texts(&self) -> Result<(), String> {
        for (key, url) in [("base_url", &self.base_url), ("embedding_base_url", &self.embedding_base_url)] {
            if let Some(url) = url {
                analysis::check_base_url(url).map_err(|problem| format!("provider.{key} {problem}"))?;
            }
        }
        let names = [
            ("vision_model", self.vision_model.as_deref()),
            ("embedding_model", self.embedding_model.as_deref()),
            ("api_key_env", self.api_key_env.as_deref()),
            ("language", Some(self.language.as_str())),
        ];
        for (key, name) in names {
            let sound =
                |name: &str| !name.trim().is_empty() && name.len() <= 200 && !name.contains(char::is_control);
            if name.is_some_and(|name| !sound(name)) {
                return Err(format!(
                    "provider.{key} is empty, longer than 200 bytes or holds control characters"
                ));
            }
        }
        if self.kind == ProviderKind::OpenAi {
            let models = [("vision_model", &self.vision_model), ("embedding_model", &self.embedding_model)];
            for (key, model) in models {
                if model.is_none() {
                    return Err(format!("provider.{key} must name a model where provider.kind is openai"));
                }
            }
        }
        let embedding = self.embedding_model().filter(|_| self.embedding_dimensions.is_none());
        if let Some(model) = embedding
            && analysis::known_dimensions(model).is_none()
        {
            return Err(format!(
                "provider.embedding_dimensions must be set: how long the vectors of `{model}` are is not known here"
            ));
        }
        Ok(())
    }

    /// Model that describes; `None` with `builtin`.
    pub fn vision_model(&self) -> Option<&str> {
        match self.kind {
            ProviderKind::Builtin => None,
            ProviderKind::Ollama => Some(self.vision_model.as_deref().unwrap_or("qwen2.5vl:7b")),
            ProviderKind::OpenAi => self.vision_model.as_deref(),
        }
    }

    /// Model that embeds; `None` with `builtin`.
    pub fn embedding_model(&self) -> Option<&str> {
        match self.kind {
            ProviderKind::Builtin => None,
            ProviderKind::Ollama => Some(self.embedding_model.as_deref().unwrap_or("bge-m3")),
            ProviderKind::OpenAi => self.embedding_model.as_deref(),
        }
    }
}

/// How many processors this process may use; decoders run one on each.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A duration as a whole number of milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        (time.as_millis() as u64).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { store: Store { data_dir: "/data".into(), ..Store::default() }, ..Config::default() }
    }

    #[test]
    fn the_defaults_are_valid_once_a_data_folder_is_named() {
        assert_eq!(config().validate(), Ok(()));
        assert!(Config::default().validate().is_err_and(|text| text.contains("store.data_dir")));
    }

    #[test]
    fn a_provider_is_refused_with_the_key_that_is_missing_or_wrong() {
        let refused = |change: &dyn Fn(&mut Provider)| {
            let mut config = config();
            config.provider.kind = ProviderKind::Ollama;
            change(&mut config.provider);
            config.validate().err().unwrap_or_default()
        };
        assert_eq!(refused(&|_| {}), "");
        for (change, key) in [
            (&|it: &mut Provider| it.kind = ProviderKind::OpenAi, "provider.vision_model"),
            (&|it: &mut Provider| it.embedding_model = Some("mine".into()), "provider.embedding_dimensions"),
            (&|it: &mut Provider| it.base_url = Some("localhost:11434".into()), "provider.base_url"),
            (&|it: &mut Provider| it.base_url = Some("http://me:secret@host".into()), "provider.base_url"),
            (
                &|it: &mut Provider| it.embedding_base_url = Some("ftp://host".into()),
                "provider.embedding_base_url",
            ),
            (&|it: &mut Provider| it.temperature = f32::NAN, "provider.temperature"),
            (&|it: &mut Provider| it.language = "  ".into(), "provider.language"),
        ] as [(&dyn Fn(&mut Provider), &str); 7]
        {
            let sentence = refused(change);
            assert!(sentence.starts_with(key) && !sentence.contains("secret"), "{key}: {sentence}");
        }
    }

    #[test]
    fn embeddings_are_collected_only_where_one_server_has_both_models() {
        let mut config = config();
        assert_eq!(config.swap_batch(), 1);
        config.provider.kind = ProviderKind::Ollama;
        let workers = config.worker_concurrency();
        assert_eq!(config.swap_batch(), 8);
        config.provider.embedding_base_url = Some("http://other".into());
        assert_eq!((config.swap_batch(), config.worker_concurrency()), (1, workers - 7));
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_its_key() {
        let mut config = config();
        config.monitor.tick = Duration::from_millis(1);
        assert_eq!(config.validate(), Err("monitor.tick_ms is 1, but must be 10 to 60000".into()));
    }
}
