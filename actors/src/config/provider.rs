//! Section `provider`, and the facts about each kind of provider.
//!
//! A new kind needs a variant of [`ProviderKind`]; the compiler then asks for its facts here and for its
//! construction in [`analysis::connect`](crate::analysis::connect).

use std::{num::NonZeroU32, time::Duration};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::{address, known_models, millis, millis_of, within};

/// Section `provider`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// Which provider.
    pub kind: ProviderKind,
    /// Address of the model server: `http://` or `https://`, without credentials. `None`: the address at
    /// which such a server listens by default, `http://127.0.0.1:11434` for `ollama` and
    /// `http://127.0.0.1:8080/v1` for `openai`. For `openai`, `/v1` is appended to an address without a path.
    pub base_url: Option<String>,
    /// Address of the embedding model's server, if it is a separate one. `None`: `base_url`.
    pub embedding_base_url: Option<String>,
    /// Model that describes. `None`: `qwen2.5vl:7b` for `ollama`; required for `openai`.
    pub vision_model: Option<String>,
    /// Model that embeds. `None`: `bge-m3` for `ollama`; required for `openai`.
    pub embedding_model: Option<String>,
    /// Length of the vectors, 16 to 4096. `None`: the length of the embedding model's vectors, if the model
    /// is a known one.
    pub embedding_dimensions: Option<u32>,
    /// Most characters of a text that are embedded, 100 to 100000. Models truncate at some hundred to some
    /// thousand tokens.
    pub embedding_max_chars: u32,
    /// Name of the environment variable that holds the server's key. `None`: no key is sent.
    pub api_key_env: Option<String>,
    /// Language of the descriptions, by its English name.
    pub language: String,
    /// Sampling temperature of descriptions, 0 to 2.
    pub temperature: f32,
    /// Most tokens of the description of a picture, or of one frame of a video: 16 to 32768.
    pub max_image_tokens: u32,
    /// Most tokens of the description of a video, 16 to 32768.
    pub max_video_tokens: u32,
    /// Context window that `ollama` allocates, in tokens, for picture and answer together: 1024 to 1048576.
    /// Other servers fix it when they start.
    pub context_tokens: u32,
    /// Embeddings to collect before the server switches from the vision model to the embedding model, 1 to
    /// 256; 1: switch for each embedding. `None`: 8 if the provider switches models
    /// ([`ProviderProfile::models_swap`](crate::analysis::ProviderProfile::models_swap)), otherwise 1.
    pub swap_batch: Option<NonZeroU32>,
    /// Descriptions in flight at once, 1 to 1024. `None`: as many as the provider says; one for each
    /// processor with `builtin`, 1 with `ollama` and `openai`.
    pub vision_concurrency: Option<NonZeroU32>,
    /// Embeddings in flight at once, 1 to 1024. `None`: as many as the provider says; 3 with each of the
    /// kinds.
    pub embedding_concurrency: Option<NonZeroU32>,
    /// Longest time to connect to the server, 100 ms to 10 min.
    #[serde(rename = "connect_timeout_ms", with = "millis")]
    pub connect_timeout: Duration,
    /// Longest call, 100 ms to 24 h.
    #[serde(rename = "request_timeout_ms", with = "millis")]
    pub request_timeout: Duration,
    /// Longest call while the server may still be loading its model, 100 ms to 24 h: the first call, and a
    /// call after some idle minutes or a time-out.
    #[serde(rename = "first_request_timeout_ms", with = "millis")]
    pub first_request_timeout: Duration,
    /// How long uploads wait for a provider that is away; zero: for ever.
    #[serde(rename = "give_up_after_ms", with = "millis")]
    pub give_up_after: Duration,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            kind: ProviderKind::default(),
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
            embedding_concurrency: None,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(300),
            first_request_timeout: Duration::from_secs(600),
            give_up_after: Duration::ZERO,
        }
    }
}

/// The kinds of providers that the configuration can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Basic automatic tagging inside this process, without a server or a network. Needs the feature
    /// `builtin`.
    #[default]
    Builtin,
    /// A server with Ollama's own interface.
    Ollama,
    /// A server with OpenAI's interface: llama.cpp, vLLM, LM Studio, a hosted one.
    OpenAi,
}

