//! What was described, found again by words.

use actix_web::{
    HttpRequest,
    web::{Data, Json, ServiceConfig},
};
use mediamill_actors::query_service::SearchUploads;

use super::{
    Inner,
    auth::Caller,
    error::Problem,
    openapi::{Checked, Full, Refusals},
    query::Query,
    readable,
    views::{Found, UploadView},
};

pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(readable("/search", search));
}

/// Completed uploads whose descriptions are nearest in meaning to words, the nearest first.
#[utoipa::path(
    get,
    path = "/api/v1/search",
    tag = "search",
    operation_id = "search",
    params(
        ("q" = String, Query, min_length = 1, max_length = 1000, description = "The words"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "Most that come; 20 unless said")
    ),
    responses((status = 200, body = Vec<Found>), Refusals, Checked, Full)
)]
pub(super) async fn search(
    caller: Caller,
    inner: Data<Inner>,
    query: Query,
    request: HttpRequest,
) -> Result<Json<Vec<Found>>, Problem> {
    let limit = query.number("limit", 1..=100, 20)?;
    let words =
        query.text("q").ok_or_else(|| Problem::invalid("q is missing; it holds the words to look for"))?;
    let search = SearchUploads { owner: caller.owner, query: words.to_owned(), limit };
    let found = inner.query_service.send(search).await??;
    let view = |it: mediamill_actors::query_service::SearchHit| Found {
        score: it.score,
        upload: UploadView::of(it.upload, &request),
    };
    Ok(Json(found.into_iter().map(view).collect()))
}
