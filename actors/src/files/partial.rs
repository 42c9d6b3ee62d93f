//! The files of resumable uploads: the bytes so far, and a record of them, in the folder `partial`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::PathBuf,
};

use super::{Arrived, Files};
use crate::{id::UploadId, private};

impl Files {
    fn partial(&self, id: UploadId) -> PathBuf {
        self.data_dir.join("partial").join(id.to_string())
    }

    fn partial_record(&self, id: UploadId) -> PathBuf {
        self.partial(id).with_extension("json")
    }

    /// Makes an empty file for a resumable upload. Blocks.
    pub(crate) fn begin_partial(&self, id: UploadId) -> io::Result<()> {
        let path = self.partial(id);
        if let Some(folder) = path.parent() {
            private::make_folder(folder)?;
        }
        private::create_new(&path).map(drop)
    }

    /// Opens the file of a resumable upload at its end, which is `offset`. Later bytes were never acknowledged,
    /// and go. Blocks.
    pub(crate) fn open_partial(&self, id: UploadId, offset: u64) -> io::Result<File> {
        let file = OpenOptions::new().append(true).open(self.partial(id))?;
        if file.metadata()?.len() != offset {
            file.set_len(offset)?;
        }
        Ok(file)
    }

    /// The length of the file of a resumable upload. Blocks.
    pub(crate) fn partial_length(&self, id: UploadId) -> io::Result<u64> {
        fs::metadata(self.partial(id)).map(|it| it.len())
    }

    /// The content hash of the file of a resumable upload. Blocks.
    pub(crate) fn partial_hash(&self, id: UploadId) -> io::Result<String> {
        super::hash_file(&mut File::open(self.partial(id))?)
    }

    /// Writes the record of a resumable upload and makes it durable. Blocks.
    pub(crate) fn write_partial_record(&self, id: UploadId, record: &[u8]) -> io::Result<()> {
        let path = self.partial_record(id);
        let unfinished = path.with_extension("tmp");
        let mut file = private::options().write(true).create(true).truncate(true).open(&unfinished)?;
        file.write_all(record)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// The records of all resumable uploads. Files without a record are removed, since nobody knows of them.
    /// Blocks.
    pub(crate) fn partial_records(&self) -> io::Result<Vec<Vec<u8>>> {
        let folder = self.data_dir.join("partial");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry?.path();
            match path.extension().and_then(|it| it.to_str()) {
                Some("json") => records.push(fs::read(&path)?),
                None if path.with_extension("json").exists() => {}
                _ => fs::remove_file(&path)?,
            }
        }
        Ok(records)
    }

    /// Moves the file of a resumable upload, which is complete, to the files that are coming in. It returns if
    /// the answer is dropped before it is kept. Blocks.
    pub(crate) fn complete_partial(
        &self,
        id: UploadId,
        length: u64,
        content_hash: String,
    ) -> io::Result<Arrived> {
        let (from, path) = (self.partial(id), self.incoming(id));
        if let Some(folder) = path.parent() {
            private::make_folder(folder)?;
        }
        fs::rename(&from, &path)?;
        let arrived = Arrived::returning(id, path, from, length, content_hash);
        self.sync_incoming()?;
        Ok(arrived)
    }

    /// Removes the file and the record of a resumable upload; missing ones are no error. Blocks.
    pub(crate) fn remove_partial(&self, id: UploadId) -> io::Result<()> {
        for path in [self.partial(id), self.partial_record(id)] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Removes a file that was coming in when the last process ended, and whose upload was not written. That of
    /// a resumable upload goes back, since its client believes it received.
    ///
    /// # Errors
    /// The error of the disk.
    pub(crate) async fn withdraw(&self, id: UploadId) -> io::Result<()> {
        let files = self.clone();
        let put_back = super::blocking(move || {
            let resumable = files.partial_record(id).exists();
            if resumable {
                fs::rename(files.incoming(id), files.partial(id)).map(|()| true)
            } else {
                Ok(false)
            }
        });
        if put_back.await? { Ok(()) } else { self.delete(id).await }
    }
}
