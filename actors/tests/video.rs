//! What the media module promises of videos, on clips that `ffmpeg` makes. It must be installed; without it these tests fail.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::{Duration, Instant},
};

use mediamill_actors::media::{
    self, Clip, Error, ErrorKind, Format, Inspected, Kind, Limits, Picture, VisionSpec, capabilities,
    prepare_video,
};

const LIMITS: Limits = Limits {
    max_image_bytes: 100 << 20,
    max_video_bytes: 2 << 30,
    max_pixels: 100_000_000,
    max_side_px: 16_384,
    decode_memory: 512 << 20,
    video_memory: 384 << 20,
    video_timeout: Duration::from_secs(60),
};
const VISION: VisionSpec = VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: true };

/// Frames that become lighter by the second: 16 at first, 16 more each.
const LIGHTER: &str = "nullsrc=s=160x96:r=25,geq=lum='16+floor(T)*16':cb=128:cr=128";
/// Red, green, blue and yellow quarters.
const QUARTERS: &str = "color=red:s=64x48:r=10[a];color=lime:s=64x48:r=10[b];color=blue:s=64x48:r=10[c];\
    color=yellow:s=64x48:r=10[d];[a][b]hstack[u];[c][d]hstack[v];[u][v]vstack";
const H264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";

/// A folder that lasts as long as the tests.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder")).path()
}

/// Makes a file with `ffmpeg`.
fn made(name: &str, source: &str, seconds: f64, how: &str) -> PathBuf {
    let path = folder().join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", source, "-t", &seconds.to_string()]);
    command.args(how.split_whitespace()).arg(&path);
    run(command);
    path
}

fn run(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("these tests need ffmpeg (install the package ffmpeg): cannot run {command:?}: {error}")
    });
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

fn inspect(path: &Path) -> Result<Inspected, Error> {
    let file = std::fs::File::open(path).expect("there");
    let len = file.metadata().expect("a length").len();
    media::inspect(&mut std::io::BufReader::new(file), len, &LIMITS, &VISION)
}

async fn prepare(path: &Path) -> Result<Clip, Error> {
    prepare_video(path, &LIMITS, &VISION, true, ()).await
}

