//! Resumable uploads by the protocol tus 1.0, with its extensions creation, termination, checksum and
//! expiration.
//!
//! The file is created with its length, its bytes follow in any number of requests, and after a broken
//! connection the client asks how many have arrived. A complete file becomes a batch of its own, or waits for
//! a submission that names it.

mod headers;
mod reception;

use std::time::{Duration, SystemTime};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    http::header::{self, HeaderName, HeaderValue},
    web::{Data, Json, Payload},
};
use mediamill_actors::{
    error::Error,
    id::{BatchId, Owner, UploadId},
    intake::resumable::Resumable,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

pub(super) use self::reception::follow;
use self::{
    headers::{ALGORITHMS, Checksum, Wishes, number},
    reception::{receive, submit},
};
use super::{
    Inner,
    auth::Caller,
    error::Problem,
    operations::{Operations, operation},
    query::Id,
    responses::{Conflicts, Full, Missing, Refusals, Resumes},
    views::mount,
};

const VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,termination,checksum,expiration";
const CONTENT_TYPE: &str = "application/offset+octet-stream";

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// Headers that pages of other origins may send.
pub(crate) const REQUEST_HEADERS: [&str; 6] = [
    "tus-resumable",
    "upload-length",
    "upload-offset",
    "upload-metadata",
    "upload-checksum",
    "x-http-method-override",
];
/// Headers that pages of other origins may read.
pub(crate) const ANSWER_HEADERS: [&str; 10] = [
    "location",
    "retry-after",
    "tus-resumable",
    "tus-version",
    "tus-extension",
    "tus-max-size",
    "upload-expires",
    "upload-length",
    "upload-metadata",
    "upload-offset",
];

pub(super) fn operations() -> Operations {
    Operations::default()
        .with(operation!(options))
        .with(operation!(create))
        .with(operation!(offset))
        .with(operation!(show).without_head())
        .with(operation!(append))
        .with(operation!(delete))
        .with(operation!(instead))
}

/// The state of a resumable upload.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResumableUpload)]
struct ResumableView {
    /// Its id, which is that of the later upload.
    id: UploadId,
    /// Name of the file without folders.
    filename: String,
    /// Length of the file in bytes.
    length: u64,
    /// Bytes that have arrived.
    offset: u64,
    /// Whether it waits for a submission that names it.
    waits: bool,
    /// Its batch, once it was submitted.
    batch_id: Option<BatchId>,
    /// When it was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    /// When it is removed, unless more bytes arrive.
    #[schema(value_type = String, format = DateTime)]
    expires_at: String,
}

impl From<Resumable> for ResumableView {
    fn from(it: Resumable) -> Self {
        let Resumable { id, owner: _, file_name, length, offset, waits, metadata: _, .. } = it;
        Self {
            id,
            filename: file_name,
            length,
            offset,
            waits,
            batch_id: it.batch_id,
            created_at: it.created_at.to_string(),
            expires_at: it.expires_at.to_string(),
        }
    }
}

/// The header of all requests but OPTIONS.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes headers")]
struct Protocol {
    /// The version of the protocol
    #[param(rename = "Tus-Resumable", pattern = "^1\\.0\\.0$")]
    version: String,
}

/// The headers of a creation.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes headers")]
struct Creation {
    /// Length of the file in bytes
    #[param(rename = "Upload-Length", minimum = 1)]
    length: i64,
    /// Pairs of a key and a value in Base64, separated by commas. `filename` is the name of the file; `batch`
    /// with the value `later` has the upload wait for a submission that names it
    #[param(rename = "Upload-Metadata", max_length = 4096)]
    metadata: Option<String>,
}

/// The headers of bytes.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes headers")]
struct Addition {
    /// Bytes that have arrived
    #[param(rename = "Upload-Offset", minimum = 0)]
    offset: i64,
    /// `sha1` or `sha256`, a space, and the checksum of the body in Base64
    #[param(rename = "Upload-Checksum")]
    checksum: Option<String>,
}

/// Tells what the protocol can do here.
#[utoipa::path(
    options,
    path = "/uploads/resumable",
    tag = "resumable uploads",
    operation_id = "resumable_options",
    responses((status = 204, description = "The headers tell it"), Refusals)
)]
async fn options(inner: Data<Inner>) -> HttpResponse {
    let max = inner.max_resumable().to_string();
    tus(Ok(HttpResponse::NoContent()
        .insert_header(("tus-extension", EXTENSIONS))
        .insert_header(("tus-max-size", max))
        .insert_header(("tus-checksum-algorithm", ALGORITHMS))
        .finish()))
}

