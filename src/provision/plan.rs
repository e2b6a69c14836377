//! Pure. What is asked of the driver for a claim, and the PersistentVolume that is to come of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{
    attributes::attributes_class,
    decide::Decision,
    policy::Policy,
    refusal::Refusal,
    request,
    topology::{Placement, Requirement, SelectedNode, placement},
    volume,
};
use crate::{
    base::{
        quantity,
        secrets::{Scope, SecretKind, SecretRef, Secrets},
    },
    cluster::{
        migration::wanted_plugin,
        objects::{Claim, Class},
        source::{Source, SourceKind},
        topology::ClusterTopology,
    },
    csi::{
        DriverInfo,
        proto::{CapacityRange, CreateVolumeRequest, Topology},
    },
};

/// Everything that is needed to make the volume and its object, and to finish both later, whatever becomes of claim
/// and class meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The request as it will be sent, but for the secrets and the topology; and, until they are read, for the content and
    /// what the VolumeAttributesClass says.
    pub request: CreateVolumeRequest,
    /// Where the volume is to be. `None`: the driver has no topology.
    pub placement: Option<Placement>,
    /// Where the request's secrets are.
    pub secret: Option<SecretRef>,
    /// The object to write once the driver has answered.
    pub draft: PersistentVolume,
    /// Metric label: `spec.storageClassName` of the claim.
    pub class_label: String,
    /// Metric label: kind of the claim's data source.
    pub source_label: String,
    /// What the content is to come from.
    pub source: Option<Source>,
    /// UID of the class: a class that was made anew may be worth an early retry.
    pub class_uid: String,
}

impl Plan {
    /// The request as it is sent.
    pub fn request_with(&self, secrets: BTreeMap<String, String>) -> CreateVolumeRequest {
        CreateVolumeRequest {
            accessibility_requirements: self.requirement().map(Into::into),
            secrets,
            ..self.request.clone()
        }
    }

    /// Whether the driver is asked for the same, whatever object is to come of it.
    pub(super) fn is_same_request(&self, other: &Self) -> bool {
        (&self.request, &self.placement, &self.secret) == (&other.request, &other.placement, &other.secret)
    }

    /// The places that the driver may choose from; one without a place where it has no topology.
    pub fn places(&self) -> Vec<Option<Topology>> {
        match self.requirement() {
            Some(requirement) => requirement
                .requisite
                .iter()
                .map(|segment| Some(segment.into()))
                .collect(),
            None => vec![None],
        }
    }

    /// The VolumeAttributesClass that the volume is made with.
    pub fn attributes_class(&self) -> Option<&str> {
        self.draft.spec.as_ref()?.volume_attributes_class_name.as_deref()
    }

    /// The class names the in-tree plugin that the driver took over from.
    pub fn is_migrated(&self) -> bool {
        wanted_plugin(&self.draft).is_some()
    }

    /// The size that is asked for.
    pub(super) fn bytes(&self) -> i64 {
        let range = self.request.capacity_range;
        range.map_or(0, |range| range.required_bytes)
    }

    fn requirement(&self) -> Option<&Requirement> {
        self.placement.as_ref()?.requirement.as_ref()
    }

    /// The node that the volume is made for, if the driver has topology.
    pub fn node(&self) -> Option<&SelectedNode> {
        self.placement.as_ref()?.node.as_ref()
    }
}

/// What it takes to make a volume of this name for a claim.
///
/// # Errors
/// What to do instead: claim, class, nodes or settings do not allow it.
pub(super) fn plan(
    claim: &Claim,
    class: &Class,
    driver: &DriverInfo,
    policy: &Policy,
    topology: Option<&ClusterTopology>,
    node: Option<&str>,
    name: &str,
) -> Result<Plan, Decision> {
    let source = Source::of(claim, policy.cross_namespace).map_err(Refusal::NoSource)?;
    if let Some(source) = &source {
        let can_copy = match source.kind {
            SourceKind::Snapshot => driver.create_delete_snapshot,
            SourceKind::Claim => driver.clone,
        };
        if !can_copy {
            return Err(Refusal::CannotCopy(source.clone()).into());
        }
    }
    if let Some(name) = attributes_class(claim, policy)
        && !driver.modify_volume
    {
        return Err(Refusal::CannotModify(name.to_owned()).into());
    }
    if claim.has_selector {
        return Err(Refusal::Selector.into());
    }
    let bytes = match &claim.storage_request {
        Some(size) => quantity::to_bytes(size).map_err(Refusal::Size)?,
        None => 0,
    };
    let wrong = |error| Refusal::Parameter(class.name.clone(), error);
    let fs_type = request::fs_type(&class.parameters, &policy.default_fs_type).map_err(wrong)?;
    let capabilities = request::capabilities(claim, class, driver, &fs_type).map_err(Refusal::AccessMode)?;
    let placement = topology
        .map(|topology| placement(claim, class, policy, topology, node))
        .transpose()?;
    let odd = |error| Refusal::Secret(class.name.clone(), Box::new(error));
    let scope = Scope {
        volume: name,
        namespace: &claim.namespace,
        claim: &claim.name,
        annotations: Some(&claim.annotations),
    };
    let secrets = Secrets::of(&class.parameters, &scope).map_err(odd)?;
    let mut parameters = request::parameters(&class.parameters).map_err(wrong)?;
    if policy.extra_metadata {
        parameters.extend(request::extra_metadata(claim, name));
    }
    let request = CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange {
            required_bytes: bytes,
            limit_bytes: 0,
        }),
        volume_capabilities: capabilities,
        parameters,
        ..CreateVolumeRequest::default()
    };
    Ok(Plan {
        draft: volume::draft(claim, class, driver, policy, &secrets, &request, fs_type),
        secret: secrets.get(SecretKind::Provisioner).cloned(),
        request,
        placement,
        class_label: claim.class_name.clone().unwrap_or_default(),
        source_label: claim.source_kind().to_owned(),
        source,
        class_uid: class.uid.clone(),
    })
}
