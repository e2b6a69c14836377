//! Pure. Is this volume to be deleted, now, and what else does it need?

use std::fmt;

use crate::{
    base::secrets::{self, Scope, SecretError, SecretKind, SecretRef},
    cluster::{
        migration::{ClassTranslationError, VolumeTranslationError, class_for_driver},
        objects::{Class, DELETION_SECRET_NAME, DELETION_SECRET_NAMESPACE, InTreeSource, Volume},
    },
    csi::DriverInfo,
};

/// What was known when the volume was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The volume, one of ours.
    pub volume: &'a Volume,
    /// Its class, if that exists still.
    pub class: Option<&'a Class>,
    /// The driver.
    pub driver: &'a DriverInfo,
    /// A node that it is attached to.
    pub node: Option<&'a str>,
}

/// What to do with a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Leave,
    /// Put our finalizer on, so that the object stays until the driver has deleted the volume.
    Protect,
    /// Take our finalizer off: the policy says that what is behind it stays.
    Unprotect,
    /// It has to be detached first.
    WaitForDetach(String),
    /// It should be deleted, and cannot be as things stand.
    Tell(Refusal),
    /// Delete it at the driver, then its object.
    Delete {
        /// The driver's id of it.
        handle: String,
        /// Where the secrets for the call are.
        secret: Option<SecretRef>,
    },
}

/// Why a released volume cannot be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has no source that the driver knows.
    OtherSource,
    /// Its in-tree source stands for nothing that the driver knows.
    InTree(Box<VolumeTranslationError>),
    /// The class's secret parameters cannot be read, since the class cannot be translated.
    Class(String, ClassTranslationError),
    /// The class's secret parameters cannot be resolved without the claim.
    Secret(String, Box<SecretError>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherSource => write!(
                f,
                "the volume has no source of this driver, nor of an in-tree plugin that it took over from: {BY_HAND}"
            ),
            Self::InTree(error) => write!(
                f,
                "the volume's in-tree source cannot be read as one of this driver: {error}; {BY_HAND}"
            ),
            Self::Class(class, error) => secret_text(f, class, error),
            Self::Secret(class, error) => secret_text(f, class, error),
        }
    }
}

const BY_HAND: &str = "delete what is behind it by hand, then the object, and take the provisioner's finalizer off if it \
                       is there";

fn secret_text(f: &mut fmt::Formatter<'_>, class: &str, error: &dyn fmt::Display) -> fmt::Result {
    write!(
        f,
        "storage class {class:?}: {error}; name the secret for deletion in the volume's annotations \
         {DELETION_SECRET_NAME} and {DELETION_SECRET_NAMESPACE}"
    )
}

const DELETE: &str = "Delete";

/// Whether a volume of ours needs anything at all from `driver`: the predicate, the cheap part of the decision that is
/// applied to every volume of ours.
pub fn concerns(volume: &Volume, driver: &str) -> bool {
    !matches!(intent(volume, driver), Intent::None)
}

enum Intent {
    None,
    Protect,
    Unprotect,
    Delete,
}

fn intent(volume: &Volume, driver: &str) -> Intent {
    let (delete, protected) = (volume.reclaim_policy == DELETE, volume.is_protected());
    // What we cannot delete must not be held by us.
    let ours = volume.csi.as_ref().is_some_and(|csi| csi.driver == driver);
    match volume.phase.as_str() {
        _ if !delete && protected => Intent::Unprotect,
        _ if !delete => Intent::None,
        "Bound" | "Released" if ours && !protected && !volume.deleting => Intent::Protect,
        "Released" if protected || !ours && !volume.deleting => Intent::Delete,
        _ => Intent::None,
    }
}

/// Decides about one volume.
///
/// A released volume without our finalizer gets it first (upstream deletes at once): from then on its object stands
/// until the driver has deleted what is behind it, whoever else deletes the object meanwhile.
pub fn decide(facts: Facts<'_>) -> Decision {
    let Facts {
        volume,
        class,
        driver,
        node,
    } = facts;
    match intent(volume, &driver.name) {
        Intent::None => return Decision::Leave,
        Intent::Protect => return Decision::Protect,
        Intent::Unprotect => return Decision::Unprotect,
        Intent::Delete => {}
    }
    let Some(csi) = volume.csi.as_ref().filter(|csi| csi.driver == driver.name) else {
        return Decision::Tell(match &volume.in_tree {
            Some(InTreeSource::Odd(error)) => Refusal::InTree(error.clone()),
            Some(InTreeSource::Translated) | None => Refusal::OtherSource,
        });
    };
    let secret = match secret(volume, class, &driver.name) {
        Ok(secret) => secret,
        Err(refusal) => return Decision::Tell(refusal),
    };
    if let Some(node) = node.filter(|_| driver.publish_unpublish) {
        return Decision::WaitForDetach(node.to_owned());
    }
    Decision::Delete {
        handle: csi.handle.clone(),
        secret,
    }
}

/// The secret for DeleteVolume: as the volume's annotations name it; for volumes from before those, as its class does.
/// Upstream's rules: half a pair of annotations, a class or claim that is gone all mean "without".
fn secret(volume: &Volume, class: Option<&Class>, driver: &str) -> Result<Option<SecretRef>, Refusal> {
    let annotation = |key| volume.annotations.get(key).cloned();
    if let (Some(name), Some(namespace)) = (
        annotation(DELETION_SECRET_NAME),
        annotation(DELETION_SECRET_NAMESPACE),
    ) {
        let given = !name.is_empty() && !namespace.is_empty();
        return Ok(given.then_some(SecretRef { namespace, name }));
    }
    let (Some(class), Some(claim)) = (class, &volume.claim) else {
        return Ok(None);
    };
    let scope = Scope {
        volume: &volume.name,
        namespace: &claim.namespace,
        claim: &claim.name,
        annotations: None,
    };
    let name = || volume.class().to_owned();
    let class = class_for_driver(class, driver).map_err(|error| Refusal::Class(name(), error))?;
    secrets::resolve(&class.parameters, SecretKind::Provisioner, &scope)
        .map_err(|error| Refusal::Secret(name(), Box::new(error)))
}
