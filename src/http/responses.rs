//! The refusals of operations, for the description of the API.
#![expect(dead_code, reason = "they describe answers")]

use utoipa::IntoResponses;

use super::error::Refusal;

/// Of every operation.
#[derive(IntoResponses)]
pub(super) enum Refusals {
    /// The caller is unknown
    #[response(status = 401)]
    Unauthorized(Refusal),
    /// The request comes from a page of another origin
    #[response(status = 403)]
    Foreign(Refusal),
    /// The owner sent too many requests
    #[response(status = 429)]
    TooMany(Refusal),
    /// Unavailable: the server is stopping, or the store failed
    #[response(status = 503)]
    Unavailable(Refusal),
}

/// Of operations with an id.
#[derive(IntoResponses)]
pub(super) enum Missing {
    /// The owner has no such resource
    #[response(status = 404)]
    Missing(Refusal),
}

/// Of operations with parameters.
#[derive(IntoResponses)]
pub(super) enum Checked {
    /// A parameter is invalid
    #[response(status = 422)]
    Invalid(Refusal),
}

/// Of operations that depend on the state of their resource.
#[derive(IntoResponses)]
pub(super) enum Conflicts {
    /// The state of the resource does not allow it
    #[response(status = 409)]
    Conflict(Refusal),
}

/// Of operations for administrators.
#[derive(IntoResponses)]
pub(super) enum Administrators {
    /// The caller is not an administrator, or the request comes from a page of another origin
    #[response(status = 403)]
    Forbidden(Refusal),
}

/// Of operations that need capacity.
#[derive(IntoResponses)]
pub(super) enum Full {
    /// Unavailable: the queue is full, the provider is away, or the server is stopping
    #[response(status = 503)]
    Unavailable(Refusal),
    /// The disk has too little free space
    #[response(status = 507)]
    DiskFull(Refusal),
}

/// Of operations with a body.
#[derive(IntoResponses)]
pub(super) enum Receives {
    /// The body cannot be read
    #[response(status = 400)]
    Malformed(Refusal),
    /// The body arrived too slowly
    #[response(status = 408)]
    TimedOut(Refusal),
    /// The body has more files or bytes than a batch may have
    #[response(status = 413)]
    TooLarge(Refusal),
    /// The body is not multipart/form-data, or is compressed
    #[response(status = 415)]
    Unsupported(Refusal),
    /// The body has no file
    #[response(status = 422)]
    Invalid(Refusal),
}

/// Of resumable uploads.
#[derive(IntoResponses)]
pub(super) enum Resumes {
    /// A header is missing or cannot be read, or the body ended early
    #[response(status = 400)]
    Malformed(Refusal),
    /// The body arrived too slowly
    #[response(status = 408)]
    TimedOut(Refusal),
    /// `Tus-Resumable` is missing, or another version
    #[response(status = 412)]
    Version(Refusal),
    /// The file is too large, or the body has more bytes than are missing
    #[response(status = 413)]
    TooLarge(Refusal),
    /// The body is not application/offset+octet-stream
    #[response(status = 415)]
    Unsupported(Refusal),
    /// The file is refused
    #[response(status = 422)]
    Invalid(Refusal),
    /// The bytes do not have their checksum
    #[response(status = 460)]
    Checksum(Refusal),
}

/// Of operations with ranges and preconditions.
#[derive(IntoResponses)]
pub(super) enum Ranges {
    /// The requested range
    #[response(status = 206)]
    Part,
    /// The content has not changed
    #[response(status = 304)]
    Unchanged,
    /// A header cannot be read
    #[response(status = 400)]
    Malformed(Refusal),
    /// A precondition is not met
    #[response(status = 412)]
    Precondition(Refusal),
    /// The range lies outside of the content
    #[response(status = 416)]
    NoSuchRange(Refusal),
}
