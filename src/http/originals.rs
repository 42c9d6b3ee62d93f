//! The files themselves: thumbnails and originals, whole or in ranges.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use actix_files::NamedFile;
use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    http::header::{self, Charset, ContentDisposition, DispositionParam, DispositionType, ExtendedValue},
    web::{Data, ServiceConfig},
};
use mediamill_actors::{
    files::OpenFile,
    id::UploadId,
    media::{Format, SNIFF_BYTES},
    query_service::GetUpload,
    upload::{FileKey, Thumbnail, Upload},
};

use super::{
    Inner,
    auth::Caller,
    error::Problem,
    openapi::{Missing, Ranges, Refusals, Standing},
    query::Id,
    readable,
};

/// What an id names never changes; whoever signs in as somebody else has another cookie or token.
const CACHED: &str = "private, max-age=86400, immutable";

pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(readable("/uploads/{id}/thumbnail", thumbnail))
        .service(readable("/uploads/{id}/original", original));
}

/// The thumbnail of an upload: a JPEG of at most 256 x 256 pixels.
#[utoipa::path(
    get,
    path = "/api/v1/uploads/{id}/thumbnail",
    tag = "uploads",
    operation_id = "get_thumbnail",
    params(("id" = String, Path, format = Uuid, description = "The upload")),
    responses(
        (status = 200, description = "The thumbnail", content_type = "image/jpeg", body = Vec<u8>),
        Ranges, Refusals, Missing
    )
)]
pub(super) async fn thumbnail(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<UploadId>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let upload = inner.query_service.send(GetUpload { owner: caller.owner, upload: id.0 }).await??;
    match &upload.thumbnail {
        Thumbnail::Pending => return Err(Problem::not_found("thumbnail yet")),
        Thumbnail::Failed(why) => {
            return Err(Problem::not_found(&format!("thumbnail, since it could not be made: {why}")));
        }
        Thumbnail::Made => {}
    }
    let opened = inner.files.open(&FileKey::thumbnail(upload.id)).await;
    let OpenFile { file, path, .. } = opened.map_err(|_| Problem::not_found("thumbnail any more"))?;
    send(file, path, Format::Jpeg, None, &request)
}

/// The bytes of an upload as they came in.
#[utoipa::path(
    get,
    path = "/api/v1/uploads/{id}/original",
    tag = "uploads",
    operation_id = "get_original",
    params(("id" = String, Path, format = Uuid, description = "The upload")),
    responses(
        (status = 200, description = "The file, with the media type that its bytes have", content((Vec<u8> = "image/*"), (Vec<u8> = "video/*"))),
        Ranges, Refusals, Missing, Standing
    )
)]
pub(super) async fn original(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<UploadId>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let upload = inner.query_service.send(GetUpload { owner: caller.owner, upload: id.0 }).await??;
    let opened = inner.files.open_original(&upload).await;
    let OpenFile { file, path, .. } =
        opened.map_err(|_| Problem::not_found("file any more where it was when it was submitted"))?;
    let file = same(file, &upload).await?;
    send(file, path, upload.format, Some(upload.file_name), &request)
}

async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    actix_rt::task::spawn_blocking(job).await.map_err(|_| Problem::internal("reading a file panicked"))
}

/// A file in place may be another one by now; what is plainly not what was submitted is not shown.
async fn same(file: File, upload: &Upload) -> Result<File, Problem> {
    let (length, format) = (upload.file_size, upload.format);
    let look = move || -> io::Result<Option<File>> {
        let mut head = Vec::with_capacity(SNIFF_BYTES);
        (&file).take(SNIFF_BYTES as u64).read_to_end(&mut head)?;
        let same = file.metadata()?.len() == length && Format::sniff(&head) == Some(format);
        Ok(same.then_some(file))
    };
    match blocking(look).await? {
        Ok(Some(file)) => Ok(file),
        Ok(None) => Err(Problem::conflict(format!(
            "{} changed since it was submitted; submit it again to see it",
            upload.file_name
        ))),
        Err(error) => Err(Problem::internal(format!("cannot read {}: {error}", upload.file_name))),
    }
}

fn send(
    file: File,
    path: PathBuf,
    format: Format,
    name: Option<String>,
    request: &HttpRequest,
) -> Result<HttpResponse, Problem> {
    let media_type = format.mime().parse().map_err(|_| Problem::internal("a media type makes no sense"))?;
    let parameters = name.into_iter().map(file_name).collect();
    let named = NamedFile::from_file(file, path)
        .map_err(|error| Problem::internal(format!("cannot read a file: {error}")))?
        .set_content_type(media_type)
        .set_content_disposition(ContentDisposition { disposition: DispositionType::Inline, parameters });
    let mut response = named.into_response(request);
    match response.status() {
        StatusCode::BAD_REQUEST => return Err(Problem::malformed("the header Range cannot be read")),
        StatusCode::PRECONDITION_FAILED => {
            return Err(Problem::precondition_failed(
                "the file is not as If-Match, If-Unmodified-Since or If-None-Match says; ask without them",
            ));
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let range = response.headers().get(header::CONTENT_RANGE).cloned();
            return Err(Problem::no_such_part(range));
        }
        _ => {}
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static(CACHED));
    headers.insert(header::VARY, header::HeaderValue::from_static("authorization, cookie"));
    Ok(response)
}

/// A name as a header can hold it.
fn file_name(name: String) -> DispositionParam {
    if name.is_ascii() {
        return DispositionParam::Filename(name);
    }
    let (charset, value) = (Charset::Ext("UTF-8".into()), name.into_bytes());
    DispositionParam::FilenameExt(ExtendedValue { charset, language_tag: None, value })
}
