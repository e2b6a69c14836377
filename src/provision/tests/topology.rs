//! What becomes of a claim when the nodes are not as its volume needs them.

use std::sync::Arc;

use super::{
    super::{
        decide::{Decision, Wait, can_reschedule, concerns},
        refusal::Refusal,
        topology::Placement,
    },
    nodes::{NodeText, agrees, cluster, node_states, segment},
    *,
};
use crate::cluster::{
    objects::{BindingMode, SELECTED_NODE, SELECTED_NODE_ALPHA},
    topology::{NodeProblem, NodeState, Registration, TopologyKeys},
};

const ZONES: &[NodeText] = &[("zone=a", "zone"), ("zone=b", "zone")];

fn gone(node: &str) -> NodeProblem {
    NodeProblem::NoCsiNode { node: node.into() }
}

#[test]
fn d7_a_claim_whose_node_is_gone_goes_back_to_the_scheduler() {
    let back = || Decision::Reschedule("gone".into(), gone("gone"));
    let world = World::on(ZONES).selecting("gone");
    assert!(concerns(&world.claim, DRIVER), "ctl.ShouldProvision.41");
    assert_eq!(world.decide(), back(), "ctl.Provision.41");
    world.settings(|world, _, _| assert_eq!(world.decide(), back(), "D-7"));
    // Whether it waited for the node or not.
    let mut world = World::on(ZONES).allowing(&["zone in a"]).selecting("gone");
    world.class().binding_mode = Some(BindingMode::WaitForFirstConsumer);
    assert_eq!(world.decide(), back());
    world.in_progress = true;
    assert_eq!(world.decide(), Decision::Resume, "the volume may come to exist");
}

#[test]
fn a_node_that_the_scheduler_does_not_know_to_have_chosen_stays() {
    let mut world = World::on(ZONES);
    world.annotate(SELECTED_NODE_ALPHA, "gone");
    assert!(!can_reschedule(&world.claim));
    assert_eq!(world.decide(), Refusal::Node(gone("gone")).into());
    world.annotate(SELECTED_NODE, "");
    assert!(!can_reschedule(&world.claim), "nothing is selected there");
    world.annotate(SELECTED_NODE_ALPHA, "node-1");
    world.annotate(SELECTED_NODE, "node-0");
    assert!(can_reschedule(&world.claim));
    assert_eq!(world.preferred(), "zone=a; zone=b", "the newer annotation wins");
    world.claim.annotations.remove(SELECTED_NODE);
    assert_eq!(world.preferred(), "zone=b; zone=a");
}

#[test]
fn what_is_missing_at_the_selected_node_is_named_and_waited_for() {
    let rows: [(&str, NodeText, &str); 6] = [
        (
            "no driver",
            ("zone=a", "no driver"),
            "err: the driver is not registered on node node-0…",
        ),
        (
            "no keys",
            ("zone=a", "no keys"),
            "err: the driver has registered no topology keys on node node-0…",
        ),
        ("no node", ("-", "zone"), "err: node node-0 does not exist"),
        (
            "no label",
            ("rack=1", "zone"),
            "err: node node-0 has no label zone…",
        ),
        (
            "topo.NodeTopologyLabelFallback.01",
            ("region=r,zone=a,rack=1", "region,zone,rack,shelf"),
            "err: node node-0 has no label shelf…",
        ),
        (
            "topo.NodeTopologyLabelFallback.02",
            ("region=r,zone=a,rack=1,shelf=2", "region,zone,rack,shelf"),
            "rack=1,region=r,shelf=2,zone=a",
        ),
    ];
    for (name, node, expected) in rows {
        let world = World::on(&[node, ("zone=b", "rack")]).selecting("node-0");
        let found = world.preferred();
        assert!(agrees(&found, expected), "{name}: {found}");
        assert_eq!(
            world.decide().waits_for_nodes(),
            expected.starts_with("err"),
            "{name}"
        );
    }
    let empty = World::on(&[("zone=,rack=1", "zone")]).selecting("node-0");
    assert_eq!(empty.preferred(), "zone=", "an empty value is a value");
}

#[test]
fn claims_wait_for_nodes_where_nodes_can_help() {
    let wrong_place = World::on(ZONES).allowing(&["zone in b"]).selecting("node-0");
    assert!(wrong_place.decide().waits_for_nodes());
    assert!(World::on(&[]).decide().waits_for_nodes());
    assert!(!World::on(ZONES).decide().waits_for_nodes());
    assert!(
        World::on(ZONES).selecting("gone").decide().waits_for_nodes(),
        "until the node is off"
    );
    assert!(!World::on(ZONES).allowing(&["zone in"]).decide().waits_for_nodes());
    assert!(!World::but(|w| w.class = None).decide().waits_for_nodes());
}

