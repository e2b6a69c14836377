//! The patch kinds, applied to a JSON object.

use serde_json::{Map, Value};

use super::{
    failure::{self, Refusal},
    rules,
};

/// How a PATCH body is to be read, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' own; here only what needs no schema, and `metadata.finalizers`.
    Strategic,
}

impl PatchKind {
    pub(crate) const ALL: [Self; 3] = [Self::Json, Self::Merge, Self::Strategic];

    /// The content type that announces this kind.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
        }
    }

    pub(crate) fn of(content_type: &str) -> Option<Self> {
        let bare = content_type.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|kind| kind.content_type() == bare)
    }

    pub(crate) fn apply(self, body: &[u8], old: &Value) -> Result<Value, Refusal> {
        let mut new = old.clone();
        match self {
            Self::Json => {
                let patch: json_patch::Patch =
                    serde_json::from_slice(body).map_err(|_| failure::unappliable())?;
                json_patch::patch(&mut new, &patch).map_err(|_| failure::unappliable())?;
            }
            Self::Merge => json_patch::merge(&mut new, &parse(body)?),
            Self::Strategic => {
                let patch = parse(body)?;
                merge_strategically(&mut new, &patch, "")?;
            }
        }
        Ok(new)
    }
}

fn parse(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| failure::bad_request(format!("error decoding patch: {error}")))
}

fn merge_strategically(old: &mut Value, patch: &Value, path: &str) -> Result<(), Refusal> {
    let Some(fields) = patch.as_object() else {
        return Err(failure::bad_request("error decoding patch: not an object"));
    };
    if !old.is_object() {
        *old = Value::Object(Map::new());
    }
    for (key, value) in fields {
        let here = format!("{path}/{key}");
        match (value, here.as_str()) {
            (Value::Null, _) => drop(rules::remove(old, key)),
            // The order only matters to clients that compare lists.
            (_, "/metadata/$setElementOrder/finalizers") => {}
            (Value::Array(gone), "/metadata/$deleteFromPrimitiveList/finalizers") => {
                let left: Vec<_> = rules::items(&old["finalizers"])
                    .filter(|f| !gone.contains(f))
                    .cloned()
                    .collect();
                old["finalizers"] = left.into();
            }
            (Value::Array(added), "/metadata/finalizers") => {
                let had: Vec<_> = rules::items(&old[key])
                    .filter(|f| !added.contains(f))
                    .cloned()
                    .collect();
                old[key] = added.iter().cloned().chain(had).collect();
            }
            (Value::Array(_), _) => {
                return Err(failure::not_served(&format!(
                    "a strategic merge of the list {here}"
                )));
            }
            (_, here) if key.starts_with('$') => {
                return Err(failure::not_served(&format!("the strategic directive {here}")));
            }
            (Value::Object(_), _) => merge_strategically(&mut old[key], value, &here)?,
            _ => old[key] = value.clone(),
        }
    }
    Ok(())
}
