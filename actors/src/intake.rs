//! The door: looks at files, tells what need not be done again, and refuses what cannot be taken.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::{
    analysis::{Identity, audit},
    disk::Disk,
    error::Error,
    files::{self, Files},
    id::{Owner, UploadId},
    media::{self, ErrorKind, VisionSpec},
    provider_gate::ProviderGate,
    receiving::{Received, Receiving},
    store::{NewUpload, Place, Replaces, Store},
    upload::{Failure, FailureKind, FileRef, PlacePath, Stage, Status, Thumbnail, Upload},
};

/// Where the bytes of a submitted file are.
#[derive(Debug)]
pub enum Source {
    /// A file that is only referenced and never changed. A path that is not absolute is taken from the current folder.
    InPlace(PathBuf),
    /// The same, by whoever gives each file its attempts once from that time on: one that failed since is [`Admission::Failed`].
    InRun {
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
    /// An earlier upload of the same file failed in the run that [`Source::InRun`] names, and stays as it is.
    Failed(Box<Upload>),
    /// It cannot be taken, and has no record.
    Refused(Failure),
    /// It is neither a picture nor a video, and has no record.
    NotMedia(Failure),
}

/// Looks at files before they become uploads; see the module.
pub struct Intake {
    store: Store,
    gate: Arc<ProviderGate>,
    files: Files,
    limits: media::Limits,
    vision: VisionSpec,
    disk: Disk,
}

/// A file that may become an upload.
pub(crate) enum Look {
    /// It becomes one.
    New(Box<NewUpload>, Option<Received>),
    /// It does not.
    Decided(Admission),
    /// Nor does this: its bytes are known from another path, and stand now where another upload stood.
    Known(Box<Upload>, Option<UploadId>),
}

/// What a look at a file in place gave.
enum Looked {
    New(Box<NewUpload>),
    Decided(Admission),
    /// The bytes are known from another path, where they may no longer be.
    Elsewhere {
        upload: Box<Upload>,
        place: Place,
        moved: bool,
        /// The upload that stood at this path.
        displaced: Option<UploadId>,
    },
}

impl Intake {
    /// A door before `store`, which refuses everything while less than `min_free_bytes` are free on its disk.
    pub fn new(
        store: Store,
        gate: Arc<ProviderGate>,
        files: Files,
        limits: media::Limits,
        vision: VisionSpec,
        min_free_bytes: u64,
    ) -> Self {
        let disk = Disk::new(store.data_dir().to_owned(), min_free_bytes);
        Self { store, gate, files, limits, vision, disk }
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

    /// Looks at one file. With `anew`, what was done before is done again.
    pub(crate) async fn look(
        self: &Arc<Self>,
        owner: &Owner,
        source: Source,
        anew: bool,
    ) -> Result<Look, Error> {
        match source {
            Source::Received(received) => Ok(Look::New(Box::new(received.upload()), Some(received))),
            Source::Refused(failure) => Ok(Look::Decided(Admission::Refused(failure))),
            Source::InPlace(path) => self.look_in_place(owner, path, anew, None).await,
            Source::InRun { path, began } => self.look_in_place(owner, path, anew, Some(began)).await,
        }
    }

    async fn look_in_place(
        self: &Arc<Self>,
        owner: &Owner,
        path: PathBuf,
        anew: bool,
        began: Option<Timestamp>,
    ) -> Result<Look, Error> {
        let (intake, owner) = (Arc::clone(self), owner.clone());
        let name = path.display().to_string();
        let looked = tokio::task::spawn_blocking(move || intake.look_now(&owner, path, anew, began)).await;
        // A parser that panics is about this file, and no reason to refuse the others.
        let looked = looked.unwrap_or_else(|_| {
            Ok(Looked::Decided(refused(
                FailureKind::Panicked,
                format!("the code that looks at {name} panicked; the log tells where"),
            )))
        });
        match looked? {
            Looked::New(new) => Ok(Look::New(new, None)),
            Looked::Decided(admission) => Ok(Look::Decided(admission)),
            Looked::Elsewhere { upload, place, moved, displaced } => {
                if let Err(error) = self.store.note_place(upload.id, place, moved).await {
                    log::warn!("upload {}: cannot note that it is also at another path: {error}", upload.id);
                }
                Ok(Look::Known(upload, displaced))
            }
        }
    }

    /// All that blocks, in one job.
    fn look_now(
        &self,
        owner: &Owner,
        path: PathBuf,
        anew: bool,
        began: Option<Timestamp>,
    ) -> Result<Looked, Error> {
        let decided = |admission| Ok(Looked::Decided(admission));
        let path = match std::path::absolute(&path) {
            Ok(path) => path,
            Err(error) => return decided(unreadable(&path, &error)),
        };
        let place = match place_of(path.clone()) {
            Ok(place) => place,
            Err(refused) => return decided(refused),
        };
        let identity = self.gate.identity();
        let (mut replaces, mut described_as) = (None, None);
        if let Some((upload, same)) = self.store.at_place(owner, &place)? {
            let in_this_run = |upload: &Upload| began.is_some_and(|began| upload.updated_at >= began);
            if same && upload.status == Status::Failed && in_this_run(&upload) {
                return decided(Admission::Failed(Box::new(upload)));
            }
            if same && !anew {
                if self.is_done(&upload, &identity) {
                    if self.has_left(owner, &upload, &path)? {
                        let upload = Box::new(upload);
                        return Ok(Looked::Elsewhere { upload, place, moved: true, displaced: None });
                    }
                    return decided(Admission::Done(Box::new(upload)));
                }
                if !upload.status.is_terminal() {
                    return decided(Admission::Unfinished(upload.id));
                }
            }
            // A file that took the place of one that moved away is another upload.
            if upload.place() == Some(path.as_path()) {
                replaces = Some(Replaces { upload: upload.id, at: place.path.clone() });
            }
        }
        let (inspected, content_hash, file_size) = match inspect(&path, &self.limits, &self.vision) {
            Ok(looked) => looked,
            Err(refused) => return decided(refused),
        };
        if !anew && let Some(upload) = self.store.with_content(owner, &content_hash)? {
            let moved = self.has_left(owner, &upload, &path)?;
            if self.is_done(&upload, &identity) {
                let displaced = replaces.map(|it| it.upload).filter(|it| *it != upload.id);
                return Ok(Looked::Elsewhere { upload: Box::new(upload), place, moved, displaced });
            }
            if upload.status == Status::Completed && upload.keeps_description(&identity, audit::VERSION) {
                described_as = Some(upload.id);
            }
            // The same bytes, at this path or at one that they have left: the new upload stands in for the older one.
            if replaces.is_none()
                && let FileRef::InPlace(old) = &upload.file
                && (moved || old.as_path() == path)
            {
                replaces = Some(Replaces { upload: upload.id, at: old.clone() });
            }
        }
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Looked::New(Box::new(NewUpload {
            id: UploadId::generate(),
            file: FileRef::InPlace(PlacePath::new(path)),
            file_name,
            file_size,
            content_hash,
            format: inspected.format,
            decode_bytes: inspected.decode_bytes,
            place: Some(place),
            replaces,
            described_as,
        })))
    }

