//! Makes pictures of the output of `ffmpeg`.

use super::ffmpeg::Answer;
use super::frame_colours::{Conversion, Form};
use super::track::Track;
use crate::media::error::Error;
use crate::media::facts::{Facts, PixelFacts};
use crate::media::layout::{self, VisionSpec};
use crate::media::limits::Limits;
use crate::media::origin::Origins;
use crate::media::picture::{Clip, Picture};
use crate::media::render::{self, Rgb, THUMBNAIL_QUALITY, VISION_QUALITY};
use crate::media::sidecar;

/// A frame as it is stored, not yet turned.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    /// Seconds since the start.
    pub(super) seconds: f64,
    /// The pixels in the given form.
    pub(super) data: Vec<u8>,
    pub(super) form: Form,
}

/// The sizes of the pictures that are made of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Size {
    /// Width and height of `ffmpeg`'s output, not yet turned.
    pub(super) stored: (u32, u32),
    /// Width and height of the picture for a provider, upright, without padding.
    content: (u32, u32),
    padded: (u32, u32),
    thumbnail: (u32, u32),
}

impl Size {
    pub(super) fn of(track: &Track, vision: &VisionSpec) -> Self {
        let (width, height) = track.upright();
        let layout = layout::vision(width, height, vision);
        let thumbnail = layout::thumbnail(width, height);
        // The picture for a model that wants very small ones has too few pixels for a thumbnail.
        let (w, h) = (layout.content.0.max(thumbnail.0), layout.content.1.max(thumbnail.1));
        let stored = if track.orientation.swaps_sides() { (h, w) } else { (w, h) };
        Self { stored, content: layout.content, padded: layout.padded, thumbnail }
    }

    /// Pixels of a frame of `ffmpeg`'s output.
    pub(super) fn pixels(&self) -> usize {
        self.stored.0 as usize * self.stored.1 as usize
    }
}

/// The time of a frame by the file's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stamp {
    pub(super) ticks: i64,
    pub(super) seconds: f64,
}

/// The times of the frames in their order in the output, from the log of the filter `showinfo`; `None` for a
/// frame without a time.
pub(super) fn stamps(log: &str) -> Vec<Option<Stamp>> {
    let value = |line: &str, name: &str| {
        let rest = line.split_once(name)?.1.trim_start();
        rest.split_whitespace().next().map(str::to_owned)
    };
    log.lines()
        .filter(|line| line.contains("showinfo"))
        .filter_map(|line| {
            let (ticks, seconds) = (value(line, " pts:")?, value(line, " pts_time:")?);
            let stamp = ticks.parse().ok().zip(seconds.parse().ok());
            Some(stamp.map(|(ticks, seconds)| Stamp { ticks, seconds }))
        })
        .collect()
}

/// Why a child failed, as the end of a sentence.
pub(super) fn reason(answer: &Answer, limits: &Limits) -> String {
    let log = &answer.log;
    let starved = ["Cannot allocate memory", "get_buffer() failed", "failed to map segment"];
    if starved.iter().any(|it| log.contains(it)) {
        return format!(
            "it needs more memory than limits.video_memory_mb allows ({})",
            limits.video_memory >> 20
        );
    }
    if answer.flooded {
        return "ffmpeg wrote more than was requested and was killed".into();
    }
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&answer.status) {
        // The system ends a process that used up its processor time by these two.
        return match signal {
            9 | 24 => "it took more processor time than limits.video_timeout_ms allows".into(),
            _ => format!("ffmpeg was ended by signal {signal}"),
        };
    }
    if log.contains("Decoder (codec") {
        return "this ffmpeg has no decoder for it: install one with all codecs".into();
    }
    // The last matching line names the cause; its last part is the cause without the file's name.
    let line = log.lines().rev().find_map(|line| {
        let causes = ["Invalid data", "moov atom", "not found", "Error", "error", "Invalid", "no frame"];
        let matches = causes.iter().any(|it| line.contains(it)) && !line.contains("marking filters");
        matches.then(|| line.rsplit(": ").next().unwrap_or(line))
    });
    let Some(cause) = line else {
        return "the file may be damaged or cut short (ffmpeg gave no reason)".into();
    };
    let cause: String = cause.chars().filter(|it| !it.is_control()).take(150).collect();
    format!("ffmpeg says: {}", cause.trim_end_matches(['.', ' ']).to_lowercase())
}

