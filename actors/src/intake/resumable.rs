//! Uploads whose bytes arrive in several requests, over connections that break and through restarts.
//!
//! Such an upload has the id that its record in the store will have, so it arrives once: a start finds in the
//! store whether it was submitted. Its bytes are kept until it is submitted, deleted, or gets none for too
//! long.

mod appending;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex as Turn, OnceCell, OwnedMutexGuard, watch};

pub use self::appending::Appending;
use super::receive::{ReceiveError, Received, job, plain_name};
use crate::{
    disk::Disk,
    error::Error,
    files::Files,
    id::{BatchId, Owner, UploadId},
    media::{self, VisionSpec},
    store::Queries,
};

/// How long the record of a submitted upload is kept for a client that missed the answer.
const SUBMITTED_KEPT: Duration = Duration::from_secs(3600);

/// A resumable upload, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumable {
    /// The id, which is that of the later upload.
    pub id: UploadId,
    /// The owner, who alone sees it.
    pub owner: Owner,
    /// Name of the file without folders.
    pub file_name: String,
    /// Length of the whole file in bytes.
    pub length: u64,
    /// Bytes that have arrived and are durable.
    pub offset: u64,
    /// Whether it waits for a batch that names it. Otherwise it becomes a batch of its own once it is complete.
    pub waits: bool,
    /// Text of the client, as it was given.
    pub metadata: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it is removed, unless more bytes arrive.
    pub expires_at: Timestamp,
    /// Its batch, once it was submitted.
    pub batch_id: Option<BatchId>,
}

impl Resumable {
    /// Whether all bytes have arrived.
    pub fn is_complete(&self) -> bool {
        self.offset == self.length
    }
}

/// The resumable uploads of a data folder.
pub struct Resumables {
    files: Files,
    disk: Disk,
    queries: Queries,
    limits: media::Limits,
    vision: VisionSpec,
    keep: Duration,
    entries: OnceCell<Mutex<BTreeMap<UploadId, Arc<Entry>>>>,
}

#[derive(Debug)]
struct Entry {
    record: Mutex<Resumable>,
    /// Whoever changes the file has the turn. Holds the hash of its bytes, unless they came before a restart.
    turn: Arc<Turn<Option<Sha256>>>,
    /// Number of callers that wait for the turn, for whom the present one makes room.
    waiting: watch::Sender<u32>,
}

impl Entry {
    fn new(record: Resumable, hasher: Option<Sha256>) -> Self {
        let (turn, waiting) = (Arc::new(Turn::new(hasher)), watch::Sender::new(0));
        Self { record: Mutex::new(record), turn, waiting }
    }

    fn record(&self) -> MutexGuard<'_, Resumable> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Interrupts a request that is sending bytes, and waits for its end. A client that comes again has given
    /// up the earlier connection, which the server may not know yet.
    async fn take_turn(&self) -> OwnedMutexGuard<Option<Sha256>> {
        struct Waiting<'a>(&'a watch::Sender<u32>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|count| *count -= 1);
            }
        }
        self.waiting.send_modify(|count| *count += 1);
        let _waiting = Waiting(&self.waiting);
        Arc::clone(&self.turn).lock_owned().await
    }
}

impl Resumables {
    pub(super) fn new(
        files: Files,
        disk: Disk,
        queries: Queries,
        limits: media::Limits,
        vision: VisionSpec,
        keep: Duration,
    ) -> Self {
        Self { files, disk, queries, limits, vision, keep, entries: OnceCell::new() }
    }

    /// Largest file in bytes.
    pub fn max_bytes(&self) -> u64 {
        self.limits.max_image_bytes.max(self.limits.max_video_bytes)
    }

