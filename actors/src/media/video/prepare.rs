//! Makes pictures and facts of a video.
//!
//! For MP4, QuickTime, Matroska and WebM, `ffmpeg` gets an excerpt: the places of the frames are read here,
//! and a few frames are copied out of the file. It opens other files itself, after `ffprobe` has described
//! them.

use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::excerpt::Excerpt;
use super::ffmpeg::Programs;
use super::frames::{self, Frame, Size};
use super::index::Index;
use super::job::Job;
use super::matroska;
use super::mux;
use super::sampling::wanted;
use super::track::Track;
use crate::media::error::{Error, ErrorKind};
use crate::media::format::{Format, Kind};
use crate::media::header::{Detail, Header, admit, header};
use crate::media::layout::VisionSpec;
use crate::media::limits::Limits;
use crate::media::picture::Clip;
use crate::media::source::Source;
use crate::regular_file;

/// Makes pictures and facts of a video: up to ten frames, one a second or spread over a longer video, and
/// thumbnail and facts from the first of them that is not blank. All are upright, as a player shows them.
///
/// `ffmpeg` and `ffprobe` decode in confined child processes; see [`Limits::video_memory`] and
/// [`Limits::video_timeout`]. Dropping the future kills them. `held` is dropped when all the work has ended,
/// also in threads that cannot be aborted. The file, as [`open_video`] opens it, is the one that
/// [`inspect`](crate::media::inspect) accepted; it is inspected again.
///
/// # Errors
/// As [`inspect`](crate::media::inspect), and [`ErrorKind::Undecodable`] if no frame can be decoded, or if
/// decoding exceeds the limit on time or memory.
///
/// # Panics
/// Outside of a tokio runtime with its drivers for time and input and output.
pub async fn prepare_video<H: Clone + Send + 'static>(
    file: File,
    limits: &Limits,
    vision: &VisionSpec,
    want_thumbnail: bool,
    held: H,
) -> Result<Clip, Error> {
    prepare(file, limits, vision, want_thumbnail, held, open).await
}

/// As [`prepare_video`], but `ffmpeg` opens every file itself. `benches/video.py --readers` compares the two.
///
/// # Errors
/// As [`prepare_video`].
#[doc(hidden)]
pub async fn prepare_video_by_ffmpeg<H: Clone + Send + 'static>(
    file: File,
    limits: &Limits,
    vision: &VisionSpec,
    want_thumbnail: bool,
    held: H,
) -> Result<Clip, Error> {
    let open: Open = |file, limits, vision| {
        let Accepted { header, memory, .. } = accept(file, limits, vision)?;
        Ok((Input::File, header.format, memory))
    };
    prepare(file, limits, vision, want_thumbnail, held, open).await
}

/// Reads a file. Returns the input for `ffmpeg`, the format, and the memory that `ffmpeg` may take, in bytes.
type Open = fn(&File, &Limits, &VisionSpec) -> Result<(Input, Format, u64), Error>;

async fn prepare<H: Clone + Send + 'static>(
    file: File,
    limits: &Limits,
    vision: &VisionSpec,
    want_thumbnail: bool,
    held: H,
    open: Open,
) -> Result<Clip, Error> {
    let work = extract(Arc::new(file), limits, vision, held.clone(), open);
    let seconds = limits.video_timeout.as_secs_f64();
    let (track, size, frames) = tokio::time::timeout(limits.video_timeout, work).await.map_err(|_| {
        let message = format!("it took longer than {seconds} s and was given up (limits.video_timeout_ms)");
        Error::undecodable(message)
    })??;
    let vision = vision.clone();
    blocking(held, move || frames::clip(&track, &size, frames, &vision, want_thumbnail)).await
}

/// The input of `ffmpeg`.
enum Input {
    /// An excerpt.
    Excerpt { index: Box<Index>, excerpt: Excerpt, bytes: Vec<u8> },
    /// The file itself.
    File,
}

