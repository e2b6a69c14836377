//! What is read of custom resources, and how, is what their published definitions promise.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use crate::cluster::{
    decode::Object,
    grant::ReferenceGrant,
    source::{Snapshot, SnapshotContent},
};

/// The published definitions, from the modules that tests/cluster pins.
fn published() -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/build.sh");
    let printed = Command::new(&script).arg("where").output().unwrap();
    let folder = format!("{}/crds", String::from_utf8_lossy(&printed.stdout).trim());
    let files = fs::read_dir(&folder).unwrap_or_else(|error| {
        panic!("{folder}: {error}: tests/cluster/build.sh fetches the definitions, as `make test` does (needs Go)")
    });
    let read = |file: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        serde_saphyr::from_str(&text).unwrap()
    };
    files.map(read).collect()
}

/// What the definition of a kind says of its objects.
fn definition<R: Object>(all: &[Value]) -> &Value {
    let is_it = |definition: &&Value| {
        let spec = &definition["spec"];
        spec["group"] == R::GROUP && spec["names"]["plural"] == R::PLURAL && spec["names"]["kind"] == R::KIND
    };
    let definition = all
        .iter()
        .find(is_it)
        .unwrap_or_else(|| panic!("no {}", R::PLURAL));
    let versions = definition["spec"]["versions"].as_array().unwrap();
    let ours = versions
        .iter()
        .find(|it| it["name"] == R::VERSION && it["served"] == true);
    let ours = ours.unwrap_or_else(|| panic!("{} of {} is not served", R::PLURAL, R::VERSION));
    &ours["schema"]["openAPIV3Schema"]
}

/// Where what we read (`ours`, of the schema `root`) is not as published.
fn differences(at: &str, ours: &Value, root: &Value, published: &Value) -> Vec<String> {
    let ours = resolved(ours, root);
    let mut differences = Vec::new();
    let (mut read, promised) = (types(ours, root), types(published, root));
    // Where we take null, nobody has to send it.
    if !promised.contains("null") {
        read.remove("null");
    }
    if read != promised {
        differences.push(format!("{at}: we read {read:?}, published is {promised:?}"));
    }
    let needed = |schema: &Value| {
        let names = schema["required"].as_array().into_iter().flatten();
        names.map(ToString::to_string).collect::<BTreeSet<_>>()
    };
    for name in needed(ours).difference(&needed(published)) {
        differences.push(format!("{at}: we need {name}, which may be absent"));
    }
    for (name, field) in ours["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match published["properties"].get(name) {
            Some(published) => differences.extend(self::differences(&at, field, root, published)),
            None => differences.push(format!("{at}: is not published")),
        }
    }
    if let Some(items) = ours.get("items") {
        let at = format!("{at}[]");
        differences.extend(self::differences(&at, items, root, &published["items"]));
    }
    differences
}

/// The schema behind a reference, or the one that may be null.
fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolved(root.pointer(reference.trim_start_matches('#')).unwrap(), root);
    }
    match schema["anyOf"].as_array().map(Vec::as_slice) {
        Some([one, null]) if null["type"] == "null" => resolved(one, root),
        _ => schema,
    }
}

fn types(schema: &Value, root: &Value) -> BTreeSet<String> {
    let of = |value: &Value| value.as_str().unwrap().to_owned();
    // Whatever the type says.
    if schema["x-kubernetes-int-or-string"] == true {
        return ["integer", "string"].map(str::to_owned).into();
    }
    match (&schema["type"], &schema["anyOf"]) {
        (Value::Array(all), _) => all.iter().map(of).collect(),
        (one @ Value::String(_), _) => [of(one)].into(),
        (_, Value::Array(all)) => all
            .iter()
            .flat_map(|one| types(resolved(one, root), root))
            .collect(),
        _ => panic!("no type in {schema}"),
    }
}

fn check<R: Object<Raw: JsonSchema>>(published: &[Value]) {
    let ours = schema_for!(R::Raw).to_value();
    let differences = differences(R::KIND, &ours, &ours, definition::<R>(published));
    assert!(differences.is_empty(), "{differences:#?}");
    // An empty schema would pass.
    assert!(
        ours["properties"]
            .as_object()
            .is_some_and(|fields| !fields.is_empty())
    );
}

#[test]
fn what_is_read_of_snapshots_and_grants_is_what_is_published() {
    let published = published();
    check::<Snapshot>(&published);
    check::<SnapshotContent>(&published);
    check::<ReferenceGrant>(&published);
}

#[test]
fn a_field_that_is_missing_of_another_type_or_not_always_there_is_found() {
    let published = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string"},
        "b": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "c": {"type": "array", "items": {"type": "object", "properties": {"d": {"type": "boolean"}}}},
    }});
    let found = |ours: Value| differences("K", &ours, &ours, &published);
    let of = |fields: Value| json!({"type": "object", "properties": fields});
    let nothing: [&str; 0] = [];
    let flags = |kind: &str| json!({"type": ["array", "null"], "items": of(json!({"d": {"type": kind}}))});
    assert_eq!(
        found(of(
            json!({"a": {"type": ["string", "null"]}, "c": flags("boolean"),
            "b": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}})
        )),
        nothing
    );
    assert_eq!(
        found(of(json!({"e": {"type": "string"}}))),
        ["K.e: is not published"]
    );
    assert_eq!(
        found(of(json!({"b": {"type": "string"}}))),
        ["K.b: we read {\"string\"}, published is {\"integer\", \"string\"}"]
    );
    assert_eq!(
        found(of(json!({"c": flags("string")}))),
        ["K.c[].d: we read {\"string\"}, published is {\"boolean\"}"]
    );
    let mut needs = of(json!({"a": {"type": "string"}, "b": published["properties"]["b"]}));
    needs["required"] = json!(["a", "b"]);
    assert_eq!(found(needs), ["K: we need \"b\", which may be absent"]);
}
