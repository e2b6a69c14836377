//! The provisioner's command line: every flag of upstream v6.4 under its name, with its type and default.

use crate::app::{
    provisioner::{check, config::Config},
    sidecar::{
        argv::Dialect,
        election,
        flags::{
            self, Exit, Flag, Group,
            Kind::{Duration, Float, Gates, Int, Switch, Text, Uint},
        },
        http, kubernetes, log,
    },
};

/// Reads the command line (the program's name first) and the environment.
///
/// # Errors
/// The process ends, which may be what was asked for: `--help`, `--version`.
pub fn parse(
    argv: impl IntoIterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Config, Exit> {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_else(|| NAME.to_owned());
    let flags = flags::read(NAME, GROUPS, Dialect::Pflag, argv)?;
    check::config(&program, &flags, env)
}

pub(super) const NAME: &str = "csi-provisioner";

/// All flags, by purpose.
#[rustfmt::skip] // One line per flag.
pub const GROUPS: &[Group] = &[
    Group {
        heading: "Driver",
        flags: &[
            Flag::new("csi-address", Text, "/run/csi/socket", "Socket of the driver: a path or unix://path"),
            Flag::new("timeout", Duration, "10s", "Limit of each call to the driver"),
        ],
    },
    kubernetes::FLAGS,
    election::FLAGS,
    Group {
        heading: "Volumes",
        flags: &[
            Flag::new("controller-publish-readonly", Switch, "false", "Mark ReadOnlyMany volumes as read-only"),
            Flag::new("default-fstype", Text, "", "File system of volumes whose class names none"),
            Flag::new("extra-create-metadata", Switch, "false", "Tell the driver claim, namespace and volume"),
            Flag::new("immediate-topology", Switch, "true", "Send topology also when no node is selected"),
            Flag::new("prevent-volume-mode-conversion", Switch, "true", "Restore snapshots under their mode only"),
            Flag::new("strict-topology", Switch, "false", "Send the selected node's topology only"),
            Flag::new("volume-name-prefix", Text, "pvc", "What the names of volumes begin with"),
            Flag::new("volume-name-uuid-length", Int, "-1", "Digits of the claim's UID in them; -1: all of it"),
        ],
    },
    Group {
        heading: "Work",
        flags: &[
            Flag::new("cloning-protection-threads", Uint, "1", "Finalizers of cloned claims removed at once"),
            Flag::new("crash-safe", Text, "auto", "Record creations in Leases: auto, required (or wait), off"),
            Flag::new("retry-interval-max", Duration, "5m", "Longest delay before failed work is tried again"),
            Flag::new("retry-interval-start", Duration, "1s", "First such delay; it doubles with each failure"),
            Flag::new("snapshot-orphan-sweep-interval", Duration, "5m", "How often left-over finalizers are sought; 0: never"),
            Flag::new("worker-threads", Uint, "100", "Volumes created at once, and as many deleted"),
        ],
    },
    Group {
        heading: "Storage capacity",
        flags: &[
            Flag::new("capacity-for-immediate-binding", Switch, "false", "Publish capacity also for classes that bind at once"),
            Flag::new("capacity-ownerref-level", Int, "1", "Their owner: -1 none, 0 the pod, 1 its controller"),
            Flag::new("capacity-poll-interval", Duration, "1m", "How often the driver is asked for capacity"),
            Flag::new("capacity-threads", Uint, "1", "Capacity objects worked on at once"),
            Flag::new("enable-capacity", Switch, "false", "Publish storage capacity"),
            Flag::new("kube-api-capacity-burst", Int, "5", "As --kube-api-burst, for capacity objects"),
            Flag::new("kube-api-capacity-qps", Float, "1", "As --kube-api-qps, for capacity objects"),
        ],
    },
    Group {
        heading: "Node deployment",
        flags: &[
            Flag::new("node-deployment", Switch, "false", "Run beside the driver on each node"),
            Flag::new("node-deployment-base-delay", Duration, "20s", "First delay before a node claims a volume"),
            Flag::new("node-deployment-immediate-binding", Switch, "true", "Serve classes that bind at once"),
            Flag::new("node-deployment-max-delay", Duration, "60s", "Longest such delay"),
        ],
    },
    http::FLAGS,
    log::FLAGS,
    Group {
        heading: "Process",
        flags: &[
            Flag::new("automaxprocs", Switch, "false", "No effect: threads do not follow the CPU quota"),
            Flag::new("feature-gates", Gates, "", "Features to turn on or off; an unknown name lists them"),
            Flag::new("version", Switch, "false", "Print the version"),
        ],
    },
];

#[cfg(test)]
mod tests;
