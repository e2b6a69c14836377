//! What is wrong with the claims.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Sources,
    literals::{Literal, literals},
};

/// Upstream's test cases: the stage of each, by its id.
pub(crate) struct Inventory(BTreeMap<String, String>);

impl Inventory {
    /// Reads tab-separated rows; the first one names the columns.
    pub(crate) fn read(table: &str) -> Self {
        let mut rows = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        let columns = rows.next().expect("a row of names");
        let at = |name| columns.iter().position(|it| *it == name).expect("a column");
        let (id, stage) = (at("id"), at("stage"));
        Self(
            rows.map(|row| (row[id].to_owned(), row[stage].to_owned()))
                .collect(),
        )
    }

    /// Whether a text is made like an id: `prefix.Test.01`, with a prefix that some id has.
    fn is_like_an_id(&self, text: &str) -> bool {
        let parts: Vec<_> = text.split('.').collect();
        let &[prefix, test, number] = parts.as_slice() else {
            return false;
        };
        let word =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let known = || self.0.keys().any(|id| id.split('.').next() == Some(prefix));
        word(test) && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()) && known()
    }
}

/// Whether a row of COMPATIBILITY.md says this.
pub(crate) fn is_row(compatibility: &str, title: &str) -> bool {
    let mut rows = compatibility.lines().filter(|line| line.starts_with('|'));
    !title.is_empty() && rows.any(|row| row.contains(title))
}

/// Claims of what is not there, and cases of these stages that nobody claims.
pub(crate) fn faults(
    inventory: &Inventory,
    sources: &Sources,
    compatibility: &str,
    stages: &[&str],
) -> Vec<String> {
    let (mut faults, mut claimed) = (Vec::new(), BTreeSet::new());
    for (file, source) in sources {
        let of_tests = file.starts_with("tests/") || file.contains("/tests/") || file.ends_with("/tests.rs");
        for Literal { text, line, is_test } in literals(source) {
            let (id, title) = match text.split_once(": ") {
                Some((id, title)) => (id, Some(title)),
                None => (text.as_str(), None),
            };
            if !inventory.is_like_an_id(id) {
                continue;
            }
            if !of_tests && !is_test {
                faults.push(format!("{file}:{line}: {id} stands outside of a test"));
            } else if !inventory.0.contains_key(id) {
                faults.push(format!("{file}:{line}: {id} is not in the inventory"));
            } else if let Some(title) = title.filter(|title| !is_row(compatibility, title)) {
                faults.push(format!(
                    "{file}:{line}: no row of COMPATIBILITY.md says {title:?}"
                ));
            } else {
                claimed.insert(id.to_owned());
            }
        }
    }
    let open = inventory
        .0
        .iter()
        .filter(|(id, stage)| stages.contains(&stage.as_str()) && !claimed.contains(*id));
    faults.extend(open.map(|(id, stage)| format!("{id} (stage {stage}) is claimed by no test")));
    faults
}
