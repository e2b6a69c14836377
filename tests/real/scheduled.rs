//! A claim whose volume is made where its Pod will run: kube-scheduler chooses
//! the node and tells the provisioner by an annotation on the claim.

use std::time::Duration;

use k8s_openapi::api::storage::v1::CSIStorageCapacity;
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::json;

use crate::{
    cluster::{Cluster, Rights},
    driver::{Driver, Labels},
    sidecar::{Sidecar, under_test},
    world::{SOON, World},
};

const SELECTED: &str = "volume.kubernetes.io/selected-node";

pub(crate) async fn first_consumer(cluster: &'static Cluster) {
    let world = World::new(cluster, "scheduled", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &["--leader-election"]).await;
    let gone = world.node("gone", &driver.name, &Labels::new()).await;
    let node = world.node("stays", &driver.name, &Labels::new()).await;
    world.delete_node(&gone).await;
    let waits = json!({"volumeBindingMode": "WaitForFirstConsumer"});
    let late = world.class("late", &driver.name, waits).await;
    let early = world.class("early", &driver.name, json!({})).await;

    world.claim("data", &late).await;
    world.event("data", "WaitForFirstConsumer", 1, "").await;
    // A later claim that does not wait shows that the sidecar had its chance.
    world.claim("other", &early).await;
    let other = world.bound("other", SOON).await;
    let creations = driver.calls_of("CreateVolume");
    assert!(
        creations
            .iter()
            .all(|call| call.request["name"] == json!(other.name_any())),
        "no consumer is there yet: {creations:?}"
    );

    world.pod("consumer", &["data"], &Labels::new()).await;
    world.bound("data", SOON).await;
    let claim = world.claims.get("data").await.unwrap();
    assert_eq!(claim.annotations()[SELECTED], node);
    assert_eq!(driver.calls_of("CreateVolume").len(), 2);

    assert_eq!(world.placed("consumer").await, node);
    // The Pod that stands for the sidecar is on none.
    assert_eq!(world.all_placed().await, ["consumer"]);
}

/// What the scheduler makes of the objects that capacity is published in, whoever wrote them.
pub(crate) async fn capacity_decides(cluster: &'static Cluster) {
    let world = World::new(cluster, "capacity", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &["--leader-election"]).await;
    world.csi_driver(&driver, true).await;
    let [near, far] = ["near", "far"].map(|zone| world.labels([("zone", zone)]));
    world.node("near", &driver.name, &near).await;
    let roomy = world.node("far", &driver.name, &far).await;
    let waits = json!({"volumeBindingMode": "WaitForFirstConsumer"});
    let class = world.class("late", &driver.name, waits).await;

    world.claim("data", &class).await;
    world.pod("consumer", &["data"], &Labels::new()).await;
    world
        .unschedulable("consumer", "did not have enough free storage")
        .await;
    assert_eq!(driver.calls_of("CreateVolume").len(), 0);

    for (name, labels, room) in [("near", &near, "1Mi"), ("far", &far, "10Gi")] {
        let capacity: CSIStorageCapacity = serde_json::from_value(json!({
            "metadata": {"name": name},
            "storageClassName": class,
            "nodeTopology": {"matchLabels": labels},
            "capacity": room,
        }))
        .unwrap();
        Api::namespaced(world.client.clone(), &world.namespace)
            .create(&PostParams::default(), &capacity)
            .await
            .unwrap();
    }
    world.bound("data", SOON).await;
    assert_eq!(
        world.claims.get("data").await.unwrap().annotations()[SELECTED],
        roomy
    );
    assert_eq!(world.placed("consumer").await, roomy);
}
