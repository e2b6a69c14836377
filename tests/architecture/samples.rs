//! Each rule catches its breach: small sources that break one rule, and some that break none.

use crate::{
    check::breaches,
    rules::{LONGEST, Rule},
    sources::Sources,
};

/// Small sources that keep every rule; rows below add one file to them.
fn sound_sources() -> Sources {
    let files = [
        ("src/lib.rs", "//! The map.\npub mod base;\n"),
        ("src/base/names.rs", "//! Names.\npub struct Name;\n"),
        (
            "src/cluster/objects.rs",
            "//! Pure. Objects.\npub struct Claim;\n",
        ),
        ("src/cluster/api.rs", "//! Writes.\nuse kube::Api;\n"),
        ("src/csi/proto.rs", "//! Messages.\n"),
        (
            "src/csi/mod.rs",
            "//! The driver.\n#[cfg(test)]\nmod tests;\npub mod rpc;\npub use rpc::Call;\npub use self::rpc_error::{Code, RpcError};\n",
        ),
        ("src/csi/rpc.rs", "//! Calls.\n"),
        ("src/csi/rpc_error.rs", "//! Pure. Errors.\n"),
        ("src/provision/mod.rs", "//! Claims.\npub mod decide;\n"),
        (
            "src/provision/decide.rs",
            "//! Pure. Decides.\nuse crate::cluster::objects::Claim;\npub struct Facts;\n",
        ),
    ];
    files
        .into_iter()
        .map(|(file, text)| (file.to_owned(), text.to_owned()))
        .collect()
}

fn found_in(file: &str, text: &str) -> Vec<(Rule, usize)> {
    let mut sources = sound_sources();
    sources.insert(file.to_owned(), text.to_owned());
    breaches(&sources)
        .into_iter()
        .filter(|it| it.file == file)
        .map(|it| (it.rule, it.line))
        .collect()
}

