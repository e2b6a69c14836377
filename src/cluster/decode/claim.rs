//! PersistentVolumeClaims.

use serde::{Deserialize, de::IgnoredAny};

use super::{Meta, Object, Part};
use crate::cluster::objects::{Claim, SourceRef};

/// A claim as it comes over the wire.
#[derive(Deserialize)]
pub(in crate::cluster) struct RawClaim {
    metadata: Meta,
    #[serde(default)]
    spec: Part<RawClaimSpec>,
    #[serde(default)]
    status: Part<RawClaimStatus>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawClaimStatus {
    phase: Option<String>,
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

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSource {
    api_group: Option<String>,
    kind: String,
    name: String,
    namespace: Option<String>,
}

impl From<RawSource> for SourceRef {
    fn from(raw: RawSource) -> Self {
        Self {
            api_group: raw.api_group,
            kind: raw.kind,
            name: raw.name,
            namespace: raw.namespace,
        }
    }
}

impl Object for Claim {
    type Raw = RawClaim;
    const GROUP: &'static str = "";
    const KIND: &'static str = "PersistentVolumeClaim";
    const PLURAL: &'static str = "persistentvolumeclaims";

    fn from_raw(
        RawClaim {
            metadata,
            spec,
            mut status,
        }: RawClaim,
    ) -> (Result<Self, String>, String) {
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
            is_bound: status.take().and_then(|status| status.phase).as_deref() == Some("Bound"),
            data_source: spec.data_source.map(SourceRef::from),
            data_source_ref: spec.data_source_ref.map(SourceRef::from),
            has_selector: spec.selector.is_some(),
            attributes_class: spec.volume_attributes_class_name,
        };
        (Ok(claim), metadata.resource_version)
    }
}
