//! The provisioner's command line: every flag of upstream v6.4 under its name, with its type and default.

use crate::app::flags::Kind::{
    Bytes, Duration, Float, Gates, Int, Labels, Level, Levels, Switch, Text, Uint,
};
use crate::app::flags::{self, Exit, Flag, Group, Kind};
use crate::app::provisioner::check;
use crate::app::provisioner::config::Config;
use crate::base::argv::Dialect;

/// Reads the command line (the program's name first) and the environment.
///
/// `Err` ends the process, which may be what was asked for: `--help`, `--version`.
pub fn parse(
    argv: impl IntoIterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Config, Exit> {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_else(|| NAME.to_owned());
    let flags_given = flags::read(NAME, GROUPS, Dialect::Pflag, argv)?;
    check::config(&program, &flags_given, env)
}

const NAME: &str = "csi-provisioner";

/// A row of the table.
const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        default,
        help,
    }
}

/// All flags, by purpose.
#[rustfmt::skip] // One row per flag.
pub const GROUPS: &[Group] = &[
    Group {
        heading: "Driver",
        flags: &[
            flag("csi-address", Text, "/run/csi/socket", "Socket of the driver: a path or unix://path"),
            flag("timeout", Duration, "10s", "Limit of each call to the driver"),
        ],
    },
    Group {
        heading: "Kubernetes",
        flags: &[
            flag("kube-api-burst", Int, "10", "Requests at once; adapts to the server unless flags_given"),
            flag("kube-api-qps", Float, "5", "Requests per second; adapts to the server unless flags_given"),
            flag("kubeconfig", Text, "", "Kubeconfig file; the variable KUBECONFIG wins over it"),
            flag("master", Text, "", "URL of the API server"),
        ],
    },
    Group {
        heading: "Leader election",
        flags: &[
            flag("leader-election", Switch, "false", "Work only while holding the Lease"),
            flag("leader-election-labels", Labels, "", "Labels for the Lease"),
            flag("leader-election-lease-duration", Duration, "15s", "How long others wait for a silent leader"),
            flag("leader-election-namespace", Text, "", "Namespace of the Lease, the pod's own if not flags_given"),
            flag("leader-election-renew-deadline", Duration, "10s", "How long the leader tries to renew before it stops"),
            flag("leader-election-retry-period", Duration, "5s", "Time between two tries at the Lease"),
        ],
    },
    Group {
        heading: "Volumes",
        flags: &[
            flag("controller-publish-readonly", Switch, "false", "Mark ReadOnlyMany volumes as read-only"),
            flag("default-fstype", Text, "", "File system of volumes whose class names none"),
            flag("extra-create-metadata", Switch, "false", "Tell the driver claim, namespace and volume"),
            flag("immediate-topology", Switch, "true", "Send topology also when no node is selected"),
            flag("prevent-volume-mode-conversion", Switch, "true", "Restore snapshots under their mode only"),
            flag("strict-topology", Switch, "false", "Send the selected node's topology only"),
            flag("volume-name-prefix", Text, "pvc", "What the names of volumes begin with"),
            flag("volume-name-uuid-length", Int, "-1", "Digits of the claim's UID in them; -1: all of it"),
        ],
    },
    Group {
        heading: "Work",
        flags: &[
            flag("cloning-protection-threads", Uint, "1", "Finalizers of cloned claims removed at once"),
            flag("retry-interval-max", Duration, "5m", "Longest delay before failed work is tried again"),
            flag("retry-interval-start", Duration, "1s", "First such delay; it doubles with each failure"),
            flag("snapshot-orphan-sweep-interval", Duration, "5m", "How often left-over finalizers are sought; 0: never"),
            flag("worker-threads", Uint, "100", "Volumes created at once, and as many deleted"),
        ],
    },
    Group {
        heading: "Storage capacity and node deployment (refused: not built yet)",
        flags: &[
            flag("capacity-for-immediate-binding", Switch, "false", "Publish capacity also for classes that bind at once"),
            flag("capacity-ownerref-level", Int, "1", "Their owner: -1 none, 0 the pod, 1 its controller"),
            flag("capacity-poll-interval", Duration, "1m", "How often the driver is asked for capacity"),
            flag("capacity-threads", Uint, "1", "Capacity objects worked on at once"),
            flag("enable-capacity", Switch, "false", "Publish storage capacity"),
            flag("kube-api-capacity-burst", Int, "5", "As --kube-api-burst, for capacity objects"),
            flag("kube-api-capacity-qps", Float, "1", "As --kube-api-qps, for capacity objects"),
            flag("node-deployment", Switch, "false", "Run beside the driver on each node"),
            flag("node-deployment-base-delay", Duration, "20s", "First delay before a node claims a volume"),
            flag("node-deployment-immediate-binding", Switch, "true", "Serve classes that bind at once"),
            flag("node-deployment-max-delay", Duration, "60s", "Longest such delay"),
        ],
    },
    Group {
        heading: "HTTP",
        flags: &[
            flag("enable-pprof", Switch, "false", "Go profiles (refused: there is no Go runtime)"),
            flag("http-endpoint", Text, "", "Address for metrics and health, such as :8080"),
            flag("metrics-address", Text, "", "The same without leader health; older name"),
            flag("metrics-path", Text, "/metrics", "Path of the metrics"),
        ],
    },
    Group {
        heading: "Log",
        flags: &[
            flag("log-flush-frequency", Duration, "5s", "No effect: nothing is held back"),
            flag("log-json-info-buffer-size", Bytes, "0", "Only 0 is allowed, as in upstream's releases"),
            flag("log-json-split-stream", Switch, "false", "Only false is allowed, as in upstream's releases"),
            flag("log-text-info-buffer-size", Bytes, "0", "Only 0 is allowed, as in upstream's releases"),
            flag("log-text-split-stream", Switch, "false", "Only false is allowed, as in upstream's releases"),
            flag("logging-format", Text, "text", "text or json"),
            flag("v", Level, "0", "How much is logged; 5 shows the calls to the driver"),
            flag("vmodule", Levels, "", "Levels of their own for source files, with text only"),
        ],
    },
    Group {
        heading: "Process",
        flags: &[
            flag("automaxprocs", Switch, "false", "No effect: threads do not follow the CPU quota"),
            flag("feature-gates", Gates, "", "Features to turn on or off; an unknown name lists them"),
            flag("version", Switch, "false", "Print the version"),
        ],
    },
];

#[cfg(test)]
mod tests;
