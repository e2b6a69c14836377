//! Who may import whom, read from the source itself. A breach fails with the
//! file, the line and the rule; ARCHITECTURE.md gives the reasons.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::{collections::BTreeMap, fmt, fs, path::Path};

#[path = "architecture/tokens.rs"]
mod tokens;

use tokens::{Found, Name};

const ROOMS: [&str; 4] = ["provision", "reclaim", "protect", "capacity"];
const FOUNDATIONS: [&str; 6] = ["csi", "cluster", "lease", "ledger", "telemetry", "base"];

/// Outside crates that only some places may name.
const OWNERS: [(&[&str], &[&str]); 7] = [
    (&["tonic", "tonic_prost"], &["src/csi/"]),
    (
        &["kube", "kube_client", "kube_core", "kube_runtime"],
        &["src/cluster/"],
    ),
    (&["hyper_rustls", "rustls"], &["src/cluster/"]),
    (&["axum", "prometheus", "tracing_subscriber"], &["src/telemetry/"]),
    (&["clap"], &["flags.rs", "/flags/"]),
    // A room or a foundation has an error type of its own.
    (&["anyhow"], &["src/app/", "src/bin/"]),
    (&["prost_build", "protox", "tonic_prost_build"], &[]),
];

/// Files that have no reason to be anything but pure.
#[rustfmt::skip]
const MUST_BE_PURE: [&str; 12] = [
    "decide", "source", "topology", "secrets", "request", "outcome", "volume", "settle", "segments",
    "diff", "objects", "elect",
];

#[rustfmt::skip]
const IMPURE_CRATES: [&str; 17] = [
    "anyhow", "axum", "clap", "fastrand", "futures", "hyper", "hyper_rustls", "hyper_util", "kube",
    "kube_runtime", "prometheus", "rand", "tokio", "tokio_util", "tonic", "tower", "tracing",
];
const IMPURE_STD: [&str; 6] = ["env", "fs", "io", "net", "process", "thread"];
/// Banned wherever they stand, since `use std::time` would hide their origin.
#[rustfmt::skip]
const IMPURE_WORDS: [&str; 7] = [
    "Instant", "SystemTime", "async", "println", "eprintln", "dbg", "RandomState",
];

/// Source lines of a file, tests not counted.
const LONGEST: usize = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    Placed,
    Opening,
    Length,
    Reason,
    RoomsApart,
    FoundationsBelow,
    FoundationsApart,
    NothingImportsApp,
    DoorsOpenApp,
    OneOwner,
    StillRooms,
    Pure,
    PureNeighbours,
    PureByName,
}

impl Rule {
    #[rustfmt::skip]
    const ALL: [Self; 14] = [
        Self::Placed, Self::Opening, Self::Length, Self::Reason, Self::RoomsApart,
        Self::FoundationsBelow, Self::FoundationsApart, Self::NothingImportsApp, Self::DoorsOpenApp,
        Self::OneOwner, Self::StillRooms, Self::Pure, Self::PureNeighbours, Self::PureByName,
    ];
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Placed => "every file is in bin/, app/, a room or a foundation",
            Self::Opening => "every file starts with `//!`: what it is for",
            Self::Length => "a file above 400 lines without its tests is two files",
            Self::Reason => "no lint is silenced without `reason = \"…\"`",
            Self::RoomsApart => "rooms never import each other; app/ wires them",
            Self::FoundationsBelow => "foundations never import rooms",
            Self::FoundationsApart => {
                "foundations import base; lease and ledger stand on cluster besides; no other"
            }
            Self::NothingImportsApp => "nothing imports app/",
            Self::DoorsOpenApp => "a door in bin/ opens app/ and nothing else",
            Self::OneOwner => "one owner per outside crate",
            Self::StillRooms => "rooms start no tasks, read no clock but tokio's and throw no dice",
            Self::Pure => "a pure file has no clock, no dice, no task, no network, no log",
            Self::PureNeighbours => "a pure file imports only pure files, base and csi::proto",
            Self::PureByName => "a file with this name is pure and says so: `//! Pure.`",
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Breach {
    rule: Rule,
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.what)
    }
}