/// Turns and encodes frames. Thumbnail and facts are those of the first frame that is not blank.
pub(super) fn clip(
    track: &Track,
    size: &Size,
    frames: Vec<Frame>,
    vision: &VisionSpec,
    want_thumbnail: bool,
) -> Result<Clip, Error> {
    let (mut pictures, mut seconds) = (Vec::with_capacity(frames.len()), Vec::with_capacity(frames.len()));
    // Those of the first frame until one follows that is not blank.
    let (mut best, mut settled) = (None, false);
    let mut conversion: Option<Conversion> = None;
    for frame in frames {
        let (width, height) = size.stored;
        let conversion = match &conversion {
            Some(known) if known.form() == frame.form => known,
            _ => conversion.insert(frame.form.conversion()),
        };
        let data = conversion.apply(frame.data);
        let mut upright = render::upright(Rgb { width, height, data }, track.orientation);
        let is_blank = blank(&upright);
        if best.is_none() || !settled && !is_blank {
            settled = !is_blank;
            let thumbnail = want_thumbnail
                .then(|| render::jpeg(&render::reduced(&mut upright, size.thumbnail)?, THUMBNAIL_QUALITY));
            best = Some((thumbnail, PixelFacts::of(&upright)));
        }
        let content = if (upright.width, upright.height) == size.content {
            upright
        } else {
            render::reduced(&mut upright, size.content)?
        };
        let padded = render::padded(content, size.padded);
        let jpeg = if vision.jpeg { Some(render::jpeg(&padded, VISION_QUALITY)?) } else { None };
        let Rgb { width, height, data } = padded;
        pictures.push(Picture { width, height, rgb: data, content: size.content, jpeg });
        seconds.push(frame.seconds);
    }
    let (width, height) = track.upright();
    let mut facts = Facts {
        width,
        height,
        duration_ms: track.duration_ms,
        video_codec: Some(track.codec.clone()).filter(|it| !it.is_empty()),
        damaged: track.damaged,
        notes: track.notes.clone(),
        ..Facts::default()
    };
    let origins = Origins { embedded: track.origin.clone(), changed: None };
    sidecar::complete(&mut facts, &origins, None);
    let mut thumbnail = None;
    if let Some((made, seen)) = best {
        thumbnail = made;
        (facts.colours, facts.lightness, facts.sharpness) = (seen.colours, seen.lightness, seen.sharpness);
    }
    Ok(Clip { thumbnail, pictures, seconds, facts, origins })
}

/// Returns `true` for a frame of one colour; many videos begin with one.
fn blank(picture: &Rgb) -> bool {
    /// Standard deviation, of 255, of a flat frame with the noise of its coding.
    const LEAST_DEVIATION: f64 = 4.0;
    let values = picture.data.iter().skip(1).step_by(3 * 7).map(|&value| f64::from(value));
    let (count, sum, squares) =
        values.fold((0.0, 0.0, 0.0), |(n, sum, squares), it| (n + 1.0, sum + it, squares + it * it));
    count > 0.0 && (squares / count - (sum / count).powi(2)).max(0.0).sqrt() < LEAST_DEVIATION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_what_showinfo_says() {
        let log = "Input #0, mov, from 'pipe:0':\n\
            [Parsed_showinfo_4 @ 0x5581] config in time_base: 1/25, frame_rate: 25/1\n\
            [Parsed_showinfo_4 @ 0x5581] n:   0 pts:      3 pts_time:0.12    pos:  900 fmt:rgb24\n\
            [Parsed_showinfo_4 @ 0x5581]   side data - H.26[45] User Data Unregistered SEI message\n\
            [Parsed_showinfo_4 @ 0x5581] n:   1 pts:     -9 pts_time:-0.36   duration: 1\n\
            [Parsed_showinfo_4 @ 0x5581] n:   2 pts:   NOPTS pts_time:NOPTS\n";
        let expected =
            [Some(Stamp { ticks: 3, seconds: 0.12 }), Some(Stamp { ticks: -9, seconds: -0.36 }), None];
        assert_eq!(stamps(log), expected);
    }

    #[test]
    fn a_frame_of_one_colour_is_blank() {
        let frame = |data: Vec<u8>| Rgb { width: 100, height: 100, data };
        assert!(blank(&frame(vec![0; 30_000])));
        assert!(blank(&frame((0..30_000).map(|i| 17 + (i % 5) as u8).collect())));
        assert!(!blank(&frame((0..30_000).map(|i| if i < 15_000 { 20 } else { 60 }).collect())));
    }
}
