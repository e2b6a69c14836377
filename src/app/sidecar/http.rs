//! The HTTP endpoint of a controller, for metrics and health: its flags and settings.

use std::sync::{Arc, OnceLock};

use crate::{
    app::sidecar::flags::{
        Exit, Flag, Group,
        Kind::{Switch, Text},
        ParsedFlags,
    },
    lease::Health,
    telemetry::{
        Readiness,
        http::{Check, Endpoints},
        metrics::Registry,
    },
};

/// The flags of [`HttpSettings`].
#[rustfmt::skip] // One line per flag.
pub const FLAGS: Group = Group {
    heading: "HTTP",
    flags: &[
        Flag::new("enable-pprof", Switch, "false", "No effect: there is no Go runtime to profile"),
        Flag::new("http-endpoint", Text, "", "Address for metrics and health, such as :8080"),
        Flag::new("metrics-address", Text, "", "The same without leader health; older name"),
        Flag::new("metrics-path", Text, "/metrics", "Path of the metrics"),
    ],
};

/// What is said of `--enable-pprof`.
pub(crate) const PPROF: &str = "--enable-pprof has no effect: there is no Go runtime to profile; use perf";

/// Reads `--metrics-path`.
///
/// # Errors
/// The process ends here.
pub(crate) fn metrics_path(flags: &ParsedFlags) -> Result<String, Exit> {
    let path: String = flags.get("metrics-path");
    match path.starts_with('/') {
        true => Ok(path),
        false => Err(Exit::error(
            2,
            format!("--metrics-path={path} must begin with a slash"),
        )),
    }
}

/// The HTTP endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSettings {
    /// Host and port; without a host, all of them.
    pub address: String,
    /// Begins with a slash.
    pub metrics_path: String,
    /// False for the older flag, under which upstream serves no `/healthz/leader-election`.
    pub leader_health: bool,
}

impl HttpSettings {
    /// Takes the settings from the command line; `None` without an address.
    ///
    /// # Errors
    /// The process ends here.
    pub(crate) fn read(flags: &ParsedFlags) -> Result<Option<Self>, Exit> {
        let (address, leader_health) = match (flags.text("http-endpoint"), flags.text("metrics-address")) {
            (Some(_), Some(_)) => {
                return Err(Exit::error(
                    1,
                    "only one of --http-endpoint and --metrics-address can be set",
                ));
            }
            (Some(address), None) => (address, true),
            (None, Some(address)) => (address, false),
            (None, None) => return Ok(None),
        };
        Ok(Some(Self {
            address,
            metrics_path: metrics_path(flags)?,
            leader_health,
        }))
    }

    /// What the endpoint serves. `health` is set once the election has begun; a sidecar that waits is healthy.
    pub(crate) fn endpoints(
        &self,
        elected: bool,
        metrics: &Registry,
        ready: &Readiness,
        health: &Arc<OnceLock<Health>>,
    ) -> Endpoints {
        let mut checks: Vec<(&str, Check)> = Vec::new();
        if elected && self.leader_health {
            let health = health.clone();
            let check = move || health.get().map_or(Ok(()), Health::check);
            checks.push(("leader-election", Arc::new(check)));
        }
        let endpoints = Endpoints::default().metrics(&self.metrics_path, metrics);
        endpoints.ready(ready).health(checks)
    }
}
