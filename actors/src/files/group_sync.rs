//! New files that are made durable together: each fsync of a new file writes its data, its inode and its folder by
//! itself, which is most of the cost of a thumbnail.

use std::{
    collections::HashMap,
    fs::File,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Fewest files for which the whole file system is synced instead of each file.
const TOGETHER: usize = 3;
/// A file system that takes longer holds unwritten data of other programs.
const TOO_SLOW: Duration = Duration::from_millis(250);
/// How long files are synced one by one after that.
const PAUSE: Duration = Duration::from_secs(10);

/// Makes files durable. One thread at a time syncs the files of all threads that wait.
#[derive(Debug, Clone, Default)]
pub(super) struct GroupSync(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next_ticket: u64,
    waiting: Vec<(u64, File)>,
    done: HashMap<u64, io::Result<()>>,
    /// A thread syncs a group.
    syncing: bool,
    /// Until then files are synced one by one.
    one_by_one_until: Option<Instant>,
    /// The paths of files that were synced.
    #[cfg(test)]
    synced: Vec<std::path::PathBuf>,
}

impl GroupSync {
    /// Returns when a file and its name are durable. Blocks.
    pub(super) fn sync(&self, file: File) -> io::Result<()> {
        let Shared { state, changed } = &*self.0;
        let mut locked = state.lock();
        #[cfg(test)]
        locked.synced.extend(path_of(&file));
        let ticket = locked.next_ticket;
        locked.next_ticket += 1;
        locked.waiting.push((ticket, file));
        loop {
            if let Some(result) = locked.done.remove(&ticket) {
                return result;
            }
            if locked.syncing {
                changed.wait(&mut locked);
                continue;
            }
            locked.syncing = true;
            let group = std::mem::take(&mut locked.waiting);
            let paused = locked.one_by_one_until.is_some_and(|until| Instant::now() < until);
            let together = group.len() >= TOGETHER && !paused;
            drop(locked);
            let started = Instant::now();
            let results = sync_all(group, together);
            let slow = together && started.elapsed() > TOO_SLOW;
            locked = state.lock();
            if slow {
                locked.one_by_one_until = Some(Instant::now() + PAUSE);
            }
            locked.done.extend(results);
            locked.syncing = false;
            changed.notify_all();
        }
    }
}

#[cfg(test)]
impl GroupSync {
    /// The paths of all files that were synced.
    pub(super) fn synced(&self) -> Vec<std::path::PathBuf> {
        self.0.state.lock().synced.clone()
    }
}

#[cfg(test)]
fn path_of(file: &File) -> io::Result<std::path::PathBuf> {
    use std::os::fd::AsRawFd as _;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Syncs a group of files, together if that is possible and wanted.
fn sync_all(group: Vec<(u64, File)>, together: bool) -> Vec<(u64, io::Result<()>)> {
    let synced = together && group.first().is_some_and(|(_, file)| sync_file_system(file).is_ok());
    // An error of the file system may be about another file, so each file is asked for its own.
    group.into_iter().map(|(ticket, file)| (ticket, if synced { Ok(()) } else { file.sync_all() })).collect()
}

#[cfg(target_os = "linux")]
fn sync_file_system(file: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_many_threads_are_all_synced() {
        let folder = tempfile::tempdir().expect("a folder");
        let sync = GroupSync::default();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|n| {
                    let (sync, path) = (sync.clone(), folder.path().join(n.to_string()));
                    scope.spawn(move || sync.sync(File::create(path)?))
                })
                .collect();
            for thread in threads {
                thread.join().expect("no panic").expect("synced");
            }
        });
        let state = sync.0.state.lock();
        assert!(state.waiting.is_empty() && state.done.is_empty() && !state.syncing);
    }
}
