//! Upstream's cases for the segments of a cluster: what the nodes were and what they are.

use std::{collections::BTreeSet, sync::Arc};

use super::{class, segment};
use crate::{
    capacity::segments::Desired,
    cluster::topology::{ClusterTopology, NodeState, Registration},
};

/// What the CSINode object of a node says.
#[derive(Clone, Copy)]
enum CsiNodeFact {
    Absent,
    OtherDriver,
    Keys(&'static [&'static str]),
}
use CsiNodeFact::{Absent, Keys, OtherDriver};

/// A node: its name, its labels, `None` if there is no Node, and its CSINode.
type Fact = (&'static str, Option<&'static str>, CsiNodeFact);

fn state((name, labels, csi_node): &Fact) -> NodeState {
    NodeState {
        name: (*name).to_owned(),
        labels: labels.map(segment),
        registration: match csi_node {
            Absent => Registration::NoCsiNode,
            OtherDriver => Registration::NoDriver,
            Keys(keys) => Registration::Keys(Arc::new(keys.iter().map(|key| (*key).to_owned()).collect())),
        },
        vanished: None,
    }
}

fn desired(nodes: impl IntoIterator<Item = NodeState>) -> Desired {
    let topology = ClusterTopology::new(nodes, false);
    Desired::new(&[class("direct")], topology.segments().clone(), false)
}

const HOST: CsiNodeFact = Keys(&["host"]);
const DEEP: CsiNodeFact = Keys(&["zone", "rack", "host"]);
const NODE1: Fact = ("node1", Some("host=1"), HOST);
const GONE: &[Fact] = &[];

#[test]
fn segments_follow_the_nodes_and_only_the_difference_is_looked_at() {
    /// The id, the nodes before and after, and the segments after.
    type Row = (
        &'static str,
        &'static [Fact],
        &'static [Fact],
        &'static [&'static str],
    );
    #[rustfmt::skip]
    let rows: &[Row] = &[
        ("seg.NodeTopology.01", GONE, GONE, &[]),
        ("seg.NodeTopology.02", GONE, &[NODE1], &["host=1"]),
        ("seg.NodeTopology.03", GONE, &[("node1", Some("host=1"), Absent)], &[]),
        ("seg.NodeTopology.04", GONE, &[("node1", None, HOST)], &[]),
        ("seg.NodeTopology.05", GONE, &[("node1", Some(""), HOST)], &[]),
        ("seg.NodeTopology.06", GONE, &[NODE1, ("node2", Some("host=2"), HOST)], &["host=1", "host=2"]),
        ("seg.NodeTopology.07", GONE, &[NODE1, ("node2", Some("host=1"), HOST)], &["host=1"]),
        (
            "seg.NodeTopology.08",
            GONE,
            &[("node1", Some("host=other"), HOST), ("node2", Some("host=other"), HOST)],
            &["host=other"],
        ),
        (
            "seg.NodeTopology.09",
            GONE,
            &[
                ("node1", Some("zone=a,rack=1,host=x"), DEEP),
                ("node2", Some("zone=a,rack=1,host=x"), DEEP),
            ],
            &["zone=a,rack=1,host=x"],
        ),
        (
            "seg.NodeTopology.10",
            GONE,
            &[NODE1, ("node2", Some("zone=a,rack=1,host=x"), DEEP)],
            &["host=1", "zone=a,rack=1,host=x"],
        ),
        (
            "seg.NodeTopology.11",
            GONE,
            &[
                ("node1", Some("zone=a,rack=1,host=x"), DEEP),
                ("node2", Some("zone=a,rack=1,host=y"), DEEP),
            ],
            &["zone=a,rack=1,host=x", "zone=a,rack=1,host=y"],
        ),
        (
            "seg.NodeTopology.12",
            GONE,
            &[
                ("node1", Some("zone=a,host=x"), Keys(&["zone", "host"])),
                ("node2", Some("host=x,zone=a"), Keys(&["host", "zone"])),
            ],
            &["zone=a,host=x"],
        ),
        ("seg.NodeTopology.13", GONE, &[("node1", Some("host=1"), OtherDriver)], &[]),
        ("seg.NodeTopology.15", &[NODE1], &[("node1", None, HOST)], &[]),
        ("seg.NodeTopology.17", &[("node1", Some(""), OtherDriver)], &[NODE1], &["host=1"]),
        ("seg.NodeTopology.18", &[("node1", Some(""), OtherDriver)], &[("node1", Some("host=1"), OtherDriver)], &[]),
        ("seg.NodeTopology.19", &[("node1", Some(""), OtherDriver)], &[("node1", Some(""), HOST)], &[]),
        ("seg.NodeTopology.20", &[("node1", None, HOST)], &[NODE1], &["host=1"]),
        ("seg.NodeTopology.21", &[("node1", Some("host=1"), Absent)], &[NODE1], &["host=1"]),
        (
            "seg.NodeTopology.22",
            &[NODE1],
            &[("node1", Some("host=2"), HOST)],
            &["host=2"],
        ),
    ];
    for (id, before, after, expected) in rows {
        let (before, after) = (
            desired(before.iter().map(state)),
            desired(after.iter().map(state)),
        );
        let texts = |desired: &Desired| -> BTreeSet<_> {
            let items = desired.items().filter_map(|item| item.segment);
            items.map(|segment| segment.to_string()).collect()
        };
        let expected: BTreeSet<_> = expected.iter().map(|text| segment(text).to_string()).collect();
        assert_eq!(texts(&after), expected, "{id}");
        let changed: BTreeSet<_> = after
            .difference(&before)
            .into_iter()
            .filter_map(|item| item.segment)
            .collect();
        let changed: BTreeSet<_> = changed.iter().map(ToString::to_string).collect();
        let difference: BTreeSet<_> = texts(&before).symmetric_difference(&expected).cloned().collect();
        assert_eq!(changed, difference, "{id}");
        assert!(
            after.difference(&after).is_empty(),
            "{id}: silence without a change"
        );
    }
}

#[test]
fn a_node_plugin_that_is_replaced_takes_no_segment_away() {
    for id in [
        "seg.NodeTopology.14: registrations that have vanished",
        "seg.NodeTopology.16: registrations that have vanished",
    ] {
        let before = desired([state(&NODE1)]);
        let mut replaced = state(&NODE1);
        replaced.vanished = Some(Arc::new(["host".to_owned()].into()));
        replaced.registration = Registration::NoDriver;
        let mut gone = replaced.clone();
        assert!(desired([replaced]).difference(&before).is_empty(), "{id}");
        gone.vanished = None;
        assert_eq!(
            desired([gone]).difference(&before).len(),
            1,
            "{id}: two minutes later"
        );
    }
}

#[test]
fn d25_many_nodes_of_a_zone_are_one_segment() {
    let nodes = (0..5000).map(|number| {
        let mut node = state(&("n", Some("zone=a"), Keys(&["zone"])));
        node.name = format!("node-{number}");
        node
    });
    assert_eq!(desired(nodes).len(), 1, "D-25");
}
