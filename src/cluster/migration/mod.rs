//! Pure. Volume plugins that were part of Kubernetes, and the CSI drivers that took over from them: what a class, a claim
//! or a volume says in the words of the plugin is said in those of the driver, and the other way round.
//!
//! A class keeps the plugin's name, and so do the volumes that are made from it: they get the plugin's source, which any
//! version of Kubernetes and of the driver reads.

mod aws_ebs;
mod azure_disk;
mod azure_file;
mod cinder;
mod class;
mod gce_pd;
mod portworx;
#[cfg(test)]
mod tests;
mod topology;
mod vsphere;

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::{
    api::core::v1::{CSIPersistentVolumeSource, PersistentVolume, PersistentVolumeSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

pub use self::class::ClassTranslationError;
use self::{class::Becomes, topology::Zones};
use super::{
    node_selector::NodeSelectorTerm,
    objects::{Class, CsiSource, PROVISIONED_BY},
};

/// A plugin, and what is special about it.
struct Plugin {
    /// What classes, claims and volumes call it.
    in_tree: &'static str,
    /// The driver that took over.
    driver: &'static str,
    /// What becomes of the parameter of a class whose key, in small letters, is this.
    parameter: fn(&str) -> Becomes,
    /// The driver's key of zones in a class. `None`: `allowedTopologies` stays as it is.
    class_zone: Option<&'static str>,
    /// What else the driver has to be told.
    finish_class: fn(&mut Class),
    /// How volumes say where they are. `None`: in the same words.
    volume_zones: Option<Zones>,
    /// Puts the plugin's source where the CSI source was.
    put_source: fn(
        CSIPersistentVolumeSource,
        &mut ObjectMeta,
        &mut PersistentVolumeSpec,
    ) -> Result<(), VolumeTranslationError>,
    /// What the driver calls the volume. `None`: it has another source.
    handle: fn(&ObjectMeta, &PersistentVolumeSpec) -> Option<Result<String, VolumeTranslationError>>,
}

const PLUGINS: [&Plugin; 7] = [
    &aws_ebs::PLUGIN,
    &gce_pd::PLUGIN,
    &cinder::PLUGIN,
    &azure_disk::PLUGIN,
    &azure_file::PLUGIN,
    &vsphere::PLUGIN,
    &portworx::PLUGIN,
];

/// Why a volume cannot be said in the other words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumeTranslationError {
    /// The driver's id of the volume, or the plugin's.
    #[error("the id {id:?} is not {expected}")]
    Id {
        /// As it is.
        id: String,
        /// As it should be.
        expected: &'static str,
    },
    /// An attribute of the volume.
    #[error("the volume attribute {key} is {value:?}, not {expected}")]
    Attribute {
        /// Its key.
        key: &'static str,
        /// As it is, "" if it is missing.
        value: String,
        /// As it should be.
        expected: &'static str,
    },
    /// The API server wants both parts of a reference.
    #[error("the node-stage secret {0} has no namespace")]
    SecretNamespace(String),
    /// The secret's namespace is neither in the source nor that of the claim.
    #[error("neither its source nor its claimRef names the namespace of its secret")]
    NoNamespace,
    /// A part of where the volume is has no zone, so that its region is not known.
    #[error("it is reachable from a place without {zone}, so its region is not known")]
    NoZone {
        /// The driver's key.
        zone: &'static str,
    },
    /// The name of a zone does not tell its region.
    #[error("the zone {zone:?} has no region: expected is {expected}")]
    OddZone {
        /// The zone.
        zone: String,
        /// As it should be.
        expected: &'static str,
    },
    /// The zones of one place are in several regions.
    #[error("it is in several regions at once: {}", .0.join(", "))]
    Regions(Vec<String>),
}

fn by_driver(driver: &str) -> Option<&'static Plugin> {
    PLUGINS.into_iter().find(|plugin| plugin.driver == driver)
}

/// The plugin that a driver took over from, if it did.
pub fn in_tree_name(driver: &str) -> Option<&'static str> {
    by_driver(driver).map(|plugin| plugin.in_tree)
}

