//! The topologies that a class allows.

use super::{
    super::{refusal::Refusal, topology::AllowedTopologiesError},
    *,
};

#[test]
fn the_allowed_topologies_of_a_class_are_the_terms() {
    const FOUR: &str =
        "rack=rackA,zone=zone1; rack=rackA,zone=zone2; rack=rackB,zone=zone1; rack=rackB,zone=zone2";
    let with_zone1 = format!("zone=zone1; {FOUR}");
    let rows: [(&str, &[&str], &str); 10] = [
        ("topo.AllowedTopologies.01", &["zone in zone1"], "zone=zone1"),
        (
            "topo.AllowedTopologies.02",
            &["zone in zone1 zone2"],
            "zone=zone1; zone=zone2",
        ),
        (
            "topo.AllowedTopologies.03",
            &["zone in zone1, rack in rackA"],
            "rack=rackA,zone=zone1",
        ),
        (
            "topo.AllowedTopologies.04",
            &["zone in zone1, rack in rackA rackB"],
            "rack=rackA,zone=zone1; rack=rackB,zone=zone1",
        ),
        (
            "topo.AllowedTopologies.05",
            &["zone in zone1 zone2, rack in rackA rackB"],
            FOUR,
        ),
        (
            "topo.AllowedTopologies.06",
            &["zone in zone1", "rack in rackA"],
            "rack=rackA; zone=zone1",
        ),
        (
            "topo.AllowedTopologies.07",
            &["zone in zone1", "zone in zone2"],
            "zone=zone1; zone=zone2",
        ),
        (
            "topo.AllowedTopologies.08",
            &["zone in zone1 zone2", "zone in zone2 zone3"],
            "zone=zone1; zone=zone2; zone=zone3",
        ),
        (
            "topo.AllowedTopologies.09",
            &["zone in zone1", "zone in zone1 zone2, rack in rackA rackB"],
            &with_zone1,
        ),
        (
            "topo.AllowedTopologies.10",
            &[
                "zone in zone1, rack in rackB",
                "zone in zone1 zone2, rack in rackA rackB",
            ],
            FOUR,
        ),
    ];
    for (id, allowed, expected) in rows {
        // Not even the driver need be registered anywhere.
        World::on(&[]).allowing(allowed).settings(|world, _, _| {
            assert_eq!(world.requisite(), expected, "{id}");
        });
    }
}

#[test]
fn allowed_topologies_that_make_no_sense_hang_nothing() {
    let nowhere = Refusal::AllowedTopologies("fast".into(), AllowedTopologiesError::Nowhere);
    let too_many = Refusal::AllowedTopologies("fast".into(), AllowedTopologiesError::TooMany);
    let (nowhere, too_many) = (format!("err: {nowhere}"), format!("err: {too_many}"));
    let values = (0..200).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    let huge = format!("a in {values}, b in {values}, c in {values}");
    let halves = [
        format!("a in {values}, b in {values}, c in 1"),
        "zone in a".to_owned(),
    ];
    let rows: [(&str, &[&str], &str, &str); 9] = [
        ("terms that say nothing", &["", ""], "none", "none"),
        (
            "one of them says something",
            &["", "zone in a"],
            "zone=a",
            "zone=a",
        ),
        ("an expression without values", &["zone in"], &nowhere, &nowhere),
        (
            "one of two without values",
            &["zone in, rack in 1"],
            &nowhere,
            &nowhere,
        ),
        (
            "beside one with values",
            &["zone in", "zone in a"],
            "zone=a",
            "zone=a",
        ),
        (
            "two for one key that agree",
            &["zone in a, zone in a b"],
            "zone=a",
            "zone=a",
        ),
        (
            "two for one key that do not",
            &["zone in a, zone in b"],
            &nowhere,
            &nowhere,
        ),
        ("more than fit in memory", &[&huge], &too_many, &too_many),
        (
            "more than fit in a request",
            &[&halves[0], &halves[1]],
            &too_many,
            &too_many,
        ),
    ];
    for (name, allowed, anywhere, selected) in rows {
        let world = World::on(&[("zone=a", "zone")]).allowing(allowed);
        assert_eq!(world.requisite(), anywhere, "{name}");
        assert_eq!(
            world.selecting("node-0").requisite(),
            selected,
            "{name}, node selected"
        );
    }
    let unknown = World::on(&[("zone=a", "zone")]).allowing(&["moon in far"]);
    assert_eq!(unknown.requisite(), "moon=far", "it is the driver's to judge");
    let found = unknown.selecting("node-0").requisite();
    assert!(
        found.starts_with("err: the selected node node-0 is in zone=a, and storage class \"fast\" does not")
    );
}
