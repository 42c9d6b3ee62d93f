//! The files of uploads: reads originals, writes thumbnails that survive a power cut, and removes
//! the files of deleted uploads.

mod claims;
mod group_sync;
mod incoming;
mod partial;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

pub(crate) use self::{
    claims::Claim,
    incoming::{Arrived, Incoming},
};
use self::{claims::Claims, group_sync::GroupSync};
use crate::{
    id::UploadId,
    private, regular_file,
    upload::{FailureKind, FileKey, FileRef, Upload},
};

/// The files of a data folder, and the way to files in place. Clones share them.
#[derive(Debug, Clone)]
pub struct Files {
    data_dir: PathBuf,
    claims: Claims,
    group_sync: GroupSync,
}

/// A file that is open for reading.
#[derive(Debug)]
pub struct OpenFile {
    /// The file, at its beginning.
    pub file: File,
    /// Its path on this machine, for the file name and for error messages.
    pub path: PathBuf,
    /// Length in bytes.
    pub length: u64,
}

/// An original whose bytes are those that were submitted.
#[derive(Debug)]
pub(crate) struct Checked {
    file: File,
    file_name: String,
    content_hash: String,
    state: regular_file::State,
}

impl Checked {
    /// A second handle of the file.
    pub(crate) fn file(&self) -> Result<File, (FailureKind, String)> {
        self.file.try_clone().map_err(|error| unreadable(Path::new(&self.file_name), &error))
    }

    /// Makes sure that nobody wrote to the file since it was checked. Blocks.
    pub(crate) fn check_unchanged(mut self) -> Result<(), (FailureKind, String)> {
        let mut is_same = || -> io::Result<bool> {
            if regular_file::State::of(&self.file)? == self.state {
                return Ok(true);
            }
            // A new name changes its times, too.
            self.file.rewind()?;
            Ok(hash_file(&mut self.file)? == self.content_hash)
        };
        match is_same() {
            Ok(true) => Ok(()),
            Ok(false) => Err(changed(&self.file_name)),
            Err(error) => Err(unreadable(Path::new(&self.file_name), &error)),
        }
    }
}

