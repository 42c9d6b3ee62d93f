//! Finds the files below the given paths.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use mediamill_actors::media::is_called_media;
use same_file::Handle;
use walkdir::{DirEntry, WalkDir};

/// The result of a walk.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Files, sorted by name within each folder.
    pub(super) files: Vec<Found>,
    /// Folders and links that could not be followed.
    pub(super) unreadable: Vec<Unreadable>,
    /// Number of sockets, pipes and devices below the paths, which are not opened.
    pub(super) special: usize,
}

/// A folder or link that could not be followed.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) path: PathBuf,
    /// Why, in one sentence.
    pub(super) message: String,
    /// There may be files below it. A broken or circular link hides none.
    pub(super) hides: bool,
}

/// A file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// It was given itself.
    pub(super) named: bool,
}

impl Found {
    /// Whether it is refused if it is not media. Files below a folder that nobody calls photos or videos are
    /// only counted.
    pub(super) fn is_meant(&self) -> bool {
        self.named || is_called_media(&self.path)
    }
}

/// The given paths without links, so that a second run finds the same ones however they are written.
pub(super) fn canonical(paths: &[PathBuf], data_dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut roots = Vec::new();
    // A data folder that does not exist yet contains no path.
    let data_dir = data_dir.canonicalize().ok();
    for path in paths {
        let root = path.canonicalize().map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if data_dir.as_ref().is_some_and(|data_dir| root.starts_with(data_dir)) {
            return Err(format!(
                "{} is inside mediamill's data folder; choose another folder, or another data folder with \
                 --data-dir",
                path.display()
            ));
        }
        roots.push(root);
    }
    Ok(roots)
}

/// Finds all files below the paths, except those of the data folder, by paths without links.
///
/// A link that stays below the paths is passed over, since its target is found by itself. One that leads
/// elsewhere is followed with `follow` only: whoever may write into a shared folder could show the files of
/// whoever runs this. Each folder is entered once.
pub(super) fn walk(roots: &[PathBuf], data_dir: &Path, follow: bool) -> Walked {
    // Compared by file id, since a link may lead to it too.
    let data_dir = Handle::from_path(data_dir).ok();
    let mut walked = Walked::default();
    let mut seen = HashSet::new();
    let mut entered = HashSet::new();
    let mut leading_out = Vec::new();
    for root in roots {
        let entries = WalkDir::new(root).follow_links(true).sort_by_file_name().into_iter();
        let ours = |entry: &DirEntry| {
            entry.file_type().is_dir()
                && data_dir.is_some()
                && Handle::from_path(entry.path()).ok() == data_dir
        };
        let wanted = |entry: &DirEntry| {
            if ours(entry) {
                return false;
            }
            if entry.path_is_symlink() {
                let Ok(target) = entry.path().canonicalize() else { return true };
                if roots.iter().any(|root| target.starts_with(root)) {
                    return false;
                }
                if !follow {
                    leading_out.push((entry.path().to_owned(), target));
                    return false;
                }
            }
            !entry.file_type().is_dir() || id_of(entry).is_none_or(|id| entered.insert(id))
        };
        for entry in entries.filter_entry(wanted) {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) if !entry.file_type().is_file() && entry.depth() > 0 => walked.special += 1,
                Ok(entry) => {
                    let named = entry.depth() == 0;
                    let path = entry.into_path();
                    // A link may be part of the path.
                    let path = if follow { path.canonicalize().unwrap_or(path) } else { path };
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
    for (path, target) in leading_out {
        let message = format!(
            "{} is a link that leads out of the folder, to {}; use --follow to take in what is there",
            path.display(),
            target.display()
        );
        walked.unreadable.push(Unreadable { path, message, hides: false });
    }
    walked
}

/// Tells a folder from all others.
#[cfg(unix)]
fn id_of(entry: &DirEntry) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    entry.metadata().ok().map(|it| (it.dev(), it.ino()))
}

#[cfg(not(unix))]
fn id_of(entry: &DirEntry) -> Option<PathBuf> {
    entry.path().canonicalize().ok()
}
