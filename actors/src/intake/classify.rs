//! The look at files before they become uploads: what the store knows of their paths, what their bytes are, and what it knows of those.

use std::{
    convert::Infallible,
    fs::{self, File},
    io::{self, BufReader, Cursor, Read as _, Seek as _, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{self, Path},
    sync::Arc,
    time::UNIX_EPOCH,
};

use futures_util::stream::{self, StreamExt as _};
use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::{
    analysis::audit,
    error::Error,
    files::{self, Files},
    id::{Owner, UploadId},
    intake::receive::Received,
    intake::{Admission, Source, failure_kind, not_accepted},
    media::{self, ErrorKind, VisionSpec},
    provider_gate::ProviderGate,
    store::{Commands, NewUpload, Place, Queries, Replaces},
    upload::{FailureKind, FileRef, PlacePath, Status, Thumbnail, Upload},
};

/// Files that are looked up in the store together: who reads it waits until what is being written is on disk, and would do so for each file.
const LOOKED_UP_TOGETHER: usize = 64;
/// Files that are read at once: enough that a disk has something to do.
const READ_AT_ONCE: usize = 8;
/// Bytes of a file that are read together.
const READ_BYTES: usize = 1 << 18;

/// What became of the look at a file.
pub(crate) enum Verdict {
    /// It becomes an upload.
    New(Box<NewUpload>, Option<Received>),
    /// It does not.
    Decided(Admission),
    /// Nor does this: its bytes are known from another path, and stand now where another upload stood.
    Known(Box<Upload>, Option<UploadId>),
}

/// Says whether a look goes on, or why not.
pub(crate) trait GoesOn: Fn() -> Result<(), Error> + Clone + Send + 'static {}

impl<T: Fn() -> Result<(), Error> + Clone + Send + 'static> GoesOn for T {}

/// Looks at the files of one submission.
pub(crate) struct Classifier(pub(crate) Arc<Terms>);

/// What a look goes by.
pub(crate) struct Terms {
    pub(crate) commands: Commands,
    pub(crate) queries: Queries,
    pub(crate) files: Files,
    pub(crate) limits: media::Limits,
    pub(crate) vision: VisionSpec,
    /// Whose files.
    pub(crate) owner: Owner,
    /// What was done before is done again.
    pub(crate) force: bool,
    /// Knows by whom they would be described.
    pub(crate) gate: Arc<ProviderGate>,
}

/// A file that is still looked at, with what the step before gave, or what became of it.
type Step<T> = Result<(Place, T), Box<Outcome>>;

/// What became of a file, before the store has noted it.
enum Outcome {
    Clear(Verdict),
    /// The bytes are known from another path, where they may no longer be.
    Elsewhere {
        upload: Box<Upload>,
        place: Place,
        moved: bool,
        /// The upload that stood at this path.
        displaced: Option<UploadId>,
    },
}

impl From<Admission> for Box<Outcome> {
    fn from(admission: Admission) -> Self {
        Self::new(Outcome::Clear(Verdict::Decided(admission)))
    }
}

/// A file that is there.
struct Located {
    /// Failures since then stay.
    began: Option<Timestamp>,
    /// The upload that its path stands for, and whether size and time are as they were then.
    known: Option<(Upload, bool)>,
}

/// A file that was read.
struct Read {
    replaces: Option<Replaces>,
    inspected: media::Inspected,
    content_hash: String,
    file_size: u64,
}

impl Classifier {
    /// Looks at files, and answers in their order. `goes_on` is asked before each is read, as to read many large ones takes minutes.
    pub(crate) async fn classify(
        &self,
        sources: Vec<Source>,
        goes_on: impl GoesOn,
    ) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = Vec::with_capacity(sources.len());
        let mut sources = sources.into_iter();
        loop {
            let together: Vec<Source> = sources.by_ref().take(LOOKED_UP_TOGETHER).collect();
            if together.is_empty() {
                return Ok(verdicts);
            }
            let steps = self.together(move |terms| terms.locate(together)).await?;
            let steps = self.each(steps, goes_on.clone(), Terms::by_place).await?;
            let steps = self.together(move |terms| terms.look_up(steps)).await?;
            let steps = self.each(steps, goes_on.clone(), Terms::by_content).await?;
            let note = |step: Step<Infallible>| {
                let Err(outcome) = step;
                self.note(*outcome)
            };
            verdicts.extend(stream::iter(steps).map(note).buffered(READ_AT_ONCE).collect::<Vec<_>>().await);
        }
    }

    /// Does something for all files in one blocking job.
    async fn together<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Terms) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let terms = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || job(&terms)).await;
        done.unwrap_or_else(|_| {
            Err(Error::Store("the code that verdicts files up panicked; the log tells where".into()))
        })
    }

    /// Takes a step for each file, in a few blocking jobs: each goes on with the next file for as long as there is one that is waited for.
    async fn each<T: Send + 'static, U: Send + 'static>(
        &self,
        steps: Vec<Step<T>>,
        goes_on: impl GoesOn,
        step: fn(&Terms, Place, T) -> Result<Step<U>, Error>,
    ) -> Result<Vec<Step<U>>, Error> {
        let mut taken: Vec<Option<Step<U>>> = Vec::new();
        taken.resize_with(steps.len(), || None);
        let mut open = Vec::with_capacity(steps.len());
        for (at, before) in steps.into_iter().enumerate() {
            match before {
                Ok(file) => open.push((at, file)),
                Err(outcome) => taken[at] = Some(Err(outcome)),
            }
        }
        let jobs = open.len().min(READ_AT_ONCE);
        let open = Arc::new(Mutex::new(open.into_iter()));
        let job = || {
            let (terms, goes_on, open) = (Arc::clone(&self.0), goes_on.clone(), Arc::downgrade(&open));
            let next = move || open.upgrade()?.lock().next();
            move || {
                let mut done = Vec::new();
                while let Some((at, (place, from))) = next() {
                    goes_on()?;
                    done.push((at, terms.guarded(step, place, from)?));
                }
                Ok(done)
            }
        };
        let jobs: Vec<_> = (0..jobs).map(|_| tokio::task::spawn_blocking(job())).collect();
        for job in jobs {
            let done = job.await.unwrap_or_else(|_| Err(Error::Store("a look at files was given up".into())));
            done?.into_iter().for_each(|(at, step)| taken[at] = Some(step));
        }
        Ok(taken.into_iter().flatten().collect())
    }

    async fn note(&self, outcome: Outcome) -> Verdict {
        match outcome {
            Outcome::Clear(look) => look,
            Outcome::Elsewhere { upload, place, moved, displaced } => {
                if let Err(error) = self.0.commands.note_place(upload.id, place, moved).await {
                    log::warn!("upload {}: cannot note that it is also at another path: {error}", upload.id);
                }
                Verdict::Known(upload, displaced)
            }
        }
    }
}

