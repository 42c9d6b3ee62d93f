//! Search by meaning.

use actix_web::{
    HttpRequest,
    web::{Data, Json},
};
use mediamill_actors::query_service::{self, SearchUploads};
use serde::Deserialize;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, schema::Type},
};

use super::{
    Inner,
    auth::Caller,
    error::Problem,
    operations::{Operations, operation},
    query::{Query, Whole, present},
    responses::{Checked, Full, Refusals},
    views::{Found, UploadView},
};

pub(super) fn operations() -> Operations {
    Operations::default().with(operation!(search))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Search {
    /// The words to search for
    #[serde(default, deserialize_with = "present")]
    #[param(inline, required = true, value_type = Words)]
    q: Option<String>,
    /// Most results
    #[serde(default)]
    #[param(inline)]
    limit: Whole<1, { SearchUploads::MAX as u64 }, 20>,
}

/// The schema of `q`.
struct Words;

impl PartialSchema for Words {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        text.min_length(Some(1)).max_length(Some(SearchUploads::MAX_CHARS)).into()
    }
}

impl ToSchema for Words {}

/// Searches descriptions by meaning.
///
/// The results are completed uploads, the nearest first.
#[utoipa::path(
    get,
    path = "/search",
    tag = "search",
    operation_id = "search",
    params(Search),
    responses((status = 200, description = "The nearest uploads", body = Vec<Found>), Refusals, Checked, Full)
)]
async fn search(
    caller: Caller,
    inner: Data<Inner>,
    Query(asked): Query<Search>,
    request: HttpRequest,
) -> Result<Json<Vec<Found>>, Problem> {
    let query = asked.q.ok_or_else(|| Problem::invalid("q is missing; it holds the words to search for"))?;
    let _counted = inner.begin_search(&caller.owner)?;
    let search = SearchUploads { owner: caller.owner, query, limit: asked.limit.get() as usize };
    let found = inner.query_service.send(search).await??;
    let view =
        |it: query_service::SearchHit| Found { score: it.score, upload: UploadView::of(it.upload, &request) };
    Ok(Json(found.into_iter().map(view).collect()))
}
