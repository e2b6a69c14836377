//! What the provisioner's command line must be for a drop-in replacement.

use std::collections::HashSet;

use super::{GROUPS, parse};
use crate::app::{
    provisioner::config::Config,
    sidecar::flags::{Exit, Kind},
};

mod refusals;
mod settings;

/// Upstream's flags, with their defaults as they print in its help.
const UPSTREAM: &[(&str, Kind, &str)] = &[
    ("automaxprocs", Kind::Switch, "false"),
    ("capacity-for-immediate-binding", Kind::Switch, "false"),
    ("capacity-ownerref-level", Kind::Int, "1"),
    ("capacity-poll-interval", Kind::Duration, "1m"),
    ("capacity-threads", Kind::Uint, "1"),
    ("cloning-protection-threads", Kind::Uint, "1"),
    ("controller-publish-readonly", Kind::Switch, "false"),
    ("csi-address", Kind::Text, "/run/csi/socket"),
    ("default-fstype", Kind::Text, ""),
    ("enable-capacity", Kind::Switch, "false"),
    ("enable-pprof", Kind::Switch, "false"),
    ("extra-create-metadata", Kind::Switch, "false"),
    ("feature-gates", Kind::Gates, ""),
    ("http-endpoint", Kind::Text, ""),
    ("immediate-topology", Kind::Switch, "true"),
    ("kube-api-burst", Kind::Int, "10"),
    ("kube-api-capacity-burst", Kind::Int, "5"),
    ("kube-api-capacity-qps", Kind::Float, "1"),
    ("kube-api-qps", Kind::Float, "5"),
    ("kubeconfig", Kind::Text, ""),
    ("leader-election", Kind::Switch, "false"),
    ("leader-election-labels", Kind::Labels, ""),
    ("leader-election-lease-duration", Kind::Duration, "15s"),
    ("leader-election-namespace", Kind::Text, ""),
    ("leader-election-renew-deadline", Kind::Duration, "10s"),
    ("leader-election-retry-period", Kind::Duration, "5s"),
    ("log-flush-frequency", Kind::Duration, "5s"),
    ("log-json-info-buffer-size", Kind::Bytes, "0"),
    ("log-json-split-stream", Kind::Switch, "false"),
    ("log-text-info-buffer-size", Kind::Bytes, "0"),
    ("log-text-split-stream", Kind::Switch, "false"),
    ("logging-format", Kind::Text, "text"),
    ("master", Kind::Text, ""),
    ("metrics-address", Kind::Text, ""),
    ("metrics-path", Kind::Text, "/metrics"),
    ("node-deployment", Kind::Switch, "false"),
    ("node-deployment-base-delay", Kind::Duration, "20s"),
    ("node-deployment-immediate-binding", Kind::Switch, "true"),
    ("node-deployment-max-delay", Kind::Duration, "60s"),
    ("prevent-volume-mode-conversion", Kind::Switch, "true"),
    ("retry-interval-max", Kind::Duration, "5m"),
    ("retry-interval-start", Kind::Duration, "1s"),
    ("snapshot-orphan-sweep-interval", Kind::Duration, "5m"),
    ("strict-topology", Kind::Switch, "false"),
    ("timeout", Kind::Duration, "10s"),
    ("v", Kind::Level, "0"),
    ("version", Kind::Switch, "false"),
    ("vmodule", Kind::Levels, ""),
    ("volume-name-prefix", Kind::Text, "pvc"),
    ("volume-name-uuid-length", Kind::Int, "-1"),
    ("worker-threads", Kind::Uint, "100"),
];