    /// Whether the bytes of an upload that are found at `path` are no longer where the upload says that they are.
    fn has_left(&self, owner: &Owner, upload: &Upload, path: &Path) -> Result<bool, Error> {
        let Some(old) = upload.place().filter(|old| *old != path) else { return Ok(false) };
        let Ok(place) = place_of(old.to_owned()) else { return Ok(true) };
        let unchanged =
            self.store.at_place(owner, &place)?.is_some_and(|(it, same)| same && it.id == upload.id);
        Ok(!unchanged && self.files.check(upload).is_err())
    }

    /// Whether nothing would come out differently, and everything is still there.
    fn is_done(&self, upload: &Upload, identity: &Identity) -> bool {
        upload.status == Status::Completed
            && upload.is_described_by(identity, audit::VERSION)
            && match upload.thumbnail {
                // The disk was full.
                Thumbnail::Pending => false,
                Thumbnail::Made => self.files.thumbnail(upload.id).exists(),
                Thumbnail::Failed(_) => true,
            }
    }
}

/// What a path looks like; only files are taken, so that a pipe or a device cannot hold the door up.
fn place_of(path: PathBuf) -> Result<Place, Admission> {
    let metadata = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
    if !metadata.is_file() {
        let message = format!("{} is not a file", path.display());
        return Err(refused(FailureKind::Refused, message));
    }
    let modified_ns = match metadata.modified().map(|time| time.duration_since(UNIX_EPOCH)) {
        Ok(Ok(since)) => since.as_nanos() as i128,
        Ok(Err(before)) => -(before.duration().as_nanos() as i128),
        Err(_) => 0,
    };
    Ok(Place { path: PlacePath::new(path), size: metadata.len(), modified_ns })
}

/// Reads the header, then hashes the whole file.
fn inspect(
    path: &Path,
    limits: &media::Limits,
    vision: &VisionSpec,
) -> Result<(media::Inspected, String, u64), Admission> {
    let failed = |error: &io::Error| unreadable(path, error);
    let file = File::open(path).map_err(|error| failed(&error))?;
    let length = file.metadata().map_err(|error| failed(&error))?.len();
    let mut reader = BufReader::new(file);
    let inspected =
        media::inspect(&mut reader, length, limits, vision).map_err(|error| match error.kind {
            ErrorKind::NotMedia => Admission::NotMedia(not_accepted(FailureKind::Refused, error.message)),
            kind => refused(failure_kind(kind), error.message),
        })?;
    let mut file = reader.into_inner();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; (length as usize + 1).min(1 << 18)];
    let mut read = 0;
    io::Seek::rewind(&mut file).map_err(|error| failed(&error))?;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                read += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(&error)),
        }
        if read > length {
            break;
        }
    }
    if read != length {
        let message = format!("{} is being written; try again when it is whole", path.display());
        return Err(refused(FailureKind::FileChanged, message));
    }
    Ok((inspected, files::hexadecimal(&hasher.finalize()), length))
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

fn refused(kind: FailureKind, message: String) -> Admission {
    Admission::Refused(not_accepted(kind, message))
}

fn unreadable(path: &Path, error: &io::Error) -> Admission {
    let (kind, message) = files::unreadable(path, error);
    refused(kind, message)
}
