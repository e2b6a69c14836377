//! StorageClasses.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Meta, Object, Part};
use crate::cluster::objects::{BindingMode, Class, TopologySelectorTerm};

/// A class as it comes over the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cluster) struct RawClass {
    metadata: Meta,
    #[serde(default)]
    provisioner: Part<String>,
    #[serde(default)]
    parameters: Part<Option<BTreeMap<String, String>>>,
    #[serde(default)]
    mount_options: Part<Option<Vec<String>>>,
    #[serde(default)]
    reclaim_policy: Part<Option<String>>,
    #[serde(default)]
    volume_binding_mode: Part<Option<String>>,
    #[serde(default)]
    allowed_topologies: Part<Option<Vec<RawTopologySelectorTerm>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawTopologySelectorTerm {
    match_label_expressions: Option<Vec<RawTopologySelectorRequirement>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawTopologySelectorRequirement {
    key: String,
    values: Option<Vec<String>>,
}

impl RawClass {
    fn read(&mut self) -> Option<Class> {
        Some(Class {
            name: self.metadata.name.clone(),
            uid: std::mem::take(&mut self.metadata.uid),
            provisioner: self.provisioner.take()?,
            parameters: self.parameters.take()?.unwrap_or_default(),
            mount_options: self.mount_options.take()?.unwrap_or_default(),
            reclaim_policy: self.reclaim_policy.take()?,
            binding_mode: self
                .volume_binding_mode
                .take()?
                .and_then(|mode| binding_mode(&mode)),
            allowed_topologies: self
                .allowed_topologies
                .take()?
                .unwrap_or_default()
                .into_iter()
                .map(term)
                .collect(),
        })
    }
}

fn binding_mode(mode: &str) -> Option<BindingMode> {
    match mode {
        "Immediate" => Some(BindingMode::Immediate),
        "WaitForFirstConsumer" => Some(BindingMode::WaitForFirstConsumer),
        _ => None,
    }
}

fn term(raw: RawTopologySelectorTerm) -> TopologySelectorTerm {
    let expressions = raw.match_label_expressions.unwrap_or_default().into_iter();
    expressions
        .map(|expression| (expression.key, expression.values.unwrap_or_default()))
        .collect()
}

impl Object for Class {
    type Raw = RawClass;
    const GROUP: &'static str = "storage.k8s.io";
    const KIND: &'static str = "StorageClass";
    const PLURAL: &'static str = "storageclasses";

    fn from_raw(mut raw: RawClass) -> (Result<Self, String>, String) {
        let class = raw.read().ok_or_else(|| raw.metadata.key());
        (class, raw.metadata.resource_version)
    }
}
