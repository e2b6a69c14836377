//! The comparison finds what it should: small files, a few lines.

use std::collections::BTreeSet;

use super::{compare::differences, file::ScenarioFile};
use crate::sidecar::{Binary, under_test};

/// What a file declares besides, the lines of upstream, ours, and what is wrong.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

pub(crate) fn are_judged_rightly() {
    // A run against upstream itself takes nothing as declared.
    if under_test() == Binary::Upstream {
        return;
    }
    let both = "differences: [{row: a row of the page, both: [\"event data\"]}]";
    let ours = "differences: [{row: a row of the page, ours: [\"event data\"]}]";
    const MISSING_OURS: &str = "declared, but ours has no such line of its own: event data";
    const MISSING_UPSTREAM: &str = "declared, but upstream has no such line of its own: event data";
    let rows: [Row; 7] = [
        ("the same", "", &["a", "b"], &["a", "b"], &[]),
        ("undeclared", "", &["a", "b"], &["a", "c"], &["- b", "+ c"]),
        (
            "declared for both",
            both,
            &["event data: x"],
            &["event data: y"],
            &[],
        ),
        (
            "declared for both, and the same by now",
            both,
            &["event data: x"],
            &["event data: x"],
            &[MISSING_UPSTREAM, MISSING_OURS],
        ),
        ("declared for ours", ours, &[], &["event data: y"], &[]),
        (
            "declared for ours, and not there",
            ours,
            &["event data: y"],
            &[],
            &[MISSING_OURS, "- event data: y"],
        ),
        (
            "something else besides",
            both,
            &["event data: x", "volume"],
            &["event data: y"],
            &["- volume"],
        ),
    ];
    for (what, declared, theirs, ours, wrong) in rows {
        let text = format!("section: \"1\"\nabout: {what}\n{declared}\n");
        let file: ScenarioFile = serde_saphyr::from_str(&text).unwrap();
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(differences(&file, &lines(theirs), &lines(ours)), wrong, "{what}");
    }
    let unknown = serde_saphyr::from_str::<ScenarioFile>("section: \"1\"\nabout: x\nsteeps: []\n");
    assert!(unknown.is_err(), "what is misspelt is not left out");
}
