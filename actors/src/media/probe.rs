//! What `ffprobe` says of a video whose container is not read here.

use std::ffi::OsString;

use serde::Deserialize;

use super::exif::Orientation;
use super::track::{Tags, Track};

/// What is known of the video stream of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Probe {
    pub(super) track: Track,
    /// The number of the stream in the file.
    pub(super) stream: u32,
    /// When the first frame is shown by the file's own clock, in seconds.
    pub(super) start: f64,
    /// Seconds, where the file says it.
    pub(super) duration: Option<f64>,
}

#[derive(Deserialize)]
struct Said {
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
    /// A cover, and no video.
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

/// What is asked of `ffprobe`, but for the file.
pub(super) fn question() -> Vec<OsString> {
    ["-v", "error", "-print_format", "json", "-show_format", "-show_streams"].map(OsString::from).to_vec()
}

/// Reads the answer; `None` if there is no video stream with a size.
pub(super) fn answer(json: &[u8]) -> Option<Probe> {
    let said: Said = serde_json::from_slice(json).ok()?;
    let video = |it: &&Stream| it.codec_type == "video" && it.disposition.attached_pic == 0 && it.width > 0;
    let stream = said.streams.iter().find(video)?;
    let ratio = stream.sample_aspect_ratio.as_deref().and_then(|text| {
        let (over, under) = text.split_once(':')?;
        Some((over.parse().ok()?, under.parse().ok()?))
    });
    let ratio = ratio.filter(|&(over, under): &(u32, u32)| over > 0 && under > 0).unwrap_or((1, 1));
    let mut track = Track::new(stream.codec_name.clone(), (stream.width, stream.height), ratio)?;
    let mut tags = Tags::default();
    for (name, value) in said.format.tags.iter().chain(&stream.tags) {
        if let Some(value) = value.as_str() {
            tags.set(name, value.as_bytes());
        }
    }
    tags.apply(&mut track);
    // Anticlockwise, or clockwise in the older form.
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
    let duration = seconds(&stream.duration).or(seconds(&said.format.duration)).filter(|&it| it > 0.0);
    Some(Probe { track, stream: stream.index, start, duration })
}

/// What is asked of `ffprobe` to learn when the last frame of a stream is shown.
pub(super) fn packets(stream: u32) -> Vec<OsString> {
    let stream = stream.to_string();
    let words =
        ["-v", "error", "-select_streams", &stream, "-show_entries", "packet=pts_time", "-of", "csv=p=0"];
    words.map(OsString::from).to_vec()
}

/// First and last time in the answer, in seconds.
pub(super) fn span(answer: &[u8]) -> Option<(f64, f64)> {
    let text = String::from_utf8_lossy(answer);
    let times = text.lines().filter_map(|line| line.trim_end_matches(',').parse::<f64>().ok());
    times.filter(|it| it.is_finite()).fold(None, |span, at| match span {
        None => Some((at, at)),
        Some((first, last)) => Some((at.min(first), at.max(last))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_read_and_covers_are_left_out() {
        let json = br#"{"streams":[
            {"index":0,"codec_type":"audio","codec_name":"aac"},
            {"index":1,"codec_type":"video","codec_name":"mjpeg","width":600,"height":600,"disposition":{"attached_pic":1}},
            {"index":2,"codec_type":"video","codec_name":"h264","width":720,"height":576,"sample_aspect_ratio":"64:45",
             "start_time":"1.4","tags":{"rotate":"90"},"disposition":{"attached_pic":0}}],
            "format":{"duration":"12.5","tags":{"creation_time":"2026-05-04T10:11:12.000000Z"}}}"#;
        let probe = answer(json).expect("there is a video");
        assert_eq!((probe.stream, probe.start, probe.duration), (2, 1.4, Some(12.5)));
        assert_eq!(probe.track.upright(), (576, 1024));
        assert_eq!(probe.track.taken_at.as_deref(), Some("2026-05-04T10:11:12"));
        for nothing in [&b""[..], b"{}", b"[]", br#"{"streams":[{"index":0,"codec_type":"audio"}]}"#] {
            assert_eq!(answer(nothing), None);
        }
    }

    #[test]
    fn a_turn_is_anticlockwise_in_the_newer_form() {
        let turned = |rotation: i32| {
            let json = format!(
                r#"{{"streams":[{{"index":0,"codec_type":"video","width":64,"height":48,"side_data_list":[{{"rotation":{rotation}}}]}}]}}"#
            );
            answer(json.as_bytes()).expect("a video").track.orientation.number()
        };
        assert_eq!([0, -90, 90, 180, -180, 270].map(turned), [1, 6, 8, 3, 3, 6]);
    }

    #[test]
    fn the_span_of_packets_is_found_whatever_their_order() {
        assert_eq!(span(b"0.5\nN/A\n2.0,\n1.0\n"), Some((0.5, 2.0)));
        assert_eq!(span(b"N/A\n"), None);
    }
}
