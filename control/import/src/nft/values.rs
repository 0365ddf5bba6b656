//! Values of expressions: numbers, names, ranges, prefixes, sets.

use serde_json::Value as Json;

use crate::model::Asked;

/// The right side of a match: values, or the name of a set.
///
/// # Errors
/// Something else.
pub(super) fn asked(value: &Json) -> Result<Asked, String> {
    if let Some(name) = value.as_str().and_then(|text| text.strip_prefix('@')) {
        return Ok(Asked::Set(name.to_owned()));
    }
    let items = match (value.get("set"), value) {
        (Some(Json::Array(items)), _) | (_, Json::Array(items)) => items.as_slice(),
        _ => std::slice::from_ref(value),
    };
    items.iter().map(scalar).collect::<Result<Vec<_>, _>>().map(Asked::Any)
}

/// One value as the policy writes it.
///
/// # Errors
/// More than one, or an expression.
pub(super) fn scalar(value: &Json) -> Result<String, String> {
    let unknown = || format!("expression {value} has no translation");
    match value {
        Json::String(text) => Ok(text.clone()),
        Json::Number(number) => Ok(number.to_string()),
        Json::Object(map) => {
            if let Some(elem) = map.get("elem") {
                return scalar(elem.get("val").unwrap_or(&Json::Null));
            }
            if let Some(Json::Array(ends)) = map.get("range")
                && let [first, last] = ends.as_slice()
            {
                return Ok(format!("{}-{}", scalar(first)?, scalar(last)?));
            }
            match map.get("prefix") {
                Some(prefix) => {
                    let len = prefix.get("len").and_then(Json::as_u64).ok_or_else(unknown)?;
                    Ok(format!("{}/{len}", scalar(prefix.get("addr").unwrap_or(&Json::Null))?))
                }
                None if map.contains_key("concat") => {
                    Err("fields are matched one by one, not together".to_owned())
                }
                None => Err(unknown()),
            }
        }
        _ => Err(unknown()),
    }
}

/// A number, whichever way it is written.
pub(super) fn number(value: &Json) -> Option<u32> {
    match value {
        Json::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        Json::String(text) => match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        },
        _ => None,
    }
}

/// Words that are flags: one, several, or joined by `|`.
///
/// # Errors
/// Something else.
pub(super) fn flags(value: &Json) -> Result<Vec<String>, String> {
    let items = match (value.get("set"), value.get("|"), value) {
        (Some(Json::Array(items)), ..) | (_, Some(Json::Array(items)), _) | (.., Json::Array(items)) => {
            items.as_slice()
        }
        _ => return scalar(value).map(|word| vec![word]),
    };
    let mut words = Vec::new();
    for item in items {
        words.extend(flags(item)?);
    }
    Ok(words)
}
