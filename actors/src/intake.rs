//! The door: takes files in, and refuses what cannot be taken.

use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;

pub(crate) mod classify;
pub mod receive;

use crate::{
    disk::Disk,
    error::Error,
    files::Files,
    id::{Owner, UploadId},
    intake::classify::{Classifier, Terms},
    intake::receive::{Received, Receiving},
    media::{self, ErrorKind, VisionSpec},
    provider_gate::ProviderGate,
    store::{Commands, Queries, Store},
    upload::{Failure, FailureKind, Stage, Upload},
};

/// Where the bytes of a submitted file are.
#[derive(Debug)]
pub enum Source {
    /// A file that is only referenced and never changed. A path that is not absolute is taken from the current folder.
    InPlace(PathBuf),
    /// The same, by whoever gives each file its attempts once from that time on: one that failed since is [`Admission::Failed`].
    InSubmission {
        /// The file.
        path: PathBuf,
        /// When the run began, by the clock of the store.
        began: Timestamp,
    },
    /// Bytes that [`Intake::receive`] took in.
    Received(Received),
    /// Bytes that could not be taken in: a file of the batch all the same.
    Refused(Failure),
}

/// What became of a submitted file.
#[derive(Debug)]
pub enum Admission {
    /// It is a new upload.
    Accepted(UploadId),
    /// An earlier upload of the same bytes holds all that this one would give, from the same provider, models and audit.
    Done(Box<Upload>),
    /// An earlier upload of the same file waits or is worked on.
    Unfinished(UploadId),
    /// An earlier upload of the same file failed in the run that [`Source::InSubmission`] names, and stays as it is.
    Failed(Box<Upload>),
    /// It cannot be taken, and has no record.
    Refused(Failure),
    /// It is neither a picture nor a video, and has no record.
    NotMedia(Failure),
}

/// What files come in by; see the module.
pub struct Intake {
    commands: Commands,
    queries: Queries,
    gate: Arc<ProviderGate>,
    files: Files,
    limits: media::Limits,
    vision: VisionSpec,
    disk: Disk,
}

impl Intake {
    /// A door before `store`, which refuses everything while less than `min_free_bytes` are free on its disk.
    pub fn new(
        store: &Store,
        gate: Arc<ProviderGate>,
        files: Files,
        limits: media::Limits,
        vision: VisionSpec,
        min_free_bytes: u64,
    ) -> Self {
        let (commands, queries) = (store.commands(), store.queries());
        let disk = Disk::new(queries.data_dir().to_owned(), min_free_bytes);
        Self { commands, queries, gate, files, limits, vision, disk }
    }

    /// Makes sure that the disk has room.
    ///
    /// # Errors
    /// [`Error::DiskFull`] below the watermark. A disk that cannot be asked counts as one with room: writing will tell.
    pub fn check_disk(&self) -> Result<(), Error> {
        self.disk.check(0)
    }

    /// Makes sure that the disk has room for so many bytes.
    ///
    /// # Errors
    /// [`Error::DiskFull`] if less than the watermark would be left.
    pub fn check_room(&self, bytes: u64) -> Result<(), Error> {
        self.disk.check(bytes)
    }

    /// Begins to take in the bytes of a file. What is not submitted afterwards leaves nothing behind.
    ///
    /// # Errors
    /// [`Error::DiskFull`], and [`Error::Store`] if no file can be made.
    pub async fn receive(&self, file_name: &str) -> Result<Receiving, Error> {
        self.check_disk()?;
        let most = self.limits.max_image_bytes.max(self.limits.max_video_bytes);
        let (files, disk) = (self.files.clone(), self.disk.clone());
        Receiving::begin(files, disk, self.limits.clone(), self.vision.clone(), file_name, most).await
    }

    /// What looks at the files of an owner. With `force`, what was done before is done again.
    pub(crate) fn classifier(&self, owner: Owner, force: bool) -> Classifier {
        Classifier(Arc::new(Terms {
            commands: self.commands.clone(),
            queries: self.queries.clone(),
            files: self.files.clone(),
            limits: self.limits.clone(),
            vision: self.vision.clone(),
            owner,
            force,
            gate: Arc::clone(&self.gate),
        }))
    }
}

/// The sort of failure of what the door refuses.
pub(crate) fn failure_kind(kind: ErrorKind) -> FailureKind {
    match kind {
        ErrorKind::Undecodable => FailureKind::Undecodable,
        ErrorKind::Empty | ErrorKind::NotMedia | ErrorKind::Unsupported | ErrorKind::TooLarge => {
            FailureKind::Refused
        }
    }
}

/// The failure of a file that never became an upload.
pub(crate) fn not_accepted(kind: FailureKind, message: String) -> Failure {
    Failure::new(0, Stage::Queued, kind, message)
}