#[test]
fn labels_that_are_being_read_are_waited_for_by_whom_they_concern() {
    let wait = Decision::Wait(Wait::Nodes, Wait::FOR_NODES);
    let unread = |world: World| {
        let mut world = world;
        let nodes = [("zone=a", "zone"), ("zone=b", "zone,rack")];
        world.nodes = Some(ClusterTopology::new(node_states(&nodes), true));
        world
    };
    let rows = [
        ("the cluster", world(), true),
        ("a node whose labels are read", world().selecting("node-0"), false),
        (
            "a node whose rack is being read",
            world().selecting("node-1"),
            true,
        ),
        (
            "such a node of those allowed",
            world().selecting("node-1").allowing(&["zone in b"]),
            true,
        ),
        ("what is allowed", world().allowing(&["zone in a"]), false),
        (
            "nothing",
            World::but(|w| w.policy.immediate_topology = false),
            false,
        ),
    ];
    for (name, world, waits) in rows {
        let decision = unread(world).decide();
        assert_eq!(decision == wait, waits, "{name}");
        assert_eq!(decision.waits_for_nodes(), waits, "{name}");
    }
}

#[test]
fn d74_a_roll_out_of_the_node_plugin_takes_no_zone_away() {
    let mut nodes = node_states(&[("zone=a", "no driver"), ("zone=b", "zone")]);
    nodes[0].vanished = Some(Arc::new(["zone".to_owned()].into()));
    let mut world = World::on(&[]);
    world.nodes = Some(ClusterTopology::new(nodes, false));
    assert_eq!(world.requisite(), "zone=a; zone=b", "D-74");
    let world = world.selecting("node-0");
    assert!(
        world.preferred().starts_with("err: the driver is not registered"),
        "now is what counts"
    );
}

/// Upstream repeats the terms that it has memorised for a claim. Here the record repeats the request, and without a
/// record nothing has been sent that would have to be repeated.
#[test]
fn d6_a_request_that_was_sent_is_repeated_whatever_becomes_of_the_nodes() {
    const NODES: &[NodeText] = &[
        ("zone=zone1,rack=rackA", "zone,rack"),
        ("zone=zone2,rack=rackB", "zone,rack"),
        ("zone=zone3,rack=rackC", "zone,rack"),
    ];
    const TWO: &[&str] = &["zone in zone1, rack in rackA", "zone in zone2, rack in rackB"];
    type Row = (
        &'static str,
        Option<&'static str>,
        bool,
        &'static [&'static str],
        &'static str,
    );
    let rows: [Row; 9] = [
        (
            "topo.ProvisionWithDeletedNodeFromCache.01",
            Some("node-0"),
            false,
            &[],
            "1 2 3",
        ),
        (
            "topo.ProvisionWithDeletedNodeFromCache.02",
            Some("node-1"),
            false,
            &[],
            "2 3 1",
        ),
        (
            "topo.ProvisionWithDeletedNodeFromCache.03",
            Some("node-0"),
            false,
            TWO,
            "1 2",
        ),
        (
            "topo.ProvisionWithDeletedNodeFromCache.04",
            Some("node-0"),
            true,
            &[],
            "1",
        ),
        (
            "topo.ProvisionWithDeletedNodeFromCache.05",
            Some("node-0"),
            true,
            TWO,
            "1",
        ),
        (
            "topo.ProvisionWithDeletedNodeFromCache.06",
            None,
            false,
            &[],
            "3 1 2",
        ),
        (
            "topo.ProvisionWithDeletedNodeFromCache.07",
            None,
            false,
            TWO,
            "1 2",
        ),
        (
            "topo.ProvisionWithDeletedNodeFromCache.08",
            None,
            true,
            &[],
            "3 1 2",
        ),
        (
            "topo.ProvisionWithDeletedNodeFromCache.09",
            None,
            true,
            TWO,
            "1 2",
        ),
    ];
    for (id, node, strict, allowed, expected) in rows {
        let mut world = World::on(NODES).allowing(allowed).named("testpvc");
        world.policy.strict_topology = strict;
        if let Some(node) = node {
            world = world.selecting(node);
        }
        let plan = world.plan();
        let sent = plan.request_with(map(&[]));
        let numbers: Vec<_> = sent
            .accessibility_requirements
            .iter()
            .flat_map(|sent| &sent.preferred)
            .collect();
        let numbers: Vec<_> = numbers.iter().map(|term| &term.segments["zone"][4..]).collect();
        assert_eq!(numbers.join(" "), expected, "{id}");
        let requisite = sent
            .accessibility_requirements
            .iter()
            .flat_map(|sent| &sent.requisite);
        let requisite: Vec<_> = requisite.map(|term| &term.segments["zone"][4..]).collect();
        let mut sorted: Vec<_> = expected.split(' ').collect();
        sorted.sort_unstable();
        assert_eq!(requisite, sorted, "{id}");
        world.nodes = Some(ClusterTopology::default());
        world.in_progress = true;
        assert_eq!(world.decide(), Decision::Resume, "{id}");
        assert_eq!(plan.request_with(map(&[])), sent, "{id}");
    }
}

