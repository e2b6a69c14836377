//! Of which nodes the terms of a request are made.

use std::collections::BTreeSet;

use super::{
    nodes::{NodeText, agrees, cluster},
    *,
};

struct Row {
    id: &'static str,
    /// node-0 is selected.
    selected: bool,
    nodes: &'static [NodeText],
    expected: &'static str,
    strict: &'static str,
}

const fn any(id: &'static str, nodes: &'static [NodeText], expected: &'static str) -> Row {
    Row {
        id,
        selected: false,
        nodes,
        expected,
        strict: expected,
    }
}

const fn first(
    id: &'static str,
    nodes: &'static [NodeText],
    expected: &'static str,
    strict: &'static str,
) -> Row {
    Row {
        id,
        selected: true,
        nodes,
        expected,
        strict,
    }
}

#[rustfmt::skip] // One line per node.
const ROWS: [Row; 24] = [
    any("topo.TopologyAggregation.01", &[
        ("zone=zone1", "zone"),
        ("zone=zone1", "zone"),
        ("zone=zone1", "zone"),
    ], "zone=zone1"),
    first("topo.TopologyAggregation.02", &[
        ("zone=zone1", "zone"),
        ("zone=zone1", "zone"),
        ("zone=zone1", "zone"),
    ], "zone=zone1", "zone=zone1"),
    any("topo.TopologyAggregation.03", &[
        ("zone=zone1", "zone"),
        ("zone=zone2", "zone"),
        ("zone=zone2", "zone"),
    ], "zone=zone1; zone=zone2"),
    first("topo.TopologyAggregation.04", &[
        ("zone=zone1", "zone"),
        ("zone=zone2", "zone"),
        ("zone=zone2", "zone"),
    ], "zone=zone1; zone=zone2", "zone=zone1"),
    any("topo.TopologyAggregation.05", &[
        ("zone=zone1", "zone"),
        ("zone=zone1,rack=rackA", "zone,rack"),
        ("zone=zone1,rack=rackA", "zone,rack"),
    ], "zone=zone1; rack=rackA,zone=zone1"),
    any("topo.TopologyAggregation.06", &[
        ("region=us-east", "region"),
        ("region=us-west,zone=zone1", "region,zone"),
        ("region=us-west,zone=zone2", "region,zone"),
    ], "region=us-east; region=us-west; region=us-west,zone=zone1; region=us-west,zone=zone2"),
    any("topo.TopologyAggregation.07", &[
        ("region=us-east", "region"),
        ("zone=zone1", "zone"),
    ], "region=us-east; zone=zone1"),
    any("topo.TopologyAggregation.08", &[
        ("region=us-east,zone=zone1", "region"),
        ("region=us-west,zone=zone2", "zone"),
    ], "region=us-east; zone=zone2"),
    any("topo.TopologyAggregation.09", &[
        ("region=us-east", "region"),
        ("zone=zone1", "zone"),
        ("region=us-west,zone=zone2", "no keys"),
    ], "region=us-east; zone=zone1"),
    any("topo.TopologyAggregation.10", &[
        ("region=us-east,zone=zone1", "region"),
        ("region=us-east,zone=zone2", "region,zone"),
    ], "region=us-east; region=us-east,zone=zone2"),
    first("topo.TopologyAggregation.11", &[
        ("zone=zone1", "zone"),
        ("zone=zone1,rack=rackA", "zone,rack"),
        ("zone=zone1,rack=rackA", "zone,rack"),
    ], "zone=zone1", "zone=zone1"),
    first("topo.TopologyAggregation.12", &[
        ("zone=zone1", "zone"),
        ("zone=zone2", "no keys"),
        ("zone=zone3", "zone"),
    ], "zone=zone1; zone=zone3", "zone=zone1"),
    first("topo.TopologyAggregation.13", &[
        ("zone=zone1", "zone"),
        ("zone=zone2", "no driver"),
    ], "zone=zone1", "zone=zone1"),
    first("topo.TopologyAggregation.14", &[
        ("region=us-east", "region"),
        ("region=us-west,zone=zone1", "zone"),
        ("region=us-central,zone=zone2", "region,zone"),
    ], "region=us-central; region=us-east", "region=us-east"),
    any("topo.TopologyAggregation.15", &[
        ("-", "zone"),
        ("-", "zone"),
        ("-", "zone"),
    ], "err: no node has the driver registered…"),
    any("topo.TopologyAggregation.16", &[
        ("foreign=x", "zone"),
        ("-", "zone"),
        ("-", "zone"),
    ], "err: no node has the driver registered…"),
    any("topo.TopologyAggregation.17", &[
        ("zone=zone1", "-"),
        ("zone=zone2", "-"),
        ("zone=zone2", "-"),
    ], "err: no node has the driver registered…"),
    any("topo.TopologyAggregation.18", &[
        ("zone=zone1", "no keys"),
        ("zone=zone2", "no keys"),
        ("zone=zone2", "no keys"),
    ], "err: no node has the driver registered…"),
    any("topo.TopologyAggregation.19", &[
        ("foreign=x", "no keys"),
        ("foreign=x", "no keys"),
        ("zone=zone3", "zone"),
    ], "zone=zone3"),
    any("topo.TopologyAggregation.20", &[
        ("zone=zone1", "no keys"),
        ("zone=zone2", "no keys"),
        ("zone=zone3", "zone"),
    ], "zone=zone3"),
    any("topo.TopologyAggregation.21", &[
        ("zone=zone1", "zone"),
        ("zone=zone2", "no driver"),
    ], "zone=zone1"),
    first("topo.TopologyAggregation.22", &[
        ("foreign=x", "zone"),
        ("-", "zone"),
        ("-", "zone"),
    ], "err: node node-0 has no label zone…", "err: node node-0 has no label zone…"),
    first("topo.TopologyAggregation.23", &[
        ("zone=zone1", "-"),
        ("zone=zone2", "-"),
        ("zone=zone2", "-"),
    ], "reschedule: node-0…", "reschedule: node-0…"),
    first("topo.TopologyAggregation.24", &[
        ("zone=zone1", "no keys"),
        ("zone=zone2", "no keys"),
        ("zone=zone2", "no keys"),
    ], "err: the driver has registered no topology keys on node node-0…",
       "err: the driver has registered no topology keys on node node-0…"),
];

