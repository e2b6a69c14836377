use std::{num::NonZeroUsize, time::Duration};

use super::{run, with};
use crate::{
    app::{
        provisioner::{
            config::{CapacitySettings, Config, Naming, ProtectionSettings, VolumeSettings, WorkSettings},
            gates::Gates,
        },
        sidecar::{
            driver::DriverSettings, election::ElectionSettings, http::HttpSettings, kubernetes::KubeSettings,
        },
    },
    base::{backoff::Backoff, names::UidLength},
    cluster::{proxy::ProxyEnvironment, rate_limiter::RateLimit},
    lease::Timing,
    ledger::CrashSafe,
    provision::policy::NodePolicy,
    telemetry::log::{Format, LogSettings, Vmodule},
};

#[test]
fn without_flags_it_behaves_as_upstream_without_flags() {
    let seconds = Duration::from_secs;
    assert_eq!(
        run(""),
        Config {
            driver: DriverSettings {
                address: "/run/csi/socket".into(),
                timeout: seconds(10)
            },
            kube: KubeSettings {
                kubeconfig: None,
                master: None,
                proxy: ProxyEnvironment::default(),
                rate_limit: None
            },
            election: None,
            lease_namespace: None,
            crash_safe: CrashSafe::Auto,
            naming: Naming {
                prefix: "pvc".into(),
                uid: UidLength::Whole
            },
            volumes: VolumeSettings {
                default_fstype: "".into(),
                extra_metadata: false,
                readonly: false,
                prevent_mode_conversion: true,
                strict_topology: false,
                immediate_topology: true,
            },
            node: None,
            work: WorkSettings {
                at_once: NonZeroUsize::new(100).unwrap(),
                backoff: Backoff {
                    start: seconds(1),
                    max: seconds(300)
                },
            },
            protection: ProtectionSettings {
                at_once: NonZeroUsize::new(1).unwrap(),
                sweep_interval: Some(seconds(300))
            },
            capacity: None,
            http: None,
            logging: LogSettings {
                format: Format::Text,
                verbosity: 0,
                vmodule: Vmodule::default()
            },
            gates: Gates {
                topology: true,
                attributes_class: None,
                cross_namespace: false,
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
        --prevent-volume-mode-conversion=false \
        --strict-topology --immediate-topology=false --worker-threads=0x10 --retry-interval-start=5ms --retry-interval-max=1h --http-endpoint=:8080 \
        --cloning-protection-threads=4 --snapshot-orphan-sweep-interval=-1s \
        --metrics-path=/m --logging-format=text -v5 --vmodule=save=4, --vmodule=decide*=9 --leader-election \
        --leader-election-namespace=ns --crash-safe=required --leader-election-labels=a:b,c:d --leader-election-labels=c:e \
        --leader-election-lease-duration=20s --leader-election-renew-deadline=15s \
        --leader-election-retry-period=2s --feature-gates=Topology=false,VolumeAttributesClass=false \
        --feature-gates=ReleaseLeaderElectionOnExit=false",
    );
    let seconds = Duration::from_secs;
    assert_eq!(
        config,
        Config {
            driver: DriverSettings {
                address: "/a".into(),
                timeout: seconds(90)
            },
            kube: KubeSettings {
                kubeconfig: Some("/k".into()),
                master: Some("http://m".into()),
                proxy: ProxyEnvironment::default(),
                rate_limit: None
            },
            election: Some(ElectionSettings {
                labels: [("a".into(), "b".into()), ("c".into(), "e".into())].into(),
                timing: Timing::new(seconds(20), seconds(15), seconds(2)).unwrap(),
                release: false,
            }),
            lease_namespace: Some("ns".into()),
            crash_safe: CrashSafe::Required,
            naming: Naming {
                prefix: "vol".into(),
                uid: UidLength::Digits(10)
            },
            volumes: VolumeSettings {
                default_fstype: "xfs".into(),
                extra_metadata: true,
                readonly: true,
                prevent_mode_conversion: false,
                strict_topology: true,
                immediate_topology: false,
            },
            node: None,
            work: WorkSettings {
                at_once: NonZeroUsize::new(16).unwrap(),
                backoff: Backoff {
                    start: Duration::from_millis(5),
                    max: seconds(3600)
                },
            },
            protection: ProtectionSettings {
                at_once: NonZeroUsize::new(4).unwrap(),
                sweep_interval: None
            },
            capacity: None,
            http: Some(HttpSettings {
                address: ":8080".into(),
                metrics_path: "/m".into(),
                leader_health: true
            }),
            logging: LogSettings {
                format: Format::Text,
                verbosity: 5,
                vmodule: [("save".to_owned(), 4), ("decide*".to_owned(), 9)]
                    .into_iter()
                    .collect(),
            },
            gates: Gates {
                topology: false,
                attributes_class: Some(false),
                cross_namespace: false,
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
    let http = HttpSettings {
        address: ":9".into(),
        metrics_path: "/metrics".into(),
        leader_health: false,
    };
    assert_eq!((older.http, older.logging.format), (Some(http), Format::Json));
}

#[test]
fn capacity_has_settings_of_its_own_and_none_unless_it_is_enabled() {
    const ENV: &[(&str, &str)] = &[("NAMESPACE", "ns"), ("POD_NAME", "pod")];
    let capacity = |line: &str| {
        with(&format!("--enable-capacity {line}"), ENV)
            .unwrap()
            .capacity
            .unwrap()
    };
    let usual = CapacitySettings {
        namespace: "ns".into(),
        owner: Some(("pod".into(), 1)),
        immediate: false,
        poll_interval: Duration::from_secs(60),
        at_once: NonZeroUsize::MIN,
        rate_limit: None,
    };
    assert_eq!(capacity(""), usual);
    assert_eq!(
        capacity(
            "--capacity-ownerref-level=9 --capacity-for-immediate-binding --capacity-poll-interval=1s \
             --capacity-threads=4 --kube-api-capacity-qps=2.5 --kube-api-capacity-burst=3"
        ),
        CapacitySettings {
            owner: Some(("pod".into(), 9)),
            immediate: true,
            poll_interval: Duration::from_secs(1),
            at_once: NonZeroUsize::new(4).unwrap(),
            rate_limit: Some(RateLimit { qps: 2.5, burst: 3 }),
            ..usual.clone()
        }
    );
    // Upstream's defaults hold for what is not given, as soon as one of the two is.
    let limit = capacity("--kube-api-capacity-burst=9").rate_limit;
    assert_eq!(limit, Some(RateLimit { qps: 1.0, burst: 9 }));
    let volumes = with("--enable-capacity --kube-api-qps=7", ENV).unwrap();
    assert_eq!(volumes.capacity.unwrap().rate_limit, None, "a pace of its own");

    let nobody = |env| {
        with("--enable-capacity --capacity-ownerref-level=-1", env)
            .unwrap()
            .capacity
            .unwrap()
            .owner
    };
    assert_eq!(nobody(&[("NAMESPACE", "ns")]), None);
    let error = |line: &str, env: &[(&str, &str)]| {
        let exit = with(&format!("--enable-capacity {line}"), env).unwrap_err();
        (exit.code, exit.stderr)
    };
    for (line, env, code, words) in [
        ("", &[][..], 255, "NAMESPACE"),
        ("", &[("NAMESPACE", ""), ("POD_NAME", "pod")], 255, "NAMESPACE"),
        ("", &[("NAMESPACE", "ns")], 255, "POD_NAME"),
        (
            "--capacity-ownerref-level=0",
            &[("NAMESPACE", "ns")],
            255,
            "POD_NAME",
        ),
        ("--capacity-threads=0", ENV, 1, "--capacity-threads=0"),
        ("--capacity-poll-interval=0", ENV, 2, "--capacity-poll-interval"),
        ("--capacity-poll-interval=-1s", ENV, 2, "--capacity-poll-interval"),
        (
            "--kube-api-capacity-burst=0",
            ENV,
            255,
            "--kube-api-capacity-burst",
        ),
    ] {
        let (is, text) = error(line, env);
        assert_eq!(is, code, "{line}: {text}");
        assert!(text.contains(words), "{line}: {text}");
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

    let namespace = |line, env: &[(&str, &str)]| with(line, env).unwrap().lease_namespace;
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
    let served = |line| with(line, &[("NODE_NAME", "n")]).unwrap();
    let seconds = Duration::from_secs;
    let by_default = NodePolicy {
        name: "n".into(),
        immediate_binding: true,
        base_delay: seconds(20),
        max_delay: seconds(60),
    };
    assert_eq!(served("").node, None);
    assert_eq!(served("--node-deployment").node, Some(by_default));
    let odd = served(
        "--node-deployment --node-deployment-immediate-binding=false --node-deployment-base-delay=2m \
        --node-deployment-max-delay=-1s --leader-election",
    );
    let expected = NodePolicy {
        name: "n".into(),
        immediate_binding: false,
        base_delay: seconds(120),
        max_delay: seconds(0),
    };
    assert_eq!(odd.node, Some(expected));
    assert!(
        odd.warnings.iter().any(|it| it.contains("share one Lease")),
        "{:?}",
        odd.warnings
    );
    assert!(
        odd.warnings.iter().any(|it| it.contains("is above")),
        "{:?}",
        odd.warnings
    );
}

#[test]
fn a_rate_limit_is_kept_only_when_it_is_given() {
    let limit = |qps, burst| Some(RateLimit { qps, burst });
    for (line, expected) in [
        ("", None),
        ("--kube-api-qps=5", limit(5.0, 10)),
        ("--kube-api-burst=40", limit(5.0, 40)),
        ("--kube-api-qps=0.5 --kube-api-burst=1", limit(0.5, 1)),
        ("--kube-api-qps=1e2", limit(100.0, 10)),
        ("--kube-api-qps=0", limit(5.0, 10)),
        ("--kube-api-qps=-1", None),
        ("--kube-api-qps=-1 --kube-api-burst=0", None),
        ("--kube-api-qps=inf", None),
        ("--kube-api-qps=NaN", None),
        ("--kube-api-burst=9223372036854775807", limit(5.0, u32::MAX)),
    ] {
        assert_eq!(run(line).kube.rate_limit, expected, "{line}");
    }
}
