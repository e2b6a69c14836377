//! Pure. Which leaders in a row have kept a ledger: an annotation on the Lease, written whenever the Lease is.
//!
//! Upstream leads by the same Lease, keeps no ledger, and knows nothing of the annotation: it raises the count and
//! leaves what it does not know. So a chain whose last leader is not the one that the Lease counts is broken, and the
//! next leader that keeps a ledger begins a new one.

use serde_json::{Value, json};

use super::record::transitions;
use crate::cluster::lease_object::edit;

/// `<first>-<last>`: `leaseTransitions` of the chain's first leader, and of its last.
const LEADERS: &str = "ledger.volwright.dev/leaders";

/// Carries the chain on in a Lease that is about to count `next`, and still says what it said before. One that keeps no
/// ledger ends it.
pub(crate) fn carry_on(lease: &mut Value, next: i64, keeps_ledger: bool) {
    let first = first_leader(lease).unwrap_or(next);
    let Some(metadata) = lease.get_mut("metadata") else {
        return;
    };
    if keeps_ledger {
        edit(metadata, "annotations", |own| {
            own.insert(LEADERS.into(), json!(format!("{first}-{next}")));
        });
    } else if let Some(own) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        own.remove(LEADERS);
    }
}

/// `leaseTransitions` of the first leader of the chain whose last is the one that the Lease counts. `None`: there is no
/// such chain.
pub(crate) fn first_leader(lease: &Value) -> Option<i64> {
    let (first, last) = lease["metadata"]["annotations"][LEADERS]
        .as_str()?
        .split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let (first, last) = (i64::try_from(first).ok()?, i64::try_from(last).ok()?);
    (first <= last && last == transitions(lease)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_goes_on_as_long_as_each_leader_keeps_a_ledger() {
        type Row = (
            &'static str,
            Option<&'static str>,
            i64,
            i64,
            bool,
            Option<&'static str>,
        );
        const ROWS: &[Row] = &[
            // what happens, annotation and count as read, count to be written, keeps a ledger, annotation then
            ("the first leader", None, 0, 1, true, Some("1-1")),
            ("acquired after a release", Some("3-5"), 5, 6, true, Some("3-6")),
            ("acquired after it ran out", Some("5-5"), 5, 6, true, Some("5-6")),
            ("renewed", Some("3-5"), 5, 5, true, Some("3-5")),
            (
                "our own again after a restart",
                Some("3-5"),
                5,
                5,
                true,
                Some("3-5"),
            ),
            ("released", Some("3-5"), 5, 5, true, Some("3-5")),
            (
                "upstream has led and left it",
                Some("3-5"),
                6,
                7,
                true,
                Some("7-7"),
            ),
            ("upstream has led twice", Some("3-5"), 7, 8, true, Some("8-8")),
            (
                "the count was set back by hand",
                Some("3-5"),
                2,
                3,
                true,
                Some("3-3"),
            ),
            ("somebody took it off", None, 5, 5, true, Some("5-5")),
            (
                "one that keeps no ledger acquires",
                Some("3-5"),
                5,
                6,
                false,
                None,
            ),
            ("one cannot keep it any more", Some("3-6"), 6, 6, false, None),
            ("one can again", None, 6, 6, true, Some("6-6")),
            ("without one nothing is put on", None, 5, 6, false, None),
            ("damaged: no numbers", Some("a-b"), 5, 6, true, Some("6-6")),
            ("damaged: one number", Some("5"), 5, 6, true, Some("6-6")),
            ("damaged: backwards", Some("6-5"), 5, 6, true, Some("6-6")),
            ("damaged: below zero", Some("-1-5"), 5, 6, true, Some("6-6")),
            (
                "damaged: too large",
                Some("1-9999999999999999999"),
                5,
                6,
                true,
                Some("6-6"),
            ),
            ("damaged: empty", Some(""), 5, 6, true, Some("6-6")),
        ];
        for (name, annotation, count, next, keeps_ledger, wanted) in ROWS {
            let mut lease = json!({
                "metadata": {"name": "x", "annotations": {"theirs": "1"}},
                "spec": {"leaseTransitions": count},
            });
            if let Some(annotation) = annotation {
                lease["metadata"]["annotations"][LEADERS] = json!(annotation);
            }
            let mut expected = lease.clone();
            match wanted {
                Some(wanted) => expected["metadata"]["annotations"][LEADERS] = json!(wanted),
                None => {
                    _ = expected["metadata"]["annotations"]
                        .as_object_mut()
                        .unwrap()
                        .remove(LEADERS)
                }
            }
            carry_on(&mut lease, *next, *keeps_ledger);
            assert_eq!(lease, expected, "{name}");
        }
    }

    #[test]
    fn a_lease_that_is_made_anew_begins_a_chain_and_gets_nothing_from_who_keeps_none() {
        let new = json!({"metadata": {"name": "x"}, "spec": {"leaseTransitions": 0}});
        let mut kept = new.clone();
        carry_on(&mut kept, 0, true);
        assert_eq!(first_leader(&kept), Some(0));
        let mut unkept = new.clone();
        carry_on(&mut unkept, 0, false);
        assert_eq!(unkept, new);
    }
}
