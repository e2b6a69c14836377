//! Pure. Does this claim get a volume from us, now, and which one?
//!
//! The order of the checks is upstream's, so that a claim which upstream leaves alone is left alone here for the same
//! reason. What upstream drops silently is a [`Refusal`] here: the person who made the claim is told.

use std::fmt;

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{
    policy::Policy,
    request::{self, ParameterError},
    volume,
};
use crate::{
    base::{
        names::{self, VolumeNameError},
        quantity::{self, QuantityError},
        secrets::{Scope, SecretError, SecretKind, SecretRef, Secrets},
    },
    cluster::objects::{Claim, Class},
    csi::{DriverInfo, proto::CreateVolumeRequest},
};

/// What was known when the claim was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// The class it names, if that exists.
    pub class: Option<&'a Class>,
    /// The driver.
    pub driver: &'a DriverInfo,
    /// UID of the claim that the volume of the name we would choose is for, if there is such a volume.
    pub standing: Option<&'a str>,
    /// How the operator wants it.
    pub policy: &'a Policy,
}

/// What to do with a claim.
#[derive(Debug, PartialEq)]
pub enum Decision {
    /// Nothing, and nobody needs to know.
    Leave(Leave),
    /// Nothing until something changes, and the claim's owner should know why.
    Tell(Refusal),
    /// Make a volume.
    Provision(Box<Plan>),
}

/// Why a claim is none of our business at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It has a volume, or somebody has chosen one.
    HasVolume,
    /// Another provisioner is asked.
    NotOurs,
    /// It is being deleted. (Upstream makes a volume all the same.)
    BeingDeleted,
    /// Its class belongs to another provisioner.
    ForeignClass,
    /// The scheduler has not chosen a node yet.
    WaitsForConsumer,
    /// We made its volume already; the binder has yet to bind them.
    Made,
}

/// Why a claim cannot get a volume as things stand. The text is what the claim's owner reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The class does not exist.
    NoClass(String),
    /// `spec.selector` is set.
    Selector,
    /// The claim or its class names an in-tree plugin, and the driver took over from that.
    Migration(String),
    /// The content is to come from a snapshot or another claim.
    Source(String),
    /// Another controller fills volumes of this kind.
    Populator,
    /// A VolumeAttributesClass is asked for.
    AttributesClass(String),
    /// The driver lacks what the claim asks for.
    DriverLacks(String, &'static str),
    /// No name for the volume.
    Name(VolumeNameError),
    /// The name is taken by another claim's volume.
    NameTaken(String),
    /// The size makes no sense.
    Size(QuantityError),
    /// The class's parameters make no sense.
    Parameter(String, ParameterError),
    /// An access mode that CSI does not know.
    AccessMode(String),
    /// The secrets' parameters make no sense.
    Secret(String, Box<SecretError>),
}

impl Refusal {
    /// Some refusals are the normal course of things.
    pub const fn is_warning(&self) -> bool {
        !matches!(self, Self::Populator)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoClass(name) if name.is_empty() => {
                f.write_str("the claim names no storage class: set spec.storageClassName")
            }
            Self::NoClass(name) => write!(
                f,
                "storage class {name:?} not found: create it, or name another one"
            ),
            Self::Selector => f.write_str(
                "claim.spec.selector is set: a selector chooses among volumes that exist, make the claim without it",
            ),
            Self::Migration(plugin) => write!(
                f,
                "the claim is for the in-tree plugin {plugin}: this version of the provisioner does not translate \
                 that, use a class whose provisioner is the CSI driver"
            ),
            Self::Source(what) => write!(
                f,
                "the claim asks for the content of {what}: this version of the provisioner makes empty volumes \
                 only, make the claim without a data source"
            ),
            Self::Populator => f.write_str("Assuming an external populator will provision the volume"),
            Self::AttributesClass(name) => write!(
                f,
                "the claim asks for VolumeAttributesClass {name:?}: this version of the provisioner does not apply \
                 them, make the claim without spec.volumeAttributesClassName"
            ),
            Self::DriverLacks(driver, what) => write!(
                f,
                "CSI driver {driver} does not offer {what}: check that the provisioner's socket is the one of the \
                 driver's controller part"
            ),
            Self::Name(error) => error.fmt(f),
            Self::NameTaken(name) => write!(
                f,
                "volume {name} exists already and is for another claim: raise --volume-name-uuid-length of the \
                 provisioner"
            ),
            Self::Size(error) => write!(f, "the claim's storage request: {error}"),
            Self::Parameter(class, error) => write!(f, "storage class {class:?}: {error}"),
            Self::AccessMode(mode) => write!(
                f,
                "access mode {mode:?} of the claim is unknown: use ReadWriteOnce, ReadWriteOncePod, ReadWriteMany or \
                 ReadOnlyMany"
            ),
            Self::Secret(class, error) => write!(f, "storage class {class:?}: {error}"),
        }
    }
}

