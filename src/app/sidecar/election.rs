//! Leader election: its flags and settings.

use std::collections::BTreeMap;

use crate::{
    app::sidecar::flags::{
        Exit, Flag, Group,
        Kind::{self, Labels, Switch, Text},
        ParsedFlags,
    },
    base::duration::GoDuration,
    lease::Timing,
};

/// The flags of [`ElectionSettings`].
#[rustfmt::skip] // One line per flag.
pub const FLAGS: Group = Group {
    heading: "Leader election",
    flags: &[
        Flag::new("leader-election", Switch, "false", "Work only while holding the Lease"),
        Flag::new("leader-election-labels", Labels, "", "Labels for the Lease"),
        Flag::new("leader-election-lease-duration", Kind::Duration, "15s", "How long others wait for a silent leader"),
        Flag::new("leader-election-namespace", Text, "", "Namespace of the Lease, the pod's own if not given"),
        Flag::new("leader-election-renew-deadline", Kind::Duration, "10s", "How long the leader tries to renew before it stops"),
        Flag::new("leader-election-retry-period", Kind::Duration, "5s", "Time between two tries at the Lease"),
    ],
};

/// How the leader is found.
#[derive(Debug, Clone, PartialEq)]
pub struct ElectionSettings {
    /// On the Lease, besides what is there.
    pub labels: BTreeMap<String, String>,
    /// Its three durations.
    pub timing: Timing,
    /// Give the lease away at the end instead of letting it expire.
    pub release: bool,
}

impl ElectionSettings {
    /// Takes the settings from the command line; `None` without `--leader-election`. `release` is what the feature gate
    /// says.
    ///
    /// # Errors
    /// The process ends here.
    pub(crate) fn read(flags: &ParsedFlags, release: bool) -> Result<Option<Self>, Exit> {
        if !flags.get::<bool>("leader-election") {
            return Ok(None);
        }
        let [lease, renew, retry] = ["lease-duration", "renew-deadline", "retry-period"].map(|name| {
            flags
                .get::<GoDuration>(&format!("leader-election-{name}"))
                .or_zero()
        });
        let timing = Timing::new(lease, renew, retry).map_err(|error| Exit::error(2, error))?;
        Ok(Some(Self {
            labels: flags.all("leader-election-labels").into_iter().collect(),
            timing,
            release,
        }))
    }
}

/// The namespace of the Leases, from the command line or the environment, which says what the pod's is. `None`: that of
/// the service account, else `default`.
pub(crate) fn lease_namespace(flags: &ParsedFlags, pod_namespace: Option<String>) -> Option<String> {
    flags.text("leader-election-namespace").or(pod_namespace)
}
