//! Which terms a request has, and in which order.

use super::{
    nodes::{NodeText, agrees, texts},
    *,
};
use crate::{base::segment::Segment, cluster::objects::BindingMode, csi::proto};

const RACKS: &[NodeText] = &[
    ("zone=zone1,rack=rackA", "zone,rack"),
    ("zone=zone2,rack=rackB", "zone,rack"),
    ("zone=zone3,rack=rackC", "zone,rack"),
    ("zone=zone4,rack=rackD", "zone,rack"),
];

/// As `A B`, of terms like `rack=rackA,zone=zone1`.
fn letters(terms: &str) -> String {
    let letters = terms.split("; ").map(|term| {
        let (_, rack) = term.split_once("rack=rack").unwrap_or(("", term));
        rack.chars().next().unwrap_or_default().to_string()
    });
    letters.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_claims_of_a_stateful_set_go_round_the_cluster() {
    const TWO: &[&str] = &["zone in zone1, rack in rackA", "zone in zone2, rack in rackB"];
    let rows: [(&str, &str, &[&str], &str); 7] = [
        (
            "topo.StatefulSetSpreading.01",
            "testpvcA-testset-1",
            &[],
            "A B C D",
        ),
        (
            "topo.StatefulSetSpreading.02",
            "testpvcB-testset-1",
            &[],
            "A B C D",
        ),
        (
            "topo.StatefulSetSpreading.03",
            "testpvcC-testset-1",
            &["zone in zone1, rack in rackA"],
            "A",
        ),
        ("topo.StatefulSetSpreading.04", "testset-2", &[], "B C D A"),
        ("topo.StatefulSetSpreading.05", "testpvcB-testset-2", TWO, "B A"),
        (
            "topo.StatefulSetSpreading.06",
            "testpvc-testset-3",
            &[],
            "C D A B",
        ),
        (
            "topo.StatefulSetSpreading.07",
            "testpvc-testset-4",
            &[],
            "D A B C",
        ),
    ];
    for (id, claim, allowed, expected) in rows {
        let world = World::on(RACKS).allowing(allowed).named(claim);
        world.settings(|world, strict, immediate| {
            let found = world.preferred();
            let found = match immediate || !allowed.is_empty() {
                true => letters(&found),
                false => found,
            };
            let expected = if immediate || !allowed.is_empty() {
                expected
            } else {
                "none"
            };
            assert_eq!(found, expected, "{id}, strict {strict}, immediate {immediate}");
        });
    }
}

#[test]
fn a_name_decides_where_to_begin_whatever_it_looks_like() {
    let begin = |name: &str| World::on(RACKS).named(name).requirement().expect("terms").start;
    assert_eq!(begin("a-4294967295"), begin("a-4294967295"));
    for name in [
        "",
        "-",
        "-1",
        "1",
        "a-",
        "a-99999999999999999999",
        "a--1",
        "\u{fc}-1",
    ] {
        assert!(begin(name) < RACKS.len(), "{name:?}");
    }
    assert_eq!(begin("data-web-1"), begin("logs-web-1"), "all volumes of one Pod");
    assert_eq!((begin("web-1") + 1) % RACKS.len(), begin("web-2"));
}

#[test]
fn the_selected_node_leads_the_preferred_terms() {
    const NODES: &[NodeText] = &[
        ("zone=zone2,rack=rackA", "zone,rack"),
        ("zone=zone1,rack=rackA", "zone,rack"),
        ("zone=zone1,rack=rackB", "zone,rack"),
    ];
    const FOUR: &[&str] = &["zone in zone1 zone2, rack in rackA rackB"];
    const UNREGISTERED: &[NodeText] = &[
        ("zone=zone2,rack=rackA", "-"),
        ("zone=zone1,rack=rackA", "-"),
        ("zone=zone1,rack=rackB", "-"),
    ];
    const OTHER_KEY: &[NodeText] = &[
        ("zone=zone2,rack=rackA", "foo,rack"),
        ("zone=zone1,rack=rackA", "foo,rack"),
        ("zone=zone1,rack=rackB", "foo,rack"),
    ];
    const DISKS: &[NodeText] = &[
        ("zone=zone1,rack=rack1,disk=ssd", "zone,rack,disk"),
        ("zone=zone2,rack=rack2,disk=ssd", "zone,rack,disk"),
        ("zone=zone2,rack=rack1,disk=nvme", "zone,rack,disk"),
    ];
    type Row = (
        &'static str,
        &'static [NodeText],
        &'static [&'static str],
        &'static str,
        &'static str,
    );
    let rows: [Row; 8] = [
        (
            "topo.PreferredTopologies.01",
            NODES,
            FOUR,
            "rack=rackA,zone=zone2; rack=rackB,zone=zone1; rack=rackB,zone=zone2; rack=rackA,zone=zone1",
            "rack=rackA,zone=zone2",
        ),
        (
            "topo.PreferredTopologies.02",
            UNREGISTERED,
            FOUR,
            "reschedule: node-0…",
            "reschedule: node-0…",
        ),
        (
            "topo.PreferredTopologies.03",
            OTHER_KEY,
            FOUR,
            "err: node node-0 has no label foo…",
            "err: node node-0 has no label foo…",
        ),
        (
            "topo.PreferredTopologies.04",
            NODES,
            &[],
            "rack=rackA,zone=zone2; rack=rackB,zone=zone1; rack=rackA,zone=zone1",
            "rack=rackA,zone=zone2",
        ),
        (
            "topo.PreferredTopologies.05",
            &[("", "no driver"), ("", "no driver"), ("", "no driver")],
            &[],
            "err: the driver is not registered on node node-0…",
            "err: the driver is not registered on node node-0…",
        ),
        (
            "topo.PreferredTopologies.06",
            &[
                ("zone=zone2", "zone"),
                ("zone=zone1", "zone"),
                ("zone=zone1", "zone"),
            ],
            &["zone in zone1"],
            "err: the selected node node-0 is in zone=zone2…",
            "err: the selected node node-0 is in zone=zone2…",
        ),
        (
            "topo.PreferredTopologies.07",
            DISKS,
            &["disk in ssd, zone in zone1"],
            "disk=ssd,zone=zone1",
            "disk=ssd,rack=rack1,zone=zone1",
        ),
        (
            "topo.PreferredTopologies.08",
            &[
                ("zone=zone10,rack=rack1", "zone,rack"),
                ("zone=zone11,rack=rack2", "zone,rack"),
                ("zone=zone12,rack=rack1", "zone,rack"),
            ],
            &["zone in zone1"],
            "err: the selected node node-0 is in rack=rack1,zone=zone10…",
            "err: the selected node node-0 is in rack=rack1,zone=zone10…",
        ),
    ];
    for (id, nodes, allowed, expected, strict_expected) in rows {
        let mut world = World::on(nodes).allowing(allowed).selecting("node-0");
        world.class().binding_mode = Some(BindingMode::WaitForFirstConsumer);
        world.settings(|world, strict, immediate| {
            let expected = if strict { strict_expected } else { expected };
            let found = world.preferred();
            assert!(
                agrees(&found, expected),
                "{id}, strict {strict}, immediate {immediate}: {found}"
            );
        });
    }
}

#[test]
fn what_is_sent_names_the_requisite_terms_and_the_preferred_order() {
    let plan = World::on(RACKS).named("testset-2").plan();
    let request = plan.request_with(map(&[("password", "x")]));
    assert_eq!(request.secrets, map(&[("password", "x")]));
    let sent = request.accessibility_requirements.expect("a requirement");
    let show = |terms: Vec<proto::Topology>| {
        let terms: Vec<_> = terms
            .into_iter()
            .map(|term| Segment::from(term.segments))
            .collect();
        letters(&texts(terms.iter()))
    };
    assert_eq!(
        (show(sent.requisite), show(sent.preferred)),
        ("A B C D".into(), "B C D A".into())
    );
    let request = world().plan().request_with(map(&[]));
    assert_eq!(request.accessibility_requirements, None, "no topology");
}

#[test]
fn a_thousand_claims_share_one_list_of_terms() {
    let world = World::on(RACKS);
    let first = world.requirement().expect("terms").requisite;
    let world = world.named("another-7");
    assert!(std::sync::Arc::ptr_eq(
        &first,
        &world.requirement().expect("terms").requisite
    ));
}
