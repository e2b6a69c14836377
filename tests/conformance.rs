//! Each of upstream's own test cases (`inventory.tsv`) is claimed by a test of ours, and each of its known defects
//! (`defects.tsv`) has a test that fails if it comes back.
//!
//! A test claims a case by its id, as a string literal in the row that checks it: `"ctl.GetDriverName.02"`. Where we
//! differ on purpose the row checks ours and names the row of COMPATIBILITY.md: `"ctl.GetDriverName.02: start waits"`.
//!
//! A test bears the number of a defect in the same way, as the name of a row or at the start of a message: `"D-13"`,
//! `"D-13: no volume"`. Stances: F is fixed, O differs on purpose and names the row of COMPATIBILITY.md, K is kept as
//! upstream has it, - needs nothing.

#![allow(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::{collections::BTreeMap, fs, path::Path};

#[path = "conformance/check.rs"]
mod check;
#[path = "conformance/defect_samples.rs"]
mod defect_samples;
#[path = "conformance/defects.rs"]
mod defects;
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
const STAGES: &[&str] = &["A", "B1", "B2", "N"];

/// Defects whose test is still to come, and why.
const OPEN: &[(&str, &str)] = &[];

/// The files with tests; what checks them is none.
fn sources() -> Sources {
    let mut sources = Sources::new();
    for folder in ["src", "tests"] {
        folder::read(root(), &root().join(folder), &mut sources);
    }
    sources.retain(|file, _| !file.starts_with("tests/conformance"));
    sources
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    fs::read_to_string(root().join(name)).expect("a readable file")
}

#[test]
fn every_case_of_upstream_is_claimed_by_a_test_of_ours() {
    let inventory = Inventory::read(&text("tests/inventory.tsv"));
    let faults = faults(&inventory, &sources(), &text("COMPATIBILITY.md"), STAGES);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_defect_of_upstream_has_a_test_that_bears_its_number() {
    let table = text("tests/defects.tsv");
    let faults = defects::faults(&table, &sources(), &text("COMPATIBILITY.md"), OPEN);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