fn with(line: &str, env: &[(&str, &str)]) -> Result<Config, Exit> {
    let argv = std::iter::once("/csi-provisioner")
        .chain(line.split_whitespace())
        .map(str::to_owned);
    parse(argv, |name| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn run(line: &str) -> Config {
    with(line, &[]).unwrap_or_else(|exit| panic!("{line} ends with {exit:?}"))
}

fn end(line: &str) -> Exit {
    with(line, &[]).expect_err(line)
}

#[test]
fn every_flag_of_upstream_is_here_with_its_type_and_default_and_one_of_our_own() {
    let mut ours: Vec<_> = GROUPS
        .iter()
        .flat_map(|group| group.flags)
        .map(|flag| (flag.name, flag.kind, flag.default))
        .collect();
    ours.sort_by_key(|(name, ..)| *name);
    let own = |(name, ..): &(&str, Kind, &str)| *name == "crash-safe";
    assert_eq!(ours.extract_if(.., |flag| own(flag)).count(), 1);
    assert_eq!(ours, UPSTREAM);
    assert_eq!(ours.len(), 51);
}

#[test]
fn every_flag_accepts_its_own_default_given_in_either_form() {
    for (name, kind, default) in UPSTREAM {
        if *kind == Kind::Labels {
            continue;
        }
        let argv = |form: &[String]| {
            std::iter::once("x".to_owned())
                .chain(form.to_vec())
                .collect::<Vec<_>>()
        };
        let equals = argv(&[format!("--{name}={default}")]);
        assert!(parse(equals, |_| None).is_ok(), "--{name}={default}");
        if *kind != Kind::Switch {
            let apart = argv(&[format!("--{name}"), (*default).to_owned()]);
            assert!(parse(apart, |_| None).is_ok(), "--{name} {default}");
        }
    }
}

#[test]
fn help_shows_every_flag_sorted_within_its_group_on_stderr_and_succeeds() {
    for line in [
        "--help",
        "-h",
        "-help",
        "--help=false",
        "--enable-capacity --help",
    ] {
        let Exit { code, stdout, stderr } = end(line);
        assert_eq!((code, stdout.as_str()), (0, ""), "{line}");
        for (name, ..) in UPSTREAM {
            assert!(stderr.contains(&format!("--{name}=<")), "{name} in\n{stderr}");
        }
        for group in GROUPS {
            assert!(
                stderr.contains(&format!("{}:\n", group.heading)),
                "{} in\n{stderr}",
                group.heading
            );
            assert!(
                group.flags.is_sorted_by_key(|flag| flag.name),
                "{}",
                group.heading
            );
        }
    }
}

#[test]
fn version_names_the_program_as_it_was_called_on_stdout() {
    for line in [
        "--version",
        "-version",
        "--version=T",
        "--version --enable-capacity --worker-threads=0",
    ] {
        let stdout = format!("/csi-provisioner v{}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            end(line),
            Exit {
                code: 0,
                stdout,
                stderr: String::new()
            },
            "{line}"
        );
    }
    assert!(with("--version=false", &[]).is_ok());
}

#[test]
fn the_line_is_read_as_pflag_reads_it() {
    for (line, level, election, warnings) in [
        ("--v=5 --v=3", 3, false, 0),
        ("-v 5 -leader-election", 5, true, 0),
        ("-v5 --leader-election=1", 5, true, 0),
        ("--leader-election false --v=2", 2, true, 1),
        ("--leader-election --leader-election=F", 0, false, 0),
        ("stray --v=1 words", 1, false, 2),
        ("--v=1 -- --v=2", 1, false, 1),
    ] {
        let config = run(line);
        let read = (
            config.logging.verbosity,
            config.election.is_some(),
            config.warnings.len(),
        );
        assert_eq!(read, (level, election, warnings), "{line}");
    }
}

#[test]
fn no_name_stands_twice_in_the_table() {
    let mut seen = HashSet::new();
    for flag in GROUPS.iter().flat_map(|group| group.flags) {
        assert!(seen.insert(flag.name) && !flag.help.is_empty(), "{}", flag.name);
    }
}

proptest::proptest! {
    #[test]
    fn no_line_panics(words in proptest::collection::vec("-{0,3}[a-z-]{0,12}=?[-+0-9a-zA-Z:=,]{0,9}|.{0,9}", 0..6)) {
        let _ = parse(std::iter::once("x".to_owned()).chain(words), |_| None);
    }

    #[test]
    fn no_value_of_any_flag_panics(flag in proptest::sample::select(UPSTREAM), value in ".{0,12}") {
        let _ = parse(["x".to_owned(), format!("--{}", flag.0), value], |_| None);
    }
}
