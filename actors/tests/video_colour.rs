//! The colours of videos: HDR, wide colours, matrices with and without a name, and transparency. The clips are
//! made by `ffmpeg`, which must be installed.

#[path = "support/clips.rs"]
mod clips;
#[path = "support/profiles.rs"]
mod profiles;

use std::path::PathBuf;

use clips::{good, made, pixel, thumbnail};
use profiles::{BT_2020, DISPLAY_P3, Matrix};

const FIELDS: [[u8; 3]; 4] = [[220, 30, 30], [30, 160, 40], [30, 60, 200], [240, 210, 40]];
/// Encodes H.265 and H.264 without loss that would matter.
const H265: &str = "-c:v libx265 -preset ultrafast -crf 8 -tag:v hvc1 -x265-params log-level=error";
const H264: &str = "-c:v libx264 -preset ultrafast -crf 8";

/// A source of four fields of 160 x 120 each, in the given code, 0 to 1, and filters behind it.
fn card(code: impl Fn([u8; 3]) -> [f64; 3], filters: &str) -> String {
    let fields = FIELDS.map(|colour| code(colour).map(|it| (it * 4095.0).round()));
    let channel = |c: usize| {
        let [a, b, d, e] = fields.map(|field| field[c]);
        format!("if(lt(Y,120),if(lt(X,160),{a},{b}),if(lt(X,160),{d},{e}))")
    };
    let [r, g, b] = [0, 1, 2].map(channel);
    format!("nullsrc=s=320x240:r=5,format=gbrp12,geq=r='{r}':g='{g}':b='{b}',{filters}")
}

fn srgb(colour: [u8; 3]) -> [f64; 3] {
    colour.map(|it| f64::from(it) / 255.0)
}

/// Holds the fields of all pictures and of the thumbnail to the card.
async fn assert_card(path: PathBuf, most: u8) {
    let clip = good(&path).await;
    let name = path.display();
    let names: Vec<&str> = clip.facts.colours.iter().map(|it| it.name.as_str()).collect();
    for colour in ["red", "green", "blue", "yellow"] {
        assert!(names.contains(&colour), "{name}: {names:?}");
    }
    let near = |a: [u8; 3], b: [u8; 3], most: u8| a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= most);
    let places = [(1, 1), (3, 1), (1, 3), (3, 3)];
    for picture in &clip.pictures {
        let (w, h) = picture.content;
        for ((x, y), expected) in places.into_iter().zip(FIELDS) {
            let found = pixel(picture, w * x / 4, h * y / 4);
            assert!(near(found, expected, most), "{name}: {found:?} instead of {expected:?}");
        }
    }
    let small = thumbnail(clip);
    for ((x, y), expected) in places.into_iter().zip(FIELDS) {
        let found = small.get_pixel(small.width() * x / 4, small.height() * y / 4).0;
        assert!(near(found, expected, most + 6), "{name}, thumbnail: {found:?} instead of {expected:?}");
    }
}

/// The code of PQ for light of which 1.0 is reference white.
fn pq(light: f64) -> f64 {
    let y = (light.max(0.0) * 203.0 / 10_000.0).powf(2610.0 / 16_384.0);
    ((0.835_937_5 + 18.851_562_5 * y) / (1.0 + 18.6875 * y)).powf(78.843_75)
}

/// The code of HLG for light of which 1.0 is reference white.
fn hlg(light: f64) -> f64 {
    let scene = light.max(0.0) * 0.265;
    if scene <= 1.0 / 12.0 {
        return (3.0 * scene).sqrt();
    }
    0.178_832_77 * (12.0 * scene - 0.284_668_92).ln() + 0.559_910_73
}

fn light(space: &Matrix, colour: [u8; 3]) -> [f64; 3] {
    profiles::light_in(space, colour)
}

