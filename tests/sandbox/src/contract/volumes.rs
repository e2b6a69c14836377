//! Validation and defaults of volumes, claims, classes, leases, events and secrets.

use serde_json::{Value, json};

use super::{
    Case, CaseResult,
    probe::{Probe, same},
    samples::{claim, lease, volume},
};
use crate::{Kind, PatchKind};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "a volume needs capacity, access modes and one source",
            bad_volumes,
        ),
        Case::new("the source of a volume is immutable", volume_source),
        Case::new("a claim needs access modes and a size", bad_claims),
        Case::new("a claim's spec is immutable but for its binding", claim_spec),
        Case::new("defaults are filled in", defaults),
        Case::new("a lease needs a positive duration", bad_lease),
        Case::new("an event lives in the namespace of what it is about", events),
        Case::new("parameters of a class are immutable", class),
    ]
}

fn kind(plural: &str) -> Result<&'static Kind, String> {
    Kind::named(plural).ok_or_else(|| format!("no kind {plural}"))
}

async fn bad_volumes(probe: Probe) -> CaseResult {
    let volumes = kind("persistentvolumes")?.path("", "");
    let name = probe.name();
    for (path, value, text) in [
        (
            "/spec/capacity",
            Value::Null,
            "spec.capacity: Required value, spec.capacity: Unsupported value: null: supported values: \"storage\"",
        ),
        (
            "/spec/capacity/storage",
            json!("0"),
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            "/spec/accessModes",
            Value::Null,
            "spec.accessModes: Required value",
        ),
        (
            "/spec/accessModes",
            json!(["Sometimes"]),
            "spec.accessModes: Unsupported value: \"Sometimes\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
        ),
        (
            "/spec/csi",
            Value::Null,
            "spec: Required value: must specify a volume type",
        ),
        ("/spec/csi/driver", json!(""), "spec.csi.driver: Required value"),
        (
            "/spec/csi/driver",
            json!("no driver"),
            "spec.csi.driver: Invalid value: \"no driver\"",
        ),
        (
            "/spec/csi/volumeHandle",
            json!(""),
            "spec.csi.volumeHandle: Required value",
        ),
        (
            "/spec/csi/nodePublishSecretRef",
            json!({"name": "a"}),
            "spec.csi.nodePublishSecretRef.namespace: Required value",
        ),
        (
            "/spec/csi/nodeExpandSecretRef",
            json!({"namespace": "a"}),
            "spec.csi.nodeExpandSecretRef.name: Required value",
        ),
        (
            "/spec/csi/controllerPublishSecretRef",
            json!({}),
            "spec.csi.controllerPublishSecretRef.name: Required value",
        ),
        (
            "/spec/csi/controllerExpandSecretRef",
            json!({"name": "a"}),
            "spec.csi.controllerExpandSecretRef.namespace: Required value",
        ),
        (
            "/spec/storageClassName",
            json!("Bad_"),
            "spec.storageClassName: Invalid value: \"Bad_\"",
        ),
        (
            "/spec/volumeMode",
            json!("Tape"),
            "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
        ),
        (
            "/spec/persistentVolumeReclaimPolicy",
            json!("Keep"),
            "Unsupported value: \"Keep\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
        ),
    ] {
        let mut object = volume(&name);
        let (parent, field) = path.rsplit_once('/').unwrap_or_default();
        if let Some(parent) = object.pointer_mut(parent) {
            parent[field] = value;
        }
        let refused = probe.post(&volumes, object).await.refused(422, "Invalid", text);
        refused.map_err(|why| format!("{path}: {why}"))?;
    }
    // One reference that nobody looks at.
    let mut object = volume(&name);
    object["spec"]["csi"]["nodeStageSecretRef"] = json!({"name": "a"});
    probe.make(kind("persistentvolumes")?, object).await?;
    Ok(())
}

async fn volume_source(probe: Probe) -> CaseResult {
    let (_, path) = probe
        .make(kind("persistentvolumes")?, volume(&probe.name()))
        .await?;
    let other = json!({"spec": {"csi": {"volumeHandle": "other"}}});
    let refused = probe.patch(&path, PatchKind::Merge, other).await;
    refused.refused(
        422,
        "Invalid",
        "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
    )?;
    let mode = probe
        .patch(&path, PatchKind::Merge, json!({"spec": {"volumeMode": "Block"}}))
        .await;
    mode.refused(
        422,
        "Invalid",
        "is invalid: volumeMode: Invalid value: \"Block\": field is immutable",
    )?;
    let policy = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    let policy = probe.patch(&path, PatchKind::Merge, policy).await.is(200)?;
    same(
        "policy",
        &policy["spec"]["persistentVolumeReclaimPolicy"],
        "Delete",
    )
}

