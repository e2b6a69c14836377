//! The livenessprobe's command line: every flag of upstream v2.19 under its name, with its type and default.

use crate::{
    app::sidecar::{
        argv::Dialect,
        driver::DriverSettings,
        flags::{
            self, Exit, Flag, Group,
            Kind::{self, Switch, Text},
            ParsedFlags,
        },
        http, log,
    },
    telemetry::log::LogSettings,
};

pub(super) const NAME: &str = "livenessprobe";

const HEALTH_PORT: &str = "9808";

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
            Flag::new("health-port", Text, HEALTH_PORT, "Port of /healthz on all addresses; older than --http-endpoint"),
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
    /// The driver's socket; the limit is that of a Probe.
    pub driver: DriverSettings,
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

/// Reads the command line, the program's name first.
///
/// # Errors
/// The process ends, which may be what was asked for: `--help`.
pub fn parse(argv: impl IntoIterator<Item = String>) -> Result<Config, Exit> {
    let flags = flags::read(NAME, GROUPS, Dialect::Goflag, argv.into_iter().skip(1))?;
    let logging = log::read(&flags)?;
    let (health, metrics) = listeners(&flags)?;
    let metrics_path = http::metrics_path(&flags)?;
    Ok(Config {
        driver: DriverSettings::read(&flags, "probe-timeout", "Probe")?,
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
        (Some(_), None) if older != HEALTH_PORT => {
            let reason =
                "only one of --http-endpoint and --health-port can be set: put the port into --http-endpoint";
            Err(Exit::error(1, reason))
        }
        (Some(address), None) => Ok((address, MetricsPlace::WithHealth)),
        (None, Some(address)) => Ok((format!("0.0.0.0:{older}"), MetricsPlace::At(address))),
        (None, None) => Ok((format!("0.0.0.0:{older}"), MetricsPlace::Nowhere)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Upstream's flags, with their defaults as they print in its help.
    const UPSTREAM: &[(&str, Kind, &str)] = &[
        ("automaxprocs", Switch, "false"),
        ("csi-address", Text, "/run/csi/socket"),
        ("health-port", Text, "9808"),
        ("http-endpoint", Text, ""),
        ("log-flush-frequency", Kind::Duration, "5s"),
        ("log-json-info-buffer-size", Kind::Bytes, "0"),
        ("log-json-split-stream", Switch, "false"),
        ("log-text-info-buffer-size", Kind::Bytes, "0"),
        ("log-text-split-stream", Switch, "false"),
        ("logging-format", Text, "text"),
        ("metrics-address", Text, ""),
        ("metrics-path", Text, "/metrics"),
        ("probe-timeout", Kind::Duration, "3s"),
        ("v", Kind::Level, "0"),
        ("vmodule", Kind::Levels, ""),
    ];

    fn read(line: &str) -> Result<Config, Exit> {
        let words = line.split_whitespace().map(str::to_owned);
        parse(std::iter::once("/livenessprobe".to_owned()).chain(words))
    }

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config {
            driver: DriverSettings {
                address: "/run/csi/socket".into(),
                timeout: Duration::from_secs(3),
            },
            health: "0.0.0.0:9808".into(),
            metrics: MetricsPlace::Nowhere,
            metrics_path: "/metrics".into(),
            logging: LogSettings::default(),
            warnings: Vec::new(),
        };
        change(&mut config);
        config
    }

    #[test]
    fn the_flags_are_upstreams_with_their_types_and_defaults_and_no_others() {
        let flags = GROUPS.iter().flat_map(|group| group.flags);
        let mut ours: Vec<_> = flags.map(|flag| (flag.name, flag.kind, flag.default)).collect();
        ours.sort_by_key(|(name, ..)| *name);
        assert_eq!(ours, UPSTREAM);
    }

    #[test]
    fn a_command_line_is_read_as_gos_flag_package_does() {
        type Change = fn(&mut Config);
        let rows: [(&str, Change); 19] = [
            ("", |_| {}),
            ("--csi-address=/csi/csi.sock", |it| {
                it.driver.address = "/csi/csi.sock".into()
            }),
            ("-csi-address=/csi/csi.sock", |it| {
                it.driver.address = "/csi/csi.sock".into()
            }),
            ("-csi-address /csi/csi.sock", |it| {
                it.driver.address = "/csi/csi.sock".into()
            }),
            ("--csi-address a --csi-address b", |it| {
                it.driver.address = "b".into()
            }),
            ("--probe-timeout=1m30s", |it| {
                it.driver.timeout = Duration::from_secs(90)
            }),
            ("-probe-timeout 300ms", |it| {
                it.driver.timeout = Duration::from_millis(300)
            }),
            ("--health-port=9898", |it| it.health = "0.0.0.0:9898".into()),
            // Upstream takes any text, too; the listener refuses what is no port.
            ("--health-port=http", |it| it.health = "0.0.0.0:http".into()),
            ("--http-endpoint=:8080", |it| {
                (it.health, it.metrics) = (":8080".into(), MetricsPlace::WithHealth);
            }),
            ("--http-endpoint=:8080 --health-port=9808", |it| {
                (it.health, it.metrics) = (":8080".into(), MetricsPlace::WithHealth);
            }),
            ("--metrics-address=:8081", |it| {
                it.metrics = MetricsPlace::At(":8081".into())
            }),
            ("--metrics-address=:8081 --health-port=9898", |it| {
                it.health = "0.0.0.0:9898".into();
                it.metrics = MetricsPlace::At(":8081".into());
            }),
            ("--http-endpoint= --metrics-address=", |_| {}),
            ("--metrics-path=/numbers", |it| {
                it.metrics_path = "/numbers".into()
            }),
            ("-v=5 -automaxprocs", |it| it.logging.verbosity = 5),
            ("--v 5 --automaxprocs=false --log-flush-frequency=1s", |it| {
                it.logging.verbosity = 5
            }),
            ("--v=1 -- --v=2", |it| {
                it.logging.verbosity = 1;
                it.warnings = vec!["ignored on the command line: --v=2".into()];
            }),
            ("--v=1 stray --v=2", |it| {
                it.logging.verbosity = 1;
                it.warnings = vec!["ignored on the command line: stray --v=2".into()];
            }),
        ];
        for (line, change) in rows {
            assert_eq!(read(line), Ok(config(change)), "{line}");
        }
    }

    #[test]
    fn a_command_line_that_cannot_be_used_ends_with_upstreams_code_and_a_reason() {
        let rows = [
            ("--bogus", 2, "--bogus"),
            ("-bogus=1", 2, "--bogus"),
            ("--version", 2, "--version"),
            ("-kubeconfig=x", 2, "--kubeconfig"),
            ("--enable-pprof", 2, "--enable-pprof"),
            ("-v5", 2, "--v5"),
            ("--csi-address", 2, "--csi-address=<text> lacks its value"),
            ("--probe-timeout=3", 2, "probe-timeout"),
            ("--probe-timeout=", 2, "probe-timeout"),
            ("--probe-timeout=0", 2, "--probe-timeout must be above zero"),
            ("--probe-timeout=-1s", 2, "--probe-timeout must be above zero"),
            ("--automaxprocs=maybe", 2, "automaxprocs"),
            (
                "--metrics-path=metrics",
                2,
                "--metrics-path=metrics must begin with a slash",
            ),
            (
                "--http-endpoint=:1 --metrics-address=:2",
                1,
                "--http-endpoint and --metrics-address",
            ),
            (
                "--http-endpoint=:1 --health-port=1",
                1,
                "--http-endpoint and --health-port",
            ),
            (
                "--http-endpoint=:1 --health-port=",
                1,
                "--http-endpoint and --health-port",
            ),
            ("--logging-format=xml", 1, "use text or json"),
        ];
        for (line, code, words) in rows {
            let exit = read(line).expect_err(line);
            assert_eq!(exit.code, code, "{line}: {exit:?}");
            assert!(
                exit.stdout.is_empty() && exit.stderr.contains(words),
                "{line}: {exit:?}"
            );
        }
    }

    #[test]
    fn help_ends_with_0_and_names_every_flag() {
        for line in ["-h", "--h", "-help", "--help", "--v=1 -h --bogus"] {
            let exit = read(line).expect_err(line);
            assert_eq!(exit.code, 0, "{line}: {exit:?}");
            for (name, ..) in UPSTREAM {
                assert!(
                    exit.stderr.contains(&format!("--{name}=")),
                    "{line}: {name}: {exit:?}"
                );
            }
        }
    }
}
