//! A refusal of the engine as an HTTP response.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde_json::json;

use super::Error;

/// The body is `{"detail": …, "type": …}`: the sentence and [`Error::code`].
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::OverQuota { .. } | Self::DiskFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Self::QueueFull { .. } | Self::Stopping | Self::ProviderUnavailable(_) | Self::Store(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.retry_after_s() {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        response.json(json!({ "detail": self.to_string(), "type": self.code() }))
    }
}
