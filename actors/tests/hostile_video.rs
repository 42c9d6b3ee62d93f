//! Damaged and malicious videos, and programs that are missing or misbehave. Clips are made by
//! `ffmpeg`, which must be installed.

mod support;

use std::{
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use mediamill_actors::{
    batch,
    batch_supervisor::CancelBatch,
    media::{self, ErrorKind, Format, Kind, Limits, capabilities, prepare_video},
};
use support::{World, clips::*};

// ---- hostile ----------------------------------------------------------------------------------------------

#[actix_rt::test]
async fn a_file_without_video_is_refused_with_a_sentence_about_it() {
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
async fn a_truncated_clip_gives_its_frames_or_fails_with_a_sentence_about_it() {
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
    // The last line of ffmpeg does not help users.
    assert!(!error.message.contains("marking filters"), "{error}");
}

#[actix_rt::test]
async fn garbage_frames_fail_with_a_sentence() {
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
            // Decoders conceal many errors.
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
    let error = prepare_video(opened(&path), &small, &VISION, true, ()).await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::TooLarge);
    let len = std::fs::metadata(&path).expect("there").len();
    let file = || std::io::BufReader::new(std::fs::File::open(&path).expect("there"));
    let little = Limits { decode_memory: 100 << 20, ..LIMITS };
    let error = media::inspect(&mut file(), len, &little, &VISION).expect_err("refused");
    assert_eq!(error.message, "decoding needs 384 MiB, limits.decode_memory_mb is 100");
    let short = Limits { max_video_bytes: 100, ..LIMITS };
    let error = media::inspect(&mut file(), len, &short, &VISION).expect_err("refused");
    assert!(error.message.ends_with("limits.max_video_bytes is 100 (100 bytes)"), "{error}");
}

#[actix_rt::test]
async fn a_false_length_of_ten_hours_is_ignored() {
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
async fn no_other_file_is_opened_whatever_a_file_contains() {
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
        // A playlist after the first bytes of a known format.
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
    // QuickTime can refer to frames in another file.
    let bytes = std::fs::read(&other).expect("read");
    let at = bytes.windows(4).position(|it| it == b"url ").expect("a reference");
    let mut elsewhere = bytes.clone();
    elsewhere[at + 7] = 0;
    assert!(prepare(&written("elsewhere.mp4", &elsewhere)).await.is_ok(), "it is read from this file");
}

#[actix_rt::test]
async fn the_format_does_not_depend_on_the_file_name() {
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
async fn a_pipe_or_a_folder_is_refused() {
    let pipe = folder().join("pipe.mp4");
    let mut command = Command::new("mkfifo");
    command.arg(&pipe);
    run(command);
    for path in [pipe, folder().to_owned(), folder().join("missing")] {
        let answer = tokio::time::timeout(Duration::from_secs(5), prepare(&path)).await.expect("at once");
        let kind = answer.expect_err("refused").kind;
        assert!(matches!(kind, ErrorKind::NotMedia | ErrorKind::Unreadable), "{}: {kind:?}", path.display());
    }
}

#[actix_rt::test]
async fn a_video_that_is_replaced_after_it_was_opened_is_decoded_all_the_same() {
    // The first is read by `ffmpeg` alone, the second by our reader first.
    for name in ["before.avi", "before.mkv"] {
        let path = made(name, "color=red:s=64x48", 3.0, "-c:v mpeg4");
        let other = made(&format!("other_{name}"), "color=blue:s=64x48", 3.0, "-c:v mpeg4");
        let file = opened(&path);
        std::fs::rename(other, &path).expect("replaced");
        let clip = prepare_video(file, &LIMITS, &VISION, true, ()).await.expect("sound");
        assert_eq!(clip.facts.colours[0].name, "red", "{name}");
    }
}

#[actix_rt::test]
async fn a_mutated_video_never_panics() {
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
        // Each change is checked against the index; frames are extracted only now and then, since
        // each extraction costs a process.
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

// ---- programs that are missing or misbehave ---------------------------------------------------------------

/// Runs one of the tests below in a process whose `PATH` has only these programs.
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
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
}

fn clip_of_parent() -> PathBuf {
    std::env::var_os("CLIP").expect("named by the test that runs this one").into()
}

#[cfg(unix)]
#[test]
fn without_ffmpeg_videos_are_refused_with_its_name_and_pictures_work() {
    with_programs("child_without_ffmpeg", &[]);
    with_programs("child_without_ffprobe", &[("ffmpeg", "exit 0")]);
}

#[test]
#[ignore = "run by without_ffmpeg_videos_are_refused_with_its_name_and_pictures_work"]
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
#[ignore = "run by without_ffmpeg_videos_are_refused_with_its_name_and_pictures_work"]
fn child_without_ffprobe() {
    let error = inspect(&clip_of_parent()).expect_err("refused");
    assert!(error.message.contains("ffprobe is not on PATH"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_matroska_file_is_read_without_ffprobe() {
    let seldom = format!("{H264} -g 9999 -bf 3 -sc_threshold 0");
    made("often.mkv", LIGHTER, 12.0, &format!("{H264} -g 25"));
    made("seldom.mkv", LIGHTER, 12.0, &seldom);
    made("vp9.webm", LIGHTER, 12.0, "-c:v libvpx-vp9 -deadline realtime -cpu-used 8");
    let lighter = "nullsrc=s=160x96:r=2,geq=lum='16+floor(T/7)*16':cb=128:cr=128";
    made("long_often.mkv", lighter, 70.0, &format!("{H264} -g 9"));
    made("long_seldom.mkv", lighter, 70.0, &format!("{seldom} -g 80"));
    let programs = std::env::split_paths(&std::env::var_os("PATH").expect("set")).collect::<Vec<_>>();
    let ffmpeg = programs.iter().map(|place| place.join("ffmpeg")).find(|it| it.exists()).expect("on PATH");
    let script = format!("exec '{}' \"$@\"", ffmpeg.display());
    with_programs("child_without_a_working_ffprobe", &[("ffmpeg", &script), ("ffprobe", "exit 1")]);
}

#[actix_rt::test]
#[ignore = "run by a_matroska_file_is_read_without_ffprobe"]
async fn child_without_a_working_ffprobe() {
    for name in ["often.mkv", "seldom.mkv", "vp9.webm", "long_often.mkv", "long_seldom.mkv"] {
        let clip = good(&clip_of_parent().with_file_name(name)).await;
        assert_eq!(clip.pictures.len(), 10, "{name}: {:?}", clip.seconds);
        let span = if name.starts_with("long") { 7.0 } else { 1.0 };
        for (picture, seconds) in clip.pictures.iter().zip(&clip.seconds) {
            assert_eq!(shows(picture), (seconds / span) as u32, "{name}: {:?}", clip.seconds);
        }
        assert!(!clip.facts.damaged, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_hangs_or_floods_is_ended() {
    // With `exec` the program replaces the script, so that the killed process is the one that the
    // test looks for.
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
    let error =
        prepare_video(opened(&clip_of_parent()), &limits, &VISION, true, ()).await.expect_err("given up");
    assert_eq!(error.kind, ErrorKind::Undecodable);
    assert!(begun.elapsed() < Duration::from_secs(10), "{error} after {:?}", begun.elapsed());
    // A worker that is aborted drops the work in the middle of it.
    let path = clip_of_parent();
    let work = prepare_video(opened(&path), &LIMITS, &VISION, true, ());
    assert!(
        tokio::time::timeout(Duration::from_millis(300), work).await.is_err()
            || !error.message.contains("longer")
    );
    let deadline = Instant::now() + Duration::from_secs(10);
    while let Some(left) = child_left() {
        assert!(Instant::now() < deadline, "still there: {left}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_reads_its_file_alone_and_has_no_network() {
    made("for_looking.avi", LIGHTER, 1.0, "-c:v mpeg4");
    let other = written("private.txt", b"private");
    let can = |what: &str, command: &str| format!("{command} >/dev/null 2>&1 && echo -n {what} can, >&2");
    let script = [
        "echo -n Error: it can, >&2".to_owned(),
        can("read", "/bin/head -c 4 /dev/stdin"),
        can("pry", &format!("/bin/cat '{}'", other.display())),
        can("list", &format!("/bin/ls '{}'", folder().display())),
        can("know", "/bin/cat /etc/passwd"),
        can("write", &format!("/bin/cp /dev/null '{}'", folder().join("written.txt").display())),
        can("talk", "/usr/bin/perl -MSocket -e 'socket(S, PF_INET, SOCK_DGRAM, 0) or exit 1'"),
        can("call", "/usr/bin/perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0) or exit 1'"),
        "exit 1".to_owned(),
    ];
    with_programs("child_with_a_curious_program", &[("ffmpeg", "exit 1"), ("ffprobe", &script.join("\n"))]);
}

#[cfg(target_os = "linux")]
#[actix_rt::test]
#[ignore = "needs other programs on PATH: a_program_reads_its_file_alone_and_has_no_network starts it"]
async fn child_with_a_curious_program() {
    let error = prepare(&clip_of_parent().with_file_name("for_looking.avi")).await.expect_err("it fails");
    assert_eq!(error.message, "ffmpeg says: it can,read can,");
}

#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn a_video_that_needs_too_much_memory_fails_with_a_sentence_about_it() {
    let path =
        made("heavy.mkv", "testsrc2=s=7680x4320:r=1", 2.0, "-c:v libx264 -preset ultrafast -pix_fmt yuv420p");
    let limits = Limits { video_memory: 1 << 20, ..LIMITS };
    let error = prepare_video(opened(&path), &limits, &VISION, true, ()).await.expect_err("too much");
    assert!(error.message.contains("limits.video_memory_mb"), "{error}");
    // The same file is decoded if enough memory is allowed.
    let limits = Limits { video_memory: 1 << 30, decode_memory: 2 << 30, ..LIMITS };
    assert!(prepare_video(opened(&path), &limits, &VISION, true, ()).await.is_ok());
}

#[cfg(target_os = "linux")]
#[test]
fn a_cancelled_video_leaves_no_program_behind() {
    let script = "exec /bin/sleep 600";
    with_programs("child_with_a_cancelled_batch", &[("ffmpeg", script), ("ffprobe", script)]);
}

#[cfg(target_os = "linux")]
#[actix_rt::test]
#[ignore = "run by a_cancelled_video_leaves_no_program_behind"]
async fn child_with_a_cancelled_batch() {
    let world = World::real_time(|_| {}).await;
    std::fs::copy(clip_of_parent(), world.path("clip.mkv")).expect("copied");
    let (batch, _) = world.submit(&["clip.mkv"]).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while child_left().is_none() {
        assert!(Instant::now() < deadline, "the program was not started");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let owner = world.owner.clone();
    world.tell(CancelBatch { owner, batch }).await.expect("cancelled");
    assert_eq!(world.ended(batch).await.status(), batch::Status::Cancelled);
    while let Some(left) = child_left() {
        assert!(Instant::now() < deadline, "still there: {left}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
