//! File, then environment, then options: what the program is told, checked before anything starts.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use mediamill_actors::config::Config;
use serde::Deserialize as _;
use toml::{Table, Value};

/// What begins the names of environment variables that override the file.
const PREFIX: &str = "MEDIAMILL__";

/// What the command line overrides.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Overrides {
    /// Read this configuration instead of the one in the user's configuration folder
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The folder that holds all state
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// What describes the pictures
    #[arg(long, value_name = "KIND", global = true)]
    provider: Option<String>,
    /// The model that describes
    #[arg(long, value_name = "NAME", global = true)]
    model: Option<String>,
}

/// Puts the configuration together.
///
/// # Errors
/// A sentence that names the file or variable and the key.
pub(crate) fn load(overrides: &Overrides) -> Result<Config, String> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        // What is no text is no key of ours, or a value that is told to be wrong.
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    let mut config = merge(file(overrides.config.as_deref())?, variables, overrides)?;
    if config.store.data_dir.as_os_str().is_empty() {
        config.store.data_dir = default_data_dir()?;
    }
    config.store.data_dir = std::path::absolute(&config.store.data_dir)
        .map_err(|error| format!("cannot tell where store.data_dir is: {error}"))?;
    config.validate()?;
    Ok(config)
}

/// The file's table and where it is from.
fn file(named: Option<&Path>) -> Result<Table, String> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => match etcetera::choose_base_strategy() {
            Ok(folders) => folders.config_dir().join("mediamill/config.toml"),
            Err(_) => return Ok(Table::new()),
        },
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => text.parse().map_err(|error: toml::de::Error| {
            format!("cannot read {}: {}", path.display(), error.to_string().trim_end().replace('\n', " "))
        }),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Table::new()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
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
        set(&mut table, section, key, scalar(value))?;
    }
    if let Some(data_dir) = &overrides.data_dir {
        // A path that is no text cannot stand in the table; it is put in below.
        set(&mut table, "store", "data_dir", Value::String(data_dir.to_string_lossy().into_owned()))?;
    }
    if let Some(provider) = &overrides.provider {
        set(&mut table, "provider", "kind", Value::String(provider.clone()))?;
    }
    if let Some(model) = &overrides.model {
        set(&mut table, "provider", "vision_model", Value::String(model.clone()))?;
    }
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(table, &mut track);
    let mut config = Config::deserialize(deserializer).map_err(|error| {
        let (text, path) = (error.to_string(), track.path().to_string());
        format!("the configuration is wrong at {path}: {}", text.trim_end().replace('\n', " "))
    })?;
    if let Some(data_dir) = &overrides.data_dir {
        config.store.data_dir.clone_from(data_dir);
    }
    Ok(config)
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

/// A variable's text as a number or a truth value if it is one.
fn scalar(text: String) -> Value {
    if let Ok(number) = text.parse() {
        Value::Integer(number)
    } else if let Ok(truth) = text.parse() {
        Value::Boolean(truth)
    } else {
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => Value::String(text),
        }
    }
}

fn default_data_dir() -> Result<PathBuf, String> {
    let folders = etcetera::choose_base_strategy().map_err(|error| {
        format!("cannot tell where to keep state ({error}); name a folder with --data-dir")
    })?;
    Ok(folders.data_dir().join("mediamill"))
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
        // What has no default stands there as a comment.
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
        let every = serde_json::to_value(merged(&all, &[]).expect("valid")).expect("keys");
        for (section, keys) in every.as_object().expect("sections") {
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
            (config.limits.max_pixels, config.limits.max_side_px, config.monitor.nudge),
            (7, 6, false)
        );
    }

    #[test]
    fn an_unknown_key_and_a_wrong_value_are_named() {
        for (text, variables, named) in [
            ("[limits]\nmax_pixel = 5", [].as_slice(), "max_pixel"),
            ("[limits]\nmax_pixels = \"many\"", &[], "limits.max_pixels"),
            ("[limit]\nmax_pixels = 5", &[], "limit"),
            ("limits = 5", &[("MEDIAMILL__LIMITS__MAX_PIXELS", "5")], "limits"),
            ("", &[("MEDIAMILL__LIMITS__MAX_PIXELS", "many")], "limits.max_pixels"),
            ("", &[("MEDIAMILL__LIMITS", "5")], "MEDIAMILL__LIMITS"),
            ("[provider]\nkind = \"magic\"", &[], "provider.kind"),
        ] {
            let refused = merged(text, variables).expect_err(text);
            assert!(refused.contains(named), "{refused}");
        }
    }
}
