//! JSON Schema of both files, so that editors complete keys and show what they mean.
//!
//! The keys and words are those of the tables that the decoders read by; what a schema cannot say (names that must be
//! known, matches that cannot hold together) is `sluice check`'s to say. Source: JSON Schema 2020-12.
//!
//! Scalars are as an editor's YAML reads them: `22` is a number, `6881-6889` a string, `off` either.

use serde_json::{Map, Value, json};

/// The schema of the policy file.
pub fn policy() -> Value {
    crate::policy::schema::schema()
}

/// The schema of the system file.
pub fn system() -> Value {
    crate::system::schema::schema()
}

/// A schema that either file fulfils.
pub fn both() -> Value {
    json!({
        "$schema": DIALECT,
        "$id": "urn:sluice:config",
        "title": "Sluice's configuration: the policy file or the system file",
        "anyOf": [{"$ref": "urn:sluice:policy"}, {"$ref": "urn:sluice:system"}],
        "$defs": {"policy": policy(), "system": system()},
    })
}

/// The version of JSON Schema.
pub(crate) const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A map with these keys and no others: key, description, schema.
pub(crate) fn map<D: AsRef<str>>(entries: impl IntoIterator<Item = (&'static str, D, Value)>) -> Value {
    let mut properties = Map::new();
    for (key, description, schema) in entries {
        properties.insert(key.to_owned(), described(description.as_ref(), schema));
    }
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

/// As [`map`], where these keys must be there.
pub(crate) fn map_with<D: AsRef<str>>(
    required: &[&str],
    entries: impl IntoIterator<Item = (&'static str, D, Value)>,
) -> Value {
    let mut schema = map(entries);
    put(&mut schema, "required", json!(required));
    schema
}

/// The schema with a description; a reference stays one.
pub(crate) fn described(description: &str, mut schema: Value) -> Value {
    if !description.is_empty() {
        put(&mut schema, "description", json!(description));
    }
    schema
}

/// Sets a keyword.
pub(crate) fn put(schema: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = schema {
        map.insert(key.to_owned(), value);
    }
}

/// A map of names to values of that schema.
pub(crate) fn named(values: Value) -> Value {
    json!({"type": ["object", "null"], "additionalProperties": values})
}

/// A list that may be left empty.
pub(crate) fn list(items: Value) -> Value {
    json!({"type": ["array", "null"], "items": items})
}

/// One value, or a list of at least one.
pub(crate) fn one_or_more(items: Value) -> Value {
    json!({"anyOf": [items.clone(), {"type": "array", "items": items, "minItems": 1}]})
}

/// One of these words; `off` also as a boolean.
pub(crate) fn words<'w>(words: impl IntoIterator<Item = &'w str>) -> Value {
    let words: Vec<&str> = words.into_iter().collect();
    if words.contains(&"off") {
        return json!({"anyOf": [{"enum": words}, {"enum": [false, "no"]}]});
    }
    json!({"enum": words})
}

/// A boolean, in all spellings.
pub(crate) fn boolean() -> Value {
    json!({"anyOf": [{"type": "boolean"}, {"enum": ["on", "off", "yes", "no"]}]})
}

/// A whole number.
pub(crate) fn number(minimum: u32, maximum: u32) -> Value {
    json!({"type": "integer", "minimum": minimum, "maximum": maximum})
}

/// A number, or a range `a-b` of numbers up to `maximum`.
pub(crate) fn number_range(maximum: u32) -> Value {
    json!({"anyOf": [number(0, maximum), {"type": "string", "pattern": "^[0-9]+( *- *[0-9]+)?$"}]})
}

/// Text.
pub(crate) fn text() -> Value {
    json!({"type": "string", "minLength": 1})
}

/// A rate.
pub(crate) fn rate() -> Value {
    json!({"type": "string", "pattern": "^[0-9]+ */ *(s|m|h|d)[a-z]*$", "examples": ["10/second", "5/minute"]})
}

/// A duration.
pub(crate) fn duration() -> Value {
    json!({"anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": "^([0-9]+[wdhms])+$|^[0-9]+$", "examples": ["30s", "5d", "1h30m"]},
    ]})
}

/// An address with the length of its prefix, which may be left out.
pub(crate) fn prefix() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-fA-F:.]+(/[0-9]+)?$"})
}

/// An address.
pub(crate) fn address() -> Value {
    json!({"type": "string", "pattern": "^[0-9a-fA-F:.]+$"})
}

#[cfg(test)]
mod tests;
