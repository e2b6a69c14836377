//! The scheduler of the sandbox: it names nodes on claims, names others, and binds pods. And rights that go.

#![allow(missing_docs, reason = "the names of the tests say it")]

use std::time::Duration;

use sandbox::World;
use serde_json::{Value, json};
use tokio::time::Instant;

const CLAIMS: &str = "persistentvolumeclaims";
const SELECTED: &str = "volume.kubernetes.io/selected-node";

/// A class that waits, and a node in each of three zones.
fn world() -> World {
    let world = World::new("d.example.com").class_with("slow", |class| {
        class["volumeBindingMode"] = "WaitForFirstConsumer".into();
    });
    ["a", "b", "c"].iter().fold(world, |world, zone| {
        world.node(&format!("node-{zone}"), &[("zone", zone)])
    })
}

async fn selected(world: &World, node: &str) {
    let named = |world: &World| world.selected_node("default", "data") == node;
    world.eventually(&format!("{node} is named"), named).await;
}

fn take_off(world: &World) {
    world.api.edit(CLAIMS, "default", "data", |claim| {
        let annotations = claim["metadata"]["annotations"].as_object_mut();
        annotations.and_then(|annotations| annotations.remove(SELECTED));
    });
}

/// What a provisioner writes.
fn volume(world: &World, zone: &str) {
    let claim = world.api.get(CLAIMS, "default", "data").unwrap();
    let expression = json!({"key": "zone", "operator": "In", "values": [zone]});
    world.api.create(
        "persistentvolumes",
        "",
        json!({
            "metadata": {"name": "pv"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
                "csi": {"driver": "d.example.com", "volumeHandle": "pv"},
                "claimRef": {"namespace": "default", "name": "data", "uid": claim["metadata"]["uid"]},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            },
        }),
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_gets_a_node_when_a_pod_needs_it_and_another_when_the_node_is_taken_off() {
    let world = world().claim("default", "data", "1Gi");
    world.scheduler.prefer(&["node-b"]);
    let none = |world: &World| world.selected_node("default", "data").is_empty();
    world
        .always("nobody needs it", Duration::from_secs(60), none)
        .await;
    world.add_pod("default", "pod", &["data"]);
    selected(&world, "node-b").await;
    for node in ["node-a", "node-c", "node-b"] {
        let began = Instant::now();
        take_off(&world);
        selected(&world, node).await;
        assert!(began.elapsed() >= Duration::from_secs(1), "not at once");
    }
    world.remove_node("node-a");
    take_off(&world);
    selected(&world, "node-c").await;
    volume(&world, "c");
    world
        .eventually("bound", |world| world.pod_node("default", "pod") == "node-c")
        .await;

    // A claim in use stays.
    world.api.delete(CLAIMS, "default", "data");
    let there = |world: &World| world.api.len(CLAIMS) == 1;
    world.always("it stays", Duration::from_secs(60), there).await;
    world.api.delete("pods", "default", "pod");
    world
        .eventually("it goes", |world| world.api.len(CLAIMS) == 0)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_goes_where_its_volume_is_whatever_was_named() {
    let world = world()
        .claim("default", "data", "1Gi")
        .pod("default", "pod", &["data"]);
    selected(&world, "node-a").await;
    volume(&world, "b");
    world
        .eventually("bound", |world| world.pod_node("default", "pod") == "node-b")
        .await;
}

#[tokio::test(start_paused = true)]
async fn only_nodes_that_the_class_the_pod_and_the_published_capacity_allow_are_named() {
    let capacity = |zone: &str, size: &str| {
        json!({
            "metadata": {"generateName": "capacity-"}, "storageClassName": "slow", "capacity": size,
            "nodeTopology": {"matchLabels": {"zone": zone}},
        })
    };
    let world = world().csi_driver(true).claim("default", "data", "10Gi");
    let put = |zone: &str, size: &str| {
        world
            .api
            .create("csistoragecapacities", "kube-system", capacity(zone, size));
    };
    put("a", "9Gi");
    put("c", "20G");
    world.add_pod("default", "pod", &["data"]);
    selected(&world, "node-c").await;
    put("b", "10Gi");
    take_off(&world);
    selected(&world, "node-b").await;

    let narrow = |class: &mut Value| {
        class["volumeBindingMode"] = "WaitForFirstConsumer".into();
        class["allowedTopologies"] =
            json!([{"matchLabelExpressions": [{"key": "zone", "values": ["b", "c"]}]}]);
    };
    let world = World::new("d.example.com").class_with("narrow", narrow);
    let world = world
        .node("node-a", &[("zone", "a")])
        .claim("default", "data", "1Gi");
    world.add_pod("default", "pod", &["data"]);
    let none = |world: &World| world.selected_node("default", "data").is_empty();
    world
        .always("no node is allowed", Duration::from_secs(60), none)
        .await;
    world.add_node("node-c", &[("zone", "c")]);
    selected(&world, "node-c").await;
}

#[tokio::test(start_paused = true)]
async fn a_node_keeps_what_is_registered_by_others() {
    let world = world();
    let drivers = |world: &World| world.api.get("csinodes", "", "node-a").unwrap()["spec"]["drivers"].clone();
    world.api.edit("csinodes", "", "node-a", |node| {
        let other = json!({"name": "other.example.com", "nodeID": "a"});
        node["spec"]["drivers"].as_array_mut().unwrap().push(other);
    });
    world.unregister("node-a");
    assert_eq!(drivers(&world).as_array().unwrap().len(), 1);
    world.register("node-a", &["zone", "rack"]);
    assert_eq!(drivers(&world)[1]["topologyKeys"], json!(["zone", "rack"]));
    world.label("node-a", "zone", None);
    world.label("node-a", "rack", Some("1"));
    let node = world.api.get("nodes", "", "node-a").unwrap();
    assert_eq!(node["metadata"]["labels"], json!({"rack": "1"}));
}

#[tokio::test(start_paused = true)]
async fn one_right_can_be_withdrawn_and_granted_again() {
    let rules = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: all}
rules:
- {apiGroups: ['', apps], resources: [nodes, pods], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: all}
subjects: [{kind: User, name: joe}]
roleRef: {kind: ClusterRole, name: all, apiGroup: rbac.authorization.k8s.io}
";
    let world = world().rbac(rules, "default");
    let before = world.api.granted("joe");
    world.api.withdraw("list", "", "nodes");
    let now = world.api.granted("joe");
    let gone: Vec<_> = before.difference(&now).collect();
    assert_eq!(gone, [&("list".to_owned(), String::new(), "nodes".to_owned())]);
    let nodes: kube::Api<k8s_openapi::api::core::v1::Node> = kube::Api::all(world.api.client("joe"));
    assert!(nodes.get("node-a").await.is_ok());
    assert!(nodes.list(&kube::api::ListParams::default()).await.is_err());
    world.api.load_rbac(rules, "default").unwrap();
    assert!(nodes.list(&kube::api::ListParams::default()).await.is_ok());
    world.api.hide("nodes");
    assert!(nodes.get("node-a").await.is_err());
    world.api.reveal("nodes");
    assert!(nodes.get("node-a").await.is_ok());
}