/// Whether a provisioner's name means the driver: it is its own, or that of the plugin that it took over from.
pub fn is_name_of(driver: &str, name: &str) -> bool {
    name == driver || in_tree_name(driver) == Some(name)
}

/// A class in the words of the driver, as it is where it is written for the driver. It keeps the name of its provisioner.
///
/// # Errors
/// The class contradicts itself.
pub fn class_for_driver<'a>(class: &'a Class, driver: &str) -> Result<Cow<'a, Class>, ClassTranslationError> {
    match by_driver(driver).filter(|plugin| plugin.in_tree == class.provisioner) {
        Some(plugin) => class::translate(class, plugin).map(Cow::Owned),
        None => Ok(Cow::Borrowed(class)),
    }
}

/// The plugin in whose words a volume with a CSI source is to be written: the one that its class names.
fn wanted(volume: &PersistentVolume) -> Option<&'static Plugin> {
    let by = volume.metadata.annotations.as_ref()?.get(PROVISIONED_BY)?;
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    by_driver(&csi.driver).filter(|plugin| plugin.in_tree == by)
}

/// The plugin whose source a volume is to get in place of its CSI source, if its class names one.
pub fn wanted_plugin(volume: &PersistentVolume) -> Option<&'static str> {
    wanted(volume).map(|plugin| plugin.in_tree)
}

/// A volume with the source of the plugin that its class names. `None`: it keeps its CSI source.
///
/// # Errors
/// The driver says something of the volume that the plugin has no words for, or that the API server would refuse.
pub fn in_tree_form(volume: &PersistentVolume) -> Result<Option<PersistentVolume>, VolumeTranslationError> {
    let Some(plugin) = wanted(volume) else {
        return Ok(None);
    };
    let mut volume = volume.clone();
    let (meta, spec) = (&mut volume.metadata, volume.spec.get_or_insert_default());
    if let Some(csi) = spec.csi.take() {
        (plugin.put_source)(csi, meta, spec)?;
    }
    if let Some(zones) = &plugin.volume_zones {
        topology::to_in_tree(meta, spec, zones)?;
    }
    // What cannot be read could never be deleted.
    if let Some(handle) = (plugin.handle)(meta, spec) {
        handle?;
    }
    Ok(Some(volume))
}

/// Which volume of which driver is behind an object, whether it says so in the words of the driver or of a plugin. `None`:
/// its source is neither.
pub fn csi_source(volume: &PersistentVolume) -> Option<Result<CsiSource, VolumeTranslationError>> {
    let (meta, spec) = (&volume.metadata, volume.spec.as_ref()?);
    if let Some(csi) = &spec.csi {
        return Some(Ok(CsiSource {
            driver: csi.driver.clone(),
            handle: csi.volume_handle.clone(),
        }));
    }
    PLUGINS.into_iter().find_map(|plugin| {
        let handle = (plugin.handle)(meta, spec)?;
        Some(handle.map(|handle| CsiSource {
            driver: plugin.driver.to_owned(),
            handle,
        }))
    })
}

/// From where a volume with a plugin's source can be reached, in the words of the driver that took over.
pub fn csi_terms(
    driver: &str,
    labels: &BTreeMap<String, String>,
    terms: Option<Vec<NodeSelectorTerm>>,
) -> Option<Vec<NodeSelectorTerm>> {
    match by_driver(driver).and_then(|plugin| plugin.volume_zones.as_ref()) {
        Some(zones) => topology::to_csi(terms, labels, zones),
        None => terms,
    }
}

/// The partition of a volume, absent if it is 0.
fn partition(attribute: &str) -> Result<Option<i32>, VolumeTranslationError> {
    let odd = |_| VolumeTranslationError::Attribute {
        key: "partition",
        value: attribute.to_owned(),
        expected: "a number from 0 to 255",
    };
    let number = attribute.parse::<u8>().map_err(odd)?;
    Ok((number != 0).then(|| number.into()))
}
