//! The configuration: file, then environment, then options. It is checked before anything starts.

mod server;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy as _;
use mediamill_actors::config as engine;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

pub use self::server::{Auth, Key, Server};

/// Prefix of the environment variables that override the file.
const PREFIX: &str = "MEDIAMILL__";

/// The whole configuration of the program.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// The engine's sections: all but the two below.
    pub engine: engine::Config,
    /// Section `server`: the address, and the limits of connections and requests.
    pub server: Server,
    /// Section `auth`: the keys and tokens of owners.
    pub auth: Auth,
}

impl Config {
    /// Checks every value.
    ///
    /// # Errors
    /// A sentence that names the first key with an invalid value, and says why it is invalid.
    pub fn validate(&self) -> Result<(), String> {
        self.engine.validate()?;
        server::validate(&self.server, &self.auth)
    }
}

/// Values that take precedence over file and environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The file to read; `None`: `mediamill/config.toml` in the user's configuration folder, if it exists.
    pub config: Option<PathBuf>,
    /// `store.data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `provider.kind`.
    pub provider: Option<String>,
    /// `provider.vision_model`.
    pub model: Option<String>,
    /// `server.listen`.
    pub listen: Option<String>,
}

/// Reads file and environment, applies the overrides and checks the result.
///
/// # Errors
/// A sentence that names the file, the variable or the key.
pub fn load(overrides: &Overrides) -> Result<Config, String> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        // A name that is not UTF-8 is not a key of ours; a value that is not UTF-8 is refused below, with its
        // key.
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    let mut config = merge(file(overrides.config.as_deref())?, variables, overrides)?;
    let data_dir = &mut config.engine.store.data_dir;
    if let Ok(rest) = data_dir.strip_prefix("~") {
        let home = etcetera::home_dir().map_err(|error| {
            format!("cannot find the home folder for ~ in store.data_dir ({error}); write the whole path")
        })?;
        *data_dir = home.join(rest);
    }
    if data_dir.as_os_str().is_empty() {
        *data_dir = default_data_dir()?;
    }
    *data_dir = std::path::absolute(&data_dir)
        .map_err(|error| format!("cannot resolve the path store.data_dir: {error}"))?;
    config.validate()?;
    Ok(config)
}

/// The file that [`load`] reads, whether or not it exists; `None` if none was named and the user has no home.
pub fn location(named: Option<&Path>) -> Option<PathBuf> {
    match named {
        Some(path) => Some(path.to_owned()),
        None => Some(etcetera::choose_base_strategy().ok()?.config_dir().join("mediamill/config.toml")),
    }
}

/// The table of the file; empty if no file was named and the user has none.
fn file(named: Option<&Path>) -> Result<Table, String> {
    let Some(path) = location(named) else { return Ok(Table::new()) };
    match std::fs::read_to_string(&path) {
        Ok(text) => text.parse().map_err(|error: toml::de::Error| unreadable(&path, &text, &error)),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

/// The sentence of a file that is not TOML, with the line.
fn unreadable(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let (path, message) = (path.display(), error.message().replace('\n', ", "));
    let at = error.span().and_then(|span| text.get(..span.start));
    let Some(before) = at else { return format!("cannot read {path}: {message}") };
    let number = before.matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    format!("cannot read {path}, line {}: {message} in `{line}`", number + 1)
}

fn merge(
    mut table: Table,
    variables: impl Iterator<Item = (String, String)>,
    overrides: &Overrides,
) -> Result<Config, String> {
    let mut variables: Vec<_> = variables
        .filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_lowercase(), value)))
        .collect();
    variables.sort();
    for (name, value) in variables {
        let (section, key) = name.split_once("__").unwrap_or((&name, ""));
        if key.is_empty() || key.contains("__") {
            let name = name.to_uppercase();
            return Err(format!("{PREFIX}{name} names no key; write {PREFIX}SECTION__KEY"));
        }
        set(&mut table, section, key, value_of(section, key, value))?;
    }
    if let Some(data_dir) = &overrides.data_dir {
        // The table holds text only, so a path that is not UTF-8 is set below.
        set(&mut table, "store", "data_dir", Value::String(data_dir.to_string_lossy().into_owned()))?;
    }
    if let Some(provider) = &overrides.provider {
        set(&mut table, "provider", "kind", Value::String(provider.clone()))?;
    }
    if let Some(model) = &overrides.model {
        set(&mut table, "provider", "vision_model", Value::String(model.clone()))?;
    }
    if let Some(listen) = &overrides.listen {
        if listen.parse::<SocketAddr>().is_err() {
            let port: u16 = listen.trim_start_matches(':').parse().unwrap_or(8484);
            return Err(format!(
                "--listen {listen} is not an address with a port; write it as in --listen 127.0.0.1:{port}"
            ));
        }
        set(&mut table, "server", "listen", Value::String(listen.clone()))?;
    }
    let mut config = config_of(table)?;
    if let Some(model) = &overrides.model
        && config.engine.provider.kind == engine::ProviderKind::Builtin
    {
        return Err(format!(
            "--model {model} has no effect with the provider builtin, which has one model; name a model server \
             with --provider ollama or --provider openai"
        ));
    }
    if let Some(data_dir) = &overrides.data_dir {
        config.engine.store.data_dir.clone_from(data_dir);
    }
    Ok(config)
}

