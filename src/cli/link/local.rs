//! The routes of the private socket alone: what only a program of the same user on this machine may ask.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Bytes, Data, Json, ServiceConfig},
};
use futures_util::{future::ready, stream};
use jiff::Timestamp;
use mediamill::{
    Answer, Authenticate, Caller, Config, Denied, Problem,
    engine::{
        config as engine,
        id::{BatchId, Owner, UploadId},
        pipeline::Pipeline,
        query_service::GetHealth,
        upload::Upload,
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::cli::{
    Interrupt, check,
    engine::Engine,
    process::{AHEAD, Event, Run, Task},
    raw_path::RawPath,
};

/// Number of the interface. Programs with different numbers do not speak to each other.
pub(in crate::cli) const PROTOCOL: u32 = 1;
/// Header with the owner whose uploads are meant, as hexadecimal digits of its UTF-8.
pub(in crate::cli) const OWNER: &str = "x-mediamill-owner";
/// Largest request in bytes.
const MAX_BODY: usize = 64 << 20;
/// Uploads that are read at once.
const PAGE: usize = 1000;

/// The command that holds a data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::cli) enum Role {
    Serve,
    Process,
    /// A command that only asks, for its own time.
    Command,
}

/// The program at the other end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::cli) struct About {
    pub(in crate::cli) protocol: u32,
    pub(in crate::cli) version: String,
    pub(in crate::cli) role: Role,
    pub(in crate::cli) pid: u32,
    pub(in crate::cli) since: Timestamp,
    /// Address of the page.
    pub(in crate::cli) address: Option<String>,
    /// `builtin`, `ollama` or `openai`.
    pub(in crate::cli) provider: String,
    /// The model that describes pictures.
    pub(in crate::cli) vision_model: Option<String>,
    /// Scores below this are hardly related to the words of a search.
    pub(in crate::cli) unrelated_below: Option<f32>,
    pub(in crate::cli) notice: Option<String>,
}

impl About {
    pub(in crate::cli) fn new(pipeline: &Pipeline, config: &Config, role: Role) -> Self {
        let profile = pipeline.provider_profile();
        Self {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role,
            pid: std::process::id(),
            since: Timestamp::now(),
            address: (role == Role::Serve).then(|| format!("http://{}/", config.server.listen)),
            provider: config.engine.provider.kind.name().to_owned(),
            vision_model: config.engine.provider.vision_model.clone(),
            unrelated_below: profile.unrelated_below,
            notice: profile.notice.clone(),
        }
    }
}

/// What a run is to work on.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct Wanted {
    /// Absolute paths; none: all unfinished uploads.
    pub(in crate::cli) paths: Vec<RawPath>,
    pub(in crate::cli) force: bool,
    /// Links that lead out of the folders are followed.
    pub(in crate::cli) follow: bool,
}

/// Uploads and batches whose places are asked for, or their places.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::cli) struct Places {
    /// Path of each upload in place.
    pub(in crate::cli) uploads: HashMap<UploadId, Option<RawPath>>,
    /// Folder that holds the first uploads of each batch, if they are in place.
    pub(in crate::cli) batches: HashMap<BatchId, Option<RawPath>>,
}

/// What waits, and where.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct Situation {
    /// Why nothing is described now, or that something is.
    pub(in crate::cli) provider: Option<String>,
    pub(in crate::cli) is_starting: bool,
    pub(in crate::cli) active: usize,
    pub(in crate::cli) completed: u32,
    pub(in crate::cli) failed: u32,
    pub(in crate::cli) needs_review: u32,
    /// Unfinished uploads by folder; without one, those whose bytes were uploaded.
    pub(in crate::cli) waits: Vec<Waits>,
}

/// Unfinished uploads of one folder.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::cli) struct Waits {
    pub(in crate::cli) folder: Option<RawPath>,
    pub(in crate::cli) owner: String,
    pub(in crate::cli) uploads: usize,
    /// Those of paused batches.
    pub(in crate::cli) paused: usize,
}

/// Whoever may connect to the socket is the owner whom the request names, and an administrator.
pub(super) struct Local;

impl Authenticate for Local {
    fn caller<'a>(&'a self, request: &'a HttpRequest) -> Answer<'a> {
        let owner = owner(request).map_err(Denied::Refused);
        Box::pin(ready(owner.map(|owner| Caller { owner, administrator: true, until: None })))
    }
}

/// The owner whom a request names.
fn owner(request: &HttpRequest) -> Result<Owner, String> {
    let Some(name) = request.headers().get(OWNER) else { return Ok(Owner::local()) };
    let name = base16ct::lower::decode_vec(name.as_bytes()).ok().and_then(|it| String::from_utf8(it).ok());
    let name = name.ok_or_else(|| format!("the header {OWNER} must hold hexadecimal digits"))?;
    Owner::new(name).map_err(|error| error.to_string())
}

fn owner_of(request: &HttpRequest) -> Result<Owner, Problem> {
    owner(request).map_err(|error| Denied::Refused(error).into())
}

/// What the routes need.
struct Here {
    engine: Engine,
    about: About,
    config: engine::Config,
    /// Number of runs of other commands.
    guests: watch::Sender<usize>,
}

