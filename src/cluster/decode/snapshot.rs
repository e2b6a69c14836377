//! VolumeSnapshots and their contents.

use serde::Deserialize;

use super::{Meta, Object, Part};
use crate::{
    base::quantity,
    cluster::source::{
        ALLOW_MODE_CHANGE, SNAPSHOT_FINALIZER, SNAPSHOT_GROUP, Snapshot, SnapshotContent, SnapshotRef,
    },
};

/// A snapshot as it comes over the wire.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cluster) struct RawSnapshot {
    #[cfg_attr(test, schemars(skip))]
    metadata: Meta,
    // Null while nobody has looked at the snapshot.
    #[serde(default)]
    status: Part<Option<RawSnapshotStatus>>,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
struct RawSnapshotStatus {
    bound_volume_snapshot_content_name: Option<String>,
    ready_to_use: Option<bool>,
    restore_size: Option<RawQuantity>,
}

/// The published definition allows both.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
enum RawQuantity {
    Text(String),
    Number(i64),
}

impl RawQuantity {
    fn bytes(self) -> Option<i64> {
        match self {
            Self::Text(text) => quantity::to_bytes(&text).ok(),
            Self::Number(bytes) => (bytes >= 0).then_some(bytes),
        }
    }
}

/// A content as it comes over the wire.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cluster) struct RawSnapshotContent {
    #[cfg_attr(test, schemars(skip))]
    metadata: Meta,
    #[serde(default)]
    spec: Part<RawSnapshotContentSpec>,
    #[serde(default)]
    status: Part<Option<RawSnapshotContentStatus>>,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
struct RawSnapshotContentSpec {
    driver: String,
    volume_snapshot_ref: RawSnapshotRef,
    source_volume_mode: Option<String>,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
struct RawSnapshotRef {
    uid: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
struct RawSnapshotContentStatus {
    snapshot_handle: Option<String>,
}

impl Object for Snapshot {
    type Raw = RawSnapshot;
    const GROUP: &'static str = SNAPSHOT_GROUP;
    const KIND: &'static str = "VolumeSnapshot";
    const PLURAL: &'static str = "volumesnapshots";
    const OPTIONAL: bool = true;

    fn from_raw(RawSnapshot { metadata, status }: RawSnapshot) -> (Result<Self, String>, String) {
        let Part::Read(status) = status else {
            return (Err(metadata.key()), metadata.resource_version);
        };
        let status = status.unwrap_or_default();
        let restore_size = match status.restore_size.map(RawQuantity::bytes) {
            // A volume of any size would be made from a snapshot whose size is not understood.
            Some(None) => return (Err(metadata.key()), metadata.resource_version),
            Some(size) => size,
            None => None,
        };
        let mut finalizers = metadata.finalizers.iter().flatten();
        let snapshot = Self {
            is_protected: finalizers.any(|finalizer| finalizer == SNAPSHOT_FINALIZER),
            uid: metadata.uid,
            namespace: metadata.namespace,
            name: metadata.name,
            deleting: metadata.deletion_timestamp.is_some(),
            ready: status.ready_to_use == Some(true),
            restore_size,
            content: status
                .bound_volume_snapshot_content_name
                .filter(|name| !name.is_empty()),
        };
        (Ok(snapshot), metadata.resource_version)
    }
}

impl Object for SnapshotContent {
    type Raw = RawSnapshotContent;
    const GROUP: &'static str = SNAPSHOT_GROUP;
    const KIND: &'static str = "VolumeSnapshotContent";
    const PLURAL: &'static str = "volumesnapshotcontents";

    fn from_raw(
        RawSnapshotContent {
            metadata,
            spec,
            status,
        }: RawSnapshotContent,
    ) -> (Result<Self, String>, String) {
        let (Part::Read(spec), Part::Read(status)) = (spec, status) else {
            return (Err(metadata.key()), metadata.resource_version);
        };
        let RawSnapshotRef { uid, namespace, name } = spec.volume_snapshot_ref;
        let content = Self {
            name: metadata.name,
            driver: spec.driver,
            snapshot: SnapshotRef { uid, namespace, name },
            handle: status
                .unwrap_or_default()
                .snapshot_handle
                .filter(|handle| !handle.is_empty()),
            volume_mode: spec.source_volume_mode,
            allow_mode_change: metadata.annotations.unwrap_or_default().remove(ALLOW_MODE_CHANGE),
        };
        (Ok(content), metadata.resource_version)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::Decoded, *};

