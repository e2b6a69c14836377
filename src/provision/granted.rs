//! Pure. Whether a claim may take its content from another namespace.

use std::fmt;

use crate::cluster::{
    grant::{ReferenceGrant, is_granted},
    objects::Claim,
    source::Source,
};

/// Why a claim may not take content from another namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotGranted {
    /// The API server does not know ReferenceGrants.
    NotServed,
    /// None of those in the source's namespace allows it.
    NoGrant {
        /// Namespace of the claim.
        from: String,
        /// API group of the source as the claim names it, "" for core.
        group: String,
        /// Its kind.
        kind: String,
    },
}

/// Whether the claim may take its content from this source. `grants`: those of the source's namespace, `None` where the
/// API server knows none.
///
/// # Errors
/// [`NotGranted`]
pub fn granted(claim: &Claim, source: &Source, grants: Option<&[ReferenceGrant]>) -> Result<(), NotGranted> {
    if source.namespace == claim.namespace {
        return Ok(());
    }
    let grants = grants.ok_or(NotGranted::NotServed)?;
    // Only this field names a namespace.
    let from = claim.data_source_ref.as_ref();
    if from.is_some_and(|from| is_granted(&claim.namespace, from, grants)) {
        return Ok(());
    }
    Err(NotGranted::NoGrant {
        from: claim.namespace.clone(),
        group: from.and_then(|from| from.api_group.clone()).unwrap_or_default(),
        kind: source.kind.to_string(),
    })
}

impl fmt::Display for NotGranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotServed => f.write_str(
                "it is in another namespace, and this API server does not serve referencegrants of \
                 gateway.networking.k8s.io/v1beta1, which could allow that: install the Gateway API's definition of them, or \
                 make the claim with a source of its own namespace",
            ),
            Self::NoGrant { from, group, kind } => write!(
                f,
                "it is in another namespace, and no ReferenceGrant there allows that: create one with spec.from group \
                 \"\", kind PersistentVolumeClaim and namespace {from}, and spec.to group {group:?} and kind {kind}"
            ),
        }
    }
}
