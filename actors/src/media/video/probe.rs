//! The description of a video by `ffprobe`.

use std::ffi::OsString;

use serde::Deserialize;

use super::frame_colours::FrameColours;
use super::track::{Tags, Track};
use crate::media::orientation::Orientation;

/// The video stream of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Probe {
    pub(super) track: Track,
    /// The number of the stream in the file.
    pub(super) stream: u32,
    /// The time of the first frame by the file's clock, in seconds.
    pub(super) start: f64,
    /// Duration in seconds, if the file names it.
    pub(super) duration: Option<f64>,
    /// The decoder that is needed for the transparency, which `ffmpeg`'s own does not see.
    pub(super) decoder: Option<&'static str>,
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Whole,
}

#[derive(Deserialize)]
struct Stream {
    index: u32,
    #[serde(default)]
    codec_name: String,
    #[serde(default)]
    codec_type: String,
    #[serde(default)]
    width: u32,
    #[serde(default)]
    height: u32,
    sample_aspect_ratio: Option<String>,
    #[serde(default)]
    pix_fmt: String,
    #[serde(default)]
    color_space: String,
    #[serde(default)]
    color_transfer: String,
    #[serde(default)]
    color_primaries: String,
    start_time: Option<String>,
    duration: Option<String>,
    #[serde(default)]
    disposition: Disposition,
    #[serde(default)]
    tags: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Deserialize, Default)]
struct Disposition {
    /// 1 for a cover, which is no video.
    #[serde(default)]
    attached_pic: u8,
}

#[derive(Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

#[derive(Deserialize, Default)]
struct Whole {
    duration: Option<String>,
    #[serde(default)]
    tags: serde_json::Map<String, serde_json::Value>,
}

/// The arguments by which `ffprobe` describes a file, without the file.
pub(super) fn question() -> Vec<OsString> {
    ["-v", "error", "-print_format", "json", "-show_format", "-show_streams"].map(OsString::from).to_vec()
}

/// Reads the answer. Returns `None` if there is no video stream with a size.
pub(super) fn answer(json: &[u8]) -> Option<Probe> {
    let report: Report = serde_json::from_slice(json).ok()?;
    let video = |it: &&Stream| it.codec_type == "video" && it.disposition.attached_pic == 0 && it.width > 0;
    let stream = report.streams.iter().find(video)?;
    let ratio = stream.sample_aspect_ratio.as_deref().and_then(|text| {
        let (over, under) = text.split_once(':')?;
        Some((over.parse().ok()?, under.parse().ok()?))
    });
    let ratio = ratio.filter(|&(over, under): &(u32, u32)| over > 0 && under > 0).unwrap_or((1, 1));
    let mut track = Track::new(stream.codec_name.clone(), (stream.width, stream.height), ratio)?;
    let mut tags = Tags::default();
    for (name, value) in report.format.tags.iter().chain(&stream.tags) {
        if let Some(value) = value.as_str() {
            tags.set(name, value.as_bytes());
        }
    }
    tags.apply(&mut track);
    // Anticlockwise in side data, clockwise in the older tag.
    let matrix = stream.side_data_list.iter().find_map(|it| it.rotation).map(|it| -it);
    let turned = matrix.or_else(|| stream.tags.get("rotate")?.as_str()?.parse().ok()).unwrap_or(0.0);
    track.orientation = Orientation::new(match (turned / 90.0).round().rem_euclid(4.0) as u8 {
        1 => 6,
        2 => 3,
        3 => 8,
        _ => 1,
    });
    let seconds = |text: &Option<String>| text.as_deref()?.parse::<f64>().ok().filter(|it| it.is_finite());
    let start = seconds(&stream.start_time).unwrap_or(0.0);
    let duration = seconds(&stream.duration).or(seconds(&report.format.duration)).filter(|&it| it > 0.0);
    track.colours = FrameColours::named(
        &stream.color_primaries,
        &stream.color_transfer,
        &stream.color_space,
        &stream.pix_fmt,
    );
    let transparent = stream.tags.get("alpha_mode").and_then(|it| it.as_str()) == Some("1");
    let decoder = match stream.codec_name.as_str() {
        "vp8" if transparent => Some("libvpx"),
        "vp9" if transparent => Some("libvpx-vp9"),
        _ => None,
    };
    track.colours.alpha |= decoder.is_some();
    Some(Probe { track, stream: stream.index, start, duration, decoder })
}

