//! StorageClasses.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Meta, Object};
use crate::cluster::objects::Class;

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