/// Source files by path (`src/provision/decide.rs`).
type House = BTreeMap<String, String>;

#[test]
fn the_house_keeps_its_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut house = House::new();
    read(root, &root.join("src"), &mut house);
    assert!(house.len() > 5, "src/ was not found");
    let breaches: Vec<_> = house.keys().flat_map(|file| inspect(&house, file)).collect();
    let said: Vec<_> = breaches.iter().map(ToString::to_string).collect();
    assert!(said.is_empty(), "\n{}\n", said.join("\n"));
}

fn read(root: &Path, folder: &Path, house: &mut House) {
    for entry in fs::read_dir(folder).expect("a folder of src") {
        let path = entry.expect("an entry of src").path();
        if path.is_dir() {
            read(root, &path, house);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let name = path
                .strip_prefix(root)
                .expect("below the root")
                .to_string_lossy()
                .into_owned();
            house.insert(name, fs::read_to_string(&path).expect("a readable file"));
        }
    }
}

// === one file ===

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    Root,
    Bin,
    App,
    Room(&'a str),
    Foundation(&'a str),
}

fn place(module: &str) -> Option<Place<'_>> {
    match module {
        "lib.rs" => Some(Place::Root),
        "bin" => Some(Place::Bin),
        "app" => Some(Place::App),
        _ if ROOMS.contains(&module) => Some(Place::Room(module)),
        _ if FOUNDATIONS.contains(&module) => Some(Place::Foundation(module)),
        _ => None,
    }
}

fn inspect(house: &House, file: &str) -> Vec<Breach> {
    let text = &house[file];
    let mut breaches = Vec::new();
    let mut breach = |rule, line, what: String| {
        breaches.push(Breach {
            rule,
            file: file.to_owned(),
            line,
            what,
        });
    };

    let inner = file.strip_prefix("src/").unwrap_or(file);
    let first = inner.split('/').next().unwrap_or(inner);
    let Some(here) = place(first) else {
        breach(Rule::Placed, 1, format!("`{first}` is none of them"));
        return breaches;
    };
    if is_test(house, file) {
        return breaches;
    }
    if !text.starts_with("//!") {
        breach(Rule::Opening, 1, "the first line is something else".to_owned());
    }
    let tests = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    let length = text[..tests].lines().count();
    if length > LONGEST {
        breach(Rule::Length, LONGEST + 1, format!("{length} lines"));
    }
    let pure = is_pure(house, file);
    let stem = Path::new(file)
        .file_stem()
        .map(|it| it.to_string_lossy())
        .unwrap_or_default();
    let counted = matches!(here, Place::Room(_)) || ["cluster/objects.rs", "lease/elect.rs"].contains(&inner);
    if counted && MUST_BE_PURE.contains(&&*stem) && !pure {
        breach(Rule::PureByName, 1, format!("`{stem}.rs`"));
    }

    let found = Found::read(text);
    for line in found.silenced {
        breach(Rule::Reason, line, "an `allow` or `expect` attribute".to_owned());
    }
    for name in &found.names {
        let said = name.path.join("::");
        let outside = name.path[0].as_str();
        let named = name.imported || name.path.len() > 1;
        let owner = OWNERS
            .iter()
            .find(|(crates, _)| named && crates.contains(&outside));
        if let Some((_, owners)) = owner
            && !owners.iter().any(|it| file.contains(it))
        {
            breach(
                Rule::OneOwner,
                name.line,
                format!("`{said}` belongs to {}", owners.join(", ")),
            );
        }
        if matches!(here, Place::Room(_)) && restless(&name.path) {
            breach(Rule::StillRooms, name.line, format!("`{said}`"));
        }
        if pure && impure(name) {
            breach(Rule::Pure, name.line, format!("`{said}`"));
        }
        // A lone `super` or `crate` is the `pub(super)` of an item.
        let Some(target) = inside(inner, &name.path).filter(|_| named) else {
            continue;
        };
        let Some(there) = target.first().and_then(|it| place(it)) else {
            continue;
        };
        if let Some(rule) = forbidden(here, there) {
            breach(rule, name.line, format!("`{said}`"));
        } else if pure && !is_pure_module(house, &target) {
            breach(Rule::PureNeighbours, name.line, format!("`{said}`"));
        }
    }
    breaches
}

