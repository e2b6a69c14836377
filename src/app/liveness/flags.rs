//! The livenessprobe's command line: every flag of upstream v2.19 under its name, with its type and default.

use std::time::Duration;

use crate::{
    app::sidecar::{
        argv::Dialect,
        flags::{
            self, Exit, Flag, Group,
            Kind::{self, Switch, Text},
            ParsedFlags,
        },
        log, process,
    },
    base::duration::GoDuration,
    telemetry::log::LogSettings,
};

pub(super) const NAME: &str = "livenessprobe";

/// All flags, by purpose.
#[rustfmt::skip] // One line per flag.
pub const GROUPS: &[Group] = &[
    Group {
        heading: "Driver",
        flags: &[
            Flag::new("csi-address", Text, "/run/csi/socket", "Socket of the driver: a path or unix://path"),
            Flag::new("probe-timeout", Kind::Duration, "3s", "Limit of a Probe, the connection included"),
        ],
    },
    Group {
        heading: "HTTP",
        flags: &[
            Flag::new("health-port", Text, "9808", "Port of /healthz on all IPv4 addresses; older than --http-endpoint"),
            Flag::new("http-endpoint", Text, "", "Address of /healthz and metrics, such as :8080"),
            Flag::new("metrics-address", Text, "", "Address of metrics alone, beside --health-port"),
            Flag::new("metrics-path", Text, "/metrics", "Path of the metrics"),
        ],
    },
    log::FLAGS,
    Group {
        heading: "Process",
        flags: &[Flag::new("automaxprocs", Switch, "false", "No effect: there is one thread")],
    },
];

/// All settings that have an effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The driver's socket, as given.
    pub address: String,
    /// Limit of a Probe; above zero.
    pub timeout: Duration,
    /// Where `/healthz` is, with the metrics if there is only one listener.
    pub health: String,
    /// Where the metrics are.
    pub metrics: MetricsPlace,
    /// `--metrics-path`; begins with a slash.
    pub metrics_path: String,
    /// The log.
    pub logging: LogSettings,
    /// What the operator should know; to be logged once the log runs.
    pub warnings: Vec<String>,
}

/// Where the metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsPlace {
    /// Nowhere: upstream has none beside `--health-port` alone.
    Nowhere,
    /// Beside `/healthz`.
    WithHealth,
    /// On this address.
    At(String),
}

impl process::Settings for Config {
    fn logging(&self) -> LogSettings {
        self.logging.clone()
    }

    fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Reads the command line, the program's name first.
///
/// # Errors
/// The process ends, which may be what was asked for: `--help`.
pub fn parse(argv: impl IntoIterator<Item = String>) -> Result<Config, Exit> {
    let flags = flags::read(NAME, GROUPS, Dialect::Goflag, argv.into_iter().skip(1))?;
    let logging = log::read(&flags)?;
    let (health, metrics) = listeners(&flags)?;
    let timeout = flags.get::<GoDuration>("probe-timeout").length();
    let metrics_path: String = flags.get("metrics-path");
    if !metrics_path.starts_with('/') {
        let reason = format!("--metrics-path={metrics_path} must begin with a slash");
        return Err(Exit::error(2, reason));
    }
    Ok(Config {
        address: flags.get("csi-address"),
        timeout: timeout
            .filter(|timeout| !timeout.is_zero())
            .ok_or_else(|| Exit::error(2, "--probe-timeout must be above zero, or no Probe could succeed"))?,
        health,
        metrics,
        metrics_path,
        logging,
        warnings: flags.warnings,
    })
}

/// Upstream compares values: `--health-port=9808` beside `--http-endpoint` is no contradiction.
fn listeners(flags: &ParsedFlags) -> Result<(String, MetricsPlace), Exit> {
    let older: String = flags.get("health-port");
    match (flags.text("http-endpoint"), flags.text("metrics-address")) {
        (Some(_), Some(_)) => {
            let reason = "only one of --http-endpoint and --metrics-address can be set: --http-endpoint serves the metrics, too";
            Err(Exit::error(1, reason))
        }
        (Some(_), None) if older != "9808" => {
            let reason =
                "only one of --http-endpoint and --health-port can be set: put the port into --http-endpoint";
            Err(Exit::error(1, reason))
        }
        (Some(address), None) => Ok((address, MetricsPlace::WithHealth)),
        (None, Some(address)) => Ok((format!("0.0.0.0:{older}"), MetricsPlace::At(address))),
        (None, None) => Ok((format!("0.0.0.0:{older}"), MetricsPlace::Nowhere)),
    }
}