/// What blocks.
impl Terms {
    /// Takes a step. A parser that panics is about this file, and no reason to refuse the others.
    fn guarded<T, U>(
        &self,
        step: fn(&Self, Place, T) -> Result<Step<U>, Error>,
        place: Place,
        from: T,
    ) -> Result<Step<U>, Error> {
        let path = place.path.clone();
        catch_unwind(AssertUnwindSafe(|| step(self, place, from))).unwrap_or_else(|_| {
            let path = path.as_path().display();
            let message = format!("the code that verdicts at {path} panicked; the log tells where");
            Ok(Err(refused(FailureKind::Panicked, message).into()))
        })
    }

    /// Finds out what the paths stand for.
    fn locate(&self, sources: Vec<Source>) -> Result<Vec<Step<Located>>, Error> {
        let located = |source| match source {
            Source::Received(received) => {
                Err(Box::new(Outcome::Clear(Verdict::New(Box::new(received.upload()), Some(received)))))
            }
            Source::Refused(failure) => Err(Admission::Refused(failure).into()),
            Source::InPlace(path) => Ok((place_of(&path)?, None)),
            Source::InSubmission { path, began } => Ok((place_of(&path)?, Some(began))),
        };
        let files: Vec<_> = sources.into_iter().map(located).collect();
        let places = files.iter().flatten().map(|(place, _)| place);
        let mut known = self.queries.at_places(&self.owner, places)?.into_iter();
        let step = |file: Result<_, _>| {
            file.map(|(place, began)| (place, Located { began, known: known.next().flatten() }))
        };
        Ok(files.into_iter().map(step).collect())
    }