/// The arguments by which `ffprobe` lists the times of all packets, without the file.
pub(super) fn packets() -> Vec<OsString> {
    let words =
        ["-v", "error", "-show_entries", "packet=stream_index,pts_time,duration_time", "-of", "csv=p=0"];
    words.map(OsString::from).to_vec()
}

/// The times of packets.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Packets {
    /// The times of the packets of the video, in seconds, in their order in the file.
    pub(super) times: Vec<f64>,
    /// The end of the last packet of any stream, or its start if its duration is unknown.
    last: Option<f64>,
}

impl Packets {
    pub(super) fn read(answer: &[u8], video: u32) -> Self {
        let mut packets = Self::default();
        for line in String::from_utf8_lossy(answer).lines() {
            let mut words = line.split(',');
            let stream = words.next().and_then(|it| it.parse::<u32>().ok());
            let mut time = || words.next().and_then(|it| it.parse::<f64>().ok()).filter(|it| it.is_finite());
            let (Some(stream), Some(time), length) = (stream, time(), time()) else { continue };
            let end = time + length.unwrap_or(0.0);
            packets.last = Some(packets.last.map_or(end, |last| last.max(end)));
            if stream == video {
                packets.times.push(time);
            }
        }
        packets
    }

    /// First and last time of the video, in seconds.
    pub(super) fn span(&self) -> Option<(f64, f64)> {
        self.times.iter().fold(None, |span, &at| match span {
            None => Some((at, at)),
            Some((first, last)) => Some((at.min(first), at.max(last))),
        })
    }

    /// Returns `true` if all streams end before a time, with a last frame of average duration.
    pub(super) fn end_before(&self, seconds: f64) -> bool {
        let span = self.span().map_or(0.0, |(first, last)| last - first);
        let pace = span / self.times.len().saturating_sub(1).max(1) as f64;
        self.last.is_some_and(|last| last + pace < seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read_and_covers_are_left_out() {
        let json = br#"{"streams":[
            {"index":0,"codec_type":"audio","codec_name":"aac"},
            {"index":1,"codec_type":"video","codec_name":"mjpeg","width":600,"height":600,
             "disposition":{"attached_pic":1}},
            {"index":2,"codec_type":"video","codec_name":"h264","width":720,"height":576,
             "sample_aspect_ratio":"64:45","start_time":"1.4","tags":{"rotate":"90"},"disposition":{"attached_pic":0}}],
            "format":{"duration":"12.5","tags":{"creation_time":"2026-05-04T10:11:12.000000Z"}}}"#;
        let probe = answer(json).expect("there is a video");
        assert_eq!((probe.stream, probe.start, probe.duration), (2, 1.4, Some(12.5)));
        assert_eq!(probe.track.upright(), (576, 1024));
        let taken = probe.track.origin.taken.map(|it| it.to_string());
        assert_eq!(taken.as_deref(), Some("2026-05-04T10:11:12Z"));
        for nothing in [&b""[..], b"{}", b"[]", br#"{"streams":[{"index":0,"codec_type":"audio"}]}"#] {
            assert_eq!(answer(nothing), None);
        }
    }

    #[test]
    fn a_turn_is_anticlockwise_in_the_newer_form() {
        let turned = |rotation: i32| {
            let json = format!(
                r#"{{"streams":[{{"index":0,"codec_type":"video","width":64,"height":48,
                "side_data_list":[{{"rotation":{rotation}}}]}}]}}"#
            );
            answer(json.as_bytes()).expect("a video").track.orientation.number()
        };
        assert_eq!([0, -90, 90, 180, -180, 270].map(turned), [1, 6, 8, 3, 3, 6]);
    }

    #[test]
    fn the_span_of_packets_is_found_whatever_their_order() {
        let packets = Packets::read(b"1,0.5\n1,N/A\n1,2.0,\n0,7.0\n1,1.0\n\n", 1);
        assert_eq!((packets.span(), packets.times.len()), (Some((0.5, 2.0)), 3));
        assert!(packets.end_before(7.8) && !packets.end_before(7.7), "the pace is 0.75 s");
        let packets = Packets::read(b"0,1.0,3.5\n", 0);
        assert!(packets.end_before(4.6) && !packets.end_before(4.5));
        assert_eq!(Packets::read(b"0,N/A\n", 0).span(), None);
    }
}
