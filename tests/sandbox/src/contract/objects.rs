//! What the server does to any object: names, metadata, finalizers, preconditions, writes that change nothing.

use serde_json::{Value, json};

use super::{
    Case, CaseResult,
    probe::{Probe, holds, same},
    samples::{claim, lease, volume},
};
use crate::{Kind, PatchKind};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a name that is no DNS subdomain is invalid", bad_names),
        Case::new("generateName makes a name", generated),
        Case::new("a new object may not carry a resourceVersion", versioned),
        Case::new("a body of another kind, or none, is a bad request", bad_bodies),
        Case::new("unknown fields are dropped", unknown_fields),
        Case::new("an object goes into a namespace that exists", absent_namespace),
        Case::new("annotations have a limit and qualified names", annotations),
        Case::new("a write that changes nothing is no write", no_change),
        Case::new("a PUT of another uid, version or name is refused", puts),
        Case::new("a patch with a stale resourceVersion conflicts", stale_patch),
        Case::new("strategic merge adds and removes single finalizers", strategic),
        Case::new("finalizers keep a deleted object until they are gone", finalizers),
    ]
}

fn kind(plural: &str) -> Result<&'static Kind, String> {
    Kind::named(plural).ok_or_else(|| format!("no kind {plural}"))
}

async fn bad_names(probe: Probe) -> CaseResult {
    let volumes = kind("persistentvolumes")?.path("", "");
    for name in ["Upper", "under_score", "-dash", "dot.", &"a".repeat(254)] {
        let refused = probe.post(&volumes, volume(name)).await;
        let text = format!("PersistentVolume {name:?} is invalid: metadata.name: Invalid value: {name:?}: ");
        let status = match name.len() {
            254 => refused.is(422)?,
            _ => refused.refused(422, "Invalid", &text)?,
        };
        same("cause", &status["details"]["causes"][0]["field"], "metadata.name")?;
        same(
            "cause",
            &status["details"]["causes"][0]["reason"],
            "FieldValueInvalid",
        )?;
    }
    let nameless = probe.post(&volumes, volume("")).await;
    nameless.refused(
        422,
        "Invalid",
        "metadata.name: Required value: name or generateName is required",
    )?;
    Ok(())
}

async fn generated(probe: Probe) -> CaseResult {
    let mut object = volume("");
    let prefix = format!("{}-", probe.name());
    object["metadata"]["generateName"] = prefix.clone().into();
    let (made, _) = probe.make(kind("persistentvolumes")?, object).await?;
    let name = made["metadata"]["name"].as_str().unwrap_or_default();
    holds(
        "prefix and five characters",
        name.starts_with(&prefix) && name.len() == prefix.len() + 5,
    )
}

async fn versioned(probe: Probe) -> CaseResult {
    let mut object = lease(&probe.name());
    object["metadata"]["resourceVersion"] = "1".into();
    let leases = kind("leases")?.path(probe.namespace(), "");
    let refused = probe.post(&leases, object).await;
    refused.refused(
        500,
        "",
        "resourceVersion should not be set on objects to be created",
    )?;
    Ok(())
}

async fn bad_bodies(probe: Probe) -> CaseResult {
    let (admin, volumes) = (
        probe.target().admin.clone(),
        kind("persistentvolumes")?.path("", ""),
    );
    let cut = probe
        .send(&admin, "POST", &volumes, "application/json", b"{cut".to_vec())
        .await;
    cut.refused(
        400,
        "BadRequest",
        "the object provided is unrecognized (must be of type PersistentVolume)",
    )?;
    let mut other = volume(&probe.name());
    (other["kind"], other["apiVersion"]) = ("Secret".into(), "v1".into());
    let refused = probe.post(&volumes, other).await;
    refused.refused(
        400,
        "BadRequest",
        "Secret in version \"v1\" cannot be handled as a PersistentVolume",
    )?;
    let mut number = volume(&probe.name());
    number["metadata"]["annotations"] = json!({"a": 1});
    let refused = probe.post(&volumes, number).await;
    refused.refused(
        400,
        "BadRequest",
        "PersistentVolume in version \"v1\" cannot be handled as a PersistentVolume",
    )?;
    let mut size = volume(&probe.name());
    size["spec"]["capacity"]["storage"] = "big".into();
    let refused = probe.post(&volumes, size).await;
    refused.refused(400, "BadRequest", "quantities must match the regular expression")?;
    Ok(())
}

async fn unknown_fields(probe: Probe) -> CaseResult {
    let mut object = lease(&probe.name());
    object["spec"]["unheardOf"] = "x".into();
    let (made, _) = probe.make(kind("leases")?, object).await?;
    same("unknown field", &made["spec"]["unheardOf"], Value::Null)?;
    same(
        "microseconds stay",
        &made["spec"]["renewTime"],
        "2026-01-02T03:04:05.678901Z",
    )
}

