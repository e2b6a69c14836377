//! The check fails when it should: small inventories, small sources.

use crate::{
    Sources,
    check::{Inventory, faults},
};

const INVENTORY: &str =
    "id\tcase\tstage\nctl.Get.01\tone\tA\nctl.Get.02\ttwo\tA\nlib.all-of-it.10\tthree\tB\n";
const COMPATIBILITY: &str = "A text about nothing.\n| difference | why |\n| two is `2` | it is |\n";

fn found(source: &str, stages: &[&str]) -> Vec<String> {
    found_in("src/tests/a.rs", source, stages)
}

fn found_in(file: &str, source: &str, stages: &[&str]) -> Vec<String> {
    let sources = Sources::from([(file.to_owned(), source.to_owned())]);
    faults(&Inventory::read(INVENTORY), &sources, COMPATIBILITY, stages)
}

#[test]
fn what_is_claimed_rightly_is_no_fault() {
    let both =
        "const A: &str = \"ctl.Get.01\";\nfn f() { vec![(\"ctl.Get.02\", 2), (\"ctl.Get.01\", 1)]; }\n";
    let rows: &[(&str, &str, &[&str])] = &[
        ("all of a stage, one of them twice", both, &["A"]),
        (
            "a difference",
            "f(\"ctl.Get.01\");\nf(\"ctl.Get.02: two is `2`\");\n",
            &["A"],
        ),
        ("nothing is asked for", "", &[]),
        (
            "what is claimed though not asked for",
            "f(\"lib.all-of-it.10\");",
            &[],
        ),
        (
            "no ids",
            "f(\"ctl.Get\", \"ctl.Get.01.x\", \"ctl..01\", \"ctl.Get.\", \"v1.Get.03\", \"ctl.G t.01\");",
            &[],
        ),
    ];
    for (name, source, stages) in rows {
        assert_eq!(found(source, stages), [""; 0], "{name}");
    }
}

#[test]
fn what_is_claimed_wrongly_is_a_fault_with_its_place() {
    let rows = [
        (
            "unknown case",
            "\nf(\"ctl.Get.03\");",
            "src/tests/a.rs:2: ctl.Get.03 is not in the inventory",
        ),
        (
            "unknown test",
            "f(\"ctl.Put.01\");",
            "src/tests/a.rs:1: ctl.Put.01 is not in the inventory",
        ),
        (
            "another number of digits",
            "f(\"lib.all-of-it.1\");",
            "src/tests/a.rs:1: lib.all-of-it.1 is not in the inventory",
        ),
        (
            "inside a macro",
            "vec![[(1, \"lib.Get.01\")]];",
            "src/tests/a.rs:1: lib.Get.01 is not in the inventory",
        ),
        (
            "unknown difference",
            "f(\"ctl.Get.01: one is 2\");",
            "src/tests/a.rs:1: no row of COMPATIBILITY.md says \"one is 2\"",
        ),
        (
            "a difference that is no row",
            "f(\"ctl.Get.01: about nothing\");",
            "src/tests/a.rs:1: no row of COMPATIBILITY.md says \"about nothing\"",
        ),
        (
            "no difference",
            "f(\"ctl.Get.01: \");",
            "src/tests/a.rs:1: no row of COMPATIBILITY.md says \"\"",
        ),
    ];
    for (name, source, fault) in rows {
        assert_eq!(found(source, &[]), [fault], "{name}");
    }
}

#[test]
fn only_a_test_can_claim() {
    let fault = "src/a.rs:1: ctl.Get.01 stands outside of a test".to_owned();
    assert_eq!(found_in("src/a.rs", "f(\"ctl.Get.01\");", &[]), [fault]);
    let test = "#[cfg(test)]\nmod tests { fn f() { g(\"ctl.Get.01\"); } }";
    assert_eq!(found_in("src/a.rs", test, &[]), [""; 0]);
    assert_eq!(found_in("tests/a.rs", "f(\"ctl.Get.01\");", &[]), [""; 0]);
}

#[test]
fn a_case_of_a_stage_that_nobody_claims_is_a_fault() {
    let open = |id: &str| format!("{id} is claimed by no test");
    let rows: &[(&str, &str, &[&str], &[&str])] = &[
        ("nothing", "", &["B"], &["lib.all-of-it.10 (stage B)"]),
        (
            "one of two",
            "f(\"ctl.Get.01\");",
            &["A"],
            &["ctl.Get.02 (stage A)"],
        ),
        (
            "two stages",
            "f(\"ctl.Get.01\");",
            &["A", "B"],
            &["ctl.Get.02 (stage A)", "lib.all-of-it.10 (stage B)"],
        ),
        (
            "in comments",
            "/// \"ctl.Get.01\"\nfn f() {} // \"ctl.Get.02\"\n",
            &["A"],
            &["ctl.Get.01 (stage A)", "ctl.Get.02 (stage A)"],
        ),
        (
            "in attributes",
            "#![doc = \"ctl.Get.01\"]\n#[cfg(x = \"ctl.Get.02\")]\nfn f() {}\n",
            &["A"],
            &["ctl.Get.01 (stage A)", "ctl.Get.02 (stage A)"],
        ),
        (
            "as a part of a text",
            "f(\"see ctl.Get.01\", \"ctl.Get.02 too\");",
            &["A"],
            &["ctl.Get.01 (stage A)", "ctl.Get.02 (stage A)"],
        ),
    ];
    for (name, source, stages, ids) in rows {
        let expected: Vec<_> = ids.iter().map(|id| open(id)).collect();
        assert_eq!(found(source, stages), expected, "{name}");
    }
}