/// Begins a resumable upload.
///
/// `Location` of the answer is the address for its bytes.
#[utoipa::path(
    post,
    path = "/uploads/resumable",
    tag = "resumable uploads",
    operation_id = "create_resumable_upload",
    params(Protocol, Creation),
    responses(
        (
            status = 201,
            description = "Begun",
            headers(
                ("Location" = String, description = "Address for the bytes"),
                ("Upload-Expires" = String, description = "When it is removed, unless bytes arrive")
            )
        ),
        Refusals, Resumes, Full
    )
)]
async fn create(caller: Caller, inner: Data<Inner>, request: HttpRequest) -> HttpResponse {
    tus(begin(&inner, caller.owner, &request).await)
}

async fn begin(inner: &Inner, owner: Owner, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    check_version(request)?;
    if *inner.stopping.borrow() {
        return Err(Error::Stopping.into());
    }
    let length = number(request, &LENGTH)?.ok_or_else(|| {
        Problem::malformed("Upload-Length is missing; it holds the length of the file in bytes")
    })?;
    if length > inner.max_resumable() {
        let max = inner.max_resumable();
        return Err(Problem::too_large(format!(
            "the file has {length} bytes, limits.max_file_bytes and limits.max_video_bytes allow at most {max}"
        )));
    }
    let metadata = request.headers().get(&METADATA).map_or("", |it| it.to_str().unwrap_or("\u{fffd}"));
    let wishes = Wishes::read(metadata)?;
    let resumables = inner.intake.resumables();
    let (count, bytes) = resumables.pending(&owner).await?;
    let (max_count, max_bytes) = (inner.limits.max_batch_files, inner.limits.max_batch_bytes);
    if count >= max_count as usize || bytes.saturating_add(length) > max_bytes {
        return Err(Problem::too_many(
            format!(
                "resumable uploads of one owner have at most {max_count} files (limits.max_batch_files) and \
                 {max_bytes} bytes (limits.max_batch_bytes) until they are submitted; finish or delete some"
            ),
            60,
        ));
    }
    let made = resumables.create(owner, &wishes.file_name, length, wishes.waits, metadata.to_owned()).await?;
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, format!("{}/v1/uploads/resumable/{}", mount(request), made.id)))
        .insert_header((EXPIRES, expires(&made)))
        .finish())
}

/// Tells how many bytes of a resumable upload have arrived.
#[utoipa::path(
    head,
    path = "/uploads/resumable/{id}",
    tag = "resumable uploads",
    operation_id = "resumable_upload_offset",
    params(Id<UploadId>, Protocol),
    responses(
        (
            status = 200,
            description = "`Upload-Offset` tells it",
            headers(
                ("Upload-Offset" = i64, description = "Bytes that have arrived"),
                ("Upload-Length" = i64, description = "Length of the file in bytes")
            )
        ),
        // The answer to HEAD has no body.
        (status = 401, description = "The caller is unknown"),
        (status = 403, description = "The request comes from a page of another origin"),
        (status = 404, description = "The owner has no such upload, or it has expired"),
        (status = 412, description = "`Tus-Resumable` is missing, or another version"),
        (status = 429, description = "The owner sent too many requests"),
        (status = 503, description = "Unavailable: the server is stopping, or the store failed")
    )
)]
async fn offset(caller: Caller, inner: Data<Inner>, id: Id<UploadId>, request: HttpRequest) -> HttpResponse {
    let found = async {
        check_version(&request)?;
        Ok::<_, Problem>(inner.intake.resumables().get(&caller.owner, id.0).await?)
    };
    tus(found.await.map(|it| {
        let mut response = progress(HttpResponse::Ok(), &it);
        response.insert_header((LENGTH, it.length.to_string()));
        if !it.metadata.is_empty() {
            response.insert_header((METADATA, it.metadata));
        }
        response.finish()
    }))
}

/// The state of a resumable upload.
#[utoipa::path(
    get,
    path = "/uploads/resumable/{id}",
    tag = "resumable uploads",
    operation_id = "get_resumable_upload",
    params(Id<UploadId>),
    responses((status = 200, description = "The state", body = ResumableView), Refusals, Missing)
)]
async fn show(caller: Caller, inner: Data<Inner>, id: Id<UploadId>) -> Result<Json<ResumableView>, Problem> {
    Ok(Json(inner.intake.resumables().get(&caller.owner, id.0).await?.into()))
}

/// Adds bytes to a resumable upload.
///
/// The bytes that arrived before a broken connection are kept, except with a checksum. The answer to the last
/// ones comes when the file was submitted, unless it waits.
#[utoipa::path(
    patch,
    path = "/uploads/resumable/{id}",
    tag = "resumable uploads",
    operation_id = "append_to_resumable_upload",
    params(Id<UploadId>, Protocol, Addition),
    request_body(content = inline(super::originals::Content), content_type = "application/offset+octet-stream"),
    responses(
        (
            status = 204,
            description = "They have arrived",
            headers(("Upload-Offset" = i64, description = "Bytes that have arrived"))
        ),
        Refusals, Missing, Conflicts, Resumes, Full
    )
)]
async fn append(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<UploadId>,
    request: HttpRequest,
    body: Payload,
) -> HttpResponse {
    tus(add(inner, caller.owner, id.0, &request, body).await)
}

