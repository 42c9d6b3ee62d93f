//! Thumbnails and originals, whole or in ranges.

use std::{fs::File, path::Path};

use actix_files::NamedFile;
use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    http::header::{self, Charset, ContentDisposition, DispositionParam, DispositionType, ExtendedValue},
    web::Data,
};
use mediamill_actors::{id::UploadId, media::Format, query_service::GetUpload, text, upload::Thumbnail};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Schema,
        schema::{KnownFormat, SchemaFormat, Type},
    },
};

use super::{
    Inner,
    auth::Caller,
    contents,
    error::Problem,
    operations::{Operations, operation},
    query::Id,
    responses::{Conflicts, Missing, Ranges, Refusals},
};

/// The schema of bytes.
pub(super) struct Content;

impl PartialSchema for Content {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl ToSchema for Content {}

/// The content of an id never changes. Another owner's answer differs, so it varies with the credentials.
const CACHED: &str = "private, max-age=86400, immutable";

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(thumbnail)).with(operation!(original))
}

/// The thumbnail of an upload.
///
/// It is a JPEG of at most 256 x 256 pixels.
#[utoipa::path(
    get,
    path = "/uploads/{id}/thumbnail",
    tag = "uploads",
    operation_id = "get_thumbnail",
    params(Id<UploadId>),
    responses(
        (status = 200, description = "The thumbnail", content_type = "image/jpeg", body = inline(Content)),
        Ranges, Refusals, Missing
    )
)]
async fn thumbnail(
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
    send(contents::thumbnail(&inner, &upload).await?, Format::Jpeg, None, &request)
}

/// The original bytes of an upload.
#[utoipa::path(
    get,
    path = "/uploads/{id}/original",
    tag = "uploads",
    operation_id = "get_original",
    params(Id<UploadId>),
    responses(
        (
            status = 200,
            description = "The file, with the media type of its content",
            content((inline(Content) = "image/*"), (inline(Content) = "video/*"))
        ),
        Ranges, Refusals, Missing, Conflicts
    )
)]
async fn original(
    caller: Caller,
    inner: Data<Inner>,
    id: Id<UploadId>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let upload = inner.query_service.send(GetUpload { owner: caller.owner, upload: id.0 }).await??;
    let file = contents::original(&inner, &upload).await?;
    send(file, upload.format, Some(upload.file_name), &request)
}

fn send(
    file: File,
    format: Format,
    name: Option<String>,
    request: &HttpRequest,
) -> Result<HttpResponse, Problem> {
    let media_type = format.mime().parse().map_err(|_| Problem::internal("a media type is invalid"))?;
    let parameters = name.map(file_name).unwrap_or_default();
    // The path would give a name and a media type, which are set here instead.
    let named = NamedFile::from_file(file, Path::new("content"))
        .map_err(|error| Problem::internal(format!("cannot read a file: {error}")))?
        .set_content_type(media_type)
        .set_content_disposition(ContentDisposition { disposition: DispositionType::Inline, parameters });
    let mut response = named.into_response(request);
    match response.status() {
        StatusCode::BAD_REQUEST => return Err(Problem::malformed("the header Range cannot be read")),
        StatusCode::PRECONDITION_FAILED => {
            return Err(Problem::precondition_failed(
                "If-Match, If-Unmodified-Since or If-None-Match does not match the file; ask without them",
            ));
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let range = response.headers().get(header::CONTENT_RANGE).cloned();
            return Err(Problem::no_such_range(range));
        }
        _ => {}
    }
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static(CACHED));
    headers.insert(header::VARY, header::HeaderValue::from_static("authorization, cookie"));
    Ok(response)
}

/// The name of a file, encoded for a header (RFC 6266): in ASCII, and whole if it has other characters.
fn file_name(name: String) -> Vec<DispositionParam> {
    let name = text::one_line(&name).into_owned();
    if name.is_ascii() {
        return vec![DispositionParam::Filename(name)];
    }
    let ascii = name.chars().map(|it| if it.is_ascii() { it } else { '_' }).collect();
    let (charset, value) = (Charset::Ext("UTF-8".into()), name.into_bytes());
    let whole = ExtendedValue { charset, language_tag: None, value };
    vec![DispositionParam::Filename(ascii), DispositionParam::FilenameExt(whole)]
}
