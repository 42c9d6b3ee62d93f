//! The description of the API, made from the code.

use actix_web::{
    HttpRequest,
    web::{Json, ServiceConfig},
};
use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        self, RefOr, Schema,
        schema::{ObjectBuilder, Type},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    batches, dump, error::Refusal, events, health, messages, metrics, originals, readable, search, socket,
    status, uploads,
};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(readable("/openapi.json", describe));
}

/// For a host that put the API elsewhere.
pub(super) fn mounted(config: &mut ServiceConfig) {
    config.service(readable("/openapi.json", describe_mounted));
}

/// What everything may be refused with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "tells what answers look like")]
pub(super) enum Refusals {
    /// It is not known who asks
    #[response(status = 401)]
    Unauthorized(Refusal),
    /// The request comes from the page of another origin
    #[response(status = 403)]
    Foreign(Refusal),
    /// Too many requests of this owner
    #[response(status = 429)]
    TooMany(Refusal),
    /// Not now: the server is stopping, or the store failed
    #[response(status = 503)]
    Unavailable(Refusal),
}

/// For what an id names.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "tells what answers look like")]
pub(super) enum Missing {
    /// There is no such thing of this owner
    #[response(status = 404)]
    Missing(Refusal),
}

/// For what has parameters.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "tells what answers look like")]
pub(super) enum Checked {
    /// A value makes no sense
    #[response(status = 422)]
    Invalid(Refusal),
}

/// For what needs a certain state.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "tells what answers look like")]
pub(super) enum Standing {
    /// It does not stand so that this can be done
    #[response(status = 409)]
    Conflict(Refusal),
}

/// For what is for administrators.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "tells what answers look like")]
pub(super) enum Denied {
    /// This is for administrators, or comes from the page of another origin
    #[response(status = 403)]
    Forbidden(Refusal),
}

/// For what needs room.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "tells what answers look like")]
pub(super) enum Full {
    /// Not now: the queue is full, the provider is away, or the server is stopping
    #[response(status = 503)]
    Unavailable(Refusal),
    /// The disk has too little room
    #[response(status = 507)]
    DiskFull(Refusal),
}

/// For what takes a body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "tells what answers look like")]
pub(super) enum Receives {
    /// The body cannot be read
    #[response(status = 400)]
    Malformed(Refusal),
    /// The body came in too slowly
    #[response(status = 408)]
    TimedOut(Refusal),
    /// The body has more files or bytes than a batch may have
    #[response(status = 413)]
    TooLarge(Refusal),
    /// The body is no multipart/form-data
    #[response(status = 415)]
    Unsupported(Refusal),
    /// There is no file in the body
    #[response(status = 422)]
    Invalid(Refusal),
}

/// For what can be read in parts.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "tells what answers look like")]
pub(super) enum Ranges {
    /// The part that was asked for
    #[response(status = 206)]
    Part,
    /// Nothing changed
    #[response(status = 304)]
    Unchanged,
    /// A header cannot be read
    #[response(status = 400)]
    Malformed(Refusal),
    /// A precondition does not hold
    #[response(status = 412)]
    Precondition(Refusal),
    /// There is no such part
    #[response(status = 416)]
    NoSuchPart(Refusal),
}

#[derive(OpenApi)]
#[openapi(
    info(title = "mediamill", description = "Works through batches of pictures and videos: thumbnail, description, audit, embedding"),
    paths(
        uploads::create, uploads::show, uploads::delete, originals::thumbnail, originals::original,
        batches::list, batches::show, batches::uploads, batches::cancel, batches::pause, batches::resume, batches::retry,
        search::search, events::events, socket::open,
        status::status, status::sign_in, status::sign_out, dump::dump,
        health::alive, health::ready, metrics::metrics, describe
    ),
    components(schemas(messages::First, messages::Request, messages::Message)),
    security(("token" = []), ("session" = []), ()),
    modifiers(&Schemes)
)]
struct Api;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key or signed token of an owner"));
        components.add_security_scheme("token", SecurityScheme::Http(token.build()));
        let session = ApiKeyValue::with_description("mediamill_session", "Set by `POST /api/v1/session`");
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(session)));
        // Names of other fields stand in headers of the body, quoted.
        if let Some(RefOr::T(Schema::Object(files))) = components.schemas.get_mut("Files") {
            let plain =
                ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9_-]+$")).build();
            files.property_names = Some(Box::new(plain.into()));
        }
    }
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operation",
    operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object))
)]
pub(super) async fn describe() -> Json<openapi::OpenApi> {
    Json(Api::openapi())
}

/// The description of the API alone, as it is reached at the host's place.
async fn describe_mounted(request: HttpRequest) -> Json<openapi::OpenApi> {
    let mut api = Api::openapi();
    let paths = std::mem::take(&mut api.paths.paths).into_iter();
    api.paths.paths =
        paths.filter_map(|(path, item)| Some((path.strip_prefix("/api")?.to_owned(), item))).collect();
    let place = request.path().strip_suffix("/openapi.json").unwrap_or_default();
    api.servers = Some(vec![openapi::Server::new(if place.is_empty() { "/" } else { place })]);
    Json(api)
}

#[cfg(test)]
mod tests {
    use actix_web::{App, test, web};
    use serde_json::Value;

    use super::*;

    #[actix_rt::test]
    async fn a_host_is_told_where_it_put_the_api() {
        let app = App::new().service(web::scope("/photos").configure(mounted));
        let app = test::init_service(app).await;
        let request = test::TestRequest::get().uri("/photos/openapi.json").to_request();
        let api: Value = test::call_and_read_body_json(&app, request).await;
        assert_eq!(api["servers"][0]["url"], "/photos");
        let paths: Vec<_> = api["paths"].as_object().expect("paths").keys().cloned().collect();
        assert!(paths.contains(&"/v1/uploads/bulk".to_owned()) && paths.contains(&"/ws/uploads".to_owned()));
        assert!(paths.iter().all(|path| path.starts_with("/v1/") || path.starts_with("/ws/")), "{paths:?}");
        let schemas = api["components"]["schemas"].as_object().expect("schemas");
        for name in ["Message", "SocketAuth", "SocketRequest"] {
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