#[actix_rt::test]
async fn hdr_is_shown_with_its_colours_in_every_container() {
    let to_yuv = "scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p10le";
    let tags = |transfer| {
        format!(
            "{H265}:colorprim=bt2020:colormatrix=bt2020nc:transfer={transfer} -color_primaries bt2020 \
            -color_trc {transfer} -colorspace bt2020nc"
        )
    };
    let with_pq = card(|it| light(&BT_2020, it).map(pq), to_yuv);
    let with_hlg = card(|it| light(&BT_2020, it).map(hlg), to_yuv);
    for container in ["mp4", "mov", "mkv"] {
        assert_card(made(&format!("pq.{container}"), &with_pq, 2.0, &tags("smpte2084")), 8).await;
        assert_card(made(&format!("hlg.{container}"), &with_hlg, 2.0, &tags("arib-std-b67")), 8).await;
    }
    // Only the coded frames say it: the container has no tags, and ffmpeg opens the other one itself.
    let how = format!("{H265}:colorprim=bt2020:colormatrix=bt2020nc:transfer=smpte2084");
    assert_card(made("untagged-pq.mp4", &with_pq, 2.0, &how), 8).await;
    assert_card(made("pq.ts", &with_pq, 2.0, &tags("smpte2084").replace("-tag:v hvc1", "")), 8).await;
}

#[actix_rt::test]
async fn wide_colours_without_hdr_are_converted() {
    let source = card(
        |it| light(&DISPLAY_P3, it).map(|it| profiles::Curve::Srgb.coded(it)),
        "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p",
    );
    let how = format!("{H264} -color_primaries smpte432 -color_trc iec61966-2-1 -colorspace bt709");
    assert_card(made("p3.mp4", &source, 1.0, &how), 8).await;
}

#[actix_rt::test]
async fn the_matrix_is_the_named_one_or_that_of_the_size() {
    for (name, size, matrix, tags) in [
        ("large", "1280:720", "bt709", ""),
        ("high", "720:1280", "bt709", ""),
        ("small", "720:576", "bt601", ""),
        ("large-601", "1280:720", "bt601", "-colorspace smpte170m"),
        ("small-709", "320:240", "bt709", "-colorspace bt709"),
    ] {
        let filters =
            format!("scale={size}:flags=neighbor:out_color_matrix={matrix}:out_range=tv,format=yuv420p");
        let source = card(srgb, &filters);
        for container in ["mp4", "mkv", "ts", "avi"] {
            let path = made(&format!("{name}.{container}"), &source, 1.0, &format!("{H264} {tags}"));
            assert_card(path, 6).await;
        }
    }
    // The whole range, as webcams and phones write it.
    let source = card(srgb, "scale=out_color_matrix=bt601:out_range=pc,format=yuvj420p");
    assert_card(made("full-range.mp4", &source, 1.0, &format!("{H264} -color_range pc")), 6).await;
}

#[actix_rt::test]
async fn transparent_videos_are_shown_on_white() {
    let source = card(srgb, "format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='if(lt(X,160),0,255)'");
    for (name, how) in [
        ("vp9.webm", "-c:v libvpx-vp9 -pix_fmt yuva420p -auto-alt-ref 0 -crf 8 -b:v 0"),
        ("vp8.webm", "-c:v libvpx -pix_fmt yuva420p -auto-alt-ref 0 -crf 8 -b:v 1M"),
        ("png.mov", "-c:v png"),
        ("prores.mov", "-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le"),
    ] {
        let clip = good(&made(name, &source, 2.0, how)).await;
        assert!(clip.facts.notes.is_empty(), "{name}: {:?}", clip.facts.notes);
        for picture in &clip.pictures {
            let (w, h) = picture.content;
            for (x, y, expected) in [(1, 1, [255; 3]), (3, 1, FIELDS[1]), (1, 3, [255; 3]), (3, 3, FIELDS[3])]
            {
                let found = pixel(picture, w * x / 4, h * y / 4);
                let near = found.iter().zip(expected).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 8);
                assert!(near, "{name}: {found:?} instead of {expected:?}");
            }
        }
    }
}
