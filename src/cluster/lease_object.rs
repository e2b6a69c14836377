//! Pure. A Lease object as raw JSON: what the election and the ledger both read in it and change of it.
//!
//! An object is never rebuilt from a typed copy: a PUT of one would drop fields that are newer than our types.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// A new Lease that says nothing yet.
pub fn new_lease(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "namespace": namespace, "name": name },
    })
}

/// Changes the object under `key`, made where there is none.
pub fn edit(parent: &mut Value, key: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    let map = |value: Option<Value>| match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let mut outer = map(Some(parent.take()));
    let mut inner = map(outer.remove(key));
    change(&mut inner);
    outer.insert(key.to_owned(), inner.into());
    *parent = outer.into();
}

/// Merges these labels into those of the object.
pub fn label(lease: &mut Value, labels: &BTreeMap<String, String>) {
    if !labels.is_empty()
        && let Some(metadata) = lease.get_mut("metadata")
    {
        edit(metadata, "labels", |own| {
            own.extend(labels.iter().map(|(key, value)| (key.clone(), json!(value))));
        });
    }
}

/// Kubernetes' MicroTime: always six digits, or the API server refuses it.
pub fn micro_time(at: Timestamp) -> String {
    format!("{at:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits() {
        for (at, wanted) in [
            ("2025-11-21T04:36:01Z", "2025-11-21T04:36:01.000000Z"),
            ("2025-11-21T04:36:01.1234569Z", "2025-11-21T04:36:01.123456Z"),
        ] {
            assert_eq!(micro_time(at.parse().unwrap()), wanted);
        }
    }
}
