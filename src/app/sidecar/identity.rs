//! The identity of this process, for the election, for events and for what it creates.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    app::sidecar::election::ElectionSettings,
    lease::{Candidate, identity},
};

/// Who this process is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The host's or pod's name.
    pub hostname: String,
    /// The service account's token, whose claims name the pod; the reason why `Identity` cannot be printed.
    pub token: Option<String>,
    /// Namespace of the pod, where the service account says so.
    pub namespace: Option<String>,
    /// When the process started, in milliseconds of Unix time.
    pub started: u128,
    /// Random; distinguishes this start from every other one.
    pub nonce: u64,
}

impl Identity {
    /// Reads it from the host and the pod.
    pub(crate) fn of_process(token: Option<String>) -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let hostname = Some(hostname.trim().to_owned()).filter(|name| !name.is_empty());
        let namespace = std::fs::read_to_string("/var/run/secrets/kubernetes.io/serviceaccount/namespace");
        let started = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        Self {
            hostname: hostname.unwrap_or_else(|| "unknown-host".to_owned()),
            token,
            namespace: namespace.ok().map(|namespace| namespace.trim().to_owned()),
            started,
            nonce: fastrand::u64(..),
        }
    }

    /// Where the Leases are, unless another namespace is `given`.
    pub(crate) fn lease_namespace(&self, given: Option<&str>) -> String {
        given
            .or(self.namespace.as_deref())
            .unwrap_or("default")
            .to_owned()
    }

    /// This process as the holder of Leases.
    pub(crate) fn holder(&self) -> String {
        identity(&self.hostname, self.token.as_deref(), self.nonce)
    }

    /// This process as a candidate for the Lease of this name.
    pub(crate) fn candidate(
        &self,
        settings: &ElectionSettings,
        namespace: String,
        name: String,
    ) -> Candidate {
        Candidate {
            namespace,
            name,
            identity: self.holder(),
            labels: settings.labels.clone(),
            timing: settings.timing,
        }
    }
}
