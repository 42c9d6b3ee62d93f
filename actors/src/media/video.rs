//! From a video to pictures of it, by `ffmpeg`.
//!
//! Of MP4, QuickTime, Matroska and WebM files it gets an excerpt: it is read here where the frames lie, and a few are taken out.
//! Other files it opens itself, after `ffprobe` was asked about them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::excerpt::Excerpt;
use super::ffmpeg::{self, Allowance, Answer, Programs};
use super::frames::{self, Frame, Size};
use super::header::{Detail, admit, header};
use super::index::{Container, Index};
use super::matroska;
use super::probe::{self, Packets, Probe};
use super::source::Source;
use super::track::Track;
use super::{Clip, Error, ErrorKind, Format, Kind, Limits, VisionSpec, capability};

/// Most frames of a video that a provider sees.
pub(super) const MAX_FRAMES: usize = 10;
/// Up to this many seconds all key frames are looked at; of a longer video only some.
pub(super) const SHORT_S: f64 = 60.0;
/// Frames in a row that no other needs and a decoder may skip: no coding has more.
const MOST_SKIPPED: usize = 16;
/// Fewer bytes a second than any video has: the length that the file names is not its own.
pub(super) const LEAST_BYTES_PER_S: f64 = 400.0;
/// Bytes of `ffprobe`'s answers.
const MAX_ANSWER_BYTES: usize = 1 << 20;
const MAX_PACKETS_BYTES: usize = 32 << 20;

/// Makes all that is wanted of a video: up to ten frames, one a second, or spread over all of a longer one; thumbnail and
/// facts from the first of them that is not blank. All is upright, as a player shows it.
///
/// `ffmpeg` and `ffprobe` do it as child processes with little leave; see [`Limits::video_memory`] and
/// [`Limits::video_timeout`]. Dropping the future ends them. `held` is kept for as long as anything of the work goes on, also
/// in a thread that cannot be ended. The path must name the file that was looked at by [`inspect`](super::inspect); it is
/// looked at again.
///
/// # Errors
/// As [`inspect`](super::inspect), and [`ErrorKind::Undecodable`] if there is no frame that can be decoded, or if it takes
/// longer or more than is allowed.
///
/// # Panics
/// Outside of a tokio runtime with its drivers for time and input and output.
pub async fn prepare_video<H: Clone + Send + 'static>(
    path: &Path,
    limits: &Limits,
    vision: &VisionSpec,
    want_thumbnail: bool,
    held: H,
) -> Result<Clip, Error> {
    let work = extract(path, limits, vision, held.clone());
    let seconds = limits.video_timeout.as_secs_f64();
    let (track, size, frames) = tokio::time::timeout(limits.video_timeout, work).await.map_err(|_| {
        undecodable(format!("it took longer than {seconds} s and was given up (limits.video_timeout_ms)"))
    })??;
    let vision = vision.clone();
    blocking(held, move || frames::clip(&track, &size, frames, &vision, want_thumbnail)).await
}

/// What is to be done with a file.
enum Opened {
    /// Frames were taken out of it.
    Excerpt { format: Format, index: Box<Index>, excerpt: Excerpt, bytes: Vec<u8> },
    /// `ffmpeg` has to open it.
    Whole(Format),
}

async fn extract<H: Clone + Send + 'static>(
    path: &Path,
    limits: &Limits,
    vision: &VisionSpec,
    held: H,
) -> Result<(Track, Size, Vec<Frame>), Error> {
    let programs = Programs::find()
        .map_err(|missing| Error::new(ErrorKind::Unsupported, capability::missing_program(missing)))?;
    let (opened, memory) = {
        let (path, limits, vision) = (path.to_owned(), limits.clone(), vision.clone());
        blocking(held, move || open(&path, &limits, &vision)).await?
    };
    let job = Job { programs, path: path.to_owned(), limits: limits.clone(), vision: vision.clone(), memory };
    match opened {
        Opened::Excerpt { format, index, excerpt, bytes } => {
            match job.excerpt(*index, &excerpt, bytes).await {
                // An index may say of frames that they need no other, and be wrong.
                Err(error) if error.kind == ErrorKind::Undecodable => job.whole(format).await,
                done => done,
            }
        }
        Opened::Whole(format) => job.whole(format).await,
    }
}

