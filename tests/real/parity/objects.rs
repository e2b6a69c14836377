//! Objects by kind and name: what a scenario says of one is laid over what most of its kind are like.

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::world::{SOON, World, eventually, text};

/// Kind, group, version, and whether it is in a namespace.
const KINDS: [(&str, &str, &str, bool); 13] = [
    ("CSINode", "storage.k8s.io", "v1", false),
    ("CSIStorageCapacity", "storage.k8s.io", "v1", true),
    ("Lease", "coordination.k8s.io", "v1", true),
    ("Node", "", "v1", false),
    ("PersistentVolume", "", "v1", false),
    ("PersistentVolumeClaim", "", "v1", true),
    ("Pod", "", "v1", true),
    ("Secret", "", "v1", true),
    ("StorageClass", "storage.k8s.io", "v1", false),
    ("VolumeAttachment", "storage.k8s.io", "v1", false),
    ("VolumeAttributesClass", "storage.k8s.io", "v1", false),
    ("VolumeSnapshot", "snapshot.storage.k8s.io", "v1", true),
    ("VolumeSnapshotContent", "snapshot.storage.k8s.io", "v1", false),
];

/// What is written after the object is there.
const STATUS: [&str; 2] = ["VolumeSnapshot", "VolumeSnapshotContent"];

pub(super) struct Object {
    pub(super) kind: String,
    /// In the API.
    pub(super) name: String,
    api: Api<DynamicObject>,
    resource: ApiResource,
}

impl Object {
    /// The name as the API has it.
    pub(super) fn new(world: &World, kind: &str, name: &str) -> Self {
        let known = KINDS.iter().find(|(known, ..)| *known == kind);
        let (_, group, version, namespaced) = known.unwrap_or_else(|| panic!("{kind} is none of {KINDS:?}"));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let client = world.client.clone();
        let api = match namespaced {
            true => Api::namespaced_with(client, &world.namespace, &resource),
            false => Api::all_with(client, &resource),
        };
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            api,
            resource,
        }
    }

    /// Names across the cluster begin with that of the scenario.
    pub(super) fn is_namespaced(kind: &str) -> bool {
        KINDS
            .iter()
            .any(|(known, .., namespaced)| *known == kind && *namespaced)
    }

    /// As `kubectl apply` does it: a field that nobody knows is refused.
    pub(super) async fn create(&self, mut object: Value) -> DynamicObject {
        let status = STATUS
            .contains(&self.kind.as_str())
            .then(|| object.as_object_mut().unwrap().remove("status"));
        object["apiVersion"] = json!(self.resource.api_version);
        object["kind"] = json!(self.kind);
        object["metadata"]["name"] = json!(self.name);
        let created = self.write(&object).await;
        if let Some(Some(status)) = status {
            self.patch_status(json!({"status": status})).await;
        }
        created
    }

    async fn write(&self, object: &Value) -> DynamicObject {
        let parameters = PatchParams::apply("scenario").validation_strict();
        let written = self
            .api
            .patch(&self.name, &parameters, &Patch::Apply(object))
            .await;
        written.unwrap_or_else(|error| panic!("{} {}: {error}", self.kind, self.name))
    }

    pub(super) async fn patch(&self, patch: Value) {
        let parameters = PatchParams::default().validation_strict();
        let patched = self
            .api
            .patch(&self.name, &parameters, &Patch::Merge(patch))
            .await;
        patched.unwrap_or_else(|error| panic!("{} {}: {error}", self.kind, self.name));
    }

    pub(super) async fn patch_status(&self, patch: Value) {
        let parameters = PatchParams::default();
        let patched = self
            .api
            .patch_status(&self.name, &parameters, &Patch::Merge(patch))
            .await;
        patched.unwrap_or_else(|error| panic!("{} {}: {error}", self.kind, self.name));
    }

    pub(super) async fn delete(&self) {
        let deleted = self.api.delete(&self.name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{} {}: {error}", self.kind, self.name));
    }

    pub(super) async fn get(&self) -> Value {
        let got = self.api.get(&self.name).await;
        let got = got.unwrap_or_else(|error| panic!("{} {}: {error}", self.kind, self.name));
        serde_json::to_value(got).unwrap()
    }

    pub(super) async fn gone(&self) {
        eventually(
            &format!("{} {} is gone", self.kind, self.name),
            SOON,
            async || match self.api.get_opt(&self.name).await.map_err(text)? {
                None => Ok(()),
                Some(object) => Err(format!("finalizers {:?}, {}", object.finalizers(), object.data)),
            },
        )
        .await;
    }

    /// Waits until the object has at least these fields; a list has exactly these elements.
    pub(super) async fn is_like(&self, wanted: &Value) {
        let what = format!("{} {} is like {wanted}", self.kind, self.name);
        eventually(&what, SOON, async || {
            let object = self.api.get(&self.name).await.map_err(text)?;
            let object = serde_json::to_value(object).map_err(text)?;
            if has(&object, wanted) {
                Ok(())
            } else {
                Err(object.to_string())
            }
        })
        .await;
    }
}

/// `null` is wanted where nothing may be.
fn has(object: &Value, wanted: &Value) -> bool {
    match wanted {
        Value::Object(fields) => fields.iter().all(|(key, value)| has(&object[key], value)),
        _ => object == wanted || *wanted == json!([]) && object.is_null(),
    }
}

/// What most objects of this kind are like.
pub(super) fn usual(kind: &str, name: &str, namespace: &str, driver: &str) -> Value {
    let across = format!("{namespace}-{name}");
    match kind {
        "StorageClass" => json!({"provisioner": driver, "reclaimPolicy": "Delete"}),
        "VolumeAttributesClass" => json!({"driverName": driver}),
        "VolumeSnapshot" => json!({
            "spec": {"source": {"volumeSnapshotContentName": across}},
            "status": {"boundVolumeSnapshotContentName": across, "readyToUse": true, "restoreSize": "1Gi"},
        }),
        // The driver of the suite has this snapshot from the beginning.
        "VolumeSnapshotContent" => json!({
            "spec": {
                "driver": driver,
                "deletionPolicy": "Retain",
                "source": {"snapshotHandle": "1"},
                "volumeSnapshotRef": {
                    "apiVersion": "snapshot.storage.k8s.io/v1",
                    "kind": "VolumeSnapshot",
                    "namespace": namespace,
                    "name": name,
                    "uid": format!("<uid of VolumeSnapshot/{name}>"),
                },
            },
            "status": {"snapshotHandle": "1", "readyToUse": true},
        }),
        "PersistentVolume" => json!({
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Gi"},
                "csi": {"driver": driver, "volumeHandle": name},
                "persistentVolumeReclaimPolicy": "Delete",
            },
        }),
        "VolumeAttachment" => json!({"spec": {"attacher": driver}}),
        _ => json!({}),
    }
}
