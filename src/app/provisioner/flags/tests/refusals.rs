use super::{end, run, with};
use crate::app::sidecar::flags::Exit;

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
        ("--vmodule=save", "pattern"),
        ("--vmodule==3", "\"=3\""),
        ("--vmodule=elect=x", "no level"),
        ("--vmodule=elect=-1", "no level"),
        ("--vmodule=a=1,b", "\"b\""),
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
fn what_makes_no_sense_ends_with_the_code_of_upstream_and_a_reason() {
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
        ("--enable-capacity", 255, "NAMESPACE"),
        ("--worker-threads=0", 1, "--worker-threads=0"),
        ("--timeout=0", 2, "--timeout"),
        ("--crash-safe=yes", 2, "one of auto, required and off"),
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
    for (env, missing) in [
        (&[][..], "NODE_NAME"),
        (&[("NODE_NAME", "n1")], "NAMESPACE"),
        (&[("NODE_NAME", "n1"), ("NAMESPACE", "ns")], "POD_NAME"),
    ] {
        let exit = with("--node-deployment --enable-capacity", env).unwrap_err();
        assert_eq!(exit.code, 255, "{exit:?}");
        assert!(exit.stderr.contains(missing), "{exit:?}");
    }
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
fn settings_that_work_or_do_nothing_are_accepted_with_a_warning() {
    for line in [
        "--retry-interval-start=0",
        "--retry-interval-start=-1s",
        "--retry-interval-max=0",
        "--feature-gates=HonorPVReclaimPolicy=true",
        "--feature-gates=CSINodeExpandSecret=true",
        "--feature-gates=Topology=true",
        // Swap the image: what upstream takes does not end us, unless ignoring it would do harm.
        "--enable-pprof",
        "--enable-pprof --http-endpoint=:8080",
        "--feature-gates=APIServerIdentity=true",
        "--feature-gates=UnknownVersionInteroperabilityProxy=false",
    ] {
        assert_eq!(run(line).warnings.len(), 1, "{line}");
    }
    assert_eq!(
        run("--volume-name-prefix=").naming.prefix,
        "",
        "claims are refused one by one, as upstream does"
    );
}
