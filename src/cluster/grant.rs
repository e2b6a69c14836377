//! Pure. Which claims may take content from objects of another namespace.

use super::objects::SourceRef;

/// API group of ReferenceGrants.
pub const GRANT_GROUP: &str = "gateway.networking.k8s.io";

/// A ReferenceGrant: who may name what in its namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// `metadata.namespace`
    pub namespace: String,
    /// `spec.from`: any of these.
    pub from: Vec<GrantedFrom>,
    /// `spec.to`: any of these.
    pub to: Vec<GrantedTo>,
}

/// Objects of this kind in this namespace may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantedFrom {
    /// "" for core.
    pub group: String,
    /// `kind`
    pub kind: String,
    /// `namespace`
    pub namespace: String,
}

/// Objects of this kind may be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantedTo {
    /// "" for core.
    pub group: String,
    /// `kind`
    pub kind: String,
    /// One of them only. Absent or empty: all.
    pub name: Option<String>,
}

/// Whether a claim of `namespace` may name this source, which is in another one.
pub fn is_granted(namespace: &str, source: &SourceRef, grants: &[ReferenceGrant]) -> bool {
    let may = |from: &GrantedFrom| {
        (&*from.group, &*from.kind, &*from.namespace) == ("", "PersistentVolumeClaim", namespace)
    };
    let may_be_named = |to: &GrantedTo| {
        let name = to.name.as_deref().unwrap_or_default();
        to.group == source.api_group.as_deref().unwrap_or_default()
            && to.kind == source.kind
            && (name.is_empty() || name == source.name)
    };
    grants.iter().any(|grant| {
        source.namespace.as_deref() == Some(&*grant.namespace)
            && grant.from.iter().any(may)
            && grant.to.iter().any(may_be_named)
    })
}
