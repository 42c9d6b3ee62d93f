//! Lets `ffmpeg` decode frames of one video, out of an excerpt or of the file itself.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::confined::Input;
use super::excerpt::Excerpt;
use super::ffmpeg::{self, Allowance, Answer, Programs};
use super::frame_colours::{Form, FrameColours};
use super::frames::{self, Frame, Size};
use super::index::{Container, Index};
use super::probe::{self, Packets, Probe};
use super::sampling::{LEAST_BYTES_PER_S, MAX_FRAMES, SHORT_S, wanted};
use super::track::Track;
use crate::media::error::{Error, ErrorKind};
use crate::media::format::Format;
use crate::media::layout::VisionSpec;
use crate::media::limits::Limits;

/// Most consecutive frames that no other frame needs and a decoder may skip; no codec has more.
const MOST_SKIPPED: usize = 16;
/// Most bytes of `ffprobe`'s answer about a file.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Most bytes of `ffprobe`'s list of packets.
const MAX_PACKETS_BYTES: usize = 32 << 20;

/// The decoding of one file.
pub(super) struct Job {
    pub(super) programs: Programs,
    /// The file, which may no longer be at its path.
    pub(super) file: Arc<File>,
    pub(super) format: Format,
    pub(super) limits: Limits,
    pub(super) vision: VisionSpec,
    /// Memory that a child may take, in bytes.
    pub(super) memory: u64,
    /// The form of the frames: as the container describes them, or else as the decoder did.
    pub(super) form: Mutex<Form>,
}

impl Job {
    fn allowance(&self, output: (usize, usize)) -> Allowance {
        Allowance { memory: self.memory, cpu: self.limits.video_timeout, output }
    }

    /// Decodes the wanted frames of an excerpt, which the child gets through a pipe.
    pub(super) async fn excerpt(
        &self,
        index: Index,
        excerpt: &Excerpt,
        bytes: Vec<u8>,
    ) -> Result<(Track, Size, Vec<Frame>), Error> {
        let size = Size::of(&index.track, &self.vision);
        self.expect(&index.track);
        let (name, names) = match index.container {
            Container::Mp4(_) => ("mov", MOV),
            Container::Matroska { .. } => ("matroska", MATROSKA),
        };
        let mut before = words(&["-protocol_whitelist", "pipe", "-format_whitelist", names, "-threads", "1"]);
        if !excerpt.keys_only && index.samples.len() > MOST_SKIPPED * excerpt.wanted.len() {
            before.extend(words(&["-skip_frame", "noref"]));
        }
        before.extend(words(&["-noautorotate", "-copyts", "-f", name, "-i", "pipe:0", "-map", "0:v:0"]));
        // The first frame of each span.
        let spans = excerpt.wanted.iter().map(|(start, end)| {
            let (start, end) = (start + excerpt.delay, end + excerpt.delay);
            format!("between(pts,{start},{end})*not(gte(prev_selected_pts,{start}))")
        });
        let select = spans.collect::<Vec<_>>().join("+");
        let count = excerpt.wanted.len();
        let (found, answer) =
            self.frames(&before, &select, count, (&size, index.track.coded), Some(&bytes)).await?;
        let seconds = |at: i64| {
            let rank = usize::try_from(at - excerpt.delay).ok()?;
            let ticks = excerpt.times.get(rank)? - index.shown.start;
            Some(ticks.max(0) as f64 / f64::from(index.timescale))
        };
        let frames: Vec<Frame> = found
            .into_iter()
            .filter_map(|it| Some(Frame { seconds: seconds(it.stamp.ticks)?, data: it.data, form: it.form }))
            .collect();
        // A demuxer may find frames that were not found by looking through the file.
        if frames.len() < count && matches!(index.container, Container::Matroska { .. }) {
            return Err(Error::undecodable(self.reason(&answer)));
        }
        let mut track = index.track;
        track.damaged |= frames.len() < count;
        self.some(track, size, frames, &answer)
    }