/// Removes a resumable upload that was not submitted.
#[utoipa::path(
    delete,
    path = "/uploads/resumable/{id}",
    tag = "resumable uploads",
    operation_id = "delete_resumable_upload",
    params(Id<UploadId>, Protocol),
    responses((status = 204, description = "Done"), Refusals, Missing, Resumes)
)]
async fn delete(caller: Caller, inner: Data<Inner>, id: Id<UploadId>, request: HttpRequest) -> HttpResponse {
    tus(remove(&inner, caller.owner, id.0, &request).await)
}

/// Stands for PATCH or DELETE, for clients that have only POST.
#[utoipa::path(
    post,
    path = "/uploads/resumable/{id}",
    tag = "resumable uploads",
    operation_id = "resumable_upload_override",
    params(
        Id<UploadId>, Protocol,
        (
            "X-HTTP-Method-Override" = String, Header, pattern = "^(PATCH|DELETE)$",
            description = "`PATCH` or `DELETE`"
        )
    ),
    responses((status = 204, description = "As of that method"), Refusals, Missing, Conflicts, Resumes, Full)
)]
async fn instead(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<UploadId>,
    request: HttpRequest,
    body: Payload,
) -> HttpResponse {
    let method = request.headers().get(&OVERRIDE).map(HeaderValue::as_bytes);
    tus(match method {
        Some(b"PATCH") => add(inner, caller.owner, id.0, &request, body).await,
        Some(b"DELETE") => remove(&inner, caller.owner, id.0, &request).await,
        _ => Err(Problem::malformed("X-HTTP-Method-Override must be PATCH or DELETE")),
    })
}

async fn remove(
    inner: &Inner,
    owner: Owner,
    id: UploadId,
    request: &HttpRequest,
) -> Result<HttpResponse, Problem> {
    check_version(request)?;
    inner.intake.resumables().delete(&owner, id).await?;
    Ok(super::no_content())
}

async fn add(
    inner: Data<Inner>,
    owner: Owner,
    id: UploadId,
    request: &HttpRequest,
    body: Payload,
) -> Result<HttpResponse, Problem> {
    check_version(request)?;
    let given = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if given != Some(CONTENT_TYPE.as_bytes()) {
        return Err(Problem::unsupported(format!("the body must be {CONTENT_TYPE}")));
    }
    let offset = number(request, &OFFSET)?.ok_or_else(|| {
        Problem::malformed("Upload-Offset is missing; it holds the bytes that have arrived")
    })?;
    let checksum = request.headers().get(&CHECKSUM).map(Checksum::read).transpose()?;
    let place = inner.begin_receiving(&owner)?;
    let appending = inner.intake.resumables().append(&owner, id, offset).await?;
    // The task goes on when the connection breaks and drops this handler, so that the bytes are kept.
    let task = actix_rt::spawn(async move {
        let added = receive(&inner, appending, body, &place, checksum).await?;
        if added.is_complete() && !added.waits {
            submit(&inner, owner, id).await?;
        }
        Ok(added)
    });
    let added = task.await.map_err(|_| Problem::internal("adding the bytes panicked"))?;
    added.map(|it| progress(HttpResponse::NoContent(), &it).finish())
}

impl Inner {
    /// Largest resumable upload in bytes.
    fn max_resumable(&self) -> u64 {
        self.intake.resumables().max_bytes().min(self.limits.max_batch_bytes)
    }
}

/// The answer with the headers of the protocol.
fn tus(answer: Result<HttpResponse, Problem>) -> HttpResponse {
    let mut response = answer.unwrap_or_else(|problem| problem.error_response());
    let headers = response.headers_mut();
    headers.insert(RESUMABLE, HeaderValue::from_static(VERSION));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("tus-version"), HeaderValue::from_static(VERSION));
    response
}

fn progress(mut response: actix_web::HttpResponseBuilder, it: &Resumable) -> actix_web::HttpResponseBuilder {
    response.insert_header((OFFSET, it.offset.to_string()));
    response.insert_header((EXPIRES, expires(it)));
    response
}

fn expires(it: &Resumable) -> header::HttpDate {
    let seconds = u64::try_from(it.expires_at.as_second()).unwrap_or_default();
    (SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).into()
}

fn check_version(request: &HttpRequest) -> Result<(), Problem> {
    match request.headers().get(&RESUMABLE).map(HeaderValue::as_bytes) {
        Some(version) if version == VERSION.as_bytes() => Ok(()),
        Some(_) | None => Err(Problem::precondition_failed(format!(
            "Tus-Resumable must be {VERSION}, the only version here"
        ))),
    }
}