    /// Begins an upload of `length` bytes. With `waits` it waits for a batch that names it.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is empty or too large, [`Error::DiskFull`], and [`Error::Store`] if the disk
    /// failed.
    pub async fn create(
        &self,
        owner: Owner,
        file_name: &str,
        length: u64,
        waits: bool,
        metadata: String,
    ) -> Result<Resumable, Error> {
        let (file_name, max) = (plain_name(file_name), self.max_bytes());
        if length == 0 {
            return Err(Error::Invalid(format!("{file_name} is empty; choose a file with content")));
        }
        if length > max {
            return Err(Error::Invalid(format!(
                "{file_name} has {length} bytes, but at most {max} are allowed"
            )));
        }
        let entries = self.entries().await?;
        let now = Timestamp::now();
        let record = Resumable {
            id: UploadId::generate(),
            owner,
            file_name,
            length,
            offset: 0,
            waits,
            metadata,
            created_at: now,
            expires_at: after(now, self.keep),
            batch_id: None,
        };
        let (files, disk, made) = (self.files.clone(), self.disk.clone(), record.clone());
        let begin = move || {
            if let Err(full) = disk.check(length) {
                return Ok(Err(full));
            }
            files.begin_partial(made.id)?;
            write(&files, &made).map(Ok)
        };
        job(begin).await.map_err(|error| self.disk.failed("a resumable upload", &error))??;
        let entry = Arc::new(Entry::new(record.clone(), Some(Sha256::new())));
        lock(entries).insert(record.id, entry);
        Ok(record)
    }

