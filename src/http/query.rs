//! Parameters of requests: queries, and ids in paths.

use std::{
    collections::BTreeMap,
    future::{Ready, ready},
    str::FromStr,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, web};
use mediamill_actors::id::{BatchId, UploadId};
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::value::MapDeserializer};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{KnownFormat, SchemaFormat, Type},
    },
};

use super::error::Problem;

/// The query of a request. The first value of a key counts; unknown keys are ignored.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read(request.query_string()).map(Self).map_err(Problem::invalid))
    }
}

fn read<T: DeserializeOwned>(query: &str) -> Result<T, String> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
        .map_err(|error| format!("the query cannot be read: {error}"))?;
    let mut values = BTreeMap::new();
    for (key, value) in pairs.into_inner() {
        values.entry(key).or_insert(value);
    }
    let values = MapDeserializer::<_, serde::de::value::Error>::new(values.into_iter());
    serde_path_to_error::deserialize(values).map_err(|error| format!("{} {}", error.path(), error.inner()))
}

/// Reads a parameter that is present, for `deserialize_with`: the values of a query are plain text, which is
/// not an [`Option`].
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A whole number from `MIN` to `MAX`; `DEFAULT` if it is missing. Its range is checked and described here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole<const MIN: u64, const MAX: u64, const DEFAULT: u64>(u64);

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> Whole<MIN, MAX, DEFAULT> {
    pub(super) fn get(self) -> u64 {
        self.0
    }
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> Default for Whole<MIN, MAX, DEFAULT> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<'de, const MIN: u64, const MAX: u64, const DEFAULT: u64> Deserialize<'de> for Whole<MIN, MAX, DEFAULT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let given = text.parse().ok().filter(|number| (MIN..=MAX).contains(number));
        given.map(Self).ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            serde::de::Error::custom(format!("is {shown:?}, but must be a whole number from {MIN} to {MAX}"))
        })
    }
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> PartialSchema for Whole<MIN, MAX, DEFAULT> {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(format))
            .minimum(Some(MIN))
            .maximum((MAX <= i64::MAX as u64).then_some(MAX))
            .default(Some(DEFAULT.into()))
            .into()
    }
}

impl<const MIN: u64, const MAX: u64, const DEFAULT: u64> ToSchema for Whole<MIN, MAX, DEFAULT> {}

/// Number of items that a list skips.
pub(super) type Offset = Whole<0, { i32::MAX as u64 }, 0>;

/// The id in the path of a request. Text that is not an id names nothing, so it is answered with 404.
pub(super) struct Id<T>(pub(super) T);

/// A resource that has an id.
pub(super) trait Named: FromStr + PartialSchema {
    /// The resource in a word.
    const NAME: &'static str;
}

impl Named for UploadId {
    const NAME: &'static str = "upload";
}

impl Named for BatchId {
    const NAME: &'static str = "batch";
}

impl<T: Named> FromRequest for Id<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().query("id").parse().map(Self);
        ready(id.map_err(|_| Problem::not_found(T::NAME)))
    }
}

impl<T: Named> IntoParams for Id<T> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let id = ParameterBuilder::new()
            .name("id")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(format!("The {}", T::NAME)))
            .schema(Some(T::schema()));
        vec![id.build()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Page {
        #[serde(default)]
        limit: Whole<1, 100, 20>,
    }

    #[test]
    fn a_number_outside_its_range_is_refused_with_its_key() {
        for (query, limit) in [("", 20), ("limit=1", 1), ("limit=100&limit=0", 100), ("other=1", 20)] {
            assert_eq!(read::<Page>(query).map(|page| page.limit.get()), Ok(limit), "{query}");
        }
        for wrong in ["0", "101", "-1", "many", "", "1.5"] {
            let refused = read::<Page>(&format!("limit={wrong}")).expect_err(wrong);
            assert_eq!(refused, format!("limit is {wrong:?}, but must be a whole number from 1 to 100"));
        }
    }
}