fn open(path: &Path, limits: &Limits, vision: &VisionSpec) -> Result<(Opened, u64), Error> {
    let unreadable = |error: std::io::Error| undecodable(format!("the file cannot be read: {error}"));
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    // To open a pipe is to wait for somebody to write into it.
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::NotMedia, "it is not a file"));
    }
    let len = metadata.len();
    let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
    let header = header(&mut reader, len, limits)?;
    let memory = admit(&header, len, limits, vision)?.decode_bytes;
    if header.format.kind() != Kind::Video {
        return Err(Error::new(ErrorKind::NotMedia, "the file is no video"));
    }
    let index = match (header.detail, header.format) {
        (Detail::Mp4(index), _) => Some(index),
        (_, Format::Mkv | Format::Webm) => {
            matroska::read(&mut Source::new(&mut reader, len)).map_err(unreadable)?.map(Box::new)
        }
        _ => None,
    };
    let Some(index) = index else { return Ok((Opened::Whole(header.format), memory)) };
    super::header::fits(index.track.coded, limits)?;
    let seconds = index.track.duration_ms.unwrap_or(0) as f64 / 1000.0;
    let excerpt =
        Excerpt::choose(&index, wanted(seconds)).ok_or_else(|| undecodable("a frame of it is too large"))?;
    let bytes = excerpt.write(&index, &mut Source::new(&mut reader, len)).map_err(unreadable)?;
    Ok((Opened::Excerpt { format: header.format, index, excerpt, bytes }, memory))
}

/// How many frames of a video of so many seconds are wanted.
pub(super) fn wanted(seconds: f64) -> usize {
    (seconds.ceil() as usize).clamp(1, MAX_FRAMES)
}

struct Job {
    programs: Programs,
    path: PathBuf,
    limits: Limits,
    vision: VisionSpec,
    memory: u64,
}

impl Job {
    fn allowance(&self, output: (usize, usize)) -> Allowance {
        Allowance { memory: self.memory, cpu: self.limits.video_timeout, output }
    }

    async fn excerpt(
        &self,
        index: Index,
        excerpt: &Excerpt,
        bytes: Vec<u8>,
    ) -> Result<(Track, Size, Vec<Frame>), Error> {
        let size = Size::of(&index.track, &self.vision);
        let (name, names) = match index.container {
            Container::Mp4(_) => ("mov", MOV),
            Container::Matroska { .. } => ("matroska", MATROSKA),
        };
        let mut before = words(&["-protocol_whitelist", "pipe", "-format_whitelist", names, "-threads", "1"]);
        if !excerpt.keys_only && index.samples.len() > MOST_SKIPPED * excerpt.wanted.len() {
            before.extend(words(&["-skip_frame", "noref"]));
        }
        before.extend(words(&["-noautorotate", "-copyts", "-f", name, "-i", "pipe:0", "-map", "0:v:0"]));
        // One frame from each span: the first that comes.
        let spans = excerpt.wanted.iter().map(|(start, end)| {
            let (start, end) = (start + excerpt.delay, end + excerpt.delay);
            format!("between(pts,{start},{end})*not(gte(prev_selected_pts,{start}))")
        });
        let select = spans.collect::<Vec<_>>().join("+");
        let count = excerpt.wanted.len();
        let (found, answer) = self.frames(before, &select, count, &size, Some(bytes)).await?;
        let seconds = |at: i64| {
            let rank = usize::try_from(at - excerpt.delay).ok()?;
            let ticks = excerpt.times.get(rank)? - index.shown.start;
            Some(ticks.max(0) as f64 / f64::from(index.timescale))
        };
        let frames: Vec<Frame> = found
            .into_iter()
            .filter_map(|(stamp, rgb)| Some(Frame { seconds: seconds(stamp.ticks)?, rgb }))
            .collect();
        // What was found by looking through a file may not be all that a demuxer finds.
        if frames.len() < count && matches!(index.container, Container::Matroska { .. }) {
            return Err(undecodable(self.reason(&answer)));
        }
        let mut track = index.track;
        track.damaged |= frames.len() < count;
        self.some(track, size, frames, &answer)
    }

