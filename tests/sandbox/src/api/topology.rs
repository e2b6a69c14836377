//! Rules about topology: labels, drivers on a node, where a volume is, where a class may be used.

use serde_json::Value;

use super::{
    failure::Cause,
    rules::{entries, is_qualified, items, text},
};

const KEY: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const VALUES: &str = "must be specified when `operator` is 'In' or 'NotIn'";
const NO_VALUES: &str = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";

/// A key of labels or annotations that is none.
pub(super) fn bad_key(field: impl Into<String>, key: &str) -> Option<Cause> {
    (!is_qualified(key)).then(|| Cause::invalid(field, &format!("{key:?}"), KEY))
}

/// A value that no label can have.
pub(super) fn bad_value(field: impl Into<String>, value: &str) -> Option<Cause> {
    let good = value.is_empty() || !value.contains('/') && is_qualified(value);
    (!good).then(|| Cause::invalid(field, &format!("{value:?}"), VALUE))
}

/// `nodeAffinity` of a volume.
pub(super) fn check_affinity(volume: &Value, old: Option<&Value>) -> Vec<Cause> {
    let affinity = &volume["spec"]["nodeAffinity"];
    let before = old.map_or(&Value::Null, |old| &old["spec"]["nodeAffinity"]);
    let mut causes = Vec::new();
    if !affinity.is_null() {
        let terms = &affinity["required"]["nodeSelectorTerms"];
        if affinity["required"].is_null() {
            let why = "must specify required node constraints";
            causes.push(Cause::required("spec.nodeAffinity.required", why));
        } else if items(terms).next().is_none() {
            let why = "must have at least one node selector term";
            causes.push(Cause::required(
                "spec.nodeAffinity.required.nodeSelectorTerms",
                why,
            ));
        }
        for (at, term) in items(terms).enumerate() {
            let path = format!("spec.nodeAffinity.required.nodeSelectorTerms[{at}].matchExpressions");
            causes.extend(check_expressions(&path, &term["matchExpressions"]));
        }
    }
    if !before.is_null() && before != affinity {
        let why = "field is immutable, except for updating from beta label to GA";
        causes.push(Cause::invalid("nodeAffinity", &affinity.to_string(), why));
    }
    causes
}

/// The expressions of a selector of nodes.
pub(super) fn check_expressions(path: &str, expressions: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (at, one) in items(expressions).enumerate() {
        let path = format!("{path}[{at}]");
        let values: Vec<_> = items(&one["values"]).map(text).collect();
        match text(&one["operator"]) {
            "In" | "NotIn" if values.is_empty() => {
                causes.push(Cause::required(format!("{path}.values"), VALUES));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                causes.push(Cause::forbidden(format!("{path}.values"), NO_VALUES));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => causes.push(Cause::invalid(
                format!("{path}.operator"),
                &format!("{other:?}"),
                "not a valid selector operator",
            )),
        }
        causes.extend(bad_key(format!("{path}.key"), text(&one["key"])));
        for (at, value) in values.iter().enumerate() {
            causes.extend(bad_value(format!("{path}.values[{at}]"), value));
        }
    }
    causes
}

/// `allowedTopologies` of a class.
pub(super) fn check_allowed(class: &Value) -> Vec<Cause> {
    let (mut causes, mut seen) = (Vec::new(), vec![&Value::Null]);
    for (at, term) in items(&class["allowedTopologies"]).enumerate() {
        let path = format!("allowedTopologies[{at}].matchLabelExpressions");
        let expressions = &term["matchLabelExpressions"];
        let mut keys = Vec::new();
        for (at, one) in items(expressions).enumerate() {
            let key = text(&one["key"]);
            causes.extend(bad_key(format!("{path}[{at}].key"), key));
            if keys.contains(&key) {
                causes.push(Cause::duplicate(format!("{path}[{at}].key"), key));
            }
            keys.push(key);
            let values: Vec<_> = items(&one["values"]).map(text).collect();
            if values.is_empty() {
                causes.push(Cause::required(format!("{path}[{at}].values"), ""));
            }
            for (n, value) in values.iter().enumerate() {
                if values[..n].contains(value) {
                    causes.push(Cause::duplicate(format!("{path}[{at}].values[{n}]"), value));
                }
            }
        }
        if keys.is_empty() || seen.contains(&expressions) {
            causes.push(Cause::duplicate(path, ""));
        }
        seen.push(expressions);
    }
    causes
}

/// The drivers of a CSINode.
pub(super) fn check_node(node: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut names = Vec::new();
    let drivers = &node["spec"]["drivers"];
    for (at, driver) in items(drivers).enumerate() {
        let path = format!("spec.drivers[{at}]");
        let name = text(&driver["name"]);
        if names.contains(&name) {
            causes.push(Cause::duplicate(format!("{path}.name"), name));
        }
        names.push(name);
        if text(&driver["nodeID"]).is_empty() {
            causes.push(Cause::required(format!("{path}.nodeID"), ""));
        }
        let keys: Vec<_> = items(&driver["topologyKeys"]).map(text).collect();
        for (n, key) in keys.iter().enumerate() {
            if key.is_empty() {
                causes.push(Cause::required(path.clone(), ""));
            }
            if keys[..n].contains(key) {
                causes.push(Cause::duplicate(path.clone(), key));
            }
            causes.extend(bad_key(path.clone(), key));
        }
        let before = old.map(|old| items(&old["spec"]["drivers"]));
        let mut before = before
            .into_iter()
            .flatten()
            .filter(|before| before["name"] == name);
        if before.any(|before| before != driver) {
            causes.push(Cause::invalid(
                "spec.drivers",
                &driver.to_string(),
                "field is immutable",
            ));
        }
    }
    causes
}

/// Empty lists of a CSINode come back as null, and keys that were not given too.
pub(super) fn canonical_node(mut node: Value) -> Value {
    let drivers = &mut node["spec"]["drivers"];
    for driver in drivers.as_array_mut().into_iter().flatten() {
        if items(&driver["topologyKeys"]).next().is_none() {
            driver["topologyKeys"] = Value::Null;
        }
    }
    if items(drivers).next().is_none() {
        *drivers = Value::Null;
    }
    node
}

/// The labels of an object or of a selector.
pub(super) fn check_labels(field: &str, labels: &Value) -> Vec<Cause> {
    let all = entries(labels).flat_map(|(key, value)| [bad_key(field, key), bad_value(field, text(value))]);
    all.flatten().collect()
}
