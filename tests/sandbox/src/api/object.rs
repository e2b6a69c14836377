//! What a write makes of the object that was sent: decoding and validation.

use serde_json::{Value, json};

use super::{
    failure::{self, Refusal},
    kinds::Kind,
    rules::{self, text},
};

/// How many finalizers hold an object.
pub(super) fn finalizers(object: &Value) -> usize {
    rules::items(&object["metadata"]["finalizers"]).count()
}

/// Sets a field as it is in another object, which may lack it.
pub(super) fn copy(to: &mut Value, from: &Value, field: &str) {
    match &from[field] {
        Value::Null => drop(rules::remove(to, field)),
        value => to[field] = value.clone(),
    }
}

/// What the real server's decoder refuses, and what it silently drops.
pub(super) fn decode(kind: &Kind, object: Value) -> Result<Value, Refusal> {
    let named = text(&object["kind"]);
    let refuse = |named: &str, why: &str| {
        failure::bad_request(format!(
            "{named} in version \"{}\" cannot be handled as a {}: {why}",
            kind.version, kind.kind
        ))
    };
    if !named.is_empty() && named != kind.kind {
        return Err(refuse(named, "unknown conversion"));
    }
    // Of built-in kinds the server knows what was meant.
    if kind.custom && named.is_empty() {
        return Err(failure::bad_request(format!(
            "Object 'Kind' is missing in '{object}'"
        )));
    }
    let version = text(&object["apiVersion"]);
    if kind.custom && version != kind.api_version() {
        return Err(failure::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({})",
            kind.api_version()
        )));
    }
    if rules::has_bad_quantity(&object) {
        return Err(refuse(
            kind.kind,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ));
    }
    let mut object = object;
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    for field in ["annotations", "finalizers", "labels", "ownerReferences"] {
        let value = &object["metadata"][field];
        let empty = value.as_object().is_some_and(serde_json::Map::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        if empty {
            rules::remove(&mut object["metadata"], field);
        }
    }
    object["kind"] = kind.kind.into();
    object["apiVersion"] = kind.api_version().into();
    (kind.normal)(object).map_err(|error| refuse(kind.kind, &error.to_string()))
}

/// What the real server's validation refuses, every cause at once.
pub(super) fn validate(kind: &Kind, object: &Value, old: Option<&Value>) -> Result<(), Refusal> {
    let mut causes = rules::check_metadata(object, old);
    causes.extend((kind.check)(object, old));
    if causes.is_empty() {
        return Ok(());
    }
    Err(failure::invalid(kind, text(&object["metadata"]["name"]), &causes))
}
