//! A claim whose volume is made where its Pod will run: kube-scheduler chooses
//! the node and tells the provisioner by an annotation on the claim.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Node, Pod},
    api::storage::v1::CSINode,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::json;

use crate::{
    cluster::{Cluster, Rights},
    driver::Driver,
    sidecar::{Sidecar, under_test},
    world::{SOON, World, eventually, text},
};

const NODE: &str = "only-node";

pub(crate) async fn first_consumer(cluster: &'static Cluster) {
    let world = World::new(cluster, "scheduled", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &["--leader-election"]).await;
    node(&world, &driver).await;
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

    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let consumer: Pod = serde_json::from_value(json!({
        "metadata": {"name": "consumer"},
        "spec": {
            // Admission gives each new node this taint; who takes it off does not run.
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
            "containers": [{"name": "main", "image": "none"}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }))
    .unwrap();
    pods.create(&PostParams::default(), &consumer).await.unwrap();
    world.bound("data", SOON).await;
    let claim = world.claims.get("data").await.unwrap();
    assert_eq!(claim.annotations()["volume.kubernetes.io/selected-node"], NODE);
    assert_eq!(driver.calls_of("CreateVolume").len(), 2);

    eventually("the consumer is on the node", SOON, async || {
        let spec = pods.get("consumer").await.map_err(text)?.spec.unwrap();
        match spec.node_name.as_deref() {
            Some(NODE) => Ok(()),
            other => Err(format!("it is on {other:?}")),
        }
    })
    .await;
    // The Pods that stand for sidecars, here and in other scenarios, are on none.
    let all: Api<Pod> = Api::all(world.client.clone());
    let placed: Vec<_> = all
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
        .map(|pod| pod.name_any())
        .collect();
    assert_eq!(placed, ["consumer"]);
}

/// A node as its kubelet would describe it, with this driver.
async fn node(world: &World, driver: &Driver) {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": NODE},
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }))
    .unwrap();
    Api::all(world.client.clone())
        .create(&PostParams::default(), &node)
        .await
        .unwrap();
    let drivers: CSINode = serde_json::from_value(json!({
        "metadata": {"name": NODE},
        "spec": {"drivers": [{"name": driver.name, "nodeID": NODE, "topologyKeys": []}]},
    }))
    .unwrap();
    Api::all(world.client.clone())
        .create(&PostParams::default(), &drivers)
        .await
        .unwrap();
}
