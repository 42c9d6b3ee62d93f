//! Keeps the data folder to its owner: pictures, descriptions and places of private photos lie in it.
//!
//! Folders have the mode 0700 and files 0600, whatever the umask. Other systems than Unix keep a user's folders
//! to that user by themselves, and nothing is done there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// Makes a folder with its parents, for the owner only; an existing one stays as it is.
///
/// # Errors
/// The error of the disk.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Options that make a file for the owner only.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Options that make a file for the owner only, and do not open a link.
pub fn unlinked() -> OpenOptions {
    let mut options = options();
    #[cfg(unix)]
    {
        let flags = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
    }
    options
}

/// Makes a file that does not exist yet, for the owner only.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    options().write(true).create_new(true).open(path)
}

/// Makes the data folder, or makes sure that an existing one is its owner's alone. An empty one is closed.
///
/// # Errors
/// A sentence that says what to do: the folder belongs to another user, others may read it, or it cannot be
/// made.
pub(crate) fn admit(data_dir: &Path) -> Result<(), String> {
    let failed = |error: io::Error| {
        format!(
            "cannot make {}: {error}; choose another folder with store.data_dir or repair this one",
            data_dir.display()
        )
    };
    match fs::metadata(data_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(data_dir).and_then(|()| close(data_dir)).map(drop).map_err(failed)
        }
        Err(error) => Err(failed(error)),
        Ok(metadata) => match exposure(&metadata) {
            None => Ok(()),
            Some(Exposure::Foreign(owner)) => Err(format!(
                "{} belongs to another user ({owner}), who can read and change all that is put into it; run \
                 mediamill as that user, or choose a folder of your own with store.data_dir",
                data_dir.display()
            )),
            Some(Exposure::Open(mode)) => {
                let empty = fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_none());
                if empty {
                    return close(data_dir).map(drop).map_err(failed);
                }
                Err(format!(
                    "other users may look into {0} (mode {mode:o}), where pictures and descriptions are kept; \
                     close it with `mediamill check --fix --data-dir {0}`",
                    data_dir.display()
                ))
            }
        },
    }
}

/// What the program puts into a data folder. Nothing else is looked at, since a folder that was named by mistake
/// may hold all that a person has.
const OURS: [&str; 10] = [
    "store",
    "originals",
    "thumbnails",
    "incoming",
    "partial",
    "LOCK",
    "HIGHWATER",
    "session.key",
    "session.tmp",
    "sessions.ended",
];

/// The data folder and what the program keeps in it, if others may look into it or it belongs to another user.
/// Links are not followed.
///
/// # Errors
/// The error of the disk.
pub fn exposed(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    each_of_ours(data_dir, &mut |path, metadata| {
        if exposure(metadata).is_some() {
            found.push(path.to_owned());
        }
        Ok(())
    })?;
    Ok(found)
}

/// Closes the data folder, and what the program keeps in it, to others. Returns the number of changed entries.
///
/// # Errors
/// The error of the disk, such as for an entry that belongs to another user.
pub fn close(data_dir: &Path) -> io::Result<usize> {
    let mut closed = 0;
    each_of_ours(data_dir, &mut |path, metadata| {
        closed += usize::from(restrict(path, metadata)?);
        Ok(())
    })?;
    Ok(closed)
}

/// As [`close`], for a folder in the data folder.
pub(crate) fn close_below(folder: &Path) -> io::Result<()> {
    each(folder, &mut |path, metadata| restrict(path, metadata).map(drop))
}

/// Why an entry is not its owner's alone.
#[cfg_attr(not(unix), allow(dead_code, reason = "other systems have neither modes nor numbers of users"))]
enum Exposure {
    /// It belongs to this user.
    Foreign(u32),
    /// It has this mode.
    Open(u32),
}

#[cfg(unix)]
fn exposure(metadata: &fs::Metadata) -> Option<Exposure> {
    use std::os::unix::fs::MetadataExt as _;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if owner != rustix::process::geteuid().as_raw() {
        return Some(Exposure::Foreign(owner));
    }
    (mode & 0o077 != 0).then_some(Exposure::Open(mode))
}

#[cfg(not(unix))]
fn exposure(_: &fs::Metadata) -> Option<Exposure> {
    None
}

