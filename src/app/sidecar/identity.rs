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

    /// This process as a candidate for the Lease called `name`.
    pub(crate) fn candidate(&self, settings: &ElectionSettings, name: String) -> Candidate {
        let namespace = settings.namespace.clone().or_else(|| self.namespace.clone());
        Candidate {
            namespace: namespace.unwrap_or_else(|| "default".to_owned()),
            name,
            identity: identity(&self.hostname, self.token.as_deref(), self.nonce),
            labels: settings.labels.clone(),
            timing: settings.timing,
        }
    }
}