impl Files {
    /// The files of a data folder, which exists.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), claims: Claims::default(), group_sync: GroupSync::default() }
    }

    /// Opens a managed file.
    ///
    /// # Errors
    /// The error of the disk; [`io::ErrorKind::NotFound`] if there is no such file.
    pub async fn open(&self, key: &FileKey) -> io::Result<OpenFile> {
        let path = self.local_path(key);
        blocking(move || open(path)).await
    }

    /// Opens the original of an upload, managed or in place.
    ///
    /// # Errors
    /// The error of the disk; [`io::ErrorKind::NotFound`] if it is missing or is not a regular
    /// file.
    pub async fn open_original(&self, upload: &Upload) -> io::Result<OpenFile> {
        let (files, upload) = (self.clone(), upload.clone());
        // Two tries, since [`Files::promote`] may be moving it.
        blocking(move || open(files.readable(&upload)).or_else(|_| open(files.readable(&upload)))).await
    }

    /// Whether a managed file exists.
    pub async fn exists(&self, key: &FileKey) -> bool {
        let path = self.local_path(key);
        blocking(move || Ok(path.exists())).await.unwrap_or_default()
    }

    /// Removes all files of an upload, and makes that durable; missing files are no error.
    ///
    /// # Errors
    /// The error of the disk.
    pub async fn delete(&self, id: UploadId) -> io::Result<()> {
        let files = self.clone();
        blocking(move || files.remove(id)).await
    }

    /// Uploads whose originals were coming in when the last process ended: [`Files::promote`] or
    /// [`Files::delete`] each.
    ///
    /// # Errors
    /// The error of the disk.
    pub async fn left_incoming(&self) -> io::Result<Vec<UploadId>> {
        let files = self.clone();
        blocking(move || files.incoming_ids()).await
    }

    /// Moves the originals of uploads that are written out of the folder `incoming`. A file that
    /// cannot be moved can still be read there, and the next start moves it.
    pub async fn promote(&self, ids: Vec<UploadId>) {
        let files = self.clone();
        let promoted = blocking(move || {
            for id in ids {
                if let Err(error) = files.settle(id) {
                    log::warn!("upload {id}: cannot move its file, the next start tries again: {error}");
                }
            }
            Ok(())
        });
        if let Err(error) = promoted.await {
            log::warn!("moving the files of uploads failed: {error}");
        }
    }

    /// The path of a managed file on this machine, whether or not it exists.
    pub fn local_path(&self, key: &FileKey) -> PathBuf {
        let (kind, id) = key.parts();
        let path = self.sharded(kind, id);
        if kind == "thumbnails" { path.with_extension("jpg") } else { path }
    }

    /// Claims an upload whose files are about to be written by a job that cannot be aborted.
    pub(crate) fn claim(&self, id: UploadId) -> Claim {
        self.claims.claim(id)
    }

    fn thumbnail(&self, id: UploadId) -> PathBuf {
        self.local_path(&FileKey::thumbnail(id))
    }

    fn original(&self, id: UploadId) -> PathBuf {
        self.local_path(&FileKey::original(id))
    }

    /// The path of an original until its upload is written.
    fn incoming(&self, id: UploadId) -> PathBuf {
        self.data_dir.join("incoming").join(id.to_string())
    }

    /// Makes the names of files in the folder `incoming` durable.
    fn sync_incoming(&self) -> io::Result<()> {
        File::open(self.data_dir.join("incoming"))?.sync_all()
    }

    fn settle(&self, id: UploadId) -> io::Result<()> {
        let original = self.original(id);
        if let Some(folder) = original.parent() {
            private::make_folder(folder)?;
        }
        fs::rename(self.incoming(id), original)
    }

    fn incoming_ids(&self) -> io::Result<Vec<UploadId>> {
        let entries = match fs::read_dir(self.data_dir.join("incoming")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(ids.collect())
    }

    /// The path at which the original of an upload can be read now.
    fn readable(&self, upload: &Upload) -> PathBuf {
        match &upload.file {
            FileRef::InPlace { path, .. } => path.as_path().to_owned(),
            FileRef::Managed(key) => {
                let original = self.local_path(key);
                if original.exists() { original } else { self.incoming(upload.id) }
            }
        }
    }

    /// The last digits of an id are random, so they spread files evenly over 256 folders.
    fn sharded(&self, kind: &str, id: &str) -> PathBuf {
        let shard = id.get(id.len().saturating_sub(2)..).unwrap_or(id);
        self.data_dir.join(kind).join(shard).join(id)
    }

    /// Reads the original of an upload and makes sure that its bytes are those that were submitted. Blocks.
    ///
    /// # Errors
    /// [`ReadError`]: the file is gone, cannot be read, or has changed.
    pub(crate) fn read(&self, upload: &Upload) -> Result<Vec<u8>, ReadError> {
        let mut file = self.submitted(upload)?;
        let mut bytes = Vec::with_capacity(usize::try_from(upload.file_size).unwrap_or_default());
        // A byte more than the length shows that the file grew.
        let read = (&mut file).take(upload.file_size + 1).read_to_end(&mut bytes);
        read.map_err(|error| ReadError::of(Path::new(&upload.file_name), &error))?;
        if hash(&bytes) == upload.content_hash { Ok(bytes) } else { Err(changed(&upload.file_name).into()) }
    }

    /// Makes sure that the bytes of an upload are those that were submitted, without holding them,
    /// and gives the file, at its beginning. Blocks.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub(crate) fn check(&self, upload: &Upload) -> Result<Checked, ReadError> {
        let mut file = self.submitted(upload)?;
        let mut read = || -> io::Result<_> {
            let state = regular_file::State::of(&file)?;
            let hash = hash_file(&mut file)?;
            file.rewind()?;
            Ok((state, hash))
        };
        let (state, hash) = read().map_err(|error| ReadError::of(Path::new(&upload.file_name), &error))?;
        if hash == upload.content_hash {
            Ok(Checked { file, file_name: upload.file_name.clone(), content_hash: hash, state })
        } else {
            Err(changed(&upload.file_name).into())
        }
    }

    /// Opens the original of an upload, which has the length that was submitted. Sentences for its owner have the
    /// name of the file: the path is a secret of whoever runs the program, and is logged.
    fn submitted(&self, upload: &Upload) -> Result<File, ReadError> {
        let mut path = self.readable(upload);
        let opened = patiently(|| regular_file::open(&path)).or_else(|_| {
            // [`Files::promote`] may have moved it just now.
            path = self.readable(upload);
            regular_file::open(&path)
        });
        if let Err(error) = &opened {
            log::warn!("upload {}: cannot open {}: {error}", upload.id, path.display());
        }
        match opened {
            Ok((file, metadata)) if metadata.len() == upload.file_size => Ok(file),
            Ok(_) => Err(changed(&upload.file_name).into()),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Err(changed(&upload.file_name).into())
            }
            Err(error) => Err(ReadError::of(Path::new(&upload.file_name), &error)),
        }
    }

    /// A thumbnail. Blocks.
    pub(crate) fn read_thumbnail(&self, id: UploadId) -> io::Result<Vec<u8>> {
        fs::read(self.thumbnail(id))
    }

    /// Whether a thumbnail exists. Blocks.
    pub(crate) fn has_thumbnail(&self, id: UploadId) -> bool {
        self.thumbnail(id).exists()
    }

    /// Writes a thumbnail and makes it durable. Blocks.
    ///
    /// # Errors
    /// The error of the disk; then nothing is left at the path of the thumbnail.
    pub(crate) fn write_thumbnail(&self, id: UploadId, jpeg: &[u8]) -> io::Result<()> {
        let path = self.thumbnail(id);
        let unfinished = path.with_extension("tmp");
        let make = || private::options().write(true).create(true).truncate(true).open(&unfinished);
        let create = || match patiently(make) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                private::make_folder(path.parent().unwrap_or(&self.data_dir))?;
                make()
            }
            created => created,
        };
        let write = || -> io::Result<()> {
            let mut file = create()?;
            file.write_all(jpeg)?;
            fs::rename(&unfinished, &path)?;
            // File systems in use make the name of a new file durable with its bytes, so the rename
            // comes first.
            self.group_sync.sync(file)
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
            let _ = fs::remove_file(&path);
        })
    }

    /// As [`Files::delete`]. Blocks.
    pub(crate) fn remove(&self, id: UploadId) -> io::Result<()> {
        self.claims.note_removed(id);
        let thumbnail = self.thumbnail(id);
        let mut folders = BTreeSet::new();
        // The final path of the original comes last, since the original may be moved there right
        // now.
        for path in [thumbnail.with_extension("tmp"), thumbnail, self.incoming(id), self.original(id)] {
            match fs::remove_file(&path) {
                Ok(()) => folders.extend(path.parent().map(Path::to_owned)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // Otherwise a power cut after the note about the files is gone would bring them back for ever.
        folders.into_iter().try_for_each(|folder| self.group_sync.sync(File::open(folder)?))
    }
}

/// Why an original cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The file is gone, cannot be read, or has changed: the kind of failure and a sentence.
    Failed(FailureKind, String),
    /// The process has as many files open as it may. The file may be sound.
    OutOfHandles,
}

impl ReadError {
    fn of(path: &Path, error: &io::Error) -> Self {
        match is_out_of_handles(error) {
            true => Self::OutOfHandles,
            false => unreadable(path, error).into(),
        }
    }
}

impl From<(FailureKind, String)> for ReadError {
    fn from((kind, sentence): (FailureKind, String)) -> Self {
        Self::Failed(kind, sentence)
    }
}

/// Longest wait for other files to be closed.
const OTHERS_CLOSE: Duration = Duration::from_secs(5);

/// Opens a file, and waits for others to be closed if as many are open as may be. Blocks.
pub(crate) fn patiently<T>(open: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match open() {
            Err(error) if is_out_of_handles(&error) && began.elapsed() < OTHERS_CLOSE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            opened => return opened,
        }
    }
}