impl ProviderKind {
    /// Its name in the configuration and in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Ollama => "ollama",
            Self::OpenAi => "openai",
        }
    }
}

const OLLAMA: ServerDefaults = ServerDefaults {
    base_url: "http://127.0.0.1:11434",
    path: None,
    vision_model: Some("qwen2.5vl:7b"),
    embedding_model: Some("bge-m3"),
};

const OPENAI: ServerDefaults = ServerDefaults {
    base_url: "http://127.0.0.1:8080",
    path: Some("/v1"),
    vision_model: None,
    embedding_model: None,
};

/// The defaults of one kind of model server. The configuration must name a model that has no default.
struct ServerDefaults {
    base_url: &'static str,
    /// Appended to an address without a path.
    path: Option<&'static str>,
    vision_model: Option<&'static str>,
    embedding_model: Option<&'static str>,
}

/// The configured kind, with all that its construction needs, complete and checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ProviderSettings {
    Builtin,
    Ollama(ServerSettings),
    OpenAi(ServerSettings),
}

/// The settings of a client of a model server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ServerSettings {
    pub(crate) base_url: Url,
    /// Address of the embedding model's server, if it is a separate one.
    pub(crate) embedding_base_url: Option<Url>,
    pub(crate) vision_model: String,
    pub(crate) embedding_model: String,
    /// Length of the vectors.
    pub(crate) dimensions: u32,
}

impl Provider {
    /// The settings of the configured kind.
    ///
    /// # Errors
    /// A sentence that begins with the first key that is missing or wrong.
    pub(crate) fn settings(&self) -> Result<ProviderSettings, String> {
        match self.kind {
            ProviderKind::Builtin => Ok(ProviderSettings::Builtin),
            ProviderKind::Ollama => self.server(&OLLAMA).map(ProviderSettings::Ollama),
            ProviderKind::OpenAi => self.server(&OPENAI).map(ProviderSettings::OpenAi),
        }
    }

    /// The addresses of the model servers, up to their paths; empty without a server, or if the section is
    /// invalid.
    pub fn server_addresses(&self) -> Vec<String> {
        let settings = match self.settings() {
            Ok(ProviderSettings::Ollama(settings) | ProviderSettings::OpenAi(settings)) => settings,
            Ok(ProviderSettings::Builtin) | Err(_) => return Vec::new(),
        };
        let urls = std::iter::once(settings.base_url).chain(settings.embedding_base_url);
        urls.map(|url| url.origin().ascii_serialization()).collect()
    }

    fn server(&self, defaults: &ServerDefaults) -> Result<ServerSettings, String> {
        let address = |key: &str, url: &str| {
            let parsed = address::parse(url).map_err(|problem| format!("provider.{key} {problem}"));
            parsed.map(|mut url| {
                if let ("" | "/", Some(path)) = (url.path(), defaults.path) {
                    url.set_path(path);
                }
                url
            })
        };
        let model = |key: &str, configured: &Option<String>, default: Option<&str>| {
            let model = configured.as_deref().or(default).map(|it| it.trim().to_owned());
            let kind = self.kind.name();
            model.ok_or_else(|| format!("provider.{key} must name a model if provider.kind is {kind}"))
        };
        let base_url = address("base_url", self.base_url.as_deref().unwrap_or(defaults.base_url))?;
        let embedding_base_url =
            self.embedding_base_url.as_deref().map(|url| address("embedding_base_url", url)).transpose()?;
        let vision_model = model("vision_model", &self.vision_model, defaults.vision_model)?;
        let embedding_model = model("embedding_model", &self.embedding_model, defaults.embedding_model)?;
        let dimensions = self.embedding_dimensions.or_else(|| known_models::dimensions(&embedding_model));
        Ok(ServerSettings {
            base_url,
            embedding_base_url,
            vision_model,
            dimensions: dimensions.ok_or_else(|| {
                format!(
                    "provider.embedding_dimensions must be set: the length of the vectors of \
                     `{embedding_model}` is not known here"
                )
            })?,
            embedding_model,
        })
    }

