//! Defaulting and validation per resource: only rules whose absence would let a test pass that a real server fails.

use serde_json::{Value, json};

use super::{failure::Cause, topology};

const ACCESS_MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
/// All annotations of one object together, keys and values, in bytes.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// Keys of a PersistentVolume spec that are not the volume source.
const VOLUME_FIELDS: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

/// Rules that hold for the metadata of every object.
pub(crate) fn check_metadata(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let meta = &object["metadata"];
    let mut causes = Vec::new();
    let name = text(&meta["name"]);
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if !is_subdomain(name) {
        causes.push(Cause::invalid("metadata.name", &format!("{name:?}"), SUBDOMAIN));
    }
    let keys = entries(&meta["annotations"]).map(|(key, _)| key);
    causes.extend(keys.filter_map(|key| topology::bad_key("metadata.annotations", key)));
    causes.extend(topology::check_labels("metadata.labels", &meta["labels"]));
    let size: usize = entries(&meta["annotations"])
        .map(|(key, value)| key.len() + text(value).len())
        .sum();
    if size > ANNOTATIONS_LIMIT {
        causes.push(Cause::too_long("metadata.annotations", ANNOTATIONS_LIMIT));
    }
    for (at, finalizer) in items(&meta["finalizers"]).enumerate() {
        let standard = ["foregroundDeletion", "orphan", "kubernetes"].contains(&text(finalizer));
        if !standard && !text(finalizer).contains('/') {
            causes.push(Cause::invalid(
                format!("metadata.finalizers[{at}]"),
                &finalizer.to_string(),
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    if let Some(old) = old.filter(|old| !old["metadata"]["deletionTimestamp"].is_null()) {
        let had: Vec<_> = items(&old["metadata"]["finalizers"]).collect();
        let new: Vec<_> = items(&meta["finalizers"])
            .filter(|f| !had.contains(f))
            .map(Value::to_string)
            .collect();
        if !new.is_empty() {
            let found = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                new.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", &found));
        }
    }
    causes
}

pub(crate) fn fill_volume(volume: &mut Value) {
    default(&mut volume["spec"], "persistentVolumeReclaimPolicy", "Retain");
    default(&mut volume["spec"], "volumeMode", "Filesystem");
    let now = volume["metadata"]["creationTimestamp"].clone();
    volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": now});
}

pub(crate) fn check_volume(volume: &Value, old: Option<&Value>) -> Vec<Cause> {
    let spec = &volume["spec"];
    let mut causes = check_access_modes(spec, "");
    match entries(&spec["capacity"]).next() {
        None => {
            causes.push(Cause::required("spec.capacity", ""));
            causes.push(Cause::unsupported_null("spec.capacity", "storage"));
        }
        Some(_) => causes.extend(check_size(&spec["capacity"]["storage"], "spec.capacity[storage]")),
    }
    for (field, allowed) in [
        (
            "persistentVolumeReclaimPolicy",
            &["Delete", "Recycle", "Retain"][..],
        ),
        ("volumeMode", &["Block", "Filesystem"][..]),
    ] {
        let value = text(&spec[field]);
        if !value.is_empty() && !allowed.contains(&value) {
            causes.push(Cause::unsupported(format!("spec.{field}"), value, allowed));
        }
    }
    if sources(spec).is_empty() {
        causes.push(Cause::required("spec", "must specify a volume type"));
    }
    if let Some(csi) = spec["csi"].as_object() {
        let driver = csi.get("driver").map(text).unwrap_or_default();
        match driver {
            "" => causes.push(Cause::required("spec.csi.driver", "")),
            name if !is_driver_name(name) => {
                causes.push(Cause::invalid("spec.csi.driver", &format!("{name:?}"), SUBDOMAIN));
            }
            _ => {}
        }
        if csi.get("volumeHandle").map(text).unwrap_or_default().is_empty() {
            causes.push(Cause::required("spec.csi.volumeHandle", ""));
        }
        // The server forgets to look at nodeStageSecretRef.
        let checked = |key: &str| key.ends_with("SecretRef") && key != "nodeStageSecretRef";
        for (key, secret) in csi.iter().filter(|(key, _)| checked(key)) {
            for part in ["name", "namespace"]
                .iter()
                .filter(|part| text(&secret[**part]).is_empty())
            {
                causes.push(Cause::required(format!("spec.csi.{key}.{part}"), ""));
            }
        }
    }
    let class = text(&spec["storageClassName"]);
    if !class.is_empty() && !is_subdomain(class) {
        causes.push(Cause::invalid(
            "spec.storageClassName",
            &format!("{class:?}"),
            SUBDOMAIN,
        ));
    }
    causes.extend(topology::check_affinity(volume, old));
    if let Some(old) = old {
        if sources(&old["spec"]) != sources(spec) {
            causes.push(Cause::forbidden(
                "spec.persistentvolumesource",
                "spec.persistentvolumesource is immutable after creation",
            ));
        }
        if old["spec"]["volumeMode"] != spec["volumeMode"] {
            let mode = spec["volumeMode"].to_string();
            causes.push(Cause::invalid("volumeMode", &mode, "field is immutable"));
        }
    }
    causes
}

pub(crate) fn fill_claim(claim: &mut Value) {
    default(&mut claim["spec"], "volumeMode", "Filesystem");
    claim["status"] = json!({"phase": "Pending"});
}

pub(crate) fn check_claim(claim: &Value, old: Option<&Value>) -> Vec<Cause> {
    let spec = &claim["spec"];
    let mut causes = check_access_modes(spec, "at least 1 access mode is required");
    let request = &spec["resources"]["requests"]["storage"];
    causes.extend(check_size(request, "spec.resources[storage]"));
    if let Some(old) = old {
        // The binder may set volumeName once, and a bound claim may grow.
        let (mut before, mut after) = (old["spec"].clone(), spec.clone());
        if text(&before["volumeName"]).is_empty() {
            remove(&mut before, "volumeName");
            remove(&mut after, "volumeName");
        }
        if text(&old["status"]["phase"]) == "Bound" {
            for spec in [&mut before, &mut after] {
                remove(&mut spec["resources"], "requests");
                remove(spec, "volumeAttributesClassName");
            }
        }
        if before != after {
            causes.push(Cause::forbidden(
                "spec",
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
            ));
        }
    }
    causes
}

pub(crate) fn fill_secret(secret: &mut Value) {
    default(secret, "type", "Opaque");
    // Write-only on the real server too.
    if let Some(plain) = remove(secret, "stringData") {
        for (key, value) in entries(&plain) {
            let encoded = k8s_openapi::ByteString(text(value).as_bytes().to_vec());
            secret["data"][key] = json!(encoded);
        }
    }
}

pub(crate) fn fill_namespace(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].clone();
    namespace["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
    namespace["status"] = json!({"phase": "Active"});
}

pub(crate) fn check_event(event: &Value, _: Option<&Value>) -> Vec<Cause> {
    // Events about cluster-scoped objects live in "default".
    let (namespace, about) = (
        text(&event["metadata"]["namespace"]),
        text(&event["involvedObject"]["namespace"]),
    );
    if about == namespace || about.is_empty() && namespace == "default" {
        return Vec::new();
    }
    vec![Cause::invalid(
        "involvedObject.namespace",
        &format!("{about:?}"),
        "does not match event.namespace",
    )]
}

pub(crate) fn fill_class(class: &mut Value) {
    default(class, "reclaimPolicy", "Delete");
    default(class, "volumeBindingMode", "Immediate");
}

pub(crate) fn check_class(class: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if text(&class["provisioner"]).is_empty() {
        causes.push(Cause::required("provisioner", ""));
    }
    causes.extend(topology::check_allowed(class));
    let Some(old) = old else { return causes };
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if old[field] != class[field] {
            let value = class[field].to_string();
            causes.push(Cause::invalid(field, &value, "field is immutable"));
        }
    }
    causes
}

pub(crate) fn fill_pod(pod: &mut Value) {
    default(&mut pod["spec"], "restartPolicy", "Always");
    default(&mut pod["spec"], "schedulerName", "default-scheduler");
    pod["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
}

pub(crate) fn check_pod(pod: &Value, old: Option<&Value>) -> Vec<Cause> {
    match old {
        // Some fields may change; none that this world has.
        Some(old) if old["spec"] != pod["spec"] => vec![Cause::forbidden(
            "spec",
            "pod updates may not change fields other than",
        )],
        None if items(&pod["spec"]["containers"]).next().is_none() => {
            vec![Cause::required("spec.containers", "")]
        }
        _ => Vec::new(),
    }
}

pub(crate) fn fill_attachment(attachment: &mut Value) {
    attachment["status"] = json!({"attached": false});
}

pub(crate) fn check_lease(lease: &Value, _: Option<&Value>) -> Vec<Cause> {
    match lease["spec"]["leaseDurationSeconds"].as_i64() {
        Some(seconds) if seconds <= 0 => vec![Cause::invalid(
            "spec.leaseDurationSeconds",
            &seconds.to_string(),
            "must be greater than 0",
        )],
        _ => Vec::new(),
    }
}

fn check_access_modes(spec: &Value, detail: &str) -> Vec<Cause> {
    if items(&spec["accessModes"]).next().is_none() {
        return vec![Cause::required("spec.accessModes", detail)];
    }
    items(&spec["accessModes"])
        .filter(|mode| !ACCESS_MODES.contains(&text(mode)))
        .map(|mode| Cause::unsupported("spec.accessModes", text(mode), ACCESS_MODES))
        .collect()
}

fn check_size(size: &Value, field: &str) -> Option<Cause> {
    match text(size) {
        "" => Some(Cause::required(field, "")),
        size if !size.bytes().any(|b| b.is_ascii_digit() && b != b'0') || size.starts_with('-') => Some(
            Cause::invalid(field, &format!("{size:?}"), "must be greater than zero"),
        ),
        _ => None,
    }
}

/// Whether the storage sizes in an object look like quantities at all: the
/// real server fails to decode the whole object otherwise.
pub(crate) fn has_bad_quantity(object: &Value) -> bool {
    let spec = &object["spec"];
    [
        &spec["capacity"]["storage"],
        &spec["resources"]["requests"]["storage"],
        &object["capacity"],
        &object["maximumVolumeSize"],
    ]
    .into_iter()
    .map(text)
    .any(|size| {
        let number = size.trim_start_matches(['+', '-']);
        let suffix = number.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        !size.is_empty()
            && (number.len() == suffix.len()
                || !suffix.chars().all(|c| "eEinumkKMGTP+-0123456789".contains(c)))
    })
}

fn sources(spec: &Value) -> Vec<(&str, &Value)> {
    entries(spec)
        .filter(|(key, _)| !VOLUME_FIELDS.contains(key))
        .collect()
}

pub(crate) fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

/// CSI driver names may use upper case, but no more than 63 characters.
fn is_driver_name(name: &str) -> bool {
    name.len() <= 63 && is_subdomain(&name.to_lowercase())
}

fn is_label(part: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    edge(part.chars().next())
        && edge(part.chars().next_back())
        && part
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

pub(crate) fn is_qualified(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(p, n)| (Some(p), n));
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    prefix.is_none_or(|prefix| is_subdomain(&prefix.to_lowercase()))
        && (1..=63).contains(&name.len())
        && edge(name.chars().next())
        && edge(name.chars().next_back())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// The string in a value, empty for anything else.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(crate) fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value))
}

pub(crate) fn remove(value: &mut Value, key: &str) -> Option<Value> {
    value.as_object_mut()?.remove(key)
}

fn default(value: &mut Value, key: &str, to: &str) {
    if text(&value[key]).is_empty() {
        value[key] = to.into();
    }
}
