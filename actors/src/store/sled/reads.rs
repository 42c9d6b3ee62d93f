//! Queries about batches and uploads. A reader runs in a blocking job and sees durable changes only.

use std::sync::Arc;

use super::{
    Queries, Sled,
    keys::{self, Tree},
    pages::{Pages, Read},
    records::{decode, decode_upload},
    unit_of_work::ContentEntry,
    vectors,
};
use crate::{
    analysis::Identity,
    batch::{Batch, Counts},
    error::Error,
    id::{BatchId, Owner, UploadId},
    search::{self, Hit},
    store::{FaultPoint, FileStamp, PathEntry, attempt::RunningAttempt},
    upload::Upload,
};

/// An upload that was found by a path of its bytes.
#[derive(Debug)]
pub struct KnownPath {
    /// The upload.
    pub upload: Upload,
    /// Whether the file still has the length and the time that were stored with the path.
    pub unchanged: bool,
}

impl Queries {
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Sled) -> Read<T> + Send + 'static,
    ) -> Result<T, Error> {
        self.sled.read(read).await
    }

    /// A batch, if it is this owner's.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Store`].
    pub async fn batch(&self, owner: Owner, id: BatchId) -> Result<Batch, Error> {
        let batch = self.read(move |sled| sled.batch(id)).await?;
        batch.filter(|batch| batch.owner == owner).ok_or(Error::NotFound("batch"))
    }

    /// Batches of an owner, newest first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn batches(&self, owner: Owner, offset: usize, limit: usize) -> Result<Vec<Batch>, Error> {
        self.read(move |sled| sled.batches(&owner, offset, limit)).await
    }

    /// Uploads of all owners by their status. Reads the record of every batch.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn totals(&self) -> Result<Counts, Error> {
        self.read(|sled| {
            let mut totals = Counts::default();
            for entry in sled.tree(Tree::Batches).iter() {
                let batch: Batch = decode(&entry?.1)?;
                totals.merge(&batch.counts);
            }
            Ok(totals)
        })
        .await
    }

    /// An upload with its present stage, if it is this owner's.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Store`].
    pub async fn upload(&self, owner: Owner, id: UploadId) -> Result<Upload, Error> {
        let upload = self.read(move |sled| sled.upload(id)).await?;
        upload.filter(|upload| upload.owner == owner).ok_or(Error::NotFound("upload"))
    }

    /// Uploads of an owner that wait or are in flight, each with its batch. Uploads outside the
    /// scope of the start are left out.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn unfinished(&self, owner: Owner) -> Result<Vec<(BatchId, UploadId)>, Error> {
        self.read(move |sled| {
            let state = sled.state.lock();
            let held = state.held.values().map(|(held, _)| &held.upload).filter(|it| it.owner == owner);
            let waiting = state.queue.uploads_of(&owner);
            Ok(waiting.chain(held.map(|it| (it.batch_id, it.id))).collect())
        })
        .await
    }

    /// Which of these uploads have a record.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn known(&self, ids: Vec<UploadId>) -> Result<Vec<(UploadId, bool)>, Error> {
        self.read(move |sled| {
            let known = |id: UploadId| Ok((id, sled.tree(Tree::UploadIds).get(id.as_bytes())?.is_some()));
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
        self.read(move |sled| {
            let records = sled.tree(Tree::Uploads).scan(batch.as_bytes());
            records
                .filter(|entry| entry.as_ref().map_or(true, |(key, _)| keys::is_record(key)))
                .skip(offset)
                .take(limit)
                .filter_map(|entry| match entry {
                    Ok((key, _)) => sled.upload_under(&key).transpose(),
                    Err(error) => Some(Err(error)),
                })
                .collect()
        })
        .await
    }

    /// The upload of each file's path; `None` for a path that is not known.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn at_paths(
        &self,
        owner: Owner,
        stamps: Vec<FileStamp>,
    ) -> Result<Vec<Option<KnownPath>>, Error> {
        self.read(move |sled| {
            let find = |stamp: &FileStamp| {
                let key = keys::digest(&owner, &keys::path_digest(&stamp.path));
                let Some(value) = sled.tree(Tree::Places).get(&key)? else { return Ok(None) };
                let entry: PathEntry = decode(&value)?;
                let unchanged = entry.fits(stamp);
                Ok(sled.upload(entry.upload_id)?.map(|upload| KnownPath { upload, unchanged }))
            };
            stamps.iter().map(find).collect()
        })
        .await
    }

    /// The completed upload with each content hash; `None` if there is no such upload.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn with_contents(
        &self,
        owner: Owner,
        hashes: Vec<String>,
    ) -> Result<Vec<Option<Upload>>, Error> {
        self.read(move |sled| {
            let find = |hash: &String| {
                let Some(hash) = keys::unhex(hash) else { return Ok(None) };
                let Some(value) = sled.tree(Tree::Hashes).get(&keys::digest(&owner, &hash))? else {
                    return Ok(None);
                };
                sled.upload(decode::<ContentEntry>(&value)?.upload_id)
            };
            hashes.iter().map(find).collect()
        })
        .await
    }

    /// The uploads of an owner whose vectors are nearest to `query`, among the vectors that `by`
    /// made.
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
        self.read(move |sled| {
            let prefix = keys::space(&owner, &vectors::space(&by));
            let mut failed = None;
            let hits: Vec<Hit<UploadId>> = {
                let vectors = vectors::all(sled.tree(Tree::Embeddings), &prefix, &mut failed);
                search::nearest(&query, vectors, limit)
            };
            if let Some(error) = failed {
                return Err(error);
            }
            hits.into_iter()
                .filter_map(|hit| {
                    sled.upload(hit.id).map(|it| it.map(|upload| (upload, hit.score))).transpose()
                })
                .collect()
        })
        .await
    }

    /// The vector of an upload, if it is this owner's and its vector is comparable to those of
    /// `by`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn vector(&self, owner: Owner, id: UploadId, by: Identity) -> Result<Option<Vec<f32>>, Error> {
        self.read(move |sled| {
            let Some(upload) = sled.upload(id)?.filter(|it| it.owner == owner) else { return Ok(None) };
            let Some(of) = upload.embedded_by.filter(|of| of.embeds_like(&by)) else { return Ok(None) };
            let space = vectors::space(&of);
            let mut vector = Vec::new();
            for piece in 0..vectors::piece_count(of.dimensions as usize) {
                let key = keys::embedding(&owner, &space, id, piece);
                let Some(numbers) = sled.tree(Tree::Embeddings).get(&key)? else { return Ok(None) };
                vector.extend(vectors::numbers(&numbers));
            }
            Ok(Some(vector))
        })
        .await
    }

    /// Completed uploads whose thumbnails are still to be made, at most `most` from after an upload on, in the
    /// order of their ids.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn late_thumbnails(&self, after: Option<UploadId>, most: usize) -> Result<Vec<Upload>, Error> {
        self.read(move |sled| {
            let from = after.map(|id| [&id.as_bytes()[..], &[0]].concat()).unwrap_or_default();
            let mut uploads = Vec::new();
            for entry in sled.tree(Tree::LateThumbnails).range(from..).take(most) {
                let (id, _) = entry?;
                let Some(key) = sled.tree(Tree::UploadIds).get(&id)? else { continue };
                uploads.extend(sled.upload_under(&key)?);
            }
            Ok(uploads)
        })
        .await
    }

    /// Deleted uploads whose files are not removed yet.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn removals(&self) -> Result<Vec<UploadId>, Error> {
        self.read(|sled| {
            let ids = sled.tree(Tree::Removals).iter().map(|entry| {
                let (key, _) = entry?;
                Ok(key.first_chunk::<16>().map(|id| UploadId::from_bytes(*id)))
            });
            ids.filter_map(Read::transpose).collect()
        })
        .await
    }
}

