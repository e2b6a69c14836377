//! Every verb and patch kind on every resource.

use serde_json::{Value, json};

use super::{
    Case, CaseResult,
    probe::{Probe, holds, same},
    samples::{capacity, claim, content, grant, lease, snapshot, volume},
};
use crate::{KINDS, Kind, PatchKind};

pub(crate) fn cases() -> Vec<Case> {
    let whole = KINDS.iter().map(|kind| {
        Case::new(format!("{} live and die by every verb", kind.plural), |probe| {
            life(probe, kind)
        })
    });
    let status = KINDS
        .iter()
        .filter(|kind| kind.status && !kind.custom)
        .map(|kind| {
            let name = format!("{} keep status and the rest apart", kind.plural);
            Case::new(name, |probe| status_apart(probe, kind))
        });
    whole.chain(status).collect()
}

fn sample(kind: &Kind, name: &str, namespace: &str) -> Value {
    match kind.plural {
        "persistentvolumes" => volume(name),
        "persistentvolumeclaims" => claim(name),
        "leases" => lease(name),
        "events" => json!({
            "metadata": {"name": name},
            "involvedObject": {"kind": "PersistentVolumeClaim", "name": "x", "namespace": namespace},
            "reason": "Test", "message": "a test", "type": "Normal", "count": 1,
        }),
        "secrets" => json!({"metadata": {"name": name}, "stringData": {"user": "joe"}}),
        "storageclasses" => json!({"metadata": {"name": name}, "provisioner": "contract.example.com"}),
        "volumeattachments" => json!({
            "metadata": {"name": name},
            "spec": {"attacher": "contract.example.com", "nodeName": "none", "source": {"persistentVolumeName": "none"}},
        }),
        "csinodes" => json!({
            "metadata": {"name": name},
            "spec": {"drivers": [{"name": "contract.example.com", "nodeID": "n", "topologyKeys": ["zone"]}]},
        }),
        "csidrivers" => json!({"metadata": {"name": name}, "spec": {"attachRequired": false}}),
        "volumeattributesclasses" => json!({
            "metadata": {"name": name}, "driverName": "contract.example.com", "parameters": {"iops": "1"},
        }),
        "csistoragecapacities" => capacity(name),
        "volumesnapshots" => snapshot(name),
        "volumesnapshotcontents" => content(name, namespace),
        "referencegrants" => grant(name),
        "pods" => json!({"metadata": {"name": name}, "spec": pod()}),
        "deployments" | "replicasets" | "statefulsets" | "daemonsets" => json!({
            "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": {"app": "x"}},
                "template": {"metadata": {"labels": {"app": "x"}}, "spec": pod()},
            },
        }),
        _ => json!({"metadata": {"name": name}}),
    }
}

fn pod() -> Value {
    json!({"containers": [{"name": "c", "image": "example.com/absent"}]})
}