    async fn whole(&self, format: Format) -> Result<(Track, Size, Vec<Frame>), Error> {
        let Probe { mut track, stream, mut start, mut duration } = self.probe(format).await?;
        super::header::fits(track.coded, &self.limits)?;
        let length = std::fs::metadata(&self.path).map_or(0, |it| it.len()) as f64;
        if duration.is_none_or(|seconds| length / seconds < LEAST_BYTES_PER_S) {
            match self.packets(format, stream).await?.span() {
                Some((first, last)) if last > first => (start, duration) = (first, Some(last - first)),
                // One frame, or frames without times, as in a bare stream.
                Some(_) | None => duration = None,
            }
        }
        track.duration_ms = duration.map(|seconds| (seconds * 1000.0).round() as u64);
        let seconds = duration.unwrap_or(MAX_FRAMES as f64);
        let video = Video {
            format,
            stream,
            start,
            seconds,
            count: wanted(seconds),
            size: Size::of(&track, &self.vision),
        };
        let mut found = Vec::new();
        let mut last = None;
        if seconds > SHORT_S {
            (found, last) = self.by_seeking(&video).await?;
        }
        let mut packets = None;
        for skip in ["nokey", "noref", "default"] {
            // Frames from anywhere are better than none.
            let enough = if seconds > SHORT_S { 1 } else { video.possible(packets.as_ref()) };
            if found.len() >= enough
                || (skip == "default" && !found.is_empty() && !video.is_slow(packets.as_ref()))
            {
                break;
            }
            let (more, answer) = self.in_a_row(&video, skip).await?;
            if more.len() > found.len() {
                found = more;
            }
            last = Some(answer);
            if found.len() < video.count && packets.is_none() {
                packets = Some(self.packets(format, stream).await?);
            }
        }
        let Some(last) = last else { return Err(undecodable("no frame of it can be decoded")) };
        if found.len() < video.count && packets.is_none() {
            packets = Some(self.packets(format, stream).await?);
        }
        track.damaged = packets.is_some_and(|packets| {
            found.len() < video.possible(Some(&packets))
                || packets.end_before(video.start + video.seconds - video.step())
        });
        self.some(track, video.size, found, &last)
    }

    /// What was got, if it is anything.
    fn some(
        &self,
        track: Track,
        size: Size,
        frames: Vec<Frame>,
        answer: &Answer,
    ) -> Result<(Track, Size, Vec<Frame>), Error> {
        if frames.is_empty() {
            return Err(undecodable(format!("no frame of it can be decoded: {}", self.reason(answer))));
        }
        Ok((track, size, frames))
    }

    async fn probe(&self, format: Format) -> Result<Probe, Error> {
        let answer = self.ask(format, probe::question(), MAX_ANSWER_BYTES).await?;
        if !answer.status.success() {
            return Err(undecodable(self.reason(&answer)));
        }
        probe::answer(&answer.output.concat()).ok_or_else(|| undecodable("there is no video in it"))
    }

    async fn ask(&self, format: Format, mut question: Vec<OsString>, most: usize) -> Result<Answer, Error> {
        question.extend(self.opening(format));
        question.push(self.address());
        self.run(&self.programs.ffprobe, question, None, (most, 1)).await
    }