/// Removes a section that is not the engine's from the table, and reads it.
fn section<T: DeserializeOwned>(table: &mut Table, name: &str) -> Result<T, String> {
    match table.remove(name).unwrap_or_else(|| Value::Table(Table::new())) {
        Value::Table(section) => read(section, &format!("{name}.")),
        _ => Err(format!("the configuration is wrong at {name}: it must be a section")),
    }
}

fn read<T: DeserializeOwned>(table: Table, within: &str) -> Result<T, String> {
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(table, &mut track);
    T::deserialize(deserializer).map_err(|error| {
        let (text, path) = (error.to_string(), track.path().to_string());
        format!("the configuration is wrong at {within}{path}: {}", text.trim_end().replace('\n', " "))
    })
}

fn set(table: &mut Table, section: &str, key: &str, value: Value) -> Result<(), String> {
    match table.entry(section).or_insert_with(|| Value::Table(Table::new())) {
        Value::Table(section) => {
            section.insert(key.into(), value);
            Ok(())
        }
        _ => Err(format!("the configuration is wrong at {section}: it must be a section")),
    }
}

/// The value of a variable: its text as TOML (`5`, `false`, `["a", "b"]`), or the text itself if it is not
/// TOML or the key holds text.
fn value_of(section: &str, key: &str, text: String) -> Value {
    let fits = |value: &Value| {
        let alone = Table::from_iter([(key.to_owned(), value.clone())]);
        let whole = Table::from_iter([(section.to_owned(), Value::Table(alone))]);
        config_of(whole).is_ok()
    };
    // If neither fits, the error should be about the TOML value.
    match (text.parse::<Value>(), Value::String(text)) {
        (Ok(value), text) if fits(&value) || !fits(&text) => value,
        (_, text) => text,
    }
}

/// The configuration in a whole table.
fn config_of(mut table: Table) -> Result<Config, String> {
    Ok(Config {
        server: section(&mut table, "server")?,
        auth: section(&mut table, "auth")?,
        engine: read(table, "")?,
    })
}

