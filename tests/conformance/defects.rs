//! What is wrong with the numbers of defects that tests bear.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Sources, check::is_row, literals::literals};

/// Why a defect needs no test; there are no other reasons.
const NO_TEST: &[&str] = &[
    "fixed upstream",
    "upstream's documentation",
    "cannot happen in Rust",
];

/// One row of the table.
struct Defect<'a> {
    stance: &'a str,
    /// The row of COMPATIBILITY.md, if people can see the difference.
    row: &'a str,
    no_test: &'a str,
}

impl Defect<'_> {
    /// What the table itself must not say.
    fn fault(&self, compatibility: &str, is_open: bool) -> Option<String> {
        let Self { stance, row, no_test } = *self;
        let is_known = NO_TEST.contains(&no_test);
        match stance {
            "F" | "O" | "K" if no_test.is_empty() || is_known => {}
            "-" if is_known => {}
            "F" | "O" | "K" | "-" => return Some(format!("{no_test:?} is no reason to have no test")),
            _ => return Some(format!("there is no stance {stance:?}")),
        }
        if stance == "O" && row.is_empty() && !is_open {
            return Some("differs on purpose and names no row of COMPATIBILITY.md".to_owned());
        }
        let is_missing = !row.is_empty() && !is_row(compatibility, row);
        is_missing.then(|| format!("no row of COMPATIBILITY.md says {row:?}"))
    }
}

/// Wrong rows of the table, tests with a number that is not in it, and rows that no test bears, but for the open ones.
pub(crate) fn faults(
    table: &str,
    sources: &Sources,
    compatibility: &str,
    open: &[(&str, &str)],
) -> Vec<String> {
    let defects = read(table);
    let is_open = |id: &str| open.iter().any(|(it, _)| *it == id);
    let (mut faults, mut borne) = (Vec::new(), BTreeSet::new());
    for (id, defect) in &defects {
        let fault = defect.fault(compatibility, is_open(id));
        faults.extend(fault.map(|fault| format!("{id}: {fault}")));
    }
    for (file, source) in sources {
        let of_tests = file.starts_with("tests/") || file.contains("/tests/");
        for literal in literals(source) {
            let id = literal.text.split(": ").next().unwrap_or_default();
            if !is_number(id) {
                continue;
            }
            let fault = match defects.get(id) {
                None => "is not in the table".to_owned(),
                Some(defect) if !defect.no_test.is_empty() => format!("needs no test: {}", defect.no_test),
                Some(_) if !of_tests && !literal.is_test => "stands outside of a test".to_owned(),
                Some(_) => {
                    borne.insert(id.to_owned());
                    continue;
                }
            };
            faults.push(format!("{file}:{}: {id} {fault}", literal.line));
        }
    }
    for (id, reason) in open {
        if !defects.contains_key(id) || borne.contains(*id) {
            faults.push(format!("{id} is not open any more ({reason})"));
        }
    }
    let missing = defects
        .iter()
        .filter(|(id, defect)| defect.no_test.is_empty() && !is_open(id) && !borne.contains(**id));
    faults.extend(missing.map(|(id, defect)| format!("{id} ({}) is borne by no test", defect.stance)));
    faults
}

/// Reads tab-separated rows; the first one names the columns.
fn read(table: &str) -> BTreeMap<&str, Defect<'_>> {
    let mut rows = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let columns = rows.next().expect("a row of names");
    let at = |name| columns.iter().position(|it| *it == name).expect("a column");
    let (id, stance, row, no_test) = (at("id"), at("stance"), at("row"), at("no_test"));
    rows.map(|cells| {
        let defect = Defect {
            stance: cells[stance],
            row: cells[row],
            no_test: cells[no_test],
        };
        (cells[id], defect)
    })
    .collect()
}

/// Whether a text is made like the number of a defect: `D-13`.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix("D-").unwrap_or_default();
    !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
}
