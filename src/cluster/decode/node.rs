//! Nodes, of which only the metadata is asked for.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Object, Part};
use crate::cluster::objects::Node;

/// A node's metadata as it comes over the wire.
#[derive(Deserialize)]
pub(in crate::cluster) struct RawNode {
    metadata: RawNodeMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawNodeMeta {
    name: String,
    resource_version: String,
    labels: Part<Option<BTreeMap<String, String>>>,
}

impl Object for Node {
    type Raw = RawNode;
    const GROUP: &'static str = "";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
    const METADATA_ONLY: bool = true;

    fn from_raw(RawNode { metadata }: RawNode) -> (Result<Self, String>, String) {
        let RawNodeMeta {
            name,
            resource_version,
            labels,
        } = metadata;
        let node = match labels {
            Part::Read(labels) => Ok(Self {
                name,
                labels: labels.unwrap_or_default().into(),
            }),
            Part::Odd(_) => Err(name),
        };
        (node, resource_version)
    }
}
