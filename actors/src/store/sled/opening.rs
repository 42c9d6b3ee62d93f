//! Opens a store: takes the lock, heals left-overs of a dead process, and reports damage in a
//! sentence.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    event_log::RunOf,
    keys::{self, Tree},
    pages::{Pages, Read, sentence},
};
use crate::{private, store::OpenError};

/// Version of the layout of the trees.
const FORMAT: &str = "4";
/// Older versions, which this version reads without conversion. In 1 to 3 the state of the
/// provider is in `meta`, runs have no records, and records say `run` for a round and `stored`
/// for a managed file. In 1 and 2 each event is an entry of its own, and in 1 it has its own
/// entry in `changes`, too. Records of 1 contain the running attempt.
const OLDER_FORMATS: [&str; 3] = ["1", "2", "3"];

/// Whether this version reads a format.
pub(super) fn is_known(format: &str) -> bool {
    format == FORMAT || OLDER_FORMATS.contains(&format)
}

/// Part of the text of sled's error without the lock of its file.
const NO_LOCK: &str = "could not acquire lock";

/// Longest wait for sled's threads, which hold the file for a moment after the last handle is
/// dropped: a process may close a store and open it again.
const LAST_HANDLES: Duration = Duration::from_secs(2);

/// The trees of an open store, with its files and its lock.
pub(super) struct Opened {
    pub(super) db: sled::Db,
    pub(super) trees: Vec<Pages>,
    /// Our own handle to sled's file: sled's own flush does not wait for the disk.
    pub(super) db_file: File,
    pub(super) highwater: Highwater,
    /// The lock file, held for as long as the store is open.
    pub(super) lock: File,
}

/// Opens the store in `data_dir`, or makes a new one.
pub(super) fn open(data_dir: &Path, cache_bytes: u64) -> Result<Opened, OpenError> {
    private::admit(data_dir).map_err(|message| OpenError::Folder { message })?;
    let lock = lock(data_dir)?;
    let folder = data_dir.join("store");
    let existed = folder.join("db").exists();
    remove_unfinished_snapshots(&folder).map_err(|error| OpenError::folder(&folder, "heal", &error))?;
    let known = Highwater::open(data_dir).map_or(0, |it| it.read());
    let is_whole = |db: &sled::Db| {
        let last = db.open_tree(Tree::Changes.name()).and_then(|tree| tree.last());
        // Without a mark, nothing says that no change is lost.
        known > 0 && last.is_ok_and(|last| last.map_or(0, |(key, value)| last_change(&key, &value)) >= known)
    };
    let db = open_or_heal(&folder, |folder| open_sled(folder, cache_bytes), is_whole)?;
    let mut trees = Vec::with_capacity(Tree::ALL.len());
    for tree in Tree::ALL {
        trees.push(db.open_tree(tree.name()).map_err(|error| unusable(&folder, error))?);
    }
    let db_file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.join("db"))
        .map_err(|error| OpenError::folder(&folder, "open", &error))?;
    // sled makes its files with the modes that the umask allows.
    private::close_below(&folder).map_err(|error| OpenError::folder(&folder, "close", &error))?;
    let mut highwater =
        Highwater::open(data_dir).map_err(|error| OpenError::folder(data_dir, "write", &error))?;

    let meta = &trees[Tree::Meta as usize];
    let last = trees[Tree::Changes as usize].last().map_err(|error| unusable(&folder, error))?;
    let newest = last.map_or(0, |(key, value)| last_change(&key, &value));
    if newest < highwater.read() {
        return Err(OpenError::Shorter {
            data_dir: data_dir.to_owned(),
            found: newest,
            known: highwater.read(),
        });
    }
    match meta.get(keys::FORMAT).map_err(|error| unusable(&folder, error))? {
        Some(format) if *format == *FORMAT.as_bytes() => {}
        Some(format) if !is_known(&String::from_utf8_lossy(&format)) => {
            return Err(OpenError::Format {
                data_dir: data_dir.to_owned(),
                found: String::from_utf8_lossy(&format).into_owned(),
            });
        }
        None if existed && newest > 0 => {
            return Err(OpenError::damaged(&folder, "it holds changes but not its format version"));
        }
        Some(_) | None => {
            let write = || -> io::Result<()> {
                meta.insert(keys::FORMAT, FORMAT)?;
                meta.remove(keys::PROVIDER)?;
                db.flush()?;
                db_file.sync_data()?;
                // The folder's entries must survive a power cut as well as the file's content.
                File::open(&folder)?.sync_all()?;
                File::open(data_dir)?.sync_all()
            };
            write().map_err(|error| OpenError::folder(&folder, "write", &error))?;
        }
    }
    if meta.contains_key(keys::RESTORING).map_err(|error| unusable(&folder, error))? {
        return Err(OpenError::HalfRestored { data_dir: data_dir.to_owned() });
    }
    highwater.newest_written = highwater.value;
    let trees = trees.into_iter().map(Pages::new).collect();
    Ok(Opened { db, trees, db_file, highwater, lock })
}

