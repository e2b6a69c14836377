//! CSINodes.

use serde::Deserialize;

use super::{Meta, Object, Part};
use crate::cluster::objects::CsiNode;

/// A CSINode as it comes over the wire.
#[derive(Deserialize)]
pub(in crate::cluster) struct RawCsiNode {
    metadata: Meta,
    #[serde(default)]
    spec: Part<RawCsiNodeSpec>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCsiNodeSpec {
    drivers: Option<Vec<RawCsiNodeDriver>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawCsiNodeDriver {
    name: String,
    topology_keys: Option<Vec<String>>,
}

impl Object for CsiNode {
    type Raw = RawCsiNode;
    const GROUP: &'static str = "storage.k8s.io";
    const KIND: &'static str = "CSINode";
    const PLURAL: &'static str = "csinodes";

    fn from_raw(RawCsiNode { metadata, spec }: RawCsiNode) -> (Result<Self, String>, String) {
        let Part::Read(spec) = spec else {
            return (Err(metadata.key()), metadata.resource_version);
        };
        let drivers = spec.drivers.unwrap_or_default().into_iter();
        let drivers = drivers.map(|driver| {
            let keys = driver.topology_keys.unwrap_or_default();
            (driver.name, keys.into_iter().collect())
        });
        let node = Self {
            name: metadata.name,
            drivers: drivers.collect(),
        };
        (Ok(node), metadata.resource_version)
    }
}
