//! Pure. The VolumeAttributesClass of a claim: which one counts, and what it adds to the request.

use std::collections::BTreeMap;

use super::{policy::Policy, refusal::Refusal};
use crate::cluster::objects::{AttributesClass, Claim};

/// The class that a claim names. An empty name is none, as upstream has it; and none counts behind a closed gate.
pub(super) fn attributes_class<'a>(claim: &'a Claim, policy: &Policy) -> Option<&'a str> {
    let name = claim.attributes_class.as_deref();
    name.filter(|name| policy.attributes_classes && !name.is_empty())
}

/// What the driver is given of the class of this name. `class`: as it was read, `None` if there is none.
///
/// # Errors
/// The class cannot be applied by this driver.
pub(super) fn mutable_parameters(
    name: &str,
    class: Option<AttributesClass>,
    driver: &str,
) -> Result<BTreeMap<String, String>, Refusal> {
    match class {
        None => Err(Refusal::NoAttributesClass(name.to_owned())),
        Some(class) if class.driver_name != driver => Err(Refusal::ForeignAttributesClass {
            name: name.to_owned(),
            driver: class.driver_name,
        }),
        Some(class) => Ok(class.parameters),
    }
}
