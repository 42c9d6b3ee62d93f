//! The last lines of a run at a terminal: where the results are, and what a person may do next.

use std::path::PathBuf;

use super::report::Tally;
use crate::cli::terminal;

/// What the next steps depend on.
#[derive(Debug, Clone)]
pub(super) struct NextSteps {
    pub(super) data_dir: PathBuf,
    /// Options that another command needs to find the same data folder, with a space before them.
    pub(super) options: String,
    /// The paths as they were given.
    pub(super) paths: Vec<PathBuf>,
    /// The provider is `builtin`.
    pub(super) is_basic: bool,
}

impl NextSteps {
    pub(super) fn text(&self, tally: &Tally) -> String {
        let Self { data_dir, options, paths, is_basic } = self;
        let mut text = String::new();
        if tally.completed + tally.skipped == 0 {
            return text;
        }
        let commands = [
            (format!("mediamill{options} search \"a cat on a sofa\""), "finds them by their descriptions"),
            (format!("mediamill{options} serve"), "shows them in a browser"),
        ];
        text.push_str(&format!("\nThe results are in {}.\n", terminal::from_home(data_dir)));
        let widest = commands.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
        for (command, does) in commands {
            text.push_str(&format!("  {command:widest$}   {does}\n"));
        }
        if *is_basic {
            let paths: Vec<_> = paths.iter().map(|path| terminal::quoted(&terminal::shown(path))).collect();
            text.push_str(&format!(
                "\nThese are basic tags of objects and colours. A local model writes real descriptions:\n  \
                 ollama pull qwen2.5vl:7b && ollama pull bge-m3\n  \
                 mediamill{options} --provider ollama process {}\n",
                paths.join(" ")
            ));
        }
        text
    }
}
