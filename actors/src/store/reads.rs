//! What can be asked of the store. Readers run in blocking jobs and see only what is on disk.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Inner, Place, PlaceEntry, Store,
    draft::{Active, PIECE, kept_events, piece_key},
    keys::{self, Tree},
    vectors,
    writes::Hashed,
};
use crate::{
    analysis::{Identity, ProviderState},
    batch::Batch,
    error::Error,
    event::Event,
    id::{BatchId, Owner, UploadId},
    search::{self, Hit},
    upload::Upload,
};

/// How far a reader of changes has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

/// An event with the record that it is about, as it stands now.
#[derive(Debug)]
pub struct Change {
    /// Whose event.
    pub owner: Owner,
    /// The event.
    pub event: Event,
    /// The record of its upload, if it still exists.
    pub upload: Option<Upload>,
}

/// A part of an owner's event log.
#[derive(Debug)]
pub struct LogPage {
    /// The events, in order.
    pub changes: Vec<Change>,
    /// The event asked for is no longer kept, or never was.
    pub gone: bool,
    /// Number of the newest event.
    pub newest: u64,
}

type Read<T> = Result<T, String>;

impl Store {
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Read<T> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        let job = move || inner.read_now(read);
        match tokio::task::spawn_blocking(job).await {
            Ok(result) => result.map_err(Error::Store),
            Err(_) => Err(Error::Store("a page of the store does not make sense".into())),
        }
    }

    /// Where a reader starts that wants only what comes from now on.
    pub fn newest(&self) -> Cursor {
        Cursor(self.inner.durable_change.load(Ordering::Acquire))
    }

    /// Events after `cursor` of the owners that `wanted` names, at most `most`, and how far that is.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn changes_after(
        &self,
        cursor: Cursor,
        wanted: impl Fn(&Owner) -> bool + Send + 'static,
        most: usize,
    ) -> Result<(Vec<Change>, Cursor), Error> {
        self.read(move |inner| {
            let mut changes = Vec::new();
            let mut reached = cursor;
            let newest = inner.durable_change.load(Ordering::Acquire);
            if newest <= cursor.0 {
                return Ok((changes, cursor));
            }
            for entry in inner.tree(Tree::Changes).range(keys::number(cursor.0 + 1)..=keys::number(newest)) {
                let (key, value) = entry.map_err(|error| error.to_string())?;
                let change: super::draft::Change = decode(&value)?;
                if wanted(&change.owner) {
                    if changes.len() == most {
                        return Ok((changes, reached));
                    }
                    changes.extend(inner.change(change.owner, change.seq)?);
                }
                reached = Cursor(keys::trailing_number(&key).unwrap_or(newest));
            }
            Ok((changes, Cursor(newest)))
        })
        .await
    }

    /// Events of an owner from number `from` on, at most `most`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn events_from(&self, owner: Owner, from: u64, most: usize) -> Result<LogPage, Error> {
        self.read(move |inner| {
            let (first, newest) =
                kept_events(inner.tree(Tree::Events), &owner).map_err(|error| error.to_string())?;
            let gone = from < first && newest > 0 && !(from == 0 && first == 1) || from > newest + 1;
            let mut changes = Vec::new();
            for seq in from.max(first)..=newest {
                if changes.len() == most {
                    break;
                }
                changes.extend(inner.change(owner.clone(), seq)?);
            }
            Ok(LogPage { changes, gone, newest })
        })
        .await
    }

    /// Uploads in the hands of workers.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn active(&self) -> Result<Vec<(UploadId, Active)>, Error> {
        self.read(|inner| {
            let entries = inner.tree(Tree::Active).iter();
            entries
                .map(|entry| {
                    let (key, value) = entry.map_err(|error| error.to_string())?;
                    let id = key.first_chunk::<16>().ok_or("an active upload has no id")?;
                    Ok((UploadId::from_bytes(*id), decode(&value)?))
                })
                .collect()
        })
        .await
    }

    /// A batch, if it is this owner's.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Store`].
    pub async fn batch(&self, owner: Owner, id: BatchId) -> Result<Batch, Error> {
        let batch = self.read(move |inner| inner.batch(id)).await?;
        batch.filter(|batch| batch.owner == owner).ok_or(Error::NotFound("batch"))
    }

    /// Batches of an owner, newest first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn batches(&self, owner: Owner, offset: usize, limit: usize) -> Result<Vec<Batch>, Error> {
        self.read(move |inner| {
            let mut batches = Vec::new();
            for entry in
                inner.tree(Tree::OwnerBatches).scan_prefix(keys::owner(&owner)).skip(offset).take(limit)
            {
                let id: BatchId = decode(&entry.map_err(|error| error.to_string())?.1)?;
                batches.extend(inner.batch(id)?);
            }
            Ok(batches)
        })
        .await
    }

    /// An upload, if it is this owner's, with the step that it is in now.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Store`].
    pub async fn upload(&self, owner: Owner, id: UploadId) -> Result<Upload, Error> {
        let upload = self.read(move |inner| inner.upload(id)).await?;
        upload.filter(|upload| upload.owner == owner).ok_or(Error::NotFound("upload"))
    }

    /// Uploads of an owner that wait or are in flight, each with its batch. What rests outside the scope of a recovery is not among them.
    pub fn taken_up(&self, owner: &Owner) -> Vec<(BatchId, UploadId)> {
        let state = self.inner.state.lock();
        let active = state.active.values().map(|it| &it.upload).filter(|it| it.owner == *owner);
        state.queue.uploads_of(owner).chain(active.map(|it| (it.batch_id, it.id))).collect()
    }

    /// Which of these uploads have a record.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn known(&self, ids: Vec<UploadId>) -> Result<Vec<(UploadId, bool)>, Error> {
        self.read(move |inner| {
            let known = |id: UploadId| Ok((id, inner.get(Tree::UploadIds, id.as_bytes())?.is_some()));
            ids.into_iter().map(known).collect()
        })
        .await
    }

    /// Uploads of a batch in their order, if it is this owner's.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Store`].
    pub async fn uploads(
        &self,
        owner: Owner,
        batch: BatchId,
        offset: usize,
        limit: usize,
    ) -> Result<Vec<Upload>, Error> {
        self.batch(owner, batch).await?;
        self.read(move |inner| {
            let records = inner.tree(Tree::Uploads).scan_prefix(batch.as_bytes());
            records
                .filter(|entry| entry.as_ref().map_or(true, |(key, _)| key.len() == 20))
                .skip(offset)
                .take(limit)
                .filter_map(|entry| match entry {
                    Ok((key, _)) => inner.upload_under(&key).transpose(),
                    Err(error) => Some(Err(error.to_string())),
                })
                .collect()
        })
        .await
    }

    /// Which upload a path stands for, and whether size and time are as they were then. Blocks: to be called in a blocking job.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn at_place(&self, owner: &Owner, place: &Place) -> Result<Option<(Upload, bool)>, Error> {
        let find = |inner: &Inner| {
            let Some(value) = inner.get(Tree::Places, &keys::digest(owner, &place.key()))? else {
                return Ok(None);
            };
            let entry: PlaceEntry = decode(&value)?;
            let same = entry.size == place.size && entry.modified_ns == place.modified_ns.to_string();
            Ok(inner.upload(entry.upload_id)?.map(|upload| (upload, same)))
        };
        self.inner.read_now(find).map_err(Error::Store)
    }

    /// A completed upload with these bytes. Blocks: to be called in a blocking job.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn with_content(&self, owner: &Owner, content_hash: &str) -> Result<Option<Upload>, Error> {
        let find = |inner: &Inner| {
            let Some(hash) = keys::unhex(content_hash) else { return Ok(None) };
            let Some(value) = inner.get(Tree::Hashes, &keys::digest(owner, &hash))? else { return Ok(None) };
            inner.upload(decode::<Hashed>(&value)?.upload_id)
        };
        self.inner.read_now(find).map_err(Error::Store)
    }

    /// Uploads of an owner whose vectors lie nearest to `query`, among those that `by` embedded.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn nearest(
        &self,
        owner: Owner,
        by: Identity,
        query: Vec<f32>,
        limit: usize,
    ) -> Result<Vec<(Upload, f32)>, Error> {
        self.read(move |inner| {
            let prefix = keys::space(&owner, &vectors::space(&by));
            let mut vector: Option<(UploadId, Vec<f32>)> = None;
            let mut failed = None;
            let mut pieces = inner.tree(Tree::Embeddings).scan_prefix(&prefix);
            // Pieces of a vector stand one after the other; a vector is whole when the next one begins.
            let vectors = std::iter::from_fn(|| {
                loop {
                    let (key, value) = match pieces.next() {
                        Some(Ok(piece)) => piece,
                        Some(Err(error)) => {
                            failed = Some(error.to_string());
                            return None;
                        }
                        None => return vector.take(),
                    };
                    let Some(id) = key.get(prefix.len()..).and_then(|rest| rest.first_chunk::<16>()) else {
                        continue;
                    };
                    let id = UploadId::from_bytes(*id);
                    match &mut vector {
                        Some((of, numbers)) if *of == id => numbers.extend(vectors::numbers(&value)),
                        other => {
                            if let Some(whole) = other.replace((id, vectors::numbers(&value).collect())) {
                                return Some(whole);
                            }
                        }
                    }
                }
            });
            let hits: Vec<Hit<UploadId>> = search::nearest(&query, vectors, limit);
            if let Some(error) = failed {
                return Err(error);
            }
            hits.into_iter()
                .filter_map(|hit| {
                    inner.upload(hit.id).map(|it| it.map(|upload| (upload, hit.score))).transpose()
                })
                .collect()
        })
        .await
    }

    /// How the provider stood when that was last written.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn provider_state(&self) -> Result<Option<ProviderState>, Error> {
        self.read(|inner| inner.get(Tree::Meta, keys::PROVIDER)?.map(|value| decode(&value)).transpose())
            .await
    }

    /// Uploads whose files are still to be removed.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn removals(&self) -> Result<Vec<UploadId>, Error> {
        self.read(|inner| {
            let keys = inner.tree(Tree::Removals).iter().keys();
            keys.filter_map(|key| match key {
                Ok(key) => key.first_chunk::<16>().map(|id| Ok(UploadId::from_bytes(*id))),
                Err(error) => Some(Err(error.to_string())),
            })
            .collect()
        })
        .await
    }
}