async fn absent_namespace(probe: Probe) -> CaseResult {
    let absent = probe.name();
    let claims = kind("persistentvolumeclaims")?.path(&absent, "");
    let refused = probe.post(&claims, claim("a")).await;
    refused.refused(404, "NotFound", &format!("namespaces {absent:?} not found"))?;
    let listed = probe.get(&claims).await.is(200)?;
    same("a list there is empty", &listed["items"], json!([]))?;
    let mut elsewhere = claim(&probe.name());
    elsewhere["metadata"]["namespace"] = "default".into();
    let claims = kind("persistentvolumeclaims")?.path(probe.namespace(), "");
    let refused = probe.post(&claims, elsewhere).await;
    refused.refused(
        400,
        "BadRequest",
        "the namespace of the provided object does not match the namespace sent on the request",
    )?;
    Ok(())
}

async fn annotations(probe: Probe) -> CaseResult {
    let leases = kind("leases")?;
    let all = leases.path(probe.namespace(), "");
    let mut object = lease(&probe.name());
    object["metadata"]["annotations"] = json!({"a/b": "x".repeat(256 * 1024 - 3)});
    probe.make(leases, object.clone()).await?;
    object["metadata"]["name"] = probe.name().into();
    object["metadata"]["annotations"] = json!({"a/b": "x".repeat(256 * 1024 - 2)});
    let refused = probe.post(&all, object.clone()).await;
    refused.refused(
        422,
        "Invalid",
        "metadata.annotations: Too long: may not be more than 262144 bytes",
    )?;
    // What was within the limit may not grow beyond it, however many keys it is spread over.
    let (mut made, path) = probe.make(leases, lease(&probe.name())).await?;
    for key in 0..8 {
        made["metadata"]["annotations"][format!("a/{key}")] = "x".repeat(32 * 1024 - 3).into();
    }
    let mut made = probe.put(&path, made).await.is(200)?;
    made["metadata"]["annotations"]["a"] = "".into();
    let refused = probe.put(&path, made).await;
    refused.refused(
        422,
        "Invalid",
        "metadata.annotations: Too long: may not be more than 262144 bytes",
    )?;
    for (key, good) in [
        ("a b", false),
        ("-a", false),
        ("a/b/c", false),
        ("/a", false),
        ("a/", false),
        ("A.b/C_d-e.f", true),
        (&format!("x.y/{}", "n".repeat(64)), false),
        (&format!("x.y/{}", "n".repeat(63)), true),
    ] {
        object["metadata"]["annotations"] = json!({key: ""});
        object["metadata"]["name"] = probe.name().into();
        if good {
            probe.make(leases, object.clone()).await?;
        } else {
            probe.post(&all, object.clone()).await.refused(
                422,
                "Invalid",
                "metadata.annotations: Invalid value: ",
            )?;
        }
    }
    Ok(())
}

async fn no_change(probe: Probe) -> CaseResult {
    let (_, path) = probe
        .make(kind("persistentvolumes")?, volume(&probe.name()))
        .await?;
    let read = probe.settled(&path).await?;
    let revision = read["metadata"]["resourceVersion"].clone();
    let put = probe.put(&path, read).await.is(200)?;
    same(
        "revision after the same PUT",
        &put["metadata"]["resourceVersion"],
        revision.clone(),
    )?;
    let patched = probe
        .patch(
            &path,
            PatchKind::Merge,
            json!({"spec": {"volumeMode": "Filesystem"}}),
        )
        .await
        .is(200)?;
    same(
        "revision after an idle patch",
        &patched["metadata"]["resourceVersion"],
        revision,
    )
}

async fn puts(probe: Probe) -> CaseResult {
    let (_, path) = probe
        .make(kind("persistentvolumes")?, volume(&probe.name()))
        .await?;
    let read = probe.settled(&path).await?;
    let with = |field: &str, value: &str| {
        let mut object = read.clone();
        object["metadata"]["resourceVersion"] = Value::Null;
        object["metadata"][field] = value.into();
        object
    };
    let uid = probe.put(&path, with("uid", "another")).await;
    uid.refused(
        409,
        "Conflict",
        "Precondition failed: UID in precondition: another, UID in object meta: ",
    )?;
    let version = probe.put(&path, with("resourceVersion", "abc")).await;
    version.refused(500, "", "strconv.ParseUint: parsing \"abc\": invalid syntax")?;
    let name = probe.put(&path, with("name", "another")).await;
    name.refused(
        400,
        "BadRequest",
        "the name of the object (another) does not match the name on the URL",
    )?;
    let kept = probe
        .put(&path, with("creationTimestamp", "2001-01-01T00:00:00Z"))
        .await
        .is(200)?;
    same(
        "the server keeps the time",
        &kept["metadata"]["creationTimestamp"],
        read["metadata"]["creationTimestamp"].clone(),
    )
}

