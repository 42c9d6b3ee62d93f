//! Videos become frames, a thumbnail and facts. The clips are made by `ffmpeg`, which must be installed.

mod support;

use std::{path::PathBuf, process::Command};

use mediamill_actors::{
    media::{Format, VisionSpec, prepare_video},
    upload::{FailureKind, FileKey, Status, Thumbnail},
};
use support::{World, clips::*};

// ---- frames -------------------------------------------------------------------------------------

#[actix_rt::test]
async fn every_container_gives_ten_frames_from_all_of_its_span() {
    for (name, format, codec, how) in [
        ("a.mp4", Format::Mp4, "h264", H264),
        ("front.mp4", Format::Mp4, "h264", &format!("{H264} -movflags +faststart")),
        ("parts.mp4", Format::Mp4, "h264", &format!("{H264} -movflags frag_keyframe+empty_moov")),
        ("fragments.mp4", Format::Mp4, "h264", &format!("{H264} -g 25 -movflags frag_keyframe")),
        ("a.mov", Format::Mov, "prores", "-c:v prores -pix_fmt yuv422p10"),
        ("mpeg4.mov", Format::Mov, "mpeg4", "-c:v mpeg4 -bf 2"),
        ("a.avi", Format::Avi, "mpeg4", "-c:v mpeg4"),
        ("a.webm", Format::Webm, "vp8", "-c:v libvpx -deadline realtime"),
        ("a.mpg", Format::Mpeg, "mpeg2video", "-c:v mpeg2video"),
        ("a.ts", Format::Mpeg, "h264", H264),
        ("a.flv", Format::Flv, "flv1", "-c:v flv1"),
        ("a.mkv", Format::Mkv, "h264", H264),
        ("a.wmv", Format::Wmv, "wmv2", "-c:v wmv2"),
        ("a.ogv", Format::Ogv, "theora", "-c:v libtheora"),
        ("a.mxf", Format::Mxf, "mpeg2video", "-c:v mpeg2video -r 25"),
        ("a.rm", Format::Rm, "rv20", "-c:v rv20"),
    ] {
        let path = made(name, LIGHTER, 12.0, how);
        assert_eq!(inspect(&path).expect("accepted").format, format, "{name}");
        let clip = good(&path).await;
        assert_eq!(clip.pictures.len(), 10, "{name}: {:?}", clip.seconds);
        assert!(clip.seconds[0] < 1.3 && clip.seconds[9] >= 10.7, "{name}: {:?}", clip.seconds);
        for (picture, seconds) in clip.pictures.iter().zip(&clip.seconds) {
            assert_eq!(picture.content, (160, 96), "{name}");
            let shown = f64::from(shows(picture));
            // Exact to the frame; the clocks of some containers begin later.
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
async fn dv_of_a_tape_is_shown() {
    let how = "-c:v dvvideo -s 720x576 -pix_fmt yuv420p -r 25 -ac 2 -ar 48000";
    let path = made("tape.dv", LIGHTER, 3.0, how);
    assert_eq!(inspect(&path).expect("accepted").format, Format::Dv);
    let clip = good(&path).await;
    assert_eq!(clip.pictures.len(), 3, "{:?}", clip.seconds);
    assert_eq!(clip.facts.video_codec.as_deref(), Some("dvvideo"));
    assert!(!clip.facts.damaged);
}

#[actix_rt::test]
async fn a_transport_stream_that_begins_in_mid_packet_is_shown() {
    let whole = std::fs::read(made("whole.ts", QUARTERS, 4.0, H264)).expect("there");
    // As a camcorder writes them: a time of four bytes before each packet.
    let timed: Vec<u8> = whole.chunks(188).flat_map(|packet| [&[0; 4], packet].concat()).collect();
    for (name, bytes, cut) in [("cut.ts", whole, 100), ("cut.mts", timed, 150)] {
        let path = written(name, &bytes[cut..]);
        assert_eq!(inspect(&path).expect("accepted").format, Format::Mpeg, "{name}");
        let clip = good(&path).await;
        assert!(!clip.pictures.is_empty(), "{name}");
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
async fn a_longer_sound_track_or_a_low_frame_rate_is_not_damage() {
    let sound = |name: &str, how: &str| {
        let path = folder().join(name);
        let mut command = Command::new("ffmpeg");
        command
            .args(["-v", "error", "-y", "-f", "lavfi", "-t", "4", "-i", LIGHTER, "-f", "lavfi", "-t", "6"]);
        command.args(["-i", "sine=r=48000"]).args(how.split_whitespace()).arg(&path);
        run(command);
        path
    };
    let slow = "testsrc2=s=160x96:r=1/3";
    for (path, count) in [
        (sound("sound.mkv", &format!("{H264} -g 250 -c:a aac")), 4),
        (sound("sound.webm", "-c:v libvpx -deadline realtime -c:a libopus"), 4),
        (sound("sound.flv", "-c:v flv1 -c:a aac -ar 44100"), 4),
        (made("slow.mkv", slow, 12.0, &format!("{H264} -bf 2")), 4),
        (made("slow.mp4", slow, 12.0, &format!("{H264} -bf 2")), 4),
        // Its clock begins in the middle of the first second.
        (made("bare.m2v", "testsrc2=s=160x96:r=25", 3.0, "-c:v mpeg2video"), 4),
    ] {
        let clip = good(&path).await;
        assert!(!clip.facts.damaged, "{}: {:?}", path.display(), clip.seconds);
        assert_eq!(clip.pictures.len(), count, "{}: {:?}", path.display(), clip.seconds);
        let mut pairs = clip.pictures.windows(2);
        assert!(pairs.all(|pair| pair[0].rgb != pair[1].rgb), "{}: a frame is repeated", path.display());
    }
}

#[actix_rt::test]
async fn a_path_that_is_not_absolute_names_the_same_file() {
    let path = made("relative.mkv", LIGHTER, 1.0, H264);
    let up =
        std::env::current_dir().expect("a folder").components().skip(1).map(|_| "..").collect::<PathBuf>();
    let relative = up.join(path.strip_prefix("/").expect("absolute"));
    assert_eq!(good(&relative).await.pictures.len(), 1);
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
async fn key_frames_that_do_not_restart_the_numbering_of_frames_are_all_shown() {
    // With open groups of pictures the numbers of an HEVC file continue at a key frame, and have eight bits.
    let lighter = "nullsrc=s=160x96:r=25,geq=lum='16+floor(T/6)*16':cb=128:cr=128";
    let open = "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=30:open-gop=1 -tag:v hvc1";
    for ending in ["mp4", "mkv"] {
        let clip = good(&made(&format!("open.{ending}"), lighter, 59.8, open)).await;
        let shown: Vec<u32> = clip.pictures.iter().map(shows).collect();
        assert_eq!(shown, (0..10).collect::<Vec<_>>(), "{ending}: {:?}", clip.seconds);
        assert!(!clip.facts.damaged, "{ending}");
    }
}

#[actix_rt::test]
async fn frames_that_an_edit_list_cuts_away_are_not_shown() {
    for how in ["-g 10", "-g 250"] {
        let bytes = std::fs::read(made("uncut.mp4", LIGHTER, 10.0, &format!("{H264} {how}"))).expect("read");
        let at = bytes.windows(4).position(|it| it == b"elst").expect("a list");
        // One entry, of twelve bytes, becomes two: the first two seconds, and the four from the sixth on.
        let start = u32::from_be_bytes(bytes[at + 16..at + 20].try_into().expect("four"));
        let parts = [(2000, start), (4000, start + 6 * 12_800)];
        let parts =
            parts.map(|(length, from)| [length, from, 0x1_0000].map(u32::to_be_bytes).concat()).concat();
        let mut cut = bytes.clone();
        cut.splice(at + 12..at + 24, parts);
        cut[at + 11] = 2;
        // All boxes around it grow; the frames are before them.
        for kind in [b"elst", b"edts", b"trak", b"moov"] {
            let at = cut.windows(4).position(|it| it == kind).expect("there") - 4;
            let size = u32::from_be_bytes(cut[at..at + 4].try_into().expect("four")) + 12;
            cut[at..at + 4].copy_from_slice(&size.to_be_bytes());
        }
        let clip = good(&written("cut.mp4", &cut)).await;
        let shown: Vec<u32> = clip.pictures.iter().map(shows).collect();
        assert_eq!(shown, [0, 1, 6, 7, 8, 9], "{how}: {:?}", clip.seconds);
        let seconds: Vec<u32> = clip.seconds.iter().map(|it| *it as u32).collect();
        assert_eq!(seconds, [0, 1, 2, 3, 4, 5], "{how}: {:?}", clip.seconds);
    }
}

#[actix_rt::test]
async fn a_video_without_a_named_length_is_measured() {
    // A container that is written into a pipe has no length.
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
async fn pixels_that_are_not_square_are_shown_at_their_true_width() {
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
    let clip = prepare_video(opened(&path), &LIMITS, &tiny, true, ()).await.expect("sound");
    assert_eq!((clip.pictures[0].width, clip.pictures[0].height), (56, 56));
    assert!(clip.pictures[0].jpeg.is_none());
    let thumbnail =
        image::load_from_memory(&clip.thumbnail.expect("asked for").expect("made")).expect("a JPEG");
    assert_eq!(thumbnail.width(), 256);
    let clip = prepare_video(opened(&path), &LIMITS, &VISION, false, ()).await.expect("sound");
    assert!(clip.thumbnail.is_none());
}

// ---- facts --------------------------------------------------------------------------------------

#[actix_rt::test]
async fn facts_come_from_the_tags_of_the_camera() {
    let tags = "-metadata creation_time=2026-05-04T10:11:12Z -metadata location=+59.3200+018.0700/";
    let facts = good(&made("camera.mov", "testsrc2=s=64x48", 1.0, &format!("{tags} {H264}"))).await.facts;
    assert_eq!(facts.taken_at.as_deref(), Some("2026-05-04T10:11:12Z"));
    assert_eq!(facts.coordinates, Some((59.32, 18.07)));
    let apple = "-movflags use_metadata_tags -metadata com.apple.quicktime.make=Apple \
        -metadata com.apple.quicktime.model=X100 \
        -metadata com.apple.quicktime.creationdate=2026-05-04T12:11:12+0200";
    let facts =
        good(&made("phone.mov", "testsrc2=s=64x48", 1.0, &format!("{tags} {apple} {H264}"))).await.facts;
    assert_eq!(facts.taken_at.as_deref(), Some("2026-05-04T12:11:12+02:00"));
    assert_eq!(facts.camera.as_deref(), Some("Apple X100"));
    let facts = good(&made("camera.mkv", "testsrc2=s=64x48", 1.0, &format!("{tags} {H264}"))).await.facts;
    assert_eq!(facts.taken_at.as_deref(), Some("2026-05-04T10:11:12Z"));
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
    // If all frames are dark, so is the thumbnail.
    let clip = good(&made("night.mp4", "color=black:s=160x96:r=10", 3.0, H264)).await;
    assert!(clip.thumbnail.expect("asked for").is_ok() && clip.facts.lightness == 0);
}

// ---- the worker ---------------------------------------------------------------------------------

#[actix_rt::test]
async fn a_provider_is_shown_the_frames_of_a_video_with_their_times() {
    let world = World::real_time(|_| {}).await;
    for ending in ["mp4", "mkv"] {
        let name = format!("walk.{ending}");
        std::fs::copy(made(&name, LIGHTER, 3.0, &format!("{H264} -g 25")), world.path(&name))
            .expect("copied");
    }
    let (batch, uploads) = world.submit(&["walk.mp4", "walk.mkv"]).await;
    world.ended(batch).await;
    let expected = (3, vec![0.0, 1.0, 2.0]);
    assert_eq!(world.provider.shown(), [expected.clone(), expected]);
    for id in uploads {
        let upload = world.upload(id).await;
        assert_eq!((upload.status, upload.thumbnail), (Status::Completed, Thumbnail::Made));
        assert!(world.pipeline.files.local_path(&FileKey::thumbnail(id)).exists());
        let facts = upload.facts.expect("facts");
        assert_eq!((facts.duration_ms, facts.video_codec.as_deref()), (Some(3000), Some("h264")));
    }
}

#[actix_rt::test]
async fn a_video_without_a_frame_fails_twice_and_its_neighbour_completes() {
    let world = World::real_time(|_| {}).await;
    let whole = std::fs::read(made("whole.mkv", LIGHTER, 2.0, H264)).expect("read");
    std::fs::write(world.path("whole.mkv"), &whole).expect("written");
    std::fs::write(world.path("stump.mkv"), &whole[..whole.len() / 10]).expect("written");
    let (batch, uploads) = world.submit(&["stump.mkv", "whole.mkv"]).await;
    world.ended(batch).await;
    let upload = world.upload(uploads[0]).await;
    let kinds: Vec<_> = upload.failures.iter().map(|it| it.kind).collect();
    assert_eq!((upload.status, kinds), (Status::Failed, vec![FailureKind::Undecodable; 2]));
    assert!(upload.failures[1].message.starts_with("stump.mkv: "), "{:?}", upload.failures);
    assert_eq!(world.upload(uploads[1]).await.status, Status::Completed);
}

#[actix_rt::test]
async fn a_video_that_changed_since_its_submission_fails_with_a_sentence_about_it() {
    let world = World::scripted().await;
    let mut bytes = std::fs::read(made("changing.mkv", LIGHTER, 1.0, H264)).expect("read");
    std::fs::write(world.path("changing.mkv"), &bytes).expect("written");
    // The provider was not probed yet, so no upload begins before it answers.
    world.provider.is_there(false);
    let (batch, uploads) = world.submit(&["changing.mkv"]).await;
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(world.path("changing.mkv"), &bytes).expect("written");
    world.provider.is_there(true);
    world.ended(batch).await;
    let failures = world.upload(uploads[0]).await.failures;
    assert_eq!(failures[1].kind, FailureKind::FileChanged, "{failures:?}");
}
