//! The command line and the environment become settings, or a reason why not: contradictions, impossible values, and
//! what is not built yet.

use std::num::NonZeroUsize;

use crate::app::flags::{Exit, ParsedFlags};
use crate::app::provisioner::config::{
    Config, Driver, Election, Format, Kube, Logging, Naming, Pace, Serving, Volumes, Work,
};
use crate::app::provisioner::gates::{self, Gates};
use crate::base::backoff::Backoff;
use crate::base::duration::GoDuration;
use crate::base::names::UidLength;
use crate::lease::Timing;

/// The settings, checked in upstream's order, so that of several mistakes the same one ends the process with the
/// same code.
pub(crate) fn config(
    program: &str,
    flags_given: &ParsedFlags,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Config, Exit> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let logging = logging(flags_given)?;
    let (gates, gate_warnings) =
        gates::set(&flags_given.all("feature-gates")).map_err(|error| Exit::error(255, error))?;
    if flags_given.get("node-deployment") && env("NODE_NAME").is_none() {
        return Err(Exit::error(
            255,
            "--node-deployment needs the node's name in the variable NODE_NAME",
        ));
    }
    if flags_given.get("version") {
        let stdout = format!("{program} v{}\n", env!("CARGO_PKG_VERSION"));
        return Err(Exit {
            code: 0,
            stdout,
            stderr: String::new(),
        });
    }
    let serving = serving(flags_given)?;
    not_built(flags_given, &gates)?;
    let mut warnings = flags_given.warnings.clone();
    warnings.extend(gate_warnings);
    Ok(Config {
        driver: Driver {
            address: flags_given.get("csi-address"),
            timeout: flags_given
                .get::<GoDuration>("timeout")
                .length()
                .filter(|limit| !limit.is_zero())
                .ok_or_else(|| {
                    Exit::error(
                        2,
                        "--timeout must be above zero, or no call to the driver could succeed",
                    )
                })?,
        },
        kube: Kube {
            // Upstream lets the environment win, and so do we, since Deployments may rely on it.
            kubeconfig: env("KUBECONFIG").or_else(|| flags_given.text("kubeconfig")),
            master: flags_given.text("master"),
            pace: pace(flags_given)?,
        },
        election: election(flags_given, env("POD_NAMESPACE"), gates.release_lease)?,
        naming: Naming {
            prefix: flags_given.get("volume-name-prefix"),
            uid: UidLength::try_from(flags_given.get::<i64>("volume-name-uuid-length"))
                .map_err(|error| Exit::error(2, format!("--volume-name-uuid-length: {error}")))?,
        },
        volumes: Volumes {
            default_fstype: flags_given.get("default-fstype"),
            extra_metadata: flags_given.get("extra-create-metadata"),
            readonly: flags_given.get("controller-publish-readonly"),
        },
        work: work(flags_given, &mut warnings)?,
        serving,
        logging,
        gates,
        warnings,
    })
}

/// component-base's rules. Its switches for buffers and streams belong to a gate that nobody can set.
fn logging(flags_given: &ParsedFlags) -> Result<Logging, Exit> {
    let refuse = |reason: String| Err(Exit::error(1, reason));
    let format = match flags_given.get::<String>("logging-format").as_str() {
        "text" => Format::Text,
        "json" => Format::Json,
        other => return refuse(format!("--logging-format={other} is unknown: use text or json")),
    };
    let modules = flags_given.all("vmodule");
    if format == Format::Json && !modules.is_empty() {
        return refuse("--vmodule works only with --logging-format=text".to_owned());
    }
    for kind in ["json", "text"] {
        let (split, buffer) = (
            format!("log-{kind}-split-stream"),
            format!("log-{kind}-info-buffer-size"),
        );
        if flags_given.get(&split) {
            return refuse(format!(
                "--{split} is not available: the log is one stream, leave the flag out"
            ));
        }
        if flags_given.get::<i64>(&buffer) != 0 {
            return refuse(format!(
                "--{buffer} is not available: the log is not buffered, leave the flag out"
            ));
        }
    }
    Ok(Logging {
        format,
        level: flags_given.get("v"),
        modules,
    })
}