    /// Decides by what the path stands for, or else reads the file.
    fn by_place(&self, place: Place, file: Located) -> Result<Step<Read>, Error> {
        let path = place.path.as_path();
        let mut replaces = None;
        if let Some((upload, same)) = file.known {
            let in_this_run = |upload: &Upload| file.began.is_some_and(|began| upload.updated_at >= began);
            if same && upload.status == Status::Failed && in_this_run(&upload) {
                return Ok(Err(Admission::Failed(Box::new(upload)).into()));
            }
            if same && !self.force {
                if self.is_done(&upload) {
                    let upload = Box::new(upload);
                    return Ok(Err(match self.has_left(&upload, path)? {
                        true => Outcome::Elsewhere { upload, place, moved: true, displaced: None }.into(),
                        false => Admission::Done(upload).into(),
                    }));
                }
                if !upload.status.is_terminal() {
                    return Ok(Err(Admission::Unfinished(upload.id).into()));
                }
            }
            // A file that took the place of one that moved away is another upload.
            if upload.place() == Some(path) {
                replaces = Some(Replaces { upload: upload.id, at: place.path.clone() });
            }
        }
        Ok(match inspect(path, &self.limits, &self.vision) {
            Ok((inspected, content_hash, file_size)) => {
                Ok((place, Read { replaces, inspected, content_hash, file_size }))
            }
            Err(refused) => Err(refused.into()),
        })
    }

    /// Finds out what is known of the bytes; of which nothing is, is a new upload.
    fn look_up(&self, steps: Vec<Step<Read>>) -> Result<Vec<Step<(Read, Upload)>>, Error> {
        let hashes = steps.iter().flatten().map(|(_, read)| read.content_hash.as_str());
        let mut known = match self.force {
            true => Vec::new(),
            false => self.queries.with_contents(&self.owner, hashes)?,
        }
        .into_iter();
        let step = |step: Step<Read>| {
            let (place, read) = step?;
            match known.next().flatten() {
                Some(upload) => Ok((place, (read, upload))),
                None => Err(Box::new(Outcome::Clear(read.into_new(place, None)))),
            }
        };
        Ok(steps.into_iter().map(step).collect())
    }

    /// Decides by what is known of the bytes.
    fn by_content(
        &self,
        place: Place,
        (mut read, upload): (Read, Upload),
    ) -> Result<Step<Infallible>, Error> {
        let path = place.path.as_path();
        let moved = self.has_left(&upload, path)?;
        if self.is_done(&upload) {
            let displaced = read.replaces.map(|it| it.upload).filter(|it| *it != upload.id);
            return Ok(Err(Outcome::Elsewhere { upload: Box::new(upload), place, moved, displaced }.into()));
        }
        // The same bytes, at this path or at one that they have left: the new upload stands in for the older one.
        if read.replaces.is_none()
            && let FileRef::InPlace(old) = &upload.file
            && (moved || old.as_path() == path)
        {
            read.replaces = Some(Replaces { upload: upload.id, at: old.clone() });
        }
        let keeps = upload.status == Status::Completed
            && upload.keeps_description(&self.gate.identity(), audit::VERSION);
        Ok(Err(Outcome::Clear(read.into_new(place, keeps.then_some(upload.id))).into()))
    }

