//! VolumeAttachments.

use serde::Deserialize;

use super::{Meta, Object, Part};
use crate::cluster::objects::Attachment;

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
