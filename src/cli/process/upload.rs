//! `process --server`: sends the files to a server, and shows how they end.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use indicatif::MultiProgress;
use mediamill_actors::{
    id::{BatchId, UploadId},
    upload::{Failure, FailureKind, Stage},
};
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use super::{
    AHEAD, Order,
    events::{End, Event},
    next_steps::NextSteps,
    outcome::{Outcome, OutcomeStatus},
    told, walk,
};
use crate::cli::{Interrupt, Shared, client::Client, list::UploadLine};

/// Most files, and most bytes, of one request. A larger file is sent alone.
const MAX_FILES: usize = 50;
const MAX_BYTES: u64 = 64 << 20;
/// How often the server is asked for the uploads that have not ended.
const LOOK: Duration = Duration::from_millis(500);
/// Uploads that are asked for at once.
const PAGE: usize = 1000;

/// The answer to a submission.
#[derive(Debug, Deserialize)]
struct Submitted {
    batch_id: BatchId,
    upload_ids: Vec<UploadId>,
    failed_files: Vec<Refused>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    filename: String,
    error: String,
}

/// Runs the command and returns its exit code.
pub(super) async fn run(
    order: Order,
    client: Client,
    shared: &Shared,
    interrupt: Interrupt,
    bars: &MultiProgress,
) -> Result<u8, String> {
    if order.force {
        return Err(
            "--force has no effect with --server, which describes what it has not yet described; leave \
                    it out"
                .to_owned(),
        );
    }
    let roots = walk::canonical(&order.paths, &PathBuf::new())?;
    let next = NextSteps::new(shared, &order.paths, &roots);
    let (reader, events) = mpsc::channel(AHEAD);
    let (unheard, stop) = watch::channel(None);
    let (mut interrupted, follow) = (interrupt.clone(), order.follow);
    let work = actix_rt::spawn(async move {
        let sending = Sending { client: &client, reader: &reader };
        let end = tokio::select! {
            sent = sending.all(roots, follow) => match sent {
                Ok(()) => End::Done,
                Err(why) => End::Left(why),
            },
            () = interrupted.wait() => End::Interrupted,
            end = told(stop) => end,
        };
        let _ = reader.send(Event::Over { end, resting: 0 }).await;
    });
    let code = order.show(events, unheard, interrupt, next, shared, bars).await;
    let _ = work.await;
    code
}

struct Sending<'a> {
    client: &'a Client,
    reader: &'a mpsc::Sender<Event>,
}

impl Sending<'_> {
    async fn all(&self, roots: Vec<PathBuf>, follow: bool) -> Result<(), String> {
        let walked = tokio::task::spawn_blocking(move || walk::walk(&roots, &PathBuf::new(), follow)).await;
        let walked = walked.map_err(|error| format!("cannot walk the folders: {error}"))?;
        self.tell(Event::Found { files: walked.files.len() + walked.unreadable.len() }).await;
        self.tell(Event::PassedOver { entries: walked.special }).await;
        for walk::Unreadable { path, message, hides } in walked.unreadable {
            let outcome = Box::new(refused(path, message));
            self.tell(Event::Unreadable { outcome, hides }).await;
        }
        // The paths of the uploads of each batch that have not ended.
        let mut open = HashMap::<BatchId, HashMap<UploadId, PathBuf>>::new();
        let mut files = walked.files.into_iter().peekable();
        while files.peek().is_some() {
            let (mut form, mut sent, mut bytes) = (Form::new(), Vec::new(), 0);
            while let Some(found) = files.next_if(|_| sent.len() < MAX_FILES && bytes < MAX_BYTES) {
                match Part::file(&found.path).await {
                    Ok(part) => {
                        bytes += std::fs::metadata(&found.path).map_or(0, |it| it.len());
                        form = form.part("files", part);
                        sent.push(found.path);
                    }
                    Err(error) => {
                        let message = format!("cannot read {}: {error}", found.path.display());
                        self.tell(Event::ended(None, refused(found.path, message))).await;
                    }
                }
            }
            if !sent.is_empty() {
                let submitted: Submitted = self.client.upload("api/v1/uploads/bulk", form).await?;
                self.submitted(submitted, sent, &mut open).await;
            }
            self.look(&mut open).await?;
        }
        while !open.is_empty() {
            tokio::time::sleep(LOOK).await;
            self.look(&mut open).await?;
        }
        Ok(())
    }

    /// Sorts the files of a request into refused ones and uploads.
    async fn submitted(
        &self,
        submitted: Submitted,
        sent: Vec<PathBuf>,
        open: &mut HashMap<BatchId, HashMap<UploadId, PathBuf>>,
    ) {
        let Submitted { batch_id, upload_ids, failed_files } = submitted;
        let (mut ids, mut failed) = (upload_ids.into_iter(), failed_files.into_iter().peekable());
        let batch = open.entry(batch_id).or_default();
        for path in sent {
            let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
            // Both lists are in the order of the request.
            if let Some(Refused { error, .. }) = failed.next_if(|it| it.filename == name) {
                self.tell(Event::ended(None, refused(path, error))).await;
            } else if let Some(id) = ids.next() {
                batch.insert(id, path);
            }
        }
    }

    /// Reports the uploads that have ended.
    async fn look(&self, open: &mut HashMap<BatchId, HashMap<UploadId, PathBuf>>) -> Result<(), String> {
        let limit = PAGE.to_string();
        for (batch, uploads) in open.iter_mut() {
            let path = format!("api/v1/uploads/batches/{batch}/uploads");
            let mut page: Vec<UploadLine> = self.client.get(&path, &[("limit", &limit)]).await?;
            // Bytes that the server had already may be an upload of another batch.
            for id in
                uploads.keys().filter(|id| page.iter().all(|it| it.id != **id)).copied().collect::<Vec<_>>()
            {
                page.push(self.client.get(&format!("api/v1/uploads/{id}"), &[]).await?);
            }
            for upload in page {
                let Some(status) = ended(&upload) else { continue };
                if let Some(path) = uploads.remove(&upload.id) {
                    self.tell(Event::ended(Some(upload.id), Outcome::of_server(path, status, upload))).await;
                }
            }
        }
        open.retain(|_, uploads| !uploads.is_empty());
        Ok(())
    }

    async fn tell(&self, event: Event) {
        // A command without a reader is ended from outside.
        let _ = self.reader.send(event).await;
    }
}

fn refused(path: PathBuf, message: String) -> Outcome {
    Outcome::refused(path, Failure::new(0, Stage::Queued, FailureKind::Refused, message))
}

/// How an upload has ended, if it has.
fn ended(upload: &UploadLine) -> Option<OutcomeStatus> {
    match upload.status() {
        "completed" => Some(OutcomeStatus::Completed),
        "failed" => Some(OutcomeStatus::Failed),
        "cancelled" => Some(OutcomeStatus::Cancelled),
        _ => None,
    }
}
