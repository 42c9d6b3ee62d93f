//! The smallest host: starts the engine in its own actix system, drives it by messages, and listens.
//!
//! ```text
//! cargo run -p mediamill-actors --example messages -- DATA_DIR FILE...
//! ```

use std::{path::PathBuf, time::Duration};

use actix::prelude::*;
use mediamill_actors::{
    batch_supervisor::SubmitBatch,
    config::Config,
    id::Owner,
    intake::{Admission, Source},
    pipeline::Pipeline,
    publisher::{Publication, Subscribe, Uploads},
    query_service::SearchUploads,
    wire::Message,
};
use tokio::sync::mpsc;

/// A subscriber of the host. It gets the next publication when it has answered.
struct Listener {
    ended: mpsc::UnboundedSender<()>,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Publication> for Listener {
    type Result = ();

    fn handle(&mut self, Publication(messages): Publication, _: &mut Self::Context) {
        for message in messages {
            match &*message {
                Message::UploadCompleted { upload_id, description, .. } => {
                    println!("{upload_id}: {description}")
                }
                Message::UploadFailed { upload_id, error_message, .. } => {
                    println!("{upload_id} failed: {error_message}")
                }
                Message::BatchProgress { payload, .. } => {
                    println!("{} of {}", payload.processed, payload.total);
                    if payload.ends_run.is_some() {
                        // The receiver is gone when the host stops.
                        let _ = self.ended.send(());
                    }
                }
                _ => {}
            }
        }
    }
}

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let data_dir = arguments.next().ok_or("name a folder for the engine's state, then files")?;
    let owner = Owner::new("somebody")?;

    let mut config = Config::default();
    config.store.data_dir = data_dir;
    let engine = Pipeline::start(config).await?;

    let (ended, mut batches) = mpsc::unbounded_channel();
    let to = Listener { ended }.start().recipient();
    let subscribe = Subscribe { owner: owner.clone(), to, uploads: Uploads::All, after_seq: None };
    engine.publisher.send(subscribe).await??;

    let files = arguments.map(Source::InPlace).collect();
    let submitted =
        engine.supervisor.send(SubmitBatch { owner: owner.clone(), files, force: false }).await??;
    for admission in &submitted.files {
        match admission {
            Admission::Accepted(id) | Admission::Unfinished(id) => println!("{id}: accepted"),
            Admission::Done(upload) => println!("{}: nothing has changed", upload.id),
            Admission::Companion { upload, .. } => println!("{upload}: has this file as its companion"),
            Admission::Failed(upload) => println!("{}: it has failed already", upload.id),
            Admission::Refused(failure) | Admission::NotMedia(failure) => {
                println!("refused: {}", failure.message)
            }
        }
    }
    if submitted.files.iter().any(|it| matches!(it, Admission::Accepted(_))) {
        batches.recv().await;
    }

    let search = SearchUploads { owner, query: "animal".into(), limit: 3 };
    for found in engine.query_service.send(search).await?? {
        println!("{:.2} {}", found.score, found.upload.file_name);
    }
    println!("{}", engine.stop(Duration::from_secs(5)).await);
    Ok(())
}
