//! Why a request is not done: a status, a word for programs and a sentence for people.

use std::fmt;

use actix::MailboxError;
use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use mediamill_actors::error::Error;
use serde::Serialize;
use utoipa::ToSchema;

/// What every refusal is answered with.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// What happened, to what, and what to do about it.
    detail: String,
    /// The sort of refusal, for programs.
    #[serde(rename = "type")]
    #[schema(example = "not_found")]
    kind: &'static str,
}

/// A refusal with its status.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    /// Seconds after which it may be tried again.
    retry_after: Option<u64>,
    /// What else the answer says: the methods that the resource has, or how long it is.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), retry_after: None, header: None }
    }

    /// 400: the request cannot be read.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 401: it is not known who asks.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    /// 403: whoever asks may not.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: there is no such thing, at least not of this owner.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    /// 405: the resource has other methods.
    pub(crate) fn method_not_allowed(allow: Option<HeaderValue>) -> Self {
        let methods = allow.as_ref().and_then(|it| it.to_str().ok()).unwrap_or("other methods");
        let detail = format!("this resource takes {methods} only");
        let header = allow.map(|allow| Box::new((header::ALLOW, allow)));
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail) }
    }

    /// 408: a body came in too slowly.
    pub(crate) fn timed_out(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timed_out", detail)
    }

    /// 409: it does not stand so that this can be done.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 412: what was asked for depends on something that is not so.
    pub(crate) fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail)
    }

    /// 413: more than may be.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 415: the body is of a sort that is not taken.
    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 416: there is no such part of it; `range` says how long it is.
    pub(crate) fn no_such_part(range: Option<HeaderValue>) -> Self {
        let header = range.map(|range| Box::new((header::CONTENT_RANGE, range)));
        let detail = "the file has no such part; Content-Range says how many bytes it has";
        Self { header, ..Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "no_such_part", detail) }
    }

    /// 422: a value makes no sense.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// 429: too much at once of this owner.
    pub(crate) fn too_many(detail: impl Into<String>, retry_after: u64) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail);
        Self { retry_after: Some(retry_after.max(1)), ..problem }
    }

    /// 503: not now.
    pub(crate) fn unavailable(kind: &'static str, detail: impl Into<String>, retry_after: u64) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail);
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// 500: our fault.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(seconds) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(header) = &self.header {
            response.insert_header((**header).clone());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        response.json(Refusal { detail: self.detail.clone(), kind: self.kind })
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::NotFound(what) => Self::not_found(what),
            Error::Conflict(_) => Self::conflict(detail),
            Error::Invalid(_) => Self::invalid(detail),
            Error::QueueFull { .. } => Self::unavailable("queue_full", detail, 30),
            Error::DiskFull { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", detail),
            Error::Stopping => Self::unavailable("stopping", detail, 10),
            Error::ProviderUnavailable(_) => Self::unavailable("provider_unavailable", detail, 10),
            Error::Store(_) => Self::unavailable("store_failed", detail, 30),
        }
    }
}

impl From<MailboxError> for Problem {
    fn from(_: MailboxError) -> Self {
        Self::from(Error::Stopping)
    }
}