async fn stale_patch(probe: Probe) -> CaseResult {
    let (made, path) = probe.make(kind("leases")?, lease(&probe.name())).await?;
    let old = made["metadata"]["resourceVersion"].clone();
    let guarded = |value: &str| json!({"metadata": {"resourceVersion": old, "labels": {"a": value}}});
    probe.patch(&path, PatchKind::Merge, guarded("1")).await.is(200)?;
    for kind in [PatchKind::Merge, PatchKind::Strategic] {
        let refused = probe.patch(&path, kind, guarded("2")).await;
        refused.refused(409, "Conflict", "the object has been modified")?;
    }
    let tested = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": old},
        {"op": "add", "path": "/metadata/labels/a", "value": "2"},
    ]);
    probe
        .patch(&path, PatchKind::Json, tested)
        .await
        .refused(422, "Invalid", "")?;
    let uid = json!({"metadata": {"uid": "another", "labels": {"a": "2"}}});
    probe.patch(&path, PatchKind::Merge, uid).await.refused(
        422,
        "Invalid",
        "metadata.uid: Invalid value: \"another\": field is immutable",
    )?;
    Ok(())
}

async fn strategic(probe: Probe) -> CaseResult {
    let (_, path) = probe
        .make(kind("persistentvolumes")?, volume(&probe.name()))
        .await?;
    let has = |object: &Value, name: &str| {
        object["metadata"]["finalizers"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|f| f == name)
    };
    let add = json!({"metadata": {"finalizers": ["a.example.com/x"]}});
    let added = probe.patch(&path, PatchKind::Strategic, add).await.is(200)?;
    holds(
        "added",
        has(&added, "a.example.com/x") && has(&added, "contract.example.com/hold"),
    )?;
    let remove = json!({"metadata": {
        "$deleteFromPrimitiveList/finalizers": ["a.example.com/x"],
        "$setElementOrder/finalizers": ["contract.example.com/hold", "kubernetes.io/pv-protection"],
    }});
    let removed = probe.patch(&path, PatchKind::Strategic, remove).await.is(200)?;
    holds(
        "removed",
        !has(&removed, "a.example.com/x") && has(&removed, "contract.example.com/hold"),
    )?;
    let bad = json!({"metadata": {"finalizers": ["nodomain"]}});
    let bad = probe.patch(&path, PatchKind::Strategic, bad).await;
    bad.refused(
        422,
        "Invalid",
        "name is neither a standard finalizer name nor is it fully qualified",
    )?;
    Ok(())
}

async fn finalizers(probe: Probe) -> CaseResult {
    let (made, path) = probe
        .make(kind("persistentvolumeclaims")?, claim(&probe.name()))
        .await?;
    let dying = probe.delete(&path).await.is(200)?;
    same(
        "the same object",
        &dying["metadata"]["uid"],
        made["metadata"]["uid"].clone(),
    )?;
    holds(
        "a time of deletion",
        dying["metadata"]["deletionTimestamp"].is_string(),
    )?;
    same("grace", &dying["metadata"]["deletionGracePeriodSeconds"], 0)?;
    let again = probe.delete(&path).await.is(200)?;
    same(
        "when",
        &again["metadata"]["deletionTimestamp"],
        dying["metadata"]["deletionTimestamp"].clone(),
    )?;
    let late = json!({"metadata": {"finalizers": ["late.example.com/x", "contract.example.com/hold"]}});
    let late = probe.patch(&path, PatchKind::Merge, late).await;
    late.refused(
        422,
        "Invalid",
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted",
    )?;
    let labelled = json!({"metadata": {"labels": {"a": "1"}, "deletionTimestamp": null}});
    let labelled = probe.patch(&path, PatchKind::Merge, labelled).await.is(200)?;
    holds(
        "deletion is for good",
        labelled["metadata"]["deletionTimestamp"].is_string(),
    )?;
    let twice = probe
        .post(
            &kind("persistentvolumeclaims")?.path(probe.namespace(), ""),
            claim(made["metadata"]["name"].as_str().unwrap_or_default()),
        )
        .await;
    twice.refused(409, "AlreadyExists", "already exists")?;
    let last = probe
        .patch(&path, PatchKind::Merge, json!({"metadata": {"finalizers": null}}))
        .await
        .is(200)?;
    same(
        "the last patch answers the object",
        &last["metadata"]["labels"]["a"],
        "1",
    )?;
    probe.get(&path).await.is(404)?;
    Ok(())
}