async fn extract<H: Clone + Send + 'static>(
    file: Arc<File>,
    limits: &Limits,
    vision: &VisionSpec,
    held: H,
    open: Open,
) -> Result<(Track, Size, Vec<Frame>), Error> {
    let programs =
        Programs::find().map_err(|missing| Error::new(ErrorKind::Unsupported, missing.sentence()))?;
    let (input, format, memory) = {
        let (file, limits, vision) = (Arc::clone(&file), limits.clone(), vision.clone());
        blocking(held, move || open(&file, &limits, &vision)).await?
    };
    let job = Job {
        programs,
        file,
        format,
        limits: limits.clone(),
        vision: vision.clone(),
        memory,
        form: Mutex::default(),
    };
    match input {
        Input::Excerpt { index, excerpt, bytes } => match job.excerpt(*index, &excerpt, bytes).await {
            // An index can be wrong about the frames that need no other.
            Err(error) if error.kind == ErrorKind::Undecodable => job.file().await,
            done => done,
        },
        Input::File => job.file().await,
    }
}

/// An open video within the limits.
struct Accepted<'a> {
    reader: BufReader<&'a File>,
    /// Length of the file in bytes.
    len: u64,
    header: Header,
    /// Memory that decoding may take, in bytes.
    memory: u64,
}

/// Opens the file of a video for [`prepare_video`]. A path that leads to something else than a file is refused
/// without waiting. Blocks.
///
/// # Errors
/// [`ErrorKind::NotMedia`] if it is not a file, [`ErrorKind::Undecodable`] if it cannot be opened.
pub fn open_video(path: &Path) -> Result<File, Error> {
    match regular_file::open(path) {
        Ok((file, _)) => Ok(file),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            Err(Error::new(ErrorKind::NotMedia, "it is not a file"))
        }
        Err(error) => Err(Error::unreadable(error)),
    }
}

/// Checks a video against the limits.
fn accept<'a>(file: &'a File, limits: &Limits, vision: &VisionSpec) -> Result<Accepted<'a>, Error> {
    let metadata = file.metadata().map_err(Error::unreadable)?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::NotMedia, "it is not a file"));
    }
    let len = metadata.len();
    let mut reader = BufReader::new(file);
    reader.rewind().map_err(Error::unreadable)?;
    let header = header(&mut reader, len, limits)?;
    let memory = admit(&header, len, limits, vision)?.decode_bytes;
    match header.format.kind() {
        Kind::Image => Err(Error::new(ErrorKind::NotMedia, "the file is no video")),
        Kind::Video => Ok(Accepted { reader, len, header, memory }),
    }
}

/// Takes an excerpt of a file if its format is read here.
fn open(file: &File, limits: &Limits, vision: &VisionSpec) -> Result<(Input, Format, u64), Error> {
    let Accepted { mut reader, len, header, memory } = accept(file, limits, vision)?;
    let format = header.format;
    let index = match header.detail {
        Detail::Mp4(index) => Some(index),
        Detail::Matroska => {
            matroska::read(&mut Source::new(&mut reader, len)).map_err(Error::unreadable)?.map(Box::new)
        }
        Detail::OtherVideo => None,
        Detail::Picture(_) => return Err(Error::new(ErrorKind::NotMedia, "the file is no video")),
    };
    let Some(index) = index else { return Ok((Input::File, format, memory)) };
    limits.check_size(index.track.coded)?;
    let seconds = index.track.duration_ms.unwrap_or(0) as f64 / 1000.0;
    let excerpt = Excerpt::choose(&index, wanted(seconds))
        .ok_or_else(|| Error::undecodable("a frame of it is too large"))?;
    let bytes =
        mux::write(&excerpt, &index, &mut Source::new(&mut reader, len)).map_err(Error::unreadable)?;
    Ok((Input::Excerpt { index, excerpt, bytes }, format, memory))
}

/// Runs a job in a thread that may block, and drops `held` when the job has ended.
async fn blocking<T: Send + 'static>(
    held: impl Send + 'static,
    job: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let job = move || {
        let _held = held;
        job()
    };
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|_| Error::undecodable("the program failed on it; the log has the place"))?
}
