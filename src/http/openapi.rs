//! The description of the API, collected from its operations.

mod additions;

use actix_web::{
    HttpRequest,
    web::{self, Data, Json, ServiceConfig},
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    Inner,
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

/// Without a handle the server counts as open.
fn described(inner: Option<Data<Inner>>, collect: impl FnOnce(&mut openapi::OpenApi)) -> openapi::OpenApi {
    let mut api = Base::openapi();
    collect(&mut api);
    additions::add(&mut api, inner.is_none_or(|inner| inner.auth.is_open()));
    api
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operation",
    operation_id = "openapi",
    security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object))
)]
async fn describe(inner: Option<Data<Inner>>) -> Json<openapi::OpenApi> {
    Json(described(inner, super::describe_site))
}

/// The description of the API alone, below the host's scope.
async fn describe_mounted(inner: Option<Data<Inner>>, request: HttpRequest) -> Json<openapi::OpenApi> {
    let mut api = described(inner, |api| super::describe_api("", api));
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
        let statuses = schemas["ProcessingStatus"]["enum"].as_array().expect("statuses");
        assert_eq!(statuses.len(), 5);
        assert!(!statuses.contains(&Status::Cancelled.as_str().into()));
        assert_eq!(schemas["Message"]["oneOf"].as_array().map(Vec::len), Some(9));
        for name in ["SocketAuth", "SocketRequest", "Upload", "Batch", "Failure", "Facts"] {
            assert!(schemas[name].is_object(), "{name}");
        }
    }

    #[actix_rt::test]
    async fn every_answer_is_described_and_a_refusal_for_now_says_when_to_try_again() {
        let api = described_at(PATH, |config| operations().register(config)).await;
        for (path, item) in api["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    let at = format!("{method} {path} {status}");
                    assert!(response["description"].as_str().is_some_and(|it| !it.is_empty()), "{at}");
                    let refusal = response["content"]["application/json"]["schema"]["$ref"]
                        == "#/components/schemas/Refusal";
                    let retried = refusal && ["429", "503", "507"].contains(&status.as_str());
                    assert_eq!(response["headers"]["Retry-After"].is_object(), retried, "{at}");
                }
                let summary = operation["summary"].as_str().expect("a summary");
                assert!(summary.len() <= 60, "{summary}");
            }
        }
    }

    #[actix_rt::test]
    async fn each_message_is_a_type_that_its_action_names() {
        let api = described_at(PATH, |config| operations().register(config)).await;
        let schemas = &api["components"]["schemas"];
        for (name, count) in [("Message", 9), ("SocketRequest", 5)] {
            let discriminator = &schemas[name]["discriminator"];
            assert_eq!(discriminator["propertyName"], "action");
            let mapping = discriminator["mapping"].as_object().expect("a mapping");
            assert_eq!(mapping.len(), count, "{name}");
            for (action, location) in mapping {
                let variant = location.as_str().and_then(|it| it.rsplit('/').next()).expect("a name");
                assert_eq!(schemas[variant]["properties"]["action"]["enum"][0], action.as_str());
            }
        }
    }

    #[actix_rt::test]
    async fn operations_for_administrators_ask_for_a_token() {
        let api = described_at(PATH, |config| operations().register(config)).await;
        let anybody = |security: &Value| {
            security.as_array().is_none_or(|them| them.contains(&Value::Object(serde_json::Map::new())))
        };
        assert!(anybody(&api["security"]));
        for path in ["/api/v1/dump", "/metrics"] {
            assert!(!anybody(&api["paths"][path]["get"]["security"]), "{path}");
        }
    }
}
