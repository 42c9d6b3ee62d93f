//! `mediamill check`: what configuration, disk, store, provider and decoders are like, and how to fix what is not right.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use mediamill_actors::{
    analysis::{Provider, builtin},
    config::{Config, ProviderKind},
    files::Files,
    intake, media, pipeline,
    store::Verification,
};

/// Longest wait for a provider.
const PATIENCE: Duration = Duration::from_secs(15);
/// Thumbnails that are missing, named at most.
const MOST_NAMED: usize = 5;

/// What was found, line by line.
#[derive(Default)]
struct Findings {
    wrong: usize,
}

impl Findings {
    fn line(&mut self, what: &str, found: Result<String, String>) {
        let mark = if found.is_ok() { "ok   " } else { "wrong" };
        self.wrong += usize::from(found.is_err());
        let (Ok(sentence) | Err(sentence)) = found;
        // Whoever is gone does not miss it.
        let _ = writeln!(io::stdout(), "{mark} {what}: {sentence}");
    }
}

/// Answers with the exit code: 1 if something is to be fixed.
pub(crate) async fn run(config: &Config) -> u8 {
    let mut findings = Findings::default();
    findings.line("configuration", Ok("every value is in its range".into()));
    findings.line("data folder", data_folder(config));
    findings.line("disk", disk(config));
    findings.line("store", store(config).await);
    findings.line("provider", provider(config).await);
    for capability in media::capabilities() {
        let name = capability.format.name();
        let sentence = capability.missing.map_or_else(
            || format!("{name} is decoded"),
            |missing| format!("{name} is refused at the door: {missing}"),
        );
        findings.line("format", Ok(sentence));
    }
    u8::from(findings.wrong > 0)
}

fn data_folder(config: &Config) -> Result<String, String> {
    let folder = &config.store.data_dir;
    if !folder.exists() {
        return Ok(format!("{} is not there yet; the first run makes it", folder.display()));
    }
    tempfile::Builder::new()
        .prefix(".check-")
        .tempfile_in(folder)
        .and_then(|mut file| file.write_all(b"check").and_then(|()| file.as_file().sync_data()))
        .map(|()| format!("{} can be written", folder.display()))
        .map_err(|error| {
            format!(
                "{} cannot be written: {error}; change its permissions, or name another folder with store.data_dir",
                folder.display()
            )
        })
}

fn disk(config: &Config) -> Result<String, String> {
    let there = config.store.data_dir.ancestors().find(|folder| folder.exists());
    let free = there.ok_or("no part of the data folder's path is there".to_owned()).and_then(|folder| {
        intake::free_bytes(folder).map_err(|error| format!("cannot tell how much is free: {error}"))
    })?;
    let (free, least) = (free >> 20, config.limits.min_free_disk_mb);
    if free < least {
        return Err(format!(
            "{free} MiB are free, and nothing is taken in below {least} MiB (limits.min_free_disk_mb); make room"
        ));
    }
    Ok(format!("{free} MiB are free"))
}

async fn store(config: &Config) -> Result<String, String> {
    if super::must_exist(config).is_err() {
        return Ok("there is none yet".into());
    }
    let store = super::open(config)?;
    let found = store.verify().await.map_err(|error| {
        format!(
            "{error}; move {} away and restore a dump with `mediamill restore`",
            config.store.data_dir.display()
        )
    })?;
    let files = Files::new(&config.store.data_dir);
    let missing: Vec<String> = found
        .thumbnails
        .iter()
        .filter(|id| !files.thumbnail(**id).exists())
        .map(|id| id.to_string())
        .collect();
    if found.fault_count > 0 {
        return Err(format!(
            "{} things do not fit together, which is a fault of mediamill; keep a dump and report it: {}",
            found.fault_count,
            found.faults.join("; ")
        ));
    }
    if !missing.is_empty() {
        let named = missing.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
        return Err(format!(
            "{} thumbnails are gone from {}; process the pictures again, which makes them ({named}…)",
            missing.len(),
            config.store.data_dir.display()
        ));
    }
    Ok(sound(&found))
}

fn sound(found: &Verification) -> String {
    let uploads: Vec<_> = found.uploads.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let uploads = if uploads.is_empty() { "no uploads".into() } else { uploads.join(", ") };
    format!("{} batches; {uploads}; {} events; everything fits together", found.batches, found.events)
}

async fn provider(config: &Config) -> Result<String, String> {
    let provider = pipeline::connect(config).map_err(|error| error.to_string())?;
    let identity = provider.identity();
    let started = Instant::now();
    match tokio::time::timeout(PATIENCE, provider.probe()).await {
        Err(_) => Err(format!("{} did not answer within {} s", identity.provider, PATIENCE.as_secs())),
        Ok(Err(error)) => Err(error.message().to_owned()),
        Ok(Ok(())) => {
            let note = if config.provider.kind == ProviderKind::Builtin { builtin::NOTICE } else { "" };
            trial(provider.as_ref(), started).await.map(|took| {
                format!(
                    "{} is there ({}, {}, {} dimensions); {took} {note}",
                    identity.provider, identity.vision_model, identity.embedding_model, identity.dimensions
                )
            })
        }
    }
}

async fn trial(provider: &dyn Provider, started: Instant) -> Result<String, String> {
    let probed = started.elapsed();
    let embedded = tokio::time::timeout(PATIENCE, provider.embed("a dog on a beach".into())).await;
    match embedded {
        Err(_) => Err(format!("a trial embedding took longer than {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => Err(format!("a trial embedding failed: {}", error.message())),
        Ok(Ok(_)) => Ok(format!(
            "answered in {} ms, embedded a sentence in {} ms.",
            probed.as_millis(),
            (started.elapsed() - probed).as_millis()
        )),
    }
}
