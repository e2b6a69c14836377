//! What goes away and comes back: the driver, the API server.

use std::time::Duration;

use serde_json::json;

use crate::{
    cluster::{Cluster, Rights},
    driver::Driver,
    sidecar::{Binary, Sidecar, under_test},
    world::{SOON, World},
};

pub(crate) async fn driver(cluster: &'static Cluster) {
    let world = World::new(cluster, "driver-away", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let mut sidecar =
        Sidecar::start(&world, under_test(), &driver, "sidecar-0", &["--leader-election"]).await;
    world.claim("before", &class).await;
    let before = world.bound("before", SOON).await;

    driver.restart().await;
    world.claim("meanwhile", &class).await;
    world.delete_claim("before").await;
    if under_test() == Binary::Upstream {
        // It exits, and the kubelet would start it again.
        sidecar.ended(SOON).await;
        sidecar = sidecar.again(&world);
    }
    world.bound("meanwhile", SOON).await;
    world.gone(&before, SOON).await;
    sidecar.assert_runs();
    assert_eq!(driver.volumes().len(), 1);
}

/// Stops the API server of everybody: alone.
pub(crate) async fn api_server(cluster: &'static Cluster) {
    let world = World::new(cluster, "api-away", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::from_millis(800)).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &["--leader-election"]).await;
    world.claim("before", &class).await;
    let before = world.bound("before", SOON).await;
    let leader = world.leader(&driver.name).await;

    // The answer to this claim's CreateVolume comes when nobody can be told.
    world.claim("meanwhile", &class).await;
    driver.begins("CreateVolume", 2).await;
    cluster.supervisor.plane("stop", "kube-apiserver");
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.supervisor.plane("start", "kube-apiserver");

    world.bound("meanwhile", SOON).await;
    world.delete_claim("before").await;
    world.gone(&before, SOON).await;
    world.claim("after", &class).await;
    world.bound("after", SOON).await;
    sidecar.assert_runs();
    assert_eq!(
        world.leader(&driver.name).await,
        leader,
        "an outage shorter than the lease changes nothing"
    );
    assert_eq!(driver.volumes().len(), 2);
}