async fn life(probe: Probe, kind: &'static Kind) -> CaseResult {
    let (namespace, name, absent) = (probe.namespace(), probe.name(), probe.name());
    let all = kind.path(namespace, "");
    let object = sample(kind, &name, namespace);
    let (made, path) = probe.make(kind, object.clone()).await?;
    same("kind", &made["kind"], kind.kind)?;
    same("apiVersion", &made["apiVersion"], kind.api_version())?;
    let meta = &made["metadata"];
    for given in ["uid", "resourceVersion", "creationTimestamp"] {
        holds(
            &format!("{given} is given by the server"),
            meta[given].is_string(),
        )?;
    }
    if let Some(finalizer) = kind.finalizer {
        let finalizers = meta["finalizers"].as_array().into_iter().flatten();
        holds(
            "admission adds its finalizer",
            finalizers.clone().any(|f| f == finalizer),
        )?;
    }
    let kind_path = kind.path(namespace, &absent);
    let qualified = if kind.group.is_empty() {
        kind.plural.into()
    } else {
        format!("{}.{}", kind.plural, kind.group)
    };

    // create and get
    let twice = probe.post(&all, object.clone()).await;
    let text = format!("{qualified} {name:?} already exists");
    let refused = twice.refused(409, "AlreadyExists", &text)?;
    same("details.name", &refused["details"]["name"], name.as_str())?;
    let read = probe.settled(&path).await?;
    same("uid", &read["metadata"]["uid"], meta["uid"].clone())?;
    let missing = probe.get(&kind_path).await;
    missing.refused(404, "NotFound", &format!("{qualified} {absent:?} not found"))?;

    // list, everywhere and by namespace
    let mut places = vec![all.clone()];
    if kind.namespaced {
        places.push(kind.path("", ""));
    }
    let mut revision = Value::Null;
    for place in places {
        let list = probe
            .get(&format!("{place}?fieldSelector=metadata.name%3D{name}"))
            .await
            .is(200)?;
        same("list kind", &list["kind"], format!("{}List", kind.kind))?;
        let item = &list["items"][0];
        same("item", &item["metadata"]["name"], name.as_str())?;
        let told = if kind.custom {
            kind.kind.into()
        } else {
            Value::Null
        };
        same("an item's kind", &item["kind"], told)?;
        revision = list["metadata"]["resourceVersion"].clone();
    }
    let revision = revision.as_str().unwrap_or_default().to_owned();

    // the three patch kinds
    let label = |body: &Value, key: &str| body["metadata"]["labels"][key].clone();
    let patched = probe
        .patch(
            &path,
            PatchKind::Merge,
            json!({"metadata": {"labels": {"a": "1"}}}),
        )
        .await
        .is(200)?;
    same("label", &label(&patched, "a"), "1")?;
    let tested = json!([
        {"op": "test", "path": "/metadata/labels/a", "value": "1"},
        {"op": "add", "path": "/metadata/labels/b", "value": "2"},
    ]);
    let patched = probe
        .patch(&path, PatchKind::Json, tested.clone())
        .await
        .is(200)?;
    same("label", &label(&patched, "b"), "2")?;
    let undone = json!({"metadata": {"labels": {"a": null}}});
    let strategic = if kind.custom {
        PatchKind::Merge
    } else {
        PatchKind::Strategic
    };
    let patched = probe.patch(&path, strategic, undone).await.is(200)?;
    same("label", &label(&patched, "a"), Value::Null)?;
    let failing = probe.patch(&path, PatchKind::Json, tested).await;
    failing.refused(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    )?;
    for patch in [PatchKind::Json, PatchKind::Merge, strategic] {
        let body = if patch == PatchKind::Json {
            json!([])
        } else {
            json!({})
        };
        probe
            .patch(&kind_path, patch, body)
            .await
            .refused(404, "NotFound", &absent)?;
    }

    // watch sees what was patched
    let watch = format!("{all}?watch=true&resourceVersion={revision}&fieldSelector=metadata.name%3D{name}");
    let seen = probe
        .watch(&watch, |event| event["object"]["metadata"]["labels"]["b"] == "2")
        .await?;
    holds(
        "patches are MODIFIED events",
        seen.iter().all(|event| event["type"] == "MODIFIED"),
    )?;

    // update, and what stands in its way
    let fresh = probe.settled(&path).await?;
    let mut changed = fresh.clone();
    changed["metadata"]["labels"]["c"] = "3".into();
    let updated = probe.put(&path, changed.clone()).await.is(200)?;
    same("label", &label(&updated, "c"), "3")?;
    changed["metadata"]["labels"]["c"] = "4".into();
    let stale = probe.put(&path, changed.clone()).await;
    stale.refused(
        409,
        "Conflict",
        "the object has been modified; please apply your changes to the latest version and try again",
    )?;
    changed["metadata"]["resourceVersion"] = Value::Null;
    let blind = probe.put(&path, changed.clone()).await;
    match kind.unconditional {
        true => same("label", &label(&blind.is(200)?, "c"), "4")?,
        false => drop(blind.refused(
            422,
            "Invalid",
            "metadata.resourceVersion: Invalid value: 0: must be specified for an update",
        )?),
    }
    let new = sample(kind, &absent, namespace);
    let put = probe.put(&kind_path, new).await;
    if kind.upsert {
        put.is(201)?;
        probe.delete(&kind_path).await.is(200)?;
    } else {
        put.refused(404, "NotFound", &absent)?;
    }
    if !kind.deletable {
        return Ok(());
    }

    // delete, with and without conditions
    for (condition, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let refused = probe.delete_if(&path, json!({condition: "1"})).await;
        let text = format!("the {what} in the precondition (1) does not match the {what} in record");
        refused.refused(409, "Conflict", &text)?;
    }
    // Whoever holds it lets go, a controller of the cluster perhaps first.
    let strip = json!({"metadata": {"finalizers": null}});
    probe.patch(&path, PatchKind::Merge, strip).await.is(200)?;
    let gone = probe
        .delete_if(&path, json!({"uid": updated["metadata"]["uid"]}))
        .await
        .is(200)?;
    let told = if kind.echoes { kind.kind } else { "Status" };
    same("what DELETE answers", &gone["kind"], told)?;
    probe.gone(&path).await?;
    probe.delete(&path).await.refused(404, "NotFound", &name)?;
    Ok(())
}

/// The main resource ignores status, `/status` ignores the spec; metadata goes both ways.
async fn status_apart(probe: Probe, kind: &'static Kind) -> CaseResult {
    let name = probe.name();
    let mut object = sample(kind, &name, probe.namespace());
    object["status"] = json!({"phase": "Failed"});
    let (made, path) = probe.make(kind, object).await?;
    same("status at creation", &made["status"]["phase"], "Pending")?;
    let status = format!("{path}/status");
    probe.settled(&path).await?;

    let main = json!({"status": {"phase": "Lost"}, "metadata": {"labels": {"main": "1"}}});
    let main = probe.patch(&path, PatchKind::Merge, main).await.is(200)?;
    holds(
        "the main resource ignores status",
        main["status"]["phase"] != "Lost",
    )?;
    same("label", &main["metadata"]["labels"]["main"], "1")?;

    let part = json!({"status": {"phase": "Failed"}, "spec": {"volumeMode": "Block"}, "metadata": {"labels": {"part": "1"}}});
    let part = probe.patch(&status, PatchKind::Merge, part).await.is(200)?;
    same("status", &part["status"]["phase"], "Failed")?;
    same(
        "/status ignores the spec",
        &part["spec"]["volumeMode"],
        "Filesystem",
    )?;
    same("metadata by /status", &part["metadata"]["labels"]["part"], "1")?;

    let patch = json!([{"op": "replace", "path": "/status/phase", "value": "Pending"}]);
    let json = probe.patch(&status, PatchKind::Json, patch).await.is(200)?;
    same("status", &json["status"]["phase"], "Pending")?;
    let patch = json!({"status": {"phase": "Failed"}});
    let strategic = probe.patch(&status, PatchKind::Strategic, patch).await.is(200)?;
    same("status", &strategic["status"]["phase"], "Failed")?;

    let mut fresh = probe.get(&status).await.is(200)?;
    fresh["status"]["phase"] = "Pending".into();
    let put = probe.put(&status, fresh.clone()).await.is(200)?;
    same("status", &put["status"]["phase"], "Pending")?;
    fresh["status"]["phase"] = "Failed".into();
    probe
        .put(&status, fresh)
        .await
        .refused(409, "Conflict", "the object has been modified")?;
    Ok(())
}
