//! Pure. A class of a plugin in the words of the driver that took over.

use std::collections::BTreeMap;

use super::{Plugin, topology};
use crate::cluster::objects::Class;

/// Why a class cannot be said in the driver's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassTranslationError {
    /// Which of the two counts, nobody can tell.
    #[error("parameters {0} and {1} mean the same: make the class anew with one of them")]
    Twice(String, String),
    /// Both say where volumes may be.
    #[error(
        "parameter {0} and allowedTopologies both say where volumes may be: make the class anew with one of them"
    )]
    ZonesAndTopologies(String),
}

/// The driver reads the file system type under this key, as of any class.
pub(super) const FS_TYPE: Becomes = Becomes::Keys(&["csi.storage.k8s.io/fstype"]);

/// What becomes of a parameter.
pub(super) enum Becomes {
    /// It stays, in its own spelling.
    Same,
    /// It gets these keys instead.
    Keys(&'static [&'static str]),
    /// A zone becomes the allowed topology.
    Zone,
    /// A list of zones with commas does.
    Zones,
    /// The driver does not know it.
    Nothing,
}

pub(super) fn translate(class: &Class, plugin: &Plugin) -> Result<Class, ClassTranslationError> {
    let mut parameters = BTreeMap::new();
    // Under which key of the class each was found.
    let mut origins = BTreeMap::new();
    let mut zones: Option<(&String, Vec<String>)> = None;
    for (key, value) in &class.parameters {
        let mut put = |new: &str| {
            parameters.insert(new.to_owned(), value.clone());
            match origins.insert(new.to_owned(), key) {
                Some(before) => Err(ClassTranslationError::Twice(before.clone(), key.clone())),
                None => Ok(()),
            }
        };
        match (plugin.parameter)(&key.to_lowercase()) {
            Becomes::Same => put(key)?,
            Becomes::Keys(keys) => keys.iter().try_for_each(|new| put(new))?,
            becomes @ (Becomes::Zone | Becomes::Zones) => {
                let all = match becomes {
                    Becomes::Zones => value.split(',').map(str::to_owned).collect(),
                    _ => vec![value.clone()],
                };
                if let Some((before, _)) = zones.replace((key, all)) {
                    return Err(ClassTranslationError::Twice(before.clone(), key.clone()));
                }
            }
            Becomes::Nothing => {}
        }
    }
    let allowed_topologies = match (zones, plugin.class_zone) {
        (Some((key, _)), _) if !class.allowed_topologies.is_empty() => {
            return Err(ClassTranslationError::ZonesAndTopologies(key.clone()));
        }
        (Some((_, zones)), Some(zone)) => vec![vec![(zone.to_owned(), zones)]],
        (_, Some(zone)) => topology::allowed(&class.allowed_topologies, zone),
        (_, None) => class.allowed_topologies.clone(),
    };
    let mut translated = Class {
        parameters,
        allowed_topologies,
        ..class.clone()
    };
    (plugin.finish_class)(&mut translated);
    Ok(translated)
}