impl Sled {
    /// Reads in a blocking job. A panic outside sled's own code is reported as a fault of the
    /// program.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> Read<T> + Send + 'static,
    ) -> Result<T, Error> {
        let sled = Arc::clone(self);
        let job = move || {
            let _durable = sled.reading.read();
            sled.faults.check(FaultPoint::Read)?;
            read(&sled)
        };
        match tokio::task::spawn_blocking(job).await {
            Ok(result) => result.map_err(Error::Store),
            Err(_) => Err(Error::Store(
                "the code that reads it panicked, which is a fault of mediamill; the log says where".into(),
            )),
        }
    }

    pub(super) fn tree(&self, tree: Tree) -> &Pages {
        &self.trees[tree as usize]
    }

    pub(super) fn batch(&self, id: BatchId) -> Read<Option<Batch>> {
        self.tree(Tree::Batches).get(id.as_bytes())?.map(|value| decode(&value)).transpose()
    }

    pub(super) fn batches(&self, owner: &Owner, offset: usize, limit: usize) -> Read<Vec<Batch>> {
        let mut batches = Vec::new();
        for entry in self.tree(Tree::OwnerBatches).scan(&keys::owner(owner)).skip(offset).take(limit) {
            let id: BatchId = decode(&entry?.1)?;
            batches.extend(self.batch(id)?);
        }
        Ok(batches)
    }

    pub(super) fn upload(&self, id: UploadId) -> Read<Option<Upload>> {
        match self.tree(Tree::UploadIds).get(id.as_bytes())? {
            Some(key) => self.upload_under(&key),
            None => Ok(None),
        }
    }

    pub(super) fn upload_under(&self, key: &[u8]) -> Read<Option<Upload>> {
        let Some((record, _)) = self.record_at(key)? else { return Ok(None) };
        let mut upload = decode_upload(&record)?;
        if !upload.status.is_terminal()
            && let Some(value) = self.tree(Tree::Active).get(upload.id.as_bytes())?
        {
            decode::<RunningAttempt>(&value)?.bring(&mut upload);
        }
        Ok(Some(upload))
    }
}
