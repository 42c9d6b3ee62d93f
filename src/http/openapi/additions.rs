//! The parts of the description that the attributes of handlers and types cannot express.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::{
    Discriminator, HeaderBuilder, Object, ObjectBuilder, OpenApi, PathItem, Ref, RefOr, Response, Schema,
    path::Operation,
    schema::{OneOf, Type},
    security::SecurityRequirement,
};

/// One example for each of these schemas, which the answers to a real batch gave.
const EXAMPLES: &str = include_str!("examples.json");
/// Statuses of refusals that say when to try again.
const RETRIED: [&str; 3] = ["429", "503", "507"];

/// Adds all of them. `open`: anyone who can connect is let in, without a token.
pub(super) fn add(api: &mut OpenApi, open: bool) {
    tell_apart(api, "Message", "action", "Message");
    tell_apart(api, "SocketRequest", "action", "Request");
    without_cancelled(api);
    only_plain_names(api);
    give_examples(api);
    if !open {
        let nobody = SecurityRequirement::default();
        api.security.get_or_insert_default().retain(|it| *it != nobody);
    }
    for item in api.paths.paths.values_mut() {
        for operation in operations(item) {
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && RETRIED.contains(&status.as_str())
                    && is_refusal(response)
                {
                    response.headers.insert("Retry-After".into(), RefOr::T(retry_after()));
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, .. } = item;
    [get, put, post, delete, options, head, patch].into_iter().flatten()
}

fn is_refusal(response: &Response) -> bool {
    let refusal = Ref::from_schema_name("Refusal");
    response.content.values().any(|content| {
        let RefOr::T(content) = content else { return false };
        matches!(&content.schema, Some(RefOr::Ref(it)) if it.ref_location == refusal.ref_location)
    })
}

fn retry_after() -> utoipa::openapi::Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    HeaderBuilder::new()
        .schema(Some(seconds))
        .description(Some("Seconds after which a retry may succeed"))
        .build()
}

/// Gives each variant of a tagged schema a name of its own, and names the tag as the discriminator.
/// Generators of clients make one type of each then.
fn tell_apart(api: &mut OpenApi, name: &str, tag: &str, suffix: &str) {
    let schemas = &mut api.components.get_or_insert_default().schemas;
    let Some(RefOr::T(Schema::OneOf(OneOf { items, discriminator, .. }))) = schemas.get_mut(name) else {
        return;
    };
    let mut named = BTreeMap::new();
    let mut found = Discriminator::new(tag);
    for item in items {
        let RefOr::T(Schema::Object(object)) = item else { continue };
        let Some(value) = value_of(object, tag) else { continue };
        let name = format!("{}{suffix}", pascal(&value));
        let location = Ref::from_schema_name(&name);
        found.mapping.insert(value, location.ref_location.clone());
        named.insert(name, std::mem::replace(item, RefOr::Ref(location)));
    }
    *discriminator = Some(found);
    schemas.extend(named);
}

/// The only value of a property, if it has only one.
fn value_of(object: &Object, property: &str) -> Option<String> {
    let Some(RefOr::T(Schema::Object(property))) = object.properties.get(property) else { return None };
    match property.enum_values.as_deref()? {
        [Value::String(value)] => Some(value.clone()),
        _ => None,
    }
}

/// `upload_progress` as `UploadProgress`.
fn pascal(snake: &str) -> String {
    let words = snake.split('_').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    });
    words.collect()
}

/// Messages have the statuses of answers: a cancelled upload is `failed`.
fn without_cancelled(api: &mut OpenApi) {
    let schemas = &mut api.components.get_or_insert_default().schemas;
    if let Some(RefOr::T(Schema::Object(progress))) = schemas.get_mut("UploadProgress") {
        let status = RefOr::Ref(Ref::from_schema_name("ProcessingStatus"));
        progress.properties.insert("status".into(), status);
        schemas.remove("UploadStatus");
    }
}

/// The names of other fields are quoted in the headers of a multipart body. A batch has a file.
fn only_plain_names(api: &mut OpenApi) {
    let schemas = &mut api.components.get_or_insert_default().schemas;
    if let Some(RefOr::T(Schema::Object(files))) = schemas.get_mut("Files") {
        files.min_properties = Some(1);
        let plain = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9_-]+$")).build();
        files.property_names = Some(Box::new(plain.into()));
    }
}

fn give_examples(api: &mut OpenApi) {
    let schemas = &mut api.components.get_or_insert_default().schemas;
    let examples: BTreeMap<String, Value> = serde_json::from_str(EXAMPLES).unwrap_or_default();
    for (name, example) in examples {
        if let Some(RefOr::T(Schema::Object(schema))) = schemas.get_mut(&name) {
            schema.examples = vec![example];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_can_be_read() {
        let examples: BTreeMap<String, Value> = serde_json::from_str(EXAMPLES).expect("JSON");
        assert!(examples.contains_key("Upload") && examples.contains_key("Batch"));
    }

    #[test]
    fn a_tag_becomes_the_name_of_a_type() {
        assert_eq!(pascal("upload_progress"), "UploadProgress");
        assert_eq!(pascal("ping"), "Ping");
    }
}
