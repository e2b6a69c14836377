//! Each of upstream's own test cases (`inventory.tsv`) is claimed by a test of ours.
//!
//! A test claims a case by its id, as a string literal in the row that checks it: `"ctl.GetDriverName.02"`. Where we
//! differ on purpose the row checks ours and names the row of COMPATIBILITY.md: `"ctl.GetDriverName.02: start waits"`.

#![allow(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::{collections::BTreeMap, fs, path::Path};

#[path = "conformance/check.rs"]
mod check;
#[path = "architecture/folder.rs"]
mod folder;
#[path = "conformance/literals.rs"]
mod literals;
#[path = "conformance/samples.rs"]
mod samples;

use check::{Inventory, faults};

/// Source files by path.
pub(crate) type Sources = BTreeMap<String, String>;

/// The stages whose cases must all be claimed; cases of others may be.
const STAGES: &[&str] = &["A", "B1"];

#[test]
fn every_case_of_upstream_is_claimed_by_a_test_of_ours() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Sources::new();
    for folder in ["src", "tests"] {
        folder::read(root, &root.join(folder), &mut sources);
    }
    sources.retain(|file, _| !file.starts_with("tests/conformance"));
    let text = |name: &str| fs::read_to_string(root.join(name)).expect("a readable file");
    let inventory = Inventory::read(&text("tests/inventory.tsv"));
    let faults = faults(&inventory, &sources, &text("COMPATIBILITY.md"), STAGES);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