#[test]
fn d75_each_node_counts_for_every_set_of_keys_that_its_own_registration_covers() {
    for row in ROWS {
        let world = World::on(row.nodes);
        let world = match row.selected {
            true => world.selecting("node-0"),
            false => world,
        };
        world.settings(|world, strict, immediate| {
            let expected = match (row.selected, strict, immediate) {
                (false, _, false) => "none",
                (_, true, _) => row.strict,
                _ => row.expected,
            };
            let found = world.requisite();
            assert!(
                agrees(&found, expected),
                "{}, strict {strict}, immediate {immediate}: {found}",
                row.id
            );
        });
    }
}

#[test]
fn d73_the_selected_node_leads_even_if_no_other_node_is_like_it() {
    let others: &[NodeText] = &[
        ("zone=z", "zone"),
        ("zone=a", "zone"),
        ("zone=b,rack=1", "zone,rack"),
    ];
    for (node, leads) in [
        ("node-0", "zone=z"),
        ("node-1", "zone=a"),
        ("node-2", "rack=1,zone=b"),
    ] {
        let found = World::on(others).selecting(node).preferred();
        assert!(found.starts_with(leads), "D-73: {node}: {found}");
    }
}

/// The sets of keys that occur in the terms of a cluster.
fn key_sets(topology: &ClusterTopology) -> Vec<String> {
    let terms = topology.terms();
    let keys = terms.iter().map(|term| {
        let keys: Vec<_> = term.iter().map(|(key, _)| key).collect();
        keys.join("+")
    });
    keys.collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn each_distinct_set_of_registered_keys_counts_once() {
    const HERE: &str = "region=r,zone=z";
    let rows: [(&str, &[NodeText], &[&str]); 7] = [
        ("topo.DistinctTopologyKeySets.01", &[(HERE, "-")], &[]),
        (
            "topo.DistinctTopologyKeySets.02",
            &[(HERE, "no keys"), (HERE, "no keys")],
            &[],
        ),
        (
            "topo.DistinctTopologyKeySets.03",
            &[(HERE, "region,zone"), (HERE, "region,zone")],
            &["region+zone"],
        ),
        (
            "topo.DistinctTopologyKeySets.04",
            &[(HERE, "region,zone"), (HERE, "zone,region")],
            &["region+zone"],
        ),
        (
            "topo.DistinctTopologyKeySets.05",
            &[(HERE, "region"), (HERE, "region,zone")],
            &["region", "region+zone"],
        ),
        (
            "topo.DistinctTopologyKeySets.06",
            &[(HERE, "no keys"), (HERE, "zone")],
            &["zone"],
        ),
        (
            "topo.DistinctTopologyKeySets.07",
            &[(HERE, "zone"), (HERE, "region")],
            &["region", "zone"],
        ),
    ];
    for (id, nodes, expected) in rows {
        assert_eq!(key_sets(&cluster(nodes)), expected, "{id}");
    }
}

#[test]
fn what_is_registered_is_known_node_by_node() {
    const HERE: &str = "region=r,zone=z";
    type Row = (&'static str, &'static [NodeText], [Option<&'static str>; 2]);
    let rows: [Row; 5] = [
        (
            "topo.RegisteredTopologyKeys.01",
            &[(HERE, "-"), (HERE, "-")],
            [None, None],
        ),
        (
            "topo.RegisteredTopologyKeys.02",
            &[(HERE, "zone"), (HERE, "zone")],
            [Some("zone=z"), Some("zone=z")],
        ),
        (
            "topo.RegisteredTopologyKeys.03",
            &[(HERE, "no keys"), (HERE, "zone")],
            [None, Some("zone=z")],
        ),
        (
            "topo.RegisteredTopologyKeys.04",
            &[(HERE, "region"), (HERE, "region,zone")],
            [Some("region=r"), Some(HERE)],
        ),
        (
            "topo.RegisteredTopologyKeys.05",
            &[(HERE, "region,zone"), (HERE, "zone,region")],
            [Some(HERE), Some(HERE)],
        ),
    ];
    for (id, nodes, expected) in rows {
        let topology = cluster(nodes);
        let found = ["node-0", "node-1"].map(|node| topology.segment_of(node).ok());
        let found = found.map(|segment| segment.map(|segment| segment.to_string()));
        assert_eq!(found, expected.map(|text| text.map(str::to_owned)), "{id}");
    }
}