fn serving(flags_given: &ParsedFlags) -> Result<Option<Serving>, Exit> {
    let (address, leader_health) = match (
        flags_given.text("http-endpoint"),
        flags_given.text("metrics-address"),
    ) {
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
    let metrics_path: String = flags_given.get("metrics-path");
    if !metrics_path.starts_with('/') {
        return Err(Exit::error(
            2,
            format!("--metrics-path={metrics_path} must begin with a slash"),
        ));
    }
    Ok(Some(Serving {
        address,
        metrics_path,
        leader_health,
    }))
}

/// What would change behaviour and is not there is refused, never ignored.
fn not_built(flags_given: &ParsedFlags, gates: &Gates) -> Result<(), Exit> {
    let mut reasons = Vec::new();
    if flags_given.get("enable-capacity") {
        reasons.push(
            "--enable-capacity: storage capacity is not built yet; leave the flag out or stay with upstream",
        );
    }
    if flags_given.get("node-deployment") {
        reasons.push("--node-deployment: not built yet; run one central Deployment or stay with upstream");
    }
    if gates.cross_namespace_source {
        reasons.push(
            "--feature-gates: CrossNamespaceVolumeDataSource is not built yet; set it to false or stay with upstream",
        );
    }
    if flags_given.get("enable-pprof") {
        reasons.push(
            "--enable-pprof: there is no Go runtime to driver_info; use perf, and the metrics of --http-endpoint",
        );
    }
    match reasons.as_slice() {
        [] => Ok(()),
        reasons => Err(Exit::error(1, reasons.join("\nerror: "))),
    }
}

/// client-go's reading of the two flags: a pace of zero means its default, a negative one no limit. None unless
/// either is given, and when there is no limit.
fn pace(flags_given: &ParsedFlags) -> Result<Option<Pace>, Exit> {
    if !flags_given.explicit("kube-api-qps") && !flags_given.explicit("kube-api-burst") {
        return Ok(None);
    }
    let qps: f64 = match flags_given.get("kube-api-qps") {
        0.0 => 5.0,
        qps => qps,
    };
    if !(qps > 0.0 && qps.is_finite()) {
        return Ok(None);
    }
    match u32::try_from(flags_given.get::<i64>("kube-api-burst").min(u32::MAX.into())) {
        Ok(burst) if burst > 0 => Ok(Some(Pace { qps, burst })),
        _ => Err(Exit::error(
            255,
            "--kube-api-burst must be above zero when there is a --kube-api-qps",
        )),
    }
}

fn election(
    flags_given: &ParsedFlags,
    pod_namespace: Option<String>,
    release: bool,
) -> Result<Option<Election>, Exit> {
    if !flags_given.get::<bool>("leader-election") {
        return Ok(None);
    }
    let [lease, renew, retry] = ["lease-duration", "renew-deadline", "retry-period"].map(|name| {
        flags_given
            .get::<GoDuration>(&format!("leader-election-{name}"))
            .or_zero()
    });
    let timing = Timing::new(lease, renew, retry).map_err(|error| Exit::error(2, error.to_string()))?;
    Ok(Some(Election {
        namespace: flags_given.text("leader-election-namespace").or(pod_namespace),
        labels: flags_given.all("leader-election-labels").into_iter().collect(),
        timing,
        release,
    }))
}

fn work(flags_given: &ParsedFlags, warnings: &mut Vec<String>) -> Result<Work, Exit> {
    let at_once = usize::try_from(flags_given.get::<u64>("worker-threads")).unwrap_or(usize::MAX);
    let [start, max] = ["start", "max"].map(|end| {
        flags_given
            .get::<GoDuration>(&format!("retry-interval-{end}"))
            .or_zero()
    });
    if start.is_zero() || max.is_zero() {
        warnings.push(
            "failed work is tried again without any delay: see --retry-interval-start and -max".to_owned(),
        );
    }
    Ok(Work {
        at_once: NonZeroUsize::new(at_once).ok_or_else(|| {
            Exit::error(
                1,
                "--worker-threads=0: no volume would ever be created or deleted",
            )
        })?,
        backoff: Backoff { start, max },
    })
}
