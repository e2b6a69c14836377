//! ReferenceGrants.

use serde::Deserialize;

use super::{Meta, Object, Part};
use crate::cluster::grant::{GRANT_GROUP, GrantedFrom, GrantedTo, ReferenceGrant};

/// A grant as it comes over the wire.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in crate::cluster) struct RawGrant {
    #[cfg_attr(test, schemars(skip))]
    metadata: Meta,
    #[serde(default)]
    spec: Part<RawGrantSpec>,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
struct RawGrantSpec {
    from: Vec<RawGrantFrom>,
    to: Vec<RawGrantTo>,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RawGrantFrom {
    group: String,
    kind: String,
    namespace: String,
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RawGrantTo {
    group: String,
    kind: String,
    #[serde(default)]
    name: Option<String>,
}

impl Object for ReferenceGrant {
    type Raw = RawGrant;
    const GROUP: &'static str = GRANT_GROUP;
    const VERSION: &'static str = "v1beta1";
    const KIND: &'static str = "ReferenceGrant";
    const PLURAL: &'static str = "referencegrants";

    fn from_raw(RawGrant { metadata, spec }: RawGrant) -> (Result<Self, String>, String) {
        let Part::Read(RawGrantSpec { from, to }) = spec else {
            return (Err(metadata.key()), metadata.resource_version);
        };
        let from = from.into_iter().map(
            |RawGrantFrom {
                 group,
                 kind,
                 namespace,
             }| {
                GrantedFrom {
                    group,
                    kind,
                    namespace,
                }
            },
        );
        let to = to
            .into_iter()
            .map(|RawGrantTo { group, kind, name }| GrantedTo { group, kind, name });
        let grant = Self {
            namespace: metadata.namespace,
            from: from.collect(),
            to: to.collect(),
        };
        (Ok(grant), metadata.resource_version)
    }
}