/// Everything that is needed to make the volume and its object, and to finish both later, whatever becomes of claim
/// and class meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The request as it will be sent, but for the secrets.
    pub request: CreateVolumeRequest,
    /// Where the request's secrets are.
    pub secret: Option<SecretRef>,
    /// The object to write once the driver has answered.
    pub draft: PersistentVolume,
    /// Metric label: `spec.storageClassName` of the claim.
    pub class_label: String,
    /// Metric label: kind of the claim's data source.
    pub source_label: String,
    /// UID of the class: a class that was made anew may be worth an early retry.
    pub class_uid: String,
}

/// Whether a claim is to be looked at at all by the provisioner of `driver`: the cheap part of the decision, applied
/// to every claim of the cluster.
pub fn concerns(claim: &Claim, driver: &str) -> bool {
    !claim.has_volume && [claim.provisioner(), claim.migrated_to()].contains(&Some(driver))
}

/// Decides about one claim.
pub fn decide(facts: Facts<'_>) -> Decision {
    match look(facts) {
        Ok(plan) => Decision::Provision(Box::new(plan)),
        Err(no) => no,
    }
}

impl From<Leave> for Decision {
    fn from(leave: Leave) -> Self {
        Self::Leave(leave)
    }
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        Self::Tell(refusal)
    }
}

fn look(facts: Facts<'_>) -> Result<Plan, Decision> {
    let Facts {
        claim,
        class,
        driver,
        standing,
        policy,
    } = facts;
    if claim.has_volume {
        return Err(Leave::HasVolume.into());
    }
    if !concerns(claim, &driver.name) {
        return Err(Leave::NotOurs.into());
    }
    // A claim that migration handed over to us may still ask for the plugin it was made for.
    let asked = claim.provisioner().unwrap_or_default();
    if asked != driver.name && !is_in_tree(asked) {
        return Err(Leave::NotOurs.into());
    }
    if claim.deleting {
        return Err(Leave::BeingDeleted.into());
    }
    if asked != driver.name {
        return Err(Refusal::Migration(asked.to_owned()).into());
    }
    let Some(class) = class else {
        return Err(Refusal::NoClass(claim.class().to_owned()).into());
    };
    if is_in_tree(&class.provisioner) {
        return Err(Refusal::Migration(class.provisioner.clone()).into());
    }
    if class.provisioner != driver.name {
        return Err(Leave::ForeignClass.into());
    }
    if class.waits_for_consumer && claim.selected_node().is_none() {
        return Err(Leave::WaitsForConsumer.into());
    }
    let name =
        names::volume_name(&policy.name_prefix, &claim.uid, policy.uid_length).map_err(Refusal::Name)?;
    match standing {
        Some(uid) if uid == claim.uid => return Err(Leave::Made.into()),
        Some(_) => return Err(Refusal::NameTaken(name).into()),
        None => {}
    }
    Ok(plan(claim, class, driver, policy, &name)?)
}

fn plan(
    claim: &Claim,
    class: &Class,
    driver: &DriverInfo,
    policy: &Policy,
    name: &str,
) -> Result<Plan, Refusal> {
    source(claim)?;
    if let Some(attributes) = claim.attributes_class.as_deref().filter(|name| !name.is_empty())
        && policy.attributes_classes
    {
        return Err(Refusal::AttributesClass(attributes.to_owned()));
    }
    if !driver.controller_service {
        return Err(Refusal::DriverLacks(
            driver.name.clone(),
            "the Controller service",
        ));
    }
    if !driver.create_delete_volume {
        return Err(Refusal::DriverLacks(
            driver.name.clone(),
            "CreateVolume and DeleteVolume",
        ));
    }
    if claim.has_selector {
        return Err(Refusal::Selector);
    }
    let bytes = match &claim.storage_request {
        Some(size) => quantity::to_bytes(size).map_err(Refusal::Size)?,
        None => 0,
    };
    let wrong = |error| Refusal::Parameter(class.name.clone(), error);
    let fs_type = request::fs_type(&class.parameters, &policy.default_fs_type).map_err(wrong)?;
    let capabilities = request::capabilities(claim, class, driver, &fs_type).map_err(Refusal::AccessMode)?;
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
        capacity_range: Some(crate::csi::proto::CapacityRange {
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
        class_label: claim.class_name.clone().unwrap_or_default(),
        source_label: claim.source_kind().to_owned(),
        class_uid: class.uid.clone(),
    })
}

/// Empty volumes only, so far. `dataSource` wins over `dataSourceRef`, and the kind alone tells what is meant, as
/// upstream reads them.
fn source(claim: &Claim) -> Result<(), Refusal> {
    let Some(source) = claim.data_source.as_ref().or(claim.data_source_ref.as_ref()) else {
        return Ok(());
    };
    match source.kind.as_str() {
        kind @ ("VolumeSnapshot" | "PersistentVolumeClaim") => {
            Err(Refusal::Source(format!("{kind} {}", source.name)))
        }
        _ => Err(Refusal::Populator),
    }
}

/// In-tree plugins share this prefix, and no CSI driver's name can have a slash.
fn is_in_tree(provisioner: &str) -> bool {
    provisioner.starts_with("kubernetes.io/")
}
