//! Classifies files before they become uploads: by the store's entries of their paths, by their
//! bytes, and by the store's entries of those bytes. It only reads.

use std::{
    fs, io,
    ops::ControlFlow::{self, Break, Continue},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{self, Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{
    admission::{Admission, Source, rejection},
    inspection::inspect,
    receive::Received,
};
use crate::{
    error::Error,
    files::{self, Files, ReadError},
    id::{Owner, UploadId},
    media::{self, VisionSpec},
    provider_gate::ProviderGate,
    regular_file,
    store::{FileStamp, NewUpload, Queries, Replaces},
    text,
    upload::{FailureKind, FileRef, PlacePath, Status, Thumbnail, Upload},
};

/// Files that are looked up in the store together: a reader waits until a running commit is
/// durable, and would wait for each file.
const LOOKED_UP_TOGETHER: usize = 64;
/// Files that are read at once, so that a disk has several requests to order.
const READ_AT_ONCE: usize = 8;

/// The result of classifying a file.
pub(super) enum Verdict {
    /// A new upload.
    New {
        /// The upload to be written.
        upload: Box<NewUpload>,
        /// The bytes, if they were received.
        bytes: Option<Received>,
    },
    /// A file with the bytes of a known upload, at a path that is not in its record.
    Elsewhere {
        /// The known upload.
        upload: Box<Upload>,
        /// The file at that path.
        stamp: FileStamp,
        /// Whether the bytes are no longer at the path of the record.
        moved: bool,
        /// The upload that had this path.
        displaces: Option<UploadId>,
    },
    /// No new upload.
    Decided(Admission),
}

/// A file without a verdict yet, or its verdict.
type Step<T> = ControlFlow<Verdict, (FileStamp, T)>;

/// Classifies the files of one submission.
#[derive(Clone)]
pub(super) struct Classifier {
    pub(super) queries: Queries,
    pub(super) files: Files,
    pub(super) limits: media::Limits,
    pub(super) vision: VisionSpec,
    /// Gives the identity of the provider and the models.
    pub(super) gate: Arc<ProviderGate>,
    pub(super) owner: Owner,
    /// Whether files are described again that have a description from an earlier upload.
    pub(super) force: bool,
}

/// A file that exists.
struct Located {
    /// The file is not tried again if it failed since this time.
    began: Option<Timestamp>,
    /// The upload of its path, and whether the file still has the length and the time that were
    /// stored with the path.
    known: Option<(Upload, bool)>,
    /// Whether the bytes of that upload are still at the path of its record.
    original: Original,
}

/// A file that was read.
struct Inspected {
    replaces: Option<Replaces>,
    media: media::Inspected,
    content_hash: String,
    file_size: u64,
}

/// Whether the bytes of a known upload are still at the path of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Original {
    /// The record has no other path.
    Same,
    /// There is no file at that path.
    Gone,
    /// The file has the stored length and time.
    Unchanged,
    /// The file has another length or time, so its bytes must be compared.
    Changed,
}

impl Classifier {
    /// Classifies files, and answers in their order. `is_open` is asked before each file is read.
    pub(super) async fn classify(
        &self,
        sources: Vec<Source>,
        is_open: impl Fn() -> Result<(), Error> + Clone + Send + 'static,
    ) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = Vec::with_capacity(sources.len());
        let mut sources = sources.into_iter();
        loop {
            let together: Vec<Source> = sources.by_ref().take(LOOKED_UP_TOGETHER).collect();
            if together.is_empty() {
                return Ok(verdicts);
            }
            let (received, paths) = self.receive(together).await?;
            let located = self.locate(paths).await?;
            let inspected = self.each(located, is_open.clone(), Self::by_path).await?;
            let known = self.look_up(inspected).await?;
            let decided = self.each(known, is_open.clone(), Self::by_content).await?;
            let mut decided = decided.into_iter().map(|step| match step {
                Break(verdict) => verdict,
                Continue((_, never)) => match never {},
            });
            verdicts.extend(received.into_iter().filter_map(|verdict| verdict.or_else(|| decided.next())));
        }
    }

    /// Decides the files whose bytes were received. Every other file gives `None`, and its path
    /// is returned beside.
    async fn receive(
        &self,
        sources: Vec<Source>,
    ) -> Result<(Vec<Option<Verdict>>, Vec<(PathBuf, Option<Timestamp>)>), Error> {
        let hash = |source: &Source| match source {
            Source::Received(received) => Some(received.content_hash().to_owned()),
            Source::InPlace(_) | Source::InSubmission { .. } | Source::Refused(_) => None,
        };
        let hashes: Vec<String> = sources.iter().filter_map(hash).collect();
        let known = match self.force || hashes.is_empty() {
            true => Vec::new(),
            false => self.queries.with_contents(self.owner.clone(), hashes).await?,
        };
        let classifier = self.clone();
        let described = move |known: Vec<Option<Upload>>| {
            let keeps = |it: &Upload| classifier.keeps_description(it);
            known.into_iter().map(|it| it.filter(keeps).map(|it| it.id)).collect::<Vec<_>>()
        };
        let mut described = match known.is_empty() {
            true => Vec::new(),
            false => blocking(move || described(known)).await?,
        }
        .into_iter();
        let mut received = Vec::with_capacity(sources.len());
        let mut paths = Vec::new();
        for source in sources {
            received.push(match source {
                Source::Received(bytes) => {
                    let mut upload = bytes.upload();
                    upload.described_as = described.next().flatten();
                    Some(Verdict::New { upload: Box::new(upload), bytes: Some(bytes) })
                }
                Source::Refused(failure) => Some(Verdict::Decided(Admission::Refused(failure))),
                Source::InPlace(path) => {
                    paths.push((path, None));
                    None
                }
                Source::InSubmission { path, began } => {
                    paths.push((path, Some(began)));
                    None
                }
            });
        }
        Ok((received, paths))
    }

    /// Reads the stamps of the files, and looks their paths up in the store.
    async fn locate(&self, paths: Vec<(PathBuf, Option<Timestamp>)>) -> Result<Vec<Step<Located>>, Error> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let stat = |(path, began): (PathBuf, _)| Ok((stamp_of(&path)?, began));
        let files = blocking(move || paths.into_iter().map(stat).collect::<Vec<_>>()).await?;
        let stamps: Vec<FileStamp> = files.iter().flatten().map(|(stamp, _)| stamp.clone()).collect();
        let known = self.queries.at_paths(self.owner.clone(), stamps.clone()).await?;
        let uploads = known.iter().map(|it| it.as_ref().map(|it| &it.upload));
        let originals = self.originals(uploads.zip(&stamps)).await?;
        let mut known = known.into_iter().zip(originals);
        let step = |file: Result<(FileStamp, Option<Timestamp>), Admission>| match file {
            Err(admission) => Break(Verdict::Decided(admission)),
            Ok((stamp, began)) => {
                let (known, original) = known.next().unwrap_or((None, Original::Same));
                let known = known.map(|it| (it.upload, it.unchanged));
                Continue((stamp, Located { began, known, original }))
            }
        };
        Ok(files.into_iter().map(step).collect())
    }

    /// Decides by the upload of the path, or reads the file.
    fn by_path(&self, stamp: FileStamp, file: Located) -> Step<Inspected> {
        let decided = |admission| Break(Verdict::Decided(admission));
        let path = stamp.path.as_path();
        let mut replaces = None;
        if let Some((upload, unchanged)) = file.known {
            let since_began = file.began.is_some_and(|began| upload.updated_at >= began);
            if upload.has_companion(path) {
                let stays = self.is_done(&upload) || !upload.status.is_terminal() || since_began;
                if unchanged && !self.force && stays && !self.has_moved(&upload, file.original) {
                    let of = upload.place().map(Path::to_owned).unwrap_or_default();
                    let ended = Some(upload.status).filter(|it| it.is_terminal());
                    return decided(Admission::Companion { upload: upload.id, of, ended });
                }
                return self.read(stamp, None, file.began);
            }
            if unchanged && upload.status == Status::Failed && since_began {
                return decided(Admission::Failed(Box::new(upload)));
            }
            if unchanged && !self.force {
                if self.is_done(&upload) && !has_other_sidecars(&upload, path) {
                    let upload = Box::new(upload);
                    return match self.has_moved(&upload, file.original) {
                        true => Break(Verdict::Elsewhere { upload, stamp, moved: true, displaces: None }),
                        false => decided(Admission::Done(upload)),
                    };
                }
                if !upload.status.is_terminal() {
                    return decided(Admission::Unfinished(upload.id));
                }
            }
            // A file at the old path of a moved one is another upload.
            if upload.place() == Some(path) {
                replaces = Some(Replaces { upload: upload.id, at: stamp.path.clone() });
            }
        }
        self.read(stamp, replaces, file.began)
    }

    /// Reads a file.
    fn read(
        &self,
        stamp: FileStamp,
        replaces: Option<Replaces>,
        began: Option<Timestamp>,
    ) -> Step<Inspected> {
        // The files of a walk were found without links.
        let open = if began.is_some() { regular_file::open_unlinked } else { regular_file::open };
        match inspect(stamp.path.as_path(), open, &self.limits, &self.vision) {
            Ok((media, content_hash, file_size)) => {
                Continue((stamp, Inspected { replaces, media, content_hash, file_size }))
            }
            Err(admission) => Break(Verdict::Decided(admission)),
        }
    }

    /// Looks the bytes up in the store. Unknown bytes are a new upload.
    async fn look_up(
        &self,
        steps: Vec<Step<Inspected>>,
    ) -> Result<Vec<Step<(Inspected, Upload, Original)>>, Error> {
        let hash = |step: &Step<Inspected>| match step {
            Continue((_, file)) => Some(file.content_hash.clone()),
            Break(_) => None,
        };
        let hashes: Vec<String> = steps.iter().filter_map(hash).collect();
        let known = match self.force || hashes.is_empty() {
            true => hashes.iter().map(|_| None).collect(),
            false => self.queries.with_contents(self.owner.clone(), hashes).await?,
        };
        let stamps: Vec<&FileStamp> = steps
            .iter()
            .filter_map(|step| match step {
                Continue((stamp, _)) => Some(stamp),
                Break(_) => None,
            })
            .collect();
        let originals = self.originals(known.iter().map(Option::as_ref).zip(stamps)).await?;
        let mut known = known.into_iter().zip(originals);
        let step = |step| match step {
            Break(verdict) => Break(verdict),
            Continue((stamp, file)) => match known.next() {
                Some((Some(upload), original)) => Continue((stamp, (file, upload, original))),
                Some((None, _)) | None => Break(new(stamp, file, None)),
            },
        };
        Ok(steps.into_iter().map(step).collect())
    }

    /// Decides by the known upload of the same bytes.
    fn by_content(
        &self,
        stamp: FileStamp,
        (mut file, upload, original): (Inspected, Upload, Original),
    ) -> Step<std::convert::Infallible> {
        let moved = self.has_moved(&upload, original);
        if self.is_done(&upload) && !has_other_sidecars(&upload, stamp.path.as_path()) {
            let displaces = file.replaces.map(|it| it.upload).filter(|it| *it != upload.id);
            return Break(Verdict::Elsewhere { upload: Box::new(upload), stamp, moved, displaces });
        }
        // The same bytes are at this path, or have left their path: the new upload replaces the
        // older one.
        if file.replaces.is_none()
            && let FileRef::InPlace { path: old, .. } = &upload.file
            && (moved || *old == stamp.path)
        {
            file.replaces = Some(Replaces { upload: upload.id, at: old.clone() });
        }
        let described_as = self.keeps_description(&upload).then_some(upload.id);
        Break(new(stamp, file, described_as))
    }

    /// Whether the bytes of each known upload are still at the path of its record.
    async fn originals(
        &self,
        found: impl Iterator<Item = (Option<&Upload>, &FileStamp)>,
    ) -> Result<Vec<Original>, Error> {
        let other = |(upload, stamp): (Option<&Upload>, &FileStamp)| {
            let upload = upload?;
            let path = upload.place().filter(|path| *path != stamp.path.as_path())?;
            Some((upload.id, path.to_owned()))
        };
        let others: Vec<_> = found.map(other).collect();
        if others.iter().all(Option::is_none) {
            return Ok(others.iter().map(|_| Original::Same).collect());
        }
        let stat = move || {
            let stat = |(id, path): (UploadId, PathBuf)| (id, stamp_of(&path).ok());
            others.into_iter().map(|it| it.map(stat)).collect::<Vec<_>>()
        };
        let others = blocking(stat).await?;
        let stamps = others.iter().flatten().filter_map(|(_, stamp)| stamp.clone()).collect();
        let mut known = self.queries.at_paths(self.owner.clone(), stamps).await?.into_iter();
        let original = |other: &Option<(UploadId, Option<FileStamp>)>| match other {
            None => Original::Same,
            Some((_, None)) => Original::Gone,
            Some((id, Some(_))) => match known.next().flatten() {
                Some(known) if known.unchanged && known.upload.id == *id => Original::Unchanged,
                Some(_) | None => Original::Changed,
            },
        };
        Ok(others.iter().map(original).collect())
    }

    /// Whether the bytes of an upload are no longer at the path of its record.
    fn has_moved(&self, upload: &Upload, original: Original) -> bool {
        match original {
            Original::Same | Original::Unchanged => false,
            Original::Gone => true,
            Original::Changed => matches!(self.files.check(upload), Err(ReadError::Failed(..))),
        }
    }

    /// Whether a new upload of the same bytes would have the same description.
    fn keeps_description(&self, upload: &Upload) -> bool {
        upload.status == Status::Completed && upload.keeps_description(&self.gate.identity())
    }

    /// Whether a new upload would have the same result, and all files of this one still exist.
    fn is_done(&self, upload: &Upload) -> bool {
        upload.status == Status::Completed
            && upload.is_described_by(&self.gate.identity())
            && match upload.thumbnail {
                // The disk was full when the thumbnail was made.
                Thumbnail::Pending => false,
                Thumbnail::Made => self.files.has_thumbnail(upload.id),
                Thumbnail::Failed(_) => true,
            }
    }

    /// Takes a step for each file, in a few blocking jobs. Each job continues with the next file
    /// until the caller stops waiting.
    async fn each<T: Send + 'static, U: Send + 'static>(
        &self,
        steps: Vec<Step<T>>,
        is_open: impl Fn() -> Result<(), Error> + Clone + Send + 'static,
        step: fn(&Self, FileStamp, T) -> Step<U>,
    ) -> Result<Vec<Step<U>>, Error> {
        let mut taken: Vec<Option<Step<U>>> = Vec::new();
        taken.resize_with(steps.len(), || None);
        let mut open = Vec::with_capacity(steps.len());
        for (at, before) in steps.into_iter().enumerate() {
            match before {
                Continue(file) => open.push((at, file)),
                Break(verdict) => taken[at] = Some(Break(verdict)),
            }
        }
        let jobs = open.len().min(READ_AT_ONCE);
        let open = Arc::new(Mutex::new(open.into_iter()));
        let job = || {
            let (classifier, is_open, open) = (self.clone(), is_open.clone(), Arc::downgrade(&open));
            let next = move || open.upgrade()?.lock().next();
            move || {
                let mut done = Vec::new();
                while let Some((at, (stamp, file))) = next() {
                    is_open()?;
                    done.push((at, classifier.guarded(step, stamp, file)));
                }
                Ok(done)
            }
        };
        let jobs: Vec<_> = (0..jobs).map(|_| tokio::task::spawn_blocking(job())).collect();
        for job in jobs {
            let done =
                job.await.unwrap_or_else(|_| Err(Error::Store("the classification of files ended".into())));
            done?.into_iter().for_each(|(at, step)| taken[at] = Some(step));
        }
        Ok(taken.into_iter().flatten().collect())
    }

    /// Takes a step. A panic of a parser concerns this file alone, and must not refuse the
    /// others.
    fn guarded<T, U>(&self, step: fn(&Self, FileStamp, T) -> Step<U>, stamp: FileStamp, file: T) -> Step<U> {
        let path = stamp.path.clone();
        catch_unwind(AssertUnwindSafe(|| step(self, stamp, file))).unwrap_or_else(|_| {
            let path = path.as_path().display();
            let message = format!("the code that inspects {path} panicked; the log says where");
            Break(Verdict::Decided(refused(FailureKind::Panicked, message)))
        })
    }
}

