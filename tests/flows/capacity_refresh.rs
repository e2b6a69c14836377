//! When the driver is asked for capacity between the polls, and what a sidecar beside each driver publishes.

use std::collections::BTreeMap;

use sandbox::{
    World,
    driver::{Segment, Trouble, proto::GetCapacityRequest},
};
use serde_json::json;
use tokio::time::sleep;
use tonic::Code;

use crate::{
    capacity::{CAPACITIES, ON, RIGHTS, USUAL, becomes, published, writes, zones},
    node_deployment::{self, FIRST, FLAGS, Nodes, SELECTED},
    sidecar::{DRIVER, HOME, Look, Sidecar, secs, text},
    topology,
};

const GI: i64 = 1 << 30;
const NO_POLLS: &str = "--capacity-poll-interval=10h";
const NO_OWNER: &str = "--capacity-ownerref-level=-1";

/// What the driver was asked since there were `before` requests, once it is quiet.
async fn asked(world: &World, before: usize) -> Vec<GetCapacityRequest> {
    sleep(secs(30)).await;
    world.driver.capacity_requests().split_off(before)
}

#[tokio::test(start_paused = true)]
async fn d29_a_volume_that_was_made_somewhere_is_a_reason_to_ask_there_and_the_log_does_not_deny_it() {
    let world = topology::zones([5, 10]).rbac(RIGHTS, HOME);
    let sidecar = Sidecar::with(&world, &[ON, NO_POLLS, NO_OWNER, "-v=6"]);
    becomes(&world, USUAL).await;
    let before = world.driver.capacity_requests().len();
    topology::pod(&world, "data");
    world.becomes_bound("data").await;
    let asked = asked(&world, before).await;
    let zone = |request: &GetCapacityRequest| request.accessible_topology.clone().unwrap().segments;
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(zone(&asked[0]), [("zone".to_owned(), "a".to_owned())].into());
    assert_eq!(published(&world), ["fast zone=a 4Gi", "fast zone=b 10Gi"]);
    assert!(!sidecar.log().iter().any(|line| line.contains("skip")), "D-29");
    sidecar.end(&world).await;
}

/// The usual world and a class of its own, told by its parameter.
fn tiers() -> World {
    zones().class_with("tiered", |class| class["parameters"] = json!({"tier": "t"}))
}

fn claim(world: &World) {
    world.add_claim("default", "data", "1Mi", |claim| {
        claim["spec"]["storageClassName"] = "tiered".into()
    });
}