impl Inner {
    /// Reads what is on disk.
    fn read_now<T>(&self, read: impl FnOnce(&Self) -> Read<T>) -> Read<T> {
        let _on_disk = self.reading.read();
        read(self)
    }

    pub(super) fn tree(&self, tree: Tree) -> &sled::Tree {
        &self.trees[tree as usize]
    }

    fn get(&self, tree: Tree, key: &[u8]) -> Read<Option<sled::IVec>> {
        self.tree(tree).get(key).map_err(|error| error.to_string())
    }

    fn batch(&self, id: BatchId) -> Read<Option<Batch>> {
        self.get(Tree::Batches, id.as_bytes())?.map(|value| decode(&value)).transpose()
    }

    fn upload(&self, id: UploadId) -> Read<Option<Upload>> {
        let Some(key) = self.get(Tree::UploadIds, id.as_bytes())? else { return Ok(None) };
        self.upload_under(&key)
    }

    fn upload_under(&self, key: &[u8]) -> Read<Option<Upload>> {
        let Some(mut upload) = upload_at(self.tree(Tree::Uploads), key)? else { return Ok(None) };
        if upload.status.is_active()
            && let Some(value) = self.get(Tree::Active, upload.id.as_bytes())?
        {
            upload.stage = decode::<Active>(&value)?.stage;
        }
        Ok(Some(upload))
    }

    fn change(&self, owner: Owner, seq: u64) -> Read<Option<Change>> {
        let Some(value) = self.get(Tree::Events, &keys::event(&owner, seq))? else { return Ok(None) };
        let event: Event = decode(&value)?;
        let upload = match event.upload_id {
            Some(id) => self.upload(id)?,
            None => None,
        };
        Ok(Some(Change { owner, event, upload }))
    }
}

/// The record under a key, put together from its pieces.
pub(super) fn upload_at(uploads: &sled::Tree, key: &[u8]) -> Read<Option<Upload>> {
    let get = |key: &[u8]| uploads.get(key).map_err(|error| error.to_string());
    let Some(first) = get(key)? else { return Ok(None) };
    if first.len() < PIECE {
        return decode(&first).map(Some);
    }
    let mut record = first.to_vec();
    let mut piece = 1;
    while record.len() == piece * PIECE {
        let Some(more) = get(&piece_key(key, piece))? else { break };
        record.extend_from_slice(&more);
        piece += 1;
    }
    decode(&record).map(Some)
}

fn decode<T: serde::de::DeserializeOwned>(value: &[u8]) -> Read<T> {
    serde_json::from_slice(value).map_err(|error| format!("a record does not make sense: {error}"))
}
