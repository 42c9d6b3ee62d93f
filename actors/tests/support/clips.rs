//! Clips for tests, which `ffmpeg` makes. It must be installed; without it these tests fail.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use mediamill_actors::media::{
    self, Clip, Error, Inspected, Kind, Limits, Picture, VisionSpec, open_video, prepare_video,
};

pub const LIMITS: Limits = Limits::DEFAULT;
pub const VISION: VisionSpec =
    VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: true };

/// Frames that become lighter by the second: 16 at first, 16 more each.
pub const LIGHTER: &str = "nullsrc=s=160x96:r=25,geq=lum='16+floor(T)*16':cb=128:cr=128";
/// Red, green, blue and yellow quarters.
pub const QUARTERS: &str = "color=red:s=64x48:r=10[a];color=lime:s=64x48:r=10[b];color=blue:s=64x48:r=10[c];\
    color=yellow:s=64x48:r=10[d];[a][b]hstack[u];[c][d]hstack[v];[u][v]vstack";
pub const H264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";

/// A folder that lasts as long as the tests.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder")).path()
}

/// Makes a file with `ffmpeg`.
pub fn made(name: &str, source: &str, seconds: f64, how: &str) -> PathBuf {
    let path = folder().join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", source, "-t", &seconds.to_string()]);
    command.args(how.split_whitespace()).arg(&path);
    run(command);
    path
}

/// Runs a program, which must exist and succeed.
pub fn run(mut command: Command) {
    let output = command.output();
    assert!(output.is_ok(), "these tests need ffmpeg (install the package ffmpeg): {command:?}: {output:?}");
    let output = output.expect("it ran");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

pub fn inspect(path: &Path) -> Result<Inspected, Error> {
    let file = std::fs::File::open(path).expect("there");
    let len = file.metadata().expect("a length").len();
    media::inspect(&mut std::io::BufReader::new(file), len, &LIMITS, &VISION)
}

/// Opens a clip, which is there.
pub fn opened(path: &Path) -> std::fs::File {
    open_video(path).expect("there")
}

pub async fn prepare(path: &Path) -> Result<Clip, Error> {
    prepare_video(open_video(path)?, &LIMITS, &VISION, true, ()).await
}

pub async fn good(path: &Path) -> Clip {
    let inspected = inspect(path);
    assert!(
        inspected.as_ref().is_ok_and(|it| it.format.kind() == Kind::Video),
        "{}: {inspected:?}",
        path.display()
    );
    let clip = prepare(path).await;
    assert!(clip.is_ok(), "{}: {:?}", path.display(), clip.err());
    let clip = clip.expect("prepared");
    assert_eq!(clip.pictures.len(), clip.seconds.len());
    assert!(clip.seconds.is_sorted_by(|a, b| a < b), "{:?}", clip.seconds);
    clip
}

pub fn pixel(picture: &Picture, x: u32, y: u32) -> [u8; 3] {
    let at = (y * picture.width + x) as usize * 3;
    picture.rgb[at..at + 3].try_into().expect("three bytes")
}

/// The second that a frame of [`LIGHTER`] shows.
pub fn shows(picture: &Picture) -> u32 {
    let [_, green, _] = pixel(picture, picture.content.0 / 2, picture.content.1 / 2);
    // Full range from 16 to 235.
    let luma = f64::from(green) * 219.0 / 255.0 + 16.0;
    ((luma - 16.0) / 16.0).round() as u32
}

/// The thumbnail of a clip.
pub fn thumbnail(clip: Clip) -> image::RgbImage {
    let jpeg = clip.thumbnail.expect("asked for").expect("made");
    image::load_from_memory(&jpeg).expect("a JPEG").to_rgb8()
}

/// A process that this one started, or that was left by one that it started.
#[cfg(target_os = "linux")]
pub fn child_left() -> Option<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").expect("there").flatten();
    let stats = processes.filter_map(|it| std::fs::read_to_string(it.path().join("stat")).ok());
    let mut alive = stats.filter_map(|stat| {
        let (id, rest) = stat.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let (state, parent, group) = (fields.next()?, fields.next()?, fields.next()?);
        // A left-over process is in a group whose first process has ended, and has our empty environment.
        let environment = std::fs::read(Path::new("/proc").join(id).join("environ")).unwrap_or_default();
        let ours = !environment.windows(5).any(|it| it == b"HOME=");
        let left = name == "sleep" && ours && group != id && !Path::new("/proc").join(group).exists();
        ((parent == own || left) && state != "Z").then(|| format!("{name} {id}"))
    });
    alive.next()
}
