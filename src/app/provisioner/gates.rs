//! Pure. The provisioner's feature gates.

use std::collections::BTreeMap;

use thiserror::Error;

/// The gates as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gates {
    /// Off: as if the driver had no topology.
    pub topology: bool,
    /// Off: a claim's VolumeAttributesClass is ignored. None: nobody said, so it depends on whether the API server
    /// serves that kind.
    pub attributes_class: Option<bool>,
    /// Sources in other namespaces count, where a ReferenceGrant allows it.
    pub cross_namespace: bool,
    /// Give the lease away at the end. On by default, unlike upstream, where the next leader waits for the expiry.
    pub release_lease: bool,
}

/// A gate that no csi-provisioner has or had: a mistake.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown feature gate {0:?} in --feature-gates; known are {known}", known = KNOWN.join(", "))]
pub struct UnknownGate(pub String);

/// Every gate that has an effect.
pub const KNOWN: [&str; 6] = [
    "AllAlpha",
    "AllBeta",
    "CrossNamespaceVolumeDataSource",
    "ReleaseLeaderElectionOnExit",
    "Topology",
    "VolumeAttributesClass",
];

/// Gates of earlier releases. Upstream refuses to start with them, which breaks a Deployment for a line that says
/// nothing any more.
const REMOVED: [&str; 3] = [
    "CSINodeExpandSecret",
    "CSIStorageCapacity",
    "HonorPVReclaimPolicy",
];

/// Gates of the library of API servers (k8s.io/apiserver 0.36) that upstream is linked with. It takes them, and they do
/// nothing.
#[rustfmt::skip] // By the alphabet.
const OF_THE_LIBRARY: [&str; 42] = [
    "APIResponseCompression", "APIServerIdentity", "APIServerTracing", "APIServingWithRoutine",
    "AggregatedDiscoveryRemoveBetaType", "AllowParsingUserUIDFromCertAuth", "AllowUnsafeMalformedObjectDeletion",
    "AnonymousAuthConfigurableEndpoints", "AuthorizeWithSelectors", "BtreeWatchCache", "CBORServingAndStorage",
    "ConcurrentWatchObjectDecode", "ConsistentListFromCache", "ConstrainedImpersonation", "CoordinatedLeaderElection",
    "DeclarativeValidation", "DeclarativeValidationBeta", "DeclarativeValidationTakeover", "DetectCacheInconsistency",
    "KMSv1", "ListFromCacheSnapshot", "ManifestBasedAdmissionControlConfig", "MutatingAdmissionPolicy", "OpenAPIEnums",
    "RemoteRequestHeaderUID", "ResilientWatchCacheInitialization", "RetryGenerateName", "SeparateCacheWatchRPC",
    "ShardedListAndWatch", "SizeBasedListCostEstimate", "StorageVersionAPI", "StorageVersionHash",
    "StreamingCollectionEncodingToJSON", "StreamingCollectionEncodingToProtobuf", "StructuredAuthenticationConfiguration",
    "StructuredAuthenticationConfigurationEgressSelector", "StructuredAuthenticationConfigurationJWKSMetrics",
    "TokenRequestServiceAccountUIDValidation", "UnauthenticatedHTTP2DOSMitigation",
    "UnknownVersionInteroperabilityProxy", "WatchCacheInitializationPostStartHook", "WatchList",
];

