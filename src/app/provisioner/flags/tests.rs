//! What the provisioner's command line must be for a drop-in replacement.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::{GROUPS, parse};
use crate::app::flags::{Exit, Kind};
use crate::app::provisioner::config::{
    Config, Driver, Election, Format, Kube, Logging, Naming, Pace, Serving, Volumes, Work,
};
use crate::app::provisioner::gates::Gates;
use crate::base::backoff::Backoff;
use crate::base::names::UidLength;
use crate::lease::Timing;

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
fn every_flag_of_upstream_is_here_with_its_type_and_default_and_no_other() {
    let mut ours: Vec<_> = GROUPS
        .iter()
        .flat_map(|group| group.flags)
        .map(|flag| (flag.name, flag.kind, flag.default))
        .collect();
    ours.sort_by_key(|(name, ..)| *name);
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
fn without_flags_it_behaves_as_upstream_without_flags() {
    let seconds = Duration::from_secs;
    assert_eq!(
        run(""),
        Config {
            driver: Driver {
                address: "/run/csi/socket".into(),
                timeout: seconds(10)
            },
            kube: Kube {
                kubeconfig: None,
                master: None,
                pace: None
            },
            election: None,
            naming: Naming {
                prefix: "pvc".into(),
                uid: UidLength::Whole
            },
            volumes: Volumes {
                default_fstype: "".into(),
                extra_metadata: false,
                readonly: false
            },
            work: Work {
                at_once: NonZeroUsize::new(100).unwrap(),
                backoff: Backoff {
                    start: seconds(1),
                    max: seconds(300)
                },
            },
            serving: None,
            logging: Logging {
                format: Format::Text,
                level: 0,
                modules: vec![]
            },
            gates: Gates {
                topology: true,
                attributes_class: None,
                cross_namespace_source: false,
                release_lease: true,
            },
            warnings: vec![],
        }
    );
}

#[test]
fn each_flag_reaches_its_setting() {
    let config = run(
        "--csi-address=/a --timeout 1m30s --kubeconfig=/k --master=http://m --volume-name-prefix=vol \
        --volume-name-uuid-length 10 --default-fstype=xfs --extra-create-metadata --controller-publish-readonly=t \
        --worker-threads=0x10 --retry-interval-start=5ms --retry-interval-max=1h --http-endpoint=:8080 \
        --metrics-path=/m --logging-format=text -v5 --vmodule=act=4, --vmodule=decide*=9 --leader-election \
        --leader-election-namespace=ns --leader-election-labels=a:b,c:d --leader-election-labels=c:e \
        --leader-election-lease-duration=20s --leader-election-renew-deadline=15s \
        --leader-election-retry-period=2s --feature-gates=Topology=false,VolumeAttributesClass=false \
        --feature-gates=ReleaseLeaderElectionOnExit=false",
    );
    let seconds = Duration::from_secs;
    assert_eq!(
        config,
        Config {
            driver: Driver {
                address: "/a".into(),
                timeout: seconds(90)
            },
            kube: Kube {
                kubeconfig: Some("/k".into()),
                master: Some("http://m".into()),
                pace: None
            },
            election: Some(Election {
                namespace: Some("ns".into()),
                labels: [("a".into(), "b".into()), ("c".into(), "e".into())].into(),
                timing: Timing::new(seconds(20), seconds(15), seconds(2)).unwrap(),
                release: false,
            }),
            naming: Naming {
                prefix: "vol".into(),
                uid: UidLength::Digits(10)
            },
            volumes: Volumes {
                default_fstype: "xfs".into(),
                extra_metadata: true,
                readonly: true
            },
            work: Work {
                at_once: NonZeroUsize::new(16).unwrap(),
                backoff: Backoff {
                    start: Duration::from_millis(5),
                    max: seconds(3600)
                },
            },
            serving: Some(Serving {
                address: ":8080".into(),
                metrics_path: "/m".into(),
                leader_health: true
            }),
            logging: Logging {
                format: Format::Text,
                level: 5,
                modules: vec![("act".into(), 4), ("decide*".into(), 9)],
            },
            gates: Gates {
                topology: false,
                attributes_class: Some(false),
                cross_namespace_source: false,
                release_lease: false,
            },
            warnings: config.warnings.clone(),
        }
    );
    assert_eq!(
        config.warnings.len(),
        2,
        "one for each gate that is generally available"
    );
    let older = run("--metrics-address=:9 --logging-format=json");
    let serving = Serving {
        address: ":9".into(),
        metrics_path: "/metrics".into(),
        leader_health: false,
    };
    assert_eq!(
        (older.serving, older.logging.format),
        (Some(serving), Format::Json)
    );
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
            config.logging.level,
            config.election.is_some(),
            config.warnings.len(),
        );
        assert_eq!(read, (level, election, warnings), "{line}");
    }
}

