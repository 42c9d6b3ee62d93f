//! Measures the media work of an upload: prints a line of JSON for each file with CPU and wall
//! time, peak memory and the result. The benches use it, and it shows the results for your own
//! pictures.
//!
//! ```text
//! media_cost [--rounds N] [--threads N] [--by-ffmpeg] [--out FOLDER] FILE...
//! ```
//!
//! With `--by-ffmpeg`, `ffmpeg` opens every video itself instead of getting an excerpt.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;

use mediamill_actors::media::{self, Clip, Kind, Limits, Picture, Prepared, VisionSpec};

/// The limits on a file in place.
static LIMITS: LazyLock<Limits> = LazyLock::new(|| Limits::DEFAULT.in_place());

struct Options {
    rounds: u32,
    threads: Option<usize>,
    by_ffmpeg: bool,
    out: Option<PathBuf>,
    files: Vec<PathBuf>,
}

fn main() {
    let options = options();
    for file in &options.files {
        let line = match options.threads {
            Some(threads) => at_once(file, threads, &options),
            None => one(file, &options),
        };
        println!("{line}");
    }
}

fn options() -> Options {
    let mut options = Options { rounds: 1, threads: None, by_ffmpeg: false, out: None, files: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<u32>().ok()).unwrap_or(1);
        match arg.as_str() {
            "--rounds" => options.rounds = number(),
            "--threads" => options.threads = Some(number() as usize),
            "--by-ffmpeg" => options.by_ffmpeg = true,
            "--out" => options.out = args.next().map(PathBuf::from),
            _ => options.files.push(PathBuf::from(arg)),
        }
    }
    options
}

fn spec(max_pixels: Option<u64>) -> VisionSpec {
    VisionSpec { max_pixels: max_pixels.unwrap_or(1_003_520), max_side_px: 1568, patch_px: 28, jpeg: true }
}

/// The result for a picture or a video.
enum Made {
    Picture(Box<Prepared>),
    Clip(Box<Clip>),
}

/// The whole media work for a file, including its admission.
fn work(file: &Path, by_ffmpeg: bool) -> Result<(u64, Made), media::Error> {
    let read = |error: std::io::Error| media::Error {
        kind: media::ErrorKind::Undecodable,
        message: error.to_string(),
    };
    // The peers in the benches make pictures of up to 1568 pixels a side, whatever their number of pixels.
    let spec = spec(std::env::var("MAX_PIXELS").ok().and_then(|n| n.parse().ok()));
    let mut opened = BufReader::new(std::fs::File::open(file).map_err(read)?);
    let len = opened.get_ref().metadata().map_err(read)?.len();
    let inspected = media::inspect(&mut opened, len, &LIMITS, &spec)?;
    if inspected.format.kind() == Kind::Video {
        let system = actix_rt::System::new();
        let clip = if by_ffmpeg {
            system.block_on(media::prepare_video_by_ffmpeg(
                media::open_video(file)?,
                &LIMITS,
                &spec,
                true,
                (),
            ))?
        } else {
            system.block_on(media::prepare_video(media::open_video(file)?, &LIMITS, &spec, true, ()))?
        };
        return Ok((inspected.decode_bytes, Made::Clip(Box::new(clip))));
    }
    let prepared = if len > media::STREAMED_BYTES {
        media::prepare_file(&mut opened, len, &LIMITS, &spec, true)?
    } else {
        media::prepare(&std::fs::read(file).map_err(read)?, &LIMITS, &spec, true)?
    };
    Ok((inspected.decode_bytes, Made::Picture(Box::new(prepared))))
}

fn one(file: &Path, options: &Options) -> serde_json::Value {
    // The first round of a measurement would be cold.
    if options.rounds > 1 {
        drop(work(file, options.by_ffmpeg));
    }
    let (mut wall, mut result) = (f64::MAX, None);
    let burnt = cpu_ms();
    for _ in 0..options.rounds.max(1) {
        let started = Instant::now();
        result = Some(work(file, options.by_ffmpeg));
        wall = wall.min(started.elapsed().as_secs_f64() * 1e3);
    }
    // Some kernels count CPU time in steps of milliseconds, so only a mean over the rounds is accurate.
    let cpu = (cpu_ms() - burnt) / f64::from(options.rounds.max(1));
    let mut line = serde_json::json!({
        "file": file, "cpu_ms": round(cpu), "wall_ms": round(wall), "peak_mib": peak_mib(),
    });
    match result {
        Some(Ok((decode_bytes, made))) => {
            let (thumbnail, pictures, facts) = match &made {
                Made::Picture(it) => (&it.thumbnail, std::slice::from_ref(&it.picture), &it.facts),
                Made::Clip(it) => {
                    line["seconds"] = serde_json::json!(it.seconds);
                    (&it.thumbnail, &it.pictures[..], &it.facts)
                }
            };
            line["decode_mib"] = (decode_bytes >> 20).into();
            line["vision"] = serde_json::json!([pictures[0].width, pictures[0].height]);
            line["content"] = serde_json::json!(pictures[0].content);
            line["facts"] = serde_json::to_value(facts).unwrap_or_default();
            if let Some(out) = &options.out {
                keep(out, file, thumbnail, pictures);
            }
        }
        Some(Err(error)) => {
            line["error"] = error.message.into();
            line["kind"] = serde_json::to_value(error.kind).unwrap_or_default();
        }
        None => {}
    }
    line
}

/// The same file in several threads, `rounds` times in each: files a second.
fn at_once(file: &Path, threads: usize, options: &Options) -> serde_json::Value {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..options.rounds).for_each(|_| drop(work(file, options.by_ffmpeg))));
        }
    });
    let files = threads as f64 * f64::from(options.rounds);
    serde_json::json!({
        "file": file, "threads": threads, "files_per_s": round(files / started.elapsed().as_secs_f64()),
    })
}

fn keep(out: &Path, file: &Path, thumbnail: &Option<Result<Vec<u8>, media::Error>>, pictures: &[Picture]) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let written = std::fs::create_dir_all(out).and_then(|()| {
        if let Some(Ok(thumbnail)) = thumbnail {
            std::fs::write(out.join(format!("{name}.thumbnail.jpg")), thumbnail)?;
        }
        for (i, picture) in pictures.iter().enumerate() {
            let number = if pictures.len() > 1 { format!(".{i}") } else { String::new() };
            if let Some(jpeg) = &picture.jpeg {
                std::fs::write(out.join(format!("{name}.vision{number}.jpg")), jpeg)?;
            }
            let size = format!("P6 {} {} 255\n", picture.width, picture.height);
            let pixels = [size.as_bytes(), &picture.rgb].concat();
            std::fs::write(out.join(format!("{name}.vision{number}.ppm")), pixels)?;
        }
        Ok(())
    });
    if let Err(error) = written {
        eprintln!("cannot write to {}: {error}", out.display());
    }
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// CPU time of this thread so far, in milliseconds; 0 on systems other than Linux.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e6
}

/// Peak memory of this process, in MiB; 0 on systems other than Linux.
fn peak_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 10
}
