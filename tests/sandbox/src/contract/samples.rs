//! Objects that validation accepts.

use serde_json::{Value, json};

/// A PersistentVolume that validation accepts.
pub(crate) fn volume(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "finalizers": ["contract.example.com/hold"]},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "contract-absent",
            "csi": {"driver": "contract.example.com", "volumeHandle": "handle"},
        },
    })
}

/// A PersistentVolumeClaim that validation accepts and nobody provisions.
pub(crate) fn claim(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "finalizers": ["contract.example.com/hold"]},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "contract-absent",
        },
    })
}

/// A Lease.
pub(crate) fn lease(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 15, "renewTime": "2026-01-02T03:04:05.678901Z"},
    })
}

/// What one class has on some nodes.
pub(crate) fn capacity(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "nodeTopology": {"matchLabels": {"zone": "a"}},
        "storageClassName": "contract-absent",
        "capacity": "1Gi",
    })
}

/// A VolumeSnapshot of a claim that is not there.
pub(crate) fn snapshot(name: &str) -> Value {
    json!({
        "kind": "VolumeSnapshot",
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "metadata": {"name": name},
        "spec": {"source": {"persistentVolumeClaimName": "none"}},
    })
}

/// The VolumeSnapshotContent of a snapshot that is not there.
pub(crate) fn content(name: &str, namespace: &str) -> Value {
    json!({
        "kind": "VolumeSnapshotContent",
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "metadata": {"name": name},
        "spec": {
            "deletionPolicy": "Retain",
            "driver": "contract.example.com",
            "source": {"snapshotHandle": "handle"},
            "volumeSnapshotRef": {"namespace": namespace, "name": "none"},
        },
    })
}

/// A ReferenceGrant: claims of one namespace may name the snapshots of this one.
pub(crate) fn grant(name: &str) -> Value {
    json!({
        "kind": "ReferenceGrant",
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "metadata": {"name": name},
        "spec": {
            "from": [{"group": "", "kind": "PersistentVolumeClaim", "namespace": "contract"}],
            "to": [{"group": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot"}],
        },
    })
}