/// The number of the newest change; 0 if there is none.
pub(super) fn newest_change(trees: &[Pages]) -> Read<u64> {
    Ok(trees[Tree::Changes as usize].last()?.map_or(0, |(key, value)| last_change(&key, &value)))
}

/// The number of the last change of an entry of the tree `changes`.
fn last_change(key: &[u8], value: &[u8]) -> u64 {
    let events: Option<RunOf> = serde_json::from_slice(value).ok();
    keys::trailing_number(key).unwrap_or(0) + events.map_or(1, |it| it.count).max(1) - 1
}

fn lock(data_dir: &Path) -> Result<File, OpenError> {
    let path = data_dir.join("LOCK");
    let file = private::unlinked()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| OpenError::folder(data_dir, "write to", &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { data_dir: data_dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(OpenError::folder(data_dir, "lock", &error)),
    }
}

/// Removes snapshots that sled had not finished when the process died. They make every later open
/// fail, and hold nothing that the log does not.
fn remove_unfinished_snapshots(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            log::warn!("removing {name}, which an earlier process left unfinished in {}", folder.display());
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Opens sled on a thread of its own: sled panics on most damage, and the panic of that thread
/// becomes an error.
fn open_sled(folder: &Path, cache_bytes: u64) -> Result<sled::Db, OpenError> {
    let path = folder.to_owned();
    let open = move || {
        let began = Instant::now();
        loop {
            let opened = sled::Config::new()
                .path(&path)
                .cache_capacity(cache_bytes)
                // The committer flushes every group. This interval bounds the loss of writes that
                // nobody waits for, when the process dies.
                .flush_every_ms(Some(500))
                .mode(sled::Mode::HighThroughput)
                .open();
            match opened {
                Err(error) if is_locked(&error) && began.elapsed() < LAST_HANDLES => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                opened => return opened,
            }
        }
    };
    let opened = std::thread::Builder::new()
        .name(super::OPENING_THREAD.into())
        .spawn(open)
        .map_err(|error| OpenError::folder(folder, "open", &error))?
        .join();
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(error)) if is_locked(&error) => {
            Err(OpenError::Locked { data_dir: folder.parent().unwrap_or(folder).to_owned() })
        }
        Ok(Err(error)) => Err(unusable(folder, error)),
        Err(_) => Err(OpenError::damaged(folder, "its pages do not make sense")),
    }
}

/// Opens sled, and tries again before a store is called unusable: a call of the system may have failed once,
/// and a damaged snapshot holds nothing that the file itself does not. Without a snapshot, sled cuts off all
/// that it cannot read, so this is tried on a copy first, which must be whole.
fn open_or_heal<T>(
    folder: &Path,
    open: impl Fn(&Path) -> Result<T, OpenError>,
    is_whole: impl Fn(&T) -> bool,
) -> Result<T, OpenError> {
    let first = match open(folder) {
        Err(error @ (OpenError::Damaged { .. } | OpenError::Folder { .. })) => error,
        opened => return opened,
    };
    log::debug!("{first}; trying again");
    if let Ok(opened) = open(folder) {
        return Ok(opened);
    }
    if matches!(first, OpenError::Folder { .. }) {
        return Err(first);
    }
    let copy = folder.with_file_name("store-without-snapshot");
    let copied = copy_without_snapshots(folder, &copy);
    let heals = matches!(copied, Ok(true)) && open(&copy).is_ok_and(|opened| is_whole(&opened));
    if let Err(error) = fs::remove_dir_all(&copy)
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("cannot remove {}: {error}", copy.display());
    }
    if !heals {
        return Err(first);
    }
    log::warn!("a snapshot in {} is damaged; the store opens without it", folder.display());
    set_snapshots_aside(folder).map_err(|error| OpenError::folder(folder, "heal", &error))?;
    open(folder)
}

/// Copies a store to a new folder without its snapshots. Answers with whether it has any.
fn copy_without_snapshots(folder: &Path, copy: &Path) -> io::Result<bool> {
    if copy.exists() {
        fs::remove_dir_all(copy)?;
    }
    fs::create_dir(copy)?;
    let mut has_snapshots = false;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_snapshot = entry.file_name().to_string_lossy().starts_with("snap.");
        has_snapshots |= is_snapshot;
        if !is_snapshot && entry.file_type()?.is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
    }
    Ok(has_snapshots)
}

/// Renames the snapshots, so that sled reads its whole file.
fn set_snapshots_aside(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("snap.") {
            // sled takes every file whose name begins so for a snapshot.
            fs::rename(&path, path.with_file_name(format!("damaged-{name}")))?;
        }
    }
    Ok(())
}