/// Upstream keeps labels, keys and terms for each claim.
#[test]
fn d6_nothing_about_nodes_is_remembered_for_a_claim_but_what_was_sent() {
    const IDS: [&str; 9] = [
        "memo.cache-tests.01: nothing else is memorised for a claim",
        "memo.cache-tests.02: nothing else is memorised for a claim",
        "memo.cache-tests.03: nothing else is memorised for a claim",
        "memo.cache-tests.04: nothing else is memorised for a claim",
        "memo.cache-tests.05: nothing else is memorised for a claim",
        "memo.cache-tests.06: nothing else is memorised for a claim",
        "memo.cache-tests.07: nothing else is memorised for a claim",
        "memo.cache-tests.08: nothing else is memorised for a claim",
        "memo.cache-tests.09: nothing else is memorised for a claim",
    ];
    for id in IDS {
        let mut world = World::on(ZONES).selecting("node-0");
        let plan = world.plan();
        let sent = plan.request_with(map(&[]));
        world = world.with_nodes(&[("rack=1", "rack")]);
        assert_eq!(world.preferred(), "rack=1", "D-6: {id}: nothing was sent");
        assert_eq!(
            plan.request_with(map(&[])),
            sent,
            "{id}: what was sent stays as it is"
        );
        world.in_progress = true;
        assert_eq!(world.decide(), Decision::Resume, "{id}: something was sent");
    }
}

#[test]
fn what_claim_class_and_nodes_say_reaches_the_plan() {
    let allowing: &[&str] = &["zone in b"];
    let rows: [(&str, Option<&str>, &[&str], &str); 4] = [
        ("lib.TopologyParams.01", None, &[], "none"),
        ("lib.TopologyParams.02", None, allowing, "zone=b"),
        ("lib.TopologyParams.03", Some("node-1"), &[], "zone=b; zone=a"),
        ("lib.TopologyParams.04", Some("node-1"), allowing, "zone=b"),
    ];
    for (id, node, allowed, expected) in rows {
        let mut world = World::on(ZONES).allowing(allowed);
        world.policy.immediate_topology = false;
        if let Some(node) = node {
            world = world.selecting(node);
        }
        assert_eq!(world.preferred(), expected, "{id}");
        let Placement { node: found, .. } = world.plan().placement.expect("topology");
        assert_eq!(found.map(|node| node.name), node.map(str::to_owned), "{id}");
    }
}

/// A driver without topology is asked for none, whatever nodes and class say.
#[test]
fn without_topology_nothing_about_nodes_matters() {
    let world = world().allowing(&["zone in"]).selecting("gone");
    let plan = world.plan();
    assert_eq!((plan.placement.as_ref(), plan.node()), (None, None));
}

#[test]
fn the_decision_of_a_claim_costs_no_more_on_many_nodes() {
    // One zone each: the longest list there can be.
    let keys = Arc::new(TopologyKeys::from(["zone".to_owned()]));
    let nodes = (0..5_000).map(|n| NodeState {
        name: format!("node-{n}"),
        labels: Some(segment(&format!("zone=z{n:04}"))),
        registration: Registration::Keys(keys.clone()),
        vanished: None,
    });
    let mut world = World::on(&[]);
    world.nodes = Some(ClusterTopology::new(nodes, false));
    let world = world.selecting("node-4999");
    let first = world.requirement().expect("terms");
    assert_eq!((first.requisite.len(), first.start), (5_000, 4_999));
    // Nothing but a rotation: the list itself is the same one.
    let again = world.requirement().expect("terms");
    assert!(Arc::ptr_eq(&first.requisite, &again.requisite));

    let fastest = |world: &World| {
        let time = |_| {
            let began = std::time::Instant::now();
            assert!(matches!(world.decide(), Decision::Provision(_)));
            began.elapsed()
        };
        (0..100).map(time).min().expect("a hundred")
    };
    let few = fastest(&World::on(ZONES).selecting("node-0"));
    let many = fastest(&world);
    assert!(
        many < few + Duration::from_millis(1),
        "{many:?} on 5,000 nodes, {few:?} on two"
    );
}

#[test]
fn a_cluster_of_one_node_is_enough() {
    let mut world = World::on(&[]);
    world.nodes = Some(cluster(&[("zone=a", "zone")]));
    assert_eq!(world.preferred(), "zone=a");
}
