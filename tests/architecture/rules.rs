//! The rules: which places there are, what each may name, and the text of each breach.

use std::fmt;

use crate::tokens::Name;

pub(crate) const CONTROLLERS: [&str; 6] =
    ["provision", "reclaim", "protect", "capacity", "register", "probe"];
pub(crate) const FOUNDATIONS: [&str; 7] = [
    "csi",
    "kubelet",
    "cluster",
    "lease",
    "ledger",
    "telemetry",
    "base",
];

/// Outside crates that only some places may name.
pub(crate) const OWNERS: [(&[&str], &[&str]); 8] = [
    (&["tonic", "tonic_prost"], &["src/csi/", "src/kubelet/"]),
    (
        &["kube", "kube_client", "kube_core", "kube_runtime"],
        &["src/cluster/"],
    ),
    (&["hyper_rustls", "rustls"], &["src/cluster/"]),
    (&["axum", "prometheus", "tracing_subscriber"], &["src/telemetry/"]),
    // Servers: of pages, and of the kubelet.
    (&["hyper"], &["src/telemetry/", "src/kubelet/"]),
    (&["clap"], &["flags.rs", "/flags/"]),
    // A controller or a foundation has an error type of its own.
    (&["anyhow"], &["src/app/", "src/bin/"]),
    (&["prost_build", "protox", "tonic_prost_build"], &[]),
];

/// Files that have no reason to be anything but pure.
#[rustfmt::skip]
pub(crate) const MUST_BE_PURE: [&str; 18] = [
    "decide", "source", "topology", "secrets", "request", "outcome", "volume", "settle", "segments",
    "diff", "objects", "elect", "plan", "record", "refusal", "queue", "argv", "literal",
];

#[rustfmt::skip]
pub(crate) const IMPURE_CRATES: [&str; 18] = [
    "anyhow", "axum", "clap", "fastrand", "futures", "hyper", "hyper_rustls", "hyper_util", "kube",
    "kube_runtime", "prometheus", "rand", "rustix", "tokio", "tokio_util", "tonic", "tower", "tracing",
];
pub(crate) const IMPURE_STD: [&str; 6] = ["env", "fs", "io", "net", "process", "thread"];
/// Banned wherever they stand, since `use std::time` would hide their origin.
#[rustfmt::skip]
pub(crate) const IMPURE_WORDS: [&str; 7] = [
    "Instant", "SystemTime", "async", "println", "eprintln", "dbg", "RandomState",
];

/// Lines of a file; a module of tests inside a file of src/ does not count.
pub(crate) const LONGEST: usize = 400;

/// The types that each controller has one of.
pub(crate) const ONE_PER_CONTROLLER: [&str; 3] = ["Facts", "Decision", "Refusal"];

/// The types that each sidecar has one of.
pub(crate) const ONE_PER_SIDECAR: [&str; 2] = ["Config", "Fatal"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    Placed,
    Opening,
    Length,
    Reason,
    UniqueTypes,
    ControllersApart,
    FoundationsBelow,
    FoundationsApart,
    NothingImportsApp,
    BinariesOpenApp,
    OneOwner,
    ControllersStartNoTasks,
    Pure,
    PureNeighbours,
    PureByName,
}

impl Rule {
    #[rustfmt::skip]
    pub(crate) const ALL: [Self; 15] = [
        Self::Placed, Self::Opening, Self::Length, Self::Reason, Self::UniqueTypes, Self::ControllersApart,
        Self::FoundationsBelow, Self::FoundationsApart, Self::NothingImportsApp, Self::BinariesOpenApp,
        Self::OneOwner, Self::ControllersStartNoTasks, Self::Pure, Self::PureNeighbours, Self::PureByName,
    ];
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Placed => "every file is in bin/, app/, a controller or a foundation",
            Self::Opening => "every file starts with `//!`: what it is for",
            Self::Length => {
                "a file above 400 lines is two files; only tests inside a file of src/ do not count"
            }
            Self::Reason => "no lint is silenced without `reason = \"…\"`",
            Self::UniqueTypes => "each type's name stands once in the crate",
            Self::ControllersApart => "controllers never import each other; app/ wires them",
            Self::FoundationsBelow => "foundations never import controllers",
            Self::FoundationsApart => {
                "foundations import base; lease and ledger stand on cluster besides; no other"
            }
            Self::NothingImportsApp => "nothing imports app/",
            Self::BinariesOpenApp => "a binary in bin/ imports app/ and nothing else",
            Self::OneOwner => "one owner per outside crate",
            Self::ControllersStartNoTasks => {
                "controllers start no tasks, read no clock but tokio's and take no random numbers"
            }
            Self::Pure => "a pure file has no clock, no random numbers, no task, no network, no log",
            Self::PureNeighbours => "a pure file imports only pure files, base and csi::proto",
            Self::PureByName => "a file with this name is pure and says so: `//! Pure.`",
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    pub(crate) rule: Rule,
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file, self.line, self.rule, self.what)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Root,
    Bin,
    App,
    Controller(&'a str),
    Foundation(&'a str),
}

/// Where a file is, by the first part of its path below src/.
pub(crate) fn place(module: &str) -> Option<Place<'_>> {
    match module {
        "lib.rs" => Some(Place::Root),
        "bin" => Some(Place::Bin),
        "app" => Some(Place::App),
        _ if CONTROLLERS.contains(&module) => Some(Place::Controller(module)),
        _ if FOUNDATIONS.contains(&module) => Some(Place::Foundation(module)),
        _ => None,
    }
}

/// The rule that stands between two places, if one does.
pub(crate) fn forbidden(here: Place<'_>, there: Place<'_>) -> Option<Rule> {
    match (here, there) {
        (Place::Root, _) => None,
        (Place::Bin, Place::App) | (Place::App, _) => None,
        (Place::Bin, _) => Some(Rule::BinariesOpenApp),
        (_, Place::App | Place::Bin) => Some(Rule::NothingImportsApp),
        (Place::Controller(a), Place::Controller(b)) if a != b => Some(Rule::ControllersApart),
        (Place::Foundation(_), Place::Controller(_)) => Some(Rule::FoundationsBelow),
        // An election is about a Lease, and so is a ledger that outlives the process.
        (Place::Foundation("lease" | "ledger"), Place::Foundation("cluster")) => None,
        (Place::Foundation(a), Place::Foundation(b)) if a != b && b != "base" => Some(Rule::FoundationsApart),
        _ => None,
    }
}

/// Starts a task, reads a clock or takes a random number. tokio's clock may be read where things are done: virtual time
/// moves it.
pub(crate) fn is_nondeterministic(path: &[String]) -> bool {
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

pub(crate) fn is_impure(name: &Name) -> bool {
    let path: Vec<_> = name.path.iter().map(String::as_str).collect();
    let named = name.imported || path.len() > 1;
    named && IMPURE_CRATES.contains(&path[0])
        || matches!(path[..], ["std", module, ..] if IMPURE_STD.contains(&module))
        || path.iter().any(|it| IMPURE_WORDS.contains(it))
        || is_nondeterministic(&name.path)
}
