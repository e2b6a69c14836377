//! Lines of two sides, and what may differ between them.

use std::{collections::BTreeSet, path::Path};

use super::file::{Difference, Peer63, ScenarioFile};
use crate::sidecar::{Binary, under_test};

/// Each declared difference is one that there is, and there is no other.
pub(super) fn assert_same(file: &ScenarioFile, theirs: &BTreeSet<String>, ours: &BTreeSet<String>) {
    let wrong = differences(file, theirs, ours);
    assert!(
        wrong.is_empty(),
        "{}\nonly upstream (-), only ours (+), of {} lines:\n{}",
        file.about,
        theirs.len(),
        wrong.join("\n")
    );
    if under_test() == Binary::Ours {
        for Peer63 { line, target, why } in &file.peer_6_3 {
            let ours: Vec<_> = ours.iter().filter(|it| it.starts_with(line)).collect();
            assert_eq!(
                ours,
                target.list().iter().collect::<Vec<_>>(),
                "as 6.4 has it: {why}"
            );
        }
    }
}

pub(super) fn differences(
    file: &ScenarioFile,
    theirs: &BTreeSet<String>,
    ours: &BTreeSet<String>,
) -> Vec<String> {
    let mut upstream: Vec<_> = theirs.difference(ours).collect();
    let mut only_ours: Vec<_> = ours.difference(theirs).collect();
    let mut wrong = Vec::new();
    // Whether there was such a line; all of them are declared then.
    let take = |lines: &mut Vec<&String>, start: &str| {
        let before = lines.len();
        lines.retain(|line| !line.starts_with(start));
        before > lines.len()
    };
    let declared = file.differences();
    let both = |it: &Difference| it.both.clone();
    let both = declared.iter().flat_map(both);
    for start in both.chain(file.peer_6_3.iter().map(|it| it.line.clone())) {
        let taken = [take(&mut upstream, &start), take(&mut only_ours, &start)];
        for (side, _) in ["upstream", "ours"].iter().zip(taken).filter(|(_, taken)| !taken) {
            wrong.push(format!(
                "declared, but {side} has no such line of its own: {start}"
            ));
        }
    }
    for difference in &declared {
        for (side, lines, starts) in [
            ("upstream", &mut upstream, &difference.upstream),
            ("ours", &mut only_ours, &difference.ours),
        ] {
            let starts = starts.iter().filter(|start| !take(lines, start));
            wrong.extend(
                starts.map(|start| format!("declared, but {side} has no such line of its own: {start}")),
            );
        }
    }
    if under_test() == Binary::Upstream {
        // Then both are upstream's.
        wrong.clear();
    }
    wrong.extend(upstream.iter().map(|line| format!("- {line}")));
    wrong.extend(only_ours.iter().map(|line| format!("+ {line}")));
    wrong
}

/// COMPATIBILITY.md has each row that is declared: it tells users of the difference.
pub(super) fn assert_rows(name: &str, file: &ScenarioFile) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("COMPATIBILITY.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("| ")).collect();
    for Difference { row, .. } in file.differences() {
        // So much of it that it is this one.
        let known = row.len() >= 20 && rows.iter().any(|known| known.starts_with(&row));
        assert!(known, "{name}: COMPATIBILITY.md has no row that begins so: {row}");
    }
}