pub(super) fn routes(
    engine: Engine,
    about: About,
    config: engine::Config,
    guests: watch::Sender<usize>,
) -> impl FnOnce(&mut ServiceConfig) {
    move |app| {
        app.service(
            web::scope("/local")
                .app_data(Data::new(Here { engine, about, config, guests }))
                .app_data(web::JsonConfig::default().limit(MAX_BODY))
                .route("/about", web::get().to(about_this))
                .route("/status", web::get().to(status))
                .route("/check", web::get().to(check_store))
                .route("/places", web::post().to(places))
                .route("/process", web::post().to(process)),
        );
    }
}

async fn about_this(here: Data<Here>) -> Json<About> {
    Json(here.about.clone())
}

/// Runs `process` or `resume`, and streams its events as one JSON object per line. If the client leaves, the
/// files are submitted all the same.
async fn process(
    here: Data<Here>,
    wanted: Json<Wanted>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let (reader, events) = mpsc::channel(AHEAD);
    let Wanted { paths, force, follow } = wanted.into_inner();
    let roots = paths.into_iter().map(|RawPath(path)| path).collect();
    let task = Task { owner: owner_of(&request)?, roots, force, follow, is_guest: true };
    let mut run = Run::new(here.engine.clone(), task, reader.clone());
    let guest = Guest::arrives(&here.guests);
    actix_rt::spawn(async move {
        let end = run.work(Interrupt::never()).await;
        for event in run.close(end, 0).await {
            if reader.send(event).await.is_err() {
                break;
            }
        }
        drop(guest);
    });
    let lines = stream::unfold(events, |mut events: mpsc::Receiver<Event>| async move {
        let event = events.recv().await?;
        let line = serde_json::to_vec(&event).map(|mut line| {
            line.push(b'\n');
            Bytes::from(line)
        });
        Some((line, events))
    });
    Ok(HttpResponse::Ok().content_type("application/x-ndjson").streaming(lines))
}

/// A run of another command, counted while it lasts.
struct Guest(watch::Sender<usize>);

impl Guest {
    fn arrives(guests: &watch::Sender<usize>) -> Self {
        guests.send_modify(|count| *count += 1);
        Self(guests.clone())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

async fn places(
    here: Data<Here>,
    asked: Json<Places>,
    request: HttpRequest,
) -> Result<Json<Places>, Problem> {
    let (owner, queries) = (owner_of(&request)?, &here.engine.queries);
    let Places { mut uploads, mut batches } = asked.into_inner();
    for (id, place) in &mut uploads {
        // One that was deleted meanwhile has no place.
        if let Ok(upload) = queries.upload(owner.clone(), *id).await {
            *place = upload.place().map(|path| RawPath(path.to_owned()));
        }
    }
    for (id, folder) in &mut batches {
        if let Ok(uploads) = queries.uploads(owner.clone(), *id, 0, PAGE).await {
            *folder = common(&uploads).map(RawPath);
        }
    }
    Ok(Json(Places { uploads, batches }))
}

/// The deepest folder that holds all uploads in place.
fn common(uploads: &[Upload]) -> Option<PathBuf> {
    let mut folders = uploads.iter().filter_map(Upload::place).filter_map(Path::parent);
    let first = folders.next()?.to_owned();
    folders.try_fold(first, |common, folder| {
        common.ancestors().find(|ancestor| folder.starts_with(ancestor)).map(Path::to_owned)
    })
}

async fn status(here: Data<Here>, request: HttpRequest) -> Result<Json<Situation>, Problem> {
    let Engine { queries, query_service, provider, .. } = &here.engine;
    let health = query_service.send(GetHealth).await?;
    let totals = queries.totals().await?;
    let state = provider.borrow().clone();
    // Paused uploads are in the scope of no run, so batches are read instead of the queue.
    let owner = owner_of(&request)?;
    let mut waits = BTreeMap::<Option<RawPath>, (usize, usize)>::new();
    let mut offset = 0;
    loop {
        let batches = queries.batches(owner.clone(), offset, PAGE).await?;
        offset += batches.len();
        if batches.is_empty() {
            break;
        }
        for batch in batches.into_iter().filter(|batch| batch.counts.unfinished() > 0) {
            let mut read = 0;
            loop {
                let uploads = queries.uploads(owner.clone(), batch.id, read, PAGE).await?;
                read += uploads.len();
                for upload in uploads.iter().filter(|upload| !upload.status.is_terminal()) {
                    let folder = upload.place().and_then(Path::parent).map(|path| RawPath(path.to_owned()));
                    let (count, paused) = waits.entry(folder).or_default();
                    *count += 1;
                    *paused += usize::from(batch.paused_at.is_some());
                }
                if uploads.len() < PAGE {
                    break;
                }
            }
        }
    }
    let owner = owner.to_string();
    let waits = waits.into_iter().map(|(folder, (uploads, paused))| Waits {
        folder,
        owner: owner.clone(),
        uploads,
        paused,
    });
    Ok(Json(Situation {
        provider: state.waiting().or_else(|| state.gave_up()),
        is_starting: matches!(state, mediamill::engine::analysis::ProviderState::Starting),
        active: health.active,
        completed: totals.completed,
        failed: totals.failed,
        needs_review: totals.needs_review,
        waits: waits.collect(),
    }))
}

/// What `check` finds out about the store: whether it is sound, and a sentence.
async fn check_store(here: Data<Here>) -> Json<Result<String, String>> {
    // A large store takes a while, and the client waits for as long.
    let verified = check::verify(here.engine.queries.clone(), &here.config);
    Json(
        tokio::time::timeout(Duration::from_secs(3600), verified)
            .await
            .unwrap_or_else(|_| Err("the store was not checked within an hour".to_owned())),
    )
}