async fn good(path: &Path) -> Clip {
    let inspected = inspect(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(inspected.format.kind(), Kind::Video);
    let clip = prepare(path).await.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(clip.pictures.len(), clip.seconds.len());
    assert!(clip.seconds.is_sorted_by(|a, b| a < b), "{:?}", clip.seconds);
    clip
}

fn pixel(picture: &Picture, x: u32, y: u32) -> [u8; 3] {
    let at = (y * picture.width + x) as usize * 3;
    picture.rgb[at..at + 3].try_into().expect("three bytes")
}

/// The second that a frame of [`LIGHTER`] shows.
fn shows(picture: &Picture) -> u32 {
    let [_, green, _] = pixel(picture, picture.content.0 / 2, picture.content.1 / 2);
    // Full range from 16 to 235.
    let luma = f64::from(green) * 219.0 / 255.0 + 16.0;
    ((luma - 16.0) / 16.0).round() as u32
}

// ---- frames --------------------------------------------------------------------------------------------------------

#[actix_rt::test]
async fn every_container_gives_ten_frames_from_all_of_its_span() {
    for (name, format, codec, how) in [
        ("a.mp4", Format::Mp4, "h264", H264),
        ("front.mp4", Format::Mp4, "h264", &format!("{H264} -movflags +faststart")),
        ("parts.mp4", Format::Mp4, "h264", &format!("{H264} -movflags frag_keyframe+empty_moov")),
        ("a.mov", Format::Mov, "prores", "-c:v prores -pix_fmt yuv422p10"),
        ("mpeg4.mov", Format::Mov, "mpeg4", "-c:v mpeg4 -bf 2"),
        ("a.avi", Format::Avi, "mpeg4", "-c:v mpeg4"),
        ("a.webm", Format::Webm, "vp8", "-c:v libvpx -deadline realtime"),
        ("a.mpg", Format::Mpeg, "mpeg2video", "-c:v mpeg2video"),
        ("a.ts", Format::Mpeg, "h264", H264),
        ("a.flv", Format::Flv, "flv1", "-c:v flv1"),
        ("a.mkv", Format::Mkv, "h264", H264),
    ] {
        let path = made(name, LIGHTER, 12.0, how);
        assert_eq!(inspect(&path).expect("accepted").format, format, "{name}");
        let clip = good(&path).await;
        assert_eq!(clip.pictures.len(), 10, "{name}: {:?}", clip.seconds);
        assert!(clip.seconds[0] < 1.3 && clip.seconds[9] >= 10.7, "{name}: {:?}", clip.seconds);
        for (picture, seconds) in clip.pictures.iter().zip(&clip.seconds) {
            assert_eq!(picture.content, (160, 96), "{name}");
            let shown = f64::from(shows(picture));
            // To the frame; clocks of some containers begin later.
            assert!((shown - 0.1..=shown + 1.1).contains(seconds), "{name}: {shown} at {seconds}");
        }
        let facts = &clip.facts;
        assert_eq!(
            (facts.width, facts.height, facts.video_codec.as_deref()),
            (160, 96, Some(codec)),
            "{name}"
        );
        let length = facts.duration_ms.expect("a length");
        assert!((11_500..=12_100).contains(&length), "{name}: {length}");
        assert!(!facts.damaged && !facts.animated, "{name}");
        let thumbnail =
            image::load_from_memory(&clip.thumbnail.expect("asked for").expect("made")).expect("a JPEG");
        assert_eq!((thumbnail.width(), thumbnail.height()), (160, 96), "{name}");
        assert!(clip.pictures.iter().all(|it| it.jpeg.is_some()), "{name}");
    }
}

#[actix_rt::test]
async fn a_short_clip_gives_a_frame_a_second_and_the_shortest_gives_one() {
    for ending in ["mp4", "mkv"] {
        for (seconds, count) in [(0.04, 1), (0.9, 1), (1.96, 2), (3.5, 4), (9.9, 10)] {
            let path = made(&format!("short{seconds}.{ending}"), LIGHTER, seconds, &format!("{H264} -g 5"));
            let clip = good(&path).await;
            assert_eq!(clip.pictures.len(), count, "{seconds} {ending}: {:?}", clip.seconds);
            let shown: Vec<u32> = clip.pictures.iter().map(shows).collect();
            assert_eq!(shown, (0..count as u32).collect::<Vec<_>>(), "{seconds} {ending}");
        }
    }
}

#[actix_rt::test]
async fn a_video_with_one_key_frame_gives_frames_from_all_of_its_span() {
    let seldom = format!("{H264} -g 9999 -bf 3 -sc_threshold 0");
    for ending in ["mp4", "mkv"] {
        let clip = good(&made(&format!("seldom.{ending}"), LIGHTER, 14.0, &seldom)).await;
        assert_eq!(clip.pictures.len(), 10, "{ending}: {:?}", clip.seconds);
        assert!(clip.seconds[9] >= 12.5, "{ending}: {:?}", clip.seconds);
        for (picture, seconds) in clip.pictures.iter().zip(&clip.seconds) {
            assert_eq!(shows(picture), *seconds as u32, "{ending}");
        }
    }
}

#[actix_rt::test]
async fn a_long_video_is_not_decoded_from_end_to_end() {
    let lighter = "nullsrc=s=160x96:r=2,geq=lum='16+floor(T/10)*4':cb=128:cr=128";
    for (name, how) in
        [("long.mp4", "-g 9"), ("long.mkv", "-g 9"), ("long.flv", "-g 9"), ("seldom_long.mkv", "-g 80")]
    {
        let clip = good(&made(
            name,
            lighter,
            300.0,
            &format!("-c:v libx264 -pix_fmt yuv420p -sc_threshold 0 {how}"),
        ))
        .await;
        assert_eq!(clip.pictures.len(), 10, "{name}: {:?}", clip.seconds);
        for (n, seconds) in clip.seconds.iter().enumerate() {
            assert!((n as f64 * 30.0..(n + 1) as f64 * 30.0).contains(seconds), "{name}: {:?}", clip.seconds);
        }
    }
}

#[actix_rt::test]
async fn a_video_without_a_named_length_is_measured() {
    // Written into a pipe, a container has no place to put its length.
    let whole = made("piped_whole.webm", LIGHTER, 12.0, "-c:v libvpx -deadline realtime");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(whole)
        .args(["-c", "copy", "-f", "webm", "-live", "1", "pipe:1"])
        .output()
        .expect("ffmpeg runs");
    let clip = good(&written("piped.webm", &output.stdout)).await;
    let length = clip.facts.duration_ms.expect("measured");
    assert!((11_500..=12_100).contains(&length) && clip.pictures.len() == 10, "{length} {:?}", clip.seconds);
}

#[actix_rt::test]
async fn frames_and_thumbnail_are_upright() {
    let path = made("quarters.mp4", QUARTERS, 1.0, H264);
    let upright = std::fs::read(path).expect("read");
    let at = upright.windows(4).position(|it| it == b"tkhd").expect("a track") + 44;
    let (red, green, blue, yellow) = ([255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]);
    for (name, [a, b, c, d], expected) in [
        ("as it is", [1_i16, 0, 0, 1], [red, green, blue, yellow]),
        ("mirrored", [-1, 0, 0, 1], [green, red, yellow, blue]),
        ("half a turn", [-1, 0, 0, -1], [yellow, blue, green, red]),
        ("flipped", [1, 0, 0, -1], [blue, yellow, red, green]),
        ("along the diagonal", [0, 1, 1, 0], [red, blue, green, yellow]),
        ("a quarter clockwise", [0, 1, -1, 0], [blue, red, yellow, green]),
        ("along the other diagonal", [0, -1, -1, 0], [yellow, green, blue, red]),
        ("a quarter anticlockwise", [0, -1, 1, 0], [green, yellow, red, blue]),
    ] {
        let mut bytes = upright.clone();
        for (n, value) in [(0, a), (1, b), (3, c), (4, d)] {
            bytes[at + 4 * n..at + 4 * n + 4].copy_from_slice(&(i32::from(value) << 16).to_be_bytes());
        }
        let clip = good(&written("turned.mp4", &bytes)).await;
        let size = if a == 0 { (96, 128) } else { (128, 96) };
        assert_eq!((clip.facts.width, clip.facts.height), size, "{name}");
        let picture = &clip.pictures[0];
        assert_eq!(picture.content, size, "{name}");
        let (w, h) = size;
        for (n, (x, y)) in [(w / 4, h / 4), (w * 3 / 4, h / 4), (w / 4, h * 3 / 4), (w * 3 / 4, h * 3 / 4)]
            .into_iter()
            .enumerate()
        {
            let found = pixel(picture, x, y);
            let near = found.iter().zip(expected[n]).all(|(a, b)| a.abs_diff(b) < 40);
            assert!(near, "{name}, quarter {n}: {found:?}");
        }
        let thumbnail =
            image::load_from_memory(&clip.thumbnail.expect("asked for").expect("made")).expect("a JPEG");
        assert_eq!((thumbnail.width(), thumbnail.height()), size, "{name}");
    }
}

#[actix_rt::test]
async fn pixels_that_are_not_square_are_shown_as_wide_as_they_are() {
    for ending in ["mp4", "mkv"] {
        let clip = good(&made(
            &format!("wide.{ending}"),
            "testsrc2=s=160x96",
            1.0,
            &format!("-vf setsar=2/1 {H264}"),
        ))
        .await;
        assert_eq!((clip.facts.width, clip.facts.height), (320, 96), "{ending}");
        assert_eq!(clip.pictures[0].content, (320, 96), "{ending}");
    }
}

#[actix_rt::test]
async fn a_large_video_is_made_as_small_as_the_model_wants() {
    let path = made("large.mp4", "testsrc2=s=1920x1080:r=5", 1.0, H264);
    let clip = good(&path).await;
    assert_eq!(clip.pictures[0].content, (1316, 756));
    let tiny = VisionSpec { max_pixels: 3136, max_side_px: 56, jpeg: false, ..VISION };
    let clip = prepare_video(&path, &LIMITS, &tiny, true, ()).await.expect("sound");
    assert_eq!((clip.pictures[0].width, clip.pictures[0].height), (56, 56));
    assert!(clip.pictures[0].jpeg.is_none());
    let thumbnail =
        image::load_from_memory(&clip.thumbnail.expect("asked for").expect("made")).expect("a JPEG");
    assert_eq!(thumbnail.width(), 256);
    let clip = prepare_video(&path, &LIMITS, &VISION, false, ()).await.expect("sound");
    assert!(clip.thumbnail.is_none());
}

// ---- facts ---------------------------------------------------------------------------------------------------------

#[actix_rt::test]
async fn facts_come_from_what_the_camera_wrote() {
    let tags = "-metadata creation_time=2026-05-04T10:11:12Z -metadata location=+59.3200+018.0700/";
    let facts = good(&made("camera.mov", "testsrc2=s=64x48", 1.0, &format!("{tags} {H264}"))).await.facts;
    assert_eq!(facts.taken_at.as_deref(), Some("2026-05-04T10:11:12"));
    assert_eq!(facts.coordinates, Some((59.32, 18.07)));
    let apple = "-movflags use_metadata_tags -metadata com.apple.quicktime.make=Apple \
        -metadata com.apple.quicktime.model=X100 -metadata com.apple.quicktime.creationdate=2026-05-04T12:11:12+0200";
    let facts =
        good(&made("phone.mov", "testsrc2=s=64x48", 1.0, &format!("{tags} {apple} {H264}"))).await.facts;
    assert_eq!(facts.taken_at.as_deref(), Some("2026-05-04T12:11:12"));
    assert_eq!(facts.camera.as_deref(), Some("Apple X100"));
    let facts = good(&made("camera.mkv", "testsrc2=s=64x48", 1.0, &format!("{tags} {H264}"))).await.facts;
    assert_eq!(facts.taken_at.as_deref(), Some("2026-05-04T10:11:12"));
}

#[actix_rt::test]
async fn the_thumbnail_shows_the_first_frame_that_is_not_blank() {
    let source = "color=black:s=160x96:r=10:d=3[a];testsrc2=s=160x96:r=10:d=3[b];[a][b]concat";
    let clip = good(&made("dark.mp4", source, 6.0, &format!("{H264} -g 10"))).await;
    assert!(shows(&clip.pictures[0]) == 0 && clip.facts.lightness > 20, "{}", clip.facts.lightness);
    let thumbnail = image::load_from_memory(&clip.thumbnail.expect("asked for").expect("made"))
        .expect("a JPEG")
        .to_luma8();
    assert!(thumbnail.pixels().any(|it| it.0[0] > 150));
    // All of it is dark: so is the thumbnail.
    let clip = good(&made("night.mp4", "color=black:s=160x96:r=10", 3.0, H264)).await;
    assert!(clip.thumbnail.expect("asked for").is_ok() && clip.facts.lightness == 0);
}

// ---- hostile -------------------------------------------------------------------------------------------------------

#[actix_rt::test]
async fn what_holds_no_video_is_refused_or_failed_with_that_sentence() {
    let sound = "sine=d=2";
    let error = inspect(&made("sound.mp4", sound, 1.0, "-c:a aac")).expect_err("refused");
    assert_eq!(error.message, "there is no video in the file, only sound");
    let path = made("sound.mkv", sound, 1.0, "-c:a aac");
    let error = prepare(&path).await.expect_err("no frames");
    assert_eq!((error.kind, &*error.message), (ErrorKind::Undecodable, "there is no video in it"));
    // A cover is no video.
    let cover = made("cover.png", "testsrc2=s=64x48", 0.04, "-frames:v 1");
    let covered = folder().join("covered.mkv");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-i"]).arg(&path).args(["-c", "copy", "-attach"]).arg(cover);
    command.args(["-metadata:s:t", "mimetype=image/png"]).arg(&covered);
    run(command);
    assert_eq!(prepare(&covered).await.expect_err("no frames").message, "there is no video in it");
}

#[actix_rt::test]
async fn a_clip_that_is_cut_short_gives_what_there_is_or_says_so() {
    let often = format!("{H264} -g 10");
    let cut = |path: PathBuf, part: f64| {
        let bytes = std::fs::read(&path).expect("read");
        let name = format!("cut_{}", path.file_name().expect("a name").to_string_lossy());
        written(&name, &bytes[..(bytes.len() as f64 * part) as usize])
    };
    // The index is at the end, and lost.
    let error = inspect(&cut(made("back.mp4", LIGHTER, 12.0, &often), 0.9)).expect_err("refused");
    assert_eq!(error.message, "the video has no index: it is cut short or was never finished");
    for (name, how) in [("front.mp4", "-movflags +faststart"), ("front.mkv", "")] {
        let clip =
            good(&cut(made(name, "testsrc2=s=160x96:r=25", 12.0, &format!("{often} {how}")), 0.5)).await;
        assert!(clip.facts.damaged && clip.pictures.len() >= 3, "{name}: {:?}", clip.seconds);
    }
    let path = cut(made("stump.mkv", LIGHTER, 2.0, H264), 0.1);
    let error = prepare(&path).await.expect_err("no frame");
    assert_eq!(error.kind, ErrorKind::Undecodable);
    assert!(!error.message.ends_with('.') && !error.message.contains("stump"), "{error}");
}

#[actix_rt::test]
async fn frames_that_are_garbage_are_a_failure_with_a_sentence() {
    for name in ["garbage.mp4", "garbage.mkv", "garbage.avi", "garbage.mpg"] {
        let path = made(
            &format!("sound_{name}"),
            "testsrc2=s=160x96",
            2.0,
            if name.ends_with("mpg") { "-c:v mpeg2video" } else { "-c:v mpeg4" },
        );
        let mut bytes = std::fs::read(path).expect("read");
        let (from, to) = match bytes.windows(4).position(|it| it == b"mdat") {
            Some(at) => {
                (at + 4, at + u32::from_be_bytes(bytes[at - 4..at].try_into().expect("four")) as usize - 8)
            }
            None => (bytes.len() / 20, bytes.len()),
        };
        bytes[from..to]
            .iter_mut()
            .zip(0_u32..)
            .for_each(|(byte, i)| *byte = (i.wrapping_mul(2_654_435_761) >> 24) as u8);
        match prepare(&written(name, &bytes)).await {
            // Decoders conceal a lot.
            Ok(clip) => assert!(!clip.pictures.is_empty(), "{name}"),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Undecodable, "{name}");
                assert!(error.message.len() > 10 && !error.message.ends_with('.'), "{name}: {error}");
            }
        }
    }
}

