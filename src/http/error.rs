//! Refused requests: a status, a code for programs and a sentence for people.

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

/// The body of every refusal.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Refusal {
    /// What happened, to what, and how to fix it.
    detail: String,
    /// The sort of refusal, for programs.
    #[serde(rename = "type")]
    #[schema(example = "not_found")]
    kind: &'static str,
    /// Address of the page on which a person signs in, if the caller is unknown and there is such a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    sign_in: Option<String>,
}

/// A refused request, as the API answers it: JSON with `detail` and `type`.
///
/// A host's own handlers can return it too: `?` converts the errors of the engine and of its mailboxes.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    sign_in: Option<String>,
    /// Seconds after which a retry may succeed.
    retry_after: Option<u64>,
    /// A further header: the methods of the resource, or the length of its content.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), sign_in: None, retry_after: None, header: None }
    }

    /// 400: the request cannot be read.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 401: the caller is unknown. `sign_in` is the address of the page on which a person signs in.
    pub(crate) fn unauthorized(detail: impl Into<String>, sign_in: Option<&str>) -> Self {
        let problem = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        Self { sign_in: sign_in.map(str::to_owned), ..problem }
    }

    /// 403: the caller lacks permission.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: the resource does not exist, or belongs to another owner.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
    }

    /// 405: the resource does not have this method.
    pub(crate) fn method_not_allowed(allow: Option<HeaderValue>) -> Self {
        let methods = allow.as_ref().and_then(|it| it.to_str().ok()).unwrap_or("other methods");
        let detail = format!("this resource takes {methods} only");
        let header = allow.map(|allow| Box::new((header::ALLOW, allow)));
        Self { header, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail) }
    }

    /// 408: the body arrived too slowly.
    pub(crate) fn timed_out(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timed_out", detail)
    }

    /// 409: the state of the resource does not allow the operation.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    /// 460: the bytes do not have the checksum that their sender gave.
    pub(crate) fn checksum_mismatch(detail: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(status, "checksum_mismatch", detail)
    }

    /// 412: a precondition is not met.
    pub(crate) fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail)
    }

    /// 413: the body exceeds a limit.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 415: the media type of the body is not supported.
    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 416: the range lies outside of the content, whose length is in `range`.
    pub(crate) fn no_such_range(range: Option<HeaderValue>) -> Self {
        let header = range.map(|range| Box::new((header::CONTENT_RANGE, range)));
        let detail = "the file does not have this range; Content-Range holds its length in bytes";
        Self { header, ..Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "no_such_part", detail) }
    }

    /// 422: a value is invalid.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
    }

    /// 429: the owner exceeds a limit; `retry_after` in seconds.
    pub(crate) fn too_many(detail: impl Into<String>, retry_after: u64) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail);
        Self { retry_after: Some(retry_after.max(1)), ..problem }
    }

    /// 503: unavailable for now; `retry_after` in seconds.
    pub(crate) fn unavailable(kind: &'static str, detail: impl Into<String>, retry_after: u64) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail);
        Self { retry_after: Some(retry_after), ..problem }
    }

    /// 503: all places for requests that upload files are taken, or the place of this one was.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self::unavailable("busy", detail, 2)
    }

    /// 500: a fault of the server.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

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
        let (detail, sign_in) = (self.detail.clone(), self.sign_in.clone());
        response.json(Refusal { detail, kind: self.kind, sign_in })
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let retry_after = error.retry_after_s();
        Self { retry_after, ..Self::new(error.status_code(), error.code(), error.to_string()) }
    }
}

/// An actor that is gone: the engine has stopped, or is stopping.
impl From<MailboxError> for Problem {
    fn from(error: MailboxError) -> Self {
        Error::from(error).into()
    }
}