    /// Sets the form of the frames by the description of the container.
    fn expect(&self, track: &Track) {
        *self.form.lock() = Form::of(track.colours, track.coded);
    }

    /// Lets `ffmpeg` open the file and decode the wanted frames.
    pub(super) async fn file(&self) -> Result<(Track, Size, Vec<Frame>), Error> {
        let mut probe = self.probe().await?;
        self.limits.check_size(probe.track.coded)?;
        let decoded = self.probed(probe.clone()).await;
        if probe.decoder.take().is_none() || decoded.is_ok() {
            return decoded;
        }
        // This `ffmpeg` may have been built without that decoder.
        probe.track.colours.alpha = false;
        probe.track.notes.push("the transparency of the video could not be read and was ignored".into());
        self.probed(probe).await
    }

    async fn probed(&self, probe: Probe) -> Result<(Track, Size, Vec<Frame>), Error> {
        let Probe { mut track, stream, mut start, mut duration, decoder } = probe;
        self.expect(&track);
        let length = self.file.metadata().map_or(0, |it| it.len()) as f64;
        if duration.is_none_or(|seconds| length / seconds < LEAST_BYTES_PER_S) {
            match self.packets(stream).await?.span() {
                Some((first, last)) if last > first => (start, duration) = (first, Some(last - first)),
                // One frame, or frames without times, as in an elementary stream.
                Some(_) | None => duration = None,
            }
        }
        track.duration_ms = duration.map(|seconds| (seconds * 1000.0).round() as u64);
        let seconds = duration.unwrap_or(MAX_FRAMES as f64);
        let video = Video {
            stream,
            start,
            seconds,
            count: wanted(seconds),
            size: Size::of(&track, &self.vision),
            coded: track.coded,
            decoder,
        };
        let mut found = Vec::new();
        let mut last = None;
        if seconds > SHORT_S {
            (found, last) = self.by_seeking(&video).await?;
        }
        let mut packets = None;
        for skip in ["nokey", "noref", "default"] {
            // Frames from one part of the video are better than none.
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
                packets = Some(self.packets(stream).await?);
            }
        }
        let Some(last) = last else { return Err(Error::undecodable("no frame of it can be decoded")) };
        if found.len() < video.count && packets.is_none() {
            packets = Some(self.packets(stream).await?);
        }
        track.damaged = packets.is_some_and(|packets| {
            found.len() < video.possible(Some(&packets))
                || packets.end_before(video.start + video.seconds - video.step())
        });
        self.some(track, video.size, found, &last)
    }

    /// Returns the frames, or an error if there are none.
    fn some(
        &self,
        track: Track,
        size: Size,
        frames: Vec<Frame>,
        answer: &Answer,
    ) -> Result<(Track, Size, Vec<Frame>), Error> {
        if frames.is_empty() {
            let reason = self.reason(answer);
            return Err(Error::undecodable(format!("no frame of it can be decoded: {reason}")));
        }
        Ok((track, size, frames))
    }

    async fn probe(&self) -> Result<Probe, Error> {
        let answer = self.ask(probe::question(), MAX_ANSWER_BYTES).await?;
        if !answer.status.success() {
            return Err(Error::undecodable(self.reason(&answer)));
        }
        probe::answer(&answer.output.concat()).ok_or_else(|| Error::undecodable("there is no video in it"))
    }

    async fn ask(&self, mut question: Vec<OsString>, most: usize) -> Result<Answer, Error> {
        question.extend(self.opening());
        question.push(ADDRESS.into());
        self.run(&self.programs.ffprobe, question, None, (most, 1)).await
    }

    async fn packets(&self, stream: u32) -> Result<Packets, Error> {
        let answer = self.ask(probe::packets(), MAX_PACKETS_BYTES).await?;
        Ok(Packets::read(&answer.output.concat(), stream))
    }

    /// Reads the file from its start and takes the first frame of each span that the decoder does not skip.
    async fn in_a_row(&self, video: &Video, skip: &str) -> Result<(Vec<Frame>, Answer), Error> {
        let mut before = words(&["-threads", "1", "-skip_frame", skip, "-noautorotate"]);
        before.extend(self.input(video));
        let (start, step) = (video.start, video.step());
        let span = |t: &str| format!("floor(({t}-{start})/{step})");
        let select = format!("isnan(prev_selected_t)+gt({},{})", span("t"), span("prev_selected_t"));
        let (found, answer) =
            self.frames(&before, &select, video.count, (&video.size, video.coded), None).await?;
        Ok((video.timed(found), answer))
    }

    /// Seeks to each span and takes the key frame before its middle if that is in the span, otherwise its
    /// first frame.
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
                // A few frames in time are better than all too late.
                if !frames.is_empty() && begun.elapsed() > self.limits.video_timeout / 2 {
                    return Ok((frames, last));
                }
                let at = format!("{at:.3}");
                let mut before =
                    words(&["-threads", "1", "-skip_frame", skip, "-noautorotate", how, "-ss", &at]);
                before.extend(self.input(video));
                let (found, answer) = self.frames(&before, "1", 1, (&video.size, video.coded), None).await?;
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

    /// Runs `ffmpeg`. Returns the frames that the expression `select` chooses, with their times. If the decoder
    /// describes their colours differently than was expected, runs it once more.
    async fn frames(
        &self,
        arguments: &[OsString],
        select: &str,
        count: usize,
        (size, coded): (&Size, (u32, u32)),
        input: Option<&[u8]>,
    ) -> Result<(Vec<Found>, Answer), Error> {
        let form = *self.form.lock();
        let (found, answer) = self.frames_in(form, arguments, select, count, size, input).await?;
        let right = FrameColours::logged(&answer.log).map_or(form, |colours| Form::of(colours, coded));
        if right == form {
            return Ok((found, answer));
        }
        *self.form.lock() = right;
        drop((found, answer));
        self.frames_in(right, arguments, select, count, size, input).await
    }

    /// As [`Self::frames`], in a form.
    async fn frames_in(
        &self,
        form: Form,
        arguments: &[OsString],
        select: &str,
        count: usize,
        size: &Size,
        input: Option<&[u8]>,
    ) -> Result<(Vec<Found>, Answer), Error> {
        let general = ["-hide_banner", "-nostdin", "-nostats", "-loglevel", "info", "-filter_threads", "1"];
        let mut arguments = [words(&general), arguments.to_vec()].concat();
        // The log describes the frames as the decoder gives them. The output times are counted, so that no
        // frame is repeated or dropped to keep a rate. A frame keeps its duration, and would be repeated if
        // that exceeded the interval of the output.
        let filters = form.filters(size.stored);
        let filter = format!("select='{select}',showinfo=checksum=0,{filters},setpts=N*1000/TB");
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
        let bytes = size.pixels() * form.pixel_bytes();
        let mut answer = self.run(&self.programs.ffmpeg, arguments, input, (bytes, count)).await?;
        let stamps = frames::stamps(&answer.log);
        let output = std::mem::take(&mut answer.output);
        let frames = stamps.into_iter().zip(output.into_iter().filter(|it| it.len() == bytes));
        // Frames without a time are useless.
        let frames = frames.filter_map(|(stamp, data)| Some(Found { stamp: stamp?, data, form })).collect();
        Ok((frames, answer))
    }

    async fn run(
        &self,
        program: &Path,
        arguments: Vec<OsString>,
        // The file itself, if there is none.
        input: Option<&[u8]>,
        output: (usize, usize),
    ) -> Result<Answer, Error> {
        let input = input.map_or_else(|| Input::File(Arc::clone(&self.file)), Input::Bytes);
        ffmpeg::run(program, arguments, input, self.allowance(output)).await.map_err(|error| {
            Error::new(ErrorKind::Unsupported, format!("cannot run {}: {error}", program.display()))
        })
    }

    /// Why a child failed, as the end of a sentence.
    fn reason(&self, answer: &Answer) -> String {
        frames::reason(answer, &self.limits)
    }

    /// The arguments that restrict a child to the demuxers of the format. Other demuxers follow links to
    /// files and hosts.
    fn opening(&self) -> Vec<OsString> {
        let (only, names): (Option<&str>, &str) = match self.format {
            Format::Mp4 | Format::Mov => (Some("mov"), MOV),
            Format::Mkv | Format::Webm => (Some("matroska"), MATROSKA),
            Format::Avi => (Some("avi"), "avi"),
            Format::Flv => (Some("flv"), "flv"),
            Format::Wmv => (Some("asf"), "asf"),
            Format::Ogv => (Some("ogg"), "ogg"),
            Format::Dv => (Some("dv"), "dv"),
            Format::Mxf => (Some("mxf"), "mxf"),
            Format::Rm => (Some("rm"), "rm"),
            Format::Mpeg => (None, "mpeg,mpegvideo,mpegts"),
            // Still pictures are never opened by a child; no demuxer has this name.
            Format::Jpeg
            | Format::Png
            | Format::Webp
            | Format::Gif
            | Format::Heic
            | Format::Avif
            | Format::Tiff
            | Format::Bmp
            | Format::Jxl
            | Format::Raw => (Some("none"), "none"),
        };
        let mut words = words(&["-protocol_whitelist", "file", "-format_whitelist", names]);
        words.extend(only.into_iter().flat_map(|name| ["-f", name]).map(OsString::from));
        words
    }

    fn input(&self, video: &Video) -> Vec<OsString> {
        let mut words = self.opening();
        words.extend(video.decoder.into_iter().flat_map(|name| ["-c:v", name]).map(OsString::from));
        words.extend(["-copyts", "-i"].map(OsString::from));
        words.extend([ADDRESS.into(), "-map".into(), format!("0:{}", video.stream).into()]);
        words
    }
}

