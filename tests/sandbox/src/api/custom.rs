//! Resources that come with a CRD: what the server does by their schema. It drops what the schema does not name, and
//! nulls, and refuses what does not fit.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{
    failure::Cause,
    rules::{entries, items, remove, text},
};

/// What a field may hold, as far as the sandbox's world needs it.
pub(super) enum Shape {
    Text,
    Flag,
    /// Not negative.
    Number,
    /// A quantity, as text or number.
    Quantity,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A list that is not empty.
    Many(&'static Shape),
    /// The fields, with those that must be there.
    Fields(&'static [&'static str], &'static [(&'static str, Shape)]),
    /// The same, and exactly one of two fields is there.
    Either(&'static [(&'static str, Shape); 2]),
}

use Shape::{Choice, Either, Fields, Flag, Many, Number, Quantity, Text};

pub(super) const SNAPSHOT: Shape = Fields(
    &["spec"],
    &[
        (
            "spec",
            Fields(
                &["source"],
                &[
                    (
                        "source",
                        Either(&[
                            ("persistentVolumeClaimName", Text),
                            ("volumeSnapshotContentName", Text),
                        ]),
                    ),
                    ("volumeSnapshotClassName", Text),
                ],
            ),
        ),
        (
            "status",
            Fields(
                &[],
                &[
                    ("boundVolumeSnapshotContentName", Text),
                    ("creationTime", Text),
                    ("error", ERROR),
                    ("readyToUse", Flag),
                    ("restoreSize", Quantity),
                    ("volumeGroupSnapshotName", Text),
                ],
            ),
        ),
    ],
);

pub(super) const CONTENT: Shape = Fields(
    &["spec"],
    &[
        (
            "spec",
            Fields(
                &["deletionPolicy", "driver", "source", "volumeSnapshotRef"],
                &[
                    ("deletionPolicy", Choice(&["Delete", "Retain"])),
                    ("driver", Text),
                    (
                        "source",
                        Either(&[("snapshotHandle", Text), ("volumeHandle", Text)]),
                    ),
                    ("sourceVolumeMode", Text),
                    ("volumeSnapshotClassName", Text),
                    (
                        "volumeSnapshotRef",
                        Fields(
                            &[],
                            &[
                                ("apiVersion", Text),
                                ("fieldPath", Text),
                                ("kind", Text),
                                ("name", Text),
                                ("namespace", Text),
                                ("resourceVersion", Text),
                                ("uid", Text),
                            ],
                        ),
                    ),
                ],
            ),
        ),
        (
            "status",
            Fields(
                &[],
                &[
                    ("creationTime", Number),
                    ("error", ERROR),
                    ("readyToUse", Flag),
                    ("restoreSize", Number),
                    ("snapshotHandle", Text),
                    ("volumeGroupSnapshotHandle", Text),
                ],
            ),
        ),
    ],
);

pub(super) const GRANT: Shape = Fields(
    &[],
    &[(
        "spec",
        Fields(
            &["from", "to"],
            &[
                (
                    "from",
                    Many(&Fields(
                        &["group", "kind", "namespace"],
                        &[("group", Text), ("kind", Text), ("namespace", Text)],
                    )),
                ),
                (
                    "to",
                    Many(&Fields(
                        &["group", "kind"],
                        &[("group", Text), ("kind", Text), ("name", Text)],
                    )),
                ),
            ],
        ),
    )],
);

const ERROR: Shape = Fields(&[], &[("message", Text), ("time", Text)]);

/// The object with what its schema names; the server owns the metadata.
pub(super) fn pruned(mut object: Value, shape: &Shape) -> Result<Value, serde_json::Error> {
    let meta: ObjectMeta = serde_json::from_value(object["metadata"].take())?;
    let type_meta = [object["kind"].take(), object["apiVersion"].take()];
    prune(&mut object, shape);
    object["metadata"] = serde_json::to_value(meta)?;
    for (field, value) in ["kind", "apiVersion"].into_iter().zip(type_meta) {
        object[field] = value;
    }
    Ok(object)
}

