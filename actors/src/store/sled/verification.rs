//! Compares the trees with each other: indexes and counts must follow from the upload records,
//! and events must have no gap.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Queries, Sled,
    event_log::{self, Run, RunOf},
    keys::{self, Tree},
    records::decode as json,
    unit_of_work::{ContentEntry, Waiting},
};
use crate::{
    batch::{Batch, Counts},
    error::Error,
    event::Event,
    id::{BatchId, Owner, UploadId},
    store::{PathEntry, RunningAttempt},
    upload::Status,
};

/// Most faults that are described; further ones are only counted.
const MOST_FAULTS: usize = 100;

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verification {
    /// Number of batches.
    pub batches: u64,
    /// Number of uploads by status, sorted by the name of the status.
    pub uploads: BTreeMap<&'static str, u64>,
    /// Number of events that are kept.
    pub events: u64,
    /// Uploads whose record says that the thumbnail was made.
    pub thumbnails: Vec<UploadId>,
    /// The first hundred faults, each in one sentence.
    pub faults: Vec<String>,
    /// Number of all faults.
    pub fault_count: u64,
}

impl Verification {
    fn fault(&mut self, sentence: impl FnOnce() -> String) {
        self.fault_count += 1;
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(sentence());
        }
    }
}

impl Queries {
    /// Reads the whole store and compares its trees with each other. Commands wait meanwhile.
    ///
    /// # Errors
    /// [`Error::Store`] if something cannot be read at all.
    pub async fn verify(&self) -> Result<Verification, Error> {
        self.read(|sled| {
            let mut found = Verification::default();
            let uploads = sled.verify_uploads(&mut found)?;
            sled.verify_indexes(&uploads, &mut found)?;
            sled.verify_events(&mut found)?;
            Ok(found)
        })
        .await
    }
}

/// The part of an upload record that the indexes are compared with.
struct Known {
    batch: BatchId,
    position: u32,
    status: Status,
    embedded: bool,
}

impl Sled {
    /// Compares the upload records with the counts of their batches. Answers with the part of
    /// each record that the indexes are compared with.
    fn verify_uploads(&self, found: &mut Verification) -> Result<HashMap<UploadId, Known>, String> {
        let mut uploads = HashMap::new();
        let mut counts: HashMap<BatchId, Counts> = HashMap::new();
        for entry in self.tree(Tree::Uploads).iter() {
            let (key, _) = entry?;
            if !keys::is_record(&key) {
                continue;
            }
            let Some(upload) = self.upload_under(&key)? else { continue };
            if keys::upload(upload.batch_id, upload.position) != key[..] {
                found.fault(|| format!("upload {} has its record under a wrong key", upload.id));
            }
            counts.entry(upload.batch_id).or_default().add(&upload);
            *found.uploads.entry(upload.status.as_str()).or_default() += 1;
            if upload.thumbnail == crate::upload::Thumbnail::Made {
                found.thumbnails.push(upload.id);
            }
            let known = Known {
                batch: upload.batch_id,
                position: upload.position,
                status: upload.status,
                embedded: upload.embedded_by.is_some(),
            };
            if uploads.insert(upload.id, known).is_some() {
                found.fault(|| format!("upload {} has two records", upload.id));
            }
        }
        for entry in self.tree(Tree::Batches).iter() {
            let batch: Batch = json(&entry?.1)?;
            found.batches += 1;
            let counted = counts.remove(&batch.id).unwrap_or_default();
            if counted != batch.counts {
                found.fault(|| {
                    format!("batch {} counts {:?}, but its uploads are {counted:?}", batch.id, batch.counts)
                });
            }
            let ended = batch.status().is_terminal();
            if ended != (batch.ended_round == batch.round) {
                found.fault(|| {
                    format!(
                        "the status of batch {} does not fit whether the end of its round has an event",
                        batch.id
                    )
                });
            }
        }
        for batch in counts.into_keys() {
            found.fault(|| format!("there are uploads of batch {batch}, but no record of it"));
        }
        Ok(uploads)
    }

