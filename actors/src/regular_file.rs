//! Opens files that somebody else may change at any moment.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    path::Path,
    time::SystemTime,
};

/// Opens a regular file for reading, with its metadata. Links are followed. The check is made on the open
/// file, so that a pipe that takes the file's place blocks nobody. Blocks.
///
/// # Errors
/// The error of the disk, or [`io::ErrorKind::InvalidInput`] if there is something else than a file.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    checked(follow(path), path)
}

/// As [`open`], but no link is followed that became a part of the path meanwhile, as far as the system can tell.
pub(crate) fn open_unlinked(path: &Path) -> io::Result<(File, Metadata)> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            // Older kernels, and the filters of some containers, do not have this call.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {}
            Err(rustix::io::Errno::LOOP) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is a link in its path now"));
            }
            opened => return checked(opened.map(File::from).map_err(io::Error::from), path),
        }
    }
    open(path)
}

fn follow(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        // Opening a pipe would wait for its writer.
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits() as i32);
    }
    #[cfg(not(unix))]
    if !std::fs::metadata(path)?.is_file() {
        return Err(not_regular());
    }
    options.open(path)
}

fn checked(opened: io::Result<File>, path: &Path) -> io::Result<(File, Metadata)> {
    let file = opened.map_err(|error| {
        // Sockets, and devices without a driver, cannot be opened.
        if std::fs::metadata(path).is_ok_and(|it| !it.is_file()) { not_regular() } else { error }
    })?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(not_regular()) }
}

/// Length and times of a file. Nobody but the system sets the second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    length: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
}

impl State {
    /// The present state of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        #[cfg(unix)]
        let changed = {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.ctime(), metadata.ctime_nsec())
        };
        #[cfg(not(unix))]
        let changed = (0, 0);
        Ok(Self { length: metadata.len(), modified: metadata.modified().ok(), changed })
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_a_socket_and_a_folder_are_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs");
        assert!(made.success());
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        for path in [pipe, socket, folder.path().to_owned()] {
            let kind = open(&path).expect_err("refused").kind();
            assert_eq!(kind, io::ErrorKind::InvalidInput, "{}", path.display());
        }
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "bytes").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        open(&link).expect("a link is followed");
        open_unlinked(&file.canonicalize().expect("there")).expect("there is no link");
        #[cfg(target_os = "linux")]
        assert_eq!(open_unlinked(&link).expect_err("refused").kind(), io::ErrorKind::InvalidInput);
        let missing = open(&folder.path().join("missing")).expect_err("refused").kind();
        assert_eq!(missing, io::ErrorKind::NotFound);
    }
}