    fn decode<R: Object>(value: Value) -> Result<R, String> {
        serde_json::from_value::<Decoded<R>>(value).unwrap().object
    }

    #[test]
    fn a_snapshot_keeps_what_a_volume_from_it_depends_on() {
        let snapshot = |status: Value| {
            decode::<Snapshot>(json!({
                "metadata": {"name": "origin", "namespace": "shop", "uid": "u", "finalizers": ["other", SNAPSHOT_FINALIZER],
                    "deletionTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"source": {"persistentVolumeClaimName": "data"}},
                "status": status,
            }))
        };
        let bare = Snapshot {
            uid: "u".into(),
            namespace: "shop".into(),
            name: "origin".into(),
            deleting: true,
            is_protected: true,
            ..Snapshot::default()
        };
        let sized = |size| Snapshot {
            restore_size: Some(size),
            ..bare.clone()
        };
        let odd = || Err("shop/origin".to_owned());
        let rows = [
            (json!(null), Ok(bare.clone())),
            (json!({}), Ok(bare.clone())),
            (
                json!({"readyToUse": null, "restoreSize": null, "boundVolumeSnapshotContentName": ""}),
                Ok(bare.clone()),
            ),
            (
                json!({"readyToUse": true, "boundVolumeSnapshotContentName": "c", "creationTime": "2026-01-01T00:00:00Z"}),
                Ok(Snapshot {
                    ready: true,
                    content: Some("c".into()),
                    ..bare.clone()
                }),
            ),
            (json!({"restoreSize": "1Ki"}), Ok(sized(1024))),
            (
                json!({"restoreSize": 8_589_934_592_i64}),
                Ok(sized(8_589_934_592)),
            ),
            (json!({"restoreSize": "much"}), odd()),
            (json!({"restoreSize": -1}), odd()),
            (json!({"restoreSize": true}), odd()),
            (json!({"readyToUse": "yes"}), odd()),
            (json!("ready"), odd()),
        ];
        for (status, expected) in rows {
            assert_eq!(snapshot(status.clone()), expected, "{status}");
        }
    }

    #[test]
    fn a_content_keeps_whose_it_is_and_what_the_driver_calls_it() {
        let content = |spec: Value, status: Value| {
            decode::<SnapshotContent>(json!({
                "metadata": {"name": "c", "annotations": {ALLOW_MODE_CHANGE: "true", "other": "x"}},
                "spec": spec, "status": status,
            }))
        };
        let spec = json!({"driver": "d", "deletionPolicy": "Delete", "sourceVolumeMode": "Block",
            "volumeSnapshotRef": {"uid": "u", "namespace": "shop", "name": "origin", "kind": "VolumeSnapshot"}});
        let expected = SnapshotContent {
            name: "c".into(),
            driver: "d".into(),
            snapshot: SnapshotRef {
                uid: "u".into(),
                namespace: "shop".into(),
                name: "origin".into(),
            },
            handle: Some("snap-1".into()),
            volume_mode: Some("Block".into()),
            allow_mode_change: Some("true".into()),
        };
        let unbound = SnapshotContent {
            handle: None,
            ..expected.clone()
        };
        let status = json!({"snapshotHandle": "snap-1", "readyToUse": true});
        assert_eq!(content(spec.clone(), status.clone()), Ok(expected));
        assert_eq!(content(spec.clone(), json!({})), Ok(unbound.clone()));
        assert_eq!(content(spec.clone(), json!(null)), Ok(unbound));
        assert_eq!(content(spec, json!({"snapshotHandle": 7})), Err("c".into()));
        assert_eq!(content(json!({"driver": ["d"]}), status), Err("c".into()));
    }
}
