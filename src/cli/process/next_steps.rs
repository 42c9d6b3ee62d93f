//! The last lines of a run at a terminal: where the results are, and what a person may do next.

use std::path::{Path, PathBuf};

use mediamill_actors::config::ProviderKind;

use super::report::Tally;
use crate::cli::{Shared, terminal};

/// What the next steps depend on.
#[derive(Debug, Clone)]
pub(super) struct NextSteps {
    /// The data folder, if it is on this machine.
    pub(super) data_dir: Option<PathBuf>,
    /// Options that another command needs to find the same data folder, with a space before them.
    pub(super) options: String,
    /// The paths as they were given.
    pub(super) paths: Vec<PathBuf>,
    /// The same without links.
    pub(super) roots: Vec<PathBuf>,
    /// Another program does the work.
    pub(super) is_guest: bool,
    /// The provider is `builtin`.
    pub(super) is_basic: bool,
}

impl NextSteps {
    pub(super) fn new(shared: &Shared, paths: &[PathBuf], roots: &[PathBuf]) -> Self {
        Self {
            data_dir: None,
            options: shared.options.clone(),
            paths: paths.to_vec(),
            roots: roots.to_vec(),
            is_guest: true,
            is_basic: false,
        }
    }

    /// With the data folder, and the name of the provider that writes into it.
    pub(super) fn on(self, data_dir: &Path, provider: &str, is_guest: bool) -> Self {
        let is_basic = provider == ProviderKind::Builtin.name();
        Self { data_dir: Some(data_dir.to_owned()), is_basic, is_guest, ..self }
    }

    pub(super) fn text(&self, tally: &Tally) -> String {
        let Self { data_dir, options, paths, is_basic, is_guest, .. } = self;
        let mut text = String::new();
        let mut commands = Vec::new();
        if tally.failed > 0 {
            let failures =
                (format!("mediamill{options} list --failed"), "says why, `retry` tries them again");
            commands.push(failures);
        }
        if tally.completed + tally.skipped > 0 {
            if let Some(data_dir) = data_dir {
                text.push_str(&format!("\nThe results are in {}.\n", terminal::from_home(data_dir)));
            } else {
                text.push('\n');
            }
            let search = format!("mediamill{options} search \"a cat on a sofa\"");
            commands.push((search, "finds them by their descriptions"));
            if !is_guest {
                commands.push((format!("mediamill{options} serve"), "shows them in a browser"));
            }
        } else if tally.failed > 0 {
            text.push('\n');
        }
        let widest = commands.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
        for (command, does) in commands {
            text.push_str(&format!("  {command:widest$}   {does}\n"));
        }
        if *is_basic && !is_guest && tally.completed > 0 && !paths.is_empty() {
            let paths: Vec<_> = paths.iter().map(|path| terminal::quoted(&terminal::shown(path))).collect();
            text.push_str(&format!(
                "\nThese are basic tags. For real descriptions install Ollama, a local model server:\n  \
                 ollama pull qwen2.5vl:7b && ollama pull bge-m3\n  \
                 mediamill{options} --provider ollama process {}\n",
                paths.join(" ")
            ));
        }
        text
    }
}