// One row, one line.
#[rustfmt::skip]
const CAUGHT: &[(Rule, usize, &str, &str)] = &[
    (Rule::Placed, 1, "src/utils/mod.rs", "//! Odds and ends.\n"),
    (Rule::Placed, 1, "src/stray.rs", "//! Stray.\n"),
    (Rule::Opening, 1, "src/telemetry/tests.rs", "use std::fmt;\n"),
    (Rule::Opening, 1, "src/csi/rpc.rs", "use std::fmt;\n"),
    (Rule::Opening, 1, "src/csi/rpc.rs", "\n//! Too late.\n"),
    (Rule::Reason, 2, "src/csi/rpc.rs", "//! Calls.\n#[allow(dead_code)]\nfn f() {}\n"),
    (Rule::Reason, 2, "src/csi/rpc.rs", "//! Calls.\n#![allow(clippy::all)]\n"),
    (Rule::Reason, 2, "src/csi/rpc.rs", "//! Calls.\n#[cfg_attr(unix, allow(dead_code))]\nfn f() {}\n"),
    (Rule::Reason, 3, "src/csi/rpc.rs", "//! Calls.\nfn f() {\n#[expect(unused)] let x = 1; }\n"),
    (Rule::UniqueTypes, 2, "src/lease/mod.rs", "//! L.\npub(crate) struct Claim;\n"),
    (Rule::UniqueTypes, 2, "src/csi/rpc.rs", "//! C.\nenum Claim {}\n"),
    (Rule::UniqueTypes, 3, "src/csi/rpc.rs", "//! C.\nfn f() {\n    trait Claim {}\n}\n"),
    (Rule::UniqueTypes, 2, "src/reclaim/reconcile.rs", "//! R.\nstruct Claim;\n"),
    (Rule::UniqueTypes, 2, "src/provision/source.rs", "//! Pure. S.\nstruct Facts;\n"),
    (Rule::UniqueTypes, 2, "src/lease/mod.rs", "//! L.\nstruct Facts;\n"),
    (Rule::ControllersApart, 2, "src/reclaim/mod.rs", "//! R.\nuse crate::provision::decide;\n"),
    (Rule::ControllersApart, 3, "src/reclaim/reconcile.rs", "//! R.\nuse crate::{\n    provision::decide as d,\n};\n"),
    (Rule::ControllersApart, 3, "src/reclaim/reconcile.rs", "//! R.\nfn f() {\n    crate::capacity::poke(); }\n"),
    (Rule::ControllersApart, 2, "src/reclaim/reconcile.rs", "//! R.\nuse super::super::provision;\n"),
    (Rule::ControllersApart, 2, "src/reclaim/reconcile.rs", "//! R.\ntype T = Vec<crate::protect::Finalizer>;\n"),
    (Rule::ControllersApart, 2, "src/reclaim/reconcile.rs", "//! R.\nfn f() { println!(\"{}\", crate::protect::N); }\n"),
    (Rule::FoundationsBelow, 2, "src/cluster/reflector.rs", "//! W.\nuse crate::provision::decide;\n"),
    (Rule::FoundationsBelow, 2, "src/base/mod.rs", "//! B.\npub use crate::reclaim::Volume;\n"),
    (Rule::FoundationsApart, 2, "src/csi/rpc.rs", "//! C.\nuse crate::telemetry::metrics;\n"),
    (Rule::FoundationsApart, 2, "src/base/mod.rs", "//! B.\nuse crate::csi::proto;\n"),
    (Rule::FoundationsApart, 2, "src/telemetry/log.rs", "//! S.\nuse super::super::lease::Lease;\n"),
    (Rule::NothingImportsApp, 2, "src/telemetry/http.rs", "//! S.\nuse crate::app::flags;\n"),
    (Rule::NothingImportsApp, 2, "src/provision/reconcile.rs", "//! P.\nfn f() -> crate::app::Config { todo() }\n"),
    (Rule::BinariesOpenApp, 2, "src/bin/csi-provisioner.rs", "//! D.\nuse volwright::csi::Driver;\n"),
    (Rule::OneOwner, 2, "src/cluster/reflector.rs", "//! W.\nuse tonic::Status;\n"),
    (Rule::OneOwner, 2, "src/provision/reconcile.rs", "//! A.\nuse {std::fmt, kube::Api};\n"),
    (Rule::OneOwner, 2, "src/provision/reconcile.rs", "//! A.\nfn f(_: ::kube::Error) {}\n"),
    (Rule::OneOwner, 2, "src/app/mod.rs", "//! A.\nuse kube as k;\n"),
    (Rule::OneOwner, 2, "src/app/mod.rs", "//! A.\nextern crate axum;\n"),
    (Rule::OneOwner, 2, "src/app/mod.rs", "//! A.\n#[derive(clap::Parser)]\nstruct Flags;\n"),
    (Rule::OneOwner, 2, "src/csi/rpc.rs", "//! C.\nfn f() { prometheus::gather(); }\n"),
    (Rule::OneOwner, 2, "src/lease/mod.rs", "//! L.\nfn f() -> anyhow::Result<()> { Ok(()) }\n"),
    (Rule::OneOwner, 3, "src/csi/rpc.rs", "//! C.\n#[cfg(unix)]\nuse kube::Api;\n"),
    (Rule::ControllersStartNoTasks, 2, "src/provision/reconcile.rs", "//! A.\nfn f() { tokio::spawn(g()); }\n"),
    (Rule::ControllersStartNoTasks, 2, "src/provision/reconcile.rs", "//! A.\nfn f() { let t = std::time::Instant::now(); }\n"),
    (Rule::ControllersStartNoTasks, 2, "src/provision/reconcile.rs", "//! A.\nuse std::time::{Duration, Instant};\n"),
    (Rule::ControllersStartNoTasks, 2, "src/provision/reconcile.rs", "//! A.\nuse fastrand::Rng;\n"),
    (Rule::Pure, 2, "src/lease/elect.rs", "//! Pure. E.\nuse std::time::{Duration, Instant};\n"),
    (Rule::Pure, 2, "src/lease/elect.rs", "//! Pure. E.\nfn f(now: time::SystemTime) {}\n"),
    (Rule::Pure, 2, "src/lease/elect.rs", "//! Pure. E.\nfn f() { jiff::Timestamp::now(); }\n"),
    (Rule::Pure, 2, "src/cluster/objects.rs", "//! Pure. R.\nuse kube::Resource;\n"),
    (Rule::Pure, 2, "src/csi/codes.rs", "//! Pure. C.\nuse tonic::Code;\n"),
    (Rule::Pure, 2, "src/csi/codes.rs", "//! Pure. C.\nfn f() { tracing::info!(\"x\"); }\n"),
    (Rule::Pure, 2, "src/csi/codes.rs", "//! Pure. C.\nasync fn f() {}\n"),
    (Rule::Pure, 2, "src/csi/codes.rs", "//! Pure. C.\nfn f() { std::env::var(\"X\"); }\n"),
    (Rule::Pure, 2, "src/base/backoff.rs", "//! B.\nuse tokio::time::Duration;\n"),
    (Rule::Pure, 2, "src/app/provisioner/policy.rs", "//! Pure. P.\nuse tokio::time::Duration;\n"),
    (Rule::Pure, 2, "src/app/provisioner/policy.rs", "//! Pure. P.\nfn f() -> anyhow::Result<()> { Ok(()) }\n"),
    (Rule::PureNeighbours, 2, "src/app/provisioner/policy.rs", "//! Pure. P.\nuse crate::csi::Driver;\n"),
    (Rule::PureNeighbours, 2, "src/provision/outcome.rs", "//! Pure. A.\nuse crate::cluster::api::Write;\n"),
    (Rule::PureNeighbours, 2, "src/provision/outcome.rs", "//! Pure. A.\nuse super::Controller;\n"),
    (Rule::PureNeighbours, 2, "src/provision/outcome.rs", "//! Pure. A.\nuse crate::csi::Driver;\n"),
    (Rule::PureNeighbours, 2, "src/provision/outcome.rs", "//! Pure. A.\nuse crate::csi::Call;\n"),
    (Rule::PureByName, 1, "src/reclaim/decide.rs", "//! Decides.\n"),
    (Rule::PureByName, 1, "src/lease/elect.rs", "//! Elects.\n"),
    (Rule::PureByName, 1, "src/cluster/migration/cinder.rs", "//! Cinder.\n"),
    (Rule::PureByName, 1, "src/app/sidecar/argv.rs", "//! Command lines.\n"),
    (Rule::PureByName, 1, "src/app/sidecar/literal.rs", "//! Values.\n"),
];

