//! The lean decoding of API objects: only what a object needs is kept, everything else is skipped unread.
//!
//! A typed PersistentVolume costs some 15 kB, a object some hundred bytes; and what the decoder skips is never
//! allocated. The types here are private to `cluster/` and cannot be serialised, so none can be written back.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::{ClusterResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::objects::{Attachment, Claim, ClaimRef, Class, CsiSource, SourceRef, Volume};

/// A kind of object that is watched as rows.
pub(super) trait Object: Clone + std::fmt::Debug + Send + Sync + Sized + 'static {
    /// The shape on the wire.
    type Raw: for<'de> Deserialize<'de>;
    /// API group, "" for core.
    const GROUP: &'static str;
    /// Kind, for logs.
    const KIND: &'static str;
    /// The name in the URL and in RBAC rules.
    const PLURAL: &'static str;

    /// Splits the decoded object into the object, or the name of an object that makes none, and its resourceVersion.
    fn from_raw(raw: Self::Raw) -> (Result<Self, String>, String);
}

/// A object on its way through kube's watcher, which asks for an `ObjectMeta` beside it.
#[derive(Clone, Debug)]
pub(super) struct Decoded<R> {
    meta: ObjectMeta,
    /// The name only, where the object is not what the API promises.
    pub(super) object: Result<R, String>,
}

impl<'de, R: Object> Deserialize<'de> for Decoded<R> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (object, version) = R::from_raw(R::Raw::deserialize(from)?);
        let meta = ObjectMeta {
            resource_version: Some(version),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, object })
    }
}

impl<R: Object> Resource for Decoded<R> {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        R::KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        R::GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        R::PLURAL.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<IgnoredAny>,
    annotations: Option<BTreeMap<String, String>>,
    finalizers: Option<Vec<String>>,
}

impl Meta {
    fn key(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }
}

/// A part of an object, or that it is not what the API promises: one odd object must not spoil the list it comes in.
#[derive(Deserialize)]
#[serde(untagged)]
enum Part<T> {
    Read(T),
    Odd(IgnoredAny),
}

impl<T: Default> Default for Part<T> {
    fn default() -> Self {
        Self::Read(T::default())
    }
}

