//! `mediamill completions` and `mediamill manual`: what an installer puts beside the program.

use std::{
    io::{self, Write as _},
    path::Path,
};

use clap::CommandFactory as _;

use super::Arguments;

/// Prints the completions for a shell.
///
/// # Errors
/// A sentence: they cannot be written.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<(), String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "mediamill", &mut script);
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write the completions: {error}"))
        }
        _ => Ok(()),
    }
}

/// Writes a manual page for the program and for each command.
///
/// # Errors
/// A sentence: they cannot be written.
pub(super) fn pages(folder: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot write manual pages to {}: {error}", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), folder).map_err(failed)?;
    println!(
        "the manual pages are in {}; `man {}/mediamill.1` shows the first",
        folder.display(),
        folder.display()
    );
    Ok(())
}
