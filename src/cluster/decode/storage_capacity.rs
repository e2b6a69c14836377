//! CSIStorageCapacities.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};

use super::{Meta, Object, Part};
use crate::{base::segment::Segment, cluster::objects::StorageCapacity};

/// A capacity object as it comes over the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct RawStorageCapacity {
    metadata: Meta,
    #[serde(default)]
    storage_class_name: Part<String>,
    #[serde(default)]
    node_topology: Part<Option<RawLabelSelector>>,
    #[serde(default)]
    capacity: Part<Option<String>>,
    #[serde(default)]
    maximum_volume_size: Part<Option<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawLabelSelector {
    match_labels: Option<BTreeMap<String, String>>,
    match_expressions: Option<Vec<IgnoredAny>>,
}

impl RawStorageCapacity {
    fn read(&mut self) -> Option<StorageCapacity> {
        let owners = self.metadata.owner_references.take().unwrap_or_default();
        Some(StorageCapacity {
            name: self.metadata.name.clone(),
            uid: std::mem::take(&mut self.metadata.uid),
            resource_version: self.metadata.resource_version.clone(),
            class: self.storage_class_name.take()?,
            segment: self.node_topology.take()?.and_then(segment),
            capacity: self.capacity.take()?,
            maximum_volume_size: self.maximum_volume_size.take()?,
            owners: owners.into_iter().map(|owner| owner.uid).collect(),
        })
    }
}

fn segment(selector: RawLabelSelector) -> Option<Segment> {
    let is_plain = selector
        .match_expressions
        .is_none_or(|expressions| expressions.is_empty());
    is_plain.then(|| selector.match_labels.unwrap_or_default().into())
}

impl Object for StorageCapacity {
    type Raw = RawStorageCapacity;
    const GROUP: &'static str = "storage.k8s.io";
    const KIND: &'static str = "CSIStorageCapacity";
    const PLURAL: &'static str = "csistoragecapacities";

    fn from_raw(mut raw: RawStorageCapacity) -> (Result<Self, String>, String) {
        let capacity = raw.read().ok_or_else(|| raw.metadata.key());
        (capacity, raw.metadata.resource_version)
    }
}
