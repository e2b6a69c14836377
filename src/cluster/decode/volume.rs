//! PersistentVolumes.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        AWSElasticBlockStoreVolumeSource, AzureDiskVolumeSource, AzureFilePersistentVolumeSource,
        CinderPersistentVolumeSource, GCEPersistentDiskVolumeSource, ObjectReference, PersistentVolume,
        PersistentVolumeSpec, PortworxVolumeSource, VsphereVirtualDiskVolumeSource,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Deserialize;

use super::{Meta, Object, Part};
use crate::cluster::{
    migration::{VolumeTranslationError, csi_source, csi_terms},
    node_selector::{NodeSelectorRequirement, NodeSelectorTerm},
    objects::{ClaimRef, CsiSource, InTreeSource, Volume},
};

/// A volume as it comes over the wire.
#[derive(Deserialize)]
pub(in crate::cluster) struct RawVolume {
    metadata: VolumeMeta,
    #[serde(default)]
    spec: Part<RawVolumeSpec>,
    #[serde(default)]
    status: Part<RawVolumeStatus>,
}

type VolumeMeta = Meta<BTreeMap<String, String>>;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawVolumeSpec {
    persistent_volume_reclaim_policy: String,
    storage_class_name: Option<String>,
    claim_ref: Option<RawClaimRef>,
    csi: Option<RawCsi>,
    volume_mode: Option<String>,
    node_affinity: Option<RawVolumeNodeAffinity>,
    aws_elastic_block_store: Option<AWSElasticBlockStoreVolumeSource>,
    gce_persistent_disk: Option<GCEPersistentDiskVolumeSource>,
    cinder: Option<CinderPersistentVolumeSource>,
    azure_disk: Option<AzureDiskVolumeSource>,
    azure_file: Option<AzureFilePersistentVolumeSource>,
    vsphere_volume: Option<VsphereVirtualDiskVolumeSource>,
    portworx_volume: Option<PortworxVolumeSource>,
}

impl RawVolumeSpec {
    /// The volume behind an in-tree source, if there is one. The sources are gone afterwards.
    fn in_tree(&mut self, metadata: &VolumeMeta) -> Option<Result<CsiSource, VolumeTranslationError>> {
        let volume = PersistentVolume {
            metadata: ObjectMeta {
                name: Some(metadata.name.clone()),
                labels: metadata.labels.clone(),
                annotations: metadata.annotations.clone(),
                ..ObjectMeta::default()
            },
            spec: Some(PersistentVolumeSpec {
                claim_ref: self.claim_ref.as_ref().map(|claim| ObjectReference {
                    namespace: Some(claim.namespace.clone()),
                    ..ObjectReference::default()
                }),
                aws_elastic_block_store: self.aws_elastic_block_store.take(),
                gce_persistent_disk: self.gce_persistent_disk.take(),
                cinder: self.cinder.take(),
                azure_disk: self.azure_disk.take(),
                azure_file: self.azure_file.take(),
                vsphere_volume: self.vsphere_volume.take(),
                portworx_volume: self.portworx_volume.take(),
                ..PersistentVolumeSpec::default()
            }),
            status: None,
        };
        csi_source(&volume)
    }
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
        let (Part::Read(mut spec), Part::Read(status)) = (spec, status) else {
            return (Err(metadata.key()), metadata.resource_version);
        };
        let csi = spec.csi.take().map(|raw| CsiSource {
            driver: raw.driver,
            handle: raw.volume_handle,
        });
        let node_affinity = spec.node_affinity.take().and_then(|affinity| {
            let terms = affinity.required?.node_selector_terms.unwrap_or_default();
            Some(terms.into_iter().map(Into::into).collect())
        });
        let (csi, in_tree, node_affinity) = match csi {
            Some(csi) => (Some(csi), None, node_affinity),
            None => match spec.in_tree(&metadata) {
                Some(Ok(csi)) => {
                    let labels = metadata.labels.as_ref().unwrap_or(const { &BTreeMap::new() });
                    let terms = csi_terms(&csi.driver, labels, node_affinity);
                    (Some(csi), Some(InTreeSource::Translated), terms)
                }
                Some(Err(why)) => (None, Some(InTreeSource::Odd(why.into())), node_affinity),
                None => (None, None, node_affinity),
            },
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
            csi,
            in_tree,
            is_block: spec.volume_mode.as_deref() == Some("Block"),
            node_affinity,
        };
        (Ok(volume), metadata.resource_version)
    }
}
