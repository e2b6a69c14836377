//! Resources that come with a CRD: absent, installed, and what the server does with them by their schema.

use serde_json::{Value, json};

use super::{
    Case, CaseResult,
    probe::{Probe, holds, same},
    samples::{content, grant, snapshot},
};
use crate::{KINDS, Kind, PatchKind};

/// What there is to see before the CRDs are there, and that they come.
pub(crate) fn before() -> Vec<Case> {
    vec![
        Case::new("a resource without its CRD is not found", absent),
        Case::new("a CRD that is installed is served soon", installed),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a custom resource is sent with its kind", unnamed),
        Case::new("a custom resource has no strategic merge patch", strategic),
        Case::new("what the schema does not name is dropped", pruned),
        Case::new("what does not fit the schema is refused", misfits),
        Case::new("a snapshot's status is written by its subresource only", status),
        Case::new("a snapshot stays until its last finalizer is gone", finalized),
    ]
}

fn custom() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().filter(|kind| kind.custom)
}

fn kind(plural: &str) -> Result<&'static Kind, String> {
    Kind::named(plural).ok_or_else(|| format!("no kind {plural}"))
}

/// Everyone that has a schema of its own, as the server accepts it.
fn samples(probe: &Probe) -> [(&'static str, Value); 3] {
    [
        ("volumesnapshots", snapshot(&probe.name())),
        (
            "volumesnapshotcontents",
            content(&probe.name(), probe.namespace()),
        ),
        ("referencegrants", grant(&probe.name())),
    ]
}

async fn absent(probe: Probe) -> CaseResult {
    for (plural, object) in samples(&probe) {
        let kind = kind(plural)?;
        let (all, one) = (
            kind.path(probe.namespace(), ""),
            kind.path(probe.namespace(), "x"),
        );
        for path in [
            format!("/apis/{}", kind.group),
            format!("/apis/{}", kind.api_version()),
            kind.path("", ""),
            all.clone(),
            format!("{all}?watch=1"),
            one.clone(),
        ] {
            let body = probe.get(&path).await.is(404)?;
            same(&path, &body, "404 page not found\n")?;
        }
        probe.post(&all, object.clone()).await.is(404)?;
        probe.put(&one, object).await.is(404)?;
        probe.delete(&one).await.is(404)?;
    }
    Ok(())
}

async fn installed(probe: Probe) -> CaseResult {
    if let Some(install) = &probe.target().install {
        install().await;
    }
    for kind in custom() {
        let group = format!("/apis/{}", kind.api_version());
        loop {
            let list = probe.get(&group).await;
            let served = list.body["resources"].as_array().into_iter().flatten();
            let told = served.clone().any(|resource| resource["name"] == kind.plural);
            if told && probe.get(&kind.path("", "")).await.code == 200 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

async fn unnamed(probe: Probe) -> CaseResult {
    for (plural, object) in samples(&probe) {
        let kind = kind(plural)?;
        let all = kind.path(probe.namespace(), "");
        let (made, path) = probe.make(kind, object.clone()).await?;
        let without = |object: &Value, field: &str| {
            let mut object = object.clone();
            object.as_object_mut().and_then(|object| object.remove(field));
            object
        };
        for (field, text) in [
            ("kind", "Object 'Kind' is missing in"),
            ("apiVersion", "does not match the expected API version"),
        ] {
            let posted = probe.post(&all, without(&object, field)).await;
            posted.refused(400, "BadRequest", text)?;
            let put = probe.put(&path, without(&made, field)).await;
            put.refused(400, "BadRequest", text)?;
        }
    }
    Ok(())
}

async fn strategic(probe: Probe) -> CaseResult {
    for (plural, object) in samples(&probe) {
        let (_, path) = probe.make(kind(plural)?, object).await?;
        let patch = probe.patch(&path, PatchKind::Strategic, json!({})).await;
        patch.refused(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json",
        )?;
    }
    Ok(())
}

async fn pruned(probe: Probe) -> CaseResult {
    for (plural, mut object) in samples(&probe) {
        object["unheard"] = "of".into();
        object["spec"]["unheard"] = "of".into();
        let (made, path) = probe.make(kind(plural)?, object).await?;
        same("unknown field", &made["unheard"], Value::Null)?;
        same("unknown field of the spec", &made["spec"]["unheard"], Value::Null)?;
        // A write of the whole object, for one finalizer, loses nothing that was there.
        let mut whole = probe.settled(&path).await?;
        whole["metadata"]["finalizers"] = json!(["contract.example.com/hold"]);
        let put = probe.put(&path, whole).await.is(200)?;
        same("spec", &put["spec"], made["spec"].clone())?;
    }
    Ok(())
}

async fn misfits(probe: Probe) -> CaseResult {
    for (plural, field, value, text) in [
        (
            "volumesnapshots",
            "/spec/source",
            json!({}),
            "spec.source: Invalid value: ",
        ),
        (
            "volumesnapshots",
            "/spec/source",
            Value::Null,
            "spec.source: Required value",
        ),
        (
            "volumesnapshots",
            "/spec/source/persistentVolumeClaimName",
            json!(7),
            "spec.source.persistentVolumeClaimName in body must be of type string: \"integer\"",
        ),
        (
            "volumesnapshotcontents",
            "/spec/deletionPolicy",
            json!("Perhaps"),
            "spec.deletionPolicy: Unsupported value: \"Perhaps\": supported values: \"Delete\", \"Retain\"",
        ),
        (
            "volumesnapshotcontents",
            "/spec/driver",
            Value::Null,
            "spec.driver: Required value",
        ),
        (
            "volumesnapshotcontents",
            "/spec/volumeSnapshotRef",
            json!({"name": "x"}),
            "both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set",
        ),
        (
            "referencegrants",
            "/spec/from",
            json!([]),
            "spec.from in body should have at least 1 items",
        ),
        (
            "referencegrants",
            "/spec/to",
            json!([{"group": ""}]),
            "spec.to[0].kind: Required value",
        ),
        (
            "referencegrants",
            "/spec/to",
            Value::Null,
            "spec.to: Required value",
        ),
    ] {
        let found = samples(&probe).into_iter().find(|(known, _)| *known == plural);
        let (_, mut object) = found.ok_or(plural)?;
        if let Some(place) = object.pointer_mut(field) {
            *place = value;
        }
        let all = kind(plural)?.path(probe.namespace(), "");
        probe.post(&all, object).await.refused(422, "Invalid", text)?;
    }
    Ok(())
}

async fn status(probe: Probe) -> CaseResult {
    for (plural, mut object, size) in [
        ("volumesnapshots", snapshot(&probe.name()), json!("1Gi")),
        (
            "volumesnapshotcontents",
            content(&probe.name(), probe.namespace()),
            json!(1_i64 << 30),
        ),
    ] {
        object["status"] = json!({"readyToUse": true});
        let (made, path) = probe.make(kind(plural)?, object).await?;
        same("status at creation", &made["status"], Value::Null)?;
        let main = json!({"status": {"readyToUse": true}});
        let main = probe.patch(&path, PatchKind::Merge, main).await.is(200)?;
        same("the main resource ignores status", &main["status"], Value::Null)?;

        let status = format!("{path}/status");
        let mut whole = probe.get(&status).await.is(200)?;
        whole["status"] = json!({"readyToUse": true, "restoreSize": size, "unheard": "of"});
        whole["spec"]["volumeSnapshotClassName"] = "ignored".into();
        whole["metadata"]["labels"] = json!({"ignored": "too"});
        let put = probe.put(&status, whole.clone()).await.is(200)?;
        let known = json!({"readyToUse": true, "restoreSize": size});
        same("status", &put["status"], known)?;
        same("spec", &put["spec"], made["spec"].clone())?;
        same("labels", &put["metadata"]["labels"], Value::Null)?;
        probe.put(&status, whole).await.refused(
            409,
            "Conflict",
            "the object has been modified; please apply your changes to the latest version and try again",
        )?;

        let merge = json!({"status": {"readyToUse": false}});
        let merged = probe.patch(&status, PatchKind::Merge, merge).await.is(200)?;
        same("ready", &merged["status"]["readyToUse"], false)?;
        let patch = json!([{"op": "replace", "path": "/status/readyToUse", "value": true}]);
        let patched = probe.patch(&status, PatchKind::Json, patch).await.is(200)?;
        same("ready", &patched["status"]["readyToUse"], true)?;
        let bad = json!({"status": {"readyToUse": "yes"}});
        probe.patch(&status, PatchKind::Merge, bad).await.refused(
            422,
            "Invalid",
            "readyToUse in body must be of type boolean: \"string\"",
        )?;
        let negative = json!({"status": {"restoreSize": -1}});
        let negative = probe.patch(&status, PatchKind::Merge, negative).await;
        match plural {
            // A quantity may be negative.
            "volumesnapshots" => drop(negative.is(200)?),
            _ => drop(negative.refused(422, "Invalid", "should be greater than or equal to 0")?),
        }
    }
    Ok(())
}

async fn finalized(probe: Probe) -> CaseResult {
    for (plural, object) in samples(&probe) {
        let (made, path) = probe.make(kind(plural)?, object).await?;
        let mut whole = made.clone();
        whole["metadata"]["finalizers"] = json!(["contract.example.com/hold"]);
        let held = probe.put(&path, whole).await.is(200)?;
        let deleted = probe.delete(&path).await.is(200)?;
        same("what DELETE answers", &deleted["kind"], made["kind"].clone())?;
        let mut dying = probe.get(&path).await.is(200)?;
        holds("it is marked", dying["metadata"]["deletionTimestamp"].is_string())?;
        let uid = held["metadata"]["uid"].clone();
        same("uid", &dying["metadata"]["uid"], uid)?;
        let mut more = dying.clone();
        more["metadata"]["finalizers"] = json!(["contract.example.com/hold", "contract.example.com/more"]);
        probe.put(&path, more).await.refused(
            422,
            "Invalid",
            "no new finalizers can be added if the object is being deleted",
        )?;
        dying["metadata"]["finalizers"] = Value::Null;
        probe.put(&path, dying).await.is(200)?;
        probe.gone(&path).await?;
    }
    Ok(())
}
