//! The command line and the environment become settings, or a reason why not: contradictions and impossible values.

use std::num::NonZeroUsize;

use crate::{
    app::{
        provisioner::{
            config::{CapacitySettings, Config, Naming, ProtectionSettings, VolumeSettings, WorkSettings},
            gates,
        },
        sidecar::{
            driver::DriverSettings,
            election::{ElectionSettings, lease_namespace},
            flags::{Exit, ParsedFlags},
            http::{HttpSettings, PPROF},
            kubernetes::{self, KubeSettings},
            log,
        },
    },
    base::{backoff::Backoff, duration::GoDuration, names::UidLength},
    ledger::CrashSafe,
    provision::policy::NodePolicy,
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
    let mut warnings = flags.warnings.clone();
    let node = node(flags, env("NODE_NAME"), &mut warnings)?;
    if flags.get("version") {
        return Err(Exit::version(program));
    }
    let http = HttpSettings::read(flags)?;
    warnings.extend(gate_warnings);
    if flags.get("enable-pprof") {
        warnings.push(PPROF.to_owned());
    }
    Ok(Config {
        driver: DriverSettings::read(flags, "timeout", "call to the driver")?,
        lease_namespace: lease_namespace(flags, env("POD_NAMESPACE")),
        crash_safe: crash_safe(flags)?,
        kube: KubeSettings::read(flags, env)?,
        capacity: capacity(flags, env)?,
        election: ElectionSettings::read(flags, gates.release_lease)?,
        naming: Naming {
            prefix: flags.get("volume-name-prefix"),
            uid: UidLength::try_from(flags.get::<i64>("volume-name-uuid-length"))
                .map_err(|error| Exit::error(2, format!("--volume-name-uuid-length: {error}")))?,
        },
        volumes: VolumeSettings {
            default_fstype: flags.get("default-fstype"),
            extra_metadata: flags.get("extra-create-metadata"),
            readonly: flags.get("controller-publish-readonly"),
            prevent_mode_conversion: flags.get("prevent-volume-mode-conversion"),
            strict_topology: flags.get("strict-topology"),
            immediate_topology: flags.get("immediate-topology"),
        },
        node,
        work: work(flags, &mut warnings)?,
        protection: protection(flags),
        http,
        logging,
        gates,
        warnings,
    })
}

/// Which node is served, `None` for the whole cluster.
fn node(
    flags: &ParsedFlags,
    name: Option<String>,
    warnings: &mut Vec<String>,
) -> Result<Option<NodePolicy>, Exit> {
    if !flags.get::<bool>("node-deployment") {
        return Ok(None);
    }
    let Some(name) = name else {
        return Err(Exit::error(
            255,
            "--node-deployment needs the node's name in the variable NODE_NAME",
        ));
    };
    if flags.get("leader-election") {
        warnings.push(
            "--leader-election with --node-deployment: the sidecars of all nodes share one Lease, so only one node's \
             claims are served; leave --leader-election out"
                .to_owned(),
        );
    }
    let [base_delay, max_delay] = ["base", "max"].map(|end| {
        flags
            .get::<GoDuration>(&format!("node-deployment-{end}-delay"))
            .or_zero()
    });
    if base_delay > max_delay {
        warnings.push(
            "--node-deployment-base-delay is above --node-deployment-max-delay: nodes wait for the maximum"
                .to_owned(),
        );
    }
    Ok(Some(NodePolicy {
        name,
        immediate_binding: flags.get("node-deployment-immediate-binding"),
        base_delay,
        max_delay,
    }))
}

/// How storage capacity is published, `None` without `--enable-capacity`. `env` is the environment without its empty
/// variables.
fn capacity(
    flags: &ParsedFlags,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Option<CapacitySettings>, Exit> {
    if !flags.get::<bool>("enable-capacity") {
        return Ok(None);
    }
    let needs = |name: &str, what: &str| {
        let lacks = || {
            Exit::error(
                255,
                format!("--enable-capacity needs {what} in the variable {name}"),
            )
        };
        env(name).ok_or_else(lacks)
    };
    let namespace = needs(
        "NAMESPACE",
        "the namespace for the capacity objects, the pod's own,",
    )?;
    let owner = match u32::try_from(flags.get::<i64>("capacity-ownerref-level").clamp(-1, 99)) {
        Ok(level) => {
            let what = "the pod's name, to find the owner of the objects (--capacity-ownerref-level),";
            Some((needs("POD_NAME", what)?, level))
        }
        Err(_) => None,
    };
    let poll_interval = flags.get::<GoDuration>("capacity-poll-interval").or_zero();
    if poll_interval.is_zero() {
        return Err(Exit::error(2, "--capacity-poll-interval must be above zero"));
    }
    let at_once = usize::try_from(flags.get::<u64>("capacity-threads")).unwrap_or(usize::MAX);
    let none = || Exit::error(1, "--capacity-threads=0: no capacity would ever be published");
    Ok(Some(CapacitySettings {
        namespace,
        owner,
        immediate: flags.get("capacity-for-immediate-binding"),
        poll_interval,
        at_once: NonZeroUsize::new(at_once).ok_or_else(none)?,
        rate_limit: kubernetes::rate_limit(flags, "kube-api-capacity")?,
    }))
}

fn crash_safe(flags: &ParsedFlags) -> Result<CrashSafe, Exit> {
    let given: String = flags.get("crash-safe");
    given
        .parse()
        .map_err(|error| Exit::error(2, format!("--crash-safe: {error}")))
}

fn protection(flags: &ParsedFlags) -> ProtectionSettings {
    let at_once = usize::try_from(flags.get::<u64>("cloning-protection-threads")).unwrap_or(usize::MAX);
    let interval = flags
        .get::<GoDuration>("snapshot-orphan-sweep-interval")
        .or_zero();
    ProtectionSettings {
        at_once: NonZeroUsize::new(at_once).unwrap_or(NonZeroUsize::MIN),
        sweep_interval: (!interval.is_zero()).then_some(interval),
    }
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