    async fn packets(&self, format: Format, stream: u32) -> Result<Packets, Error> {
        let answer = self.ask(format, probe::packets(), MAX_PACKETS_BYTES).await?;
        Ok(Packets::read(&answer.output.concat(), stream))
    }

    /// The first frame of each span of time, of those that the decoder does not skip.
    async fn in_a_row(&self, video: &Video, skip: &str) -> Result<(Vec<Frame>, Answer), Error> {
        let mut before = words(&["-threads", "1", "-skip_frame", skip, "-noautorotate"]);
        before.extend(self.input(video));
        let (start, step) = (video.start, video.step());
        let span = |t: &str| format!("floor(({t}-{start})/{step})");
        let select = format!("isnan(prev_selected_t)+gt({},{})", span("t"), span("prev_selected_t"));
        let (found, answer) = self.frames(before, &select, video.count, &video.size, None).await?;
        Ok((video.timed(found), answer))
    }

    /// A frame from each span of time: the key frame before its middle, if that is in the span, else its first frame.
    async fn by_seeking(&self, video: &Video) -> Result<(Vec<Frame>, Option<Answer>), Error> {
        let begun = tokio::time::Instant::now();
        let mut frames: Vec<Frame> = Vec::new();
        let mut last = None;
        for span in 0..video.count {
            let first = span as f64 * video.step();
            for (at, how, skip) in [
                (first + video.step() / 2.0, "-noaccurate_seek", "nokey"),
                (first, "-accurate_seek", "noref"),
            ] {
                // Rather fewer frames than none in time.
                if !frames.is_empty() && begun.elapsed() > self.limits.video_timeout / 2 {
                    return Ok((frames, last));
                }
                let at = format!("{at:.3}");
                let mut before =
                    words(&["-threads", "1", "-skip_frame", skip, "-noautorotate", how, "-ss", &at]);
                before.extend(self.input(video));
                let (found, answer) = self.frames(before, "1", 1, &video.size, None).await?;
                last = Some(answer);
                let found = video.timed(found).pop();
                if let Some(frame) = found.filter(|it| {
                    it.seconds + 0.001 >= first && frames.last().is_none_or(|last| last.seconds < it.seconds)
                }) {
                    frames.push(frame);
                    break;
                }
            }
        }
        Ok((frames, last))
    }