/// Whether the facts of a file at the path of its record were read with other sidecars than it has now. Then
/// they are read again, and the description stays.
fn has_other_sidecars(upload: &Upload, path: &Path) -> bool {
    let facts = upload.facts.as_ref().filter(|_| upload.place() == Some(path));
    facts.is_some_and(|facts| facts.sidecars != media::sidecars(path))
}

pub(super) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let panicked = |_| Error::Store("the code that looks at files panicked; the log says where".into());
    tokio::task::spawn_blocking(job).await.map_err(panicked)
}

fn new(stamp: FileStamp, file: Inspected, described_as: Option<UploadId>) -> Verdict {
    let name = stamp.path.as_path().file_name();
    let upload = NewUpload {
        id: UploadId::generate(),
        file: FileRef::in_place(stamp.path.clone()),
        file_name: name.map(|name| text::one_line(&name.to_string_lossy()).into_owned()).unwrap_or_default(),
        file_size: file.file_size,
        content_hash: file.content_hash,
        format: file.media.format,
        decode_bytes: file.media.decode_bytes,
        stamp: Some(stamp),
        replaces: file.replaces,
        described_as,
    };
    Verdict::New { upload: Box::new(upload), bytes: None }
}

/// The stamp of a path. Only files are taken, since opening a pipe or a device could block for
/// ever.
pub(super) fn stamp_of(path: &Path) -> Result<FileStamp, Admission> {
    let path = path::absolute(path).map_err(|error| unreadable(path, &error))?;
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
    Ok(FileStamp { path: PlacePath::new(path), size: metadata.len(), modified_ns })
}

pub(super) fn refused(kind: FailureKind, message: String) -> Admission {
    Admission::Refused(rejection(kind, message))
}

pub(super) fn unreadable(path: &Path, error: &io::Error) -> Admission {
    let (kind, message) = files::unreadable(path, error);
    refused(kind, message)
}
