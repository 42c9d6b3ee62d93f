//! What stands behind the question mark, and ids within paths.

use std::{
    future::{Ready, ready},
    ops::RangeInclusive,
    str::FromStr,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};

use super::error::Problem;

/// The pairs of a query. Of a key that stands there twice the first counts.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A whole number within a range.
    pub(super) fn number<T>(&self, key: &str, range: RangeInclusive<T>, default: T) -> Result<T, Problem>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.text(key) else { return Ok(default) };
        let given = text.parse().ok().filter(|number| range.contains(number));
        given.ok_or_else(|| {
            let (low, high) = range.into_inner();
            let shown: String = text.chars().take(40).collect();
            Problem::invalid(format!("{key} is {shown:?}, but must be a whole number from {low} to {high}"))
        })
    }
}

impl FromRequest for Query {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        ready(
            pairs
                .map(|pairs| Self(pairs.into_inner()))
                .map_err(|error| Problem::invalid(format!("the query cannot be read: {error}"))),
        )
    }
}

/// The id in the path of a request; one that is none names nothing.
pub(super) struct Id<T>(pub(super) T);

/// What an id names, in a word.
pub(super) trait Named: FromStr {
    const WHAT: &'static str;
}

impl Named for mediamill_actors::id::UploadId {
    const WHAT: &'static str = "upload";
}

impl Named for mediamill_actors::id::BatchId {
    const WHAT: &'static str = "batch";
}

impl<T: Named> FromRequest for Id<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().query("id").parse().map(Self);
        ready(id.map_err(|_| Problem::not_found(T::WHAT)))
    }
}