fn prune(value: &mut Value, shape: &Shape) {
    match shape {
        Fields(..) | Either(_) => {
            let Some(object) = value.as_object_mut() else {
                return;
            };
            object.retain(|field, value| shape.field(field).is_some() && !value.is_null());
            for (field, value) in object {
                if let Some(inner) = shape.field(field) {
                    prune(value, inner);
                }
            }
        }
        Many(inner) => {
            let each = value.as_array_mut().into_iter().flatten();
            each.for_each(|item| prune(item, inner));
        }
        _ => {}
    }
}

/// The status is not taken from a POST.
pub(super) fn without_status(object: &mut Value) {
    remove(object, "status");
}

/// What of the object does not fit.
pub(super) fn check(object: &Value, shape: &Shape) -> Vec<Cause> {
    let mut causes = Vec::new();
    fit("", object, shape, &mut causes);
    causes
}

/// As [`check`]; a content names both parts of its snapshot.
pub(super) fn check_content(content: &Value, _: Option<&Value>) -> Vec<Cause> {
    let mut causes = check(content, &CONTENT);
    let path = "spec.volumeSnapshotRef";
    let named = &content["spec"]["volumeSnapshotRef"];
    if causes.is_empty() && (named["name"].is_null() || named["namespace"].is_null()) {
        let why = "both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set";
        causes.push(Cause::invalid(path, "\"object\"", why));
    }
    causes
}

fn fit(path: &str, value: &Value, shape: &Shape, causes: &mut Vec<Cause>) {
    let fits = match shape {
        Text | Choice(_) => value.is_string(),
        Flag => value.is_boolean(),
        Number => value.is_i64(),
        Quantity => value.is_string() || value.is_i64(),
        Many(_) => value.is_array(),
        Fields(..) | Either(_) => value.is_object(),
    };
    if !fits {
        let found = type_of(value);
        let why = format!("{path} in body must be of type {}: {found:?}", shape.name());
        return causes.push(Cause::invalid(path, &format!("{found:?}"), &why));
    }
    match shape {
        Number if value.as_i64().is_some_and(|number| number < 0) => {
            let why = format!("{path} in body should be greater than or equal to 0");
            causes.push(Cause::invalid(path, &value.to_string(), &why));
        }
        Choice(all) if !all.contains(&text(value)) => {
            causes.push(Cause::unsupported(path, text(value), all));
        }
        Many(_) if items(value).next().is_none() => {
            let why = format!("{path} in body should have at least 1 items");
            causes.push(Cause::invalid(path, "0", &why));
        }
        Many(inner) => {
            for (at, item) in items(value).enumerate() {
                fit(&format!("{path}[{at}]"), item, inner, causes);
            }
        }
        Either([(one, _), (other, _)]) if value[*one].is_null() == value[*other].is_null() => {
            let why = format!("exactly one of {one} and {other} must be set");
            causes.push(Cause::invalid(path, "\"object\"", &why));
        }
        Fields(required, _) => {
            let absent = required.iter().filter(|field| value[**field].is_null());
            causes.extend(absent.map(|field| Cause::required(join(path, field), "")));
        }
        _ => {}
    }
    for (field, value) in entries(value) {
        if let Some(inner) = shape.field(field) {
            fit(&join(path, field), value, inner, causes);
        }
    }
}

fn join(path: &str, field: &str) -> String {
    match path {
        "" => field.to_owned(),
        path => format!("{path}.{field}"),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl Shape {
    fn field(&self, name: &str) -> Option<&Shape> {
        let fields: &[_] = match self {
            Fields(_, fields) => fields,
            Either(fields) => *fields,
            _ => &[],
        };
        fields
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, shape)| shape)
    }

    fn name(&self) -> &'static str {
        match self {
            Text | Choice(_) => "string",
            Flag => "boolean",
            Number => "integer",
            Quantity => "integer or string",
            Many(_) => "array",
            Fields(..) | Either(_) => "object",
        }
    }
}