    /// Checks the trees that follow from the records.
    fn verify_indexes(
        &self,
        uploads: &HashMap<UploadId, Known>,
        found: &mut Verification,
    ) -> Result<(), String> {
        let mut named = 0;
        for entry in self.tree(Tree::UploadIds).iter() {
            let (id, key) = entry?;
            let id = upload_id(&id)?;
            named += 1;
            if uploads.get(&id).is_none_or(|it| keys::upload(it.batch, it.position) != key[..]) {
                found.fault(|| format!("the id {id} leads to no upload record"));
            }
        }
        if named != uploads.len() {
            found.fault(|| format!("{} uploads have {named} entries in the index of ids", uploads.len()));
        }
        let mut waiting = HashSet::new();
        for entry in self.tree(Tree::Work).iter() {
            let work: Waiting = json(&entry?.1)?;
            waiting.insert(work.upload_id);
        }
        let mut active = HashSet::new();
        for entry in self.tree(Tree::Active).iter() {
            let (id, value) = entry?;
            let _: RunningAttempt = json(&value)?;
            active.insert(upload_id(&id)?);
        }
        let mut embedded = HashSet::new();
        for key in self.tree(Tree::Embeddings).iter() {
            let (key, _) = key?;
            // A key is the owner and the space, then the upload and the number of the piece.
            let id = key.len().checked_sub(17).and_then(|at| key.get(at..at + 16));
            embedded.insert(upload_id(id.unwrap_or_default())?);
        }
        for (id, known) in uploads {
            let status = known.status.as_str();
            if (known.status == Status::Pending) != waiting.remove(id) {
                found.fault(|| format!("upload {id} is {status}, but its entry in the queue says otherwise"));
            }
            if known.status.is_active() != active.remove(id) {
                found.fault(|| format!("upload {id} is {status}, but its entry in flight says otherwise"));
            }
            if known.embedded != embedded.remove(id) {
                found.fault(|| {
                    format!("the record of upload {id} and the vectors disagree whether it has one")
                });
            }
        }
        for id in waiting.iter().chain(&active).chain(&embedded) {
            found.fault(|| format!("an index has an entry of upload {id}, which has no record"));
        }
        for entry in self.tree(Tree::Hashes).iter() {
            let hashed: ContentEntry = json(&entry?.1)?;
            if !uploads.contains_key(&hashed.upload_id) {
                found
                    .fault(|| format!("a content leads to upload {}, which has no record", hashed.upload_id));
            }
        }
        for entry in self.tree(Tree::LateThumbnails).iter() {
            let id = upload_id(&entry?.0)?;
            if uploads.get(&id).is_none_or(|it| it.status != Status::Completed) {
                found.fault(|| {
                    format!("a thumbnail is left for later of upload {id}, which is not completed")
                });
            }
        }
        for entry in self.tree(Tree::Places).iter() {
            let place: PathEntry = json(&entry?.1)?;
            if !uploads.contains_key(&place.upload_id) {
                found.fault(|| format!("a path leads to upload {}, which has no record", place.upload_id));
            }
        }
        Ok(())
    }

    /// Checks that the events of each owner have no gap, and that each one is among the changes.
    fn verify_events(&self, found: &mut Verification) -> Result<(), String> {
        // For each owner the runs of consecutive numbers: first number to last.
        let mut kept: HashMap<Vec<u8>, BTreeMap<u64, u64>> = HashMap::new();
        for entry in self.tree(Tree::Events).iter() {
            let (key, value) = entry?;
            let owner = key[..key.len().saturating_sub(8)].to_vec();
            let first = keys::trailing_number(&key).unwrap_or_default();
            let kept = kept.entry(owner).or_default();
            match kept.last_entry().map(|it| *it.get()) {
                Some(before) if before.checked_add(1) != Some(first) => {
                    found.fault(|| format!("event {before} of an owner is followed by {first}"));
                    kept.insert(first, first);
                }
                Some(_) => {}
                None => drop(kept.insert(first, first)),
            }
            let events = match event_log::each(&value) {
                Ok(events) => events,
                Err(error) => {
                    found.fault(|| format!("event {first} of an owner cannot be read: {error}"));
                    continue;
                }
            };
            for (seq, event) in (first..).zip(events) {
                found.events += 1;
                if let Some(mut last) = kept.last_entry() {
                    last.insert(seq);
                }
                let event: Event = match json(event.get().as_bytes()) {
                    Ok(event) => event,
                    Err(error) => {
                        found.fault(|| format!("event {seq} of an owner cannot be read: {error}"));
                        continue;
                    }
                };
                if event.seq != seq {
                    found.fault(|| format!("event {} of an owner has the place of event {seq}", event.seq));
                }
            }
        }
        let is_kept = |owner: &Owner, seq: u64| {
            let runs = kept.get(&keys::owner(owner));
            runs.and_then(|it| it.range(..=seq).next_back()).is_some_and(|(_, last)| seq <= *last)
        };
        let mut before: Option<u64> = None;
        for entry in self.tree(Tree::Changes).iter() {
            let (key, value) = entry?;
            let change = keys::trailing_number(&key).unwrap_or_default();
            let events: RunOf = match json(&value) {
                Ok(events) => events,
                Err(error) => {
                    found.fault(|| format!("change {change} cannot be read: {error}"));
                    continue;
                }
            };
            if !events.can_be() {
                found.fault(|| format!("change {change} has more events than an entry can have"));
                continue;
            }
            let run = Run { change, events };
            let RunOf { owner, seq, .. } = &run.events;
            if before.is_some_and(|before| run.change <= before) {
                found.fault(|| format!("change {} is out of order", run.change));
            }
            before = Some(run.last());
            let (oldest, _) = self.kept(owner)?;
            for (change, seq) in (run.change..=run.last()).zip(*seq..).filter(|(_, seq)| *seq >= oldest) {
                if !is_kept(owner, seq) {
                    found.fault(|| missing_event(owner, seq, change));
                }
            }
        }
        Ok(())
    }
}

fn missing_event(owner: &Owner, seq: u64, change: u64) -> String {
    format!("change {change} is event {seq} of {owner}, which does not exist")
}

fn upload_id(bytes: &[u8]) -> Result<UploadId, String> {
    bytes.first_chunk::<16>().map(|id| UploadId::from_bytes(*id)).ok_or_else(|| "a key is damaged".into())
}
