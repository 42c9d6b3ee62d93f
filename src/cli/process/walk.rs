//! Which files lie below the paths that were named.

use std::path::{Path, PathBuf};

use same_file::Handle;
use walkdir::{DirEntry, WalkDir};

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Files, by name within each folder.
    pub(super) files: Vec<Found>,
    /// Folders and links that could not be followed.
    pub(super) unreadable: Vec<Unreadable>,
}

/// A folder or link that could not be followed.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) path: PathBuf,
    /// The sentence.
    pub(super) message: String,
    /// Something is there that was not looked at; a link to nothing or back to where it is hides nothing.
    pub(super) hides: bool,
}

/// A file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// It was named itself, so it is refused if it is no picture; in a walk such files are only counted.
    pub(super) named: bool,
}

/// The paths as they are without links, so that a second run finds the same ones however they are named.
pub(super) fn canonical(paths: &[PathBuf], data_dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut roots = Vec::new();
    // A data folder that is not there yet holds nothing.
    let data_dir = data_dir.canonicalize().ok();
    for path in paths {
        let root = path.canonicalize().map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if data_dir.as_ref().is_some_and(|data_dir| root.starts_with(data_dir)) {
            return Err(format!(
                "{} lies in mediamill's own data folder; name another folder, or another one with --data-dir",
                path.display()
            ));
        }
        roots.push(root);
    }
    Ok(roots)
}

/// Walks all of it; the data folder is left out.
pub(super) fn walk(roots: &[PathBuf], data_dir: &Path) -> Walked {
    // By what it is and not by its path, as a link may lead to it too.
    let data_dir = Handle::from_path(data_dir).ok();
    let mut walked = Walked::default();
    let mut seen = std::collections::HashSet::new();
    for root in roots {
        let entries = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
        let ours = |entry: &DirEntry| {
            entry.file_type().is_dir()
                && data_dir.is_some()
                && Handle::from_path(entry.path()).ok() == data_dir
        };
        for entry in entries.filter_entry(|entry| !ours(entry)) {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) => {
                    let named = entry.depth() == 0;
                    let path = entry.into_path();
                    if seen.insert(path.clone()) {
                        walked.files.push(Found { path, named });
                    }
                }
                Err(error) => {
                    let path = error.path().unwrap_or(root).to_owned();
                    let message = match (error.loop_ancestor(), error.io_error()) {
                        (Some(ancestor), _) => {
                            format!("{} is a link back to {}", path.display(), ancestor.display())
                        }
                        (None, Some(io)) => format!("cannot read {}: {io}", path.display()),
                        (None, None) => format!("cannot read {}: {error}", path.display()),
                    };
                    let hides =
                        error.io_error().is_some_and(|error| error.kind() != std::io::ErrorKind::NotFound);
                    walked.unreadable.push(Unreadable { path, message, hides });
                }
            }
        }
    }
    walked
}