    /// Checks every value of the section.
    pub(super) fn validate(&self) -> Result<(), String> {
        let names = [
            ("vision_model", self.vision_model.as_deref()),
            ("embedding_model", self.embedding_model.as_deref()),
            ("api_key_env", self.api_key_env.as_deref()),
            ("language", Some(self.language.as_str())),
        ];
        for (key, name) in names {
            let valid =
                |name: &str| !name.trim().is_empty() && name.len() <= 200 && !name.contains(char::is_control);
            if name.is_some_and(|name| !valid(name)) {
                return Err(format!(
                    "provider.{key} is empty, longer than 200 bytes or holds control characters"
                ));
            }
        }
        self.settings()?;
        if let Some(dimensions) = self.embedding_dimensions {
            within("provider.embedding_dimensions", dimensions, 16, 4096)?;
        }
        within("provider.embedding_max_chars", self.embedding_max_chars, 100, 100_000)?;
        within("provider.temperature", self.temperature, 0.0, 2.0)?;
        within("provider.max_image_tokens", self.max_image_tokens, 16, 32_768)?;
        within("provider.max_video_tokens", self.max_video_tokens, 16, 32_768)?;
        within("provider.context_tokens", self.context_tokens, 1024, 1 << 20)?;
        for (key, count, most) in [
            ("provider.swap_batch", self.swap_batch, 256),
            ("provider.vision_concurrency", self.vision_concurrency, 1024),
            ("provider.embedding_concurrency", self.embedding_concurrency, 1024),
        ] {
            if let Some(count) = count {
                within(key, count.get(), 1, most)?;
            }
        }
        within("provider.connect_timeout_ms", millis_of(self.connect_timeout), 100, 600_000)?;
        within("provider.request_timeout_ms", millis_of(self.request_timeout), 100, 86_400_000)?;
        within("provider.first_request_timeout_ms", millis_of(self.first_request_timeout), 100, 86_400_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut Provider)) -> String {
        let mut section = Provider { kind: ProviderKind::Ollama, ..Provider::default() };
        change(&mut section);
        section.validate().err().unwrap_or_default()
    }

    #[test]
    fn a_provider_is_refused_with_the_key_that_is_missing_or_wrong() {
        assert_eq!(refusal(|_| {}), "");
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
            (&|it: &mut Provider| it.embedding_concurrency = NonZeroU32::new(1025), "provider.embedding_con"),
        ] as [(&dyn Fn(&mut Provider), &str); 8]
        {
            let sentence = refusal(change);
            assert!(sentence.starts_with(key) && !sentence.contains("secret"), "{key}: {sentence}");
        }
    }

    #[test]
    fn values_that_are_not_set_come_from_the_kind() {
        let section = |kind| Provider { kind, ..Provider::default() };
        let Ok(ProviderSettings::Ollama(ollama)) = section(ProviderKind::Ollama).settings() else {
            unreachable!("ollama needs no key")
        };
        assert_eq!((ollama.base_url.as_str(), ollama.dimensions), ("http://127.0.0.1:11434/", 1024));
        assert_eq!([ollama.vision_model, ollama.embedding_model], ["qwen2.5vl:7b", "bge-m3"]);
        let openai = Provider {
            vision_model: Some(" seer ".into()),
            embedding_model: Some("bge-m3".into()),
            embedding_base_url: Some("http://other/api".into()),
            ..section(ProviderKind::OpenAi)
        };
        let Ok(ProviderSettings::OpenAi(openai)) = openai.settings() else {
            unreachable!("both models are named")
        };
        assert_eq!(
            (openai.base_url.as_str(), openai.vision_model.as_str()),
            ("http://127.0.0.1:8080/v1", "seer")
        );
        assert_eq!(openai.embedding_base_url.map(String::from).as_deref(), Some("http://other/api"));
    }

    #[test]
    fn a_kind_has_one_name() {
        for kind in [ProviderKind::Builtin, ProviderKind::Ollama, ProviderKind::OpenAi] {
            assert_eq!(serde_json::to_value(kind).expect("a name"), kind.name());
        }
    }
}
