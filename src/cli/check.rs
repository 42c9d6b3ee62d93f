//! `mediamill check`: checks configuration, disk, store, provider and decoders, and says how to fix each
//! fault.

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use super::thumbnails;
use mediamill_actors::{
    analysis::{self, ModelReport, Provider, Role},
    config::Config,
    disk, media, pipeline, private,
    store::Verification,
    text,
};

/// Longest wait for the report of a provider.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Most faults or missing thumbnails that are listed.
const MAX_LISTED: usize = 5;

/// Prints the findings line by line, and counts the faults.
#[derive(Default)]
struct Findings {
    wrong: usize,
}

impl Findings {
    fn line(&mut self, what: &str, found: Result<String, String>) {
        let mark = if found.is_ok() { "ok   " } else { "wrong" };
        self.wrong += usize::from(found.is_err());
        let (Ok(sentence) | Err(sentence)) = found;
        // The output may have no reader any more.
        let _ = writeln!(io::stdout(), "{mark} {what}: {}", text::one_line(&sentence));
    }
}

/// Runs all checks; with `fix`, closes the data folder to other users first. Returns the exit code: 1 if there is a fault.
pub(crate) async fn run(config: &Config, fix: bool) -> u8 {
    let mut findings = Findings::default();
    findings.line("configuration", Ok("all values are valid".into()));
    findings.line("data folder", data_folder(config));
    findings.line("privacy", privacy(config, fix));
    findings.line("disk", disk(config));
    findings.line("store", store(config).await);
    provider(config, &mut findings).await;
    for capability in media::capabilities() {
        let name = capability.format.name();
        let sentence = capability
            .missing
            .map_or_else(|| format!("{name} is decoded"), |missing| format!("{name} is refused: {missing}"));
        findings.line("format", Ok(sentence));
    }
    u8::from(findings.wrong > 0)
}

fn data_folder(config: &Config) -> Result<String, String> {
    let folder = &config.store.data_dir;
    if !folder.exists() {
        return Ok(format!("{} does not exist yet; the first run creates it", folder.display()));
    }
    tempfile::Builder::new()
        .prefix(".check-")
        .tempfile_in(folder)
        .and_then(|mut file| file.write_all(b"check").and_then(|()| file.as_file().sync_data()))
        .map(|()| format!("{} can be written", folder.display()))
        .map_err(|error| {
            format!(
                "{} cannot be written: {error}; change its permissions, or name another folder with \
                 store.data_dir",
                folder.display()
            )
        })
}

fn privacy(config: &Config, fix: bool) -> Result<String, String> {
    let folder = &config.store.data_dir;
    let failed = |error: io::Error| format!("cannot look at all of {}: {error}", folder.display());
    if !folder.exists() {
        return Ok("nothing is there yet".into());
    }
    if fix {
        // A secret that others could read may be known to them. Browsers sign in again with the next one.
        let secret = folder.join("session.key");
        if private::read_secret(&secret).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            std::fs::remove_file(&secret).map_err(failed)?;
        }
        let closed = private::close(folder).map_err(failed)?;
        if closed > 0 {
            return Ok(format!("{closed} files and folders were closed to other users"));
        }
    }
    let exposed = private::exposed(folder).map_err(failed)?;
    let Some(first) = exposed.first() else {
        return Ok("only the owner of the data folder can look into it".into());
    };
    Err(format!(
        "{} files and folders can be looked into by other users, or belong to one ({}…); close them with \
         `mediamill check --fix`",
        exposed.len(),
        first.display()
    ))
}

fn disk(config: &Config) -> Result<String, String> {
    let there = config.store.data_dir.ancestors().find(|folder| folder.exists());
    let free = there.ok_or("no parent of the data folder exists".to_owned()).and_then(|folder| {
        disk::free_bytes(folder).map_err(|error| format!("cannot read the free space: {error}"))
    })?;
    let (free, least) = (free >> 20, config.limits.min_free_disk_mb);
    if free < least {
        return Err(format!(
            "{free} MiB are free, and files are refused below {least} MiB (limits.min_free_disk_mb); make \
             room"
        ));
    }
    Ok(format!("{free} MiB are free"))
}