#[test]
fn each_rule_catches_its_breach_and_names_the_line() {
    let long = format!("//! Long.\n{}", "\n".repeat(LONGEST));
    let tests = "#[cfg(test)]\nmod tests;\n";
    let declared = format!("//! Long.\n{tests}{}", "\n".repeat(LONGEST - 2));
    let of_length = |file, text| (Rule::Length, LONGEST + 1, file, text);
    let rows = CAUGHT.iter().copied().chain([
        of_length("src/csi/rpc.rs", &*long),
        of_length("src/csi/rpc.rs", &*declared),
        of_length("src/csi/tests.rs", &*long),
        of_length("src/csi/tests/calls.rs", &*long),
        of_length("tests/flows.rs", &*long),
        of_length("tests/sandbox/src/lib.rs", &*long),
        of_length("benches/decide.rs", &*long),
        of_length("examples/demo.rs", &*long),
    ]);
    let mut seen = Vec::new();
    for (rule, line, file, text) in rows {
        assert_eq!(found_in(file, text), [(rule, line)], "{rule:?}: {file}\n{text}");
        seen.push(rule);
    }
    for rule in Rule::ALL {
        assert!(seen.contains(&rule), "no row breaks the rule {rule:?}");
    }
}

#[test]
fn what_keeps_the_rules_passes() {
    // One row, one line.
    #[rustfmt::skip]
    let rows = [
        ("src/app/mod.rs", "//! A.\nuse crate::{provision, reclaim, csi, cluster};\nfn f() { tokio::spawn(g()); }\n"),
        ("src/app/sidecar/flags.rs", "//! F.\nuse clap::Command;\n"),
        ("src/bin/csi-provisioner.rs", "//! D.\nfn main() { volwright::app::provisioner::main() }\n"),
        ("src/provision/outcome.rs", "//! Pure. A.\nuse super::decide::Decision;\nuse crate::base::names::Name;\n"),
        ("src/provision/outcome.rs", "//! Pure. A.\nuse crate::csi::{Code, RpcError};\n"),
        ("src/app/provisioner/policy.rs", "//! Pure. P.\nuse crate::csi::{Code, RpcError};\n"),
        ("src/reclaim/decide.rs", "//! Pure. D.\nstruct Facts;\nenum Decision {}\n"),
        ("src/app/liveness/mod.rs", "//! L.\nstruct Fatal;\n"),
        ("src/app/registrar/mod.rs", "//! R.\nstruct Fatal;\n"),
        ("src/csi/rpc.rs", "//! C.\n#[cfg(test)]\nmod tests {\n    struct Claim;\n}\n"),
        ("src/csi/rpc.rs", "//! C.\nimpl Claim for Box<dyn Claim> {}\n"),
        ("src/csi/tests.rs", "struct Claim;\n"),
        ("tests/flows.rs", "use kube::Api;\nstruct Claim;\n"),
        ("src/csi/tests.rs", "use kube::Api;\n"),
        ("src/csi/tests/driver.rs", "use kube::Api;\n"),
        ("src/provision/reconcile.rs", "//! A.\nuse tokio::time::Instant;\nfn f() { Instant::now(); }\n"),
        ("src/telemetry/klog.rs", "//! Pure. K.\npub(super) struct Klog;\npub(crate) struct Other;\n"),
        ("src/provision/request.rs", "//! Pure. R.\nuse crate::csi::proto::CreateVolumeRequest;\n"),
        ("src/provision/reconcile.rs", "//! A. See `crate::reclaim`.\n/// Like [`crate::reclaim::act`].\nfn f() {}\n"),
        ("src/provision/reconcile.rs", "//! A.\nconst S: &str = \"crate::reclaim\";\n// kube::Api\n"),
        ("src/csi/rpc.rs", "//! C.\n#[allow(dead_code, reason = \"later\")]\nfn f() { tonic::g() }\n"),
        ("src/app/liveness/mod.rs", "//! L.\nstruct Fatal;\n"),
        ("src/app/registrar/mod.rs", "//! R.\nstruct Fatal;\n"),
        ("src/csi/rpc.rs", "//! C.\n#[cfg(test)]\nmod tests {\n    #![allow(unused)]\n    use kube::Api;\n}\n"),
        ("src/app/liveness/mod.rs", "//! L.\nstruct Fatal;\n"),
        ("src/app/registrar/mod.rs", "//! R.\nstruct Fatal;\n"),
        ("src/csi/rpc.rs", "//! C.\n#[cfg(test)]\nuse crate::telemetry::log;\nfn f(kube: u8) -> u8 { kube }\n"),
        ("src/lease/elect.rs", "//! Pure. E.\nuse std::time::Duration;\nfn f<'a>() -> impl Sized + use<'a> {}\n"),
    ];
    for (file, text) in rows {
        assert_eq!(found_in(file, text), [], "{file}\n{text}");
    }
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(LONGEST));
    assert_eq!(found_in("src/csi/rpc.rs", &format!("//! C.\n{tests}")), []);
    assert_eq!(breaches(&sound_sources()), []);
}
