//! `mediamill check`: checks configuration, disk, store, provider and decoders, and says how to fix each
//! fault.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use console::Style;
use serde::Serialize;

use super::{
    Shared,
    place::Place,
    terminal::{counted, from_home, one_line},
    thumbnails,
};
use mediamill_actors::{
    analysis::{self, ModelReport, Provider, Role},
    config::Config,
    disk, media, pipeline, private,
    store::{Queries, Verification},
};

/// Longest wait for the report of a provider.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Most faults or missing thumbnails that are listed.
const MAX_LISTED: usize = 5;

/// The arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It resumes no work and, without --fix, changes nothing. A model server is asked for one trial description.

Exit codes: 0 no fault; 1 a fault.")]
pub(crate) struct Check {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Close the data folder, and all that is in it, to other users of this machine
    #[arg(long)]
    fix: bool,
}

/// The weight of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Mark {
    Ok,
    /// No fault, but something that a person may want to know.
    Note,
    Wrong,
}

#[derive(Debug, Serialize)]
struct Finding {
    mark: Mark,
    subject: String,
    text: String,
}

/// Prints the findings line by line as they come, or as one object in the end.
#[derive(Default)]
struct Findings {
    json: bool,
    all: Vec<Finding>,
}

impl Findings {
    fn line(&mut self, subject: &str, found: Result<String, String>) {
        match found {
            Ok(text) => self.add(Mark::Ok, subject, text),
            Err(text) => self.add(Mark::Wrong, subject, text),
        }
    }

    fn add(&mut self, mark: Mark, subject: &str, text: String) {
        let (word, style) = match mark {
            Mark::Ok => ("ok", Style::new().green()),
            Mark::Note => ("note", Style::new().yellow()),
            Mark::Wrong => ("wrong", Style::new().red().bold()),
        };
        if !self.json {
            // The output may have no reader any more.
            let word = style.apply_to(format!("{word:5}"));
            let _ = writeln!(io::stdout(), "{word} {subject}: {}", one_line(&text));
        }
        self.all.push(Finding { mark, subject: subject.to_owned(), text });
    }

    /// Prints the object, and returns the exit code.
    fn end(self) -> u8 {
        let is_sound = self.all.iter().all(|it| it.mark != Mark::Wrong);
        if self.json {
            let object = serde_json::json!({ "ok": is_sound, "findings": self.all });
            let _ = writeln!(io::stdout(), "{object}");
        }
        u8::from(!is_sound)
    }
}

impl Check {
    /// Runs all checks. Returns the exit code: 1 if there is a fault. `location` is the file of the
    /// configuration.
    pub(crate) async fn run(
        self,
        config: Result<mediamill::Config, String>,
        location: Option<PathBuf>,
        shared: &Shared,
    ) -> u8 {
        let mut findings = Findings { json: self.json, all: Vec::new() };
        let file = match location {
            Some(path) if path.exists() => format!("{} was read", from_home(&path)),
            Some(path) => format!("{} does not exist, so the defaults hold", from_home(&path)),
            None => "there is no home folder, so the defaults hold".to_owned(),
        };
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                findings.line("configuration", Err(error));
                return findings.end();
            }
        };
        findings.line("configuration", Ok(format!("{file}; all values are valid")));
        let engine = &config.engine;
        findings.line("data folder", data_folder(engine));
        findings.line("privacy", privacy(engine, self.fix));
        findings.line("disk", disk(engine));
        match shared.place(&config).await {
            Ok(Place::Holder(client, about)) => {
                let held = format!("process {} holds the data folder and answers", about.pid);
                findings.line("program", Ok(held));
                findings.line("store", client.get("local/check", &[]).await.and_then(|found| found));
            }
            Ok(_) => findings.line("store", store(engine).await),
            Err(error) => findings.line("store", Err(error)),
        }
        provider(engine, &mut findings).await;
        formats(&mut findings);
        findings.end()
    }
}

/// Formats that are decoded in one line, and refused ones in a line for each reason.
fn formats(findings: &mut Findings) {
    let (mut decoded, mut refused) = (Vec::new(), BTreeMap::<String, Vec<&str>>::new());
    for capability in media::capabilities() {
        match capability.missing {
            None => decoded.push(capability.format.name()),
            Some(missing) => refused.entry(missing.to_string()).or_default().push(capability.format.name()),
        }
    }
    findings.line("decoded", Ok(decoded.join(", ")));
    for (missing, formats) in refused {
        findings.add(Mark::Note, "refused", format!("{}: {missing}", formats.join(", ")));
    }
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
    verify(super::open(config)?.queries(), config).await
}

/// Checks an open store: whether it is sound, and a sentence.
///
/// # Errors
/// A sentence: it is not.
pub(super) async fn verify(queries: Queries, config: &Config) -> Result<String, String> {
    let found = queries.verify().await.map_err(|error| {
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
    let batches = counted(found.batches as usize, "batch", "batches");
    format!("{batches}; {uploads}; {} events; everything is consistent", found.events)
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
