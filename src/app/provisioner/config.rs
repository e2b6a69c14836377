//! Pure. What the provisioner is told, checked and by concern. `check.rs` reads it from the command line and the
//! environment; what has no effect is not here.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::app::provisioner::gates::Gates;
use crate::base::backoff::Backoff;
use crate::base::names::UidLength;
use crate::lease::Timing;

/// All settings that have an effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The driver's socket.
    pub driver: Driver,
    /// The way to the API server.
    pub kube: Kube,
    /// None: this is the only replica.
    pub election: Option<Election>,
    /// How volumes are named.
    pub naming: Naming,
    /// How volumes are asked for.
    pub volumes: Volumes,
    /// How much is done at once, and how patiently.
    pub work: Work,
    /// None: no HTTP endpoint.
    pub serving: Option<Serving>,
    /// The log.
    pub logging: Logging,
    /// Feature gates.
    pub gates: Gates,
    /// What the operator should know; to be logged once the log runs.
    pub warnings: Vec<String>,
}

/// The driver's socket.
#[derive(Debug, Clone, PartialEq)]
pub struct Driver {
    /// As given; the connection knows which forms there are.
    pub address: String,
    /// Limit of each call, above zero.
    pub timeout: Duration,
}

/// The way to the API server. With neither file nor URL: in cluster, or the default kubeconfig.
#[derive(Debug, Clone, PartialEq)]
pub struct Kube {
    /// A kubeconfig file.
    pub kubeconfig: Option<String>,
    /// URL of the API server; wins over the one in the file.
    pub master: Option<String>,
    /// None: adapt to the server's answers.
    pub pace: Option<Pace>,
}

/// A limit that the operator set for requests to the API server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Requests per second, finite and above zero.
    pub qps: f64,
    /// Requests that may go at once, above zero.
    pub burst: u32,
}

/// How the leader is found.
#[derive(Debug, Clone, PartialEq)]
pub struct Election {
    /// From flag or environment. None: that of the service account, else `default`.
    pub namespace: Option<String>,
    /// On the Lease, besides what is there.
    pub labels: BTreeMap<String, String>,
    /// Its three durations.
    pub timing: Timing,
    /// Give the lease away at the end instead of letting it expire.
    pub release: bool,
}

/// How volumes are named.
#[derive(Debug, Clone, PartialEq)]
pub struct Naming {
    /// May be empty, which refuses every claim.
    pub prefix: String,
    /// How much of the claim's UID follows.
    pub uid: UidLength,
}

/// How volumes are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Volumes {
    /// For classes that name no file system; may be empty.
    pub default_fstype: String,
    /// Add the names of claim, namespace and volume to the parameters.
    pub extra_metadata: bool,
    /// Mark volumes read-only whose only access mode is ReadOnlyMany.
    pub readonly: bool,
}

/// How much is done at once, and how patiently.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Volumes created at once, and as many deleted.
    pub at_once: NonZeroUsize,
    /// Delays after failures.
    pub backoff: Backoff,
}

/// The HTTP endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Serving {
    /// Host and port; without a host, all of them.
    pub address: String,
    /// Begins with a slash.
    pub metrics_path: String,
    /// False for the older flag, under which upstream serves no `/healthz/leader-election`.
    pub leader_health: bool,
}

/// The log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logging {
    /// How lines look.
    pub format: Format,
    /// klog's level.
    pub level: u32,
    /// Levels of their own for source files that match a pattern; empty with JSON.
    pub modules: Vec<(String, u32)>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// klog's text.
    Text,
    /// component-base's JSON.
    Json,
}
