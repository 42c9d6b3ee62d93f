//! Measures the provider `builtin` on pictures of your own. Prints JSON lines: for each file its description,
//! objects and CPU time; for each search its hits; at the end the cost of loading the detector and of
//! searching many vectors.
//!
//! ```text
//! builtin_cost [--rounds N] [--vectors N] [--search WORDS]... [--out FOLDER] FILE...
//! ```

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use mediamill_actors::{
    analysis::{
        DescribeRequest, Provider,
        audit::{Language, audit},
        builtin::{Builtin, detector::Detector},
    },
    media::{self, Limits, VisionSpec},
    search,
};

const LIMITS: Limits = Limits::DEFAULT;

struct Options {
    /// Number of descriptions of each picture; time is measured from the second round on.
    rounds: u32,
    /// Number of vectors for the measurement of a search; 0: no measurement.
    vectors: usize,
    searches: Vec<String>,
    /// Folder for thumbnails.
    out: Option<PathBuf>,
    files: Vec<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = options();
    let before = memory("VmRSS:");
    let started = Instant::now();
    if let Err(error) = Detector::shared() {
        eprintln!("{error}");
        return;
    }
    let (load_ms, loaded) = (ms(started), memory("VmRSS:"));

    let builtin = Builtin::default();
    let mut library = Vec::new();
    for file in &options.files {
        match described(&builtin, file, &options).await {
            Ok((line, vector)) => {
                println!("{line}");
                library.push((file, vector));
            }
            Err(error) => println!("{}", serde_json::json!({ "file": file, "error": error })),
        }
    }
    for words in &options.searches {
        let Ok(query) = builtin.embed(words.clone()).await else { continue };
        let hits = search::nearest(&query, library.iter().map(|(file, vector)| (*file, vector)), 5);
        let hits: Vec<_> = hits.iter().map(|hit| (hit.id.file_name(), round(f64::from(hit.score)))).collect();
        let hits: Vec<_> = hits
            .iter()
            .map(|(name, score)| format!("{} {score}", name.unwrap_or_default().display()))
            .collect();
        println!("{}", serde_json::json!({ "search": words, "hits": hits }));
    }
    println!(
        "{}",
        serde_json::json!({
            "load_ms": load_ms, "load_mib": loaded - before, "after_pictures_mib": memory("VmRSS:"),
            "peak_mib": memory("VmHWM:"),
        })
    );
    if options.vectors > 0 {
        println!("{}", search_cost(options.vectors));
    }
}

fn options() -> Options {
    let mut options = Options { rounds: 1, vectors: 0, searches: Vec::new(), out: None, files: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => options.rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(1),
            "--vectors" => options.vectors = args.next().and_then(|n| n.parse().ok()).unwrap_or(100_000),
            "--search" => options.searches.extend(args.next()),
            "--out" => options.out = args.next().map(PathBuf::from),
            _ => options.files.push(PathBuf::from(arg)),
        }
    }
    options
}

/// Describes a file like an upload, with the names of its two innermost folders.
async fn described(
    builtin: &Builtin,
    file: &Path,
    options: &Options,
) -> Result<(serde_json::Value, Vec<f32>), String> {
    let spec = VisionSpec { max_pixels: 1_003_520, max_side_px: 1568, patch_px: 28, jpeg: true };
    let spec = builtin.vision(spec);
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    let prepared = media::prepare(&bytes, &LIMITS, &spec, true).map_err(|error| error.message)?;
    if let (Some(out), Some(Ok(thumbnail))) = (&options.out, &prepared.thumbnail) {
        let name = format!("{}.jpg", file.file_name().unwrap_or_default().display());
        std::fs::write(out.join(name), thumbnail).map_err(|error| error.to_string())?;
    }
    let absolute = std::path::absolute(file).map_err(|error| error.to_string())?;
    let names = absolute.ancestors().take(3).filter_map(Path::file_name);
    let request = Arc::new(DescribeRequest {
        pictures: [prepared.picture].into(),
        facts: prepared.facts,
        names: names.map(|name| name.to_string_lossy().into_owned()).collect(),
        variation: 0,
        frame_seconds: Vec::new(),
    });

    let mut answer = builtin.describe(Arc::clone(&request)).await;
    let (burnt, started) = (cpu_ms(), Instant::now());
    for _ in 1..options.rounds {
        answer = builtin.describe(Arc::clone(&request)).await;
    }
    let rounds = f64::from(options.rounds.saturating_sub(1).max(1));
    let (cpu, wall) = ((cpu_ms() - burnt) / rounds, ms(started) / rounds);
    let answer = answer.map_err(|error| error.message().to_owned())?;
    let vector = builtin.embed(answer.text.clone()).await.map_err(|error| error.message().to_owned())?;
    let mut line = serde_json::json!({
        "file": file, "description": answer.text, "objects": answer.objects,
        "audit_score": audit(&answer.text, Language::ENGLISH).score, "facts": request.facts,
    });
    if options.rounds > 1 {
        line["cpu_ms"] = round(cpu).into();
        line["wall_ms"] = round(wall).into();
    }
    Ok((line, vector))
}

/// Ten searches among many vectors of 512 numbers.
fn search_cost(vectors: usize) -> serde_json::Value {
    const DIMENSIONS: usize = 512;
    // Random numbers of a linear congruential generator.
    let mut state = 1_u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state) as f32 / u32::MAX as f32 - 0.5
    };
    let library: Vec<f32> = (0..vectors * DIMENSIONS).map(|_| number()).collect();
    let mut times: Vec<f64> = (0..10)
        .map(|_| {
            let query: Vec<f32> = (0..DIMENSIONS).map(|_| number()).collect();
            let started = Instant::now();
            let hits = search::nearest(&query, library.chunks_exact(DIMENSIONS).enumerate(), 20);
            assert_eq!(hits.len(), vectors.min(20));
            ms(started)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    serde_json::json!({ "vectors": vectors, "search_ms": { "least": times[0], "median": times[5] } })
}

fn ms(since: Instant) -> f64 {
    round(since.elapsed().as_secs_f64() * 1e3)
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// CPU time of all threads of this process in ms, in steps of 10; 0 if this is not Linux.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, after)| after).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

/// A line of `/proc/self/status` in MiB; 0 if this is not Linux.
fn memory(line: &str) -> i64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|text| text.strip_prefix(line)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<i64>().ok()).unwrap_or(0) >> 10
}