/// The address of the file for a child. Its path would be opened once more, and may lead to another file by
/// then.
const ADDRESS: &str = "file:/dev/stdin";
/// The names of the demuxer for MP4 and QuickTime.
const MOV: &str = "mov,mp4,m4a,3gp,3g2,mj2";
/// The names of the demuxer for Matroska and WebM.
const MATROSKA: &str = "matroska,webm";

/// A video that `ffmpeg` opens itself.
struct Video {
    stream: u32,
    /// The time of the first frame by the file's clock, in seconds.
    start: f64,
    seconds: f64,
    /// Number of wanted frames.
    count: usize,
    size: Size,
    /// Width and height of the decoded frames.
    coded: (u32, u32),
    /// The decoder, if it is not `ffmpeg`'s own.
    decoder: Option<&'static str>,
}

/// A frame of `ffmpeg`'s output.
struct Found {
    stamp: frames::Stamp,
    data: Vec<u8>,
    form: Form,
}

impl Video {
    /// Seconds from one wanted frame to the next.
    fn step(&self) -> f64 {
        (self.seconds / self.count as f64).max(1.0)
    }

    /// The number of spans that have a frame, at least 1: a span has none if only sound continues or the
    /// frame rate is low. Without the times of packets, the number of spans.
    fn possible(&self, packets: Option<&Packets>) -> usize {
        let Some(packets) = packets else { return self.count };
        let spans = packets.times.iter().map(|at| ((at - self.start) / self.step()).floor() as i64);
        let spans: BTreeSet<i64> = spans.filter(|span| (0..self.count as i64).contains(span)).collect();
        spans.len().max(1)
    }

    /// Returns `true` if there are so few frames that all frames of a span may be ones that a decoder may
    /// skip.
    fn is_slow(&self, packets: Option<&Packets>) -> bool {
        packets.is_some_and(|it| (1..=MOST_SKIPPED * self.count).contains(&it.times.len()))
    }

    fn timed(&self, found: Vec<Found>) -> Vec<Frame> {
        let seconds = |stamp: frames::Stamp| (stamp.seconds - self.start).max(0.0);
        found
            .into_iter()
            .map(|Found { stamp, data, form }| Frame { seconds: seconds(stamp), data, form })
            .collect()
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