#[actix_rt::test]
async fn sizes_beyond_the_limits_are_refused() {
    let bytes = std::fs::read(made("size.mp4", "testsrc2=s=160x96", 1.0, H264)).expect("read");
    let at = bytes.windows(4).position(|it| it == b"avc1").expect("a description") + 28;
    let at = if bytes[at..at + 2] == 160_u16.to_be_bytes() {
        at
    } else {
        bytes.windows(4).rposition(|it| it == b"avc1").expect("another") + 28
    };
    assert_eq!(bytes[at..at + 4], [0, 160, 0, 96]);
    let mut huge = bytes.clone();
    huge[at..at + 4].copy_from_slice(&[0xff; 4]);
    let error = inspect(&written("huge.mp4", &huge)).expect_err("refused");
    assert_eq!((error.kind, error.message.contains("65535 x 65535")), (ErrorKind::TooLarge, true), "{error}");
    let small = Limits { max_pixels: 10_000, ..LIMITS };
    let path = made("size.mkv", "testsrc2=s=160x96", 1.0, H264);
    let error = prepare_video(&path, &small, &VISION, true, ()).await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::TooLarge);
    let len = std::fs::metadata(&path).expect("there").len();
    let file = || std::io::BufReader::new(std::fs::File::open(&path).expect("there"));
    let little = Limits { decode_memory: 100 << 20, ..LIMITS };
    let error = media::inspect(&mut file(), len, &little, &VISION).expect_err("refused");
    assert_eq!(error.message, "needs 384 MiB, limits.decode_memory_mb is 100");
    let short = Limits { max_video_bytes: 100, ..LIMITS };
    let error = media::inspect(&mut file(), len, &short, &VISION).expect_err("refused");
    assert!(error.message.ends_with("at most 100 bytes are allowed for a video"), "{error}");
}

