//! From where a volume can be reached, as its object says it.

use serde_json::{Value, json};

use super::{
    super::{
        outcome::outcome_of,
        volume::{node_affinity, out_of_reach},
    },
    nodes::segment,
    outcome::made,
    *,
};
use crate::csi::proto::{CreateVolumeResponse, Topology, Volume};

fn topologies(segments: &[&str]) -> Vec<Topology> {
    let topology = |text: &&str| Topology {
        segments: segment(text).into(),
    };
    segments.iter().map(topology).collect()
}

/// What follows when the driver says that the volume is there.
fn object(world: &World, segments: &[&str]) -> Value {
    let volume = Volume {
        volume_id: "vol-1".into(),
        accessible_topology: topologies(segments),
        ..Volume::default()
    };
    let answer = CreateVolumeResponse { volume: Some(volume) };
    serde_json::to_value(made(outcome_of(&world.plan(), Ok(answer)))).expect("JSON")
}

fn is(key: &str, value: &str) -> Value {
    json!({"key": key, "operator": "In", "values": [value]})
}

#[test]
fn d15_each_topology_with_segments_is_a_term_and_without_any_there_is_no_affinity() {
    let rows: [(&str, &[&str], Option<Value>); 7] = [
        ("topo.GenerateVolumeNodeAffinity.01", &[], None),
        ("topo.GenerateVolumeNodeAffinity.02", &[""], None),
        (
            "topo.GenerateVolumeNodeAffinity.03",
            &["zone=a"],
            Some(json!([{"matchExpressions": [is("zone", "a")]}])),
        ),
        (
            "topo.GenerateVolumeNodeAffinity.04",
            &["zone=a,rack=1"],
            Some(json!([{"matchExpressions": [is("rack", "1"), is("zone", "a")]}])),
        ),
        (
            "topo.GenerateVolumeNodeAffinity.05",
            &["zone=b", "zone=a"],
            Some(json!([{"matchExpressions": [is("zone", "b")]}, {"matchExpressions": [is("zone", "a")]}])),
        ),
        (
            "one of them says nothing",
            &["", "zone=a"],
            Some(json!([{"matchExpressions": [is("zone", "a")]}])),
        ),
        ("D-15: all of them say nothing", &["", "", ""], None),
    ];
    for (name, segments, terms) in rows {
        let expected = terms.map(|terms| json!({"required": {"nodeSelectorTerms": terms}}));
        let found = node_affinity(&topologies(segments));
        let found = found.map(|affinity| serde_json::to_value(affinity).expect("JSON"));
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn the_object_has_an_affinity_if_driver_and_gate_know_topology() {
    let here = ["zone=zone1,rack=rack2"];
    let nodes = &[
        ("zone=zone1,rack=rack2", "zone,rack"),
        ("zone=zone1,rack=rack1", "zone,rack"),
    ];
    let affinity = |object: Value| object["spec"]["nodeAffinity"].clone();
    assert_eq!(
        affinity(object(&World::on(nodes), &here)),
        json!({"required": {"nodeSelectorTerms": [
            {"matchExpressions": [is("rack", "rack2"), is("zone", "zone1")]},
        ]}}),
        "ctl.ProvisionWithTopologyEnabled.01"
    );
    assert!(
        World::on(&[]).requisite().starts_with("err: no node"),
        "ctl.ProvisionWithTopologyEnabled.02"
    );
    assert_eq!(
        affinity(object(&world(), &here)),
        Value::Null,
        "ctl.ProvisionWithTopologyEnabled.03"
    );
    assert_eq!(
        affinity(object(&world().selecting("node-0"), &here)),
        Value::Null,
        "ctl.ProvisionWithTopologyDisabled.01"
    );
    let free = World::but(|w| w.policy.immediate_topology = false).with_nodes(nodes);
    assert_ne!(
        affinity(object(&free, &here)),
        Value::Null,
        "whatever was asked for"
    );
}

#[test]
fn a_volume_that_its_selected_node_cannot_reach_is_told_of() {
    let world = World::on(&[("zone=a,rack=1", "zone,rack"), ("zone=b,rack=2", "zone,rack")]);
    let plan = world.selecting("node-0").plan();
    let node = plan.node().expect("a node");
    let rows: [(&str, &[&str], Option<&str>); 7] = [
        ("where the node is", &["rack=1,zone=a"], None),
        ("in a larger part", &["zone=a"], None),
        ("there, too", &["zone=b", "zone=a"], None),
        ("anywhere", &[], None),
        ("anywhere, in other words", &[""], None),
        ("elsewhere", &["zone=b"], Some("zone=b")),
        (
            "where nobody knows of",
            &["moon=far", "zone=b"],
            Some("moon=far or zone=b"),
        ),
    ];
    for (name, segments, place) in rows {
        let volume = Volume {
            volume_id: "vol-1".into(),
            accessible_topology: topologies(segments),
            ..Volume::default()
        };
        let object = made(outcome_of(
            &plan,
            Ok(CreateVolumeResponse { volume: Some(volume) }),
        ));
        let expected = place.map(|place| {
            format!(
                "volume {NAME} was made in {place}, which the selected node node-0 in rack=1,zone=a cannot reach: \
                 the Pod can run only where the volume is"
            )
        });
        assert_eq!(out_of_reach(&object, node), expected, "{name}");
    }
}
