//! The door: is a request from here, who sends it, and not too often.

use std::{net::IpAddr, time::Instant};

use actix_web::{
    Error, HttpMessage as _, ResponseError as _,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use mediamill_actors::id::Owner;

use super::{
    Inner,
    auth::{Caller, Denied},
    error::Problem,
};
use crate::config::Server;

/// Owners that sent no request of late are forgotten once that many are known.
const MOST_KNOWN: usize = 10_000;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

pub(super) fn rates(server: &Server) -> DefaultKeyedRateLimiter<Owner> {
    let quota = Quota::per_second(server.requests_per_second).allow_burst(server.burst_requests);
    RateLimiter::keyed(quota)
}

/// Refuses what the page of a stranger sends, and says in every answer that browsers must not guess or share it.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let inner = inner(&request)?;
    let mut response = match from_here(&inner, request.headers()) {
        Ok(()) => next.call(request).await?.map_into_boxed_body(),
        Err(problem) => request.into_response(problem.error_response()),
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers().get(header::ALLOW).cloned();
        response = response.into_response(Problem::method_not_allowed(allow).error_response());
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (RESOURCE_POLICY, "same-origin"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    Ok(response)
}

/// Lets in whoever may, with the [`Caller`] among the request's extensions.
pub(super) async fn admit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let inner = inner(&request)?;
    let caller = match inner.auth.caller(request.request()).await {
        Ok(caller) => caller,
        Err(denied) => return Ok(request.into_response(Problem::from(denied).error_response())),
    };
    if let Err(problem) = inner.count(&caller.owner) {
        return Ok(request.into_response(problem.error_response()));
    }
    request.extensions_mut().insert(caller);
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// Writes a line for each request, with an id that the answer has too.
pub(crate) async fn log(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let id = given_id(request.headers()).unwrap_or_else(|| {
        let id = mediamill_actors::id::UploadId::generate().to_string();
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("-"))
    });
    request.headers_mut().insert(REQUEST_ID, id.clone());
    // Without the query, which is nobody's business.
    let (method, path) = (request.method().clone(), request.path().to_owned());
    let mut response = next.call(request).await?.map_into_boxed_body();
    response.headers_mut().insert(REQUEST_ID, id.clone());
    let owner = response.request().extensions().get::<Caller>().map(|caller| caller.owner.clone());
    let owner = owner.as_ref().map_or("-", Owner::as_str);
    let level = if response.status().is_server_error() { log::Level::Warn } else { log::Level::Info };
    let (id, status) = (id.to_str().unwrap_or("-"), response.status().as_u16());
    let took = started.elapsed().as_micros() as f64 / 1000.0;
    log::log!(target: "mediamill::http", level, "{id} {method} {path:?} {status} {took:.1} ms, owner {owner:?}");
    Ok(response)
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unavailable(why) => Self::unavailable("cannot_tell_who", why, 5),
            denied => Self::unauthorized(denied.to_string()),
        }
    }
}

impl Inner {
    /// Counts a request of an owner, unless there were too many of late.
    pub(super) fn count(&self, owner: &Owner) -> Result<(), Problem> {
        if self.rates.len() > MOST_KNOWN {
            self.rates.retain_recent();
        }
        self.rates.check_key(owner).map_err(|until| {
            let wait = until.wait_time_from(governor::clock::DefaultClock::default().now());
            Problem::too_many(
                format!(
                    "there were more than {} requests a second of this owner (server.requests_per_second); slow down",
                    self.server.requests_per_second
                ),
                wait.as_secs() + 1,
            )
        })
    }
}

fn inner(request: &ServiceRequest) -> Result<Data<Inner>, Problem> {
    request.app_data::<Data<Inner>>().cloned().ok_or_else(|| Problem::internal("the routes have no handle"))
}

/// An id that a proxy gave, if it can stand in a log.
fn given_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    (!id.is_empty() && id.len() <= 64 && id.as_bytes().iter().all(plain)).then(|| id.clone())
}

/// Whether a request may be from whom it says: no page of another origin may send any, and where everybody is let in, none may come by a
/// name that is not this machine's.
fn from_here(inner: &Inner, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let host = text(header::HOST).unwrap_or_default();
    let origin = text(header::ORIGIN);
    if inner.auth.is_open() && !is_this_machine(inner, host) {
        return Err(Problem::forbidden(format!(
            "this server does not answer to the name {host:?}; use localhost, or list it in server.allowed_hosts"
        )));
    }
    let allowed =
        |origin: &str| inner.server.allowed_origins.iter().any(|it| it.eq_ignore_ascii_case(origin));
    match origin {
        Some(origin) if allowed(origin) => return Ok(()),
        Some(origin) if !is_same_origin(origin, host) => {
            return Err(Problem::forbidden(format!(
                "pages of {origin:?} may not use this server; list that in server.allowed_origins to let them"
            )));
        }
        Some(_) | None => {}
    }
    let site = text(FETCH_SITE).unwrap_or("none");
    if inner.auth.is_open() && !["same-origin", "none"].contains(&site) {
        return Err(Problem::forbidden(
            "another web page sent you here; type the address into the address bar instead of following a link",
        ));
    }
    Ok(())
}

fn is_same_origin(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

/// Whether `host` (of a header, with or without a port) names this machine as nobody else's name server could.
fn is_this_machine(inner: &Inner, host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || inner.server.allowed_hosts.iter().any(|it| it.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_told_at_the_moment_may_come_again() {
        let answer = Problem::from(Denied::Unavailable("the directory is away".into())).error_response();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
        let answer = Problem::from(Denied::Missing).error_response();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(answer.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}