async fn bad_claims(probe: Probe) -> CaseResult {
    let claims = kind("persistentvolumeclaims")?.path(probe.namespace(), "");
    let empty = json!({"metadata": {"name": probe.name()}, "spec": {}});
    let refused = probe.post(&claims, empty).await;
    refused.refused(422, "Invalid", "[spec.accessModes: Required value: at least 1 access mode is required, spec.resources[storage]: Required value]")?;
    Ok(())
}

async fn claim_spec(probe: Probe) -> CaseResult {
    let (_, path) = probe
        .make(kind("persistentvolumeclaims")?, claim(&probe.name()))
        .await?;
    let text = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    probe
        .patch(&path, PatchKind::Merge, grow)
        .await
        .refused(422, "Invalid", text)?;
    let bind = json!({"spec": {"volumeName": "contract-absent"}});
    let bound = probe.patch(&path, PatchKind::Merge, bind).await.is(200)?;
    same("volumeName", &bound["spec"]["volumeName"], "contract-absent")?;
    let again = json!({"spec": {"volumeName": "contract-other"}});
    probe
        .patch(&path, PatchKind::Merge, again)
        .await
        .refused(422, "Invalid", text)?;
    Ok(())
}

async fn defaults(probe: Probe) -> CaseResult {
    let (made, _) = probe
        .make(kind("persistentvolumes")?, volume(&probe.name()))
        .await?;
    same("policy", &made["spec"]["persistentVolumeReclaimPolicy"], "Retain")?;
    same("mode", &made["spec"]["volumeMode"], "Filesystem")?;
    same("phase", &made["status"]["phase"], "Pending")?;
    let (made, _) = probe
        .make(kind("persistentvolumeclaims")?, claim(&probe.name()))
        .await?;
    same("mode", &made["spec"]["volumeMode"], "Filesystem")?;
    same("phase", &made["status"]["phase"], "Pending")?;
    let class = json!({"metadata": {"name": probe.name()}, "provisioner": "contract.example.com"});
    let (made, _) = probe.make(kind("storageclasses")?, class).await?;
    same("policy", &made["reclaimPolicy"], "Delete")?;
    same("binding", &made["volumeBindingMode"], "Immediate")?;
    let secret = json!({"metadata": {"name": probe.name()}, "stringData": {"a": "b"}});
    let (made, _) = probe.make(kind("secrets")?, secret).await?;
    same("type", &made["type"], "Opaque")?;
    same("data", &made["data"], json!({"a": "Yg=="}))?;
    same("plain text", &made["stringData"], Value::Null)?;
    let attachment = json!({
        "metadata": {"name": probe.name()},
        "spec": {"attacher": "a", "nodeName": "none", "source": {"persistentVolumeName": "none"}},
        "status": {"attached": true},
    });
    let (made, _) = probe.make(kind("volumeattachments")?, attachment).await?;
    same("attached", &made["status"]["attached"], false)
}

async fn bad_lease(probe: Probe) -> CaseResult {
    let mut object = lease(&probe.name());
    object["spec"]["leaseDurationSeconds"] = 0.into();
    let refused = probe
        .post(&kind("leases")?.path(probe.namespace(), ""), object)
        .await;
    refused.refused(
        422,
        "Invalid",
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
    )?;
    Ok(())
}

async fn events(probe: Probe) -> CaseResult {
    let event = |name: &str, about: Value| json!({"metadata": {"name": name}, "involvedObject": about, "reason": "Test"});
    let here = kind("events")?.path(probe.namespace(), "");
    let elsewhere = event(
        &probe.name(),
        json!({"kind": "Pod", "name": "x", "namespace": "default"}),
    );
    let refused = probe.post(&here, elsewhere).await;
    refused.refused(
        422,
        "Invalid",
        "involvedObject.namespace: Invalid value: \"default\": does not match event.namespace",
    )?;
    let mut clusterwide = event(&probe.name(), json!({"kind": "PersistentVolume", "name": "x"}));
    // Only events with an eventTime are held to 1024 bytes.
    clusterwide["message"] = "x".repeat(17 * 1024).into();
    let refused = probe.post(&here, clusterwide.clone()).await;
    refused.refused(422, "Invalid", "involvedObject.namespace")?;
    let default = kind("events")?.path("default", "");
    let made = probe.post(&default, clusterwide).await.is(201)?;
    same("message", &made["message"], "x".repeat(17 * 1024))?;
    let name = made["metadata"]["name"].as_str().unwrap_or_default();
    probe
        .delete(&kind("events")?.path("default", name))
        .await
        .is(200)?;
    Ok(())
}

async fn class(probe: Probe) -> CaseResult {
    let class = json!({"metadata": {"name": probe.name()}, "provisioner": "contract.example.com"});
    let (_, path) = probe.make(kind("storageclasses")?, class).await?;
    for (field, value) in [
        ("parameters", json!({"a": "b"})),
        ("reclaimPolicy", json!("Retain")),
        ("provisioner", json!("x")),
    ] {
        let refused = probe.patch(&path, PatchKind::Merge, json!({field: value})).await;
        refused.refused(422, "Invalid", field)?;
    }
    Ok(())
}
