//! The check of defects fails when it should: small tables, small sources.

use crate::{Sources, defects::faults};

const HEAD: &str = "id\tarea\tstance\twhat\trow\tno_test\n";
const COMPATIBILITY: &str = "A text about nothing.\n| difference | why |\n| two is `2` | it is |\n";
const OPEN: &[(&str, &str)] = &[("D-9", "later")];

fn found(rows: &[&str], file: &str, source: &str, open: &[(&str, &str)]) -> Vec<String> {
    let sources = Sources::from([(file.to_owned(), source.to_owned())]);
    let table = format!("{HEAD}{}", rows.join("\n"));
    faults(&table, &sources, COMPATIBILITY, open)
}

#[test]
fn a_number_is_borne_by_a_literal_in_a_test_and_by_nothing_else() {
    const FIXED: &[&str] = &["D-1\ta\tF\tw\t\t"];
    const UNBORNE: &[&str] = &["D-1 (F) is borne by no test"];
    const OUTSIDE: &[&str] = &[
        "src/a.rs:1: D-1 stands outside of a test",
        "D-1 (F) is borne by no test",
    ];
    let rows: [(&str, &str, &str, &[&str]); 13] = [
        ("a name of a row", "tests/a.rs", "vec![(\"D-1\", 1)];", &[]),
        ("a message", "src/a/tests/b.rs", "assert!(a, \"D-1: {a}\");", &[]),
        (
            "a module of tests",
            "src/a.rs",
            "#[cfg(test)]\nmod tests { fn a() { f(\"D-1\"); } }",
            &[],
        ),
        ("nothing", "tests/a.rs", "", UNBORNE),
        (
            "a comment",
            "tests/a.rs",
            "/// \"D-1\"\nfn f() {} // \"D-1\"",
            UNBORNE,
        ),
        (
            "an attribute",
            "tests/a.rs",
            "#[doc = \"D-1\"]\nfn f() {}",
            UNBORNE,
        ),
        ("a name", "tests/a.rs", "fn d1_is_fixed() {}", UNBORNE),
        (
            "a part of a text",
            "tests/a.rs",
            "f(\"see D-1\", \"D-1 too\", \"D-1.\");",
            UNBORNE,
        ),
        ("outside of tests", "src/a.rs", "f(\"D-1\");", OUTSIDE),
        (
            "after a test",
            "src/a.rs",
            "#[cfg(test)] mod tests {} fn f() { g(\"D-1\") }",
            OUTSIDE,
        ),
        (
            "after a module of tests in another file",
            "src/a.rs",
            "#[cfg(test)] mod tests; fn f() { g(\"D-1\") }",
            OUTSIDE,
        ),
        (
            "under another condition",
            "src/a.rs",
            "#[cfg(unix)] mod tests { const A: &str = \"D-1\"; }",
            OUTSIDE,
        ),
        (
            "a number that is not there",
            "tests/a.rs",
            "f(\"D-1\");\nf(\"D-01\");",
            &["tests/a.rs:2: D-01 is not in the table"],
        ),
    ];
    for (name, file, source, faults) in rows {
        assert_eq!(found(FIXED, file, source, &[]), faults, "{name}");
    }
}

#[test]
fn a_row_has_a_known_stance_and_reason_and_a_row_for_what_people_see() {
    let rows: [(&str, &str, &str, &[&str]); 9] = [
        ("visible", "D-9\ta\tO\tw\ttwo is `2`\t", "f(\"D-9\");", &[]),
        (
            "fixed, and visible",
            "D-9\ta\tF\tw\ttwo is `2`\t",
            "f(\"D-9\");",
            &[],
        ),
        (
            "kept, not there",
            "D-9\ta\tK\tw\t\tcannot happen in Rust",
            "",
            &[],
        ),
        ("nothing to do", "D-9\ta\t-\tw\t\tfixed upstream", "", &[]),
        (
            "visible, and nowhere to be read",
            "D-9\ta\tO\tw\t\t",
            "f(\"D-9\");",
            &["D-9: differs on purpose and names no row of COMPATIBILITY.md"],
        ),
        (
            "a row that is none",
            "D-9\ta\tF\tw\tabout nothing\t",
            "f(\"D-9\");",
            &["D-9: no row of COMPATIBILITY.md says \"about nothing\""],
        ),
        (
            "another reason",
            "D-9\ta\tF\tw\t\tno time",
            "",
            &["D-9: \"no time\" is no reason to have no test"],
        ),
        (
            "no reason",
            "D-9\ta\t-\tw\t\t",
            "f(\"D-9\");",
            &["D-9: \"\" is no reason to have no test"],
        ),
        (
            "another stance",
            "D-9\ta\tX\tw\t\t",
            "f(\"D-9\");",
            &["D-9: there is no stance \"X\""],
        ),
    ];
    for (name, row, source, faults) in rows {
        assert_eq!(found(&[row], "tests/a.rs", source, &[]), faults, "{name}");
    }
    let upstreams = "D-9\ta\t-\tw\t\tfixed upstream";
    assert_eq!(
        found(&[upstreams], "tests/a.rs", "f(\"D-9\");", &[]),
        ["tests/a.rs:1: D-9 needs no test: fixed upstream"]
    );
}

#[test]
fn what_is_open_needs_neither_test_nor_row_and_is_open_no_longer_than_that() {
    let row = "D-9\ta\tO\tw\t\t";
    assert_eq!(found(&[row], "tests/a.rs", "", OPEN), [""; 0]);
    let over = ["D-9 is not open any more (later)"];
    assert_eq!(found(&[row], "tests/a.rs", "f(\"D-9\");", OPEN), over);
    assert_eq!(found(&[], "tests/a.rs", "", OPEN), over);
}
