//! The order of terms, and what holds of every list of them.

use std::cmp::Ordering;

use proptest::{collection::vec, option, prelude::*, sample};

use super::{
    super::decide::Decision,
    nodes::{NodeText, node_states, segment, texts},
    *,
};

#[test]
fn terms_are_ordered_as_upstream_orders_them() {
    let sorted = |terms: &[&str]| {
        let mut terms: Vec<_> = terms.iter().map(|term| segment(term)).collect();
        terms.sort();
        texts(terms.iter())
    };
    for (id, terms, expected) in [
        ("topo.TopologyTermSort.01", &[][..], ""),
        ("topo.TopologyTermSort.02", &["zone=a"], "zone=a"),
        ("topo.TopologyTermSort.03", &["zone=a,rack=1"], "rack=1,zone=a"),
        (
            "topo.TopologyTermSort.04",
            &["zone=b", "zone=a"],
            "zone=a; zone=b",
        ),
    ] {
        assert_eq!(sorted(terms), expected, "{id}");
    }
    for (id, smaller, greater) in [
        ("topo.TopologyTermCompare.01", "zone=b", "rack=a,zone=a"),
        ("topo.TopologyTermCompare.02", "rack=b,zone=b", "region=a,zone=a"),
        ("topo.TopologyTermCompare.03", "rack=a,zone=a", "rack=a,zone=b"),
    ] {
        let (smaller, greater) = (segment(smaller), segment(greater));
        assert_eq!(smaller.cmp(&greater), Ordering::Less, "{id}");
        assert_eq!(greater.cmp(&smaller), Ordering::Greater, "{id}");
        assert_eq!(greater.cmp(&greater.clone()), Ordering::Equal, "{id}");
    }
    for (id, term, other, expected) in [
        ("topo.TopologyTermSubset.01", "", "", true),
        ("topo.TopologyTermSubset.02", "", "zone=a", true),
        ("topo.TopologyTermSubset.03", "zone=a", "", false),
        (
            "topo.TopologyTermSubset.04",
            "rack=1,zone=a",
            "rack=1,zone=a",
            true,
        ),
        ("topo.TopologyTermSubset.05", "rack=1", "rack=1,zone=a", true),
        ("topo.TopologyTermSubset.06", "rack=1,zone=a", "rack=1", false),
        ("topo.TopologyTermSubset.07", "zone=a", "rack=1,zone=a", true),
        ("topo.TopologyTermSubset.08", "rack=1,zone=a", "zone=a", false),
        ("topo.TopologyTermSubset.09", "rack=1", "zone=a", false),
    ] {
        assert_eq!(segment(term).is_subset_of(&segment(other)), expected, "{id}");
    }
}

/// Labels of a Node and what is registered there.
fn any_node() -> impl Strategy<Value = NodeText> {
    const LABELS: [&str; 6] = ["", "zone=a", "zone=b", "zone=a,rack=1", "zone=b,rack=2", "-"];
    const KEYS: [&str; 6] = ["zone", "rack", "zone,rack", "no keys", "no driver", "-"];
    (sample::select(&LABELS[..]), sample::select(&KEYS[..]))
}

proptest! {
    #[test]
    fn preferred_is_a_rotation_that_the_selected_node_leads(
        nodes in vec(any_node(), 0..7),
        selected in option::of(0_usize..7),
        allowed in sample::subsequence(vec!["zone in a b", "zone in a, rack in 1", "rack in 2"], 0..3),
        name in "[a-c]{0,2}(-[a-c])?(-[0-9]{1,3})?",
        strict: bool,
        immediate: bool,
    ) {
        let mut world = World::on(&nodes).allowing(&allowed).named(&name);
        (world.policy.strict_topology, world.policy.immediate_topology) = (strict, immediate);
        if let Some(n) = selected {
            world = world.selecting(&format!("node-{n}"));
        }
        let backwards = node_states(&nodes).into_iter().rev();
        let mut other = World::on(&[]).allowing(&allowed).named(&name);
        (other.claim, other.policy) = (world.claim.clone(), world.policy.clone());
        other.nodes = Some(ClusterTopology::new(backwards, false));
        prop_assert_eq!(world.preferred(), other.preferred(), "the order of the nodes does not matter");

        let Decision::Provision(plan) = world.decide() else { return Ok(()) };
        let placement = plan.placement.expect("topology");
        if let Some(requirement) = placement.requirement {
            let mut preferred: Vec<_> = requirement.preferred().cloned().collect();
            prop_assert!(requirement.requisite.is_sorted() && !preferred.is_empty());
            if let Some(node) = placement.node {
                prop_assert!(preferred[0].is_subset_of(&node.segment));
            }
            preferred.sort();
            prop_assert_eq!(&*preferred, &*requirement.requisite);
        }
    }
}