/// The error of a store that sled does not open. A refusal by the system is not reported as
/// damage, since a user would then delete a sound store.
pub(super) fn unusable(folder: &Path, error: sled::Error) -> OpenError {
    use io::ErrorKind::{
        FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull, UnexpectedEof,
    };
    match error {
        sled::Error::Io(error)
            if error.kind() != UnexpectedEof
                && (error.raw_os_error().is_some()
                    || matches!(
                        error.kind(),
                        FileTooLarge | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull
                    )) =>
        {
            OpenError::folder(folder, "open", &error)
        }
        // sled passes some errors of the system on as text alone.
        sled::Error::Io(error) if error.to_string().contains("os error") => {
            OpenError::folder(folder, "open", &error)
        }
        error if is_unlockable(&error) => OpenError::Folder {
            message: format!(
                "cannot lock {}: {}; choose another folder with store.data_dir, on a disk that can lock files",
                folder.display(),
                sentence(error)
            ),
        },
        error => OpenError::damaged(folder, sentence(error)),
    }
}

/// Whether another process has the lock: sled has no error kind for it, so this reads the
/// message.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error)
        if error.to_string().contains(NO_LOCK) && error.to_string().contains("WouldBlock"))
}

/// Whether the lock cannot be had for another reason, for example on a remote disk without locks.
fn is_unlockable(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains(NO_LOCK))
}

/// The file with the number of the newest change known to be on disk. sled opens a truncated
/// store without an error, and this number reveals it.
pub(super) struct Highwater {
    file: File,
    value: u64,
    newest_written: u64,
    newest_synced: u64,
    path: PathBuf,
}

impl Highwater {
    fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join("HIGHWATER");
        let mut file = private::unlinked().create(true).truncate(false).read(true).write(true).open(&path)?;
        let mut text = String::new();
        // Any text but digits was not written by this program, and is ignored.
        let _ = file.read_to_string(&mut text);
        let value = text.trim().parse().unwrap_or(0);
        Ok(Self { file, value, newest_written: value, newest_synced: value, path })
    }

    fn read(&self) -> u64 {
        self.value
    }

    /// Writes the number, and waits for the disk if `waits`.
    pub(super) fn write(&mut self, change: u64, waits: bool) {
        let mut write = || -> io::Result<()> {
            if change > self.newest_written {
                self.file.seek(SeekFrom::Start(0))?;
                // The width is fixed, so that no digits of a longer number stay behind.
                self.file.write_all(format!("{change:020}\n").as_bytes())?;
                self.newest_written = change;
            }
            if waits && self.newest_written > self.newest_synced {
                self.file.sync_data()?;
                self.newest_synced = self.newest_written;
            }
            Ok(())
        };
        if let Err(error) = write() {
            log::warn!("cannot write {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_store_is_called_unusable_only_after_another_try_and_one_without_its_snapshot() {
        let data = tempfile::tempdir().expect("a folder");
        let folder = data.path().join("store");
        fs::create_dir(&folder).expect("made");
        let (snapshot, tries) = (folder.join("snap.1"), Cell::new(0));
        let failing = |times: u32, sound: bool, whole: bool, error: fn() -> OpenError| {
            fs::write(&snapshot, b"").expect("written");
            fs::write(folder.join("db"), b"pages").expect("written");
            tries.set(0);
            let open = |at: &Path| {
                tries.set(tries.get() + 1);
                match tries.get() > times || (sound && !at.join("snap.1").exists()) {
                    true => Ok(tries.get()),
                    false => Err(error()),
                }
            };
            let answer = open_or_heal(&folder, open, |_| whole);
            assert!(folder.join("db").exists() && fs::read_dir(data.path()).expect("a folder").count() == 1);
            answer
        };
        let damaged = || OpenError::damaged(Path::new("store"), "a page is wrong");
        let refused = || OpenError::folder(Path::new("store"), "open", &io::Error::from_raw_os_error(5));
        assert_eq!(failing(1, false, true, refused), Ok(2), "a call failed once");
        assert_eq!(failing(9, false, true, refused), Err(refused()));
        assert!(snapshot.exists() && tries.get() == 2, "the store may be sound");
        for (sound, whole) in [(false, true), (true, false)] {
            assert_eq!(failing(9, sound, whole, damaged), Err(damaged()));
            assert!(snapshot.exists(), "it is as it was");
        }
        assert_eq!(failing(9, true, true, damaged), Ok(4));
        assert!(!snapshot.exists() && folder.join("damaged-snap.1").exists());
        let locked = || OpenError::Locked { data_dir: PathBuf::new() };
        assert_eq!(failing(9, true, true, locked), Err(locked()));
        assert_eq!(tries.get(), 1);
    }

    #[test]
    fn refusals_of_the_system_are_not_called_damage_or_another_process() {
        let unusable = |error: io::Error| unusable(Path::new("store"), sled::Error::Io(error)).to_string();
        for error in [
            io::Error::from_raw_os_error(5),
            io::Error::other("flush failed: Input/output error (os error 5)"),
            io::Error::other("could not acquire lock on \"db\": Os { code: 37, kind: Other }"),
        ] {
            assert!(!is_locked(&sled::Error::Io(io::Error::other(error.to_string()))), "{error}");
            let sentence = unusable(error);
            assert!(
                !sentence.contains("damaged") && sentence.contains("choose another folder"),
                "{sentence}"
            );
        }
        let held = io::Error::other("could not acquire lock on \"db\": Os { code: 11, kind: WouldBlock }");
        assert!(is_locked(&sled::Error::Io(held)));
    }
}