/// The rule that stands between two places, if one does.
fn forbidden(here: Place<'_>, there: Place<'_>) -> Option<Rule> {
    match (here, there) {
        (Place::Root, _) => None,
        (Place::Bin, Place::App) | (Place::App, _) => None,
        (Place::Bin, _) => Some(Rule::DoorsOpenApp),
        (_, Place::App | Place::Bin) => Some(Rule::NothingImportsApp),
        (Place::Room(a), Place::Room(b)) if a != b => Some(Rule::RoomsApart),
        (Place::Foundation(_), Place::Room(_)) => Some(Rule::FoundationsBelow),
        // The lease is a Lease object, and the ledger's records are worked through like any other object.
        (Place::Foundation("lease" | "ledger"), Place::Foundation("cluster")) => None,
        (Place::Foundation(a), Place::Foundation(b)) if a != b && b != "base" => Some(Rule::FoundationsApart),
        _ => None,
    }
}

/// tokio's clock may be read where things are done: virtual time moves it.
fn restless(path: &[String]) -> bool {
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    matches!(
        path[..],
        ["fastrand" | "rand", ..]
            | ["std", "time", "Instant" | "SystemTime", ..]
            | ["std" | "core", "time", "*"]
            | [.., "SystemTime" | "Timestamp" | "Zoned", "now"]
            | [.., "tokio" | "task" | "thread", "spawn" | "sleep"]
    )
}

fn impure(name: &Name) -> bool {
    let path: Vec<_> = name.path.iter().map(String::as_str).collect();
    let named = name.imported || path.len() > 1;
    named && IMPURE_CRATES.contains(&path[0])
        || matches!(path[..], ["std", module, ..] if IMPURE_STD.contains(&module))
        || path.iter().any(|it| IMPURE_WORDS.contains(it))
        || restless(&name.path)
}

/// A file that its module, or one further up, compiles for tests only.
fn is_test(house: &House, file: &str) -> bool {
    let module = file.strip_suffix(".rs").unwrap_or(file);
    let module = module.strip_suffix("/mod").unwrap_or(module);
    let Some((parent, stem)) = module.rsplit_once('/') else {
        return false;
    };
    let declared = format!("#[cfg(test)]\nmod {stem};");
    let mut above = [format!("{parent}/mod.rs"), format!("{parent}.rs")].into_iter();
    above.any(|it| house.get(&it).is_some_and(|text| text.contains(&declared))) || is_test(house, parent)
}

/// Base is pure as a whole; elsewhere the first line decides.
fn is_pure(house: &House, file: &str) -> bool {
    file.starts_with("src/base/") || house[file].starts_with("//! Pure.")
}

/// Whether the file that a path leads to is pure, behind a `pub use` as well.
/// Generated messages are data.
fn is_pure_module(house: &House, path: &[String]) -> bool {
    if matches!(path, [csi, proto, ..] if csi == "csi" && proto == "proto") {
        return true;
    }
    let found = (1..=path.len()).rev().find_map(|depth| {
        let stem = format!("src/{}", path[..depth].join("/"));
        let files = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
        Some((files.into_iter().find(|it| house.contains_key(it))?, depth))
    });
    let Some((file, depth)) = found else { return false };
    if is_pure(house, &file) {
        return true;
    }
    let Some(item) = path.get(depth) else { return false };
    let names = Found::read(&house[&file]).names;
    names.iter().any(|name| {
        let shown = name.imported && name.path.len() > 1 && name.path.last() == Some(item);
        let beside = || [&path[..depth], &name.path[..]].concat();
        let inner = file.strip_prefix("src/").unwrap_or(&file);
        shown && is_pure_module(house, &inside(inner, &name.path).unwrap_or_else(beside))
    })
}

