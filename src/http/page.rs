//! The page: HTML, a style sheet and a script, compiled into the program.

use actix_web::{
    HttpMessage as _, HttpRequest, HttpResponse,
    http::header::{self, EntityTag, IfNoneMatch},
    web::{self, ServiceConfig},
};

/// Everything comes from this server, and the page has no inline script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

pub(super) fn routes(config: &mut ServiceConfig) {
    macro_rules! readable {
        ($path:literal, $handler:ident) => {
            web::resource($path).route(web::get().to($handler)).route(web::head().to($handler))
        };
    }
    config
        .service(readable!("/", page))
        .service(readable!("/app.js", script))
        .service(readable!("/style.css", style))
        .service(readable!("/icon.svg", icon));
}

async fn page(request: HttpRequest) -> HttpResponse {
    send(&request, "text/html; charset=utf-8", include_str!("../web/index.html"))
}

async fn script(request: HttpRequest) -> HttpResponse {
    send(&request, "text/javascript; charset=utf-8", include_str!("../web/app.js"))
}

async fn style(request: HttpRequest) -> HttpResponse {
    send(&request, "text/css; charset=utf-8", include_str!("../web/style.css"))
}

async fn icon(request: HttpRequest) -> HttpResponse {
    send(&request, "image/svg+xml", include_str!("../web/icon.svg"))
}

/// Sends a file, unless the browser has it. Browsers revalidate it each time, so that nobody sees the page of
/// an older version.
fn send(request: &HttpRequest, content_type: &str, text: &'static str) -> HttpResponse {
    let tag = EntityTag::new_strong(mediamill_actors::files::hash(text.as_bytes()));
    let known = match request.get_header::<IfNoneMatch>() {
        Some(IfNoneMatch::Items(tags)) => tags.iter().any(|it| it.weak_eq(&tag)),
        Some(IfNoneMatch::Any) => true,
        None => false,
    };
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header(header::ETag(tag));
    if known { response.finish() } else { response.content_type(content_type).body(text) }
}