#[test]
fn the_environment_is_read_as_upstream_reads_it() {
    let kubeconfig = |line, env: &[(&str, &str)]| with(line, env).unwrap().kube.kubeconfig;
    assert_eq!(
        kubeconfig("--kubeconfig=/flag", &[("KUBECONFIG", "/env")]).as_deref(),
        Some("/env")
    );
    assert_eq!(
        kubeconfig("--kubeconfig=/flag", &[("KUBECONFIG", "")]).as_deref(),
        Some("/flag")
    );
    assert_eq!(kubeconfig("", &[("KUBECONFIG", "/env")]).as_deref(), Some("/env"));

    let namespace = |line, env: &[(&str, &str)]| with(line, env).unwrap().election.unwrap().namespace;
    let pod = [("POD_NAMESPACE", "pod"), ("NAMESPACE", "other")];
    assert_eq!(
        namespace("--leader-election --leader-election-namespace=flag", &pod).as_deref(),
        Some("flag")
    );
    assert_eq!(
        namespace("--leader-election --leader-election-namespace=", &pod).as_deref(),
        Some("pod")
    );
    assert_eq!(namespace("--leader-election", &[]), None);

    let node = |line, env: &[(&str, &str)]| with(line, env).unwrap_err().code;
    assert_eq!(node("--node-deployment", &[]), 255);
    assert_eq!(
        node("--node-deployment --version", &[]),
        255,
        "upstream looks for the name first"
    );
    assert_eq!(node("--node-deployment --version", &[("NODE_NAME", "n")]), 0);
    assert_eq!(
        node("--node-deployment", &[("NODE_NAME", "n")]),
        1,
        "not built yet"
    );
}

#[test]
fn a_pace_is_kept_only_when_it_is_given() {
    let pace = |qps, burst| Some(Pace { qps, burst });
    for (line, expected) in [
        ("", None),
        ("--kube-api-qps=5", pace(5.0, 10)),
        ("--kube-api-burst=40", pace(5.0, 40)),
        ("--kube-api-qps=0.5 --kube-api-burst=1", pace(0.5, 1)),
        ("--kube-api-qps=1e2", pace(100.0, 10)),
        ("--kube-api-qps=0", pace(5.0, 10)),
        ("--kube-api-qps=-1", None),
        ("--kube-api-qps=-1 --kube-api-burst=0", None),
        ("--kube-api-qps=inf", None),
        ("--kube-api-qps=NaN", None),
        ("--kube-api-burst=9223372036854775807", pace(5.0, u32::MAX)),
    ] {
        assert_eq!(run(line).kube.pace, expected, "{line}");
    }
}

#[test]
fn what_cannot_be_read_ends_with_the_help_and_then_the_reason() {
    for (line, reason) in [
        ("--bogus", "'--bogus'"),
        ("--leader-elections", "'--leader-election'"),
        ("--bogus=1 --csi-address=x", "'--bogus'"),
        ("---v=1", "'---v'"),
        ("-x", "'--x'"),
        ("--csi-address", "--csi-address=<text> lacks its value"),
        ("--timeout=5", "lacks a unit"),
        ("--timeout=1d", "unknown unit"),
        ("--timeout=", "not a duration"),
        ("--leader-election=yes", "neither true nor false"),
        ("--leader-election=", "neither true nor false"),
        ("--worker-threads=-1", "zero or more"),
        ("--volume-name-uuid-length=ten", "no integer"),
        ("--kube-api-qps=fast", "invalid float"),
        ("--v=high", "no level"),
        ("--vmodule=act", "pattern"),
        ("--leader-election-labels=a=b", "key:value"),
        ("--leader-election-labels=a:b,", "key:value"),
        ("--feature-gates=Topology", "key=value"),
        ("--feature-gates=Topology=maybe", "neither true nor false"),
        ("--log-text-info-buffer-size=much", "not a number"),
        // Flags of older releases.
        ("--provisioner=x", "'--provisioner'"),
        ("--connection-timeout=1s", "'--connection-timeout'"),
        ("--enable-leader-election", "'--enable-leader-election'"),
        ("--leader-election-type=leases", "'--leader-election-type'"),
        (
            "--capacity-controller-deployment-mode=central",
            "'--capacity-controller-deployment-mode'",
        ),
        ("--logtostderr", "'--logtostderr'"),
    ] {
        let Exit { code, stdout, stderr } = end(line);
        assert_eq!((code, stdout.as_str()), (2, ""), "{line}");
        let (help, last) = stderr
            .split_once("\nerror: ")
            .unwrap_or_else(|| panic!("{line}: {stderr}"));
        assert!(
            help.contains("Usage: csi-provisioner") && help.contains("--worker-threads"),
            "{line}: {help}"
        );
        assert!(last.contains(reason), "{line}: {last}");
        assert!(
            !last.contains("Usage") && !last.contains("For more"),
            "{line}: {last}"
        );
    }
}