/// A path of ours from the crate's root on; none for one that leads outside.
fn inside(file: &str, path: &[String]) -> Option<Vec<String>> {
    let mut base: Vec<String> = Vec::new();
    let mut rest = path;
    match path[0].as_str() {
        "crate" | "volwright" => rest = &path[1..],
        "self" | "super" => {
            let module = file.strip_suffix(".rs").unwrap_or(file);
            let module = module.strip_suffix("/mod").unwrap_or(module);
            base.extend(module.split('/').map(str::to_owned));
            while let Some((head, tail)) = rest.split_first() {
                match head.as_str() {
                    "self" => {}
                    "super" => drop(base.pop()),
                    _ => break,
                }
                rest = tail;
            }
        }
        _ => return None,
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

// === the rules bite ===

/// A small house that keeps every rule; rows below add one file to it.
fn sound_house() -> House {
    let files = [
        ("src/lib.rs", "//! The map.\npub mod base;\n"),
        ("src/base/names.rs", "//! Names.\npub struct Name;\n"),
        ("src/cluster/objects.rs", "//! Pure. Rows.\npub struct Claim;\n"),
        ("src/cluster/api.rs", "//! Writes.\nuse kube::Api;\n"),
        ("src/csi/proto.rs", "//! Messages.\n"),
        (
            "src/csi/mod.rs",
            "//! The driver.\n#[cfg(test)]\nmod tests;\npub mod call;\npub use call::Call;\npub use self::fault::{Code, RpcError};\n",
        ),
        ("src/csi/rpc.rs", "//! Calls.\n"),
        ("src/csi/fault.rs", "//! Pure. Faults.\n"),
        ("src/provision/mod.rs", "//! Claims.\npub mod decide;\n"),
        (
            "src/provision/decide.rs",
            "//! Pure. Decides.\nuse crate::cluster::objects::Claim;\n",
        ),
    ];
    files
        .into_iter()
        .map(|(file, text)| (file.to_owned(), text.to_owned()))
        .collect()
}

fn found_in(file: &str, text: &str) -> Vec<(Rule, usize)> {
    let mut house = sound_house();
    house.insert(file.to_owned(), text.to_owned());
    inspect(&house, file)
        .into_iter()
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
    (Rule::RoomsApart, 2, "src/reclaim/mod.rs", "//! R.\nuse crate::provision::decide;\n"),
    (Rule::RoomsApart, 3, "src/reclaim/reconcile.rs", "//! R.\nuse crate::{\n    provision::decide as d,\n};\n"),
    (Rule::RoomsApart, 3, "src/reclaim/reconcile.rs", "//! R.\nfn f() {\n    crate::capacity::poke(); }\n"),
    (Rule::RoomsApart, 2, "src/reclaim/reconcile.rs", "//! R.\nuse super::super::provision;\n"),
    (Rule::RoomsApart, 2, "src/reclaim/reconcile.rs", "//! R.\ntype T = Vec<crate::protect::Row>;\n"),
    (Rule::RoomsApart, 2, "src/reclaim/reconcile.rs", "//! R.\nfn f() { println!(\"{}\", crate::protect::N); }\n"),
    (Rule::FoundationsBelow, 2, "src/cluster/reflector.rs", "//! W.\nuse crate::provision::decide;\n"),
    (Rule::FoundationsBelow, 2, "src/base/mod.rs", "//! B.\npub use crate::reclaim::Row;\n"),
    (Rule::FoundationsApart, 2, "src/csi/rpc.rs", "//! C.\nuse crate::telemetry::metrics;\n"),
    (Rule::FoundationsApart, 2, "src/base/mod.rs", "//! B.\nuse crate::csi::proto;\n"),
    (Rule::FoundationsApart, 2, "src/telemetry/log.rs", "//! S.\nuse super::super::lease::Lease;\n"),
    (Rule::FoundationsApart, 2, "src/cluster/leases.rs", "//! L.\nuse crate::lease::Term;\n"),
    (Rule::FoundationsApart, 2, "src/lease/mod.rs", "//! L.\nuse crate::ledger::Ledger;\n"),
    (Rule::FoundationsApart, 2, "src/csi/rpc.rs", "//! C.\nuse crate::cluster::api;\n"),
    (Rule::NothingImportsApp, 2, "src/telemetry/http.rs", "//! S.\nuse crate::app::flags;\n"),
    (Rule::NothingImportsApp, 2, "src/provision/reconcile.rs", "//! P.\nfn f() -> crate::app::Config { todo() }\n"),
    (Rule::DoorsOpenApp, 2, "src/bin/csi-provisioner.rs", "//! D.\nuse volwright::csi::Driver;\n"),
    (Rule::OneOwner, 2, "src/cluster/reflector.rs", "//! W.\nuse tonic::Status;\n"),
    (Rule::OneOwner, 2, "src/provision/reconcile.rs", "//! A.\nuse {std::fmt, kube::Api};\n"),
    (Rule::OneOwner, 2, "src/provision/reconcile.rs", "//! A.\nfn f(_: ::kube::Error) {}\n"),
    (Rule::OneOwner, 2, "src/app/mod.rs", "//! A.\nuse kube as k;\n"),
    (Rule::OneOwner, 2, "src/app/mod.rs", "//! A.\nextern crate axum;\n"),
    (Rule::OneOwner, 2, "src/app/mod.rs", "//! A.\n#[derive(clap::Parser)]\nstruct Flags;\n"),
    (Rule::OneOwner, 2, "src/csi/rpc.rs", "//! C.\nfn f() { prometheus::gather(); }\n"),
    (Rule::OneOwner, 2, "src/lease/mod.rs", "//! L.\nfn f() -> anyhow::Result<()> { Ok(()) }\n"),
    (Rule::OneOwner, 2, "src/lease/mod.rs", "//! L.\nuse kube::Client;\n"),
    (Rule::OneOwner, 2, "src/ledger/mod.rs", "//! L.\nfn f(_: kube::Error) {}\n"),
    (Rule::OneOwner, 3, "src/csi/rpc.rs", "//! C.\n#[cfg(unix)]\nuse kube::Api;\n"),
    (Rule::StillRooms, 2, "src/provision/reconcile.rs", "//! A.\nfn f() { tokio::spawn(g()); }\n"),
    (Rule::StillRooms, 2, "src/provision/reconcile.rs", "//! A.\nfn f() { let t = std::time::Instant::now(); }\n"),
    (Rule::StillRooms, 2, "src/provision/reconcile.rs", "//! A.\nuse std::time::{Duration, Instant};\n"),
    (Rule::StillRooms, 2, "src/provision/reconcile.rs", "//! A.\nuse fastrand::Rng;\n"),
    (Rule::Pure, 2, "src/lease/elect.rs", "//! Pure. E.\nuse std::time::{Duration, Instant};\n"),
    (Rule::Pure, 2, "src/lease/elect.rs", "//! Pure. E.\nfn f(now: time::SystemTime) {}\n"),
    (Rule::Pure, 2, "src/lease/elect.rs", "//! Pure. E.\nfn f() { jiff::Timestamp::now(); }\n"),
    (Rule::Pure, 2, "src/cluster/objects.rs", "//! Pure. R.\nuse kube::Resource;\n"),
    (Rule::Pure, 2, "src/csi/codes.rs", "//! Pure. C.\nuse tonic::Code;\n"),
    (Rule::Pure, 2, "src/csi/codes.rs", "//! Pure. C.\nfn f() { tracing::info!(\"x\"); }\n"),
    (Rule::Pure, 2, "src/csi/codes.rs", "//! Pure. C.\nasync fn f() {}\n"),
    (Rule::Pure, 2, "src/csi/codes.rs", "//! Pure. C.\nfn f() { std::env::var(\"X\"); }\n"),
    (Rule::Pure, 2, "src/base/backoff.rs", "//! B.\nuse tokio::time::Duration;\n"),
    (Rule::PureNeighbours, 2, "src/provision/outcome.rs", "//! Pure. A.\nuse crate::cluster::api::Write;\n"),
    (Rule::PureNeighbours, 2, "src/provision/outcome.rs", "//! Pure. A.\nuse super::Room;\n"),
    (Rule::PureNeighbours, 2, "src/provision/outcome.rs", "//! Pure. A.\nuse crate::csi::Driver;\n"),
    (Rule::PureNeighbours, 2, "src/provision/outcome.rs", "//! Pure. A.\nuse crate::csi::Call;\n"),
    (Rule::PureByName, 1, "src/reclaim/decide.rs", "//! Decides.\n"),
    (Rule::PureByName, 1, "src/lease/elect.rs", "//! Elects.\n"),
];

#[test]
fn each_rule_catches_its_breach_and_names_the_line() {
    let long = format!("//! Long.\n{}", "\n".repeat(LONGEST));
    let rows = CAUGHT
        .iter()
        .copied()
        .chain([(Rule::Length, LONGEST + 1, "src/csi/rpc.rs", long.as_str())]);
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
        ("src/app/flags.rs", "//! F.\nuse clap::Command;\n"),
        ("src/lease/mod.rs", "//! L.\nuse crate::{base::names, cluster::leases::Leases};\n"),
        ("src/ledger/mod.rs", "//! L.\nuse crate::cluster::leases::Leases;\n"),
        ("src/bin/csi-provisioner.rs", "//! D.\nfn main() { volwright::app::provisioner::main() }\n"),
        ("src/provision/outcome.rs", "//! Pure. A.\nuse super::decide::Decision;\nuse crate::base::names::Name;\n"),
        ("src/provision/outcome.rs", "//! Pure. A.\nuse crate::csi::{Code, RpcError};\n"),
        ("src/csi/tests.rs", "use kube::Api;\n"),
        ("src/csi/tests/driver.rs", "use kube::Api;\n"),
        ("src/provision/reconcile.rs", "//! A.\nuse tokio::time::Instant;\nfn f() { Instant::now(); }\n"),
        ("src/telemetry/line.rs", "//! Pure. L.\npub(super) struct Line;\npub(crate) struct Other;\n"),
        ("src/provision/request.rs", "//! Pure. R.\nuse crate::csi::proto::CreateVolumeRequest;\n"),
        ("src/provision/reconcile.rs", "//! A. See `crate::reclaim`.\n/// Like [`crate::reclaim::act`].\nfn f() {}\n"),
        ("src/provision/reconcile.rs", "//! A.\nconst S: &str = \"crate::reclaim\";\n// kube::Api\n"),
        ("src/csi/rpc.rs", "//! C.\n#[allow(dead_code, reason = \"later\")]\nfn f() { tonic::g() }\n"),
        ("src/csi/rpc.rs", "//! C.\n#[cfg(test)]\nmod tests {\n    #![allow(unused)]\n    use kube::Api;\n}\n"),
        ("src/csi/rpc.rs", "//! C.\n#[cfg(test)]\nuse crate::telemetry::log;\nfn f(kube: u8) -> u8 { kube }\n"),
        ("src/lease/elect.rs", "//! Pure. E.\nuse std::time::Duration;\nfn f<'a>() -> impl Sized + use<'a> {}\n"),
    ];
    for (file, text) in rows {
        assert_eq!(found_in(file, text), [], "{file}\n{text}");
    }
    let house = sound_house();
    assert!(house.keys().all(|file| inspect(&house, file).is_empty()));
}