    /// Lets `ffmpeg` decode. The frames that `select` chooses come with their times.
    async fn frames(
        &self,
        mut arguments: Vec<OsString>,
        select: &str,
        count: usize,
        size: &Size,
        input: Option<Vec<u8>>,
    ) -> Result<(Vec<(frames::Stamp, Vec<u8>)>, Answer), Error> {
        let (width, height) = size.stored;
        let general = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "info", "-filter_threads", "1"];
        arguments.splice(0..0, words(&general));
        // Each frame as it comes: the times in the output are counted, so that none is repeated or left out to keep a pace. A
        // frame keeps its length, and would be repeated if that was more than the output's pace.
        let filter = format!(
            "select='{select}',scale={width}:{height}:flags=bicubic,setsar=1,format=rgb24,showinfo=checksum=0,setpts=N*1000/TB"
        );
        arguments.extend(words(&[
            "-an",
            "-sn",
            "-dn",
            "-vf",
            &filter,
            "-r",
            "1/1000",
            "-frames:v",
            &count.to_string(),
        ]));
        arguments.extend(words(&["-f", "rawvideo", "pipe:1"]));
        let bytes = size.bytes();
        let mut answer = self.run(&self.programs.ffmpeg, arguments, input, (bytes, count)).await?;
        let stamps = frames::stamps(&answer.log);
        let output = std::mem::take(&mut answer.output);
        let frames = stamps.into_iter().zip(output.into_iter().filter(|it| it.len() == bytes));
        // When a frame without a time is shown cannot be told.
        let frames = frames.filter_map(|(stamp, rgb)| Some((stamp?, rgb))).collect();
        Ok((frames, answer))
    }

    async fn run(
        &self,
        program: &Path,
        arguments: Vec<OsString>,
        input: Option<Vec<u8>>,
        output: (usize, usize),
    ) -> Result<Answer, Error> {
        ffmpeg::run(program, arguments, input, self.allowance(output)).await.map_err(|error| {
            Error::new(ErrorKind::Unsupported, format!("cannot run {}: {error}", program.display()))
        })
    }

    /// What a child failed at, as the end of a sentence.
    fn reason(&self, answer: &Answer) -> String {
        frames::reason(answer, &self.limits)
    }

    /// How a file is opened: by one demuxer, or a few, and by no other, as some follow links to other files and hosts.
    fn opening(&self, format: Format) -> Vec<OsString> {
        let (only, names): (Option<&str>, &str) = match format {
            Format::Mkv | Format::Webm => (Some("matroska"), MATROSKA),
            Format::Avi => (Some("avi"), "avi"),
            Format::Flv => (Some("flv"), "flv"),
            Format::Mpeg => (None, "mpeg,mpegvideo,mpegts"),
            _ => (Some("mov"), MOV),
        };
        let mut words = words(&["-protocol_whitelist", "file", "-format_whitelist", names]);
        words.extend(only.into_iter().flat_map(|name| ["-f", name]).map(OsString::from));
        words
    }

    fn input(&self, video: &Video) -> Vec<OsString> {
        let mut words = self.opening(video.format);
        words.extend(["-copyts", "-i"].map(OsString::from));
        words.extend([self.address(), "-map".into(), format!("0:{}", video.stream).into()]);
        words
    }

    /// The file in a form that is never taken for an option, a list or another protocol.
    fn address(&self) -> OsString {
        let mut address = OsString::from("file:");
        // A child does not share this process's folder; without one there is nothing to make of the path.
        address.push(std::path::absolute(&self.path).as_ref().unwrap_or(&self.path));
        address
    }
}

/// The demuxer's name for MP4 and its relations.
const MOV: &str = "mov,mp4,m4a,3gp,3g2,mj2";
const MATROSKA: &str = "matroska,webm";

/// A video that `ffmpeg` opens itself.
struct Video {
    format: Format,
    stream: u32,
    /// When the first frame is shown by the file's clock, in seconds.
    start: f64,
    seconds: f64,
    /// Frames that are wanted.
    count: usize,
    size: Size,
}

impl Video {
    /// Seconds from one wanted frame to the next.
    fn step(&self) -> f64 {
        (self.seconds / self.count as f64).max(1.0)
    }

    /// How many of the frames can be had: a span may have none, if sound goes on or the pace is slow. Without times that cannot be told.
    fn possible(&self, packets: Option<&Packets>) -> usize {
        let Some(packets) = packets else { return self.count };
        let spans = packets.times.iter().map(|at| ((at - self.start) / self.step()).floor() as i64);
        let spans: BTreeSet<i64> = spans.filter(|span| (0..self.count as i64).contains(span)).collect();
        spans.len().max(1)
    }

    /// Whether there are so few frames that a span may have none but those that no other needs.
    fn is_slow(&self, packets: Option<&Packets>) -> bool {
        packets.is_some_and(|it| (1..=MOST_SKIPPED * self.count).contains(&it.times.len()))
    }

    fn timed(&self, found: Vec<(frames::Stamp, Vec<u8>)>) -> Vec<Frame> {
        found
            .into_iter()
            .map(|(stamp, rgb)| Frame { seconds: (stamp.seconds - self.start).max(0.0), rgb })
            .collect()
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn undecodable(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Undecodable, message)
}

/// A job in a thread of its own, which keeps what is held for it until it is done.
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
        .map_err(|_| undecodable("the program failed on it; the log tells where"))?
}