/// Sets the gates in the order given, the last mention of a name wins. Also returns what the operator should know.
///
/// # Errors
/// A gate that is unknown.
pub fn set(settings: &[(String, bool)]) -> Result<(Gates, Vec<String>), UnknownGate> {
    let settings: BTreeMap<&str, bool> = settings.iter().map(|(name, on)| (name.as_str(), *on)).collect();
    let mut warnings = Vec::new();
    for (name, on) in &settings {
        match *name {
            removed if REMOVED.contains(&removed) => {
                warnings.push(format!(
                    "feature gate {removed} no longer exists, {removed}={on} has no effect"
                ));
            }
            library if OF_THE_LIBRARY.contains(&library) => {
                warnings.push(format!(
                    "feature gate {library} is one of API servers, {library}={on} has no effect"
                ));
            }
            "Topology" | "VolumeAttributesClass" => {
                warnings.push(format!(
                    "feature gate {name} is generally available and may lose its switch, {name}={on} is honoured"
                ));
            }
            known if KNOWN.contains(&known) => {}
            unknown => return Err(UnknownGate(unknown.to_owned())),
        }
    }
    let set = |name: &str| settings.get(name).copied();
    let gates = Gates {
        topology: set("Topology").unwrap_or(true),
        attributes_class: set("VolumeAttributesClass"),
        // The only alpha gates are this one and the release of the lease; there is no beta gate.
        cross_namespace: set("CrossNamespaceVolumeDataSource").or(set("AllAlpha")) == Some(true),
        release_lease: set("ReleaseLeaderElectionOnExit").unwrap_or(true),
    };
    Ok((gates, warnings))
}

#[cfg(test)]
mod tests {

    use super::*;

    fn named(text: &str) -> Result<(Gates, Vec<String>), UnknownGate> {
        let pairs = text.split_whitespace().map(|item| item.split_once('=').unwrap());
        set(&pairs
            .map(|(name, on)| (name.to_owned(), on == "true"))
            .collect::<Vec<_>>())
    }

    #[test]
    fn gates_stand_as_upstream_has_them_except_that_the_lease_is_released() {
        const DEFAULT: Gates = Gates {
            topology: true,
            attributes_class: None,
            cross_namespace: false,
            release_lease: true,
        };
        const CROSS_NAMESPACE: Gates = Gates {
            cross_namespace: true,
            ..DEFAULT
        };
        for (text, gates) in [
            ("", DEFAULT),
            ("AllAlpha=false AllBeta=true", DEFAULT),
            (
                "Topology=false",
                Gates {
                    topology: false,
                    ..DEFAULT
                },
            ),
            ("Topology=false Topology=true", DEFAULT),
            (
                "VolumeAttributesClass=true",
                Gates {
                    attributes_class: Some(true),
                    ..DEFAULT
                },
            ),
            (
                "VolumeAttributesClass=false",
                Gates {
                    attributes_class: Some(false),
                    ..DEFAULT
                },
            ),
            (
                "ReleaseLeaderElectionOnExit=false",
                Gates {
                    release_lease: false,
                    ..DEFAULT
                },
            ),
            ("AllAlpha=true", CROSS_NAMESPACE),
            (
                "CrossNamespaceVolumeDataSource=true AllAlpha=false",
                CROSS_NAMESPACE,
            ),
            ("CrossNamespaceVolumeDataSource=false AllAlpha=true", DEFAULT),
            ("HonorPVReclaimPolicy=false", DEFAULT),
        ] {
            assert_eq!(named(text).unwrap().0, gates, "{text}");
        }
    }

    #[test]
    fn gates_that_are_going_or_gone_are_accepted_with_a_warning() {
        for (text, warnings) in [
            ("AllAlpha=true AllBeta=true", 0),
            ("CrossNamespaceVolumeDataSource=true", 0),
            ("CrossNamespaceVolumeDataSource=false AllAlpha=true", 0),
            ("APIServerIdentity=true WatchList=false", 2),
            ("ReleaseLeaderElectionOnExit=true", 0),
            ("Topology=true VolumeAttributesClass=true", 2),
            (
                "HonorPVReclaimPolicy=true CSINodeExpandSecret=false CSIStorageCapacity=true",
                3,
            ),
        ] {
            assert_eq!(named(text).unwrap().1.len(), warnings, "D-60: {text}");
        }
    }

    #[test]
    fn an_unknown_gate_is_an_error_that_lists_the_known_ones() {
        let text = named("Topology=true Bogus=true").unwrap_err().to_string();
        assert!(
            text.contains("\"Bogus\"") && KNOWN.iter().all(|known| text.contains(known)),
            "{text}"
        );
    }
}
