//! What an open record needs next.

use super::super::record::{RecordFacts, Step, next_step};

#[test]
fn an_open_record_is_closed_saved_repeated_or_held() {
    // claim waits, saved, doubtful, created
    let rows = [
        ("answer awaited", [true, false, false, false], Step::Create),
        (
            "answer awaited, claim gone",
            [false, false, false, false],
            Step::Create,
        ),
        ("to be saved", [true, false, false, true], Step::Save),
        ("to be saved, claim gone", [false, false, false, true], Step::Save),
        (
            "another leader, claim stands",
            [true, false, true, false],
            Step::Create,
        ),
        (
            "another leader, claim stands: what was created may be deleted again",
            [true, false, true, true],
            Step::Create,
        ),
        (
            "another leader, claim gone",
            [false, false, true, false],
            Step::Hold,
        ),
        (
            "another leader, claim gone, created",
            [false, false, true, true],
            Step::Hold,
        ),
    ];
    for (name, [claim_waits, saved, doubtful, created], expected) in rows {
        let facts = RecordFacts {
            claim_waits,
            saved,
            doubtful,
            created,
        };
        assert_eq!(next_step(facts), expected, "{name}");
        let seen = RecordFacts { saved: true, ..facts };
        assert_eq!(next_step(seen), Step::Close, "{name}, and its object was seen");
    }
}
