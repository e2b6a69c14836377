//! PersistentVolumes.

use serde::Deserialize;

use super::{Meta, Object, Part};
use crate::cluster::{
    node_selector::{NodeSelectorRequirement, NodeSelectorTerm},
    objects::{ClaimRef, CsiSource, Volume},
};

/// A volume as it comes over the wire.
#[derive(Deserialize)]
pub(in crate::cluster) struct RawVolume {
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
    volume_mode: Option<String>,
    node_affinity: Option<RawVolumeNodeAffinity>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawVolumeNodeAffinity {
    required: Option<RawNodeSelector>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawNodeSelector {
    node_selector_terms: Option<Vec<RawNodeSelectorTerm>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawNodeSelectorTerm {
    match_expressions: Option<Vec<RawNodeSelectorRequirement>>,
    match_fields: Option<Vec<RawNodeSelectorRequirement>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawNodeSelectorRequirement {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

impl From<RawNodeSelectorTerm> for NodeSelectorTerm {
    fn from(raw: RawNodeSelectorTerm) -> Self {
        let requirement = |raw: RawNodeSelectorRequirement| NodeSelectorRequirement {
            key: raw.key,
            operator: raw.operator,
            values: raw.values.unwrap_or_default(),
        };
        let all = |raw: Option<Vec<RawNodeSelectorRequirement>>| {
            raw.unwrap_or_default().into_iter().map(requirement).collect()
        };
        Self {
            expressions: all(raw.match_expressions),
            fields: all(raw.match_fields),
        }
    }
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
            is_block: spec.volume_mode.as_deref() == Some("Block"),
            node_affinity: spec.node_affinity.and_then(|affinity| {
                let terms = affinity.required?.node_selector_terms.unwrap_or_default();
                Some(terms.into_iter().map(Into::into).collect())
            }),
        };
        (Ok(volume), metadata.resource_version)
    }
}