/// A claim as it comes over the wire.
#[derive(Deserialize)]
pub(super) struct RawClaim {
    metadata: Meta,
    #[serde(default)]
    spec: Part<RawClaimSpec>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawClaimSpec {
    access_modes: Option<Vec<String>>,
    storage_class_name: Option<String>,
    volume_mode: Option<String>,
    volume_name: Option<String>,
    volume_attributes_class_name: Option<String>,
    resources: RawResources,
    selector: Option<IgnoredAny>,
    data_source: Option<RawSource>,
    data_source_ref: Option<RawSource>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawResources {
    requests: Option<RawRequests>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRequests {
    storage: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSource {
    api_group: Option<String>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    namespace: Option<String>,
}

impl From<RawSource> for SourceRef {
    fn from(raw: RawSource) -> Self {
        Self {
            group: raw.api_group.unwrap_or_default(),
            kind: raw.kind,
            name: raw.name,
            namespace: raw.namespace.filter(|namespace| !namespace.is_empty()),
        }
    }
}

impl Object for Claim {
    type Raw = RawClaim;
    const GROUP: &'static str = "";
    const KIND: &'static str = "PersistentVolumeClaim";
    const PLURAL: &'static str = "persistentvolumeclaims";

    fn from_raw(RawClaim { metadata, spec }: RawClaim) -> (Result<Self, String>, String) {
        let Part::Read(spec) = spec else {
            return (Err(metadata.key()), metadata.resource_version);
        };
        let claim = Self {
            uid: metadata.uid,
            namespace: metadata.namespace,
            name: metadata.name,
            resource_version: metadata.resource_version.clone(),
            deleting: metadata.deletion_timestamp.is_some(),
            annotations: metadata.annotations.unwrap_or_default(),
            class_name: spec.storage_class_name,
            access_modes: spec.access_modes.unwrap_or_default(),
            storage_request: spec.resources.requests.unwrap_or_default().storage,
            volume_mode: spec.volume_mode,
            has_volume: spec.volume_name.is_some_and(|name| !name.is_empty()),
            data_source: spec.data_source.map(SourceRef::from),
            data_source_ref: spec.data_source_ref.map(SourceRef::from),
            has_selector: spec.selector.is_some(),
            attributes_class: spec.volume_attributes_class_name,
        };
        (Ok(claim), metadata.resource_version)
    }
}

/// A class as it comes over the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawClass {
    metadata: Meta,
    #[serde(default)]
    provisioner: String,
    parameters: Option<BTreeMap<String, String>>,
    mount_options: Option<Vec<String>>,
    reclaim_policy: Option<String>,
    volume_binding_mode: Option<String>,
}

impl Object for Class {
    type Raw = RawClass;
    const GROUP: &'static str = "storage.k8s.io";
    const KIND: &'static str = "StorageClass";
    const PLURAL: &'static str = "storageclasses";

    fn from_raw(raw: RawClass) -> (Result<Self, String>, String) {
        let class = Self {
            name: raw.metadata.name,
            uid: raw.metadata.uid,
            provisioner: raw.provisioner,
            parameters: raw.parameters.unwrap_or_default(),
            mount_options: raw.mount_options.unwrap_or_default(),
            reclaim_policy: raw.reclaim_policy,
            waits_for_consumer: raw.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
        };
        (Ok(class), raw.metadata.resource_version)
    }
}

/// A volume as it comes over the wire.
#[derive(Deserialize)]
pub(super) struct RawVolume {
    metadata: Meta,
    #[serde(default)]
    spec: Part<RawVolumeSpec>,
    #[serde(default)]
    status: Part<RawVolumeStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawVolumeSpec {
    persistent_volume_reclaim_policy: String,
    storage_class_name: Option<String>,
    claim_ref: Option<RawClaimRef>,
    csi: Option<RawCsi>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawClaimRef {
    uid: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawCsi {
    driver: String,
    volume_handle: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawVolumeStatus {
    phase: String,
}

impl Object for Volume {
    type Raw = RawVolume;
    const GROUP: &'static str = "";
    const KIND: &'static str = "PersistentVolume";
    const PLURAL: &'static str = "persistentvolumes";

    fn from_raw(
        RawVolume {
            metadata,
            spec,
            status,
        }: RawVolume,
    ) -> (Result<Self, String>, String) {
        let (Part::Read(spec), Part::Read(status)) = (spec, status) else {
            return (Err(metadata.key()), metadata.resource_version);
        };
        let volume = Self {
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version.clone(),
            deleting: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            phase: status.phase,
            reclaim_policy: spec.persistent_volume_reclaim_policy,
            class_name: spec.storage_class_name,
            claim: spec.claim_ref.map(|raw| ClaimRef {
                uid: raw.uid,
                namespace: raw.namespace,
                name: raw.name,
            }),
            csi: spec.csi.map(|raw| CsiSource {
                driver: raw.driver,
                handle: raw.volume_handle,
            }),
        };
        (Ok(volume), metadata.resource_version)
    }
}

/// An attachment as it comes over the wire.
#[derive(Deserialize)]
pub(super) struct RawAttachment {
    metadata: Meta,
    #[serde(default)]
    spec: Part<RawAttachmentSpec>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawAttachmentSpec {
    attacher: String,
    node_name: String,
    source: RawAttachmentSource,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawAttachmentSource {
    persistent_volume_name: Option<String>,
}

impl Object for Attachment {
    type Raw = RawAttachment;
    const GROUP: &'static str = "storage.k8s.io";
    const KIND: &'static str = "VolumeAttachment";
    const PLURAL: &'static str = "volumeattachments";

    fn from_raw(RawAttachment { metadata, spec }: RawAttachment) -> (Result<Self, String>, String) {
        let Part::Read(spec) = spec else {
            return (Err(metadata.key()), metadata.resource_version);
        };
        let attachment = Self {
            name: metadata.name,
            attacher: spec.attacher,
            volume: spec.source.persistent_volume_name.unwrap_or_default(),
            node: spec.node_name,
        };
        (Ok(attachment), metadata.resource_version)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn decode<R: Object>(value: serde_json::Value) -> Decoded<R> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_claim_keeps_what_the_decision_needs_and_skips_the_rest() {
        let decoded = decode::<Claim>(json!({
            "metadata": {"name": "data", "namespace": "ns", "uid": "u", "resourceVersion": "7",
                "deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {"a": "b"},
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "fast", "volumeMode": "Block", "selector": {},
                "dataSourceRef": {"apiGroup": "g", "kind": "K", "name": "n", "namespace": ""}},
            "status": {"phase": "Pending"}
        }));
        assert_eq!(decoded.meta.resource_version.as_deref(), Some("7"));
        let claim = decoded.object.unwrap();
        assert!(claim.deleting && claim.has_selector && !claim.has_volume);
        assert_eq!(claim.storage_request.as_deref(), Some("1Gi"));
        assert_eq!(claim.class(), "fast");
        let source = claim.data_source_ref.unwrap();
        assert_eq!(
            (source.group.as_str(), source.kind.as_str(), source.namespace),
            ("g", "K", None)
        );
    }

    #[test]
    fn objects_with_null_or_absent_parts_still_decode() {
        let claim = decode::<Claim>(json!({"metadata": {"name": "x", "annotations": null}, "spec": {}}))
            .object
            .unwrap();
        assert_eq!(claim.access_modes, Vec::<String>::new());
        let class = decode::<Class>(json!({"metadata": {"name": "x"}, "parameters": null}))
            .object
            .unwrap();
        assert_eq!(class.provisioner, "");
        let volume = decode::<Volume>(json!({"metadata": {"name": "x"}, "spec": {"claimRef": null}}))
            .object
            .unwrap();
        assert_eq!(volume.claim, None);
        decode::<Attachment>(json!({"metadata": {"name": "x"}, "spec": {"source": {}}}));
    }

    #[test]
    fn an_object_that_is_not_what_the_api_promises_keeps_its_name_and_version() {
        let claim = decode::<Claim>(json!({
            "metadata": {"name": "x", "namespace": "ns", "resourceVersion": "3"}, "spec": {"accessModes": 7}
        }));
        assert_eq!(
            (claim.object, claim.meta.resource_version),
            (Err("ns/x".into()), Some("3".into()))
        );
        let volume = decode::<Volume>(json!({"metadata": {"name": "x"}, "status": "Bound"}));
        assert_eq!(volume.object, Err("x".into()));
    }
}
