//! The description of the API, collected from its operations.

use actix_web::{
    HttpRequest,
    web::{self, Json, ServiceConfig},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, RefOr, Schema,
        schema::{ObjectBuilder, Type},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    auth::COOKIE,
    operations::{Operations, operation},
    socket,
};

/// Path of the description.
const PATH: &str = "/openapi.json";

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(describe))
}

/// The description for a host that has the API, and nothing else, in a scope of its own.
pub(super) fn mounted(config: &mut ServiceConfig) {
    let description =
        web::resource(PATH).route(web::get().to(describe_mounted)).route(web::head().to(describe_mounted));
    config.service(description);
}

/// The description without its operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "mediamill",
        description = "Processes batches of pictures and videos: thumbnail, description, audit, embedding"
    ),
    components(schemas(socket::SocketAuth, socket::SocketRequest, mediamill_actors::wire::Message)),
    security(("token" = []), ("session" = []), ()),
    modifiers(&Schemes)
)]
struct Base;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, api: &mut openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key or signed token of an owner"));
        components.add_security_scheme("token", SecurityScheme::Http(token.build()));
        let session = ApiKeyValue::with_description(COOKIE, "Set by `POST /v1/session`");
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(session)));
    }
}

fn described(collect: impl FnOnce(&mut openapi::OpenApi)) -> openapi::OpenApi {
    let mut api = Base::openapi();
    collect(&mut api);
    // The names of other fields are quoted in the headers of a multipart body.
    if let Some(RefOr::T(Schema::Object(files))) =
        api.components.get_or_insert_default().schemas.get_mut("Files")
    {
        let plain = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9_-]+$")).build();
        files.property_names = Some(Box::new(plain.into()));
    }
    api
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operation",
    operation_id = "openapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object))
)]
async fn describe() -> Json<openapi::OpenApi> {
    Json(described(super::describe_site))
}

/// The description of the API alone, below the host's scope.
async fn describe_mounted(request: HttpRequest) -> Json<openapi::OpenApi> {
    let mut api = described(|api| super::describe_api("", api));
    let scope = request.path().strip_suffix(PATH).unwrap_or_default();
    api.servers = Some(vec![openapi::Server::new(if scope.is_empty() { "/" } else { scope })]);
    Json(api)
}

#[cfg(test)]
mod tests {
    use actix_web::{App, test, web};
    use mediamill_actors::upload::{Stage, Status};
    use serde_json::Value;
    use strum::VariantArray as _;

    use super::*;

    async fn described_at(path: &str, app: impl FnOnce(&mut ServiceConfig)) -> Value {
        let app = test::init_service(App::new().configure(app)).await;
        test::call_and_read_body_json(&app, test::TestRequest::get().uri(path).to_request()).await
    }

    fn paths(api: &Value) -> Vec<&str> {
        api["paths"].as_object().expect("paths").keys().map(String::as_str).collect()
    }

    #[actix_rt::test]
    async fn the_description_of_a_mounted_api_has_the_paths_of_its_scope() {
        let api = described_at("/photos/openapi.json", |config| {
            config.service(web::scope("/photos").configure(mounted));
        })
        .await;
        assert_eq!(api["servers"][0]["url"], "/photos");
        let paths = paths(&api);
        assert!(paths.contains(&"/v1/uploads/bulk") && paths.contains(&"/ws/uploads"), "{paths:?}");
        assert!(paths.iter().all(|path| path.starts_with("/v1/") || path.starts_with("/ws/")), "{paths:?}");
    }

    #[actix_rt::test]
    async fn the_description_has_every_operation_and_what_the_engine_says() {
        let api = described_at(PATH, |config| operations().register(config)).await;
        let paths = paths(&api);
        for path in ["/api/v1/uploads/{id}", "/api/ws/uploads", "/health", "/metrics", PATH] {
            assert!(paths.contains(&path), "{path}: {paths:?}");
        }
        assert_eq!(
            api["paths"]["/api/v1/uploads/{id}"].as_object().map(|it| it.len()),
            Some(2),
            "get and delete"
        );
        let limit = &api["paths"]["/api/v1/uploads/batches"]["get"]["parameters"][0];
        assert_eq!(limit["name"], "limit");
        assert_eq!((&limit["schema"]["maximum"], &limit["schema"]["default"]), (&100.into(), &20.into()));
        let words = &api["paths"]["/api/v1/search"]["get"]["parameters"][0];
        assert_eq!((&words["name"], &words["required"]), (&"q".into(), &true.into()));
        assert_eq!(words["schema"]["maxLength"], 1000);
        let schemas = &api["components"]["schemas"];
        let stages: Vec<_> = Stage::VARIANTS.iter().map(|stage| stage.as_str()).collect();
        assert_eq!(schemas["Stage"]["enum"], Value::from(stages));
        assert_eq!(schemas["UploadStatus"]["enum"][5], Status::Cancelled.as_str());
        assert_eq!(schemas["Message"]["oneOf"].as_array().map(Vec::len), Some(9));
        for name in ["SocketAuth", "SocketRequest", "Upload", "Batch", "Failure", "Facts"] {
            assert!(schemas[name].is_object(), "{name}");
        }
    }
}
