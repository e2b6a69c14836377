//! The registrar's command line: every flag of upstream's node-driver-registrar v2.17 under its name, with its type and
//! default.

use crate::{
    app::sidecar::{
        argv::Dialect,
        driver::DriverSettings,
        flags::{
            self, Exit, Flag, Group,
            Kind::{self, Int, Switch, Text},
            ParsedFlags,
        },
        http::PPROF,
        log,
    },
    base::duration::GoDuration,
    register::KubeletPaths,
    telemetry::log::LogSettings,
};

pub(super) const NAME: &str = "csi-node-driver-registrar";

/// All flags, by purpose.
#[rustfmt::skip] // One line per flag.
pub const GROUPS: &[Group] = &[
    Group {
        heading: "Driver",
        flags: &[
            Flag::new("connection-timeout", Kind::Duration, "0s", "No effect: a driver that is late is waited for"),
            Flag::new("csi-address", Text, "/run/csi/socket", "Socket of the driver: a path or unix://path"),
            Flag::new("timeout", Kind::Duration, "1s", "Limit of GetPluginInfo, and of the check behind /healthz"),
        ],
    },
    Group {
        heading: "Kubelet",
        flags: &[
            Flag::new("kubelet-registration-path", Text, "", "Socket of the driver as the kubelet sees it on the host; required"),
            Flag::new("mode", Text, "", "kubelet-registration-probe ends at once with success; older"),
            Flag::new("plugin-registration-path", Text, "/registration", "The kubelet's plugins_registry as it is mounted here"),
        ],
    },
    Group {
        heading: "HTTP",
        flags: &[
            Flag::new("enable-pprof", Switch, "false", "No effect: there is no Go runtime to profile"),
            Flag::new("health-port", Int, "0", "Port of /healthz on all addresses; older than --http-endpoint"),
            Flag::new("http-endpoint", Text, "", "Address of /healthz, such as :8080"),
        ],
    },
    log::FLAGS,
    Group {
        heading: "Process",
        flags: &[
            Flag::new("automaxprocs", Switch, "false", "No effect: there is one thread"),
            Flag::new("version", Switch, "false", "Print the version"),
        ],
    },
];

/// All settings that have an effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The driver's socket; the limit is that of the self-check, too.
    pub driver: DriverSettings,
    /// What the kubelet is told, and where.
    pub kubelet: KubeletPaths,
    /// Where `/healthz` is; None: nowhere.
    pub health: Option<String>,
    /// The log.
    pub logging: LogSettings,
    /// What the operator should know; to be logged once the log runs.
    pub warnings: Vec<String>,
}

/// Reads the command line, the program's name first. What is wrong is found in upstream's order.
///
/// # Errors
/// The process ends, which may be what was asked for: `--help`, `--version`, the probe mode.
pub fn parse(argv: impl IntoIterator<Item = String>) -> Result<Config, Exit> {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_else(|| NAME.to_owned());
    let flags = flags::read(NAME, GROUPS, Dialect::Goflag, argv)?;
    let logging = log::read(&flags)?;
    if flags.get("version") {
        return Err(Exit::version(&program));
    }
    let Some(endpoint) = flags.text("kubelet-registration-path") else {
        return Err(Exit::error(
            1,
            "--kubelet-registration-path is required: the path of the driver's socket on the host, as in \
             /var/lib/kubelet/plugins/<driver>/csi.sock",
        ));
    };
    if flags.get::<String>("mode") == "kubelet-registration-probe" {
        return Err(Exit::success());
    }
    let health = health(&flags)?;
    Ok(Config {
        driver: DriverSettings::read(&flags, "timeout", "call")?,
        kubelet: KubeletPaths {
            directory: flags.get::<String>("plugin-registration-path").into(),
            endpoint,
        },
        health,
        logging,
        warnings: warnings(&flags),
    })
}

fn health(flags: &ParsedFlags) -> Result<Option<String>, Exit> {
    let port: i64 = flags.get("health-port");
    match flags.text("http-endpoint") {
        Some(_) if port > 0 => Err(Exit::error(
            1,
            "only one of --http-endpoint and --health-port can be set: put the port into --http-endpoint",
        )),
        Some(address) => Ok(Some(address)),
        None => Ok((port > 0).then(|| format!(":{port}"))),
    }
}

