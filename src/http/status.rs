//! The status for clients: the caller, the provider, limits and formats. And signing in.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Json},
};
use mediamill_actors::{analysis::ProviderState, media, query_service::GetHealth, upload::Stage};
use serde::Serialize;
use strum::VariantArray as _;
use utoipa::ToSchema;

use super::{
    Inner,
    auth::{COOKIE, Caller, Tokens},
    error::Problem,
    no_content,
    operations::{Operations, operation},
    responses::Refusals,
};

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(status)).with(operation!(sign_in)).with(operation!(sign_out))
}

/// The status for a client.
#[derive(Debug, Serialize, ToSchema)]
struct Status {
    /// The owner who asks.
    user_id: String,
    /// Whether the owner is an administrator.
    administrator: bool,
    /// Whether browsers can sign in and out.
    sessions: bool,
    provider: Provider,
    /// Uploads of all owners that are waiting for a worker; for administrators.
    waiting_uploads: Option<usize>,
    /// Uploads of all owners that are in flight; for administrators.
    active_uploads: Option<usize>,
    limits: Limits,
    formats: Vec<Format>,
    stages: Vec<StageLabel>,
}

/// A stage of uploads.
#[derive(Debug, Serialize, ToSchema)]
struct StageLabel {
    stage: Stage,
    /// The stage in a word, for people.
    label: &'static str,
}

/// The provider.
#[derive(Debug, Serialize, ToSchema)]
struct Provider {
    /// `builtin`, `ollama` or `openai`.
    kind: String,
    vision_model: String,
    embedding_model: String,
    /// `starting`, `ready`, `away`, `gave_up` or `misconfigured`.
    state: &'static str,
    /// When it went away or was found misconfigured.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<String>,
    /// What happened, or how to fix it.
    message: Option<String>,
    /// A notice for readers of its descriptions.
    notice: Option<String>,
}

/// The limits of uploads.
#[derive(Debug, Serialize, ToSchema)]
struct Limits {
    /// Most files of a batch.
    max_batch_files: u32,
    /// Most bytes of a batch.
    max_batch_bytes: u64,
    /// Largest picture in bytes.
    max_file_bytes: u64,
    /// Largest video in bytes.
    max_video_bytes: u64,
}

/// A format of files.
#[derive(Debug, Serialize, ToSchema)]
struct Format {
    name: &'static str,
    mime_type: &'static str,
    /// Usual file extensions in lower case, without the dot.
    extensions: &'static [&'static str],
    /// Why this server refuses the format, if it does.
    missing: Option<String>,
}

/// The caller, the provider, limits and formats.
#[utoipa::path(
    get,
    path = "/status",
    tag = "operation",
    operation_id = "status",
    responses((status = 200, description = "The status", body = Status), Refusals)
)]
async fn status(caller: Caller, inner: Data<Inner>) -> Result<Json<Status>, Problem> {
    let health = inner.query_service.send(GetHealth).await?;
    let (since, message) = match &health.provider {
        ProviderState::Starting | ProviderState::Ready => (None, None),
        ProviderState::Away { since, message }
        | ProviderState::GaveUp { since, message }
        | ProviderState::Misconfigured { since, message } => (Some(since.to_string()), Some(message.clone())),
    };
    let limits = &inner.limits;
    let formats = media::capabilities().into_iter().map(|it| Format {
        name: it.format.name(),
        mime_type: it.format.mime(),
        extensions: it.format.extensions(),
        missing: it.missing.map(|missing| missing.to_string()),
    });
    Ok(Json(Status {
        user_id: caller.owner.to_string(),
        administrator: caller.administrator,
        sessions: inner.tokens.is_some(),
        provider: Provider {
            kind: health.identity.provider,
            vision_model: health.identity.vision_model,
            embedding_model: health.identity.embedding_model,
            state: health.provider.into(),
            since,
            message,
            notice: inner.notice.clone(),
        },
        waiting_uploads: caller.administrator.then_some(health.waiting),
        active_uploads: caller.administrator.then_some(health.active),
        limits: Limits {
            max_batch_files: limits.max_batch_files,
            max_batch_bytes: limits.max_batch_bytes,
            max_file_bytes: limits.max_file_bytes,
            max_video_bytes: limits.max_video_bytes,
        },
        formats: formats.collect(),
        stages: Stage::VARIANTS.iter().map(|it| StageLabel { stage: *it, label: it.label() }).collect(),
    }))
}

/// Signs a browser in.
///
/// The answer to a request with a token sets a session cookie, which pictures and event streams send too.
#[utoipa::path(
    post,
    path = "/session",
    tag = "operation",
    operation_id = "sign_in",
    responses((status = 204, description = "Signed in"), Refusals)
)]
async fn sign_in(_: Caller, inner: Data<Inner>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let cookie = match &inner.tokens {
        Some(tokens) => tokens.sign_in(&request)?,
        None => None,
    };
    let mut response = HttpResponse::NoContent();
    if let Some(cookie) = cookie {
        response.cookie(cookie);
    }
    Ok(response.finish())
}

/// Signs a browser out, which ends its session.
#[utoipa::path(
    delete,
    path = "/session",
    tag = "operation",
    operation_id = "sign_out",
    responses((status = 204, description = "Signed out"), Refusals)
)]
async fn sign_out(_: Caller, inner: Data<Inner>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let Some(tokens) = inner.tokens.clone() else { return Ok(no_content()) };
    if let Some(cookie) = request.cookie(COOKIE) {
        let end = move || tokens.end_session(cookie.value());
        let ended = actix_rt::task::spawn_blocking(end).await.map_err(std::io::Error::other);
        ended.and_then(|ended| ended).map_err(|error| {
            log::error!("a session that was ended works again after the next start: {error}");
            Problem::internal("the end of the session could not be kept; close the browser, and tell whoever runs this server")
        })?;
    }
    Ok(HttpResponse::NoContent().cookie(Tokens::sign_out(&request)).finish())
}