#[actix_rt::test]
async fn a_length_of_ten_hours_that_is_a_lie_is_not_believed() {
    for (name, mark) in [("liar.mp4", &b"mvhd"[..]), ("liar.mkv", &b"\x44\x89\x88"[..])] {
        let mut bytes = std::fs::read(made(&format!("true_{name}"), LIGHTER, 3.0, &format!("{H264} -g 10")))
            .expect("read");
        let at = bytes.windows(mark.len()).position(|it| it == mark).expect("a length") + mark.len();
        if name.ends_with("mp4") {
            bytes[at + 16..at + 20].copy_from_slice(&36_000_000_u32.to_be_bytes());
        } else {
            bytes[at..at + 8].copy_from_slice(&36_000_000_f64.to_be_bytes());
        }
        let clip = good(&written(name, &bytes)).await;
        let length = clip.facts.duration_ms.expect("a length");
        assert!((2500..=3200).contains(&length), "{name}: {length}");
        assert_eq!(clip.pictures.len(), 3, "{name}: {:?}", clip.seconds);
    }
}

#[actix_rt::test]
async fn no_other_file_is_opened_whatever_a_file_says() {
    let other = made("other.mp4", "testsrc2=s=64x48", 1.0, H264);
    let lists = [
        format!("ffconcat version 1.0\nfile '{}'\n", other.display()),
        format!("#EXTM3U\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", other.display()),
        format!("<?xml version='1.0'?><MPD><BaseURL>{}</BaseURL></MPD>", other.display()),
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n".to_owned(),
    ];
    for (n, list) in lists.iter().enumerate() {
        let error = inspect(&written("list.mp4", list.as_bytes())).expect_err("refused");
        assert_eq!(error.kind, ErrorKind::NotMedia);
        // Behind the first bytes of something that is known.
        for (head, ending) in [
            (&b"\0\0\x01\xba"[..], "mpg"),
            (b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska", "mkv"),
            (b"RIFF\0\0\0\0AVI ", "avi"),
            (b"FLV\x01\x05\0\0\0\x09\0\0\0\0", "flv"),
            (b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov", "mp4"),
        ] {
            let bytes = [head, b"\n", list.as_bytes()].concat();
            let path = written(&format!("list{n}.{ending}"), &bytes);
            let error = prepare(&path).await.expect_err("nothing in it");
            assert_eq!(error.kind, ErrorKind::Undecodable, "{ending}: {error}");
        }
    }
    // QuickTime can say that its frames lie in another file.
    let bytes = std::fs::read(&other).expect("read");
    let at = bytes.windows(4).position(|it| it == b"url ").expect("a reference");
    let mut elsewhere = bytes.clone();
    elsewhere[at + 7] = 0;
    assert!(prepare(&written("elsewhere.mp4", &elsewhere)).await.is_ok(), "it is read here all the same");
}

#[actix_rt::test]
async fn names_and_endings_mean_nothing() {
    let bytes = std::fs::read(made("plain.mp4", LIGHTER, 1.0, H264)).expect("read");
    for name in ["movie.jpg", "-i.mp4", "concat:a|b.mkv", "a 'b' \"c\" $(d);e.mp4", "%d.mkv", "ü\n.avi"] {
        let path = written(name, &bytes);
        assert_eq!(inspect(&path).expect("accepted").format, Format::Mp4, "{name}");
        assert_eq!(good(&path).await.pictures.len(), 1, "{name}");
    }
    let bytes = std::fs::read(made("plain.mkv", LIGHTER, 1.0, H264)).expect("read");
    for name in ["movie.jpg", "-i.mp4", "concat:a|b.mkv", "a 'b' \"c\" $(d);e.mp4", "%d.mkv", "ü\n.avi"] {
        assert_eq!(good(&written(name, &bytes)).await.pictures.len(), 1, "{name}");
    }
}

#[cfg(unix)]
#[actix_rt::test]
async fn a_pipe_or_a_folder_is_no_video() {
    let pipe = folder().join("pipe.mp4");
    let mut command = Command::new("mkfifo");
    command.arg(&pipe);
    run(command);
    for path in [pipe, folder().to_owned(), folder().join("missing")] {
        let answer = tokio::time::timeout(Duration::from_secs(5), prepare(&path)).await.expect("at once");
        assert!(matches!(answer.expect_err("refused").kind, ErrorKind::NotMedia | ErrorKind::Undecodable));
    }
}

#[actix_rt::test]
async fn any_change_of_a_file_is_an_answer_and_not_a_panic() {
    let originals = ["mp4", "mkv"].map(|ending| {
        std::fs::read(made(&format!("changed.{ending}"), LIGHTER, 1.0, &format!("{H264} -g 5")))
            .expect("read")
    });
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for round in 0..1500 {
        let mut bytes = originals[round % 2].clone();
        for _ in 0..1 + random(5) {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        if random(4) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        // The index is read and held against the file; frames are taken out of it only now and then, as each costs a process.
        let inspected =
            media::inspect(&mut std::io::Cursor::new(&bytes), bytes.len() as u64, &LIMITS, &VISION);
        if round % 60 < 2 && inspected.is_ok() {
            match prepare(&written("change", &bytes)).await {
                Ok(clip) => assert!((1..=10).contains(&clip.pictures.len())),
                Err(error) => assert!(error.message.len() > 10, "{error}"),
            }
        }
    }
}

// ---- programs that are missing or misbehave --------------------------------------------------------------------------

/// Runs one of the tests below in a process whose `PATH` holds nothing but the programs given.
fn with_programs(test: &str, programs: &[(&str, &str)]) {
    let place = tempfile::tempdir_in(folder()).expect("a folder");
    for (name, script) in programs {
        let path = place.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        let mut command = Command::new("chmod");
        command.arg("+x").arg(path);
        run(command);
    }
    let clip = folder().join("for_child.mkv");
    if !clip.exists() {
        made("for_child.mkv", LIGHTER, 1.0, H264);
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    run_child(command.env("PATH", place.path()).env("CLIP", clip));
}

fn run_child(command: &mut Command) {
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{complained}");
}

fn clip_of_parent() -> PathBuf {
    std::env::var_os("CLIP").expect("named by the test that runs this one").into()
}

#[cfg(unix)]
#[test]
fn without_ffmpeg_videos_are_refused_by_what_is_missing_and_the_rest_works() {
    with_programs("child_without_ffmpeg", &[]);
    with_programs("child_without_ffprobe", &[("ffmpeg", "exit 0")]);
}

#[test]
#[ignore = "run by without_ffmpeg_videos_are_refused_by_what_is_missing_and_the_rest_works"]
fn child_without_ffmpeg() {
    let error = inspect(&clip_of_parent()).expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert_eq!(
        error.message,
        "cannot decode Matroska videos, ffmpeg is not on PATH: install the package ffmpeg"
    );
    for capability in capabilities() {
        let works = capability.format.kind() == Kind::Image && capability.format != Format::Avif;
        assert_eq!(capability.missing.is_none(), works, "{capability:?}");
    }
}

#[test]
#[ignore = "run by without_ffmpeg_videos_are_refused_by_what_is_missing_and_the_rest_works"]
fn child_without_ffprobe() {
    let error = inspect(&clip_of_parent()).expect_err("refused");
    assert!(error.message.contains("ffprobe is not on PATH"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_hangs_or_floods_is_ended() {
    // `exec`, as a child of the script would not be the one that is looked for.
    for script in [
        "exec /bin/sleep 600",
        "/bin/sleep 600 & /bin/sleep 600",
        "exec /usr/bin/yes",
        "exec /usr/bin/yes >&2",
    ] {
        with_programs("child_with_a_hanging_program", &[("ffmpeg", script), ("ffprobe", script)]);
    }
}

#[cfg(target_os = "linux")]
#[actix_rt::test]
#[ignore = "run by a_program_that_hangs_or_floods_is_ended"]
async fn child_with_a_hanging_program() {
    let limits = Limits { video_timeout: Duration::from_secs(1), ..LIMITS };
    let begun = Instant::now();
    let error = prepare_video(&clip_of_parent(), &limits, &VISION, true, ()).await.expect_err("given up");
    assert_eq!(error.kind, ErrorKind::Undecodable);
    assert!(begun.elapsed() < Duration::from_secs(10), "{error} after {:?}", begun.elapsed());
    // A worker that is aborted drops the work in the middle of it.
    let path = clip_of_parent();
    let work = prepare_video(&path, &LIMITS, &VISION, true, ());
    assert!(
        tokio::time::timeout(Duration::from_millis(300), work).await.is_err()
            || !error.message.contains("longer")
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(left) = programs_left() {
        assert!(Instant::now() < deadline, "still there: {left}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A process that was started with this test's `PATH` as the place of its program, or by one.
#[cfg(target_os = "linux")]
fn programs_left() -> Option<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").expect("there").flatten();
    let stats = processes.filter_map(|it| std::fs::read_to_string(it.path().join("stat")).ok());
    let mut alive = stats.filter_map(|stat| {
        let (id, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let (state, parent, group) = (fields.next()?, fields.next()?, fields.next()?);
        // Children of ours, and what they left in their groups: nothing else in the group of a process that is gone.
        let ours =
            parent == own || (name == "sleep" && group != id && !Path::new("/proc").join(group).exists());
        (ours && state != "Z").then(|| format!("{name} {id}"))
    });
    alive.next()
}

#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn a_video_that_needs_more_memory_than_is_allowed_fails_with_that_sentence() {
    let path =
        made("heavy.mkv", "testsrc2=s=7680x4320:r=1", 2.0, "-c:v libx264 -preset ultrafast -pix_fmt yuv420p");
    let limits = Limits { video_memory: 1 << 20, ..LIMITS };
    let error = prepare_video(&path, &limits, &VISION, true, ()).await.expect_err("too much");
    assert!(error.message.contains("limits.video_memory_mb"), "{error}");
    // The same file is no trouble where it may take what it needs.
    let limits = Limits { video_memory: 1 << 30, decode_memory: 2 << 30, ..LIMITS };
    assert!(prepare_video(&path, &limits, &VISION, true, ()).await.is_ok());
}
