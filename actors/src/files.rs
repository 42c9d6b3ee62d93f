//! Where bytes lie: reading what was submitted, writing thumbnails so that they survive a power cut, removing what was deleted.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::{
    id::UploadId,
    upload::{FailureKind, FileRef, Upload},
};

/// The files below a data folder.
#[derive(Debug, Clone)]
pub struct Files {
    data_dir: PathBuf,
}

impl Files {
    /// The files of a data folder, which exists.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into() }
    }

    /// Where the thumbnail of an upload lies, if it was made.
    pub fn thumbnail(&self, id: UploadId) -> PathBuf {
        self.sharded("thumbnails", id).with_extension("jpg")
    }

    /// Where our own copy of an upload lies.
    pub fn original(&self, id: UploadId) -> PathBuf {
        self.sharded("originals", id)
    }

    /// Where the bytes of an upload lie while they come in, and until it is written and they are moved to [`Files::original`].
    pub fn incoming(&self, id: UploadId) -> PathBuf {
        self.data_dir.join("incoming").join(id.to_string())
    }

    /// Makes the names of files that are coming in durable.
    pub(crate) fn sync_incoming(&self) -> io::Result<()> {
        File::open(self.data_dir.join("incoming"))?.sync_all()
    }

    /// Moves the bytes of an upload that is written to where they stay.
    ///
    /// # Errors
    /// Whatever the disk says; they are still found where they are, and the next start moves them.
    pub(crate) fn settle(&self, id: UploadId) -> io::Result<()> {
        let original = self.original(id);
        if let Some(folder) = original.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::rename(self.incoming(id), original)
    }

    /// Uploads whose bytes were coming in when the last process ended.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub(crate) fn left_incoming(&self) -> io::Result<Vec<UploadId>> {
        let entries = match fs::read_dir(self.data_dir.join("incoming")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(ids.collect())
    }

    /// Where the bytes of an upload can be read now.
    pub fn readable(&self, upload: &Upload) -> PathBuf {
        match &upload.file {
            FileRef::InPlace(path) => path.as_path().to_owned(),
            FileRef::Stored => {
                let original = self.original(upload.id);
                if original.exists() { original } else { self.incoming(upload.id) }
            }
        }
    }

    /// The last digits of an id are random, so they spread files evenly over 256 folders.
    fn sharded(&self, kind: &str, id: UploadId) -> PathBuf {
        let name = id.to_string();
        self.data_dir.join(kind).join(&name[name.len() - 2..]).join(&name)
    }

    /// Reads the bytes of an upload and makes sure that they are those that were submitted.
    ///
    /// # Errors
    /// The sort of failure and a sentence: the file is gone, cannot be read, or has changed.
    pub fn read(&self, upload: &Upload) -> Result<Vec<u8>, (FailureKind, String)> {
        let mut path = self.readable(upload);
        let mut length = fs::metadata(&path);
        if length.is_err() {
            // It may just have been moved from where it came in.
            path = self.readable(upload);
            length = fs::metadata(&path);
        }
        if length.map_err(|error| unreadable(&path, &error))?.len() != upload.file_size {
            return Err(changed(&path));
        }
        let bytes = fs::read(&path).or_else(|_| fs::read(self.readable(upload)));
        let bytes = bytes.map_err(|error| unreadable(&path, &error))?;
        if hash(&bytes) == upload.content_hash { Ok(bytes) } else { Err(changed(&path)) }
    }

    /// Makes sure that the bytes of an upload are those that were submitted, without holding them, and says where they lie.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub fn check(&self, upload: &Upload) -> Result<PathBuf, (FailureKind, String)> {
        let mut path = self.readable(upload);
        let mut metadata = fs::metadata(&path);
        if metadata.is_err() {
            // It may just have been moved from where it came in.
            path = self.readable(upload);
            metadata = fs::metadata(&path);
        }
        let metadata = metadata.map_err(|error| unreadable(&path, &error))?;
        // To open a pipe is to wait for somebody to write into it.
        if !metadata.is_file() || metadata.len() != upload.file_size {
            return Err(changed(&path));
        }
        let hash = || -> io::Result<String> {
            let mut hasher = Sha256::new();
            let mut file = File::open(&path)?;
            let mut buffer = vec![0; 1 << 18];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(base16ct::lower::encode_string(&hasher.finalize())),
                    read => hasher.update(&buffer[..read]),
                }
            }
        };
        match hash() {
            Ok(hash) if hash == upload.content_hash => Ok(path),
            Ok(_) => Err(changed(&path)),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// Writes a thumbnail and waits for the disk.
    ///
    /// # Errors
    /// Whatever the disk says; nothing is left at the thumbnail's path then.
    pub fn write_thumbnail(&self, id: UploadId, jpeg: &[u8]) -> io::Result<()> {
        let path = self.thumbnail(id);
        let unfinished = path.with_extension("tmp");
        let create = || match File::create(&unfinished) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(&self.data_dir))?;
                File::create(&unfinished)
            }
            created => created,
        };
        let write = || -> io::Result<()> {
            let mut file = create()?;
            file.write_all(jpeg)?;
            fs::rename(&unfinished, &path)?;
            // Of a file that is new, the file systems in use write the name down with the bytes; so the name comes first.
            file.sync_all()
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&unfinished);
            let _ = fs::remove_file(&path);
        })
    }

    /// Removes all files of an upload; those that are not there are fine.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn remove(&self, id: UploadId) -> io::Result<()> {
        let thumbnail = self.thumbnail(id);
        // What comes in may just be moved to where it stays, so that place is looked at last.
        for path in [thumbnail.with_extension("tmp"), thumbnail, self.incoming(id), self.original(id)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// The content hash of bytes: SHA-256 in hexadecimal digits.
pub fn hash(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(bytes))
}

fn changed(path: &Path) -> (FailureKind, String) {
    let message = format!("{} changed since it was submitted; submit it again", path.display());
    (FailureKind::FileChanged, message)
}

/// Why a file cannot be read, as a sort of failure and a sentence.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> (FailureKind, String) {
    match error.kind() {
        io::ErrorKind::NotFound => (
            FailureKind::FileMissing,
            format!("{} is no longer there; put it back and try again", path.display()),
        ),
        _ => (FailureKind::FileUnreadable, format!("cannot read {}: {error}", path.display())),
    }
}
