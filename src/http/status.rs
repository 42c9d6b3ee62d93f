//! What a client needs to know before it begins: who it is, how the provider stands, what is taken. And signing in.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Json, ServiceConfig},
};
use mediamill_actors::{analysis::ProviderState, media, query_service::GetHealth};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Inner,
    auth::{Caller, Tokens},
    error::Problem,
    no_content,
    openapi::Refusals,
    readable,
};

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(readable("/status", status))
        .service(web::resource("/session").route(web::post().to(sign_in)).route(web::delete().to(sign_out)));
}

/// What a client needs to know.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// Who asks.
    user_id: String,
    /// Whether that is an administrator.
    administrator: bool,
    /// Whether one can sign in and out.
    sessions: bool,
    provider: Provider,
    /// Uploads of all owners that wait for a worker; for administrators.
    waiting_uploads: Option<usize>,
    /// Uploads of all owners that are worked on; for administrators.
    active_uploads: Option<usize>,
    limits: Limits,
    formats: Vec<Format>,
}

/// What describes and embeds.
#[derive(Debug, Serialize, ToSchema)]
struct Provider {
    /// `builtin`, `ollama` or `openai`.
    kind: String,
    vision_model: String,
    embedding_model: String,
    /// `starting`, `ready`, `away`, `gave_up` or `misconfigured`.
    state: &'static str,
    /// Since when it is away or misconfigured.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<String>,
    /// What happened, or what to do about it.
    message: Option<String>,
    /// What everybody should know who reads its descriptions.
    notice: Option<String>,
}

/// What is taken in.
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

/// A sort of file.
#[derive(Debug, Serialize, ToSchema)]
struct Format {
    name: &'static str,
    mime_type: &'static str,
    /// Why it is refused here, if it is.
    missing: Option<String>,
}

/// Tells a client who it is, how the provider stands and what is taken.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "operation",
    operation_id = "status",
    responses((status = 200, body = Status), Refusals)
)]
pub(super) async fn status(caller: Caller, inner: Data<Inner>) -> Result<Json<Status>, Problem> {
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
            state: provider_word(&health.provider),
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
    }))
}

/// Signs a browser in: the answer to a request with a token sets a cookie, which pictures and event streams send along.
#[utoipa::path(
    post,
    path = "/api/v1/session",
    tag = "operation",
    operation_id = "sign_in",
    responses((status = 204, description = "Signed in"), Refusals)
)]
pub(super) async fn sign_in(
    _: Caller,
    inner: Data<Inner>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
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

/// Signs a browser out.
#[utoipa::path(
    delete,
    path = "/api/v1/session",
    tag = "operation",
    operation_id = "sign_out",
    responses((status = 204, description = "Signed out"), Refusals)
)]
pub(super) async fn sign_out(_: Caller, inner: Data<Inner>, request: HttpRequest) -> HttpResponse {
    if inner.tokens.is_none() {
        return no_content();
    }
    HttpResponse::NoContent().cookie(Tokens::sign_out(&request)).finish()
}

/// How the provider stands, in a word.
pub(super) fn provider_word(state: &ProviderState) -> &'static str {
    match state {
        ProviderState::Starting => "starting",
        ProviderState::Ready => "ready",
        ProviderState::Away { .. } => "away",
        ProviderState::GaveUp { .. } => "gave_up",
        ProviderState::Misconfigured { .. } => "misconfigured",
    }
}
