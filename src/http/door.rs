//! The door of the API: checks the origin of a request, its caller, and the rate of the caller.

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

/// Idle owners are dropped from the rate limiter once it holds this many.
const MAX_TRACKED: usize = 10_000;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

pub(super) fn rates(server: &Server) -> DefaultKeyedRateLimiter<Owner> {
    let quota = Quota::per_second(server.requests_per_second).allow_burst(server.burst_requests);
    RateLimiter::keyed(quota)
}

/// Refuses requests from pages of other origins, and adds the security headers to every answer.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let inner = inner(&request)?;
    let checked = unambiguous(&request).and_then(|()| from_here(&inner, request.headers()));
    let mut response = match checked {
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

/// Admits known callers, and adds the [`Caller`] to the extensions of the request.
pub(super) async fn admit(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let inner = inner(&request)?;
    let caller = match inner.auth.caller(request.request()).await {
        Ok(caller) => caller,
        Err(denied) => {
            let problem = denied.into_problem(inner.auth.sign_in_address());
            return Ok(request.into_response(problem.error_response()));
        }
    };
    if let Err(problem) = inner.count(&caller.owner) {
        return Ok(request.into_response(problem.error_response()));
    }
    let administrator = caller.administrator;
    request.extensions_mut().insert(caller);
    let response = next.call(request).await?;
    if administrator {
        return Ok(response.map_into_boxed_body());
    }
    inner.addresses.hide_in(response).await
}

/// Logs a line for each request, with an id that the answer carries too.
pub(crate) async fn log(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let RequestId(id) = RequestId::given(request.headers()).unwrap_or_else(RequestId::generate);
    request.headers_mut().insert(REQUEST_ID, id.clone());
    // The query is left out of the log, since it may be private.
    let (method, path) = (request.method().clone(), request.path().to_owned());
    let mut response = next.call(request).await?.map_into_boxed_body();
    response.headers_mut().insert(REQUEST_ID, id.clone());
    let owner = response.request().extensions().get::<Caller>().map(|caller| caller.owner.clone());
    let owner = owner.as_ref().map_or("-", Owner::as_str);
    let level = if response.status().is_server_error() { log::Level::Warn } else { log::Level::Info };
    let (id, status) = (id.to_str().unwrap_or("-"), response.status().as_u16());
    let took = started.elapsed().as_micros() as f64 / 1000.0;
    log::log!(
        target: "mediamill::http", level,
        "{id} {method} {path:?} {status} {took:.1} ms, owner {owner:?}"
    );
    Ok(response)
}

impl Denied {
    /// The answer to a caller who is unknown, with the address of the page on which a person signs in.
    fn into_problem(self, sign_in: Option<&str>) -> Problem {
        match self {
            Self::Unavailable(why) => Problem::unavailable("cannot_tell_who", why, 5),
            Self::Missing | Self::Refused(_) => Problem::unauthorized(self.to_string(), sign_in),
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        denied.into_problem(None)
    }
}

impl Inner {
    /// Counts a request against the rate limit of its owner.
    pub(super) fn count(&self, owner: &Owner) -> Result<(), Problem> {
        if self.rates.len() > MAX_TRACKED {
            self.rates.retain_recent();
        }
        self.rates.check_key(owner).map_err(|until| {
            let wait = until.wait_time_from(governor::clock::DefaultClock::default().now());
            Problem::too_many(
                format!(
                    "this owner sent more than {} requests a second (server.requests_per_second); slow down",
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

/// Id of a request, in the log and in the header `x-request-id`.
struct RequestId(HeaderValue);

impl RequestId {
    /// The id that a proxy assigned, if it is safe to log.
    fn given(headers: &HeaderMap) -> Option<Self> {
        let id = headers.get(REQUEST_ID)?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        (!id.is_empty() && id.len() <= 64 && id.as_bytes().iter().all(plain)).then(|| Self(id.clone()))
    }

    /// A random id of 16 hexadecimal digits.
    fn generate() -> Self {
        let id = getrandom::u64().ok().and_then(|id| HeaderValue::try_from(format!("{id:016x}")).ok());
        Self(id.unwrap_or(HeaderValue::from_static("-")))
    }
}

/// Refuses requests that another reader of the same bytes, such as a proxy, could understand differently.
fn unambiguous(request: &ServiceRequest) -> Result<(), Problem> {
    for name in [header::HOST, header::ORIGIN, header::AUTHORIZATION] {
        if request.headers().get_all(&name).count() > 1 {
            return Err(Problem::malformed(format!("the request has the header {name} more than once")));
        }
    }
    let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes);
    let authority = request.uri().authority().map(|it| it.as_str());
    if authority.zip(host).is_some_and(|(it, host)| !it.as_bytes().eq_ignore_ascii_case(host)) {
        return Err(Problem::malformed("the address of the request and its header host differ"));
    }
    Ok(())
}

/// Refuses requests from pages of other origins and, if the server is open to anyone who can connect,
/// requests whose `Host` is not this machine.
fn from_here(inner: &Inner, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let host = text(header::HOST).unwrap_or_default();
    let origin = text(header::ORIGIN);
    if inner.auth.is_open() && !is_this_machine(inner, host) {
        return Err(Problem::forbidden(format!(
            "this server does not answer to the name {host:?}; use localhost, or add the name to \
             server.allowed_hosts"
        )));
    }
    let allowed =
        |origin: &str| inner.server.allowed_origins.iter().any(|it| it.eq_ignore_ascii_case(origin));
    match origin {
        Some(origin) if allowed(origin) => return Ok(()),
        Some(origin) if !is_same_origin(origin, host) => {
            return Err(Problem::forbidden(format!(
                "pages of {origin:?} may not use this server; add that origin to server.allowed_origins to \
                 let them"
            )));
        }
        Some(_) | None => {}
    }
    let site = text(FETCH_SITE).unwrap_or("none");
    if inner.auth.is_open() && !["same-origin", "none"].contains(&site) {
        return Err(Problem::forbidden(
            "another web page sent this request; type the address into the address bar instead of following \
             a link",
        ));
    }
    Ok(())
}

fn is_same_origin(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
}

/// Returns `true` if `host` (from a header, with or without a port) names this machine. Loopback addresses
/// and `localhost` cannot be redirected by a foreign name server.
fn is_this_machine(inner: &Inner, host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or((rest, "]"), |(name, port)| (name, port)),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let plain = port.is_empty() || port.strip_prefix(':').is_some_and(|it| it.parse::<u16>().is_ok());
    if !plain {
        return false;
    }
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || inner.server.allowed_hosts.iter().any(|it| it.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unavailable_authentication_asks_for_a_retry() {
        let answer = Problem::from(Denied::Unavailable("the directory is away".into())).error_response();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
        let answer = Problem::from(Denied::Missing).error_response();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert!(answer.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}