#[cfg(unix)]
fn restrict(path: &Path, metadata: &fs::Metadata) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = if metadata.is_dir() { 0o700 } else { 0o600 };
    let exposed = exposure(metadata).is_some();
    // An unusual umask takes rights of the owner, too.
    if exposed || metadata.permissions().mode() & mode != mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(exposed)
}

#[cfg(not(unix))]
fn restrict(_: &Path, _: &fs::Metadata) -> io::Result<bool> {
    Ok(false)
}

fn each_of_ours(
    data_dir: &Path,
    visit: &mut impl FnMut(&Path, &fs::Metadata) -> io::Result<()>,
) -> io::Result<()> {
    let metadata = fs::metadata(data_dir)?;
    visit(data_dir, &metadata)?;
    OURS.iter().try_for_each(|name| each(&data_dir.join(name), visit))
}

/// Visits a folder before its entries, and passes over links and whatever disappears meanwhile.
fn each(path: &Path, visit: &mut impl FnMut(&Path, &fs::Metadata) -> io::Result<()>) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(named)?,
    };
    if metadata.is_symlink() {
        return Ok(());
    }
    visit(path, &metadata).map_err(named)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(named)? {
            each(&entry.map_err(named)?.path(), visit)?;
        }
    }
    Ok(())
}

/// Reads a secret file.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] with a sentence if the file is a link, belongs to another user, or others
/// may look into it; otherwise the error of the disk.
pub fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let refused = |why: &str| io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned());
    if fs::symlink_metadata(path)?.is_symlink() {
        return Err(refused("it is a link"));
    }
    let mut file = unlinked().read(true).open(path)?;
    match exposure(&file.metadata()?) {
        None => {}
        Some(Exposure::Foreign(owner)) => {
            return Err(refused(&format!("it belongs to another user ({owner})")));
        }
        Some(Exposure::Open(mode)) => {
            return Err(refused(&format!("other users may look into it (mode {mode:o})")));
        }
    }
    let mut secret = Vec::new();
    (&mut file).take(1 << 16).read_to_end(&mut secret)?;
    Ok(secret)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("changed");
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_that_is_open_is_refused_unless_it_is_empty() {
        let folder = tempfile::tempdir().expect("a folder");
        chmod(folder.path(), 0o755);
        admit(folder.path()).expect("an empty one is closed");
        assert_eq!(mode(folder.path()), 0o700);
        fs::write(folder.path().join("LOCK"), "").expect("written");
        admit(folder.path()).expect("it is closed");
        for open in [0o755, 0o750, 0o701] {
            chmod(folder.path(), open);
            let sentence = admit(folder.path()).expect_err("refused");
            assert!(sentence.contains("check --fix"), "{sentence}");
        }
        chmod(&folder.path().join("LOCK"), 0o644);
        assert_eq!(exposed(folder.path()).expect("read").len(), 2);
        assert_eq!(close(folder.path()).expect("closed"), 2);
        assert_eq!(mode(&folder.path().join("LOCK")), 0o600);
        fs::write(folder.path().join("other"), "of somebody else").expect("written");
        chmod(&folder.path().join("other"), 0o644);
        assert_eq!(close(folder.path()).expect("closed"), 0, "it is not ours");
        admit(folder.path()).expect("it is closed");
        assert_eq!(exposed(folder.path()).expect("read"), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_link_is_neither_closed_nor_read_as_a_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let other = tempfile::NamedTempFile::new().expect("a file");
        chmod(other.path(), 0o644);
        chmod(folder.path(), 0o700);
        let link = folder.path().join("store");
        std::os::unix::fs::symlink(other.path(), &link).expect("linked");
        assert_eq!(close(folder.path()).expect("closed"), 0);
        assert_eq!(mode(other.path()), 0o644);
        chmod(other.path(), 0o600);
        assert_eq!(read_secret(&link).expect_err("refused").kind(), io::ErrorKind::PermissionDenied);
        create_new(&link).expect_err("a link is not followed");
        let secret = folder.path().join("secret");
        fs::write(&secret, "secret").expect("written");
        chmod(&secret, 0o640);
        assert_eq!(read_secret(&secret).expect_err("refused").kind(), io::ErrorKind::PermissionDenied);
        chmod(&secret, 0o600);
        assert_eq!(read_secret(&secret).expect("read"), b"secret");
    }
}
