//! The command line and the environment become settings, or a reason why not: contradictions, impossible values, and
//! what is not built yet.

use std::num::NonZeroUsize;

use crate::{
    app::{
        provisioner::{
            capacity::CapacitySettings,
            config::{Config, DriverSettings, Naming, VolumeSettings, WorkSettings},
            gates,
        },
        sidecar::{
            election::ElectionSettings,
            flags::{Exit, ParsedFlags},
            http::HttpSettings,
            kubernetes::KubeSettings,
            log,
        },
    },
    base::{backoff::Backoff, duration::GoDuration, names::UidLength},
};

/// The settings, checked in upstream's order, so that of several mistakes the same one ends the process with the
/// same code.
///
/// # Errors
/// The process ends here.
pub(super) fn config(
    program: &str,
    flags: &ParsedFlags,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Config, Exit> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let logging = log::read(flags)?;
    let (gates, gate_warnings) =
        gates::set(&flags.all("feature-gates")).map_err(|error| Exit::error(255, error))?;
    if flags.get("node-deployment") && env("NODE_NAME").is_none() {
        return Err(Exit::error(
            255,
            "--node-deployment needs the node's name in the variable NODE_NAME",
        ));
    }
    if flags.get("version") {
        return Err(Exit::version(program));
    }
    let http = HttpSettings::read(flags)?;
    not_built(flags)?;
    let mut warnings = flags.warnings.clone();
    warnings.extend(gate_warnings);
    if flags.get("enable-pprof") {
        warnings.push("--enable-pprof has no effect: there is no Go runtime to profile; use perf".to_owned());
    }
    Ok(Config {
        driver: driver(flags)?,
        kube: KubeSettings::read(flags, env)?,
        capacity: CapacitySettings::read(flags, env)?,
        election: ElectionSettings::read(flags, env("POD_NAMESPACE"), gates.release_lease)?,
        naming: Naming {
            prefix: flags.get("volume-name-prefix"),
            uid: UidLength::try_from(flags.get::<i64>("volume-name-uuid-length"))
                .map_err(|error| Exit::error(2, format!("--volume-name-uuid-length: {error}")))?,
        },
        volumes: VolumeSettings {
            default_fstype: flags.get("default-fstype"),
            extra_metadata: flags.get("extra-create-metadata"),
            readonly: flags.get("controller-publish-readonly"),
            strict_topology: flags.get("strict-topology"),
            immediate_topology: flags.get("immediate-topology"),
        },
        work: work(flags, &mut warnings)?,
        http,
        logging,
        gates,
        warnings,
    })
}

/// What would do harm if it were ignored: a sidecar on each node that takes the claims of all.
fn not_built(flags: &ParsedFlags) -> Result<(), Exit> {
    match flags.get("node-deployment") {
        false => Ok(()),
        true => Err(Exit::error(
            1,
            "--node-deployment: not built yet; run one central Deployment or stay with upstream",
        )),
    }
}

fn driver(flags: &ParsedFlags) -> Result<DriverSettings, Exit> {
    let timeout = flags.get::<GoDuration>("timeout").length();
    Ok(DriverSettings {
        address: flags.get("csi-address"),
        timeout: timeout.filter(|timeout| !timeout.is_zero()).ok_or_else(|| {
            Exit::error(
                2,
                "--timeout must be above zero, or no call to the driver could succeed",
            )
        })?,
    })
}

fn work(flags: &ParsedFlags, warnings: &mut Vec<String>) -> Result<WorkSettings, Exit> {
    let at_once = usize::try_from(flags.get::<u64>("worker-threads")).unwrap_or(usize::MAX);
    let [start, max] = ["start", "max"].map(|end| {
        flags
            .get::<GoDuration>(&format!("retry-interval-{end}"))
            .or_zero()
    });
    if start.is_zero() || max.is_zero() {
        warnings.push(
            "failed work is tried again without any delay: see --retry-interval-start and -max".to_owned(),
        );
    }
    Ok(WorkSettings {
        at_once: NonZeroUsize::new(at_once).ok_or_else(|| {
            Exit::error(
                1,
                "--worker-threads=0: no volume would ever be created or deleted",
            )
        })?,
        backoff: Backoff { start, max },
    })
}