    /// Number and bytes of the uploads of an owner that were not submitted.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub async fn pending(&self, owner: &Owner) -> Result<(usize, u64), Error> {
        let entries = lock(self.entries().await?);
        let lengths = entries.values().filter_map(|entry| {
            let record = entry.record();
            (record.owner == *owner && record.batch_id.is_none()).then_some(record.length)
        });
        Ok(lengths.fold((0, 0), |(count, bytes), length| (count + 1, bytes + length)))
    }

    /// The state of an upload. A request that is sending bytes to it is interrupted first.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Store`] if the uploads cannot be read.
    pub async fn get(&self, owner: &Owner, id: UploadId) -> Result<Resumable, Error> {
        let entry = self.entry(owner, id).await?;
        let _turn = entry.take_turn().await;
        let record = entry.record().clone();
        Ok(record)
    }

    /// Begins to receive the bytes from `offset`.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] if `offset` is not where the upload ends, or it was submitted;
    /// [`Error::Store`] if its file cannot be opened.
    pub async fn append(&self, owner: &Owner, id: UploadId, offset: u64) -> Result<Appending, Error> {
        let entry = self.entry(owner, id).await?;
        let turn = entry.take_turn().await;
        let record = entry.record().clone();
        if let Some(batch) = record.batch_id {
            return Err(Error::Conflict(format!("{id} is in batch {batch} already")));
        }
        if record.offset != offset {
            return Err(Error::Conflict(format!(
                "the upload has {} bytes, not {offset}; continue there",
                record.offset
            )));
        }
        let appending = Appending::begin(entry, turn, self.files.clone(), self.disk.clone(), self.keep);
        appending.await.map_err(|error| self.disk.failed("a resumable upload", &error))
    }

    /// Makes a complete upload ready to be submitted. If it is dropped before, the upload is as it was. Nobody
    /// else has the upload while it is held.
    ///
    /// # Errors
    /// [`ReceiveError::Failed`] with [`Error::NotFound`], [`Error::Conflict`] if bytes are missing or it was
    /// submitted, or the error of the disk. [`ReceiveError::Refused`] if the file is refused; then the upload
    /// is removed.
    pub async fn complete(&self, owner: &Owner, id: UploadId) -> Result<(Received, Held), ReceiveError> {
        let entry = self.entry(owner, id).await?;
        let mut turn = entry.take_turn().await;
        let record = entry.record().clone();
        if let Some(batch) = record.batch_id {
            return Err(Error::Conflict(format!("{id} is in batch {batch} already")).into());
        }
        if !record.is_complete() {
            let (offset, length) = (record.offset, record.length);
            return Err(Error::Conflict(format!(
                "{id} has {offset} of {length} bytes; send the others first"
            ))
            .into());
        }
        let (files, disk) = (self.files.clone(), self.disk.clone());
        let (limits, vision, hasher) = (self.limits.clone(), self.vision.clone(), turn.take());
        let finish = move || -> Result<Received, ReceiveError> {
            let failed = |error: io::Error| disk.failed("a resumable upload", &error);
            let hash = match hasher {
                Some(hasher) => base16ct::lower::encode_string(&hasher.finalize()),
                None => files.partial_hash(id).map_err(failed)?,
            };
            let arrived = files.complete_partial(id, record.length, hash).map_err(failed)?;
            Received::inspect(arrived, record.file_name, &disk, &limits, &vision)
        };
        let finished = tokio::task::spawn_blocking(finish).await.unwrap_or_else(|_| {
            let message = format!("the code that inspects {id} panicked; the log says where");
            Err(Error::Store(message).into())
        });
        if matches!(finished, Err(ReceiveError::Refused(_))) {
            self.forget(id).await?;
        }
        Ok((finished?, Held { _turn: turn }))
    }

    /// Notes that an upload was submitted. Other ids are passed over.
    pub async fn submitted(&self, id: UploadId, batch: BatchId) {
        let Ok(entries) = self.entries().await else { return };
        let Some(entry) = lock(entries).get(&id).cloned() else { return };
        let record = {
            let mut record = entry.record();
            record.batch_id = Some(batch);
            record.expires_at = after(Timestamp::now(), self.keep.min(SUBMITTED_KEPT));
            record.clone()
        };
        let files = self.files.clone();
        // The next start finds it in the store if this is not written.
        if let Err(error) = job(move || write(&files, &record)).await {
            log::warn!("resumable upload {id}: cannot write that it was submitted: {error}");
        }
    }

    /// Removes an upload that was not submitted; a submitted one is only forgotten here.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Store`] if the disk failed.
    pub async fn delete(&self, owner: &Owner, id: UploadId) -> Result<(), Error> {
        let entry = self.entry(owner, id).await?;
        let _turn = entry.take_turn().await;
        self.forget(id).await
    }

    /// Removes the uploads that have expired at `now`.
    ///
    /// # Errors
    /// [`Error::Store`] if the disk failed.
    pub async fn expire(&self, now: Timestamp) -> Result<usize, Error> {
        let entries = self.entries().await?;
        let old = |entry: &&Arc<Entry>| entry.record().expires_at <= now;
        let expired: Vec<_> = lock(entries).values().filter(old).cloned().collect();
        let mut removed = 0;
        for entry in expired {
            // One that is getting bytes is not touched.
            let Ok(_turn) = Arc::clone(&entry.turn).try_lock_owned() else { continue };
            let id = entry.record().id;
            if entry.record().expires_at <= now {
                self.forget(id).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The complete uploads that are to become batches of their own and have not: their submission was refused
    /// for the moment, or the process ended before it.
    ///
    /// # Errors
    /// [`Error::Store`] if they cannot be read.
    pub async fn unsubmitted(&self) -> Result<Vec<(Owner, UploadId)>, Error> {
        let entries = lock(self.entries().await?);
        let waiting = entries.values().filter_map(|entry| {
            let record = entry.record();
            let ready = record.is_complete() && !record.waits && record.batch_id.is_none();
            (ready && entry.turn.try_lock().is_ok()).then(|| (record.owner.clone(), record.id))
        });
        Ok(waiting.collect())
    }

    async fn forget(&self, id: UploadId) -> Result<(), Error> {
        let files = self.files.clone();
        let removed = job(move || files.remove_partial(id)).await;
        removed.map_err(|error| Error::Store(format!("cannot remove resumable upload {id}: {error}")))?;
        lock(self.entries().await?).remove(&id);
        Ok(())
    }

    async fn entry(&self, owner: &Owner, id: UploadId) -> Result<Arc<Entry>, Error> {
        let entry = lock(self.entries().await?).get(&id).cloned();
        let own = entry.filter(|entry| entry.record().owner == *owner);
        own.ok_or(Error::NotFound("resumable upload"))
    }

    async fn entries(&self) -> Result<&Mutex<BTreeMap<UploadId, Arc<Entry>>>, Error> {
        self.entries.get_or_try_init(|| self.load()).await
    }

    /// Reads what an earlier process left.
    async fn load(&self) -> Result<Mutex<BTreeMap<UploadId, Arc<Entry>>>, Error> {
        let unreadable = |error: io::Error| Error::Store(format!("cannot read resumable uploads: {error}"));
        let files = self.files.clone();
        let records = job(move || files.partial_records()).await.map_err(unreadable)?;
        let mut entries = BTreeMap::new();
        for record in records {
            let mut record: Resumable = match serde_json::from_slice(&record) {
                Ok(record) => record,
                Err(error) => {
                    log::warn!("a resumable upload cannot be read and is passed over: {error}");
                    continue;
                }
            };
            let id = record.id;
            if record.batch_id.is_none() {
                let files = self.files.clone();
                match job(move || files.partial_length(id)).await {
                    Ok(length) => record.offset = record.offset.min(length),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        // Its file went to the store.
                        let Ok(upload) = self.queries.upload(record.owner.clone(), id).await else {
                            let files = self.files.clone();
                            job(move || files.remove_partial(id)).await.map_err(unreadable)?;
                            continue;
                        };
                        record.batch_id = Some(upload.batch_id);
                        record.offset = record.length;
                    }
                    Err(error) => return Err(unreadable(error)),
                }
            }
            entries.insert(id, Arc::new(Entry::new(record, None)));
        }
        Ok(Mutex::new(entries))
    }
}

/// An upload that is being submitted.
#[derive(Debug)]
pub struct Held {
    _turn: OwnedMutexGuard<Option<Sha256>>,
}

fn write(files: &Files, record: &Resumable) -> io::Result<()> {
    files.write_partial_record(record.id, &serde_json::to_vec(record)?)
}

fn lock(entries: &Mutex<BTreeMap<UploadId, Arc<Entry>>>) -> MutexGuard<'_, BTreeMap<UploadId, Arc<Entry>>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A time so much later, or the last one that there is.
fn after(time: Timestamp, later: Duration) -> Timestamp {
    time.checked_add(later).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        pipeline,
        store::{Options, Store},
    };

    /// The resumable uploads of a folder, which are kept for an hour.
    fn resumables(folder: &std::path::Path, store: &Store) -> Resumables {
        Resumables::new(
            Files::new(folder),
            Disk::new(folder.to_owned(), 0),
            store.queries(),
            pipeline::limits(&Config::default()),
            VisionSpec { max_pixels: 1 << 20, max_side_px: 1024, patch_px: 28, jpeg: false },
            Duration::from_secs(3600),
        )
    }

    #[actix_rt::test]
    async fn an_upload_without_new_bytes_expires_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), Options::default()).expect("a store");
        let uploads = resumables(folder.path(), &store);
        let owner = Owner::local();
        let made = uploads.create(owner.clone(), "a.png", 10, false, String::new()).await.expect("made");
        let mut appending = uploads.append(&owner, made.id, 0).await.expect("found");
        appending.write(b"12345", true).await.expect("room");
        let later = appending.finish().await.expect("room").expires_at;
        assert!(later >= made.expires_at);
        assert_eq!(uploads.expire(later - Duration::from_secs(1)).await, Ok(0));
        // Another process finds it, with the same time.
        let others = resumables(folder.path(), &store);
        assert_eq!(others.get(&owner, made.id).await.expect("found").offset, 5);
        assert_eq!(others.expire(later).await, Ok(1));
        assert!(matches!(others.get(&owner, made.id).await, Err(Error::NotFound(_))));
        let left = std::fs::read_dir(folder.path().join("partial")).expect("a folder").count();
        assert_eq!(left, 0);
    }

    #[actix_rt::test]
    async fn bytes_that_were_not_confirmed_are_sent_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), Options::default()).expect("a store");
        let uploads = resumables(folder.path(), &store);
        let owner = Owner::local();
        let picture = include_bytes!("../../tests/fixtures/cat.jpg");
        let length = picture.len() as u64;
        let made = uploads.create(owner.clone(), "cat.jpg", length, true, String::new()).await.expect("made");
        let mut dropped = uploads.append(&owner, made.id, 0).await.expect("found");
        dropped.write(&vec![7; 1 << 20], false).await.expect("room");
        drop(dropped);
        let mut appending = uploads.append(&owner, made.id, 0).await.expect("at the beginning");
        appending.write(picture, true).await.expect("room");
        assert!(appending.finish().await.expect("room").is_complete());
        let (received, held) = uploads.complete(&owner, made.id).await.expect("a picture");
        assert_eq!(received.content_hash(), crate::files::hash(picture));
        // Its submission is refused, so it goes back, and is as complete as before.
        drop((received, held));
        let (received, _held) = uploads.complete(&owner, made.id).await.expect("a picture");
        assert_eq!(received.content_hash(), crate::files::hash(picture));
    }
}