fn warnings(flags: &ParsedFlags) -> Vec<String> {
    let mut warnings = flags.warnings.clone();
    if flags.get("enable-pprof") {
        warnings.push(PPROF.to_owned());
    }
    if flags
        .get::<GoDuration>("connection-timeout")
        .length()
        .is_some_and(|given| !given.is_zero())
    {
        warnings.push("--connection-timeout has no effect: a driver that is late is waited for".to_owned());
    }
    if let Some(mode) = flags.text("mode") {
        warnings.push(format!("--mode={mode} is unknown and has no effect"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Upstream's flags, with their defaults as they print in its help.
    const UPSTREAM: &[(&str, Kind, &str)] = &[
        ("automaxprocs", Switch, "false"),
        ("connection-timeout", Kind::Duration, "0s"),
        ("csi-address", Text, "/run/csi/socket"),
        ("enable-pprof", Switch, "false"),
        ("health-port", Int, "0"),
        ("http-endpoint", Text, ""),
        ("kubelet-registration-path", Text, ""),
        ("log-flush-frequency", Kind::Duration, "5s"),
        ("log-json-info-buffer-size", Kind::Bytes, "0"),
        ("log-json-split-stream", Switch, "false"),
        ("log-text-info-buffer-size", Kind::Bytes, "0"),
        ("log-text-split-stream", Switch, "false"),
        ("logging-format", Text, "text"),
        ("mode", Text, ""),
        ("plugin-registration-path", Text, "/registration"),
        ("timeout", Kind::Duration, "1s"),
        ("v", Kind::Level, "0"),
        ("version", Switch, "false"),
        ("vmodule", Kind::Levels, ""),
    ];

    #[test]
    fn the_flags_are_upstreams_with_their_types_and_defaults_and_no_others() {
        let flags = GROUPS.iter().flat_map(|group| group.flags);
        let mut ours: Vec<_> = flags.map(|flag| (flag.name, flag.kind, flag.default)).collect();
        ours.sort_by_key(|(name, ..)| *name);
        assert_eq!(ours, UPSTREAM);
    }

    fn parsed(line: &str) -> Result<Config, Exit> {
        let words = std::iter::once(NAME).chain(line.split_whitespace());
        parse(words.map(str::to_owned))
    }

    fn config(line: &str) -> Config {
        parsed(&format!("{line} --kubelet-registration-path=/p/csi.sock")).unwrap()
    }

    #[test]
    fn without_flags_the_settings_are_upstreams() {
        let Config {
            driver,
            kubelet,
            health,
            logging,
            warnings,
        } = config("");
        assert_eq!(driver.address, "/run/csi/socket");
        assert_eq!(driver.timeout, Duration::from_secs(1));
        assert_eq!(kubelet.directory.to_str(), Some("/registration"));
        assert_eq!(kubelet.endpoint, "/p/csi.sock");
        assert_eq!(health, None);
        assert_eq!(logging, LogSettings::default());
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn flags_are_read_with_one_dash_or_two_and_what_has_no_effect_is_told() {
        let given = config(
            "-csi-address /d.sock -timeout=90s --plugin-registration-path=/r -health-port 9809 -enable-pprof \
             --connection-timeout=1m -mode x --automaxprocs --v=5",
        );
        assert_eq!(given.driver.address, "/d.sock");
        assert_eq!(given.driver.timeout, Duration::from_secs(90));
        assert_eq!(given.kubelet.directory.to_str(), Some("/r"));
        assert_eq!(given.health.as_deref(), Some(":9809"));
        assert_eq!(given.logging.verbosity, 5);
        let told: Vec<_> = given.warnings.iter().map(|it| it.split(' ').next()).collect();
        assert_eq!(
            told,
            [
                Some("--enable-pprof"),
                Some("--connection-timeout"),
                Some("--mode=x")
            ]
        );
        assert_eq!(
            config("--http-endpoint=:1 --health-port=0").health.as_deref(),
            Some(":1")
        );
        assert_eq!(config("--health-port=-1").health, None);
    }

    #[test]
    fn what_ends_the_process_does_so_in_upstreams_order_with_upstreams_code() {
        let path = "--kubelet-registration-path=/p/csi.sock";
        let both = "--http-endpoint=:1 --health-port=1";
        for (line, code, words) in [
            ("", 1, "--kubelet-registration-path is required"),
            (
                "--kubelet-registration-path=",
                1,
                "--kubelet-registration-path is required",
            ),
            (
                "--mode=kubelet-registration-probe",
                1,
                "--kubelet-registration-path is required",
            ),
            (&format!("{path} --mode=kubelet-registration-probe {both}"), 0, ""),
            (&format!("{path} {both}"), 1, "only one of"),
            (&format!("{path} --timeout=0"), 2, "--timeout must be above zero"),
            (&format!("{path} --colour=red"), 2, "--colour"),
            (&format!("{path} --timeout=1"), 2, "timeout"),
            (&format!("{path} -v5"), 2, "--v5"),
            (&format!("{path} --kubeconfig=x"), 2, "--kubeconfig"),
            (&format!("{path} --logging-format=xml"), 1, "--logging-format=xml"),
            ("-h", 0, "--kubelet-registration-path"),
        ] {
            let exit = parsed(line).unwrap_err();
            assert_eq!(exit.code, code, "{line}: {exit:?}");
            assert!(exit.stderr.contains(words), "{line}: {exit:?}");
            assert_eq!(exit.stdout, "", "{line}");
        }
        let version = parsed("--version").unwrap_err();
        assert_eq!(
            (version.code, version.stdout.as_str()),
            (
                0,
                concat!("csi-node-driver-registrar v", env!("CARGO_PKG_VERSION"), "\n")
            )
        );
    }
}
