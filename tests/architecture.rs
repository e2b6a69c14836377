//! Who may import whom, read from the source itself. A breach fails with the file, the line and the rule;
//! ARCHITECTURE.md gives the reasons.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::path::Path;

#[path = "architecture/check.rs"]
mod check;
#[path = "architecture/folder.rs"]
mod folder;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/samples.rs"]
mod samples;
#[path = "architecture/sources.rs"]
mod sources;
#[path = "architecture/tokens.rs"]
mod tokens;

use check::breaches;
use folder::read;
use sources::Sources;

#[test]
fn the_source_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Sources::new();
    for folder in ["src", "tests", "benches", "examples"] {
        let before = sources.len();
        read(root, &root.join(folder), &mut sources);
        assert!(sources.len() > before, "{folder}/ was not found");
    }
    let breaches = breaches(&sources);
    let texts: Vec<_> = breaches.iter().map(ToString::to_string).collect();
    assert!(texts.is_empty(), "\n{}\n", texts.join("\n"));
}