/// Whether the process, or the system, has as many files open as it may.
#[cfg(unix)]
fn is_out_of_handles(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errors = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|error| errors.contains(&error))
}

#[cfg(not(unix))]
fn is_out_of_handles(_: &io::Error) -> bool {
    false
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(job).await.map_err(io::Error::other)?
}

fn open(path: PathBuf) -> io::Result<OpenFile> {
    match regular_file::open(&path) {
        Ok((file, metadata)) => Ok(OpenFile { file, path, length: metadata.len() }),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(io::ErrorKind::NotFound.into()),
        Err(error) => Err(error),
    }
}

/// The content hash of a file from its present position. Blocks.
fn hash_file(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(base16ct::lower::encode_string(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// The content hash of bytes: SHA-256 in hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}

fn changed(file_name: &str) -> (FailureKind, String) {
    let message = format!("{file_name} changed since it was submitted; submit it again");
    (FailureKind::FileChanged, message)
}

/// Why a file cannot be read, as a kind of failure and a sentence.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> (FailureKind, String) {
    match error.kind() {
        io::ErrorKind::NotFound => (
            FailureKind::FileMissing,
            format!("{} is no longer there; put it back and try again", path.display()),
        ),
        _ => (FailureKind::FileUnreadable, format!("cannot read {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_too_many_open_files_waits_and_blames_no_file() {
        let error = || io::Error::from(rustix::io::Errno::MFILE);
        let tries = std::cell::Cell::new(0);
        let opened = patiently(|| {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(error()) } else { Ok(tries.get()) }
        });
        assert_eq!(opened.map_err(|error| error.kind()), Ok(3));
        assert_eq!(ReadError::of(Path::new("a.jpg"), &error()), ReadError::OutOfHandles);
        let gone = io::Error::from(io::ErrorKind::NotFound);
        assert!(matches!(ReadError::of(Path::new("a.jpg"), &gone), ReadError::Failed(..)));
        let other = patiently(|| Err::<(), _>(io::Error::from(io::ErrorKind::NotFound)));
        assert!(other.is_err(), "it does not wait for other errors");
    }

    #[tokio::test]
    async fn a_removal_is_durable_before_it_is_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let (files, id) = (Files::new(folder.path()), UploadId::generate());
        let paths = [files.thumbnail(id), files.original(id), files.incoming(id)];
        for path in &paths {
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, b"bytes").expect("written");
        }
        files.delete(id).await.expect("removed");
        let synced = files.group_sync.synced();
        for path in &paths {
            let parent = path.parent().expect("a folder");
            assert!(!path.exists() && synced.iter().any(|it| it == parent), "{synced:?}");
        }
        files.delete(id).await.expect("nothing is left");
        assert_eq!(files.group_sync.synced().len(), synced.len(), "nothing to be made durable");
    }
}