fn default_data_dir() -> Result<PathBuf, String> {
    let folders = etcetera::choose_base_strategy().map_err(|error| {
        format!("cannot find the user's data folder ({error}); name a folder with --data-dir")
    })?;
    Ok(folders.data_dir().join("mediamill"))
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

    const CONFIG_TOML: &str = include_str!("../config.toml");

    fn merged(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        merge(text.parse().expect("a table"), variables, &Overrides::default())
    }

    #[test]
    fn config_toml_names_every_key_and_gives_the_defaults() {
        assert_eq!(merged(CONFIG_TOML, &[]), Ok(Config::default()));
        // Keys without a default are comments.
        let all: String = CONFIG_TOML
            .lines()
            .map(|line| {
                let key = line.strip_prefix("# ").filter(|rest| {
                    rest.split_once(" = ").is_some_and(|(key, _)| {
                        !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
                    })
                });
                key.unwrap_or(line).to_owned() + "\n"
            })
            .collect();
        let documented: Table = all.parse().expect("a table");
        let every = merged(&all, &[]).expect("valid");
        let mut sections = serde_json::to_value(every.engine).expect("keys");
        sections["server"] = serde_json::to_value(every.server).expect("keys");
        sections["auth"] = serde_json::to_value(every.auth).expect("keys");
        for (section, keys) in sections.as_object().expect("sections") {
            let keys: Vec<_> = keys.as_object().expect("keys").keys().collect();
            let there = documented[section].as_table().expect("a section");
            let missing: Vec<_> = keys.into_iter().filter(|key| !there.contains_key(key.as_str())).collect();
            assert!(missing.is_empty(), "config.toml lacks {missing:?} of [{section}]");
        }
    }

    #[test]
    fn a_variable_overrides_the_file() {
        let config = merged(
            "[limits]\nmax_pixels = 5\nmax_side_px = 6",
            &[("MEDIAMILL__LIMITS__MAX_PIXELS", "7"), ("MEDIAMILL__MONITOR__NUDGE", "false"), ("HOME", "/")],
        )
        .expect("valid");
        assert_eq!(
            (config.engine.limits.max_pixels, config.engine.limits.max_side_px, config.engine.monitor.nudge),
            (7, 6, false)
        );
    }

    #[test]
    fn a_variable_holds_toml_and_text_needs_no_quotes() {
        let config = merged(
            "",
            &[
                ("MEDIAMILL__PROVIDER__VISION_MODEL", "7"),
                ("MEDIAMILL__PROVIDER__EMBEDDING_MODEL", "true"),
                ("MEDIAMILL__PROVIDER__LANGUAGE", "\"German\""),
                ("MEDIAMILL__PROVIDER__TEMPERATURE", "1"),
                ("MEDIAMILL__STORE__DATA_DIR", "/data # here"),
                ("MEDIAMILL__SERVER__ALLOWED_HOSTS", "[\"photos.example\", \"photos\"]"),
                ("MEDIAMILL__SERVER__LISTEN", "127.0.0.1:1"),
                ("MEDIAMILL__AUTH__KEYS", "[{ owner = \"ann\", sha256 = \"12\" }]"),
            ],
        )
        .expect("valid");
        let provider = &config.engine.provider;
        let models = [&provider.vision_model, &provider.embedding_model].map(Option::as_deref);
        assert_eq!(models, [Some("7"), Some("true")]);
        assert_eq!((provider.language.as_str(), provider.temperature), ("German", 1.0));
        assert_eq!(config.engine.store.data_dir, Path::new("/data # here"));
        assert_eq!(config.server.allowed_hosts, ["photos.example", "photos"]);
        assert_eq!((config.server.listen.port(), config.auth.keys.len()), (1, 1));
    }

    #[test]
    fn an_unknown_key_and_a_wrong_value_are_named() {
        for (text, variables, named) in [
            ("[limits]\nmax_pixel = 5", [].as_slice(), "max_pixel"),
            ("[limits]\nmax_pixels = \"many\"", &[], "limits.max_pixels"),
            ("[limit]\nmax_pixels = 5", &[], "limit"),
            ("limits = 5", &[("MEDIAMILL__LIMITS__MAX_PIXELS", "5")], "limits"),
            ("", &[("MEDIAMILL__LIMITS__MAX_PIXELS", "many")], "limits.max_pixels"),
            ("", &[("MEDIAMILL__LIMITS__MAX_PIXELS", "-1")], "-1"),
            ("", &[("MEDIAMILL__SERVER__ALLOWED_HOSTS", "photos")], "server.allowed_hosts"),
            ("", &[("MEDIAMILL__LIMITS", "5")], "MEDIAMILL__LIMITS"),
            ("[provider]\nkind = \"magic\"", &[], "provider.kind"),
            ("[server]\nlisten = \"everywhere\"", &[], "server.listen"),
            ("[server]\nport = 80", &[], "port"),
            ("auth = 1", &[], "auth"),
        ] {
            let refused = merged(text, variables).expect_err(text);
            assert!(refused.contains(named), "{refused}");
        }
    }

    #[test]
    fn beyond_loopback_it_listens_with_authentication_only() {
        let config = |text: &str| {
            let mut config = merged(text, &[]).expect("valid");
            config.engine.store.data_dir = "/data".into();
            config.validate()
        };
        for open in ["0.0.0.0:1", "192.168.1.2:8484", "[::]:8484"] {
            let refused = config(&format!("[server]\nlisten = \"{open}\"")).expect_err(open);
            assert!(refused.contains("server.listen") && refused.contains("auth.keys"), "{refused}");
            let with = format!("[server]\nlisten = \"{open}\"\n[auth]\njwt_secret_env = \"SECRET\"");
            assert_eq!(config(&with), Ok(()));
        }
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:8484"] {
            assert_eq!(config(&format!("[server]\nlisten = \"{loopback}\"")), Ok(()));
        }
        let refused = config("[auth]\nkeys = [{ owner = \"ann\", sha256 = \"12\" }]").expect_err("no hash");
        assert!(refused.contains("auth.keys[0].sha256"), "{refused}");
    }
}