#[tokio::test(start_paused = true)]
async fn a_volume_for_everywhere_and_one_that_failed_are_a_reason_to_ask_for_their_class() {
    for fails in [false, true] {
        let world = tiers();
        let flags = [ON, NO_POLLS, "--capacity-for-immediate-binding"];
        let sidecar = Sidecar::with(&world, &flags);
        world
            .eventually("all is published", |world| world.api.len(CAPACITIES) == 6)
            .await;
        sleep(secs(5)).await;
        let before = world.driver.capacity_requests().len();
        if fails {
            let full = Trouble::Refuse(Code::ResourceExhausted, "full");
            world.driver.upset("CreateVolume", usize::MAX, full);
            claim(&world);
            world.is_told("data", &["ProvisioningFailed", "full"]).await;
            sleep(secs(1)).await;
        } else {
            claim(&world);
            world.becomes_bound("data").await;
        }
        let asked = asked(&world, before).await;
        assert!(asked.len() >= 2, "fails: {fails}, {asked:?}");
        assert!(fails || asked.len() == 2, "{asked:?}");
        let of_class = |request: &GetCapacityRequest| request.parameters.contains_key("tier");
        assert!(asked.iter().all(of_class), "fails: {fails}, {asked:?}");
        world.driver.heal();
        world.becomes_bound("data").await;
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_class_that_is_made_anew_at_once_is_asked_for_with_its_new_parameters() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON, NO_POLLS]);
    becomes(&world, USUAL).await;
    sleep(secs(5)).await;
    let before = world.driver.capacity_requests().len();
    world.api.delete("storageclasses", "", "fast");
    let world = world.class_with("fast", |class| {
        class["volumeBindingMode"] = "WaitForFirstConsumer".into();
        class["parameters"] = json!({"tier": "new"});
    });
    let asked = asked(&world, before).await;
    let last: Vec<_> = asked.iter().rev().take(2).collect();
    assert_eq!(last.len(), 2);
    assert!(last.iter().all(|it| it.parameters["tier"] == "new"), "{asked:?}");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn each_node_publishes_its_own_segment_under_a_label_of_its_own() {
    let world = node_deployment::world("WaitForFirstConsumer").rbac(RIGHTS, HOME);
    let nodes = Nodes::start(world, &[(FIRST, 5), ("node-b", 7)], &[ON, NO_OWNER]);
    let world = &nodes.world;
    becomes(world, &["fast node=node-b 7Gi", "fast node=pod-a 5Gi"]).await;
    sleep(secs(600)).await;
    assert_eq!(writes(world), 2);
    for object in world.api.list(CAPACITIES) {
        let node = text(&object, "/nodeTopology/matchLabels/node");
        let labels = json!({"csi.storage.k8s.io/drivername": DRIVER,
            "csi.storage.k8s.io/managed-by": format!("external-provisioner-{node}")});
        assert_eq!(object["metadata"]["labels"], labels);
    }
    nodes.end().await;
}

/// A node whose driver says that it is here, and has 5 GiB.
fn node(topology: Option<&[(&str, &str)]>) -> World {
    let world = node_deployment::world("WaitForFirstConsumer").rbac(RIGHTS, HOME);
    world
        .driver
        .segment(Segment::new(topology.unwrap_or(&[("node", FIRST)]), Some(5 * GI)));
    let topology = topology.map(|pairs| {
        let pairs = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        pairs.collect::<BTreeMap<_, _>>()
    });
    world.driver.configure(|identity| {
        identity.node_id = FIRST.to_owned();
        identity.node_topology = topology;
    });
    world
}

#[tokio::test(start_paused = true)]
async fn d21_a_node_with_several_keys_is_asked_again_after_its_volumes() {
    let world = node(Some(&[("zone", "a"), ("rack", "1"), ("host", "x")]));
    let sidecar = Sidecar::with(&world, &[FLAGS, &[ON, NO_OWNER, NO_POLLS]].concat());
    becomes(&world, &["fast host=x,rack=1,zone=a 5Gi"]).await;
    world.add_claim("default", "data", "1Gi", |claim| {
        claim["metadata"]["annotations"] = json!({SELECTED: FIRST});
    });
    world.becomes_bound("data").await;
    becomes(&world, &["fast host=x,rack=1,zone=a 4Gi"]).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_of_which_it_is_not_known_where_it_is_publishes_nothing_and_says_why() {
    let world = node(None);
    let sidecar = Sidecar::with(&world, &[FLAGS, &[ON, NO_OWNER]].concat());
    sleep(secs(600)).await;
    assert!(sidecar.logged(&["--enable-capacity has no effect", "NodeGetInfo"]));
    assert_eq!(writes(&world), 0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn d24_capacity_does_not_slow_the_lease() {
    let world = zones();
    let flags = [ON, "--kube-api-capacity-qps=0.01", "--kube-api-capacity-burst=1"];
    let sidecar = Sidecar::with(&world, &flags);
    sidecar.leads(&world).await;
    let renewed = world.api.count("update", "leases");
    sleep(secs(60)).await;
    let renewed = world.api.count("update", "leases") - renewed;
    assert!(renewed >= 10, "D-24: renewed every five seconds: {renewed}");
    assert!(world.api.len(CAPACITIES) < 2, "capacity waits for its turn");
    sidecar.end(&world).await;
}