    /// Whether the bytes of an upload that are found at `path` are no longer where the upload says that they are.
    fn has_left(&self, upload: &Upload, path: &Path) -> Result<bool, Error> {
        let Some(old) = upload.place().filter(|old| *old != path) else { return Ok(false) };
        let Ok(place) = place_of(old) else { return Ok(true) };
        let known = self.queries.at_places(&self.owner, [&place])?.into_iter().next().flatten();
        let unchanged = known.is_some_and(|(it, same)| same && it.id == upload.id);
        Ok(!unchanged && self.files.check(upload).is_err())
    }

    /// Whether nothing would come out differently, and everything is still there.
    fn is_done(&self, upload: &Upload) -> bool {
        upload.status == Status::Completed
            && upload.is_described_by(&self.gate.identity(), audit::VERSION)
            && match upload.thumbnail {
                // The disk was full.
                Thumbnail::Pending => false,
                Thumbnail::Made => self.files.thumbnail(upload.id).exists(),
                Thumbnail::Failed(_) => true,
            }
    }
}

impl Read {
    fn into_new(self, place: Place, described_as: Option<UploadId>) -> Verdict {
        let name = place.path.as_path().file_name();
        let new = NewUpload {
            id: UploadId::generate(),
            file: FileRef::InPlace(place.path.clone()),
            file_name: name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            file_size: self.file_size,
            content_hash: self.content_hash,
            format: self.inspected.format,
            decode_bytes: self.inspected.decode_bytes,
            place: Some(place),
            replaces: self.replaces,
            described_as,
        };
        Verdict::New(Box::new(new), None)
    }
}

/// What a path looks like; only files are taken, so that a pipe or a device cannot hold the door up.
fn place_of(path: &Path) -> Result<Place, Admission> {
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
    Ok(Place { path: PlacePath::new(path), size: metadata.len(), modified_ns })
}

/// Reads the header and hashes the whole file; a small one is read once for both.
fn inspect(
    path: &Path,
    limits: &media::Limits,
    vision: &VisionSpec,
) -> Result<(media::Inspected, String, u64), Admission> {
    let failed = |error: io::Error| unreadable(path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    // One byte more than there should be, so that a file that grows is noticed.
    let mut buffer = Vec::with_capacity((length as usize).saturating_add(1).min(READ_BYTES));
    let fill = |file: &mut File, buffer: &mut Vec<u8>| {
        buffer.clear();
        file.take(buffer.capacity() as u64).read_to_end(buffer)
    };
    fill(&mut file, &mut buffer).map_err(failed)?;
    let inspected = if buffer.len() as u64 == length {
        media::inspect(&mut Cursor::new(&buffer), length, limits, vision)
    } else {
        let inspected = media::inspect(&mut BufReader::new(&mut file), length, limits, vision);
        file.seek(SeekFrom::Start(buffer.len() as u64)).map_err(failed)?;
        inspected
    }
    .map_err(|error| match error.kind {
        ErrorKind::NotMedia => Admission::NotMedia(not_accepted(FailureKind::Refused, error.message)),
        kind => refused(failure_kind(kind), error.message),
    })?;
    let mut hasher = Sha256::new();
    let mut read = 0;
    while !buffer.is_empty() && read <= length {
        hasher.update(&buffer);
        read += buffer.len() as u64;
        fill(&mut file, &mut buffer).map_err(failed)?;
    }
    if read != length {
        let message = format!("{} is being written; try again when it is whole", path.display());
        return Err(refused(FailureKind::FileChanged, message));
    }
    Ok((inspected, base16ct::lower::encode_string(&hasher.finalize()), length))
}

fn refused(kind: FailureKind, message: String) -> Admission {
    Admission::Refused(not_accepted(kind, message))
}

fn unreadable(path: &Path, error: &io::Error) -> Admission {
    let (kind, message) = files::unreadable(path, error);
    refused(kind, message)
}
