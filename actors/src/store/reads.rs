//! What can be asked of the store. Readers run in blocking jobs and see only what is on disk.

use std::sync::Arc;

use super::{
    Begun, Inner, Place, Queries,
    attempts::Hashed,
    draft::{Active, PIECE, piece_key},
    keys::{self, Tree},
    places::PlaceEntry,
    vectors,
};
use crate::{
    analysis::{Identity, ProviderState},
    batch::{Batch, Counts},
    error::Error,
    id::{BatchId, Owner, UploadId},
    search::{self, Hit},
    upload::Upload,
};

pub(super) type Read<T> = Result<T, String>;

impl Queries {
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Read<T> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        let job = move || inner.read_now(read);
        match tokio::task::spawn_blocking(job).await {
            Ok(result) => result,
            Err(_) => Err(Error::Store("a page of the store does not make sense".into())),
        }
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
        self.read(move |inner| inner.batches(&owner, offset, limit)).await
    }

    /// How many uploads of all owners stand where. Reads the record of every batch.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn totals(&self) -> Result<Counts, Error> {
        self.read(|inner| {
            let mut totals = Counts::default();
            for entry in inner.tree(Tree::Batches).iter().values() {
                let batch: Batch = decode(&entry.map_err(|error| error.to_string())?)?;
                totals.merge(&batch.counts);
            }
            Ok(totals)
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
                .filter(|entry| entry.as_ref().map_or(true, |(key, _)| keys::is_record(key)))
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

    /// Asks whether the upload of an attempt was deleted, also if that is not on disk yet, so that it waits for no disk. Keeps no hold of the
    /// store: one that is closed knows nothing, and says no. To be called in a blocking job.
    pub fn is_gone(&self, begun: &Begun) -> impl FnOnce() -> bool + Send + 'static + use<> {
        let (inner, id, held) = (Arc::downgrade(&self.inner), begun.upload.id, begun.held.clone());
        move || {
            if held.strong_count() > 0 {
                return false;
            }
            let known = inner.upgrade().map(|it| it.tree(Tree::UploadIds).contains_key(id.as_bytes()));
            matches!(known, Some(Ok(false)))
        }
    }

    /// Which uploads paths stand for, and whether size and time are as they were then. Blocks: to be called in a blocking job.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn at_places<'a>(
        &self,
        owner: &Owner,
        places: impl IntoIterator<Item = &'a Place>,
    ) -> Result<Vec<Option<(Upload, bool)>>, Error> {
        self.inner.read_now(|inner| {
            let find = |place: &Place| {
                let Some(value) = inner.get(Tree::Places, &keys::digest(owner, &place.key()))? else {
                    return Ok(None);
                };
                let entry: PlaceEntry = decode(&value)?;
                let same = entry.size == place.size && entry.modified_ns == place.modified_ns.to_string();
                Ok(inner.upload(entry.upload_id)?.map(|upload| (upload, same)))
            };
            places.into_iter().map(find).collect()
        })
    }

    /// Completed uploads with bytes of these hashes. Blocks: to be called in a blocking job.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn with_contents<'a>(
        &self,
        owner: &Owner,
        content_hashes: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Option<Upload>>, Error> {
        self.inner.read_now(|inner| {
            let find = |hash| {
                let Some(hash) = keys::unhex(hash) else { return Ok(None) };
                let Some(value) = inner.get(Tree::Hashes, &keys::digest(owner, &hash))? else {
                    return Ok(None);
                };
                inner.upload(decode::<Hashed>(&value)?.upload_id)
            };
            content_hashes.into_iter().map(find).collect()
        })
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
    fn read_now<T>(&self, read: impl FnOnce(&Self) -> Read<T>) -> Result<T, Error> {
        let _on_disk = self.reading.read();
        read(self).map_err(Error::Store)
    }

    pub(super) fn tree(&self, tree: Tree) -> &sled::Tree {
        &self.trees[tree as usize]
    }

    pub(super) fn get(&self, tree: Tree, key: &[u8]) -> Read<Option<sled::IVec>> {
        self.tree(tree).get(key).map_err(|error| error.to_string())
    }

    pub(super) fn batch(&self, id: BatchId) -> Read<Option<Batch>> {
        self.get(Tree::Batches, id.as_bytes())?.map(|value| decode(&value)).transpose()
    }

    pub(super) fn batches(&self, owner: &Owner, offset: usize, limit: usize) -> Read<Vec<Batch>> {
        let mut batches = Vec::new();
        for entry in self.tree(Tree::OwnerBatches).scan_prefix(keys::owner(owner)).skip(offset).take(limit) {
            let id: BatchId = decode(&entry.map_err(|error| error.to_string())?.1)?;
            batches.extend(self.batch(id)?);
        }
        Ok(batches)
    }

    pub(super) fn upload(&self, id: UploadId) -> Read<Option<Upload>> {
        let Some(key) = self.get(Tree::UploadIds, id.as_bytes())? else { return Ok(None) };
        self.upload_under(&key)
    }

    pub(super) fn upload_under(&self, key: &[u8]) -> Read<Option<Upload>> {
        let Some(mut upload) = upload_at(self.tree(Tree::Uploads), key)? else { return Ok(None) };
        if !upload.status.is_terminal()
            && let Some(value) = self.get(Tree::Active, upload.id.as_bytes())?
        {
            decode::<Active>(&value)?.bring(&mut upload);
        }
        Ok(Some(upload))
    }
}

/// The record under a key.
pub(super) fn upload_at(uploads: &sled::Tree, key: &[u8]) -> Read<Option<Upload>> {
    record_at(uploads, key)?.map(|record| decode(&record)).transpose()
}

/// The bytes of the record under a key, put together from its pieces.
pub(super) fn record_at(uploads: &sled::Tree, key: &[u8]) -> Read<Option<sled::IVec>> {
    let get = |key: &[u8]| uploads.get(key).map_err(|error| error.to_string());
    let Some(first) = get(key)? else { return Ok(None) };
    if first.len() < PIECE {
        return Ok(Some(first));
    }
    let mut record = first.to_vec();
    let mut piece = 1;
    while record.len() == piece * PIECE {
        let Some(more) = get(&piece_key(key, piece))? else { break };
        record.extend_from_slice(&more);
        piece += 1;
    }
    Ok(Some(record.into()))
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(value: &[u8]) -> Read<T> {
    serde_json::from_slice(value).map_err(|error| format!("a record does not make sense: {error}"))
}
