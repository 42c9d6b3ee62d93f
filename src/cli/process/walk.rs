//! Which files lie below the paths that were named.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Files, by name within each folder.
    pub(super) files: Vec<Found>,
    /// Folders and links that could not be followed, each with a sentence.
    pub(super) unreadable: Vec<(PathBuf, String)>,
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
    let data_dir = data_dir.canonicalize().ok();
    let mut walked = Walked::default();
    let mut seen = std::collections::HashSet::new();
    for root in roots {
        let entries = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
        let inside = |path: &Path| data_dir.as_deref() == Some(path);
        for entry in entries.filter_entry(|entry| !inside(entry.path())) {
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
                    walked.unreadable.push((path, message));
                }
            }
        }
    }
    walked
}