#[test]
fn what_makes_no_sense_or_is_not_built_ends_with_the_code_of_upstream_and_a_reason() {
    for (line, code, reason) in [
        ("--http-endpoint=:1 --metrics-address=:2", 1, "only one of"),
        ("--logging-format=xml", 1, "xml"),
        ("--logging-format=json --vmodule=a=1", 1, "--vmodule"),
        ("--log-text-split-stream", 1, "--log-text-split-stream"),
        ("--log-json-split-stream", 1, "--log-json-split-stream"),
        (
            "--log-text-info-buffer-size=1Ki",
            1,
            "--log-text-info-buffer-size",
        ),
        ("--log-json-info-buffer-size=1", 1, "--log-json-info-buffer-size"),
        ("--feature-gates=Bogus=true", 255, "known are AllAlpha"),
        ("--feature-gates=Bogus=true --version", 255, "\"Bogus\""),
        ("--kube-api-burst=0", 255, "--kube-api-burst"),
        ("--kube-api-burst=-1", 255, "--kube-api-burst"),
        ("--enable-capacity", 1, "--enable-capacity"),
        ("--enable-pprof", 1, "use perf"),
        (
            "--feature-gates=CrossNamespaceVolumeDataSource=true",
            1,
            "CrossNamespaceVolumeDataSource",
        ),
        (
            "--feature-gates=AllAlpha=true",
            1,
            "CrossNamespaceVolumeDataSource",
        ),
        ("--enable-pprof --enable-capacity", 1, "--enable-pprof"),
        ("--worker-threads=0", 1, "--worker-threads=0"),
        ("--timeout=0", 2, "--timeout"),
        ("--timeout=-1s", 2, "--timeout"),
        ("--volume-name-uuid-length=0", 2, "1 to 32"),
        ("--volume-name-uuid-length=33", 2, "33 is no length"),
        ("--volume-name-uuid-length -2", 2, "-2 is no length"),
        ("--http-endpoint=:1 --metrics-path=metrics", 2, "slash"),
        (
            "--leader-election --leader-election-retry-period=0",
            2,
            "above zero",
        ),
        (
            "--leader-election --leader-election-lease-duration=-1s",
            2,
            "above zero",
        ),
        (
            "--leader-election --leader-election-lease-duration=10s",
            2,
            "lease duration 10s",
        ),
        (
            "--leader-election --leader-election-renew-deadline=6s",
            2,
            "1.2 times the retry period 5s",
        ),
    ] {
        let exit = end(line);
        assert_eq!((exit.code, exit.stdout.as_str()), (code, ""), "{line}: {exit:?}");
        assert!(
            exit.stderr.starts_with("error: ") && exit.stderr.ends_with('\n'),
            "{line}: {exit:?}"
        );
        assert!(exit.stderr.contains(reason), "{line}: {exit:?}");
    }
    assert!(
        end("--enable-pprof --enable-capacity")
            .stderr
            .contains("--enable-capacity"),
        "all reasons at once"
    );
}

#[test]
fn what_only_acts_on_features_refused_elsewhere_is_accepted_without_effect() {
    let plain = run("");
    for line in [
        "--automaxprocs",
        "--automaxprocs=false",
        "--capacity-threads=0 --capacity-poll-interval=1s --capacity-ownerref-level=-1",
        "--capacity-for-immediate-binding --kube-api-capacity-qps=9 --kube-api-capacity-burst=9",
        "--node-deployment-base-delay=1s --node-deployment-max-delay=2s --node-deployment-immediate-binding=false",
        "--cloning-protection-threads=4 --snapshot-orphan-sweep-interval=-1s",
        "--strict-topology --immediate-topology=false --prevent-volume-mode-conversion=false",
        "--log-flush-frequency=1s --log-text-split-stream=false --log-json-info-buffer-size=0",
        "--leader-election-retry-period=0 --leader-election-labels=a:b",
        "--metrics-path=odd",
        "--enable-pprof=false --enable-capacity=F --node-deployment=0",
        "--feature-gates=AllBeta=true,AllAlpha=false",
    ] {
        assert_eq!(run(line), plain, "{line}");
    }
}

#[test]
fn settings_that_work_but_surprise_are_accepted_with_a_warning() {
    for line in [
        "--retry-interval-start=0",
        "--retry-interval-start=-1s",
        "--retry-interval-max=0",
        "--feature-gates=HonorPVReclaimPolicy=true",
        "--feature-gates=CSINodeExpandSecret=true",
        "--feature-gates=Topology=true",
    ] {
        assert_eq!(run(line).warnings.len(), 1, "{line}");
    }
    assert_eq!(
        run("--volume-name-prefix=").naming.prefix,
        "",
        "claims are refused one by one, as upstream does"
    );
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
