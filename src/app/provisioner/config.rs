//! The provisioner's settings, checked and by concern. `check.rs` reads them from the command line and the environment;
//! what has no effect is not here.

use std::{num::NonZeroUsize, time::Duration};

use crate::{
    app::{
        provisioner::gates::Gates,
        sidecar::{
            driver::DriverSettings, election::ElectionSettings, http::HttpSettings, kubernetes::KubeSettings,
        },
    },
    base::{backoff::Backoff, names::UidLength},
    cluster::rate_limiter::RateLimit,
    ledger::CrashSafe,
    provision::policy::NodePolicy,
    telemetry::log::LogSettings,
};

/// All settings that have an effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The driver's socket.
    pub driver: DriverSettings,
    /// The way to the API server.
    pub kube: KubeSettings,
    /// None: this is the only replica.
    pub election: Option<ElectionSettings>,
    /// Where the Leases are: the leader's and those of the ledger. None: in the service account's namespace, else in
    /// `default`.
    pub lease_namespace: Option<String>,
    /// Whether records of creations under way are stored.
    pub crash_safe: CrashSafe,
    /// How volumes are named.
    pub naming: Naming,
    /// How volumes are requested.
    pub volumes: VolumeSettings,
    /// None: the sidecar serves the whole cluster.
    pub node: Option<NodePolicy>,
    /// How much is done at once, and the delays after failures.
    pub work: WorkSettings,
    /// How sources are freed again.
    pub protection: ProtectionSettings,
    /// None: no storage capacity is published.
    pub capacity: Option<CapacitySettings>,
    /// None: no HTTP endpoint.
    pub http: Option<HttpSettings>,
    /// The log.
    pub logging: LogSettings,
    /// Feature gates.
    pub gates: Gates,
    /// What the operator should know; to be logged once the log runs.
    pub warnings: Vec<String>,
}

/// How volumes are named.
#[derive(Debug, Clone, PartialEq)]
pub struct Naming {
    /// May be empty, which refuses every claim.
    pub prefix: String,
    /// How much of the claim's UID follows.
    pub uid: UidLength,
}

/// How volumes are requested.
#[derive(Debug, Clone, PartialEq)]
pub struct VolumeSettings {
    /// For classes that name no file system; may be empty.
    pub default_fstype: String,
    /// Add the names of claim, namespace and volume to the parameters.
    pub extra_metadata: bool,
    /// Mark volumes read-only whose only access mode is ReadOnlyMany.
    pub readonly: bool,
    /// Restore snapshots under the mode of their origin only.
    pub prevent_mode_conversion: bool,
    /// Of the topology, tell the driver only where the selected node is.
    pub strict_topology: bool,
    /// Tell the driver the cluster's topology also when no node is selected.
    pub immediate_topology: bool,
}

/// How much is done at once, and the delays after failures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WorkSettings {
    /// Volumes created at once, and as many deleted.
    pub at_once: NonZeroUsize,
    /// Delays after failures.
    pub backoff: Backoff,
}

/// How the sources of volumes are freed again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProtectionSettings {
    /// Sources freed at once.
    pub at_once: NonZeroUsize,
    /// How often finalizers are sought that others have left. None: never.
    pub sweep_interval: Option<Duration>,
}

/// How storage capacity is published.
#[derive(Debug, Clone, PartialEq)]
pub struct CapacitySettings {
    /// Where the objects are.
    pub namespace: String,
    /// Our pod, and how many levels above it the owner of the objects is. None: they have no owner.
    pub owner: Option<(String, u32)>,
    /// Also for classes that bind at once.
    pub immediate: bool,
    /// How often the driver is asked for everything; above zero.
    pub poll_interval: Duration,
    /// Objects worked on at once.
    pub at_once: NonZeroUsize,
    /// None: adapt to the server's answers.
    pub rate_limit: Option<RateLimit>,
}