async fn store(config: &Config) -> Result<String, String> {
    super::must_not_be_lost(config)?;
    if super::must_exist(config).is_err() {
        return Ok("there is no store yet".into());
    }
    let store = super::open(config)?;
    let found = store.queries().verify().await.map_err(|error| {
        format!(
            "{error}; move {} away and restore a dump with `mediamill restore`",
            config.store.data_dir.display()
        )
    })?;
    let faulty = thumbnails::faulty(config, &found.thumbnails);
    if found.fault_count > 0 {
        return Err(format!(
            "the store has {} inconsistencies; unless a truncated dump was restored here, this is a fault of \
             mediamill: \
             keep a dump and report it: {}",
            found.fault_count,
            found.faults.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join("; ")
        ));
    }
    if !faulty.is_empty() {
        let named = faulty.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>().join(", ");
        return Err(format!(
            "{} thumbnails are missing or damaged in {}; process the pictures again, which makes them ({named}…)",
            faulty.len(),
            config.store.data_dir.display()
        ));
    }
    Ok(sound(&found))
}

fn sound(found: &Verification) -> String {
    let uploads: Vec<_> = found.uploads.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let uploads = if uploads.is_empty() { "no uploads".into() } else { uploads.join(", ") };
    format!("{} batches; {uploads}; {} events; everything is consistent", found.batches, found.events)
}

/// Checks servers and models, and makes a timed trial if all are ready.
async fn provider(config: &Config, findings: &mut Findings) {
    let provider = match pipeline::connect(config) {
        Ok(provider) => provider,
        Err(error) => return findings.line("provider", Err(error.to_string())),
    };
    let kind = provider.identity().provider;
    let Ok(report) = tokio::time::timeout(PATIENCE, provider.report()).await else {
        let sentence =
            format!("{kind} did not answer within {} s; check whether its server hangs", PATIENCE.as_secs());
        return findings.line("provider", Err(sentence));
    };
    let notice = provider.profile().notice.map_or_else(String::new, |it| format!(". {it}"));
    findings.line("provider", Ok(format!("{kind} is configured{notice}")));
    for server in &report.servers {
        let version = server.version.as_deref().unwrap_or("version unknown");
        let found = format!("{} answers ({version})", server.address);
        findings.line("server", server.problem.clone().map_or(Ok(found), Err));
    }
    for model in &report.models {
        findings.line("model", model.problem.clone().map_or_else(|| Ok(described(model)), Err));
    }
    if report.is_ready() {
        findings.line("trial", trial(provider.as_ref(), config).await);
    }
}

fn described(model: &ModelReport) -> String {
    let role = match model.role {
        Role::Vision => "describes",
        Role::Embedding => "embeds",
    };
    let mut sentence = format!("{} {role}", model.name);
    if model.installed == Some(false) {
        sentence.push_str(", but its server does not list it; the trial shows whether it exists");
    }
    let facts = [
        model.dimensions.map(|it| format!("{it} dimensions")),
        model.size_bytes.map(|it| format!("{} MiB", it >> 20)),
        model.capabilities.as_ref().map(|it| it.join(", ")),
        model.digest.as_ref().map(|it| it.chars().take(19).collect()),
    ];
    for fact in facts.into_iter().flatten() {
        sentence.push_str(", ");
        sentence.push_str(&fact);
    }
    sentence
}

/// Describes a drawing, and embeds the description.
async fn trial(provider: &dyn Provider, config: &Config) -> Result<String, String> {
    let patience = config.provider.first_request_timeout;
    let late = |what: &str| format!("a trial {what} took longer than {} s", patience.as_secs());
    let started = Instant::now();
    let described = tokio::time::timeout(patience, provider.describe(Arc::new(analysis::trial())))
        .await
        .map_err(|_| late("description"))?
        .map_err(|error| format!("a trial description failed: {}", error.message()))?;
    let took = started.elapsed();
    tokio::time::timeout(patience, provider.embed(described.text.clone()))
        .await
        .map_err(|_| late("embedding"))?
        .map_err(|error| format!("a trial embedding failed: {}", error.message()))?;
    Ok(format!(
        "a drawing of a red disc was described in {} ms and embedded in {} ms: {}",
        took.as_millis(),
        (started.elapsed() - took).as_millis(),
        described.text.split_whitespace().collect::<Vec<_>>().join(" ")
    ))
}
