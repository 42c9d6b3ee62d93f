//! Search by meaning.

use actix_web::{
    HttpRequest,
    web::{Data, Json},
};
use mediamill_actors::progress_monitor::{self, SearchUploads};
use serde::Deserialize;
use utoipa::{IntoParams, openapi::Object};

use super::{
    Inner,
    auth::Caller,
    error::Problem,
    operations::{Operations, operation},
    query::{Query, Whole, present, text_of},
    responses::{Checked, Full, Refusals},
    views::{Found, UploadView},
};

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(search))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Words {
    /// The words to search for
    #[serde(default, deserialize_with = "present")]
    #[param(required, schema_with = words)]
    q: Option<String>,
    /// Most results
    #[serde(default)]
    #[param(inline)]
    limit: Whole<1, { SearchUploads::MAX as u64 }, 20>,
}

fn words() -> Object {
    text_of(SearchUploads::MAX_CHARS)
}

/// Completed uploads whose descriptions are nearest in meaning to the words, the nearest first.
#[utoipa::path(
    get,
    path = "/search",
    tag = "search",
    operation_id = "search",
    params(Words),
    responses((status = 200, body = Vec<Found>), Refusals, Checked, Full)
)]
async fn search(
    caller: Caller,
    inner: Data<Inner>,
    Query(words): Query<Words>,
    request: HttpRequest,
) -> Result<Json<Vec<Found>>, Problem> {
    let query = words.q.ok_or_else(|| Problem::invalid("q is missing; it holds the words to search for"))?;
    let search = SearchUploads { owner: caller.owner, query, limit: words.limit.get() as usize };
    let found = inner.monitor.send(search).await??;
    let view =
        |it: progress_monitor::Found| Found { score: it.score, upload: UploadView::of(it.upload, &request) };
    Ok(Json(found.into_iter().map(view).collect()))
}
